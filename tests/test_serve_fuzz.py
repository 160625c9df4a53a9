"""Every route of the page's API, asked at random: never a 500, a traceback, or a file where none belongs."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from dicom_series import write_series
from half_tissue import Ball, lung, save_model
from serve_process import Serving, serving

from clmsda.images import write_image
from clmsda.serving.http.app import API
from clmsda.serving.saving import KINDS

ROUNDS = int(os.environ.get("CLMSDA_FUZZ_ROUNDS", "700"))
SEED = int(os.environ.get("CLMSDA_FUZZ_SEED", "20261127"))
ONE: Ball = ((-20.0, 0.0, 0.0), 20.0)
ROUTES = [
    (method, f"/api{route.path}")
    for module in API
    for route in module.routes()
    for method in sorted(route.methods or ())
]

TEXTS = ["", "x", "../../etc/passwd", "\u0000", "é\u202e", "%00", "a" * 3000, "1", "-1", "1.2.3", "NaN", "1e999",
         "lung", "Point", "Box", "folder", "pacs", "mask.nii.gz", "seg.dcm", "{}", "null", "$(reboot)", "'; --",
         "9" * 30]  # fmt: skip
NAMES = [
    "x.nii.gz",
    "x.nii",
    "x.nrrd",
    "x.nhdr",
    "x.mha",
    "x.zip",
    "x.dcm",
    "../x.nii",
    "",
    "\u202ex",
    "x" * 400,
    "CON",
]
KEYS = ["given", "series", "upload", "pacs", "said", "label", "kind", "lps_mm", "start_mm", "end_mm", "lower_mm",
        "upper_mm", "name", "organ", "accepted", "kinds", "to"]  # fmt: skip
QUERIES = ["wait", "label", "name", "gone", "same", "organ", "target", "too_small", "not_new", "new_lesion", "key"]


def value(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(9 if depth < 3 else 6)
    if kind == 0:
        return chance.choice([None, True, False])
    if kind == 1:
        return chance.choice([0, 1, -1, 2, 3, 10**6, 2**31, 2**63, -(2**64), 10**40])
    if kind == 2:
        return chance.choice([0.5, -20.0, 1e-300, 1e300, float("nan"), float("inf")])
    if kind in (3, 4):
        return chance.choice([*TEXTS, *KINDS])
    if kind == 5:
        return [chance.uniform(-60, 60) for _ in range(chance.randrange(5))]
    if kind == 6:
        return [value(chance, depth + 1) for _ in range(chance.randrange(4))]
    return {chance.choice(KEYS): value(chance, depth + 1) for _ in range(chance.randrange(5))}


def likely(chance: random.Random, path: str) -> Any:
    """A body that comes far on this route; now and then with something beside."""
    point = chance.choice([[-20.0, 0.0, 0.0], [-26.0, 2.0, 1.0], [chance.uniform(-50, 50) for _ in range(3)]])
    said = {"kind": chance.choice(["Point", "Point", "Inside", "Outside"]), "lps_mm": point}
    bodies: dict[str, Any] = {
        "/prompt": {"said": said, "label": chance.choice([None, None, 1, 2, 3])},
        "/open": {"given": chance.choice([0, 1, 2, -1])},
        "/lesions/{label}": {"name": chance.choice(TEXTS), "organ": chance.choice(["lung", "other", "x"])},
        "/save": {"kinds": [chance.choice([*KINDS])], "to": chance.choice(["folder", "folder", "pacs"])},
        "/former": {"lesions": [{"label": 1, "volume_ml": 9.0, "long_axis_mm": 30, "short_axis_mm": 20}]},
    }
    body = next((one for end, one in bodies.items() if path.endswith(end)), {"accepted": True})
    if chance.random() < 0.2:
        body[chance.choice(KEYS)] = value(chance)
    return body


def damaged(chance: random.Random, samples: list[bytes]) -> bytes:
    content = bytearray(chance.choice(samples))
    for _ in range(chance.choice([0, 1, 4, 30])):
        content[chance.randrange(min(len(content), chance.choice([16, 400, 10**9])))] = chance.randrange(256)
    return bytes(content[: chance.choice([len(content), chance.randrange(len(content))])])


def body(chance: random.Random, path: str, samples: list[bytes]) -> dict[str, Any]:
    kind = chance.choice([0, 0, 0, 0, 2, 3, 4, 5, 6])
    if kind == 0:
        return {"content": json.dumps(likely(chance, path))}
    if kind == 2:
        return {"content": json.dumps(value(chance))}
    if kind == 3:
        return {"content": chance.randbytes(chance.choice([0, 1, 50, 5000]))}
    if kind == 4:
        return {"content": damaged(chance, samples)}
    if kind == 5:
        files = [("f", (chance.choice(NAMES), damaged(chance, samples))) for _ in range(chance.randrange(1, 4))]
        return {"files": files}
    deep = "[" * 100_000 if chance.random() < 0.2 else '{"said":' * 3000
    return {"content": deep, "headers": {"Content-Type": chance.choice(["application/json", "multipart/form-data"])}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    write_series(folder / "given" / "series", lung(ONE, shape=(24, 40, 40), spacing_mm=(3, 3, 3)))
    write_image(lung(ONE, shape=(30, 40, 40), spacing_mm=(3, 3, 3)), folder / "given" / "ct.nii.gz")
    save_model(folder)
    return folder


@pytest.fixture(scope="module")
def served(place: Path) -> Iterator[Serving]:
    model, given = place / "half-tissue.safetensors", (place / "given" / "series", place / "given" / "ct.nii.gz")
    with serving(*given, "--model", model, "--out", place / "out", "--most-mb", 64, state=place / "state") as running:
        yield running


def files_of(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nothing_that_is_asked_breaks_it(served: Serving, place: Path) -> None:
    chance = random.Random(SEED)
    samples = [path.read_bytes() for path in sorted((place / "given").rglob("*.*"))[:3]]
    samples.append(
        json.dumps({"lesions": [{"label": 1, "volume_ml": 1.0, "long_axis_mm": 9, "short_axis_mm": 8}]}).encode()
    )
    before = {part: files_of(place / part) for part in ("given",)}
    seen: dict[str, int] = {}
    jobs: list[str] = []
    for number in range(ROUNDS):
        method, path = chance.choice(ROUTES)
        opened = [one["id"] for one in served.client.get("/api/desk").json()["open"]]
        if not opened:
            opened = [served.job(served.client.post("/api/open", json={"given": number % 2}))["id"]]
        ends = path.endswith("/clear") or (method == "DELETE" and "{job}" not in path)
        if ends and chance.random() < 0.85:
            continue
        steps = [TEXTS[1]]
        if "{step}" in path:
            lesions = served.client.get(f"/api/ct/{opened[0]}").json()["lesions"]
            steps += [one["step"] for one in lesions]
        address = path.format(
            ct=chance.choice(opened) if chance.random() < 0.9 else chance.choice(TEXTS).replace("/", "%2F"),
            job=chance.choice([*jobs[-5:], "x"]),
            step=chance.choice(steps),
            kind=chance.choice([*KINDS, *NAMES]),
            label=chance.choice(["1", "1", "2", "2", "3", "0", "-1", "x", "9" * 5000]),
        )
        query = {chance.choice(QUERIES): chance.choice([*TEXTS, *NAMES]) for _ in range(chance.randrange(3))}
        query |= {"wait": "0"} if "{job}" in path else {}
        sent = body(chance, path, samples) if method in ("POST", "PATCH") else {}
        try:
            answer = served.client.request(method, address, params=query, **sent)
        except httpx.InvalidURL:
            continue
        what = f"round {number}: {method} {path} {str(sent)[:300]}: {answer.status_code} {answer.text[:300]!r}"
        assert answer.status_code < 500 or answer.status_code == 503, what
        seen[path] = max(seen.get(path, 0), 600 - answer.status_code)
        if answer.status_code >= 400 and method != "HEAD":
            line = answer.json()["error"]
            assert (
                line and "\n" not in line and "Traceback" not in line and str(place / "out" / "sessions") not in line
            ), what
        if answer.status_code == 202:
            jobs.append(answer.json()["job"])
            served.client.get(f"/api/jobs/{jobs[-1]}?wait=25")
            error = served.record(jobs[-1])["error"]
            assert error is None or ("inside clmsda" not in error and "Traceback" not in error), what + str(error)
    assert set(seen) == {path for _, path in ROUTES}
    assert sum(1 for one in seen.values() if one >= 300) >= 12, f"too few routes were ever answered: {seen}"
    assert {part: files_of(place / part) for part in before} == before
    assert {one.name for one in place.iterdir()} == {"given", "out", "half-tissue.safetensors"}
    assert "Traceback" not in "".join(served.said) and len(served.said) == 3, served.said
    assert served.stop() == 0
    left = {path.relative_to(place / "out").parts[0] for path in files_of(place / "out")}
    assert all(one == "sessions" or one.startswith(("series-", "ct-", "x-", "upload-")) for one in left), left

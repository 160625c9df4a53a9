"""What `clmsda serve` does not do: answer strangers, write elsewhere, keep halves, wait for one client alone."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from command_line import clmsda, refused
from half_tissue import Ball, lung, save_model
from serve_process import Serving, serving, start

from clmsda.images import write_image

ONE: Ball = ((-20.0, 0.0, 0.0), 20.0)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("safety")
    save_model(folder)
    write_image(lung(ONE), folder / "Nobody_No.nii.gz")
    return folder


@pytest.fixture(scope="module")
def served(place: Path) -> Iterator[Serving]:
    model = place / "half-tissue.safetensors"
    with serving(place / "Nobody_No.nii.gz", "--model", model, "--most-mb", 16, state=place / "state") as running:
        yield running


def raw(served: Serving, sent: bytes) -> bytes:
    """The beginning of what the server answers to bytes on its port."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as connection:
        connection.sendall(sent)
        return connection.recv(1 << 16)


def uploads(place: Path) -> list[Path]:
    return list((place / "state" / "clmsda" / "uploads").iterdir())


def test_the_key_makes_a_cookie_that_opens_the_page_s_api(served: Serving) -> None:
    with httpx.Client(base_url=served.address, trust_env=False) as stranger:
        assert stranger.get("/api/desk").status_code == 401
        assert stranger.get("/?key=wrong").status_code == 401
        answer = stranger.get(f"/?key={served.key}")
        assert answer.status_code == 303 and answer.headers["location"] == "/"
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and served.key.lower() not in cookie
        assert stranger.get("/api/desk").status_code == 200
        refusal = stranger.post("/api/open", json={"given": 0})
        assert refusal.status_code == 403 and "X-Clmsda" in refusal.json()["error"]
        assert stranger.post("/api/open", json={"given": 0}, headers={"X-Clmsda": "1"}).status_code == 202
    wrong = {"Authorization": "Bearer é".encode("latin1")}
    assert httpx.get(f"{served.address}/api/desk", headers=wrong, trust_env=False).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 400),
        ({"Host": "127.0.0.1.evil.example:80"}, 400),
        ({"Host": "[::1"}, 400),
        ({"Host": ""}, 400),
        ({"Host": "localhost:9"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
    ],
)
def test_other_sites_may_not_ask(served: Serving, headers: dict[str, str], status: int) -> None:
    answer = served.client.get("/api/desk", headers=headers)
    assert answer.status_code == status, answer.text
    assert "access-control-allow-origin" not in answer.headers


def test_its_own_page_may(served: Serving) -> None:
    assert served.client.get("/api/desk", headers={"Origin": served.address}).status_code == 200


def test_a_browser_is_told_what_it_may_do(served: Serving) -> None:
    for address in ("/api/desk", "/", "/nothing", "/api/nothing"):
        headers = served.client.get(address).headers
        policy = headers["content-security-policy"]
        script = next(part for part in policy.split("; ") if part.startswith("script-src"))
        assert "frame-ancestors 'none'" in policy and "unsafe-inline" not in script and "default-src 'self'" in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
    assert served.client.get("/api/desk").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/api/../../etc/passwd",
    ],
)
def test_no_path_leads_out_of_the_page(served: Serving, path: str) -> None:
    answer = raw(served, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert b" 404 " in answer.split(b"\r\n")[0] or b" 401 " in answer.split(b"\r\n")[0], answer[:200]
    assert b"root:" not in answer


def test_no_upload_names_a_file_of_the_machine(served: Serving, place: Path) -> None:
    (place / "secret.raw").write_bytes(bytes(8000))
    secret = place / "secret.raw"
    nrrd = (
        f"NRRD0004\ntype: short\ndimension: 3\nsizes: 20 20 10\nencoding: raw\nendian: little\ndata file: {secret}\n\n"
    )
    mha = f"ObjectType = Image\nNDims = 3\nDimSize = 20 20 10\nElementType = MET_SHORT\nElementDataFile = {secret}\n"
    local = mha.replace(str(secret), "LOCAL")
    for name, text in (
        ("x.nrrd", nrrd),
        ("x.nrrd", nrrd.replace("data file", "DATAFILE")),
        ("x.nhdr", nrrd),
        ("x.mha", mha),
        ("x.mha", mha.replace("\n", "\r\n")),
        ("x.mha", f"Comment = {'x' * 70000}\n{mha}"),
        ("x.mha", nrrd),
        ("x.mhd", local),
    ):
        answer = served.client.post("/api/upload", params={"name": name}, content=text.encode())
        assert "another file" in served.refused(answer), name
    assert uploads(place) == []


def test_what_is_too_large_is_refused_and_not_kept(served: Serving, place: Path) -> None:
    large = bytes(17 << 20)
    answer = served.client.post("/api/upload?name=x.nii", content=large)
    assert answer.status_code == 413 and "--most-mb" in answer.json()["error"]

    def pieces() -> Iterator[bytes]:
        for _ in range(17):
            yield bytes(1 << 20)

    assert served.client.post("/api/upload?name=x.nii", content=pieces()).status_code == 413
    many = [("files", ("a.dcm", large))]
    assert served.client.post("/api/upload", files=many).status_code == 413
    head = f"POST /api/upload HTTP/1.1\r\nHost: localhost\r\nX-Clmsda: 1\r\nAuthorization: Bearer {served.key}\r\n"
    assert b" 413 " in raw(served, (head + "Content-Length: 99999999999999\r\n\r\n").encode())
    assert served.client.post("/api/open", content=b'{"given": ' + b" " * (2 << 20) + b"0}").status_code == 413
    assert uploads(place) == []


@pytest.mark.parametrize("kind", ["", "Content-Type: multipart/form-data; boundary=x\r\n"])
def test_an_upload_that_is_cut_off_leaves_nothing(served: Serving, place: Path, kind: str) -> None:
    head = (
        f"POST /api/upload?name=x.nii HTTP/1.1\r\nHost: localhost\r\nX-Clmsda: 1\r\nAuthorization: Bearer {served.key}"
        f"\r\n{kind}Content-Length: 5000000\r\n\r\n"
    )
    begun = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.dcm"\r\n\r\n' if kind else b""
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(head.encode() + begun + bytes(100_000))
        until(lambda: len(uploads(place)) == 1)
    until(lambda: uploads(place) == [])
    assert served.client.get("/api/desk").status_code == 200


def until(true: object, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b"no form"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b"--x\r\nA: " + b"a" * 9000 + b"\r\n\r\nb\r\n--x--\r\n"),
        ("multipart/mixed; boundary=x", b"--x--"),
    ],
)
def test_a_form_that_is_none_is_refused(served: Serving, place: Path, kind: str, body: bytes) -> None:
    answer = served.client.post("/api/upload", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 400, answer.text
    assert uploads(place) == []


def test_one_slow_client_stops_nobody(served: Serving, place: Path) -> None:
    """One sends an upload and reads a volume drop by drop; another works meanwhile."""
    key = served.job(served.client.post("/api/open", json={"given": 0}))["id"]
    slow, end = socket.create_connection(("127.0.0.1", served.port)), threading.Event()
    head = (
        f"POST /api/upload?name=x.nii HTTP/1.1\r\nHost: localhost\r\nX-Clmsda: 1\r\nAuthorization: Bearer {served.key}"
    )
    slow.sendall(f"{head}\r\nContent-Length: 1000\r\n\r\n".encode())

    def drip() -> None:
        while not end.wait(0.05):
            slow.sendall(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    reader = socket.create_connection(("127.0.0.1", served.port))
    get = f"GET /api/ct/{key}/volume.nii HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {served.key}\r\n\r\n"
    reader.sendall(get.encode())
    try:
        results: list[bool] = []

        def work() -> None:
            with served.new_client() as client:
                results.append(all(client.get(f"/api/ct/{key}").status_code == 200 for _ in range(20)))
                results.append(len(client.get(f"/api/ct/{key}/volume.nii").content) > 700_000)

        workers = [threading.Thread(target=work) for _ in range(2)]
        for one in workers:
            one.start()
        for one in workers:
            one.join(60)
        assert results == [True] * 4
    finally:
        end.set()
        thread.join()
        slow.close()
        reader.close()
    until(lambda: not [one for one in uploads(place) if (one / "files").exists()])


def test_nothing_of_a_patient_is_in_the_log(served: Serving) -> None:
    served.job(served.client.post("/api/open", json={"given": 0}))
    text = "".join(served.said)
    assert "Nobody" not in text and "GET" not in text and len(served.said) == 3, text


def test_a_port_that_is_taken_is_told_in_one_line(served: Serving, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path))
        assert "give another --port" in refused("serve", "--port", served.port, "--no-open")


def test_two_servers_do_not_keep_their_sessions_in_one_folder(served: Serving, place: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(place / "state"))
        assert "another clmsda serve" in refused("serve", "--port", 0, "--no-open")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--host", "0.0.0.0"), "--key"),
        (("--host", "0.0.0.0", "--key", "short"), "at least 8"),
        (("--key", "with space"), "without spaces"),
        (("nothing.nii.gz",), "no file or folder"),
        (("--pacs", "ftp://x"), "DICOMweb"),
        (("--host", "192.0.2.1", "--key", "long enough".replace(" ", "-")), "cannot listen"),
    ],
)
def test_options_that_cannot_be_are_refused(options: tuple[str, ...], match: str, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path))
        done = clmsda("serve", *options, "--no-open", "--port", 0)
        assert done.returncode == 2 and match in done.stderr and "Traceback" not in done.stderr


def test_others_are_let_in_by_host_and_key_alone(place: Path, tmp_path: Path) -> None:
    model = place / "half-tissue.safetensors"
    arguments = ("--model", model, "--host", "0.0.0.0", "--key", "open-sesame-42")
    with serving(*arguments, state=tmp_path) as running:
        assert running.said[0].startswith("warning: other machines can reach this server")
        address = f"http://127.0.0.1:{running.port}"
        key = {"Authorization": "Bearer open-sesame-42"}
        for host, status in (("127.0.0.1", 200), ("192.168.1.7:1527", 200), ("evil.example", 400)):
            answer = httpx.get(f"{address}/api/desk", headers=key | {"Host": host}, trust_env=False)
            assert answer.status_code == status
        assert httpx.get(f"{address}/api/desk", trust_env=False).status_code == 401


@pytest.mark.parametrize(("how", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_it_ends_cleanly(place: Path, tmp_path: Path, how: signal.Signals, status: int) -> None:
    running = start(
        place / "Nobody_No.nii.gz", "--model", place / "half-tissue.safetensors", "--port", 0, state=tmp_path
    )
    running.connect()
    key = running.job(running.client.post("/api/open", json={"given": 0}))["id"]
    running.client.post(f"/api/ct/{key}/prompt", json={"said": {"kind": "Point", "lps_mm": [-20, 0, 0]}})
    assert running.stop(how) == status
    assert "Traceback" not in "".join(running.said)
    assert not (tmp_path / "clmsda" / "uploads").exists()


@pytest.mark.parametrize("pause", [0.0, 0.2])
def test_what_was_accepted_outlives_a_kill(place: Path, tmp_path: Path, pause: float) -> None:
    arguments = (place / "Nobody_No.nii.gz", "--model", place / "half-tissue.safetensors", "--port", 0)
    running = start(*arguments, state=tmp_path)
    running.connect()
    client = running.client
    key = running.job(client.post("/api/open", json={"given": 0}))["id"]
    label = running.job(client.post(f"/api/ct/{key}/prompt", json={"said": {"kind": "Point", "lps_mm": [-20, 0, 0]}}))[
        "label"
    ]
    client.patch(f"/api/ct/{key}/lesions/{label}", json={"accepted": True, "name": "apex"})
    before = client.get(f"/api/ct/{key}").json()["lesions"]
    mask = client.get(f"/api/ct/{key}/mask/{before[0]['step']}").content
    client.post("/api/upload?name=x.nii", content=bytes(10000))
    client.post(f"/api/ct/{key}/prompt", json={"said": {"kind": "Outside", "lps_mm": [-28, 0, 0]}, "label": label})
    time.sleep(pause)
    running.stop(signal.SIGKILL)
    again = start(*arguments, state=tmp_path)
    again.connect()
    key = again.job(again.client.post("/api/open", json={"given": 0}))["id"]
    lesions = again.client.get(f"/api/ct/{key}").json()["lesions"]
    if len(lesions[0]["steps"]) == 2:  # the correction was done already: one step back
        lesions = again.client.post(f"/api/ct/{key}/undo").json()["lesions"]
    assert lesions == before and lesions[0]["accepted"] and lesions[0]["name"] == "apex"
    assert again.client.get(f"/api/ct/{key}/mask/{lesions[0]['step']}").content == mask
    assert np.frombuffer(mask, np.uint8).any()
    assert again.stop() == 0

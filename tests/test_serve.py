"""`clmsda serve` as a process, asked by a real HTTP client: every route of the page's API."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_series import save, slices, write_series
from half_tissue import Ball, lung, save_model
from serve_process import Serving, serving

from clmsda.geometry import LPS_FROM_RAS, Volume
from clmsda.images import list_rois, read_ct, read_mask, write_image, write_mask
from clmsda.metrics import f1
from clmsda.response import read_time_point

ONE: Ball = ((-20.0, 0.0, 0.0), 20.0)
OTHER: Ball = ((22.0, 0.0, 0.0), 16.0)
POINTS = [{"kind": "Point", "lps_mm": list(ball[0])} for ball in (ONE, OTHER)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series, a folder with two of them, a NIfTI, and a model whose answer is known."""
    folder = tmp_path_factory.mktemp("serve")
    write_series(folder / "series", lung(ONE, OTHER))
    for number, ball in enumerate((ONE, OTHER)):
        save(slices(lung(ball), description=f"ball {number}"), folder / "two", name=f"S{number}-{{:04d}}.dcm")
    write_image(lung(ONE, OTHER, shape=(70, 72, 74)), folder / "ct.nii.gz")
    save_model(folder)
    return folder


@pytest.fixture(scope="module")
def served(place: Path) -> Iterator[Serving]:
    given = (place / "series", place / "two", place / "ct.nii.gz")
    model = place / "half-tissue.safetensors"
    with serving(*given, "--model", model, "--out", place / "out", state=place / "state") as running:
        yield running


@pytest.fixture
def ct(served: Serving) -> Iterator[str]:
    """The series, open, with no lesion."""
    key = served.job(served.client.post("/api/open", json={"given": 0}))["id"]
    served.client.post(f"/api/ct/{key}/clear")
    yield key


def session(served: Serving, key: str) -> Any:
    answer = served.client.get(f"/api/ct/{key}")
    assert answer.status_code == 200
    return answer.json()


def say(served: Serving, key: str, said: dict[str, Any], label: int | None = None) -> int:
    result = served.job(served.client.post(f"/api/ct/{key}/prompt", json={"said": said, "label": label}))
    return int(result["label"])


def mask_of(served: Serving, key: str, lesion: dict[str, Any]) -> np.ndarray:
    """A lesion's mask on the whole grid, as the page puts it there."""
    voxels = np.zeros(session(served, key)["grid"]["shape"], bool)
    content = served.client.get(f"/api/ct/{key}/mask/{lesion['step']}").content
    box = lesion["box"]
    part = tuple(slice(a, a + n) for a, n in zip(box["lower"], box["shape"], strict=True))
    voxels[part] = np.frombuffer(content, np.uint8).reshape(box["shape"])
    return voxels


def test_the_desk_says_what_is_there(served: Serving) -> None:
    served.job(served.client.post("/api/open", json={"given": 0}))
    desk = served.client.get("/api/desk").json()
    while not all(one["listed"] for one in desk["given"]):
        desk = served.client.get("/api/desk").json()
    assert "research use only" in desk["notice"] and desk["model"]["name"] == "half-tissue"
    assert [one["name"] for one in desk["given"]] == ["series", "two", "ct.nii.gz"]
    assert [[series["description"] for series in one["series"] or []] for one in desk["given"]] == [
        ["thorax"],
        ["ball 0", "ball 1"],
        [],
    ]
    assert desk["given"][2]["series"] is None and desk["saves"] == {"folder": True, "pacs": False}
    assert {"name": "series", "shape": [72, 72, 72], "spacing_mm": [1.5] * 3}.items() <= desk["open"][0].items()
    assert desk["organs"] == ["lung", "lymph node", "other"]


def test_a_series_of_several_is_chosen_and_closed(served: Serving) -> None:
    assert "2 CT series" in served.refused(served.client.post("/api/open", json={"given": 1}))
    uid = served.client.get("/api/desk").json()["given"][1]["series"][1]["uid"]
    key = served.job(served.client.post("/api/open", json={"given": 1, "series": uid}))["id"]
    assert served.job(served.client.post("/api/open", json={"given": 1, "series": uid}))["id"] == key
    assert served.client.delete(f"/api/ct/{key}").status_code == 200
    assert served.client.get(f"/api/ct/{key}").status_code == 404


def test_the_voxels_travel_as_they_are(served: Serving, place: Path, tmp_path: Path) -> None:
    key = served.job(served.client.post("/api/open", json={"given": 2}))["id"]
    answer = served.client.get(f"/api/ct/{key}/volume.nii")
    (tmp_path / "back.nii").write_bytes(answer.content)
    image, volume = nibabel.load(tmp_path / "back.nii"), read_ct(place / "ct.nii.gz")
    assert image.get_data_dtype() == np.int16
    assert (volume.voxels == np.asarray(image.dataobj).T).all()
    ras = LPS_FROM_RAS @ volume.grid.affine[:, [2, 1, 0, 3]]
    for affine, code in (image.header.get_sform(coded=True), image.header.get_qform(coded=True)):
        assert code == 1 and np.allclose(affine, ras, atol=1e-4)
    again = read_ct(tmp_path / "back.nii")
    assert again.grid.same_as(volume.grid) and (again.voxels == volume.voxels).all()


def test_what_is_said_is_done_undone_and_corrected(served: Serving, ct: str) -> None:
    say(served, ct, POINTS[0])
    lesion = session(served, ct)["lesions"][-1]
    label, first = lesion["label"], mask_of(served, ct, lesion)
    assert lesion["organ"] == "lung" and not lesion["accepted"] and lesion["steps"] == [POINTS[0]]
    assert 15 < lesion["measurement"]["long_axis_mm"] < 25
    assert first.sum() * 1.5**3 / 1000 == pytest.approx(lesion["measurement"]["volume_ml"], abs=1e-3)
    say(served, ct, {"kind": "Outside", "lps_mm": [-28, 0, 0]}, label)
    now = session(served, ct)["lesions"][-1]
    assert mask_of(served, ct, now).sum() < first.sum() and len(now["steps"]) == 2
    undone = served.client.post(f"/api/ct/{ct}/undo").json()
    assert undone["can_redo"] and undone["lesions"][-1]["step"] == lesion["step"]
    assert served.client.get(f"/api/ct/{ct}/mask/{now['step']}").status_code == 200, "of what was undone, too"
    assert served.client.post(f"/api/ct/{ct}/redo").json()["lesions"][-1]["step"] == now["step"]
    line = {"kind": "RecistLine", "start_mm": [-29, 0, 0], "end_mm": [-11, 0, 0]}
    box = {"kind": "Box", "lower_mm": [-31, -11, -11], "upper_mm": [-9, 11, 11]}
    for said in (line, box, {"kind": "Inside", "lps_mm": [-20, 0, 8]}):
        say(served, ct, said, label)
    assert len(session(served, ct)["lesions"][-1]["steps"]) == 5
    assert served.client.post(f"/api/ct/{ct}/clear").json()["lesions"] == []


def test_lesions_are_named_placed_accepted_and_deleted(served: Serving, ct: str) -> None:
    label = say(served, ct, POINTS[0])
    before = session(served, ct)["revision"]
    said = {"name": "upper lobe", "organ": "lymph node", "accepted": True}
    after = served.client.patch(f"/api/ct/{ct}/lesions/{label}", json=said).json()
    assert said.items() <= after["lesions"][0].items() and after["revision"] != before
    assert not served.client.post(f"/api/ct/{ct}/undo").json()["lesions"][0]["accepted"], "one change, undone as one"
    for bad, match in (
        ({"organ": "liver"}, "lymph node"),
        ({"accepted": "yes"}, "accepted"),
        ({}, "name, organ or accepted"),
        ({"colour": "red"}, "colour"),
    ):
        assert match in served.refused(served.client.patch(f"/api/ct/{ct}/lesions/{label}", json=bad))
    assert served.client.patch(f"/api/ct/{ct}/lesions/99", json=said).status_code == 404
    assert served.client.delete(f"/api/ct/{ct}/lesions/{label}").json()["lesions"] == []
    assert served.client.delete(f"/api/ct/{ct}/lesions/{label}").status_code == 404


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"said": {"kind": "Point", "lps_mm": [5000, 0, 0]}}, "within the image"),
        ({"said": {"kind": "Inside", "lps_mm": [0, 0, 0]}}, "click into the tumor first"),
        ({"said": {"kind": "Star", "lps_mm": [0, 0, 0]}}, "Star"),
        ({"said": POINTS[0], "label": 77}, "no lesion 77"),
        ({"said": POINTS[0], "label": 1.5}, "label"),
        ({"said": [1]}, "said"),
        ({}, "said"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(served: Serving, ct: str, said: dict[str, Any], match: str) -> None:
    assert match in served.refused(served.client.post(f"/api/ct/{ct}/prompt", json=said))


def test_a_mask_to_start_from(served: Serving, ct: str, tmp_path: Path) -> None:
    volume = lung(ONE, OTHER)
    mask = np.zeros(volume.grid.shape, np.uint8)
    mask[30:36, 30:40, 28:41] = 1
    write_mask(Volume(mask, volume.grid), tmp_path / "mask.nii.gz")
    content = (tmp_path / "mask.nii.gz").read_bytes()
    post = served.client.post
    label = served.job(post(f"/api/ct/{ct}/start?name=mask.nii.gz", content=content))["label"]
    lesion = session(served, ct)["lesions"][-1]
    assert lesion["label"] == label and lesion["steps"] == [{"kind": "Mask"}]
    assert (mask_of(served, ct, lesion) == mask).all()
    assert served.job(post(f"/api/ct/{ct}/start?label={label}&name=mask.nii.gz", content=content))["label"] == label
    assert len(session(served, ct)["lesions"][-1]["steps"]) == 2
    other = Volume(mask[:-1], volume.crop((0, 0, 0), mask[:-1].shape).grid)
    write_mask(other, tmp_path / "other.nii.gz")
    line = served.refused(post(f"/api/ct/{ct}/start?name=o.nii.gz", content=(tmp_path / "other.nii.gz").read_bytes()))
    assert "o.nii.gz" in line and "uploads" not in line, "no name of a folder of the server's"


def test_jobs_tell_how_far_they_are_and_can_be_called_off(served: Serving, ct: str) -> None:
    begun = [served.client.post(f"/api/ct/{ct}/prompt", json={"said": POINTS[0]}).json()["job"] for _ in range(3)]
    record = served.client.delete(f"/api/jobs/{begun[2]}").json()
    assert set(record) == {"doing", "done", "share", "seconds_left", "error", "result"}
    assert "called off" in served.record(begun[2])["error"]
    assert served.record(begun[0])["result"] and "same tumor" in served.record(begun[1])["error"]
    assert served.client.get("/api/jobs/nothing").status_code == 404
    assert served.client.get(f"/api/jobs/{begun[0]}?wait=inf").status_code == 400


def test_all_that_is_saved_holds_the_same_lesions(served: Serving, ct: str, place: Path, tmp_path: Path) -> None:
    labels = [say(served, ct, point) for point in POINTS]
    names = {labels[0]: {"name": "left <b>$apex$</b>"}, labels[1]: {"organ": "lymph node", "name": "hilum é"}}
    for label, said in names.items():
        served.client.patch(f"/api/ct/{ct}/lesions/{label}", json=said)
    masks = [mask_of(served, ct, one) for one in session(served, ct)["lesions"]]
    files = {}
    for kind in ("mask.nii.gz", "measurements.json", "seg.dcm", "rtstruct.dcm", "sr.dcm", "report.html", "report.pdf"):
        answer = served.client.get(f"/api/ct/{ct}/save/{kind}")
        assert answer.status_code == 200, answer.text
        assert f'filename="series-{kind}"' in answer.headers["content-disposition"]
        files[kind] = tmp_path / kind
        files[kind].write_bytes(answer.content)
    volume = read_ct(place / "series")
    whole = read_mask(files["mask.nii.gz"], grid=volume.grid).voxels
    seg = read_mask(files["seg.dcm"], grid=volume.grid).voxels
    for number, (label, mask, roi) in enumerate(zip(labels, masks, list_rois(files["rtstruct.dcm"]), strict=True), 1):
        drawn = read_mask(files["rtstruct.dcm"], grid=volume.grid, roi=roi).voxels
        for read in (whole == label, seg == number, drawn > 0):
            assert f1(read, mask) == 1.0
    assert list_rois(files["seg.dcm"]) == ["left <b>$apex$</b>", "hilum é, lymph node"]
    told, measured = read_time_point(files["sr.dcm"]), json.loads(files["measurements.json"].read_text("utf8"))
    assert [one.organ for one in told.lesions] == ["lung", "node"]
    for one, lesion in zip(told.lesions, measured["lesions"], strict=True):
        assert one.volume_ml == pytest.approx(lesion["volume_ml"], abs=1e-3)
        assert one.tracking_uid == lesion["tracking_uid"]
    page = files["report.html"].read_text("utf8")
    assert "&lt;b&gt;$apex$" in page and page.count("data:image/png;base64,") == 2 and "research use only" in page
    assert files["report.pdf"].read_bytes().startswith(b"%PDF")
    again = served.client.get(f"/api/ct/{ct}/save/seg.dcm").content
    assert again == files["seg.dcm"].read_bytes(), "the report refers to it by its UID"


def test_results_go_to_the_folder_that_was_named(served: Serving, ct: str, place: Path) -> None:
    post = served.client.post
    assert "nothing to save" in served.refused(post(f"/api/ct/{ct}/save", json={"kinds": ["seg.dcm"], "to": "folder"}))
    say(served, ct, POINTS[0])
    written = served.job(post(f"/api/ct/{ct}/save", json={"kinds": ["sr.dcm", "mask.nii.gz"], "to": "folder"}))
    assert [name.split("/")[1] for name in written["written"]] == ["mask.nii.gz", "seg.dcm", "sr.dcm"]
    assert all((place / "out" / name).is_file() for name in written["written"])
    for kinds, to in ((["../x"], "folder"), ([], "folder"), (["seg.dcm"], "pacs"), (["seg.dcm"], "/etc")):
        served.refused(post(f"/api/ct/{ct}/save", json={"kinds": kinds, "to": to}))
    assert served.client.get(f"/api/ct/{ct}/save/seg").status_code == 404


def test_a_nifti_has_no_study_to_file_into(served: Serving) -> None:
    key = served.job(served.client.post("/api/open", json={"given": 2}))["id"]
    served.client.post(f"/api/ct/{key}/clear")
    say(served, key, POINTS[0])
    assert "not DICOM" in served.refused(served.client.get(f"/api/ct/{key}/save/seg.dcm"))
    assert served.client.get(f"/api/ct/{key}/save/report.pdf").status_code == 200


def test_a_former_scan_tells_the_response(served: Serving, ct: str) -> None:
    label = say(served, ct, POINTS[0])
    now = served.client.get(f"/api/ct/{ct}/save/measurements.json").json()
    former = {"image": "before", "scan": {"date": "2023-01-02"}, "lesions": [dict(now["lesions"][0])]}
    former["lesions"][0] |= {"long_axis_mm": 60.0, "volume_ml": 100.0}
    post = served.client.post
    assert served.client.get(f"/api/ct/{ct}/former").status_code == 404
    answer = post(f"/api/ct/{ct}/former?name=../../old.json", content=json.dumps(former))
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert report["category"] == "PR" and report["sum"]["baseline_mm"] == 60.0
    assert report["lesions"][0]["label"] == label and report["sum"]["change_percent"] < -50
    assert served.client.get(f"/api/ct/{ct}/former").json() == report
    gone = served.client.get(f"/api/ct/{ct}/former", params={"gone": f"{label}"})
    assert gone.status_code == 400 and "gone" in gone.json()["error"], gone.text
    assert "JSON" in served.refused(post(f"/api/ct/{ct}/former?name=x.json", content=b"\xff\xfe{"))
    late = former | {"scan": {"date": "2030-01-02"}}
    assert "order of their dates" in served.refused(post(f"/api/ct/{ct}/former", content=json.dumps(late)))
    assert served.client.get(f"/api/ct/{ct}/former").json() == report, "what cannot be used replaces nothing"


def zipped(folder: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    return content.getvalue()


def test_uploads_of_every_kind_are_opened(served: Serving, tmp_path: Path) -> None:
    volume = lung(ONE, shape=(30, 40, 40))
    files = write_series(tmp_path / "sent", volume)
    for name in ("up.nii.gz", "up.nrrd", "up.mha"):
        write_image(volume, tmp_path / name)
    (tmp_path / "up.nii").write_bytes(gzip.decompress((tmp_path / "up.nii.gz").read_bytes()))
    post = served.client.post
    for name in ("up.nii.gz", "up.nii", "up.nrrd", "up.mha"):
        key = served.job(post(f"/api/upload?name=a/b/{name}", content=(tmp_path / name).read_bytes()))["id"]
        assert session(served, key)["name"] == name
        assert session(served, key)["grid"]["shape"] == [30, 40, 40]
        served.client.delete(f"/api/ct/{key}")
    many = [("files", (f"x/../{path.name}", path.read_bytes())) for path in files]
    key = served.job(post("/api/upload?name=my%20scan", files=many))["id"]
    assert session(served, key)["name"] == "my scan"
    say(served, key, {"kind": "Point", "lps_mm": list(ONE[0])})
    assert served.client.get(f"/api/ct/{key}/save/seg.dcm").status_code == 200
    served.client.delete(f"/api/ct/{key}")
    key = served.job(post("/api/upload?name=s.zip", content=zipped(tmp_path / "sent")))["id"]
    assert [one["label"] for one in session(served, key)["lesions"]] == [1], "the same voxels, gone on with"
    served.client.delete(f"/api/ct/{key}")


def test_an_upload_of_two_series_waits_for_a_choice(served: Serving, place: Path) -> None:
    result = served.job(served.client.post("/api/upload?name=two.zip", content=zipped(place / "two")))
    assert [one["description"] for one in result["series"]] == ["ball 0", "ball 1"]
    token, uid = result["upload"], result["series"][0]["uid"]
    assert "no series" in served.refused(served.client.post("/api/open", json={"upload": token, "series": "1.2.3"}))
    key = served.job(served.client.post("/api/open", json={"upload": token, "series": uid}))["id"]
    assert session(served, key)["grid"]["shape"] == [72, 72, 72]
    assert served.client.post("/api/open", json={"upload": token, "series": uid}).status_code == 404
    served.client.delete(f"/api/ct/{key}")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("x.nii.gz", b"", "empty"),
        ("x.nii.gz", b"no gzip", "x.nii.gz"),
        ("x.dcm", b"no DICOM", "neither DICOM"),
        ("x.zip", b"PK\x05\x06" + bytes(18), "expected DICOM files"),
        ("../../etc/passwd", b"root", "neither DICOM"),
    ],
)
def test_an_upload_that_is_no_ct_leaves_nothing(
    served: Serving, place: Path, name: str, content: bytes, match: str
) -> None:
    line = served.refused(served.client.post("/api/upload", params={"name": name}, content=content))
    assert match in line and str(place) not in line
    held = {one for one in (place / "out" / "sessions" / "uploads").iterdir() if not (one / "saved").exists()}
    assert not [one for one in held if (one / "files").exists()]

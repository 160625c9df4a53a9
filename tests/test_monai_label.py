"""The stock client of MONAI Label, unchanged, over HTTP on loopback, with our model behind it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from dicom_series import write_series
from half_tissue import Ball, distance, lung, model
from loopback import serving, whole
from pydicom import dcmread

from clmsda.geometry import Grid, Volume
from clmsda.images import read_ct, read_mask, write_image, write_mask
from clmsda.serving.http.datastore import Datastore, Image
from clmsda.serving.sessions import Desk

stock = pytest.importorskip(
    "monailabel.client.client", reason="monailabel is not installed: pip install --no-deps monailabel"
)

ONE: Ball = ((-20.0, 0.0, 0.0), 20.0)
OTHER: Ball = ((22.0, 0.0, 0.0), 16.0)
HTTP = httpx.Client(timeout=120, trust_env=False)


@pytest.fixture(scope="module")
def ct() -> Volume:
    return lung(ONE, OTHER, spacing_mm=(2.0, 1.5, 1.5), shape=(54, 72, 72))


@pytest.fixture(scope="module")
def files(ct: Volume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A NIfTI, a DICOM series and a NIfTI of coronal slices, all of one CT."""
    folder = tmp_path_factory.mktemp("cts")
    write_image(ct, folder / "thorax.nii.gz")
    write_series(folder / "series", ct)
    affine = ct.grid.affine[:, [1, 0, 2, 3]]
    turned = ct.voxels.transpose(1, 0, 2)
    write_image(Volume(turned, Grid(turned.shape, affine)), folder / "coronal.nii.gz")
    return folder


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk(model())
    yield desk
    desk.worker.stop()


@pytest.fixture(scope="module")
def address(desk: Desk, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    app = whole(desk, tmp_path_factory.mktemp("private"), files / "thorax.nii.gz", files / "series")
    with serving(app) as address:
        yield address


@pytest.fixture
def client(address: str, tmp_path: Path) -> Any:
    return stock.MONAILabelClient(address, tmpdir=str(tmp_path), client_id="tests")


def ijk(ct: Volume, ball: Ball, *shift: int) -> list[int]:
    """(column, row, slice) of a ball's middle, shifted by so many voxels."""
    return (np.rint(ct.grid.to_index(ball[0])).astype(int)[::-1] + (shift or 0)).tolist()


def f1(path: str | Path, ct: Volume, ball: Ball) -> float:
    mask, truth = read_mask(path, grid=ct.grid).voxels > 0, distance(ct.grid, ball) <= 0
    return float(2 * (truth & mask).sum() / (truth.sum() + mask.sum()))


def test_what_slicer_asks_first(client: Any) -> None:
    info = client.info()
    assert "config" not in info and not client.auth_enabled() and not client.train_status(check_if_running=True)
    (described,) = info["models"].values()
    assert (described["type"], described["dimension"], described["labels"]) == ("deepgrow", 3, ["tumor"])
    assert info["labels"] == ["tumor"] and info["datastore"]["total"] == 2
    assert set(client.datastore()["objects"]) == {"thorax", "series"}


def test_a_session_from_upload_to_end(client: Any, ct: Volume, files: Path) -> None:
    session = client.create_session(str(files / "thorax.nii.gz"))
    key = session["session_id"]
    assert session["session_info"]["path"] == "" and client.get_session(key)["name"] == key
    clicks = {"foreground": [ijk(ct, ONE)], "background": [], "label": "tumor"}
    path, params = client.infer("clmsda", "", dict(clicks), session_id=key)
    assert path.endswith(".nii.gz") and f1(path, ct, ONE) > 0.9
    assert params["label_names"] == {"tumor": 1} and params["lesion"]["measurement"]["volume_ml"] > 3
    clicks["background"] = [ijk(ct, ONE, -5, 0, 0)]
    corrected, params = client.infer("clmsda", "", dict(clicks), session_id=key)
    assert 0 < read_mask(corrected).voxels.sum() < read_mask(path).voxels.sum()
    assert [one["kind"] for one in params["lesion"]["steps"]] == ["Point", "Outside"], "gone on with"
    back, _ = client.infer("clmsda", "", {"foreground": [ijk(ct, ONE)]}, session_id=key)
    assert (read_mask(back).voxels == read_mask(path).voxels).all(), "a click that was taken back"
    another, _ = client.infer("clmsda", "", {"foreground": [ijk(ct, OTHER)], "label": "second"}, session_id=key)
    assert f1(another, ct, OTHER) > 0.9
    client.remove_session(key)
    with pytest.raises(stock.MONAILabelClientException) as gone:
        client.get_session(key)
    assert gone.value.status_code == 404


def test_clicks_count_on_the_axes_of_the_file(client: Any, ct: Volume, files: Path) -> None:
    key = client.create_session(str(files / "coronal.nii.gz"))["session_id"]
    i, j, k = ijk(ct, OTHER)
    path, _ = client.infer("clmsda", "", {"foreground": [[i, k, j]]}, session_id=key)
    assert f1(path, ct, OTHER) > 0.9
    import nibabel

    assert nibabel.load(path).shape == nibabel.load(files / "coronal.nii.gz").shape
    where = np.argwhere(distance(ct.grid, OTHER) <= 0)[:, [2, 0, 1]]
    roi = np.stack([where.min(axis=0), where.max(axis=0)], axis=1).ravel().tolist()
    path, params = client.infer("clmsda", "", {"roi": roi}, session_id=key)
    assert f1(path, ct, OTHER) > 0.9 and params["lesion"]["steps"][0]["kind"] == "Box"


@pytest.mark.parametrize("name", ["thorax", "series"])
def test_images_that_were_given(client: Any, ct: Volume, files: Path, name: str) -> None:
    path, _ = client.infer("clmsda", name, {"foreground": [ijk(ct, ONE)]})
    assert f1(path, ct, ONE) > 0.9
    image = HTTP.get(f"{client.get_server_url()}/datastore/image", params={"image": name})
    copy = Path(client._tmpdir) / "copy.nii.gz"
    copy.write_bytes(image.content)
    assert (read_ct(copy).voxels == ct.voxels).all() and ".nii.gz" in image.headers["Content-Disposition"]
    with pytest.raises(AssertionError, match="not deleted over the network"):
        _ok(HTTP.delete(f"{client.get_server_url()}/datastore/", params={"id": name}))
    with pytest.raises(stock.MONAILabelClientException):
        client.upload_image(str(files / "thorax.nii.gz"), name)


def _ok(answer: httpx.Response) -> httpx.Response:
    assert answer.status_code == 200, answer.text
    return answer


def test_every_form_of_an_answer(address: str, ct: Volume, files: Path, tmp_path: Path) -> None:
    form = {"params": json.dumps({"foreground": [ijk(ct, ONE)]})}

    def ask(output: str, image: str = "series") -> httpx.Response:
        return HTTP.post(f"{address}/infer/clmsda", params={"image": image, "output": output}, files=_parts(form))

    assert _ok(ask("json")).json()["lesion"]["measurement"]
    (tmp_path / "mask.nii.gz").write_bytes(_ok(ask("image")).content)
    assert f1(tmp_path / "mask.nii.gz", ct, ONE) > 0.9
    assert _ok(ask("all")).headers["Content-Type"].startswith("multipart/form-data")
    (tmp_path / "seg.dcm").write_bytes(_ok(ask("dicom_seg")).content)
    seg, slices = dcmread(tmp_path / "seg.dcm"), dcmread(next((files / "series").iterdir()))
    assert seg.Modality == "SEG" and seg.StudyInstanceUID == slices.StudyInstanceUID
    assert f1(tmp_path / "seg.dcm", ct, ONE) > 0.9
    assert "is none" in ask("dicom_seg", "thorax").json()["detail"]


def _parts(form: dict[str, str]) -> dict[str, tuple[None, str]]:
    return {name: (None, text) for name, text in form.items()}


def test_a_series_sent_as_files_and_as_a_zip(address: str, ct: Volume, files: Path, tmp_path: Path) -> None:
    import shutil

    shutil.make_archive(str(tmp_path / "series"), "zip", files / "series")
    several = [("files", (one.name, one.read_bytes())) for one in sorted((files / "series").iterdir())]
    for sent in (several, [("files", ("series.zip", (tmp_path / "series.zip").read_bytes()))]):
        key = _ok(HTTP.put(f"{address}/session/", files=sent)).json()["session_id"]
        form = _parts({"params": json.dumps({"foreground": [ijk(ct, ONE)]})})
        answer = HTTP.post(f"{address}/infer/clmsda", params={"session_id": key, "output": "dicom_seg"}, files=form)
        (tmp_path / "seg.dcm").write_bytes(_ok(answer).content)
        assert f1(tmp_path / "seg.dcm", ct, ONE) > 0.9


def test_an_image_and_a_mask_sent_with_the_clicks(client: Any, ct: Volume, files: Path, tmp_path: Path) -> None:
    opened = len(HTTP.get(f"{client.get_server_url()}/datastore/").json())
    path, _ = client.infer("clmsda", "", {"foreground": [ijk(ct, ONE)]}, file=str(files / "thorax.nii.gz"))
    assert f1(path, ct, ONE) > 0.9
    mask = distance(ct.grid, OTHER) <= 0
    write_mask(Volume(mask, ct.grid), tmp_path / "mask.nii.gz")
    start = str(tmp_path / "mask.nii.gz")
    path, _ = client.infer("clmsda", "thorax", {}, label_in=start)
    assert f1(path, ct, OTHER) == 1
    clicks = {"foreground": [ijk(ct, OTHER)], "background": [ijk(ct, OTHER, 4, 0, 0)]}
    path, _ = client.infer("clmsda", "thorax", clicks, label_in=start)
    assert 0 < read_mask(path).voxels.sum() < mask.sum()
    assert len(HTTP.get(f"{client.get_server_url()}/datastore/").json()) == opened


def test_labels_are_kept_where_results_go(desk: Desk, ct: Volume, files: Path, tmp_path: Path) -> None:
    write_mask(Volume(distance(ct.grid, ONE) <= 0, ct.grid), tmp_path / "mask.nii.gz")
    mask, out = str(tmp_path / "mask.nii.gz"), tmp_path / "out"
    with serving(whole(desk, tmp_path / "private", files / "thorax.nii.gz", out=out)) as address:
        client = stock.MONAILabelClient(address, tmpdir=str(tmp_path))
        assert client.next_sample("first", {})["id"] == "thorax"
        said = client.save_label("thorax", mask, params={"label_info": []})
        assert "folder for results" in said["kept"] and (out / "thorax.final.label.nii.gz").is_file()
        assert f1(client.download_label("thorax", "final"), ct, ONE) == 1
        assert client.next_sample("first", {}) == {} and client.info()["datastore"]["completed"] == 1
        assert client.upload_image(str(files / "thorax.nii.gz"), "../../MEIER^ANNA\\..") == {
            "image": "../../MEIER^ANNA\\.."
        }
        client.save_label("../../MEIER^ANNA\\..", mask, tag="original")
        client.upload_image(str(files / "thorax.nii.gz"), "../../MEIER^ANNA\\..")
        assert f1(client.download_label("../../MEIER^ANNA\\..", "original"), ct, ONE) == 1, "outlives a second upload"
        assert not [one for one in tmp_path.rglob("*") if "MEIER" in one.name]
        assert {one.parent for one in out.iterdir()} == {out} and len(list(out.iterdir())) == 2
        _ok(HTTP.delete(f"{address}/datastore/label", params={"id": "thorax", "tag": "final"}))
        assert not (out / "thorax.final.label.nii.gz").exists() and client.next_sample("random", {})["id"]
        _ok(HTTP.delete(f"{address}/datastore/image", params={"id": "../../MEIER^ANNA\\.."}))
        assert set(client.datastore()["objects"]) == {"thorax"}
    with serving(whole(desk, tmp_path / "more", files / "thorax.nii.gz")) as address:
        client = stock.MONAILabelClient(address, tmpdir=str(tmp_path))
        assert "until the server ends" in client.save_label("thorax", mask)["kept"]


@pytest.mark.parametrize(
    ("clicks", "match"),
    [
        ({}, "expected a click in the tumor"),
        ({"background": [[1, 2, 3]]}, "expected a click in the tumor"),
        ({"foreground": [[1, 2]]}, "foreground.0"),
        ({"foreground": [[500, 2, 3]]}, "within the image of 54 x 72 x 72 voxels"),
        ({"foreground": [[1e300, 2, 3]]}, "within the image"),
        ({"foreground": "here"}, "foreground"),
        ({"roi": [1, 2, 3]}, "roi"),
        ({"roi": [1e300, 2, 3, 4, 5, 6]}, "roi"),
        ({"roi": [-9, -2, 3, 4, 5, 6]}, "within the image"),
        ([1], "the request"),
    ],
)
def test_clicks_that_cannot_be_are_refused_by_name(address: str, clicks: object, match: str) -> None:
    form = _parts({"params": json.dumps(clicks)})
    answer = HTTP.post(f"{address}/infer/clmsda", params={"image": "thorax"}, files=form)
    assert answer.status_code == 400 and match in answer.json()["detail"]


def test_what_is_not_done_is_refused_by_name(client: Any, address: str) -> None:
    for ask in (
        lambda: client.train_start("clmsda", {}),
        lambda: client.train_stop(),
        lambda: client.train_status(),
        lambda: client.infer("deepedit", "thorax", {}),
        lambda: client.infer("clmsda", "another", {"foreground": [[1, 2, 3]]}),
        lambda: client.infer("clmsda", "", {"foreground": [[1, 2, 3]]}, session_id="none"),
        lambda: client.next_sample("tta", {}),
        lambda: client.download_label("thorax", "final"),
        lambda: client.save_label("thorax", __file__),
        lambda: client.upload_image(__file__, "x" * 200),
    ):
        with pytest.raises(stock.MONAILabelClientException):
            ask()
    for method, path, match in (
        ("GET", "/train/", "clmsda train"),
        ("POST", "/batch/infer/clmsda", "clmsda segment"),
        ("GET", "/proxy/dicom/studies", "no PACS"),
        ("GET", "/logs/", "no log"),
        ("GET", "/model/clmsda", "come with clmsda"),
        ("POST", "/scoring/", "clmsda study"),
        ("PUT", "/session/", "multipart"),
    ):
        answer = HTTP.request(method, address + path)
        assert answer.status_code in (400, 404) and match in answer.json()["detail"], path


def test_a_file_that_is_no_ct_is_said_without_paths(client: Any, address: str, tmp_path: Path) -> None:
    write_image(lung(shape=(4, 4, 4)), tmp_path / "ct.nii.gz")
    for name, content in (("a.nii.gz", b"no"), ("b.txt", b"no"), ("c.zip", b"PK\3\4"), ("d.nrrd", b"NRRD0004\n")):
        (tmp_path / name).write_bytes(content)
        answer = HTTP.put(f"{address}/session/", files={"files": (f"/etc/../{name}", content)})
        if answer.status_code == 200:
            form = _parts({"params": '{"foreground": [[1, 1, 1]]}'})
            key = answer.json()["session_id"]
            answer = HTTP.post(f"{address}/infer/clmsda", params={"session_id": key}, files=form)
        assert answer.status_code == 400 and "/" not in answer.json()["detail"].replace(" / ", ""), answer.text


def test_the_key_is_the_password(desk: Desk, ct: Volume, files: Path, tmp_path: Path) -> None:
    with serving(whole(desk, tmp_path / "private", files / "thorax.nii.gz", key="secret-k3y")) as address:
        client = stock.MONAILabelClient(address, tmpdir=str(tmp_path))
        assert client.auth_enabled()
        for ask in (client.info, lambda: client.auth_token("reader", "wrong"), client.datastore):
            with pytest.raises(stock.MONAILabelClientException) as refused:
                ask()
            assert refused.value.status_code == 401
        client.update_auth(client.auth_token("reader", "secret-k3y"))
        assert client.auth_valid_token() and client.info()["name"] == "clmsda"
        path, _ = client.infer("clmsda", "thorax", {"foreground": [ijk(ct, ONE)]})
        assert f1(path, ct, ONE) > 0.9


def test_two_viewers_at_once(address: str, ct: Volume, files: Path, tmp_path: Path) -> None:
    scores: dict[int, float] = {}

    def one(number: int, ball: Ball) -> None:
        (tmp_path / str(number)).mkdir()
        client = stock.MONAILabelClient(address, tmpdir=str(tmp_path / str(number)))
        key = client.create_session(str(files / "thorax.nii.gz"))["session_id"]
        path, _ = client.infer("clmsda", "", {"foreground": [ijk(ct, ball)]}, session_id=key)
        scores[number] = f1(path, ct, ball)
        client.remove_session(key)

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate((ONE, OTHER))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(scores) == 2 and min(scores.values()) > 0.9


def test_a_session_that_nobody_uses_goes_with_its_file(desk: Desk, files: Path, tmp_path: Path) -> None:
    from clmsda.serving.http.served import Served

    store = Datastore(Served(desk, tmp_path))
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "image.nii.gz").write_bytes((files / "thorax.nii.gz").read_bytes())
    key = store.begin(folder, folder / "image.nii.gz", 0.3)
    image: Image = store.session(key)
    store.open(image)
    before = len(desk.opened())
    time.sleep(0.5)
    store.forget()
    assert not folder.exists() and len(desk.opened()) == before - 1

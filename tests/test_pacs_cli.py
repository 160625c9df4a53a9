"""`clmsda pacs`: what people type, and what they get."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orthanc
import pytest
from command_line import chest, clmsda, refused, save_constant_model
from dicom_series import write_series
from orthanc import Orthanc
from pacs_script import answer, as_json, listing, scripted
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from clmsda.images import read_ct, read_mask
from clmsda.metrics import f1

BALL = "60,-60,-40"

needs_orthanc = pytest.mark.skipif(orthanc.MISSING is not None, reason=str(orthanc.MISSING))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It sees tumor everywhere."""
    return save_constant_model(tmp_path_factory.mktemp("model"), 5.0)


@pytest.fixture(scope="module")
def ct(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series of a chest, of a patient whose data must turn up nowhere but in the objects."""
    folder = tmp_path_factory.mktemp("ct")

    def edit(dataset: Dataset, _: int) -> None:
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Secret^Sally", "SALLY-4711", "19700203"

    write_series(folder, chest(), edit=edit)
    return folder


@pytest.fixture(scope="module")
def series(ct: Path) -> str:
    return str(dcmread(next(ct.iterdir())).SeriesInstanceUID)


@pytest.fixture(scope="module")
def pacs(ct: Path) -> Iterator[Orthanc]:
    with orthanc.running() as running:
        done = clmsda("pacs", "send", ct, "--host", "127.0.0.1", "--port", running.dicom_port, "--aet", "ORTHANC")
        assert done.returncode == 0, done.stderr
        assert len(running.instances()) == 40
        yield running


def modalities(pacs: Orthanc) -> list[str]:
    return sorted(one["MainDicomTags"]["Modality"] for one in pacs.json("series?expand"))


@needs_orthanc
def test_a_series_is_segmented_where_it_is_filed(
    pacs: Orthanc, ct: Path, series: str, model: Path, tmp_path: Path
) -> None:
    """One command; then the objects are pulled back and read by our own readers."""
    done = clmsda(
        "pacs", "segment", "--url", pacs.url, "--series", series, "--point", BALL, "--model", model,
        "--out", tmp_path / "out", "--json", tmp_path / "m.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = re.findall(r"(SEG|RTSTRUCT|SR) \(\w+\.dcm\) +(.*\w)", done.stdout)
    assert rows == [("SEG", "stored"), ("RTSTRUCT", "stored"), ("SR", "stored")]
    assert not re.search("secret|sally|4711|19700203", done.stdout + done.stderr, re.IGNORECASE)
    assert modalities(pacs) == ["CT", "RTSTRUCT", "SEG", "SR"]
    assert len(pacs.json("studies")) == 1
    (patient,) = pacs.json("patients?expand")
    assert patient["MainDicomTags"]["PatientID"] == "SALLY-4711"

    grid = read_ct(ct).grid
    (lesion,) = json.loads((tmp_path / "m.json").read_text())["lesions"]
    masks = {}
    for name in ("seg", "rtstruct", "sr"):
        header = dcmread(tmp_path / "out" / f"{name}.dcm")
        assert pacs.file_of(header.SOPInstanceUID) == (tmp_path / "out" / f"{name}.dcm").read_bytes()
        back = clmsda(
            "pacs", "pull", "--url", pacs.url, "--series", header.SeriesInstanceUID, "--out", tmp_path / name
        )  # fmt: skip
        assert back.stdout.startswith(f"1 {header.Modality} file in "), back.stderr
        if name == "sr":
            assert lesion["tracking_uid"] in str(header)
        else:
            masks[name] = read_mask(tmp_path / name, grid=grid).voxels > 0
    assert f1(masks["seg"], masks["rtstruct"]) == 1
    volume_ml = float(masks["seg"].sum() * grid.voxel_ml)
    assert lesion["volume_ml"] == pytest.approx(volume_ml, abs=1e-3)


@needs_orthanc
def test_the_same_as_from_files(pacs: Orthanc, ct: Path, series: str, model: Path, tmp_path: Path) -> None:
    """A dry run stores nothing, and finds what `clmsda segment` finds in the folder."""
    before = len(pacs.instances())
    done = clmsda(
        "pacs", "segment", "--url", pacs.url, "--series", series, "--point", BALL, "--model", model, "--dry-run",
        "--json", "-",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "dry run: SEG, RTSTRUCT, SR not stored" in done.stderr
    assert len(pacs.instances()) == before
    local = clmsda("segment", ct, "--point", BALL, "--model", model, "-o", tmp_path / "m.nii", "--json", "-")
    assert json.loads(done.stdout) == json.loads(local.stdout)


@needs_orthanc
def test_a_pacs_that_dies_before_the_store(ct: Path, series: str, model: Path, tmp_path: Path) -> None:
    """The objects are kept where --out says, the command fails, and says how to go on; then another PACS takes them."""
    from clmsda.serving import dicomweb

    with orthanc.running() as pacs, pytest.MonkeyPatch.context() as patch:
        clmsda("pacs", "store", ct, "--url", pacs.url)
        store = dicomweb.store

        def kill_first(*arguments: object, **more: object) -> object:
            pacs.process.kill()
            pacs.process.wait(20)
            return store(*arguments, **more)  # type: ignore[arg-type]

        patch.setattr(dicomweb, "store", kill_first)
        done = clmsda(
            "pacs", "segment", "--url", pacs.url, "--series", series, "--point", BALL, "--model", model,
            "--out", tmp_path / "out", "--retries", "0",
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout.count("not stored") == 3
    assert "\nerror: 3 of 3 objects are not stored: SEG (seg.dcm): " in done.stderr
    assert f"clmsda pacs store {tmp_path / 'out'} --url" in done.stderr
    with orthanc.running() as pacs:
        done = clmsda("pacs", "store", tmp_path / "out", "--url", pacs.url)
        assert done.returncode == 0, done.stderr
        assert modalities(pacs) == ["RTSTRUCT", "SEG", "SR"]


@needs_orthanc
def test_what_cannot_be_segmented_is_refused(pacs: Orthanc, series: str, model: Path, tmp_path: Path) -> None:
    before = len(pacs.instances())
    here = ("--url", pacs.url, "--model", model, "--out", tmp_path / "out")
    assert "no series 1.2.3" in refused("pacs", "segment", *here, "--series", "1.2.3", "--point", BALL)
    assert "no series" in refused("pacs", "segment", *here, "--series", series, "--study", "1.2", "--point", BALL)
    assert "within the image" in refused("pacs", "segment", *here, "--series", series, "--point", "900,0,0")
    (tmp_path / "taken").write_text("mine")
    taken = ("--url", pacs.url, "--model", model, "--out", tmp_path / "taken")
    assert "cannot make the folder" in refused("pacs", "segment", *taken, "--series", series, "--point", BALL)
    blind = save_constant_model(tmp_path, -5.0)
    said = refused("pacs", "segment", "--url", pacs.url, "--series", series, "--point", BALL, "--model", blind)
    assert "lesion 1: the model sees no tumor" in said
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.txt").write_text("mine")
    assert "not empty" in refused("pacs", "pull", "--url", pacs.url, "--series", series, "--out", tmp_path / "full")
    assert len(pacs.instances()) == before
    assert not list((tmp_path / "out").iterdir())


@needs_orthanc
def test_echo(pacs: Orthanc) -> None:
    done = clmsda("pacs", "echo", "--host", "127.0.0.1", "--port", pacs.dicom_port, "--aet", "ORTHANC")
    assert done.stdout == f"ORTHANC at 127.0.0.1:{pacs.dicom_port} answers\n"


def test_a_series_of_another_kind_is_not_even_pulled(model: Path) -> None:
    uid = str(generate_uid())
    with scripted(answer(200, as_json([listing(uid, modality="MR")]))) as pacs:
        said = refused("pacs", "segment", "--url", pacs.url, "--series", uid, "--point", BALL, "--model", model)
        assert "expected a series of CT slices, found MR" in said
        assert len(pacs.seen) == 1


def test_a_pacs_that_is_down(ct: Path, tmp_path: Path) -> None:
    port = orthanc.free_port()
    url = ("--url", f"http://127.0.0.1:{port}/dicom-web", "--retries", "0")
    assert "Connection refused" in refused("pacs", "pull", *url, "--series", "1.2.3", "--out", tmp_path / "a")
    there = ("--host", "127.0.0.1", "--port", port)
    assert "cannot be reached" in refused("pacs", "echo", *there)
    for done in (clmsda("pacs", "store", ct, *url), clmsda("pacs", "send", ct, *there, "--retries", "0")):
        assert done.returncode == 2
        assert done.stdout.count("not stored") == 40
        assert done.stderr.startswith("error: 40 of 40 objects are not stored: CT (IM0001.dcm): ")
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--url", "pacs"), "address of a DICOMweb service"),
        (("--url", "http://a", "--header", "Authorization hunter2"), "NAME=VALUE"),
        (("--url", "http://sally:hunter2@a"), "login"),
        (("--url", "http://a", "--ca", "nowhere.pem"), "certificates"),
        (("--url", "http://a", "--timeout", "0"), "--timeout"),
    ],
)
def test_wrong_options_never_reach_the_network(ct: Path, options: tuple[str, ...], said: str) -> None:
    message = refused("pacs", "store", ct, *options)
    assert said in message
    assert "hunter2" not in message


def test_a_prompt_is_needed() -> None:
    assert "--point" in refused("pacs", "segment", "--url", "http://127.0.0.1:9/x", "--series", "1.2.3")


def _hear_interrupts() -> None:
    """Shells start background jobs, and so tests that run in one, deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "kill"])
def test_receive_until_it_is_ended(by: signal.Signals, ct: Path, series: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "clmsda", "pacs", "receive", "--out", str(tmp_path / "in"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=_hear_interrupts) as receiver:
        try:
            assert receiver.stdout is not None
            first = receiver.stdout.readline()
            found = re.fullmatch(r"CLMSDA listens at 127\.0\.0\.1:(\d+); Ctrl-C ends it\n", first)
            assert found is not None, first
            done = clmsda("pacs", "send", *sorted(ct.iterdir())[:3], "--host", "127.0.0.1", "--port", found[1])
            assert done.returncode == 0, done.stderr
            receiver.send_signal(by)
            rest, _ = receiver.communicate(timeout=30)
            status = receiver.returncode
        finally:
            receiver.kill()
    assert rest == f"3 files of 1 series in {tmp_path / 'in'}\n"
    assert status == (0 if by == signal.SIGINT else 143)
    assert len(list((tmp_path / "in" / series).iterdir())) == 3


def test_without_the_extra_it_is_named(tmp_path: Path, ct: Path) -> None:
    """In another process, in which the libraries cannot be imported."""
    code = (
        "import sys; sys.modules['requests'] = sys.modules['pynetdicom'] = None\n"
        "from clmsda.cli import main; main(sys.argv[1:])"
    )
    for last in (["store", str(ct), "--url", "http://127.0.0.1:9"], ["echo", "--host", "127.0.0.1", "--port", "9"]):
        done = subprocess.run([sys.executable, "-c", code, "pacs", *last], capture_output=True, text=True)
        assert done.returncode == 2, done.stderr
        assert "pip install 'clmsda[pacs]'" in done.stderr
        assert "Traceback" not in done.stderr

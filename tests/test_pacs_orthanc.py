"""A real PACS: objects there and back bit by bit, filed where they belong, and a PACS that stops or dies."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import orthanc
import pytest
from dicom_series import compressed, write_series
from orthanc import Orthanc
from pydicom import dcmread
from pydicom.uid import UID, JPEGLosslessSV1, RLELossless

from clmsda.dicom_objects import BY_HAND, findings_of, read_source, write_objects
from clmsda.geometry import Grid, Volume
from clmsda.images import read_ct, read_mask
from clmsda.images.errors import SeriesNotFound
from clmsda.serving import dicomweb, dimse, web
from clmsda.serving.dimse import Peer
from clmsda.serving.errors import Refused
from clmsda.serving.instances import Instance, Receipt, read_instances
from clmsda.serving.web import Server

pytestmark = pytest.mark.skipif(orthanc.MISSING is not None, reason=str(orthanc.MISSING))

SHAPE = (7, 40, 52)  # a width that is no multiple of 8, which packs segments' bits across rows


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(dimse, "FIRST_PAUSE_S", 0.01)


@pytest.fixture(scope="module")
def pacs() -> Iterator[Orthanc]:
    with orthanc.running() as running:
        yield running


@pytest.fixture
def ct(tmp_path: Path) -> tuple[Instance, ...]:
    """A small CT of half lung, half tissue: a new series of a new study for every test."""
    voxels = np.full(SHAPE, -800, np.int16)
    voxels[:, :, 26:] = 40
    voxels += np.random.default_rng(3).integers(-20, 20, SHAPE).astype(np.int16)
    write_series(tmp_path / "ct", Volume(voxels, Grid.axial(SHAPE, (2.5, 0.8, 0.7))))
    return read_instances([tmp_path / "ct"])


@pytest.fixture
def objects(ct: tuple[Instance, ...], tmp_path: Path) -> tuple[Instance, ...]:
    """SEG, RTSTRUCT and SR of two lesions, one of them with a hole; and a label map."""
    folder = ct[0].path.parent
    volume = read_ct(folder)
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 5:15, 20:40] = 1
    labels[2, 8:11, 25:30] = 0
    labels[5, 20:30, 3:9] = 2
    source = read_source(folder)
    mask = Volume(labels, volume.grid)
    findings = findings_of(mask, volume, series_uid=source.series_uid, algorithm=BY_HAND)
    paths = [tmp_path / f"{name}.dcm" for name in ("seg", "rtstruct", "sr", "labelmap")]
    write_objects(source, findings, seg=paths[0], rtstruct=paths[1], sr=paths[2])
    write_objects(source, findings, seg=paths[3], labelmap=True)
    return read_instances(paths)


def web_of(pacs: Orthanc, **settings: object) -> Server:
    return Server(pacs.url, **({"timeout_s": 20.0, "retries": 1} | settings))  # type: ignore[arg-type]


def peer_of(pacs: Orthanc, **settings: object) -> Peer:
    return Peer("127.0.0.1", pacs.dicom_port, "ORTHANC", **({"timeout_s": 20.0, "retries": 1} | settings))  # type: ignore


def outcomes(receipts: tuple[Receipt, ...]) -> list[bool]:
    return [one.stored for one in receipts]


def dataset_of(content: bytes) -> bytes:
    """A Part 10 file's data set: what follows the group of meta elements, whose length its first element gives."""
    return content[144 + int.from_bytes(content[140:144], "little") :]


def studies_with(pacs: Orthanc, instances: tuple[Instance, ...]) -> dict[str, set[str]]:
    """The modalities that Orthanc lists in each study of the instances."""
    found: dict[str, set[str]] = {}
    wanted = {one.study_uid for one in instances}
    for study in pacs.json("studies?expand"):
        uid = study["MainDicomTags"]["StudyInstanceUID"]
        if uid in wanted:
            series = [pacs.json(f"series/{one}")["MainDicomTags"] for one in study["Series"]]
            found[uid] = {one["Modality"] for one in series}
    return found


# ---- there and back


def test_objects_stored_by_web_come_back_bit_by_bit(
    pacs: Orthanc, ct: tuple[Instance, ...], objects: tuple[Instance, ...], tmp_path: Path
) -> None:
    """Whole files, meta header and all; in the study of their CT."""
    server = web_of(pacs)
    assert outcomes(dicomweb.store(server, ct)) == [True] * 7
    assert outcomes(dicomweb.store(server, objects, ct[0].study_uid)) == [True] * 4
    assert studies_with(pacs, ct) == {ct[0].study_uid: {"CT", "SEG", "RTSTRUCT", "SR"}}
    for one in objects:
        assert pacs.file_of(one.sop_uid) == one.path.read_bytes()
        listed = dicomweb.find_series(server, str(dcmread(one.path).SeriesInstanceUID))
        assert (listed.study_uid, listed.modality, listed.images) == (ct[0].study_uid, one.modality, 1)
        back = tmp_path / f"back-{one.path.stem}"
        back.mkdir()
        assert dicomweb.pull(server, listed, back) == 1
        assert (back / "00001.dcm").read_bytes() == one.path.read_bytes()


def test_objects_sent_by_dimse_come_back_bit_by_bit(
    pacs: Orthanc, ct: tuple[Instance, ...], objects: tuple[Instance, ...]
) -> None:
    """Their data sets: over DIMSE no meta header travels, and Orthanc writes one in its own name."""
    assert outcomes(dimse.send(peer_of(pacs), [*ct, *objects])) == [True] * 11
    assert studies_with(pacs, ct) == {ct[0].study_uid: {"CT", "SEG", "RTSTRUCT", "SR"}}
    for one in (*ct, *objects):
        sent, back = one.path.read_bytes(), pacs.file_of(one.sop_uid)
        assert dataset_of(back) == dataset_of(sent)
        metas = [dcmread(BytesIO(content)).file_meta for content in (sent, back)]
        changed = {element.keyword for element in metas[0] if metas[1].get(element.tag) != element}
        assert changed <= {"FileMetaInformationGroupLength", "ImplementationClassUID", "ImplementationVersionName"}


def test_a_mask_survives_the_whole_way(pacs: Orthanc, ct: tuple[Instance, ...], objects: tuple[Instance, ...]) -> None:
    """CT and objects from Orthanc give the labels that went in: hole, second lesion, every voxel."""
    server = web_of(pacs)
    dicomweb.store(server, [*ct, *objects])
    folder = ct[0].path.parent.parent / "back"
    for name, one in zip(
        ("ct", "seg", "rtstruct", "labelmap"), (ct[0], objects[0], objects[1], objects[3]), strict=True
    ):
        (folder / name).mkdir(parents=True)
        listed = dicomweb.find_series(server, str(dcmread(one.path).SeriesInstanceUID), one.study_uid)
        dicomweb.pull(server, listed, folder / name)
    grid = read_ct(folder / "ct").grid
    expected = np.zeros(SHAPE, np.uint8)
    expected[1:4, 5:15, 20:40] = 1
    expected[2, 8:11, 25:30] = 0
    expected[5, 20:30, 3:9] = 2
    for name in ("seg", "labelmap"):
        assert np.array_equal(read_mask(folder / name, grid=grid).voxels, expected)
    first = read_mask(folder / "rtstruct", grid=grid, roi="Lesion 1")
    assert np.array_equal(first.voxels > 0, expected == 1)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLosslessSV1], ids=lambda uid: uid.name)
def test_compressed_series_travel_compressed(pacs: Orthanc, syntax: UID, tmp_path: Path) -> None:
    voxels = np.random.default_rng(1).integers(-900, 900, (3, 16, 20)).astype(np.int16)
    volume = Volume(voxels, Grid.axial((3, 16, 20), (2.0, 1.0, 1.0)))
    write_series(tmp_path / "ct", volume, edit=compressed(syntax))
    instances = read_instances([tmp_path / "ct"])
    assert outcomes(dimse.send(peer_of(pacs), instances)) == [True] * 3
    listed = dicomweb.find_series(web_of(pacs), str(dcmread(instances[0].path).SeriesInstanceUID))
    (tmp_path / "back").mkdir()
    dicomweb.pull(web_of(pacs), listed, tmp_path / "back")
    for path in (tmp_path / "back").iterdir():
        assert dcmread(path).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(read_ct(tmp_path / "back").voxels, volume.voxels)


@pytest.mark.parametrize("way", ["web", "dimse"])
def test_a_real_patient_survives(way: str, shared_data: Path, tmp_path: Path) -> None:
    """CT and objects of the true tumor, in and out: the same data sets, in one study, the same tumor."""
    folder = shared_data / "nsclc-radiomics" / "NSCLC-Radiomics" / "LUNG1-001"
    truth = next(
        path for path in folder.rglob("*.dcm") if dcmread(path, specific_tags=["Modality"]).Modality == "RTSTRUCT"
    )
    (slices,) = (path.parent for path in folder.rglob("1-100.dcm"))
    volume, source = read_ct(slices), read_source(slices)
    mask = read_mask(truth, grid=volume.grid, roi="GTV-1")
    findings = findings_of(mask, volume, series_uid=source.series_uid, algorithm=BY_HAND)
    paths = [tmp_path / name for name in ("seg.dcm", "rtstruct.dcm", "sr.dcm")]
    write_objects(source, findings, seg=paths[0], rtstruct=paths[1], sr=paths[2])
    ct, objects = read_instances([slices]), read_instances(paths)
    with orthanc.running() as pacs:
        sent = (*ct, *objects)
        receipts = dicomweb.store(web_of(pacs), sent) if way == "web" else dimse.send(peer_of(pacs), sent)
        assert outcomes(receipts) == [True] * 137
        assert studies_with(pacs, sent) == {ct[0].study_uid: {"CT", "SEG", "RTSTRUCT", "SR"}}
        for one in objects:
            assert dataset_of(pacs.file_of(one.sop_uid)) == dataset_of(one.path.read_bytes())
        (tmp_path / "ct").mkdir()
        (tmp_path / "seg").mkdir()
        for name, uid in (("ct", source.series_uid), ("seg", str(dcmread(paths[0]).SeriesInstanceUID))):
            dicomweb.pull(web_of(pacs), dicomweb.find_series(web_of(pacs), uid), tmp_path / name)
    back = {dataset_of(one.read_bytes()) for one in (tmp_path / "ct").iterdir()}
    assert back == {dataset_of(one.path.read_bytes()) for one in ct}
    assert np.array_equal(read_mask(tmp_path / "seg", grid=volume.grid).voxels, mask.voxels > 0)


# ---- what Orthanc refuses


def test_another_study_is_refused(pacs: Orthanc, ct: tuple[Instance, ...]) -> None:
    before = len(pacs.instances())
    receipts = dicomweb.store(web_of(pacs), ct[:1], "1.2.3")
    assert outcomes(receipts) == [False]
    assert "belongs to another study" in receipts[0].words
    assert len(pacs.instances()) == before


def test_the_same_object_twice_is_there_once(pacs: Orthanc, ct: tuple[Instance, ...]) -> None:
    before = len(pacs.instances())
    for _ in range(2):
        assert outcomes(dicomweb.store(web_of(pacs), ct[:1])) == [True]
        assert outcomes(dimse.send(peer_of(pacs), ct[:1])) == [True]
    assert len(pacs.instances()) == before + 1


def test_a_damaged_object_is_not_stored(pacs: Orthanc, ct: tuple[Instance, ...]) -> None:
    content = ct[0].path.read_bytes()
    ct[0].path.write_bytes(content[:140] + b"\xff" * 200)
    receipts = dicomweb.store(web_of(pacs), ct[:2])
    assert outcomes(receipts) == [False, True]


def test_a_series_that_is_not_there(pacs: Orthanc) -> None:
    with pytest.raises(SeriesNotFound, match=r"no series 1\.2\.3"):
        dicomweb.find_series(web_of(pacs), "1.2.3")


def test_an_address_without_dicomweb(pacs: Orthanc) -> None:
    with pytest.raises(Refused, match="404 Not Found; is it the address of a DICOMweb service"):
        dicomweb.find_series(Server(f"{pacs.root}/nothing-here"), "1.2.3")


def test_kinds_that_it_does_not_know(objects: tuple[Instance, ...]) -> None:
    """Label maps are younger than this Orthanc: over DIMSE it takes them only if it is told to take anything."""
    with orthanc.running(UnknownSopClassAccepted=False) as pacs:
        receipts = dimse.send(peer_of(pacs), objects)
        assert outcomes(receipts) == [True, True, True, False]
        assert receipts[3].words == "the PACS takes no objects of the kind 1.2.840.10008.5.1.4.1.1.66.7"
        assert len(pacs.instances()) == 3


def test_titles(ct: tuple[Instance, ...]) -> None:
    with orthanc.running(DicomCheckCalledAet=True) as pacs:
        dimse.echo(peer_of(pacs))
        with pytest.raises(Refused, match="called ae title not recognised"):
            dimse.echo(Peer("127.0.0.1", pacs.dicom_port, "OTHER"))


# ---- a PACS that stops or dies


@pytest.mark.parametrize("way", ["web", "dimse"])
def test_what_was_confirmed_before_it_died_is_there(way: str, ct: tuple[Instance, ...], tmp_path: Path) -> None:
    """Orthanc is killed after the second instance; the storage that it leaves is looked through by another."""
    done: list[Receipt] = []
    with orthanc.running(tmp_path / "storage") as pacs:

        def kill_after_two(one: Receipt) -> None:
            done.append(one)
            if len(done) == 2:
                pacs.process.kill()
                pacs.process.wait(20)

        if way == "web":
            receipts = dicomweb.store(web_of(pacs), ct, progress=kill_after_two)
        else:
            receipts = dimse.send(peer_of(pacs), ct, kill_after_two)
    assert outcomes(receipts) == [True, True] + [False] * 5
    assert [one.words for one in receipts[3:]] == ["not sent, because the PACS failed before"] * 4
    with orthanc.running(tmp_path / "storage") as again:
        there = {one["MainDicomTags"]["SOPInstanceUID"] for one in again.instances()}
    assert there == {one.sop_uid for one in ct[:2]}


@pytest.mark.parametrize("way", ["web", "dimse"])
def test_what_was_not_confirmed_in_time_is_not_stored(way: str, ct: tuple[Instance, ...]) -> None:
    """Orthanc is stopped after the first instance, then takes connections but answers nothing."""
    began = time.monotonic()
    with orthanc.running() as pacs:

        def stop(_: Receipt) -> None:
            pacs.stop()

        if way == "web":
            receipts = dicomweb.store(web_of(pacs, timeout_s=1.0), ct[:3], progress=stop)
        else:
            receipts = dimse.send(peer_of(pacs, timeout_s=1.0), ct[:3], stop)
    assert outcomes(receipts) == [True, False, False]
    assert time.monotonic() - began < 30


def test_a_pacs_that_comes_back_is_used(ct: tuple[Instance, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped at first, it goes on during the second try."""
    with orthanc.running() as pacs:
        pacs.stop()
        monkeypatch.setattr(web.time, "sleep", lambda _: pacs.process.send_signal(signal.SIGCONT))
        assert outcomes(dicomweb.store(web_of(pacs, timeout_s=2.0, retries=3), ct[:1])) == [True]
        assert len(pacs.instances()) == 1


# ---- who may, and over which line


def test_logins(ct: tuple[Instance, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    monkeypatch.setenv("NETRC", str(netrc))
    with orthanc.running(AuthenticationEnabled=True, RegisteredUsers={"nurse": "hunter2"}) as pacs:
        (refused,) = dicomweb.store(web_of(pacs), ct[:1])
        assert "401 Unauthorized; give a login" in refused.words
        netrc.write_text("machine 127.0.0.1 login nurse password wrong\n")
        assert outcomes(dicomweb.store(web_of(pacs), ct[:1])) == [False]
        netrc.write_text("machine 127.0.0.1 login nurse password hunter2\n")
        assert outcomes(dicomweb.store(web_of(pacs), ct[:1])) == [True]
        netrc.unlink()
        header = web.parse_header("Authorization=Basic bnVyc2U6aHVudGVyMg==")
        assert dicomweb.find_series(web_of(pacs, headers=(header,)), str(dcmread(ct[0].path).SeriesInstanceUID))


# ---- Orthanc and dcmtk send to clmsda


def test_orthanc_sends_to_the_receiver(objects: tuple[Instance, ...], tmp_path: Path) -> None:
    with dimse.receiving(tmp_path / "in") as port, orthanc.running(
        DicomModalities={"us": {"AET": "CLMSDA", "Host": "127.0.0.1", "Port": port}}
    ) as pacs:  # fmt: skip
        dicomweb.store(web_of(pacs), objects)
        pacs.json("modalities/us/store", [one["ID"] for one in pacs.instances()])
    for one in objects:
        (path,) = (tmp_path / "in").rglob(f"{one.sop_uid}.dcm")
        assert dataset_of(path.read_bytes()) == dataset_of(one.path.read_bytes())


@pytest.mark.skipif(shutil.which("storescu") is None, reason="needs dcmtk (storescu, echoscu)")
def test_dcmtk_sends_to_the_receiver(ct: tuple[Instance, ...], tmp_path: Path) -> None:
    with dimse.receiving(tmp_path / "in") as port:
        subprocess.run(["echoscu", "127.0.0.1", str(port)], check=True, timeout=60)
        command = ["storescu", "+sd", "127.0.0.1", str(port), str(ct[0].path.parent)]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
    assert np.array_equal(read_ct(tmp_path / "in").voxels, read_ct(ct[0].path.parent).voxels)

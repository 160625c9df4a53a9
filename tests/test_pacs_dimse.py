"""DIMSE between clmsda's sender and receiver and real peers of pynetdicom: no PACS is needed for these."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from dicom_series import compressed, save, slices, write_series
from orthanc import free_port
from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import CTImageStorage, MRImageStorage, Verification

from clmsda.geometry import Grid, Volume
from clmsda.serving import dimse
from clmsda.serving.dimse import Peer, echo, receiving, send
from clmsda.serving.errors import BadAddress, Refused, Unreachable
from clmsda.serving.instances import Instance, Receipt, read_instances

SMALL = Volume(
    np.random.default_rng(0).integers(-1000, 1000, (3, 40, 50)).astype(np.int16),
    Grid.axial((3, 40, 50), (3.0, 1.0, 1.0)),
)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dimse, "FIRST_PAUSE_S", 0.01)


@pytest.fixture
def instances(tmp_path: Path) -> tuple[Instance, ...]:
    write_series(tmp_path / "ct", SMALL)
    return read_instances([tmp_path / "ct"])


def peer_at(port: int, *, title: str = "ANY-SCP", retries: int = 0) -> Peer:
    return Peer("127.0.0.1", port, title, timeout_s=5, retries=retries)


def outcomes(receipts: tuple[Receipt, ...]) -> list[bool]:
    return [one.stored for one in receipts]


def dataset_of(content: bytes) -> bytes:
    """A Part 10 file's data set: what follows the group of meta elements, whose length its first element gives."""
    return content[144 + int.from_bytes(content[140:144], "little") :]


@contextmanager
def listening(
    *contexts: tuple[str, str], status: Callable[[int], int] = lambda number: 0, title: str | None = None
) -> Iterator[tuple[int, list[Dataset]]]:
    """A peer that takes kinds of objects in transfer syntaxes, and answers the n-th with a status."""
    came: list[Dataset] = []

    def keep(event: evt.Event) -> int:
        came.append(event.dataset)
        return status(len(came))

    entity = AE(ae_title=title or "PEER")
    entity.require_called_aet = title is not None
    entity.add_supported_context(Verification)
    for kind, syntax in contexts:
        entity.add_supported_context(kind, syntax)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    try:
        yield server.server_address[1], came
    finally:
        entity.shutdown()


@contextmanager
def cutting(port: int, *, after_bytes: int, times: int) -> Iterator[int]:
    """A stretch of network before `port` that fails: the first `times` connections carry so many bytes, then end."""
    listener = socket.create_server(("127.0.0.1", 0))
    left = [times]

    def carry(source: socket.socket, target: socket.socket, limit: float) -> None:
        carried = 0
        while carried < limit and (data := source.recv(int(min(4096, limit - carried)))):
            target.sendall(data)
            carried += len(data)
        for end in (source, target):
            with end:
                end.shutdown(socket.SHUT_RDWR)

    def quietly(source: socket.socket, target: socket.socket, limit: float) -> None:
        with suppress(OSError):  # the other direction has closed both ends
            carry(source, target, limit)

    def accept() -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            called = socket.create_connection(("127.0.0.1", port))
            limit = after_bytes if left[0] > 0 else float("inf")
            left[0] -= 1
            for ends in ((caller, called, limit), (called, caller, float("inf"))):
                threading.Thread(target=quietly, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


# ---- clmsda sends, clmsda receives


def test_files_arrive_as_they_are(instances: tuple[Instance, ...], tmp_path: Path) -> None:
    kept: list[Path] = []
    with receiving(tmp_path / "in", kept=kept.append) as port:
        echo(peer_at(port))
        assert outcomes(send(peer_at(port), instances)) == [True] * 3
    series = dcmread(instances[0].path).SeriesInstanceUID
    assert kept == [tmp_path / "in" / series / f"{one.sop_uid}.dcm" for one in instances]
    for path, instance in zip(kept, instances, strict=True):
        assert dataset_of(path.read_bytes()) == dataset_of(instance.path.read_bytes())
        assert dcmread(path).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert len(list((tmp_path / "in").rglob("*"))) == 4  # the series' folder, three files, nothing unfinished


def test_compressed_files_arrive_compressed(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", SMALL, edit=compressed(RLELossless))
    instances = read_instances([tmp_path / "ct"])
    with receiving(tmp_path / "in") as port:
        assert outcomes(send(peer_at(port), instances)) == [True] * 3
    for instance in instances:
        (path,) = (tmp_path / "in").rglob(f"{instance.sop_uid}.dcm")
        assert dcmread(path).file_meta.TransferSyntaxUID == RLELossless
        assert dataset_of(path.read_bytes()) == dataset_of(instance.path.read_bytes())


def test_an_object_that_comes_again_replaces_the_first(instances: tuple[Instance, ...], tmp_path: Path) -> None:
    with receiving(tmp_path / "in") as port:
        assert outcomes(send(peer_at(port), [*instances, *instances])) == [True] * 6
    assert len(list((tmp_path / "in").rglob("*.dcm"))) == 3


def test_a_transfer_that_breaks_off_leaves_nothing(instances: tuple[Instance, ...], tmp_path: Path) -> None:
    """Cut within the second file: the first is there, the second neither on disk nor reported."""
    size = instances[0].path.stat().st_size
    with receiving(tmp_path / "in") as port, cutting(port, after_bytes=int(1.7 * size) + 500, times=9) as cut:
        receipts = send(peer_at(cut), instances)
        assert outcomes(receipts) == [True, False, False]
        assert "broke off before it confirmed" in receipts[1].words
        assert "not sent" in receipts[2].words
        assert [path.stem for path in (tmp_path / "in").rglob("*.dcm")] == [instances[0].sop_uid]


def test_a_lost_association_is_taken_up_again(instances: tuple[Instance, ...], tmp_path: Path) -> None:
    size = instances[0].path.stat().st_size
    with receiving(tmp_path / "in") as port, cutting(port, after_bytes=int(1.7 * size) + 500, times=1) as cut:
        assert outcomes(send(peer_at(cut, retries=2), instances)) == [True] * 3
    assert len(list((tmp_path / "in").rglob("*.dcm"))) == 3


def test_a_caller_that_falls_silent_does_not_hold_up_others(instances: tuple[Instance, ...], tmp_path: Path) -> None:
    with receiving(tmp_path / "in", timeout_s=0.5) as port, socket.create_connection(("127.0.0.1", port)) as silent:
        silent.sendall(b"\x01\x00\x00")
        assert outcomes(send(peer_at(port), instances)) == [True] * 3
        began = time.monotonic()
    assert time.monotonic() - began < 10


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("uid", ["../../outside", "..", "1.2/3", ""])
def test_what_is_no_uid_becomes_no_file_name(uid: str, tmp_path: Path) -> None:
    dataset = slices(SMALL)[0]
    dataset.SeriesInstanceUID = uid
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    with receiving(tmp_path / "in" / "there") as port:
        (one,) = send(peer_at(port), read_instances([tmp_path / "a.dcm"]))
    assert not one.stored
    assert "(C000)" in one.words
    assert [path.name for path in tmp_path.rglob("*.dcm")] == ["a.dcm"]


def test_another_object_than_announced_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = slices(SMALL)[0]
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    content = (tmp_path / "a.dcm").read_bytes()
    announced = content.replace(dataset.SOPInstanceUID[-6:].encode(), b"111111", 1)  # only in the meta header
    assert announced != content
    (tmp_path / "a.dcm").write_bytes(announced)
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)
    with receiving(tmp_path / "in") as port:
        (one,) = send(peer_at(port), read_instances([tmp_path / "a.dcm"]))
    assert not one.stored
    assert "(A900)" in one.words


def test_where_nothing_can_be_written_nothing_is_confirmed(instances: tuple[Instance, ...], tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a file, not a folder")
    with receiving(tmp_path / "in") as port:
        receipts = send(peer_at(port), instances)
    assert outcomes(receipts) == [False] * 3
    assert all("out of resources (A700)" in one.words for one in receipts)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with (
        receiving(tmp_path) as port,
        pytest.raises(BadAddress, match=f"cannot listen at 127.0.0.1:{port}"),
        receiving(tmp_path, port=port),
    ):
        pass


# ---- clmsda sends to other peers


def test_kinds_that_a_peer_does_not_take(instances: tuple[Instance, ...], tmp_path: Path) -> None:
    """The rest is sent all the same."""
    save(slices(SMALL, modality="MR", sop_class=MRImageStorage)[:1], tmp_path / "mr")
    (mr,) = read_instances([tmp_path / "mr"])
    with listening((CTImageStorage, ExplicitVRLittleEndian)) as (port, came):
        first, refused, last = send(peer_at(port), [instances[0], mr, instances[1]])
        assert (first.stored, refused.stored, last.stored) == (True, False, True)
        assert refused.words == "the PACS takes no objects of the kind MR Image Storage"
        assert len(came) == 2
    with listening() as (port, came):
        assert outcomes(send(peer_at(port), instances)) == [False] * 3


def test_a_peer_that_takes_one_transfer_syntax_only(instances: tuple[Instance, ...], tmp_path: Path) -> None:
    write_series(tmp_path / "rle", SMALL, edit=compressed(RLELossless))
    (rle, *_) = read_instances([tmp_path / "rle"])
    with listening((CTImageStorage, ImplicitVRLittleEndian)) as (port, came):
        first, refused = send(peer_at(port), [instances[0], rle])
        assert first.stored
        assert came[0].PixelData == dcmread(instances[0].path).PixelData
        assert refused.words == "the PACS does not take it as RLE Lossless"


def test_what_a_peer_answers_is_told_of_each(instances: tuple[Instance, ...]) -> None:
    answers = {1: 0xA700, 2: 0xB000, 3: 0x0000}
    with listening((CTImageStorage, ExplicitVRLittleEndian), status=answers.__getitem__) as (port, _):
        receipts = send(peer_at(port), instances)
    assert [(one.stored, one.words[-6:]) for one in receipts] == [(False, "(A700)"), (True, "(B000)"), (True, "")]


def test_a_title_that_a_peer_does_not_know(instances: tuple[Instance, ...]) -> None:
    with listening((CTImageStorage, ExplicitVRLittleEndian), title="KNOWN") as (port, came):
        echo(peer_at(port, title="KNOWN"))
        with pytest.raises(Refused, match="called ae title not recognised"):
            echo(peer_at(port, title="UNKNOWN", retries=5))
        receipts = send(peer_at(port, title="UNKNOWN", retries=5), instances)
    assert outcomes(receipts) == [False] * 3
    assert came == []


def test_a_peer_that_is_not_there(instances: tuple[Instance, ...]) -> None:
    peer = peer_at(free_port(), retries=1)
    with pytest.raises(Unreachable, match="after 2 tries: it cannot be reached"):
        echo(peer)
    receipts = send(peer, instances)
    assert outcomes(receipts) == [False] * 3
    assert [one.words for one in receipts[1:]] == ["not sent, because the PACS failed before"] * 2
    with pytest.raises(Unreachable, match=r"no host nowhere\.invalid"):
        echo(Peer("nowhere.invalid", 104))

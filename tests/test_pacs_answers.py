"""Answers of a PACS that are malformed, given in pages, or too large: followed, or refused in one line."""

from __future__ import annotations

import gzip
import logging
from io import BytesIO
from pathlib import Path

import pytest
from dicom_series import new_dataset
from pacs_script import Request, answer, as_json, listing, multipart, scripted, series_answer
from pydicom.uid import CTImageStorage

from clmsda.errors import InputError
from clmsda.files import OutputError
from clmsda.images.errors import SeriesNotFound, SeveralSeries
from clmsda.serving import dicomweb, web
from clmsda.serving import multipart as multipart_module
from clmsda.serving.dicomweb import Listed, find_series, is_there, pull, pull_into
from clmsda.serving.errors import Refused, Unreachable
from clmsda.serving.web import Server

SERIES = "1.2.3.4"
LISTED = Listed("1.2.3", SERIES, "CT", None)
FILE = bytes(128) + b"DICM" + b"\r\n--edge\r\n" + bytes(range(256)) * 20
MORE = '299 PACS: "The number of results exceeded the maximum supported by the server."'


@pytest.fixture(autouse=True)
def no_pauses_and_no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(web, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


# ---- listings in pages


def page(*items: dict, more: bool = True) -> bytes:
    return answer(200, as_json(list(items)), **({"Warning": MORE} if more else {}))


def test_a_listing_in_pages_is_followed_to_its_end() -> None:
    first, second = page(listing("9.1"), listing("9.2")), page(listing("9.3"), listing(SERIES, images=7))
    with scripted(first, second, page(listing("9.5"), more=False)) as pacs:
        assert find_series(Server(pacs.url), SERIES).images == 7
    lines = [request.line for request in pacs.seen]
    assert "offset" not in lines[0]
    assert "offset=2" in lines[1] and "offset=4" in lines[2]
    assert all(f"SeriesInstanceUID={SERIES}" in line for line in lines)


@pytest.mark.parametrize("end", [answer(204), page(), page(more=False)])
def test_the_last_page_may_be_empty(end: bytes) -> None:
    with scripted(page(listing("9.1")), end) as pacs, pytest.raises(SeriesNotFound):
        find_series(Server(pacs.url), SERIES)
    with scripted(page(listing(SERIES)), end) as pacs:
        assert find_series(Server(pacs.url), SERIES).images == 2


def test_a_second_study_on_a_later_page_is_noticed() -> None:
    pages = page(listing(SERIES, study_uid="1.1")), page(listing(SERIES, study_uid="1.2"), more=False)
    with scripted(*pages) as pacs, pytest.raises(SeveralSeries, match=r"--study, of 1\.1, 1\.2"):
        find_series(Server(pacs.url), SERIES)


def test_a_pacs_that_knows_no_pages_is_not_asked_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    with scripted(page(listing("9.1"))) as pacs, pytest.raises(Refused, match=r"only a part of its series.*--study"):
        find_series(Server(pacs.url), SERIES)
    assert len(pacs.seen) == 2
    with scripted(page(listing(SERIES))) as pacs, caplog.at_level(logging.WARNING):
        assert find_series(Server(pacs.url), SERIES).images == 2
    assert "lists only a part of its series" in caplog.text


def test_pages_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicomweb, "MOST_PAGES", 5)
    count = iter(range(100))

    def endless(request: Request) -> bytes:
        return page(listing(f"9.{next(count)}"))

    with scripted(endless) as pacs, pytest.raises(Refused, match="only a part"):
        find_series(Server(pacs.url), SERIES)
    assert len(pacs.seen) == 5


# ---- a series of one file


def chunked(body: bytes, *, ends: bool = True) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + f"{len(body):x}\r\n".encode() + body + b"\r\n" + b"0\r\n\r\n" * ends


@pytest.mark.parametrize(
    "whole",
    [answer(200, FILE, kind="application/dicom"), answer(200, FILE, kind="Application/DICOM; transfer-syntax=1.2.3"),
     chunked(FILE)],
)  # fmt: skip
def test_a_single_file_is_a_series_of_one(whole: bytes, tmp_path: Path) -> None:
    with scripted(whole) as pacs:
        assert pull_into(Server(pacs.url), LISTED, tmp_path / "out") == 1
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [FILE]


def test_what_a_killed_pull_left_is_pulled_anew(tmp_path: Path) -> None:
    """Its temporary folder goes last: without one, what lies there is somebody's."""
    left = tmp_path / "out" / ".clmsda-0123456789abcdef"
    left.mkdir(parents=True)
    for path in (left / "00002.dcm", tmp_path / "out" / "00001.dcm", tmp_path / "out" / "00003.dcm"):
        path.write_text("half a series")
    with scripted(answer(200, FILE, kind="application/dicom")) as pacs:
        assert pull_into(Server(pacs.url), LISTED, tmp_path / "out") == 1
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [FILE]
    with pytest.raises(OutputError, match="not empty"):
        pull_into(Server("http://127.0.0.1:1"), LISTED, tmp_path / "out")
    left.mkdir()
    (tmp_path / "out" / "notes.txt").write_text("somebody's")
    with pytest.raises(OutputError, match="not empty"):
        pull_into(Server("http://127.0.0.1:1"), LISTED, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["00001.dcm", "notes.txt"]


def test_a_pull_knows_what_a_former_one_put_there(tmp_path: Path) -> None:
    """All of the series: nothing is asked for; a part of it: it is pulled anew; another series: it is somebody's."""
    out, series = tmp_path / "out", Listed("1.2.3", SERIES, "CT", 2)
    files = [dicom_file(SERIES, number) for number in range(2)]
    with scripted(series_answer(multipart(files)), series_answer(multipart(files))) as pacs:
        assert pull_into(Server(pacs.url), series, out) == 2
        before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
        assert is_there(series, out) and pull_into(Server(pacs.url), series, out) == 2
        assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before and len(pacs.seen) == 1
        (out / "00001.dcm").unlink()
        assert not is_there(series, out) and pull_into(Server(pacs.url), series, out) == 2
    assert [path.read_bytes() for path in sorted(out.iterdir())] == files
    (out / "00001.dcm").unlink()
    with pytest.raises(Unreachable):
        pull_into(Server("http://127.0.0.1:1", retries=0), series, out)
    assert [path.name for path in out.iterdir()] == ["00002.dcm"], "what is there stays until all has come"
    (out / "00001.dcm").write_bytes(dicom_file("1.2.3.5", 0))
    with pytest.raises(OutputError, match="not empty"):
        pull_into(Server("http://127.0.0.1:1"), series, out)


def dicom_file(series: str, number: int) -> bytes:
    dataset = new_dataset(CTImageStorage, "CT")
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.InstanceNumber = series, "1.2.3", number
    content = BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


def test_a_single_file_of_three_is_not_the_series(tmp_path: Path) -> None:
    with (
        scripted(answer(200, FILE, kind="application/dicom")) as pacs,
        pytest.raises(Refused, match=r"lists 3 instances .* but gave 1"),
    ):
        pull_into(Server(pacs.url), Listed("1.2.3", SERIES, "CT", 3), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("cut", [answer(200, FILE, kind="application/dicom")[:-10], chunked(FILE, ends=False)])
def test_a_single_file_cut_off_is_asked_for_again(cut: bytes, tmp_path: Path) -> None:
    with scripted(cut, answer(200, FILE, kind="application/dicom")) as pacs:
        assert pull(Server(pacs.url), LISTED, tmp_path) == 1
    assert len(pacs.seen) == 2
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [FILE]


def test_a_single_file_that_may_be_cut_off_or_is_none(tmp_path: Path) -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom\r\n\r\n" + FILE
    page_ = answer(200, b"<html>Secret^Sally</html>", kind="application/dicom")
    for content, said in ((endless, "without its length"), (page_, "is none")):
        with scripted(content) as pacs, pytest.raises(Refused, match=said) as refusal:
            pull(Server(pacs.url), LISTED, tmp_path)
        assert "Sally" not in str(refusal.value)
        assert not list(tmp_path.iterdir())


# ---- what no PACS should say


def test_parts_of_another_kind_are_refused(tmp_path: Path) -> None:
    body = multipart([FILE.replace(b"--edge", b"--edgy"), b"<html>Secret^Sally</html>"])
    body = body[::-1].replace(b"mocid/noitacilppa", b"lmth/txet", 1)[::-1]  # of the second part
    with scripted(series_answer(body)) as pacs, pytest.raises(Refused, match="a part is no DICOM file") as refusal:
        pull_into(Server(pacs.url), LISTED, tmp_path / "out")
    assert "Sally" not in str(refusal.value)
    assert not list((tmp_path / "out").iterdir())


def test_a_series_without_a_part_is_no_series(tmp_path: Path) -> None:
    with scripted(series_answer(b"--edge--\r\n")) as pacs, pytest.raises(Refused, match="gives no instance"):
        pull(Server(pacs.url), LISTED, tmp_path)


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b"null", b"3", b'"text"', b"\xff\xfe\x00", b"[" * 200_000, b'{"a":' * 100_000,
     b"[1" + b"0" * 9000 + b"]", b"<html>", gzip.compress(b"[]", mtime=0)],
)  # fmt: skip
def test_listings_that_are_none(body: bytes) -> None:
    with scripted(answer(200, body)) as pacs, pytest.raises(InputError) as refusal:
        find_series(Server(pacs.url), SERIES)
    assert isinstance(refusal.value, Refused)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "item",
    [None, 3, "text", [], {}, {"0020000E": None}, {"0020000E": {"Value": None}}, {"0020000E": {"Value": {}}},
     {"0020000E": {"Value": [None]}}, {"0020000E": {"vr": "UI"}}, {"0020000E": {"Value": [[[]]]}}],
)  # fmt: skip
def test_items_that_are_none_are_passed_over(item: object) -> None:
    with scripted(answer(200, as_json([item, listing(SERIES)]))) as pacs:
        assert find_series(Server(pacs.url), SERIES).images == 2


@pytest.mark.parametrize("images", ["9" * 5000, -1, 1.5, "many", None, {}, True])
def test_counts_that_are_none_are_unknown(images: object) -> None:
    item = listing(SERIES) | {"00201209": {"vr": "IS", "Value": [images]}}
    with scripted(answer(200, as_json([item]))) as pacs:
        assert find_series(Server(pacs.url), SERIES).images is None


@pytest.mark.parametrize("study", ["", "../../instances", "1.2/3", "1." * 40 + "1"])
def test_a_study_that_is_no_uid_becomes_part_of_no_address(study: str) -> None:
    with (
        scripted(answer(200, as_json([listing(SERIES, study_uid=study)]))) as pacs,
        pytest.raises(Refused, match="without the UID of its study"),
    ):
        find_series(Server(pacs.url), SERIES)
    assert len(pacs.seen) == 1


def test_answers_without_end_are_not_read_to_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A listing (also one that was packed small), a part, and a single file beyond their limits."""
    monkeypatch.setattr(dicomweb, "MOST_JSON_BYTES", 1 << 20)
    monkeypatch.setattr(dicomweb, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(multipart_module, "MOST_BYTES", 1 << 20)
    large = b"[" + b" " * (8 << 20) + b"]"
    packed = answer(200, gzip.compress(large), Content_Encoding="gzip")
    for content in (answer(200, large), packed):
        with scripted(content) as pacs, pytest.raises(Refused, match="more than 1 MB"):
            find_series(Server(pacs.url), SERIES)
    for content in (series_answer(b"--edge\r\n\r\n" + large), answer(200, FILE + large, kind="application/dicom")):
        with scripted(content) as pacs, pytest.raises(Refused, match="more than"):
            pull(Server(pacs.url), LISTED, tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 200, b"HTTP/1.1 abc\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000,
     b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n[]", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nnone",
     b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n[]"],
)  # fmt: skip
def test_what_is_hardly_http_is_one_line(content: bytes, tmp_path: Path) -> None:
    with scripted(content) as pacs:
        server = Server(pacs.url, retries=1, timeout_s=5)
        for attempt in (lambda: find_series(server, SERIES), lambda: pull(server, LISTED, tmp_path)):
            with pytest.raises((Unreachable, Refused)) as refusal:
                attempt()
            assert "\n" not in str(refusal.value)

"""DICOMweb against a real TCP server that follows a script: retries, refusals, answers that break off."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
from dicom_series import write_series
from hypothesis import given
from hypothesis import strategies as st
from pacs_script import (
    Request,
    answer,
    as_json,
    failed,
    listing,
    multipart,
    random_files,
    scripted,
    series_answer,
    stored,
)

from clmsda.geometry import Grid, Volume
from clmsda.images.errors import SeriesNotFound, SeveralSeries
from clmsda.serving import web
from clmsda.serving.dicomweb import Listed, find_series, pull, store
from clmsda.serving.errors import NotStored, Refused, Unreachable
from clmsda.serving.instances import Instance, read_instances, refuse_unstored
from clmsda.serving.multipart import BrokenOff, boundary_of, parts
from clmsda.serving.web import Server

SERIES = "1.2.3.4"


@pytest.fixture(autouse=True)
def no_pauses_and_no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(web, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> tuple[Instance, ...]:
    folder = tmp_path_factory.mktemp("ct")
    write_series(folder, Volume(np.zeros((3, 8, 8), np.int16), Grid.axial((3, 8, 8), (3.0, 1.0, 1.0))))
    return read_instances([folder])


def confirmed(request: Request) -> bytes:
    """The answer of a PACS that takes what it gets: the UID is read in the request's body."""
    uid = re.search(rb"UI[^\x00-\x1f]?.(\d[\d.]+)", request.body.partition(b"\x08\x00\x18\x00")[2])
    assert uid is not None
    return answer(200, as_json(stored(uid[1].decode())))


# ---- the parts of an answer


@given(st.lists(st.binary(max_size=60), max_size=4), st.integers(1, 50))
def test_parts_come_out_as_they_went_in_however_they_arrive(contents: list[bytes], size: int) -> None:
    contents = [content for content in contents if b"--edge" not in content]
    body = multipart(contents)
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    assert list(parts(chunks, b"edge")) == contents


@given(st.integers(0, 10_000), st.integers(1, 5000))
def test_an_answer_cut_off_anywhere_is_not_taken_for_whole(end: int, size: int) -> None:
    body = multipart(random_files(3))
    whole = body.rindex(b"--edge--") + len(b"--edge--")
    body = body[: min(end, whole - 1)]
    with pytest.raises(BrokenOff):
        list(parts([body[i : i + size] for i in range(0, len(body), size)], b"edge"))


def test_preamble_and_epilogue_are_no_parts() -> None:
    body = b"a preamble\r\n" + multipart([b"one", b""]) + b"an epilogue --edge\r\n"
    assert list(parts([body], b"edge")) == [b"one", b""]


def test_boundaries_are_found_in_either_spelling() -> None:
    assert boundary_of('multipart/related; boundary="a b"; type="application/dicom"') == b"a b"
    assert boundary_of("Multipart/Related; type=x; Boundary=abc") == b"abc"
    assert boundary_of("application/dicom") is None
    assert boundary_of("multipart/related") is None
    assert boundary_of("") is None


# ---- finding and pulling


def test_a_series_is_found_and_pulled_byte_by_byte(tmp_path: Path) -> None:
    files, counts = random_files(3), []
    with scripted(
        answer(200, as_json([listing("9.9"), listing(SERIES, images=3)])), series_answer(multipart(files))
    ) as pacs:
        server = Server(pacs.url + "/")
        series = find_series(server, SERIES)
        assert series == Listed("1.2.3", SERIES, "CT", 3)
        assert pull(server, series, tmp_path, counts.append) == 3
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == files
    assert counts == [1, 2, 3]
    assert pacs.seen[0].line.startswith(f"GET /dicom-web/series?SeriesInstanceUID={SERIES}&")
    assert pacs.seen[1].line == f"GET /dicom-web/studies/1.2.3/series/{SERIES} HTTP/1.1"
    assert "transfer-syntax=*" in pacs.seen[1].headers["accept"]


@pytest.mark.parametrize("empty", [answer(200, b"[]"), answer(204), answer(200, as_json([listing("9.9")]))])
def test_a_series_that_is_not_there(empty: bytes) -> None:
    with scripted(empty) as pacs, pytest.raises(SeriesNotFound, match=f"no series {SERIES} in study 1.2.3 of"):
        find_series(Server(pacs.url), SERIES, "1.2.3")
    assert pacs.seen[0].line.startswith("GET /dicom-web/studies/1.2.3/series?")


def test_a_series_in_two_studies_needs_the_study() -> None:
    both = [listing(SERIES, study_uid="1.1"), listing(SERIES, study_uid="1.2")]
    with scripted(answer(200, as_json(both))) as pacs, pytest.raises(SeveralSeries, match=r"--study, of 1\.1, 1\.2"):
        find_series(Server(pacs.url), SERIES)


@pytest.mark.parametrize("cut", [0, 10, 2000, -4, -12])
def test_a_series_that_breaks_off_is_asked_for_again(cut: int, tmp_path: Path) -> None:
    """The connection's end looks like the answer's: only the closing boundary tells."""
    files = random_files(2)
    body = multipart(files)
    with scripted(series_answer(body[:cut]), series_answer(body)) as pacs:
        assert pull(Server(pacs.url), Listed("1.2.3", SERIES, "CT", None), tmp_path) == 2
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == files
    assert len(pacs.seen) == 2


def test_a_series_that_always_breaks_off_is_no_series(tmp_path: Path) -> None:
    with scripted(series_answer(multipart(random_files(2))[:-20])) as pacs:
        with pytest.raises(Unreachable, match="after 3 tries: the connection broke off"):
            pull(Server(pacs.url, retries=2), Listed("1.2.3", SERIES, "CT", None), tmp_path)
        assert len(pacs.seen) == 3


@pytest.mark.parametrize("images", [1, 3])
def test_more_or_fewer_instances_than_listed_are_refused(images: int, tmp_path: Path) -> None:
    with (
        scripted(series_answer(multipart(random_files(2)))) as pacs,
        pytest.raises(Refused, match=f"lists {images} instances of the series {re.escape(SERIES)} but gave 2"),
    ):
        pull(Server(pacs.url), Listed("1.2.3", SERIES, "CT", images), tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (answer(404), "404 Not Found; is it the address of a DICOMweb service"),
        (answer(401), "401 Unauthorized; give a login"),
        (answer(403), "403 Forbidden; this login may not"),
        (answer(302, Location="http://elsewhere.example/?token=abc"), "302 Found; give the address that it redirects"),
        (answer(200, b"<html>Secret^Sally</html>", kind="text/html"), "without DICOM JSON"),
        (answer(200, as_json({"a": 1})), "without DICOM JSON"),
        (answer(418, b"Secret^Sally"), "418"),
    ],
)
def test_what_a_pacs_refuses_is_not_asked_again(content: bytes, said: str) -> None:
    with scripted(content) as pacs:
        with pytest.raises(Refused, match=said) as refusal:
            find_series(Server(pacs.url), SERIES)
        assert len(pacs.seen) == 1
    assert "Secret" not in str(refusal.value)
    assert "token" not in str(refusal.value)


def test_another_form_than_multipart_is_refused(tmp_path: Path) -> None:
    with scripted(answer(200, b"PK", kind="application/zip")) as pacs, pytest.raises(Refused, match="another form"):
        pull(Server(pacs.url), Listed("1.2.3", SERIES, "CT", None), tmp_path)
    assert not list(tmp_path.iterdir())


# ---- trying again


@pytest.mark.parametrize("passing", [answer(503), answer(500), answer(429, Retry_After="0"), None, b"HTTP/1.1 20"])
def test_what_may_pass_is_tried_again(passing: bytes | None) -> None:
    with scripted(passing, passing, answer(200, as_json([listing(SERIES)]))) as pacs:
        assert find_series(Server(pacs.url), SERIES).images == 2
        assert len(pacs.seen) == 3


def test_pauses_grow_and_a_server_may_ask_for_longer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(web.time, "sleep", pauses.append)
    monkeypatch.setattr(web, "FIRST_PAUSE_S", 0.5)
    with scripted(answer(503)) as pacs, pytest.raises(Unreachable, match="after 5 tries: it answers 503 Service Un"):
        find_series(Server(pacs.url), SERIES)
    assert pauses == [0.5, 1, 2, 4]
    pauses.clear()
    with scripted(answer(429, Retry_After="7"), answer(429, Retry_After="86400"), answer(200, b"[]")) as pacs:
        with pytest.raises(SeriesNotFound):
            find_series(Server(pacs.url), SERIES)
        assert pauses == [7, web.LONGEST_PAUSE_S]


def test_a_pacs_that_is_down() -> None:
    with scripted(None) as pacs:
        pass
    with pytest.raises(Unreachable, match="after 2 tries: Connection refused"):
        find_series(Server(pacs.url, retries=1), SERIES)


def test_a_pacs_that_does_not_answer_in_time() -> None:
    def slow(request: Request) -> None:
        time.sleep(0.6)

    began = time.monotonic()
    with scripted(slow) as pacs, pytest.raises(Unreachable, match=r"after one try: no answer within 0\.2 s"):
        find_series(Server(pacs.url, timeout_s=0.2, retries=0), SERIES)
    assert time.monotonic() - began < 5


# ---- storing


def test_every_instance_is_confirmed_for_itself(instances: tuple[Instance, ...]) -> None:
    seen = []
    with scripted(confirmed) as pacs:
        receipts = store(Server(pacs.url), instances, instances[0].study_uid, seen.append)
    assert [(one.instance, one.stored, one.words) for one in receipts] == [(one, True, "") for one in instances]
    assert list(receipts) == seen
    assert len(pacs.seen) == 3
    for request, instance in zip(pacs.seen, instances, strict=True):
        assert request.line == f"POST /dicom-web/studies/{instance.study_uid} HTTP/1.1"
        boundary = boundary_of(request.headers["content-type"])
        assert list(parts([request.body], boundary)) == [instance.path.read_bytes()]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (lambda uid: answer(200), "200 OK without confirming"),
        (lambda uid: answer(200, as_json(stored("1.2.9"))), "without confirming"),
        (lambda uid: answer(409, as_json(stored(uid))), "409 Conflict without confirming"),
        (lambda uid: answer(200, as_json(stored(uid))[:-5]), "without confirming"),
        (lambda uid: b"HTTP/1.1 200 OK\r\nContent-Le", "200 OK without confirming"),
        (lambda uid: answer(202, as_json(failed(uid, 0xA700))), r"out of resources \(A700\)"),
        (lambda uid: answer(409, as_json(failed(uid, 0x0110))), r"failed to process it .*\(0110\)"),
        (lambda uid: answer(409, as_json(failed(uid, 0x0111))), r"holds an object with this UID already \(0111\)"),
        (lambda uid: answer(200, as_json(failed(uid, 0))), r"\(0110\)"),
        (lambda uid: answer(200, as_json(failed(uid, 0xC123) | stored(uid))), r"not understand it \(C123\)"),
        (lambda uid: answer(415), "415 Unsupported Media Type without confirming"),
        (lambda uid: answer(400, b"Secret^Sally"), "400 Bad Request without confirming"),
    ],
)
def test_what_is_not_confirmed_is_not_stored(reply: object, said: str, instances: tuple[Instance, ...]) -> None:
    """And the next instance is still tried."""
    assert callable(reply)
    with scripted(reply(instances[0].sop_uid), confirmed) as pacs:
        first, second = store(Server(pacs.url), instances[:2])
    assert not first.stored
    assert re.search(said, first.words)
    assert "Secret" not in first.words
    assert second.stored
    with pytest.raises(NotStored, match=r"^1 of 2 objects are not stored: CT \(IM0001.dcm\): .*; stored: CT \(IM0002"):
        refuse_unstored([first, second], "Try again")


def test_remarks_are_told_and_no_failure(instances: tuple[Instance, ...]) -> None:
    reply = answer(202, as_json(stored(instances[0].sop_uid, 0xB000)))
    with scripted(reply) as pacs:
        (one,) = store(Server(pacs.url), instances[:1])
    assert one.stored
    assert one.words == "the PACS changed elements (B000)"
    refuse_unstored([one], "")


@pytest.mark.parametrize("death", [None, b"HTTP/1.1 20", answer(200, b"x" * 50)[:-10]])
def test_a_pacs_that_dies_in_the_middle_of_a_store(death: bytes | None, instances: tuple[Instance, ...]) -> None:
    """It answers for the first, then breaks off on every try: the second is not stored, the third not sent."""
    with scripted(confirmed, death) as pacs:
        receipts = store(Server(pacs.url, retries=2), instances)
        assert len(pacs.seen) == 1 + 3
    assert [one.stored for one in receipts] == [True, False, False]
    assert "after 3 tries" in receipts[1].words
    assert receipts[2].words == "not sent, because the PACS failed before"
    with pytest.raises(NotStored, match="2 of 3 objects are not stored"):
        refuse_unstored(receipts, "")


def test_a_store_that_breaks_off_once_is_made_again(instances: tuple[Instance, ...]) -> None:
    with scripted(None, confirmed) as pacs:
        assert [one.stored for one in store(Server(pacs.url), instances)] == [True] * 3
        assert len(pacs.seen) == 4
        assert pacs.seen[0].body == pacs.seen[1].body


def test_a_refused_login_ends_the_store(instances: tuple[Instance, ...]) -> None:
    with scripted(answer(401)) as pacs:
        receipts = store(Server(pacs.url), instances)
        assert len(pacs.seen) == 1
    assert "401 Unauthorized" in receipts[0].words
    assert not any(one.stored for one in receipts)

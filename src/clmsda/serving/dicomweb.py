"""A PACS over DICOMweb (PS3.18): find and pull a series (QIDO-RS, WADO-RS), store objects (STOW-RS).

Instances travel as the bytes of their files, both ways.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clmsda.errors import InputError
from clmsda.files import OutputError, is_unfinished, make_folder, temporary_folder
from clmsda.images.dicom_sorting import look_at
from clmsda.images.errors import SeriesNotFound, SeveralSeries
from clmsda.serving.errors import BadAddress, Refused, Unreachable
from clmsda.serving.instances import NOT_TRIED, Instance, Receipt, check_uid, receipt
from clmsda.serving.multipart import MOST_BYTES, NoFile, boundary_of, kind_of, parts
from clmsda.serving.web import Server, ask, connected, refuse, status_of

if TYPE_CHECKING:
    from requests import Response, Session

CHUNK_BYTES = 1 << 20
MOST_JSON_BYTES = 64 << 20
"""Of one answer that lists or confirms."""
MOST_PAGES = 1000
"""Of a listing that a PACS gives in parts."""

JSON = "application/dicom+json"
FILES = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""Whole files in the transfer syntax in which the PACS holds them."""

log = logging.getLogger(__name__)

_PULLED = re.compile(r"\d{5,}\.dcm")
"""How `pull` calls the files of a series."""

_STUDY, _SERIES, _MODALITY, _IMAGES = "0020000D", "0020000E", "00080060", "00201209"
_FAILED, _TAKEN, _SOP_UID, _FAILURE, _REMARK = "00081198", "00081199", "00081155", "00081197", "00081196"


@dataclass(frozen=True)
class Listed:
    """A series as a PACS lists it. images: None where it does not say how many."""

    study_uid: str
    series_uid: str
    modality: str
    images: int | None


def find_series(server: Server, series_uid: str, study_uid: str | None = None) -> Listed:
    """Where a series is filed. Raises SeriesNotFound, SeveralSeries (one UID in several studies), and as `pull`."""
    check_uid(series_uid, "series")
    within = f"/studies/{check_uid(study_uid, 'study')}" if study_uid else ""
    query = {"SeriesInstanceUID": series_uid, "includefield": [_STUDY, _MODALITY, _IMAGES]}
    items, is_whole = _list(server, f"{within}/series", query)
    found = [one for one in map(_listed, items) if one.series_uid == series_uid]
    if not found:
        where = f"study {study_uid} of {server.url}" if study_uid else server.url
        if not is_whole:
            raise Refused(f"{where} lists only a part of its series, without {series_uid}: give its study with --study")
        raise SeriesNotFound(f"there is no series {series_uid} in {where}")
    if not is_whole:
        log.warning("%s lists only a part of its series: another study may hold this one, too", server.url)
    if len({one.study_uid for one in found}) > 1:
        studies = ", ".join(sorted({one.study_uid for one in found}))
        raise SeveralSeries(
            f"{server.url} lists the series {series_uid} in several studies: give --study, of {studies}"
        )
    try:
        check_uid(found[0].study_uid, "study")
    except BadAddress as error:
        raise Refused(f"{server.url} lists the series {series_uid} without the UID of its study") from error
    return found[0]


def _list(server: Server, path: str, query: dict[str, Any]) -> tuple[list[Any], bool]:
    """All that a query finds, and whether that is all: a PACS may give it in pages (PS3.18, section 8.3.4.4)."""

    def take(response: Response) -> tuple[list[Any], bool]:
        if response.status_code == HTTPStatus.NO_CONTENT:
            return [], False
        refuse(response, server, HTTPStatus.OK)
        is_part = re.search(r"\b299\b", response.headers.get("Warning", "")) is not None
        return _json(response, server, list), is_part

    found: list[Any] = []
    last: list[Any] = []
    with connected(server) as session:
        for _ in range(MOST_PAGES):
            wanted = query | ({"offset": len(found)} if found else {})
            page, is_part = ask(server, session, take, "GET", path, params=wanted, headers={"Accept": JSON})
            if page and page == last:  # it does not know of pages, and gives the first one again
                return found, False
            found, last = found + page, page
            if not is_part or not page:
                return found, True
    return found, False


def pull(server: Server, series: Listed, folder: Path, progress: Callable[[int], None] | None = None) -> int:
    """Write every instance of a series as a file of `folder`, byte by byte as the PACS sends it; return how many.

    progress: told how many are there.
    Raises Unreachable, Refused (also where the PACS gives more or fewer instances than it lists, or none).
    """

    def take(response: Response) -> int:
        if response.status_code == HTTPStatus.NOT_FOUND:
            raise Refused(f"{server.url} lists the series {series.series_uid} but does not give it (404)")
        refuse(response, server, HTTPStatus.OK)
        for stale in folder.iterdir():  # of an attempt that broke off
            stale.unlink()
        count = 0
        try:
            for count, part in enumerate(_files(response, server), 1):
                (folder / f"{count:05d}.dcm").write_bytes(part)
                if progress is not None:
                    progress(count)
        except NoFile as error:
            raise Refused(f"{server.url} gives something else than the files of a series: {error}") from error
        return count

    path = f"/studies/{series.study_uid}/series/{series.series_uid}"
    with connected(server) as session:
        count = ask(server, session, take, "GET", path, headers={"Accept": FILES})
    if count != (series.images or count):
        raise Refused(
            f"{server.url} lists {series.images} instances of the series {series.series_uid} but gave {count}: "
            "ask again when it is complete"
        )
    if not count:
        raise Refused(f"{server.url} lists the series {series.series_uid} but gives no instance of it")
    return count


def _files(response: Response, server: Server) -> Iterator[bytes]:
    """The files of an answer to WADO-RS: the parts of a multipart one, or the only one as it is (PS3.18, 8.7.3)."""
    content_type = response.headers.get("Content-Type", "")
    boundary = boundary_of(content_type)
    if boundary is not None:
        yield from parts(response.iter_content(CHUNK_BYTES), boundary)
    elif kind_of(content_type) == "application/dicom":
        yield _one_file(response)
    else:
        raise Refused(f"{server.url} answers in another form than multipart/related: is it a DICOMweb service?")


def _one_file(response: Response) -> bytes:
    """A file without a boundary to end it: only a length, or chunks, tell that it is whole."""
    if "Content-Length" not in response.headers and response.headers.get("Transfer-Encoding", "").lower() != "chunked":
        raise NoFile("one file without its length, so that nobody can say whether it is whole")
    content = _limited(response, MOST_BYTES)
    if content[128:132] != b"DICM":
        raise NoFile("what is called a DICOM file is none")
    return content


def _limited(response: Response, most: int) -> bytes:
    """The whole answer. Raises NoFile beyond `most` bytes, whatever length it announces, unpacked or packed."""
    content = bytearray()
    for chunk in response.iter_content(CHUNK_BYTES):
        content += chunk
        if len(content) > most:
            raise NoFile(f"it has more than {most >> 20} MB")
    return bytes(content)


def pull_into(server: Server, series: Listed, folder: Path, progress: Callable[[int], None] | None = None) -> int:
    """Pull a series into a folder, all of it or nothing; return the number of files.

    The folder is new, or empty, or holds what a pull of the same series put there; where that is all that the PACS
    lists, it is left as it is. Raises OutputError, and what `pull` raises.
    """
    if is_there(series, folder):
        return series.images or 0
    # A temporary folder goes last, so what lies beside one was put there by a pull that was killed.
    begun = any(is_unfinished(path) for path in make_folder(folder).iterdir())
    with temporary_folder(folder) as temporary:
        rest = [path for path in folder.iterdir() if path != temporary]
        named = all(_PULLED.fullmatch(path.name) for path in rest)
        if not (named and (begun or all(_is_of(path, series) for path in rest))):
            raise OutputError(f"cannot write into {folder}: it is not empty; give a new folder")
        count = pull(server, series, temporary, progress)
        for path in rest:
            path.unlink()
        for path in sorted(temporary.iterdir()):
            path.rename(folder / path.name)
    return count


def is_there(series: Listed, folder: Path) -> bool:
    """Whether a folder holds what a pull puts there: every file that the PACS lists of the series, and nothing else."""
    if series.images is None or not folder.is_dir():
        return False
    files = list(folder.iterdir())
    return len(files) == series.images and all(
        _PULLED.fullmatch(path.name) is not None and _is_of(path, series) for path in files
    )


def _is_of(path: Path, series: Listed) -> bool:
    """Whether a file is a DICOM file of a series."""
    try:
        file = look_at(path)
    except (InputError, OSError):
        return False
    return file is not None and file.series == series.series_uid


def store(
    server: Server,
    instances: Sequence[Instance],
    study_uid: str | None = None,
    progress: Callable[[Receipt], None] | None = None,
) -> tuple[Receipt, ...]:
    """Store instances, one request for each, and say of every one whether the PACS confirmed it.

    study_uid: what the PACS must file them into. An instance that is refused for itself stops nothing; after a
    refused login, or a failure that repeats on every try, the rest is not sent. Raises nothing of that: see
    `refuse_unstored`.
    """
    receipts: list[Receipt] = []
    where = f"/studies/{check_uid(study_uid, 'study')}" if study_uid else "/studies"
    with connected(server) as session:
        for instance in instances:
            try:
                receipts.append(_store(server, session, instance, where))
            except (Refused, Unreachable) as error:
                receipts.append(Receipt(instance, False, str(error)))
                break
            if progress is not None:
                progress(receipts[-1])
    return (*receipts, *(Receipt(instance, False, NOT_TRIED) for instance in instances[len(receipts) :]))


def _store(server: Server, session: Session, instance: Instance, where: str) -> Receipt:
    """One STOW-RS request with one instance (PS3.18, section 10.5)."""
    boundary = secrets.token_hex(16)
    edge = b"--" + boundary.encode()
    head = b"Content-Type: application/dicom"
    body = b"\r\n".join([edge, head, b"", instance.path.read_bytes(), edge + b"--", b""])

    def take(response: Response) -> Receipt:
        if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) or response.is_redirect:
            refuse(response, server)
        return _confirmation(response, server, instance)

    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    headers = {"Content-Type": kind, "Accept": JSON}
    return ask(server, session, take, "POST", where, data=body, headers=headers)


def _confirmation(response: Response, server: Server, instance: Instance) -> Receipt:
    """What the answer to a store says of the instance (PS3.18, section I.2.2). Silence is no confirmation."""
    taken_all = response.status_code in (HTTPStatus.OK, HTTPStatus.ACCEPTED)
    try:
        answer = _json(response, server, dict)
    except Refused:
        answer = {}
    for item in _items(answer, _FAILED):
        if _value(item, _SOP_UID) == instance.sop_uid:
            return receipt(instance, _number(item, _FAILURE) or 0x0110)
    for item in _items(answer, _TAKEN):
        if _value(item, _SOP_UID) == instance.sop_uid and taken_all:
            return receipt(instance, _number(item, _REMARK) or 0)
    return Receipt(instance, False, f"the PACS answers {status_of(response)} without confirming it")


def _json(response: Response, server: Server, kind: type) -> Any:
    try:
        answer = json.loads(_limited(response, MOST_JSON_BYTES))
    except NoFile as error:
        raise Refused(f"{server.url} gives a list without end: {error}") from error
    except (ValueError, RecursionError):  # nested without end
        answer = None
    if not isinstance(answer, kind):
        raise Refused(f"{server.url} answers without DICOM JSON: is it the address of a DICOMweb service?")
    return answer


def _listed(item: Any) -> Listed:
    return Listed(
        _value(item, _STUDY) or "", _value(item, _SERIES) or "", _value(item, _MODALITY) or "", _number(item, _IMAGES)
    )


def _items(answer: Any, tag: str) -> list[Any]:
    """The values of an attribute in DICOM JSON (PS3.18, annex F); none where it is absent or malformed."""
    element = answer.get(tag) if isinstance(answer, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _value(item: Any, tag: str) -> str | None:
    return next((str(value) for value in _items(item, tag) if value is not None), None)


def _number(item: Any, tag: str) -> int | None:
    value = _value(item, tag)
    return int(value) if value is not None and value.isdecimal() and len(value) < 20 else None

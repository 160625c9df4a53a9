"""A PACS over DICOMweb (PS3.18): find and pull a series (QIDO-RS, WADO-RS), store objects (STOW-RS).

Instances travel as the bytes of their files, both ways.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from clmsda.files import OutputError, make_folder
from clmsda.images.errors import SeriesNotFound, SeveralSeries
from clmsda.serving.errors import Refused, Unreachable
from clmsda.serving.instances import NOT_TRIED, Instance, Receipt, check_uid, receipt
from clmsda.serving.multipart import boundary_of, parts
from clmsda.serving.web import Server, ask, connected, refuse, status_of

if TYPE_CHECKING:
    from requests import Response, Session

CHUNK_BYTES = 1 << 20

JSON = "application/dicom+json"
FILES = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""Whole files in the transfer syntax in which the PACS holds them."""

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

    def take(response: Response) -> list[Listed]:
        if response.status_code == HTTPStatus.NO_CONTENT:
            return []
        refuse(response, server, HTTPStatus.OK)
        return [one for one in map(_listed, _json(response, server, list)) if one.series_uid == series_uid]

    query = {"SeriesInstanceUID": series_uid, "includefield": [_STUDY, _MODALITY, _IMAGES]}
    with connected(server) as session:
        found = ask(server, session, take, "GET", f"{within}/series", params=query, headers={"Accept": JSON})
    if not found:
        where = f"study {study_uid} of {server.url}" if study_uid else server.url
        raise SeriesNotFound(f"there is no series {series_uid} in {where}")
    if len({one.study_uid for one in found}) > 1:
        studies = ", ".join(sorted({one.study_uid for one in found}))
        raise SeveralSeries(
            f"{server.url} lists the series {series_uid} in several studies: give --study, of {studies}"
        )
    return found[0]


def pull(server: Server, series: Listed, folder: Path, progress: Callable[[int], None] | None = None) -> int:
    """Write every instance of a series as a file of `folder`, byte by byte as the PACS sends it; return how many.

    progress: told how many are there.
    Raises Unreachable, Refused (also where the PACS gives more or fewer instances than it lists).
    """

    def take(response: Response) -> int:
        if response.status_code == HTTPStatus.NOT_FOUND:
            raise Refused(f"{server.url} lists the series {series.series_uid} but does not give it (404)")
        refuse(response, server, HTTPStatus.OK)
        boundary = boundary_of(response.headers.get("Content-Type", ""))
        if boundary is None:
            raise Refused(f"{server.url} answers in another form than multipart/related: is it a DICOMweb service?")
        for stale in folder.iterdir():  # of an attempt that broke off
            stale.unlink()
        count = 0
        for count, part in enumerate(parts(response.iter_content(CHUNK_BYTES), boundary), 1):
            (folder / f"{count:05d}.dcm").write_bytes(part)
            if progress is not None:
                progress(count)
        return count

    path = f"/studies/{series.study_uid}/series/{series.series_uid}"
    with connected(server) as session:
        count = ask(server, session, take, "GET", path, headers={"Accept": FILES})
    if count != (series.images or count):
        raise Refused(
            f"{server.url} lists {series.images} instances of the series {series.series_uid} but gave {count}: "
            "ask again when it is complete"
        )
    return count


def pull_into(server: Server, series: Listed, folder: Path, progress: Callable[[int], None] | None = None) -> int:
    """Pull a series into a new or empty folder, all of it or nothing; return the number of files.

    Raises OutputError, and what `pull` raises.
    """
    if any(make_folder(folder).iterdir()):
        raise OutputError(f"cannot write into {folder}: it is not empty; give a new folder")
    with TemporaryDirectory(prefix=".clmsda-", dir=folder) as temporary:
        count = pull(server, series, Path(temporary), progress)
        for path in sorted(Path(temporary).iterdir()):
            path.rename(folder / path.name)
    return count


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
        answer = json.loads(response.content)
    except ValueError:
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
    return int(value) if value is not None and value.isdecimal() else None

"""What is there, opening it, and closing it: /api/desk, /api/open, /api/upload, DELETE /api/ct/{ct}."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clmsda.errors import InputError
from clmsda.images.errors import NotCT
from clmsda.images.voxel_files import is_voxel_file
from clmsda.serving.http.answers import Answer, Nothing, without
from clmsda.serving.http.bodies import BadRequest, said
from clmsda.serving.http.given import series_in
from clmsda.serving.http.served import Served, served_by
from clmsda.serving.http.uploads import received, shown_name
from clmsda.serving.sessions import Opened
from clmsda.serving.sessions.session import ORGANS
from clmsda.version import software_version

NOTICE = "For research use only. Not for clinical decisions."

Say = Callable[[str], None]


@dataclass(frozen=True)
class _InPacs:
    __pydantic_config__: ClassVar = {"extra": "forbid"}
    series: str


@dataclass(frozen=True)
class _Wanted:
    """Which CT to open: one that was given (and which series), one that was sent, or one of the PACS."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    given: int | None = None
    upload: str | None = None
    series: str | None = None
    pacs: _InPacs | None = None


def routes() -> list[Route]:
    return [
        Route("/desk", _desk),
        Route("/open", _open, methods=["POST"]),
        Route("/upload", _upload, methods=["POST"]),
        Route("/ct/{ct}", _close, methods=["DELETE"]),
    ]


async def _desk(request: Request) -> Response:
    served = served_by(request)
    model = served.desk.model
    return Answer(
        {
            "notice": NOTICE,
            "version": software_version(),
            "model": {"name": model.name, "version": model.version},
            "open": [_listed(key, one) for key, one in served.desk.opened().items() if one.listed],
            "given": [one.to_json(index) for index, one in enumerate(served.given)],
            "saves": {"folder": served.out is not None, "pacs": served.pacs is not None},
            "pacs": served.pacs is not None,
            "organs": list(ORGANS),
            "most_upload_bytes": served.most_bytes,
        }
    )


def _listed(key: str, opened: Opened) -> dict[str, Any]:
    grid = opened.session.volume.grid
    return {"id": key, "name": opened.name, "shape": list(grid.shape), "spacing_mm": grid.spacing_mm.tolist()}


async def _open(request: Request) -> Response:
    served, wanted = served_by(request), await said(request, _Wanted)
    named = [wanted.given is not None, wanted.upload is not None, wanted.pacs is not None]
    if sum(named) != 1:
        raise BadRequest("expected one of given, upload and pacs")
    if wanted.pacs is not None:
        job = _pull(served, wanted.pacs.series)
    elif wanted.upload is not None:
        job = _open_upload(served, wanted.upload, wanted.series)
    else:
        job = _open_given(served, wanted.given or 0, wanted.series)
    return Answer({"job": job}, 202)


def _open_given(served: Served, index: int, series: str | None) -> str:
    if not 0 <= index < len(served.given):
        raise Nothing(f"there is no CT {index} among the {len(served.given)} that were given at the start")
    path = served.given[index].path

    def work(say: Say) -> dict[str, Any]:
        say("reading the CT")
        return {"id": served.desk.read(path, series, name=path.name)}

    return served.jobs.ask(served.files, "open", work)


def _open_upload(served: Served, token: str, series: str | None) -> str:
    """A series of an upload that holds several, which waits in its folder."""
    upload = served.waiting.pop(token)

    def work(say: Say) -> dict[str, Any]:
        say("reading the CT")
        try:
            return {"id": _read(served, upload.folder, upload.path, series, upload.name)}
        except InputError as error:
            served.waiting.put_back(token, upload)
            raise without(upload.path, error) from None

    return served.jobs.ask(served.files, "open", work)


async def _upload(request: Request) -> Response:
    served = served_by(request)
    async with received(request, served) as (folder, path):
        name = shown_name(request.query_params.get("name", ""), path.name if path.is_file() else "upload")
        job = served.jobs.ask(served.files, "open", lambda say: _take(served, folder, path, name, say))
    return Answer({"job": job}, 202)


def _take(served: Served, folder: Path, path: Path, name: str, say: Say) -> dict[str, Any]:
    """Open an upload; where it holds several series, list them and let it wait."""
    say("reading the CT")
    try:
        series = None if is_voxel_file(path) else series_in(path)
        if series is not None and len(series) > 1:
            return {"upload": served.waiting.put(folder, path, name), "series": series}
        return {"id": _read(served, folder, path, series[0]["uid"] if series else None, name)}
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, InputError):  # without the name of a folder that nobody knows
            raise without(folder / "files", error) from None
        raise


def _read(served: Served, folder: Path, path: Path, series: str | None, name: str) -> str:
    return served.desk.read(path, series, name=name, private=folder)


def _pull(served: Served, uid: str) -> str:
    """Fetch a series by DICOMweb, then open it."""
    server = served.pacs
    if server is None:
        raise BadRequest("no PACS was named at the start: start clmsda serve with --pacs URL")
    from clmsda.serving.instances import check_uid

    check_uid(uid, "series")

    def work(say: Say) -> dict[str, Any]:
        from clmsda.serving.dicomweb import find_series, pull_into

        say("asking the PACS")
        listed = find_series(server, uid)
        if listed.modality not in ("CT", ""):
            raise NotCT(f"expected a series of CT slices, found {listed.modality}: {uid}")
        folder = served.new_folder()
        try:
            total = listed.images or "?"
            pull_into(server, listed, folder / "series", lambda count: say(f"{count} of {total} slices"))
            say("reading the CT")
            return {"id": _read(served, folder, folder / "series", uid, f"series {uid}")}
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    return served.jobs.ask(served.files, "pull", work)


async def _close(request: Request) -> Response:
    served, key = served_by(request), request.path_params["ct"]
    served.desk.get(key)
    await run_in_threadpool(served.desk.close, key)
    return Answer({})

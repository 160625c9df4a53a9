"""What a person says of lesions: /api/ct/{ct}/prompt, start, undo, redo, clear, lesions/{label}."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clmsda.errors import InputError, heard
from clmsda.images import read_mask
from clmsda.prompts import from_json
from clmsda.serving.http.answers import Answer, without
from clmsda.serving.http.bodies import BadRequest, number, said
from clmsda.serving.http.routes_ct import session_json
from clmsda.serving.http.served import Served, opened_in, served_by
from clmsda.serving.http.uploads import received
from clmsda.serving.sessions import Session, SessionError

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Said:
    """label: of the lesion that it is about, None for a new one. said: as `clmsda.prompts.from_json` reads it."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    said: dict[str, Any]
    label: Annotated[int, Field(ge=1)] | None = None


@dataclass(frozen=True)
class _Described:
    __pydantic_config__: ClassVar = {"extra": "forbid"}
    name: str | None = None
    organ: str | None = None
    accepted: bool | None = None


def routes() -> list[Route]:
    return [
        Route("/ct/{ct}/prompt", _prompt, methods=["POST"]),
        Route("/ct/{ct}/start", _start, methods=["POST"]),
        Route("/ct/{ct}/undo", _changing(lambda session: session.undo()), methods=["POST"]),
        Route("/ct/{ct}/redo", _changing(lambda session: session.redo()), methods=["POST"]),
        Route("/ct/{ct}/clear", _changing(lambda session: session.clear()), methods=["POST"]),
        Route("/ct/{ct}/lesions/{label}", _describe, methods=["PATCH"]),
        Route("/ct/{ct}/lesions/{label}", _delete, methods=["DELETE"]),
    ]


async def _prompt(request: Request) -> Response:
    served, key, session = served_by(request), request.path_params["ct"], opened_in(request).session
    wanted = await said(request, _Said)
    prompt, label = from_json(wanted.said), wanted.label
    if label is not None:
        session.lesion(label)

    def work(say: Say) -> dict[str, Any]:
        return {"label": served.desk.get(key).session.prompt(prompt, label, say).label}

    return Answer({"job": served.jobs.ask(served.desk.worker, f"prompt {wanted.said['kind']}", work, key)}, 202)


async def _start(request: Request) -> Response:
    """Take the mask in the body for a lesion: a new one, or what ?label= is from now on."""
    served, key, session = served_by(request), request.path_params["ct"], opened_in(request).session
    text = request.query_params.get("label")
    label = None if text is None else number(text, "label")
    if label is not None:
        session.lesion(label)
    async with received(request, served) as (folder, path):
        job = served.jobs.ask(served.files, "start", lambda say: _take(served, key, folder, path, label, say), key)
    return Answer({"job": job}, 202)


def _take(served: Served, key: str, folder: Path, path: Path, label: int | None, say: Say) -> dict[str, Any]:
    say("reading the mask")
    try:
        session = served.desk.get(key).session
        with heard(here=True):
            mask = read_mask(path, grid=session.volume.grid)
        labels = mask.voxels.max()
        if labels > 1 and (mask.voxels[mask.voxels > 0] != labels).any():
            raise SessionError("the mask holds several lesions: give a file with one")
        return {"label": session.start(mask.voxels > 0, label).label}
    except InputError as error:
        raise without(folder / "files", error) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _changing(change: Callable[[Session], None]) -> Callable[..., Any]:
    """A route that changes a session at once and answers with what it is then."""

    async def route(request: Request) -> Response:
        return await _changed(request, change)

    return route


async def _changed(request: Request, change: Callable[[Session], None]) -> Response:
    opened = opened_in(request)
    await run_in_threadpool(change, opened.session)
    return Answer(session_json(request.path_params["ct"], opened))


async def _describe(request: Request) -> Response:
    label, wanted = number(request.path_params["label"], "label"), await said(request, _Described)
    if wanted == _Described():
        raise BadRequest("expected name, organ or accepted in the body")
    return await _changed(
        request,
        lambda session: session.describe(label, name=wanted.name, organ=wanted.organ, accepted=wanted.accepted),
    )


async def _delete(request: Request) -> Response:
    label = number(request.path_params["label"], "label")
    return await _changed(request, lambda session: session.delete(label))

"""What is taken home: /api/ct/{ct}/save/{kind} to download, /api/ct/{ct}/save to the folder or the PACS."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from clmsda.files import make_folder, replacing
from clmsda.serving import saving
from clmsda.serving.http.answers import Answer, Nothing
from clmsda.serving.http.bodies import BadRequest, said
from clmsda.serving.http.routes_jobs import until_done
from clmsda.serving.http.served import Served, opened_in, served_by
from clmsda.serving.http.uploads import safe_name
from clmsda.serving.saving.kinds import OBJECTS
from clmsda.serving.sessions import Busy, Opened
from clmsda.serving.web import Server

LONGEST_S = 600.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class _Wanted:
    __pydantic_config__: ClassVar = {"extra": "forbid"}
    kinds: Annotated[list[str], Field(min_length=1, max_length=len(saving.KINDS))]
    to: Literal["folder", "pacs"]


def routes() -> list[Route]:
    return [
        Route("/ct/{ct}/save/{kind}", _download),
        Route("/ct/{ct}/save", _save, methods=["POST"]),
    ]


async def _download(request: Request) -> Response:
    served, opened, kind = served_by(request), opened_in(request), request.path_params["kind"]
    _check(kind)
    job = served.files.submit(f"save {kind}", lambda say: written(served, opened, [kind], say)[kind])
    await until_done(job.future, LONGEST_S)
    if not job.future.done():
        raise Busy("writing the file takes too long: try again later")
    path: Path = job.future.result()
    return FileResponse(path, media_type=saving.KINDS[kind], filename=f"{title_of(opened)}-{kind}")


async def _save(request: Request) -> Response:
    served, opened, key = served_by(request), opened_in(request), request.path_params["ct"]
    wanted = await said(request, _Wanted)
    for kind in wanted.kinds:
        _check(kind)
    if wanted.to == "folder":
        if served.out is None:
            raise BadRequest("no folder was named at the start: start clmsda serve with --out FOLDER")
        folder = served.out / f"{title_of(opened)}-{opened.session.ct[:8]}"
        job = served.jobs.ask(served.files, "save", lambda say: _to_folder(served, key, wanted.kinds, folder, say), key)
    else:
        server = _pacs(served, wanted.kinds)
        job = served.jobs.ask(served.files, "store", lambda say: _to_pacs(served, key, wanted.kinds, server, say), key)
    return Answer({"job": job}, 202)


def _check(kind: str) -> None:
    if kind not in saving.KINDS:
        raise Nothing(f"expected one of {', '.join(saving.KINDS)}, found {kind[:40]!r}")


def _pacs(served: Served, kinds: list[str]) -> Server:
    if served.pacs is None:
        raise BadRequest("no PACS was named at the start: start clmsda serve with --pacs URL")
    others = [kind for kind in kinds if kind not in OBJECTS]
    if others:
        raise BadRequest(f"a PACS takes {', '.join(OBJECTS)}, not {', '.join(others)}")
    return served.pacs


def title_of(opened: Opened) -> str:
    """A CT's name as a part of file names."""
    return safe_name(opened.name).split(".")[0] or "ct"


def written(served: Served, opened: Opened, kinds: list[str], say: Say) -> Mapping[str, Path]:
    return saving.write(opened, kinds, served.folder_of(opened) / "saved", say)


def _to_folder(served: Served, key: str, kinds: list[str], folder: Path, say: Say) -> dict[str, Any]:
    paths = written(served, served.desk.get(key), kinds, say)
    make_folder(folder)
    for kind, path in paths.items():
        with replacing(folder / kind) as temporary:
            shutil.copyfile(path, temporary)
    return {"written": sorted(f"{folder.name}/{kind}" for kind in paths)}


def _to_pacs(served: Served, key: str, kinds: list[str], server: Server, say: Say) -> dict[str, Any]:
    """Store objects, and say of each whether the PACS confirmed it. Raises NotStored."""
    from clmsda.serving.dicomweb import store
    from clmsda.serving.instances import read_instances, refuse_unstored

    paths = written(served, served.desk.get(key), kinds, say)
    say("storing in the PACS")
    receipts = store(server, read_instances([paths[kind] for kind in OBJECTS if kind in paths]))
    refuse_unstored(receipts, "What is there stays there: save again for the rest")
    return {"written": [str(one.instance) for one in receipts], "remarks": [one.words for one in receipts if one.words]}

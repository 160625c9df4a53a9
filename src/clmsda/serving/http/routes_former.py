"""The scan before: /api/ct/{ct}/former takes its measurements and answers how the lesions responded since."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clmsda.errors import InputError, heard
from clmsda.response import Statements, read_time_points, respond
from clmsda.response import statements as says
from clmsda.response.reading import MOST_BYTES
from clmsda.serving.http import bodies
from clmsda.serving.http.answers import Answer, Nothing, without
from clmsda.serving.http.routes_saving import written
from clmsda.serving.http.served import Served, opened_in, served_by
from clmsda.serving.http.uploads import safe_name
from clmsda.serving.sessions import Opened

FOLDER = "former"


def routes() -> list[Route]:
    return [
        Route("/ct/{ct}/former", _take, methods=["POST"]),
        Route("/ct/{ct}/former", _again),
    ]


async def _take(request: Request) -> Response:
    """Keep the measurements of a former scan (JSON or SR) as long as the CT is open, where they can be used."""
    served, opened = served_by(request), opened_in(request)
    folder = served.new_folder()
    try:
        path = folder / safe_name(request.query_params.get("name", ""))
        await bodies.to_file(request, path, MOST_BYTES)
        answer = await run_in_threadpool(_response, served, opened, path, request.query_params)
        await run_in_threadpool(_keep, served, opened, folder)
        return Answer(answer)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keep(served: Served, opened: Opened, folder: Path) -> None:
    place = served.folder_of(opened) / FOLDER
    shutil.rmtree(place, ignore_errors=True)
    folder.rename(place)


async def _again(request: Request) -> Response:
    served, opened = served_by(request), opened_in(request)
    return Answer(await run_in_threadpool(_kept, served, opened, request.query_params))


def _kept(served: Served, opened: Opened, said: QueryParams) -> dict[str, Any]:
    place = served.folder_of(opened) / FOLDER
    kept = list(place.iterdir()) if place.is_dir() else []
    if not kept:
        raise Nothing("no former scan was given: send its measurements (JSON or SR) first")
    return _response(served, opened, kept[0], said)


def _response(served: Served, opened: Opened, former: Path, said: QueryParams) -> dict[str, Any]:
    """As `clmsda response FORMER NOW` has it, with its statements, and the sum and category beside."""
    now = written(served, opened, ["measurements.json"], lambda text: None)["measurements.json"]
    try:
        with heard(here=True):
            report = respond(read_time_points([former, now]), _statements(said))
    except InputError as error:
        raise without(former.parent, without(now.parent, error)) from None
    content = report.to_json()
    follow_up = content["follow_ups"][0]
    sums = {
        "baseline_mm": follow_up["baseline_sum_mm"],
        "mm": follow_up["sum_mm"],
        "change_percent": follow_up["change_from_baseline_percent"],
    }
    return content | {"sum": sums, "category": follow_up["overall_response"]}


def _statements(said: QueryParams) -> Statements:
    """What a person says beyond the measurements, by the names of the command's options. Raises StatementError."""
    return Statements(
        organs=says.parse_organs(said.getlist("organ"), 1),
        targets=says.parse_labels(said.getlist("target"), "target"),
        links=says.parse_links(said.getlist("same"), 1),
        gone=says.parse_places(said.getlist("gone"), "gone", 1),
        too_small=says.parse_places(said.getlist("too_small"), "too_small", 1),
        progressing=says.parse_places(said.getlist("progression"), "progression", 1),
        new=says.parse_new(said.getlist("new_lesion"), 1),
        not_new=says.parse_places(said.getlist("not_new"), "not_new", 1),
    )

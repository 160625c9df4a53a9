"""How far a job is, and calling it off: /api/jobs/{job}."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clmsda.serving.http.answers import Answer, line_of
from clmsda.serving.http.bodies import BadRequest
from clmsda.serving.http.jobs import Asked
from clmsda.serving.http.served import served_by

LONGEST_WAIT_S = 25.0


def routes() -> list[Route]:
    return [
        Route("/jobs/{job}", _progress),
        Route("/jobs/{job}", _cancel, methods=["DELETE"]),
    ]


async def _progress(request: Request) -> Response:
    """wait: seconds for which the answer may be held back until the job is done."""
    asked = served_by(request).jobs.get(request.path_params["job"])
    await until_done(asked.job.future, _seconds(request.query_params.get("wait", "0")))
    return Answer(_record(asked))


async def _cancel(request: Request) -> Response:
    asked = served_by(request).jobs.get(request.path_params["job"])
    asked.job.cancel()
    return Answer(_record(asked))


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_WAIT_S:
        raise BadRequest(f"expected wait=SECONDS of 0 to {LONGEST_WAIT_S:g}, found {text[:40]!r}")
    return seconds


async def until_done(future: Future[Any], seconds: float) -> None:
    """Wait for another thread's work, for so long at most, without a thread of its own."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def tell(future: Future[Any]) -> None:
        with suppress(RuntimeError):  # the server has ended meanwhile
            loop.call_soon_threadsafe(done.set)

    future.add_done_callback(tell)
    with suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), seconds)


def _record(asked: Asked) -> dict[str, Any]:
    record = asked.worker.progress(asked.job) | {"error": None, "result": None}
    if record["done"]:
        error = asked.job.future.exception()
        record |= {"error": line_of(error)} if error is not None else {"result": asked.job.future.result()}
        record |= {"doing": "done", "share": 1.0, "seconds_left": 0.0}
    return record

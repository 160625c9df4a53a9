"""The application: the page, its API, and the protocols of other people's viewers, all behind one guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from clmsda.serving.http import (
    monai_label,
    nninteractive,
    routes_ct,
    routes_desk,
    routes_former,
    routes_jobs,
    routes_lesions,
    routes_saving,
)
from clmsda.serving.http.access import Access
from clmsda.serving.http.answers import HANDLERS, Nothing, refusal
from clmsda.serving.http.guard import Guard, Keyed
from clmsda.serving.http.served import Served

PAGE = Path(__file__).parents[1] / "page"
API = (routes_desk, routes_jobs, routes_ct, routes_lesions, routes_saving, routes_former)
OPEN = ("/healthz", "/auth/", "/auth/token")
"""Routes of protocols that never need a key."""

IDLE_S = 4 * 3600.0
"""A CT that nobody asked for so long is closed; its lesions stay on disk."""
ROUND_S = 60.0


def build(served: Served, access: Access) -> ASGIApp:
    """The ASGI application. access: who may ask."""

    async def start(request: Request) -> Response:
        """The page; with the key in the address, the cookie that holds it from then on."""
        key = request.query_params.get("key")
        if key is None:
            if not (PAGE / "index.html").is_file():
                raise Nothing("this installation of clmsda has no page: install it again")
            return await pages.get_response("index.html", request.scope)
        if not access.opens(key):
            return refusal(401, "the key in this address is wrong: open the address that clmsda printed")
        answer = RedirectResponse("/", 303)
        answer.set_cookie(access.cookie, access.ticket, httponly=True, samesite="strict")
        return answer

    pages = StaticFiles(directory=PAGE, check_dir=False)
    api = [route for module in API for route in module.routes()]
    keyed = Middleware(Keyed, access, changing=True)
    app = Starlette(
        routes=[
            Route("/", start),
            Mount("/api", routes=api, middleware=[keyed]),
            *_protocols(served, access),
            *([Mount("/", pages)] if PAGE.is_dir() else []),
        ],
        exception_handlers=HANDLERS,
        lifespan=_alive,
    )
    app.state.served = served
    return Guard(app, access)


def _protocols(served: Served, access: Access) -> list[Route]:
    """Those of other people's viewers, which need the key only where a person gave one."""
    routes = [*nninteractive.routes(served.desk), *monai_label.routes(served, access)]
    for route in routes:
        if access.keyed and route.path not in OPEN:
            route.app = Keyed(route.app, access, changing=False)
    return routes


@asynccontextmanager
async def _alive(app: Starlette) -> AsyncIterator[None]:
    """While the server runs, what is idle is closed; then what still runs is called off."""
    served: Served = app.state.served
    rounds = asyncio.create_task(_close_idle(served))
    try:
        yield
    finally:
        rounds.cancel()
        with suppress(asyncio.CancelledError):
            await rounds


async def _close_idle(served: Served) -> None:
    while True:
        await asyncio.sleep(ROUND_S)
        await asyncio.to_thread(served.desk.close_idle, IDLE_S, served.jobs.is_busy)
        await asyncio.to_thread(served.waiting.forget)

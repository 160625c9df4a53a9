"""A server on loopback in a thread, for clients of other people that know nothing but HTTP."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from clmsda.serving.http.access import Access
from clmsda.serving.http.app import build
from clmsda.serving.http.given import given_as, look_through
from clmsda.serving.http.served import Served
from clmsda.serving.sessions import Desk


def whole(desk: Desk, private: Path, *given: Path, key: str | None = None, out: Path | None = None) -> ASGIApp:
    """All that `clmsda serve` serves."""
    private.mkdir(exist_ok=True)
    access = Access() if key is None else Access(key=key, keyed=True)
    served = Served(desk, private, given_as(given), out)
    look_through(served.given)
    return build(served, access)


@contextmanager
def serving(app: ASGIApp) -> Iterator[str]:
    """The address of an application."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)

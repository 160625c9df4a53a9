"""The server as a process: its port, its folders, its end."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from clmsda.errors import InputError
from clmsda.files import make_folder
from clmsda.serving.http.access import LOOPBACK, Access
from clmsda.serving.http.app import build
from clmsda.serving.http.served import Served

LAST_WORDS_S = 2
"""So long may answers that have begun go on when the server ends."""
STOPPING_S = 3.0


class PortTaken(InputError):
    """An address where this server cannot listen."""


class StateTaken(InputError):
    """A folder in which another server keeps its sessions."""


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address of this machine; port 0 takes a free one. Raises PortTaken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two servers listen at once
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PortTaken(
            f"cannot listen at {host}:{port} ({reason}): give another --port, or end what is there"
        ) from error
    return listening


def is_loopback(host: str) -> bool:
    return host in LOOPBACK


def state_folder(out: Path | None) -> Path:
    """Where sessions are kept: in the folder for results, or where this system keeps the state of programs."""
    if out is not None:
        return out / "sessions"
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "state") / "clmsda"


@contextmanager
def owned(folder: Path) -> Iterator[Path]:
    """A state folder that no other server uses meanwhile, and in it a private one for uploads, which is removed.

    What a server that was killed left among its uploads goes now. Raises StateTaken, OutputError.
    """
    make_folder(folder)
    folder.chmod(0o700)
    with open(folder / "lock", "a") as lock:
        _take(lock, folder)
        private = folder / "uploads"
        shutil.rmtree(private, ignore_errors=True)
        private.mkdir(mode=0o700)
        try:
            yield private
        finally:
            shutil.rmtree(private, ignore_errors=True)


def _take(lock: Any, folder: Path) -> None:
    """The system lets go of it when the process ends, however it does."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise StateTaken(
            f"another clmsda serve keeps its sessions in {folder}: end it, or give this one its own folder with --out"
        ) from error


def run(served: Served, access: Access, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C or a signal. ready: called when the first request can be answered.

    Nothing of a request is logged: an address may name a patient's file.
    """
    for name in ("uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        build(served, access),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=LAST_WORDS_S,
        ws="none",
    )
    try:
        _Server(config, ready).run(sockets=[listening])
    finally:
        served.files.stop(STOPPING_S)
        served.desk.worker.stop(STOPPING_S)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

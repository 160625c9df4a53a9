"""`Served`: what all routes share. Paths are those given at the start; no request names another."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request

from clmsda.serving.http.given import Given
from clmsda.serving.http.jobs import Jobs
from clmsda.serving.http.waiting import Waiting
from clmsda.serving.sessions import Desk, Opened, Worker
from clmsda.serving.web import Server

READERS = 3
"""Files are read and written, and a PACS is asked, for so many at once."""


@dataclass(eq=False)
class Served:
    """desk: the open CTs. given: CTs named at the start. private: a folder for uploads, of this process alone.

    out: where results go, if anywhere. pacs: where series come from and objects go, if anywhere.
    """

    desk: Desk
    private: Path
    given: tuple[Given, ...] = ()
    out: Path | None = None
    pacs: Server | None = None
    jobs: Jobs = field(default_factory=Jobs)
    waiting: Waiting = field(default_factory=Waiting)
    files: Worker = field(default_factory=lambda: Worker(READERS))

    @property
    def most_bytes(self) -> int:
        """The largest upload."""
        return int(self.desk.most_mb * 2**20)

    def new_folder(self) -> Path:
        """A folder that nobody else can read."""
        folder = self.private / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        return folder

    def folder_of(self, opened: Opened) -> Path:
        """A CT's own folder, which goes when it is closed."""
        with opened.saving:
            if opened.private is None:
                opened.private = self.new_folder()
            return opened.private


def served_by(request: Request) -> Served:
    served: Served = request.app.state.served
    return served


def opened_in(request: Request) -> Opened:
    """The CT that a request's address names. Raises NotOpen."""
    return served_by(request).desk.get(request.path_params["ct"])

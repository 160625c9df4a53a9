"""`Desk`: the CTs that are open, one model and one worker for all of them."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from clmsda.errors import heard
from clmsda.geometry import Volume
from clmsda.images import read_ct
from clmsda.models import Model
from clmsda.serving.sessions.errors import Busy, NotOpen, SessionError
from clmsda.serving.sessions.keeping import digest
from clmsda.serving.sessions.session import Session
from clmsda.serving.sessions.worker import Worker

MOST_MB = 2048
"""CTs that are open may hold so much memory together."""


@dataclass(eq=False)
class Opened:
    """A CT that is open. path, series: where it was read from, None for voxels that a program sent.

    name: for people. warnings: what was said when it was read. private: a folder of its own, which goes with it.
    listed: whether it is offered to everybody; what another viewer sent is that viewer's. used: when, last
    (`time.monotonic`). saving: held while results are written.
    """

    session: Session
    name: str
    path: Path | None = None
    series: str | None = None
    warnings: tuple[str, ...] = ()
    private: Path | None = None
    listed: bool = True
    used: float = field(default_factory=time.monotonic)
    saving: threading.Lock = field(default_factory=threading.Lock)


class Desk:
    """Opened CTs by an id that cannot be guessed. folder: where sessions are kept, each by its CT's digest; or nowhere.

    most_mb: beyond this much in open CTs a further one is refused. Methods may be called from any thread.
    """

    def __init__(self, model: Model, folder: Path | None = None, *, most_mb: float = MOST_MB) -> None:
        self.model, self.folder, self.most_mb = model, folder, most_mb
        self.worker = Worker()
        self._open: dict[str, Opened] = {}
        self._lock = threading.RLock()
        self._putting = threading.Lock()

    def read(self, path: Path, series: str | None = None, *, name: str = "", private: Path | None = None) -> str:
        """Read a CT and open it; what is open already keeps its id. Raises InputError, Busy."""
        with self._lock:
            for key, opened in self._open.items():
                if opened.path == path and opened.series == series:
                    opened.used = time.monotonic()
                    _remove(private)
                    return key
        with heard(here=True) as warnings:
            volume = read_ct(path, series=series)
        return self.put(volume, name=name or path.name, path=path, series=series, warnings=warnings, private=private)

    def put(
        self,
        volume: Volume,
        *,
        name: str,
        path: Path | None = None,
        series: str | None = None,
        warnings: list[str] | tuple[str, ...] = (),
        private: Path | None = None,
        kept: bool = True,
        listed: bool = True,
    ) -> str:
        """Open a CT that is in memory; returns its id. kept: on disk, where there is a folder.

        What is kept has one session at a time: the same CT of the same source is the one that is open already, of
        another source it is refused (SessionError). private: removed when the CT is closed, or was open already.
        listed: as `Opened.listed`. Raises Busy where there is no room for it.
        """
        opened = (name, path, series, tuple(warnings), private, listed)
        with self._putting:
            ct = digest(volume) if kept and self.folder is not None else ""
            key = self._open_already(volume, ct) if ct else None
            if key is None:
                return self._put(Opened(self._session(volume, ct), *opened))
        _remove(private)
        return key

    def _session(self, volume: Volume, ct: str) -> Session:
        """ct: the CT's digest where the session is kept; else empty."""
        self._make_room(volume)
        return Session(volume, self.model, self.folder / ct if self.folder is not None and ct else None, ct=ct)

    def _open_already(self, volume: Volume, ct: str) -> str | None:
        with self._lock:
            same = [one for one in self._open.items() if one[1].session.folder and one[1].session.ct == ct]
        for key, opened in same:
            if opened.session.volume.source == volume.source:
                opened.used = time.monotonic()
                return key
            raise SessionError(f"the voxels of this CT are open already, as {opened.name}: go on there, or close it")
        return None

    def _put(self, opened: Opened) -> str:
        key = secrets.token_urlsafe(12)
        with self._lock:
            self._open[key] = opened
        return key

    def get(self, key: str) -> Opened:
        """Raises NotOpen for what was never open, or is no longer."""
        with self._lock:
            opened = self._open.get(key)
            if opened is None:
                raise NotOpen("this CT is not open (any more): open it again; its lesions are kept")
            opened.used = time.monotonic()
            return opened

    def opened(self) -> dict[str, Opened]:
        with self._lock:
            return dict(self._open)

    def close(self, key: str) -> None:
        """Forget a CT; what is kept on disk stays."""
        with self._lock:
            opened = self._open.pop(key, None)
        if opened is not None:
            _remove(opened.private)

    def close_idle(self, seconds: float, busy: Callable[[str], bool] = lambda key: False) -> list[str]:
        """Forget what nobody used for so long; returns the ids."""
        before = time.monotonic() - seconds
        with self._lock:
            idle = [key for key, one in self._open.items() if one.used < before and not busy(key)]
        for key in idle:
            self.close(key)
        return idle

    def _make_room(self, volume: Volume) -> None:
        with self._lock:
            held = sum(one.session.volume.voxels.nbytes for one in self._open.values())
        if (held + volume.voxels.nbytes) / 2**20 > self.most_mb:
            raise Busy(
                f"the open CTs would take {(held + volume.voxels.nbytes) / 2**20:.0f} MB of memory, "
                f"at most {self.most_mb:g} MB are allowed: close one first"
            )


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)

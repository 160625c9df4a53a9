"""Uploads that hold several series and wait for a person to choose one."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from clmsda.serving.http.answers import Nothing
from clmsda.serving.sessions import Busy

MOST = 8
"""So many wait at once."""
WAITS_S = 1800.0


@dataclass(frozen=True)
class Upload:
    """folder: its private folder, which goes with it. path: the file in it, or the folder of several."""

    folder: Path
    path: Path
    name: str
    since: float = field(default_factory=time.monotonic)


class Waiting:
    """Uploads by tokens that cannot be guessed. Methods may be called from any thread."""

    def __init__(self) -> None:
        self._uploads: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def put(self, folder: Path, path: Path, name: str) -> str:
        """Raises Busy."""
        self.forget()
        token = secrets.token_urlsafe(12)
        with self._lock:
            if len(self._uploads) >= MOST:
                raise Busy(f"{MOST} uploads wait for somebody to choose a series: open one first, or try again later")
            self._uploads[token] = Upload(folder, path, name)
        return token

    def put_back(self, token: str, upload: Upload) -> None:
        with self._lock:
            self._uploads[token] = upload

    def pop(self, token: str) -> Upload:
        """Raises Nothing."""
        with self._lock:
            upload = self._uploads.pop(token, None)
        if upload is None:
            raise Nothing("there is no such upload (any more): send it again")
        return upload

    def forget(self, seconds: float = WAITS_S) -> None:
        """Remove what nobody chose from for so long."""
        before = time.monotonic() - seconds
        with self._lock:
            old = [token for token, one in self._uploads.items() if one.since < before]
            gone = [self._uploads.pop(token) for token in old]
        for one in gone:
            shutil.rmtree(one.folder, ignore_errors=True)

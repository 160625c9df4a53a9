"""Work that was asked for, by ids that cannot be guessed; what is long done is forgotten."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clmsda.serving.http.answers import Nothing
from clmsda.serving.sessions import Busy, Job, Worker

KEPT_S = 900.0
"""So long is a result kept for whom it was for."""
MOST = 500
"""Jobs that are remembered at once."""

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Asked:
    """A job and who does it. ct: the id of the CT that it is about, or empty. when: `time.monotonic`."""

    job: Job
    worker: Worker
    ct: str
    when: float = field(default_factory=time.monotonic)


class Jobs:
    """All jobs of a server. Methods may be called from any thread."""

    def __init__(self) -> None:
        self._asked: dict[str, Asked] = {}
        self._lock = threading.Lock()

    def ask(self, worker: Worker, kind: str, work: Callable[[Say], Any], ct: str = "") -> str:
        """Have work done, whose result can be said in JSON; returns the job's id. Raises Busy."""
        with self._lock:
            self._forget()
            if len(self._asked) >= MOST:
                raise Busy(f"{MOST} jobs are remembered already: try again in some minutes")
            key = secrets.token_urlsafe(12)
            self._asked[key] = Asked(worker.submit(kind, work), worker, ct)
        return key

    def get(self, key: str) -> Asked:
        """Raises Nothing."""
        with self._lock:
            asked = self._asked.get(key)
        if asked is None:
            raise Nothing("there is no such job (any more)")
        return asked

    def is_busy(self, ct: str) -> bool:
        """Whether something is being done of a CT."""
        with self._lock:
            return any(one.ct == ct and not one.job.future.done() for one in self._asked.values())

    def _forget(self) -> None:
        before = time.monotonic() - KEPT_S
        for key, one in list(self._asked.items()):
            if one.when < before and one.job.future.done():
                del self._asked[key]

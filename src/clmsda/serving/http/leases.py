"""Leases: a place at the server for one viewer each, given back when it is released, left idle, or its viewer is dead.

Two clocks run: idle counts since the last thing that a person did, liveness since the last sign of the program.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from clmsda.serving.http.outlining import Outlining
from clmsda.serving.sessions import Busy, Desk, SessionError

IDLE_S, LIVENESS_S = 1800.0, 120.0
MOST = 8


class LeaseGone(SessionError):
    """A lease that was released, or taken back."""


@dataclass(eq=False)
class Lease:
    """One viewer's place. opened: its CT at the desk, where it sent one. outlining: what it is at there.

    used, seen: when, last. busy: requests that it waits for. turn: one of them at a time changes anything.
    """

    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    opened: str | None = None
    outlining: Outlining | None = None
    used: float = field(default_factory=time.monotonic)
    seen: float = field(default_factory=time.monotonic)
    busy: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Leases:
    """All leases, by their token. Methods may be called from any thread."""

    def __init__(self, desk: Desk, *, idle_s: float = IDLE_S, liveness_s: float = LIVENESS_S, most: int = MOST) -> None:
        self.idle_s, self.liveness_s, self.most = idle_s, liveness_s, most
        self._desk = desk
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._leases)

    def claim(self) -> Lease:
        """A place for a viewer. Raises Busy where all are taken."""
        self.reap()
        with self._lock:
            if len(self._leases) >= self.most:
                raise Busy(f"all {self.most} places are taken: close another viewer, or try again in a while")
            lease = Lease()
            self._leases[lease.token] = lease
        return lease

    def get(self, token: str | None) -> Lease:
        """The lease of a token; that it was asked for is no sign of life. Raises LeaseGone."""
        self.reap()
        lease = self._leases.get(token or "")
        if lease is None:
            raise LeaseGone("the lease is gone: it was released, left idle, or of another start; connect again")
        return lease

    @contextmanager
    def use(self, token: str | None) -> Iterator[Lease]:
        """The lease for as long as its viewer is served. Raises LeaseGone."""
        lease = self.get(token)
        lease.busy += 1
        try:
            yield lease
        finally:
            lease.busy -= 1
            lease.used = lease.seen = time.monotonic()

    def alive(self, lease: Lease) -> None:
        """A sign of the viewer's program, not of a person."""
        lease.seen = time.monotonic()

    def remaining_s(self, lease: Lease) -> float:
        """Seconds until the lease counts as idle."""
        return max(0.0, self.idle_s - (time.monotonic() - lease.used))

    def release(self, token: str | None) -> None:
        """End a lease; nothing happens where it is gone already."""
        with self._lock:
            lease = self._leases.pop(token or "", None)
        if lease is not None:
            self._end(lease)

    def reap(self) -> None:
        """End all leases that are idle, or whose viewers are dead."""
        now = time.monotonic()
        with self._lock:
            over = [
                one
                for one in self._leases.values()
                if not one.busy and (now - one.seen > self.liveness_s or now - one.used > self.idle_s)
            ]
            for lease in over:
                del self._leases[lease.token]
        for lease in over:
            self._end(lease)

    def _end(self, lease: Lease) -> None:
        if lease.opened is not None:
            self._desk.close(lease.opened)
        lease.opened = lease.outlining = None

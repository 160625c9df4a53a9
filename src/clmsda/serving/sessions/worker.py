"""Threads that do the long work of all sessions: jobs in their order, with progress, time left, and a way out."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from clmsda.errors import InputError
from clmsda.serving.sessions.errors import Busy, Cancelled, SessionError

Say = Callable[[str], None]
WAITING = 16
"""More jobs than this do not wait: who sends faster than the machine works is told so."""

_log = logging.getLogger(__name__)


class Job:
    """A piece of work. kind: jobs of one kind take about as long. future: its result, or what ended it."""

    def __init__(self, kind: str, work: Callable[[Say], Any]) -> None:
        self.kind, self.work = kind, work
        self.future: Future[Any] = Future()
        self.doing = "waiting"
        self.started: float | None = None
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """Call it off: it ends at its next step, or when its turn comes."""
        self._cancelled.set()
        if not self.future.done():
            self.doing = "ending"

    def say(self, doing: str) -> None:
        """Called by the work itself. Raises Cancelled once the job was called off."""
        if self._cancelled.is_set():
            raise Cancelled("the work was called off: nothing was changed")
        self.doing = doing


class Worker:
    """Jobs in the order in which they come, `threads` at a time. Daemon threads: they never keep a process alive."""

    def __init__(self, threads: int = 1) -> None:
        self._queue: queue.Queue[Job | None] = queue.Queue()
        self._seconds: dict[str, float] = {}
        self._running: set[Job] = set()
        self._threads = [
            threading.Thread(target=self._run, name=f"clmsda-worker-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, kind: str, work: Callable[[Say], Any]) -> Job:
        """Have work done. work: is given what to call with each step. Raises Busy where too much waits."""
        if self._queue.qsize() >= WAITING:
            raise Busy(f"{WAITING} pieces of work wait already: try again when some are done")
        job = Job(kind, work)
        self._queue.put(job)
        return job

    def progress(self, job: Job) -> dict[str, Any]:
        """What a job is doing, its share done (0..1) and the seconds left; None where they are not known yet."""
        usual, started = self._seconds.get(job.kind), job.started
        gone = time.monotonic() - started if started is not None else 0.0
        left = None if usual is None or started is None else max(0.0, usual - gone)
        share = None if usual is None or started is None else min(gone / usual, 0.99) if usual else 0.99
        return {"doing": job.doing, "done": job.future.done(), "share": share, "seconds_left": left}

    def stop(self, seconds: float = 0.0) -> None:
        """Call off what runs, refuse what waits, and end the threads; wait for them, at most so long."""
        while True:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                job.future.set_exception(Cancelled("the server ends"))
        for job in list(self._running):
            job.cancel()
        for _ in self._threads:
            self._queue.put(None)
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            self._running.add(job)
            self._do(job)
            self._running.discard(job)

    def _do(self, job: Job) -> None:
        job.started = time.monotonic()
        try:
            job.say("beginning")
            result = job.work(job.say)
        except InputError as error:
            job.future.set_exception(error.with_traceback(None))  # whose frames would hold a CT
        except MemoryError:
            job.future.set_exception(SessionError("the machine's memory is full: close other programs, and try again"))
        except BaseException as error:
            _log.error("the work %s failed: %s", job.kind, type(error).__name__)
            job.future.set_exception(error.with_traceback(None))
        else:
            gone = time.monotonic() - job.started
            before = self._seconds.get(job.kind, gone)
            self._seconds[job.kind] = 0.7 * before + 0.3 * gone
            job.future.set_result(result)
        finally:
            job.doing = "done"

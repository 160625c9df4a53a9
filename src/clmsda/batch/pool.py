"""Processes that each load the model once and take row after row; one that dies loses nothing.

Of our own, since an executor of the standard library ends with the first process that is killed.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from clmsda.errors import InputError

Task = TypeVar("Task")
Result = TypeVar("Result")

ATTEMPTS = 2
"""A task whose process died so often is given up."""
START_FAILURES = 3
"""So many processes that end before they are ready, one after another, end the work."""


class PoolError(RuntimeError):
    """Processes that cannot be started, or that end with an exception of our own."""


class _Hand(Generic[Task]):
    """One process, the line to it, and the task that it is at, and which attempt at it this is."""

    def __init__(self, start: Callable[[], Callable[[Task], Any]]) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs, start), daemon=True)
        self.process.start()
        theirs.close()
        self.ready = False
        self.task: Task | None = None
        self.attempt = 0

    def give(self, task: Task, attempt: int) -> None:
        self.task, self.attempt = task, attempt
        with suppress(OSError):  # it died meanwhile: its end is noticed, and the task given to another
            self.line.send(task)

    def end(self) -> None:
        self.line.close()
        if self.process.is_alive():
            self.process.terminate()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()


def _serve(line: Connection, start: Callable[[], Callable[[Any], Any]]) -> None:
    """A process's life: get ready, then a result for each task, until the line is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of a terminal; the parent ends its processes
    with suppress(EOFError, OSError):  # the parent is gone
        try:
            work = start()
        except InputError as error:
            line.send((False, error))
            return
        line.send(None)
        while True:
            task = line.recv()
            try:
                result: Any = work(task)
            except InputError as error:  # what no other task would get over either, as a full disk
                line.send((False, error))
            except BaseException as error:  # a mistake of ours: told to the parent, which raises it
                line.send((False, PoolError(f"{type(error).__name__}: {error}")))
            else:
                line.send((True, result))


def spread(
    tasks: Sequence[Task],
    count: int | None,
    start: Callable[[], Callable[[Task], Result]],
    lost: Callable[[Task], Result],
) -> Iterator[Result]:
    """The results of all tasks as they come, from `count` processes (None: one).

    start: called in each process, gives what does a task; it must be picklable. lost: the result of a task whose
    process was killed `ATTEMPTS` times. Raises PoolError, and the InputError that ends a process's work.
    """
    waiting = deque((task, 1) for task in tasks)
    hands: list[_Hand[Task]] = []
    fallen = 0
    try:
        while waiting or any(hand.task is not None for hand in hands):
            while len(hands) < min(count or 1, len(waiting) + sum(hand.task is not None for hand in hands)):
                hands.append(_Hand(start))
            for hand in hands:
                if waiting and hand.ready and hand.task is None:
                    hand.give(*waiting.popleft())
            events = wait([hand.line for hand in hands])
            for hand in [hand for hand in hands if hand.line in events]:
                try:
                    message = hand.line.recv()
                except (EOFError, OSError):
                    hands.remove(hand)
                    hand.end()
                    fallen = 0 if hand.ready else fallen + 1
                    if fallen >= START_FAILURES:
                        raise PoolError("the processes end before they begin: look at the messages above") from None
                    if hand.task is not None and hand.attempt >= ATTEMPTS:
                        yield lost(hand.task)
                    elif hand.task is not None:
                        waiting.appendleft((hand.task, hand.attempt + 1))
                    continue
                if message is None:
                    hand.ready, fallen = True, 0
                    continue
                right, result = message
                hand.task = None
                if not right:
                    raise result
                yield result
    finally:
        for hand in hands:
            hand.end()

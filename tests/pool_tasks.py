"""Work for the processes of a pool, where they can import it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path


def ready() -> Callable[[tuple[int, str]], int]:
    """A process's work: to say what it was given; to die at 13 once, at 7 always, to be wrong at -1."""

    def work(task: tuple[int, str]) -> int:
        number, folder = task
        died = Path(folder, f"{number}.died")
        if number == 7 or (number == 13 and not died.exists()):
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if number == -1:
            raise ValueError("wrong")
        return number

    return work

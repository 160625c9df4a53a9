"""Runs commands of clmsda, each in a process of its own, that start at once: forked from one that has read all modules.

    python -m preloaded      a command a line on stdin, as JSON; its process id and then its exit status on stdout

What starts is what a shell would start but for the two seconds in which Python reads torch, so that most of its time
is work that a kill can hit.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Preloaded:
    """The process that the others are forked from. One command at a time."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "preloaded"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self._line()  # it is ready

    def start(
        self, arguments: Sequence[object], temporary: Path, said: Path, largest_bytes: int | None = None
    ) -> Running:
        """temporary: the system's folder for such things. said: takes its output. largest_bytes: limit of a file."""
        temporary.mkdir(parents=True, exist_ok=True)
        order = {
            "arguments": [str(one) for one in arguments],
            "temporary": str(temporary),
            "said": str(said),
            "largest_bytes": largest_bytes,
        }
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return Running(self, int(self._line()), said)

    def _line(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the process that others are forked from has died"
        return line.strip()


class Running:
    """A command that runs. status: its exit status, negative for a signal; None as long as it runs."""

    def __init__(self, home: Preloaded, pid: int, said: Path) -> None:
        self.home, self.pid, self._said = home, pid, said
        self.status: int | None = None

    def poll(self, timeout_s: float = 0.0) -> int | None:
        if self.status is None and select.select([self.home.process.stdout], [], [], timeout_s)[0]:
            self.status = int(self.home._line())
        return self.status

    def kill(self) -> None:
        """SIGKILL, and return when it is dead."""
        os.kill(self.pid, signal.SIGKILL)
        self.poll(60)

    @property
    def said(self) -> str:
        return self._said.read_text(errors="replace")


@contextmanager
def preloaded() -> Iterator[Preloaded]:
    home = Preloaded()
    try:
        yield home
    finally:
        assert home.process.stdin
        home.process.stdin.close()
        home.process.wait(20)


def main() -> None:
    import highdicom  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import pydantic  # noqa: F401
    import SimpleITK  # noqa: F401
    import torch  # noqa: F401
    from scipy import ndimage, spatial  # noqa: F401

    import clmsda.cli  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(order: dict[str, Any]) -> None:
    """Run a command in this forked process, and end it as the interpreter would."""
    from clmsda.cli import main

    said = os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    null = os.open(os.devnull, os.O_RDONLY)
    for here, there in ((null, 0), (said, 1), (said, 2)):
        os.dup2(here, there)
    os.environ["TMPDIR"] = order["temporary"]
    if order["largest_bytes"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["largest_bytes"],) * 2)
    status = 1
    try:
        main(order["arguments"])
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()

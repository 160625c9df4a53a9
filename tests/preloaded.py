"""Runs commands of clmsda, each in a process of its own, that start at once: forked from one that has read all modules.

    python -m preloaded      a command a line on stdin, as JSON; its process id and then its exit status on stdout

What starts is what a shell would start but for the two seconds in which Python reads torch, so that most of its time
is work that a kill can hit.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import pkgutil
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

LATE = ("highdicom", "matplotlib.backends.backend_agg", "pynetdicom", "requests", "SimpleITK", "torch._dynamo",
        "torch.utils.tensorboard")  # fmt: skip
"""What commands read only when they need it."""


class Preloaded:
    """The process that the others are forked from. One command at a time."""

    def __init__(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__]
        pipe = subprocess.PIPE
        # Without a buffer: what would lie in it, `select` would not see.
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0, env=environment)
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
        return Running(self, int(self._ask(order)), said)

    def warm_up(self, arguments: Sequence[object]) -> None:
        """Run a command in the process that others are forked from, so that these find all that it reads once."""
        self._ask({"warm": [str(one) for one in arguments]})

    def _ask(self, order: dict[str, Any]) -> str:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        return self._line()

    def _line(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, "the process that others are forked from has died"
        return line.decode().strip()


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
    import clmsda.cli

    for module in pkgutil.walk_packages(clmsda.__path__, "clmsda."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in LATE:
        with suppress(ImportError):
            importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "warm" in order:
            with suppress(SystemExit), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                clmsda.cli.main(order["warm"])
            print("warm", flush=True)
            continue
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

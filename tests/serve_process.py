"""The real server as a process of its own on loopback, and a real HTTP client that knows its key."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

START_S = 120.0


@dataclass
class Serving:
    """A running `clmsda serve`. said: what it printed, both ways."""

    process: subprocess.Popen[str]
    said: list[str]
    address: str = ""
    key: str = ""
    client: httpx.Client = field(init=False)

    def connect(self) -> None:
        begun = time.monotonic()
        while not self.address:
            opens = [line.split()[1] for line in list(self.said) if line.startswith("open http")]
            if opens:
                self.address, self.key = opens[0].split("/?key=")
            elif self.process.poll() is not None or time.monotonic() - begun > START_S:
                raise AssertionError(f"the server does not start: {''.join(self.said)}")
            else:
                time.sleep(0.05)
        self.client = self.new_client()

    def new_client(self, **more: Any) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}", "X-Clmsda": "1"}
        return httpx.Client(base_url=self.address, headers=headers, timeout=120, trust_env=False, **more)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def job(self, answer: httpx.Response) -> Any:
        """The result of the job that an answer names. A refused one is an AssertionError that holds the line."""
        assert answer.status_code == 202, answer.text
        record = self.record(answer.json()["job"])
        assert record["error"] is None, record["error"]
        return record["result"]

    def refused(self, answer: httpx.Response) -> str:
        """The one line by which a request, or the job that it began, is refused."""
        if answer.status_code == 202:
            line = self.record(answer.json()["job"])["error"]
        else:
            assert 400 <= answer.status_code < 500 or answer.status_code == 503, (answer.status_code, answer.text)
            line = answer.json()["error"]
        assert line and "\n" not in line and "inside clmsda" not in line, line
        return str(line)

    def record(self, job: str) -> Any:
        while True:
            record = self.client.get(f"/api/jobs/{job}", params={"wait": 20}).json()
            if record["done"]:
                return record

    def stop(self, how: int = signal.SIGINT) -> int:
        self.client.close()
        self.process.send_signal(how)
        return self.process.wait(30)


def start(*arguments: object, state: Path) -> Serving:
    """state: for XDG_STATE_HOME, so that no test meets the sessions of whoever runs it."""
    command = [sys.executable, "-m", "clmsda", "serve", *map(str, arguments), "--no-open"]
    environment = os.environ | {"XDG_STATE_HOME": str(state), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, encoding="utf8"
    )
    serving = Serving(process, [])

    def keep() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            serving.said.append(line)

    threading.Thread(target=keep, daemon=True).start()
    return serving


@contextmanager
def serving(*arguments: object, state: Path) -> Iterator[Serving]:
    """A server with a free port, ended afterwards."""
    running = start(*arguments, "--port", 0, state=state)
    try:
        running.connect()
        yield running
    finally:
        with suppress(ProcessLookupError):
            running.process.kill()
        running.process.wait(30)

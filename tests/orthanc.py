"""A real PACS to test against: Orthanc, with its DICOMweb plugin, on free ports of the loopback interface."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import Request, urlopen

PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")

MISSING = None
if PROGRAM is None:
    MISSING = "needs Orthanc (as root: make orthanc)"
elif not PLUGIN.exists():
    MISSING = "needs Orthanc's DICOMweb plugin (as root: make orthanc)"

os.environ["NO_PROXY"] = "127.0.0.1,localhost"  # a proxy knows nothing of this machine's loopback


@dataclass(frozen=True)
class Orthanc:
    """A running server. root: of its own REST API, which shows what it holds whatever DICOMweb says."""

    process: subprocess.Popen[bytes]
    root: str
    dicom_port: int

    @property
    def url(self) -> str:
        """The DICOMweb service."""
        return f"{self.root}/dicom-web"

    def stop(self) -> None:
        """Halt all its threads, and return when they stand still: it then takes connections but answers nothing."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def get(self, path: str) -> bytes:
        with urlopen(f"{self.root}/{path}", timeout=10) as answer:
            return answer.read()

    def json(self, path: str, posted: Any = None) -> Any:
        body = None if posted is None else json.dumps(posted).encode()
        with urlopen(f"{self.root}/{path}", body, timeout=10) as answer:
            return json.loads(answer.read())

    def file_of(self, sop_uid: str) -> bytes:
        """An instance as it is stored: a Part 10 file."""
        (found,) = (one for one in self.instances() if one["MainDicomTags"]["SOPInstanceUID"] == sop_uid)
        return self.get(f"instances/{found['ID']}/file")

    def instances(self) -> list[Any]:
        return list(self.json("instances?expand"))

    def held(self) -> dict[str, bytes]:
        """Every instance's file, by its SOPInstanceUID."""
        return {
            one["MainDicomTags"]["SOPInstanceUID"]: self.get(f"instances/{one['ID']}/file") for one in self.instances()
        }

    def put(self, file: bytes) -> None:
        urlopen(Request(f"{self.root}/instances", file, method="POST"), timeout=10).close()

    def forget(self) -> None:
        """Delete all that it holds."""
        for identifier in self.json("patients"):
            urlopen(Request(f"{self.root}/patients/{identifier}", method="DELETE"), timeout=10).close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(storage: Path | None = None, **settings: Any) -> Iterator[Orthanc]:
    """An Orthanc that listens on loopback only; without a folder for its storage, it forgets everything at the end.

    settings: more of Orthanc's own, such as `RegisteredUsers`.
    """
    assert PROGRAM is not None, MISSING
    with TemporaryDirectory(prefix="orthanc-") as folder:
        http_port, dicom_port = free_port(), free_port()
        config = {
            "StorageDirectory": str(storage or f"{folder}/storage"),
            "IndexDirectory": str(storage or f"{folder}/storage"),
            "Plugins": [str(PLUGIN)],  # never the folder: its GDCM plugin crashes on frames
            "HttpPort": http_port,
            "DicomPort": dicom_port,
            "RemoteAccessAllowed": False,
            "WebDavEnabled": False,
            "SyncStorageArea": False,
            "HttpThreadsCount": 4,
            "DicomScpTimeout": 5,
            "UnknownSopClassAccepted": True,  # else none younger than its dictionary, such as label maps
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (Path(folder) / "orthanc.json").write_text(json.dumps(config | settings))
        with open(f"{folder}/log", "wb") as log:
            process = subprocess.Popen([PROGRAM, f"{folder}/orthanc.json"], stdout=log, stderr=log, cwd=folder)
        try:
            _wait(process, (http_port, dicom_port), Path(folder, "log"))
            yield Orthanc(process, f"http://127.0.0.1:{http_port}", dicom_port)
        finally:
            process.kill()  # it has nothing to save, and a test may have stopped it
            process.wait(20)


def _wait(process: subprocess.Popen[bytes], ports: tuple[int, ...], log: Path) -> None:
    """Until every port answers; Orthanc opens them last."""
    deadline = time.monotonic() + 30
    for port in ports:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Orthanc did not start: {log.read_text(errors='replace')[-2000:]}") from None
                time.sleep(0.02)

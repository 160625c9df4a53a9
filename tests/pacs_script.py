"""A small TCP server that answers HTTP requests from a script, breaking off where the script says so."""

from __future__ import annotations

import json
import os
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import numpy as np

os.environ["NO_PROXY"] = "127.0.0.1,localhost"  # a proxy knows nothing of this machine's loopback


@dataclass(frozen=True)
class Request:
    """What came: everything that was read before the answer."""

    line: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Request], bytes | None]
"""The bytes to send before the connection is closed; None closes it without a word."""


@dataclass
class Script:
    """A running server. seen: the requests so far."""

    url: str
    seen: list[Request] = field(default_factory=list)


def answer(status: int, body: bytes = b"", *, kind: str = "application/dicom+json", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def as_json(content: object) -> bytes:
    return json.dumps(content).encode()


def listing(series_uid: str, *, images: int | None = 2, modality: str = "CT", study_uid: str = "1.2.3") -> dict:
    """One series in a QIDO-RS answer, with what a PACS adds unasked."""
    item = {
        "0020000D": {"vr": "UI", "Value": [study_uid]},
        "0020000E": {"vr": "UI", "Value": [series_uid]},
        "00080060": {"vr": "CS", "Value": [modality]},
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Secret^Sally"}]},
    }
    return item if images is None else item | {"00201209": {"vr": "IS", "Value": [images]}}


def multipart(parts: Sequence[bytes], boundary: str = "edge") -> bytes:
    head = b"Content-Type: application/dicom\r\n\r\n"
    edge = b"--" + boundary.encode()
    return b"".join(edge + b"\r\n" + head + part + b"\r\n" for part in parts) + edge + b"--\r\n"


def series_answer(body: bytes, boundary: str = "edge") -> bytes:
    """As Orthanc sends a series: neither a length nor chunks, the end of the connection ends it."""
    kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n".encode() + body


def stored(sop_uid: str, remark: int | None = None) -> dict:
    """A STOW-RS answer that confirms an instance."""
    item = {"00081155": {"vr": "UI", "Value": [sop_uid]}}
    if remark is not None:
        item["00081196"] = {"vr": "US", "Value": [remark]}
    return {"00081199": {"vr": "SQ", "Value": [item]}}


def failed(sop_uid: str, reason: int) -> dict:
    item = {"00081155": {"vr": "UI", "Value": [sop_uid]}, "00081197": {"vr": "US", "Value": [reason]}}
    return {"00081198": {"vr": "SQ", "Value": [item]}}


def random_files(count: int, seed: int = 0) -> list[bytes]:
    """Contents with every byte, line ends and near-boundaries in them."""
    rng = np.random.default_rng(seed)
    tricky = b"\r\n--edg\r\n--\r\n\r\n"
    return [rng.bytes(3000) + tricky + rng.bytes(500) for _ in range(count)]


@contextmanager
def scripted(*answers: Answer | bytes | None, tls: ssl.SSLContext | None = None) -> Iterator[Script]:
    """Serve the answers one after the other on a free loopback port; the last one is repeated."""
    left = list(answers)
    lock = threading.Lock()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            line = self.rfile.readline().decode()
            headers = {}
            while (header := self.rfile.readline().decode().strip()) != "":
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            with lock:
                chosen = left.pop(0) if len(left) > 1 else left[0]
            body = self.rfile.read(int(headers.get("content-length", 0)))
            request = Request(line.strip(), headers, body)
            script.seen.append(request)
            content = chosen(request) if callable(chosen) else chosen
            if content is not None:
                self.wfile.write(content)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Callers that hang up are part of the tests."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        script = Script(f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}/dicom-web")
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield script
        finally:
            server.shutdown()

"""Answers as JSON: what was asked for, or {"error": one line} with the status that fits."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from clmsda.errors import InputError
from clmsda.serving.sessions import Busy, Changed, NoSuchLesion, NoSuchStep, NotOpen

Handler = Callable[[Request, Exception], Awaitable[Response]]

_log = logging.getLogger(__name__)


class TooMuch(InputError):
    """A body beyond what is taken."""


class Nothing(InputError):
    """What is not there."""


_STATUS: tuple[tuple[type[InputError], int], ...] = (
    (TooMuch, 413),
    (Nothing, 404),
    (NotOpen, 404),
    (NoSuchLesion, 404),
    (NoSuchStep, 404),
    (Changed, 409),
    (Busy, 503),
)
_WORDS = {
    404: "there is nothing under this address",
    405: "this address is not to be asked so: see the methods in Allow",
}


class Answer(JSONResponse):
    """JSON without NaN, which no browser reads."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def refusal(status: int, line: str, headers: dict[str, str] | None = None) -> Answer:
    return Answer({"error": " ".join(line.split())}, status, headers)


def status_of(error: InputError) -> int:
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 400)


def without(folder: Path, error: InputError) -> InputError:
    """An error without the name of a folder of the server's own."""
    error.args = (str(error).replace(f"{folder}/", "").replace(str(folder), "the upload"),)
    return error


def line_of(error: BaseException) -> str:
    """An error in one line for people; of one that nobody foresaw only its kind, as it may quote a patient."""
    if isinstance(error, InputError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: see to it, and try again"
    return f"this failed inside clmsda ({type(error).__name__}), and nothing was changed: please report it"


async def _refused(request: Request, error: Exception) -> Response:
    status = status_of(error) if isinstance(error, InputError) else 500
    return refusal(status, line_of(error), {"Retry-After": "2"} if status == 503 else None)


async def _unknown(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else None
    return refusal(status, _WORDS.get(status, HTTPStatus(status).phrase), headers)


async def _gone(request: Request, error: Exception) -> Response:
    """For whom? Who asked has gone."""
    return Response(status_code=499)


HANDLERS: dict[Any, Handler] = {
    InputError: _refused,
    HTTPException: _unknown,
    ClientDisconnect: _gone,
    Exception: _refused,
}

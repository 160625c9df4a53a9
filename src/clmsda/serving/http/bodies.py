"""What a request says: JSON of a known shape, or a file that goes to disk as it comes; both up to a limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from clmsda.errors import InputError
from clmsda.serving.http.answers import TooMuch

MOST_JSON = 1 << 20
SILENCE_S = 60.0
"""Who sends nothing for so long has gone."""
DRAINED = 64 << 20
"""So much of a body that is too large is still read, so that its sender hears why it was refused."""

T = TypeVar("T")


class BadRequest(InputError):
    """A request that says something else than what was asked."""


async def chunks(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body as it comes. Raises TooMuch, ClientDisconnect (also for a silence)."""
    stream = request.stream().__aiter__()
    size = 0
    told = request.headers.get("content-length", "")
    is_known = told.isdecimal() and len(told) < 20
    if is_known and int(told) > most + DRAINED:
        raise _too_much(most)
    while True:
        try:
            chunk = await asyncio.wait_for(anext(stream), SILENCE_S)
        except StopAsyncIteration:
            break
        except TimeoutError:
            raise ClientDisconnect from None
        size += len(chunk)
        if size > most + DRAINED:
            break
        if size <= most and not (is_known and int(told) > most):
            yield chunk
    if size > most:
        raise _too_much(most)


def _too_much(most: int) -> TooMuch:
    size = f"{most >> 20} MB" if most >> 20 else f"{most} bytes"
    return TooMuch(f"that is too large: at most {size} are taken; start clmsda serve with a larger --most-mb")


async def to_file(request: Request, path: Path, most: int) -> int:
    """Write the body to a new file; returns its size. Raises TooMuch, ClientDisconnect, OSError."""
    size = 0
    with open(path, "xb") as file:
        async for chunk in chunks(request, most):
            await run_in_threadpool(file.write, chunk)
            size += len(chunk)
    return size


async def said(request: Request, kind: type[T]) -> T:
    """The body as JSON of a dataclass. Raises BadRequest, TooMuch."""
    content = b"".join([chunk async for chunk in chunks(request, MOST_JSON)])
    try:
        return TypeAdapter(kind).validate_json(content or b"{}", strict=True)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        problems = [f"{'.'.join(map(str, one['loc'])) or 'the body'}: {one['msg']}"[:200] for one in found[:3]]
        raise BadRequest("; ".join(problems)) from None


def number(text: str, what: str) -> int:
    """A whole number of an address. Raises BadRequest."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise BadRequest(f"expected a number for {what}, found {text[:40]!r}")
    return int(text)

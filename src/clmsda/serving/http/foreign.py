"""What the protocols of other people's viewers share: errors in their form, `{"detail": "one line"}`, bodies with a
limit, and waiting for the worker."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from clmsda.errors import InputError
from clmsda.images.errors import TooLarge
from clmsda.serving.http.answers import Answer, line_of, status_of
from clmsda.serving.http.bodies import BadRequest, chunks
from clmsda.serving.sessions import Cancelled, Job, Worker

Endpoint = Callable[[Request], Awaitable[Response]]
Say = Callable[[str], None]
LOOK_S = 0.5
"""How often it is looked whether a viewer that waits is still there."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


def guarded(do: Endpoint, statuses: dict[type[Exception], int] | None = None) -> Endpoint:
    """An endpoint whose errors are answers. statuses: of errors that only its protocol knows."""
    known: dict[type[Exception], int] = {TooLarge: 413, **(statuses or {})}

    async def endpoint(request: Request) -> Response:
        try:
            return await do(request)
        except InputError as error:
            status = next((code for kind, code in known.items() if isinstance(error, kind)), status_of(error))
            return refusal(status, line_of(error))
        except ClientDisconnect:
            raise
        except Exception as error:
            _log.error("%s failed: %s", request.scope["route"].path, type(error).__name__)
            return refusal(500, line_of(error))

    return endpoint


def refusal(status: int, detail: str) -> Response:
    """An error as these protocols have it; 503 says when to come again."""
    return Answer({"detail": detail}, status, {"Retry-After": "10"} if status == 503 else None)


async def body(request: Request, most_bytes: int) -> bytearray:
    """The request's body. Raises TooMuch, ClientDisconnect."""
    data = bytearray()
    async for chunk in chunks(request, most_bytes):
        data += chunk
    return data


def checked(kind: type[_T], given: bytes | bytearray | str | Any) -> _T:
    """JSON (text, or what it held) as a dataclass. Raises BadRequest, naming the first thing that is wrong."""
    try:
        value = json.loads(given) if isinstance(given, bytes | bytearray | str) else given
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the request"
        raise BadRequest(f"{where}: {first['msg']}; found {str(first['input'])[:60]!r}") from None
    except (ValueError, RecursionError) as error:
        raise BadRequest("expected JSON, found something else") from error


async def worked(request: Request, worker: Worker, kind: str, work: Callable[[Say], _T]) -> _T:
    """What work gives that the worker does in its turn; called off when the viewer hangs up. Raises what work does."""
    job: Job = worker.submit(kind, work)
    done = asyncio.wrap_future(job.future)
    while not done.done():
        await asyncio.wait([done], timeout=LOOK_S)
        if not done.done() and await request.is_disconnected():
            job.cancel()
            try:
                await done
            except Cancelled as error:
                raise ClientDisconnect from error
    return done.result()

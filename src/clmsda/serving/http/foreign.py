"""What the protocols of other people's viewers share: who may ask, bodies with a limit, waiting for the worker, errors.

They say why in `{"detail": "one line"}`, as their own servers do.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from clmsda.errors import InputError
from clmsda.images.errors import TooLarge
from clmsda.serving.http.packed import TooMuch
from clmsda.serving.sessions import Busy, Cancelled, Job, Worker

Endpoint = Callable[[Request], Awaitable[Response]]
Say = Callable[[str], None]
LOOK_S = 0.5
"""How often it is looked whether a viewer that waits is still there."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class NoKey(InputError):
    """Who asks without the key that the server was started with."""


class NotHere(InputError):
    """Something that this server does not have, or does not do."""


def guarded(do: Endpoint, key: str | None, statuses: dict[type[Exception], int] | None = None) -> Endpoint:
    """An endpoint that needs the key, where there is one, and turns what is raised into an answer of one line.

    statuses: of further errors. What nobody foresaw is an answer, too, and its kind goes to the log.
    """
    known: dict[type[Exception], int] = {
        NoKey: 401,
        NotHere: 404,
        TooMuch: 413,
        TooLarge: 413,
        Busy: 503,
        **(statuses or {}),
    }

    async def endpoint(request: Request) -> Response:
        try:
            if key is not None:
                check_key(request, key)
            return await do(request)
        except InputError as error:
            return refusal(next((code for kind, code in known.items() if isinstance(error, kind)), 400), str(error))
        except HTTPException as error:  # of Starlette's own parsers
            return refusal(error.status_code, error.detail)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except Exception as error:
            _log.error("%s failed: %s", request.scope["route"].path, type(error).__name__)
            return refusal(500, f"clmsda failed ({type(error).__name__}): nothing was changed; please report it")

    return endpoint


def refusal(status: int, detail: str) -> JSONResponse:
    """An error as these protocols have it; 401 asks for the key, 503 says when to come again."""
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "10"}}.get(status)
    return JSONResponse({"detail": " ".join(detail.split())}, status, headers)


def check_key(request: Request, key: str) -> None:
    """Raises NoKey unless the request carries the key as a bearer token."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secrets.compare_digest(given.strip().encode(), key.encode()):
        raise NoKey("expected the key that this server was started with (--key): give it as the viewer's API key")


async def body(request: Request, most_bytes: int) -> bytearray:
    """The request's body. Raises TooMuch."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > most_bytes:
            raise TooMuch(f"the request has more than {most_bytes / 2**20:,.1f} MB: send a smaller image")
    return data


def checked(kind: type[_T], given: bytes | bytearray | str | Any) -> _T:
    """JSON (text, or what it held) as a dataclass. Raises InputError, naming the first thing that is wrong."""
    try:
        value = json.loads(given) if isinstance(given, bytes | bytearray | str) else given
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the request"
        raise InputError(f"{where}: {first['msg']}; found {str(first['input'])[:60]}") from error
    except (ValueError, RecursionError) as error:
        raise InputError("expected JSON, found something else") from error


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

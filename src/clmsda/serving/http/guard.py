"""What stands before every route: who may ask, what a browser is told, and no traceback ever."""

from __future__ import annotations

import logging
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clmsda.serving.http.access import HEADER, POLICY, Access
from clmsda.serving.http.answers import line_of, refusal

_HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_log = logging.getLogger(__name__)


class Guard:
    """Before everything: the Host and Origin of a request, the headers of an answer, one line for whatever fails."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        begun = False

        async def told(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        app = _refusing(scope, self.access) or self.app
        try:
            await app(scope, receive, told)
        except Exception as error:
            _log.error("a request failed: %s", type(error).__name__)
            if not begun:
                await refusal(500, line_of(error))(scope, receive, told)


def _refusing(scope: Scope, access: Access) -> ASGIApp | None:
    """The answer to what must not be answered."""
    headers = Headers(scope=scope)
    host, origins = headers.get("host", ""), headers.getlist("origin")
    if not access.is_called(host):
        return refusal(400, "this server is not called so: use the address that it printed")
    if any(not access.is_own(origin, host) for origin in origins):
        return refusal(403, "a page of another site may not ask this server")
    return None


class Keyed:
    """Before what needs the key. changing: whether a request that changes something needs the header as well."""

    def __init__(self, app: ASGIApp, access: Access, *, changing: bool) -> None:
        self.app, self.access, self.changing = app, access, changing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        if not self.access.is_let_in(headers.get("authorization", ""), _ticket(headers, self.access.cookie)):
            line = "the key is missing or wrong: open the address that clmsda printed when it started"
            await refusal(401, line, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
        elif self.changing and scope["method"] not in ("GET", "HEAD") and HEADER not in headers:
            await refusal(403, "a request that changes something needs the header X-Clmsda: 1")(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _ticket(headers: Headers, name: str) -> str:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""

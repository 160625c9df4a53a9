"""HTTP to a PACS: the address, who asks, and asking again while there is hope.

A request is made again, after growing pauses, while the PACS cannot be reached, is overloaded (429) or fails
(5xx); never after it refused (4xx). Certificates are verified, redirections refused (they would carry credentials
elsewhere).
"""

from __future__ import annotations

import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from clmsda.serving.errors import BadAddress, MissingExtra, Refused, Unreachable
from clmsda.serving.multipart import BrokenOff

if TYPE_CHECKING:
    from requests import Response, Session

CONNECT_S = 10.0
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Server:
    """A DICOMweb service.

    url: what studies/ follows. headers: sent with every request (Authorization=...); without an Authorization
    among them, the login of the host in ~/.netrc or $NETRC is used, if there is one. ca: certificates to trust
    instead of the usual ones. timeout_s: how long a silence of the PACS is borne. retries: how often a request is
    made again.
    Raises BadAddress.
    """

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    ca: Path | None = None
    timeout_s: float = 60.0
    retries: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self.url.rstrip("/"))
        try:
            split = urlsplit(self.url)
            fits = split.scheme in ("http", "https") and split.hostname and split.port != 0
        except ValueError:
            fits = False
        if fits and split.username is not None:
            raise BadAddress(
                f"the address of {split.hostname} holds a login, which would end up in logs: leave it out and write it "
                "to ~/.netrc"
            )
        if not fits or split.query or split.fragment:
            found = re.sub(r"//[^/]*@|\?.*", "...", self.url)
            raise BadAddress(f"expected the address of a DICOMweb service, http(s)://HOST[:PORT]/PATH, found {found!r}")
        if self.ca is not None:
            try:
                ssl.create_default_context(cafile=str(self.ca))
            except OSError as error:
                raise BadAddress(
                    f"expected a file with certificates (PEM), found {self.ca}: {error.strerror}"
                ) from error
        for name, value in self.headers:
            if not _TOKEN.fullmatch(name) or not value.isascii() or not value.isprintable() or value != value.strip():
                raise BadAddress(f"the header {name[:40]!r} is none: expected NAME=VALUE in printable ASCII characters")


def parse_header(text: str) -> tuple[str, str]:
    """NAME=VALUE, as on the command line. Raises BadAddress, which does not repeat the value."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise BadAddress("a header is NAME=VALUE, such as 'Authorization=Bearer TOKEN'")
    return name.strip(), value.strip()


@contextmanager
def connected(server: Server) -> Iterator[Session]:
    """Connections that carry the server's headers, or the login of its host in ~/.netrc."""
    try:
        import requests
        from requests.auth import HTTPBasicAuth
    except ImportError as error:
        raise MissingExtra(error) from error

    with requests.Session() as session:
        session.headers.update(server.headers)
        login = None if "Authorization" in session.headers else _login(server.url)
        # Anything but None keeps requests from looking into ~/.netrc itself, which would win over the header.
        session.auth = HTTPBasicAuth(*login) if login else lambda request: request
        if (login or "Authorization" in session.headers) and server.url.startswith("http://"):
            log.warning("credentials go to %s unencrypted: use https", server.url)
        yield session


def _login(url: str) -> tuple[bytes, bytes] | None:
    """Name and password of a host in ~/.netrc or $NETRC. Raises BadAddress, which repeats nothing of the file."""
    from netrc import NetrcParseError

    from requests.utils import get_netrc_auth

    try:
        login = get_netrc_auth(url, raise_errors=True)
    except NetrcParseError as error:
        raise BadAddress(f"{error.filename}, line {error.lineno}, is not as netrc files are: correct it") from None
    except OSError as error:
        raise BadAddress(f"{error.filename} cannot be read: {error.strerror}") from None
    return (login[0].encode(), login[1].encode()) if login else None


def ask(server: Server, session: Session, take: Callable[[Response], T], method: str, path: str, **request: Any) -> T:
    """Make a request, and again while there is hope. take: reads the answer, within the same try.

    Raises Unreachable, and what `take` raises.
    """
    from requests import exceptions

    # Given with each request: what stands in the session gives way to environment variables.
    request |= {"verify": str(server.ca) if server.ca else True, "allow_redirects": False, "stream": True}
    request["timeout"] = (min(CONNECT_S, server.timeout_s), server.timeout_s)
    for retry in range(server.retries + 1):
        pause_s = min(FIRST_PAUSE_S * 2**retry, LONGEST_PAUSE_S)
        try:
            with session.request(method, server.url + path, **request) as response:
                if not _is_passing(response.status_code):
                    return take(response)
                problem = f"it answers {status_of(response)}"
                pause_s = _pause(response, pause_s)
        except (exceptions.RequestException, BrokenOff) as error:
            problem = _problem(error, server)
        if retry < server.retries:
            log.info("%s: %s; trying again in %g s", server.url, problem, pause_s)
            time.sleep(pause_s)
    tries = f"{server.retries + 1} tries" if server.retries else "one try"
    raise Unreachable(f"{server.url} cannot be used, after {tries}: {problem}")


def _is_passing(status: int) -> bool:
    """Whether a status means: not now."""
    return status == HTTPStatus.TOO_MANY_REQUESTS or status >= 500


def _pause(response: Response, pause_s: float) -> float:
    """The pause that an overloaded server asks for, if it is not too long."""
    asked = response.headers.get("Retry-After", "")
    return min(float(asked), LONGEST_PAUSE_S) if asked.isdecimal() else pause_s


def _problem(error: Exception, server: Server) -> str:
    """Why there was no answer, without what the libraries say of addresses and contents.

    Raises Unreachable at once for a certificate that is not trusted: that does not pass.
    """
    from requests import exceptions

    if isinstance(error, exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        raise Unreachable(
            f"the certificate of {server.url} cannot be verified: give the authority that signed it with --ca FILE"
        ) from None
    chain: list[BaseException] = [error]
    while (below := chain[-1].__cause__ or chain[-1].__context__) is not None and len(chain) < 20:
        chain.append(below)
    if any(isinstance(one, (exceptions.Timeout, TimeoutError)) for one in chain):
        return f"no answer within {server.timeout_s:g} s"
    for one in reversed(chain):
        if isinstance(one, ssl.SSLError):
            return f"TLS failed ({one.reason})"
        if isinstance(one, OSError) and one.errno is not None and one.strerror:
            return one.strerror
    return "the connection broke off"


def refuse(response: Response, server: Server, *good: int) -> None:
    """Raise Refused unless the status is one of `good`."""
    status = response.status_code
    if status in good:
        return
    remedies: dict[int, str] = {
        HTTPStatus.UNAUTHORIZED: "; give a login in ~/.netrc, or --header Authorization=...",
        HTTPStatus.FORBIDDEN: "; this login may not do that",
        HTTPStatus.NOT_FOUND: "; is it the address of a DICOMweb service?",
    }
    remedy = "; give the address that it redirects to" if response.is_redirect else ""
    raise Refused(f"{server.url} answers {status_of(response)}{remedies.get(status, remedy)}")


def status_of(response: Response) -> str:
    """A status with its standard words: the server's own may say anything."""
    try:
        return f"{response.status_code} {HTTPStatus(response.status_code).phrase}"
    except ValueError:
        return str(response.status_code)

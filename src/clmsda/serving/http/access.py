"""Who may ask: the key of this start, the names by which this server is called, and what a browser is told."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADER = "x-clmsda"
"""What a request that changes something must carry: another site's form cannot, and its script may not."""

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src 'self' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""Content-Security-Policy: the page's own scripts, and the pictures and workers that its viewer makes."""


@dataclass(frozen=True)
class Access:
    """key: of this start. keyed: whether a person gave it, so that other protocols need it, too.

    host: the address that is listened on. port: tells cookies of several servers on one machine apart.
    """

    host: str = "127.0.0.1"
    port: int = 0
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    keyed: bool = False

    @property
    def cookie(self) -> str:
        return f"clmsda-{self.port}"

    @property
    def ticket(self) -> str:
        """What the cookie holds: as good as the key, but not the key, which may be a word that serves elsewhere."""
        return hashlib.blake2b(b"clmsda cookie", key=self.key.encode()[:64], digest_size=24).hexdigest()

    def opens(self, key: str) -> bool:
        return secrets.compare_digest(key.encode(), self.key.encode())

    def is_let_in(self, authorization: str, ticket: str) -> bool:
        """Whether a request's Authorization or cookie holds the key."""
        kind, _, key = authorization.partition(" ")
        by_cookie = secrets.compare_digest(ticket.encode(), self.ticket.encode())
        return by_cookie or (kind.lower() == "bearer" and self.opens(key.strip()))

    def is_called(self, host: str) -> bool:
        """Whether a Host header names this server.

        Another name may be a foreign site's that was pointed at this machine (DNS rebinding). Where all addresses
        are listened on, every address in numbers is one of ours: those cannot be pointed elsewhere.
        """
        name = _name_in(host)
        if name in (*LOOPBACK, self.host.lower()):
            return True
        return self.host in ("0.0.0.0", "::") and _is_address(name)

    @staticmethod
    def is_own(origin: str, host: str) -> bool:
        """Whether a request that says from which site it comes, comes from the page of this server."""
        return origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _name_in(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True

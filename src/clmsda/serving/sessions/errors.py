"""What a session refuses. The session lives on."""

from __future__ import annotations

from clmsda.errors import InputError


class SessionError(InputError):
    """Something that cannot be done in a session as it is now."""


class NoSuchLesion(SessionError):
    """A lesion that the session does not hold, or holds no longer."""


class Cancelled(SessionError):
    """Work that was called off by whom it was for."""


class Busy(SessionError):
    """No room for it now: too much is open, or waits. Later there may be."""

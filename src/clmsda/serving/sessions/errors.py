"""What a session refuses. The session lives on."""

from __future__ import annotations

from clmsda.errors import InputError


class SessionError(InputError):
    """Something that cannot be done in a session as it is now."""


class NoSuchLesion(SessionError):
    """A lesion that the session does not hold, or holds no longer."""


class NoSuchStep(SessionError):
    """What was never said in a session, or cannot be undone any more."""


class NotOpen(SessionError):
    """A CT that was never open, or is no longer."""


class Changed(SessionError):
    """Something that another change came before."""


class Busy(SessionError):
    """More than this machine can do or hold at once."""


class Cancelled(SessionError):
    """Work that was called off by whom it was for."""

"""What can go wrong between clmsda and a PACS, by name.

No message carries a patient's identifiers, credentials, or the text of a PACS's answer (which may hold either).
"""

from __future__ import annotations

from clmsda.errors import InputError


class BadAddress(InputError):
    """An address, header, AE title or UID that cannot be one."""


class MissingExtra(InputError):
    """The libraries that speak with a PACS, or with a browser, are not installed."""

    def __init__(self, error: ImportError, what: str = "a PACS", extra: str = "pacs") -> None:
        super().__init__(f"{what} needs the package {error.name}, which is an extra: pip install 'clmsda[{extra}]'")


class Unreachable(InputError):
    """A PACS that does not answer, or only with failures, however often it is asked."""


class Refused(InputError):
    """A PACS that answers, but not with what it was asked for."""


class NotStored(InputError):
    """Objects that the PACS did not confirm to hold."""

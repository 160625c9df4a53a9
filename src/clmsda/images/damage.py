"""The door of the readers: what libraries throw on a damaged file becomes a refusal that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clmsda.errors import InputError
from clmsda.images.errors import UnreadableFile

_OURS = (AssertionError, ImportError, NameError)
"""No file causes these: they are mistakes in clmsda, which must not look like the user's."""


@contextmanager
def damage_named(name: str, found: str = "its content is not as the DICOM standard has it") -> Iterator[None]:
    """Raise UnreadableFile for whatever else is raised within: damaged bytes raise almost anything, wherever they are
    looked at (an attribute of another type than it must have, a compressed stream that breaks off)."""
    try:
        yield
    except (InputError, MemoryError, *_OURS):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:
            raise UnreadableFile(f"{name} cannot be read: {error.strerror}") from error
        raise UnreadableFile(f"{name} is truncated or damaged: {found}; fetch or export it again") from error

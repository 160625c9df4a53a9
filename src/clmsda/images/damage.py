"""Damage that nobody foresaw: refused like any other, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from clmsda.errors import InputError
from clmsda.images.errors import UnreadableFile


@contextmanager
def damage_refused(name: str) -> Iterator[None]:
    """Raise UnreadableFile for what pydicom raises, which may be almost anything, when a damaged value is looked at.

    What it says of the value is left out: that may be the patient's. name: of the file or folder.
    """
    try:
        yield
    except (InputError, MemoryError, OSError):
        raise
    except Exception as error:
        raise UnreadableFile(
            f"{name} is damaged: a value in a header is not as the standard has it ({type(error).__name__}); "
            "fetch it again, or export it again"
        ) from error

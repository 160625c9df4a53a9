"""Output files appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clmsda.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OutputError(InputError):
    """A place where an output file cannot be written."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`: renamed to `path` on success, removed on failure.

    The temporary name keeps every suffix of `path` (`.nii.gz`), because many writers choose the
    format by it. Readers of `path` see the old file or the new one, never a part.

    Raises OutputError if the folder does not exist or cannot be written, or if `path` is a folder.
    """
    path = Path(path)
    temporary = path.parent / f".{secrets.token_hex(4)}-{path.name}"
    _create(temporary, path)
    mode = temporary.stat().st_mode & 0o777
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())  # else a power cut can leave the new name with old or no bytes
        os.chmod(temporary, mode)  # some writers make files that only their owner can read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _create(temporary: Path, path: Path) -> None:
    """Create the temporary file now, so that a bad folder is refused before any work is done."""
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another folder") from error


def map_array(path: Path) -> NDArray:
    """The numbers of a .npy file, read from disk where they are looked at. Raises OSError, ValueError (damaged)."""
    from numpy.lib.format import open_memmap

    try:
        return open_memmap(path, mode="r")
    except OSError:
        raise
    except Exception as error:  # the header is Python source, and damaged source raises almost anything
        raise ValueError("it is not, or not all of, a .npy file of numbers") from error


def make_folder(path: Path | str) -> Path:
    """Make a folder and its parents where they are missing. Raises OutputError where that cannot be."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another") from error
    return folder

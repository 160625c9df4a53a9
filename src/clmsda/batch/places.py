"""Where CTs lie and results go: folders, or an object store's addresses (s3://BUCKET/...) through fsspec.

An address is a `UPath`, which behaves like a Path in what is asked of it here, and is typed as one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os.path import commonpath
from pathlib import Path
from typing import Any

from clmsda.batch.errors import BatchError
from clmsda.errors import one_line
from clmsda.files import OutputError, replacing, temporary_folder

MARK = "://"


def place(text: str | Path, within: Path | None = None) -> Path:
    """A path, relative to a folder where one is given, or an address. Raises BatchError for one of an unknown kind."""
    if MARK not in str(text):
        return within / text if within is not None else Path(text)
    try:
        from upath import UPath

        address: Any = UPath(str(text))
        address.fs  # noqa: B018  what it takes is imported here
    except ImportError as error:
        raise BatchError(
            f"{text} needs pip install 'clmsda[cluster]' and fsspec's package for such addresses, as s3fs for s3:// "
            f"({error})"
        ) from error
    except ValueError as error:
        raise BatchError(f"expected a path or an address that fsspec knows, found {text}: {error}") from error
    return address


def is_address(path: Path) -> bool:
    """Whether it is no path of this machine."""
    return not isinstance(path, Path)


@contextmanager
def at_hand(path: Path, files: Sequence[Path] = ()) -> Iterator[Path]:
    """A file or folder where it can be read: itself, or a copy of what lies at an address.

    files: those of the folder that count, where it holds others, too. They are linked, under their names.
    """
    if is_address(path):
        with temporary_folder() as folder:
            copy = folder / path.name
            _fetch(path, copy)
            yield copy
    elif files:
        with temporary_folder() as folder:
            root = Path(commonpath([file.parent for file in files])).resolve()
            for file in files:
                link = folder / file.resolve().parent.relative_to(root) / file.name
                link.parent.mkdir(parents=True, exist_ok=True)
                _link(file.resolve(), link)
            yield folder
    else:
        yield path


def _link(file: Path, link: Path) -> None:
    try:
        link.symlink_to(file)
    except OSError:  # Windows allows links to few
        shutil.copyfile(file, link)


def _fetch(address: Any, copy: Path) -> None:
    """Raises FileNotFoundError, OSError."""
    system, name = address.fs, address.path
    if system.isdir(name):
        system.get(name.rstrip("/") + "/", f"{copy}/", recursive=True)
    else:
        system.get_file(name, str(copy))


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A local path to write a file at, which appears at `path` whole, or not at all. Raises OutputError."""
    if is_address(path):
        with temporary_folder() as folder:
            yield folder / path.name
            deliver(folder / path.name, path)
    else:
        with replacing(path) as temporary:
            yield temporary


def deliver(file: Path, address: Any) -> None:
    """Copy a local file to an address. Raises OutputError."""
    try:
        address.parent.mkdir(parents=True, exist_ok=True)
        address.fs.put_file(str(file), address.path)
    except Exception as error:  # every store has its own kinds
        raise OutputError(f"cannot write {address}: {one_line(str(error))[:300]}") from error


def remove(path: Any) -> None:
    """Remove a file, or a folder and what is in it, where it is there."""
    if isinstance(path, Path):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    elif path.exists():
        path.fs.rm(path.path, recursive=True)

"""Archives of DICOM files: unpacked into a temporary folder, after a look at what they claim to hold."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clmsda.files import temporary_folder
from clmsda.images.damage import damage_named
from clmsda.images.errors import MissingPath, TooLarge, UnreadableFile

MOST_FILES = 200_000
MOST_UNPACKED = 100
"""An archive may unpack to so many times its size (CTs: 2 to 5 times; phantoms without noise: 40) ..."""
ALWAYS_UNPACKED = 1 << 28
"""... or to so many bytes, whatever its size."""


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The folder or file itself, or a temporary folder with the content of a .zip.

    Raises MissingPath, TooLarge (more files or bytes than the limits above, or than the disk holds), UnreadableFile
    (also for members of one name, of which only one would be left).
    """
    if not path.exists():
        raise MissingPath(f"there is no file or folder {path}")
    if path.is_dir() or not zipfile.is_zipfile(path):
        yield path
        return
    with temporary_folder() as folder:
        with damage_named(str(path), "it cannot be unpacked (or is it encrypted?)"), zipfile.ZipFile(path) as archive:
            _check_size(path, archive, folder)
            _check_names(path, archive)
            archive.extractall(folder)
        yield folder


def _check_size(path: Path, archive: zipfile.ZipFile, folder: Path) -> None:
    """What members claim is a limit to what they become: zipfile reads no more of them."""
    members = archive.infolist()
    size, packed = sum(member.file_size for member in members), path.stat().st_size
    if len(members) > MOST_FILES:
        raise TooLarge(f"{path} holds {len(members):,} files; expected at most {MOST_FILES:,}: unpack it yourself")
    if size > max(ALWAYS_UNPACKED, MOST_UNPACKED * packed):
        raise TooLarge(
            f"{path} would unpack to {size / 1e9:.3g} GB, {size / packed:.0f} times its size; expected at most "
            f"{MOST_UNPACKED} times: if you trust it, unpack it yourself and give the folder"
        )
    free = shutil.disk_usage(folder).free
    if size > free:
        raise TooLarge(
            f"{path} would unpack to {size / 1e9:.3g} GB, but {folder.parent} has {free / 1e9:.3g} GB left: "
            "unpack it yourself and give the folder, or set TMPDIR"
        )


def _check_names(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise UnreadableFile for members that would become one file: the one that is unpacked last would win."""
    seen: set[str] = set()
    for member in archive.infolist():
        parts = [part for part in member.filename.split("/") if part not in ("", os.curdir, os.pardir)]
        name = "/".join(parts)  # as zipfile writes it
        if member.is_dir():
            continue
        if name in seen:
            raise UnreadableFile(
                f"{path} holds several files named {name}, of which only one can be unpacked: pack it again with a "
                "folder for each"
            )
        seen.add(name)

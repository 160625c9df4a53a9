"""Output files appear whole or not at all: not where work fails, the disk is full, or the process is killed.

What a killed process left under a temporary name is taken away by the next one that writes the same file. A file
that is being written is locked by its writer, and the lock ends with the writer, so none is taken from a living one.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from clmsda.errors import InputError

try:
    import fcntl
except ImportError:  # Windows has no such locks: what killed processes left stays there, and is passed over
    fcntl = None  # type: ignore[assignment]

_FILE = re.compile(r"\.clmsda-[0-9a-f]{8}-(?P<name>.+)", re.DOTALL)
_FOLDER = re.compile(r"\.clmsda-[0-9a-f]{16}")

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None)  # None: numpy tells the bytes that are missing, but no number

_final: dict[Path, Path] = {}
"""What this process is writing: the temporary path of each file, and its final one."""
LOCK = ".lock"
"""The file of a folder by which a process has it alone; it stays there."""
_locks: set[IO[str]] = set()
"""Lock files that are open. Processes that are forked, as those that prepare samples, have them, too, and outlive a
killed parent for some seconds, in which the same command would find its folder taken: they let go of them at once."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: [file.close() for file in _locks])
if TYPE_CHECKING:
    from numpy.typing import NDArray


class OutputError(InputError):
    """A place where an output file cannot be written."""


@contextmanager
def replacing(path: str | os.PathLike[str], *, sync: bool = True) -> Iterator[Path]:
    """Give a temporary path beside `path`: renamed to `path` on success, removed on failure.

    The temporary name keeps every suffix of `path` (`.nii.gz`), because many writers choose the
    format by it. Readers of `path` see the old file or the new one, never a part. A path that is itself a
    temporary one of an outer block is given back as it is: the outer block renames it.
    sync: wait for the disk, else a power cut can leave the new name with no bytes.

    Raises OutputError if the folder does not exist or cannot be written or is full, or if `path` is a folder.
    """
    path = Path(path)
    if path in _final:
        with _full(_final[path]):
            yield path
        return
    with _temporary(path) as temporary:
        with _full(path):
            yield temporary
        _rename({temporary: path}, sync)


@contextmanager
def replacing_all(paths: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """`replacing` for several files that belong together: all appear, one right after the other in this order, or none.

    Entered before the work, it refuses a folder that cannot be written before the work. What the block takes out of
    the dictionary that it is given does not appear. Raises OutputError.
    """
    with ExitStack() as made:
        temporary = {kind: made.enter_context(_temporary(path)) for kind, path in paths.items()}
        yield temporary
        _rename({path: paths[kind] for kind, path in temporary.items()}, sync=True)


def is_unfinished(path: Path) -> bool:
    """Whether a file or folder has a temporary name of this module: what readers of folders pass over."""
    return (_FILE.fullmatch(path.name) or _FOLDER.fullmatch(path.name)) is not None


def remove_unfinished(folder: Path, name: str | None = None) -> None:
    """Take away what killed processes left of files in a folder, or of the one of this name."""
    with suppress(OSError):  # a folder that may be written but not listed
        for path in folder.iterdir():
            found = _FILE.fullmatch(path.name)
            if found and name in (None, found["name"]):
                _remove_unless_locked(path)


@contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder in `parent` (else where the system has such things) that is removed at the end of the block.

    Once it is there, those that killed processes left are removed. Raises OutputError.
    """
    try:
        folder, lock = _locked_folder(parent or Path(tempfile.gettempdir()))
    except OSError as error:
        place = f"in {parent}" if parent else f"in {tempfile.gettempdir()}"
        remedy = "choose another" if parent else "make room, or set TMPDIR"
        raise OutputError(f"cannot make a folder {place}: {error.strerror or error}; {remedy}") from error
    try:
        _remove_unfinished_folders(folder.parent)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


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


@contextmanager
def claimed(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Whether this process alone has a folder: another one has it until it leaves the block, or dies.

    wait: for the other one to leave. Where the system has no such locks, everybody has it. Raises OutputError.
    """
    if fcntl is None:
        yield True
        return
    with _lock_file(folder) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks
            pass
        yield True


@contextmanager
def _lock_file(folder: Path) -> Iterator[IO[str]]:
    path = folder / LOCK
    try:
        file = path.open("w")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}; choose another folder") from error
    _locks.add(file)
    try:
        with file:
            yield file
    finally:
        _locks.discard(file)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A new locked file beside `path`, made now, so that a bad folder is refused before any work is done."""
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder; give the name of a file in it")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist; create it first")
    remove_unfinished(path.parent, path.name)
    temporary, made, lock = path, False, None
    try:  # around making it, too: a signal that ends the process may come at any moment
        while not made:
            temporary = path.parent / f".clmsda-{secrets.token_hex(4)}-{path.name}"
            made, lock = _new_file(temporary, path)
        _final[temporary] = path
        yield temporary
    finally:
        _final.pop(temporary, None)
        if temporary != path:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def _rename(names: Mapping[Path, Path], sync: bool) -> None:
    """Give files their final names, once all of them are safely on the disk."""
    for temporary, path in names.items():
        try:
            with open(temporary, "rb+") as written:
                if sync:
                    os.fsync(written.fileno())
        except OSError as error:
            raise _unwritten(path, error) from error
    for temporary, path in names.items():
        try:
            os.replace(temporary, path)
        except OSError as error:
            raise _unwritten(path, error) from error


@contextmanager
def _full(path: Path) -> Iterator[None]:
    """Name the file that a full disk (or a limit) has no room for, which the system does not."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _unwritten(path, error) from error
        raise


def _unwritten(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}; make room, or choose another folder")


def _new_file(temporary: Path, path: Path) -> tuple[bool, int | None]:
    """Make a file and lock it: whether that succeeded (else it may under another name), and the lock.

    Windows has no such lock, and renames no file that is open: there it is closed. Raises OutputError.
    """
    try:
        lock = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    except FileExistsError:  # somebody else's
        return False, None
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}; choose another folder") from error
    if fcntl is not None and _still_there(temporary, lock):
        return True, lock
    os.close(lock)
    return fcntl is None, None


def _locked_folder(parent: Path) -> tuple[Path, int | None]:
    while True:
        folder = parent / f".clmsda-{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700)
        try:
            lock = None if fcntl is None else os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # taken for left behind, before it could be locked
            continue
        if lock is None or _still_there(folder, lock):
            return folder, lock
        os.close(lock)


def _remove_unfinished_folders(parent: Path) -> None:
    with suppress(OSError):
        for path in parent.iterdir():
            if _FOLDER.fullmatch(path.name) and _is_own_folder(path):
                _remove_unless_locked(path)


def _still_there(path: Path, lock: int) -> bool:
    """Lock a new file or folder. False where another process took it for left behind, before it was locked."""
    if fcntl is None:
        return True
    with suppress(OSError):  # a file system without locks, where nothing can be locked and so nothing is removed
        fcntl.flock(lock, fcntl.LOCK_EX)
    return path.exists()


def _remove_unless_locked(path: Path) -> None:
    """Remove a file or folder that no living process is writing."""
    if fcntl is None:
        return
    with suppress(OSError):
        lock = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # NFS locks only what may be written
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        finally:
            os.close(lock)


def _is_own_folder(path: Path) -> bool:
    """Whether a folder is this user's, and no link: anybody may write where temporary folders are made."""
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and (not hasattr(os, "geteuid") or found.st_uid == os.geteuid())

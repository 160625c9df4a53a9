"""Files that come over HTTP, into a private folder of their own: all of them, or nothing is left.

Names that a client gives are kept only for people and for their suffix; no folder of theirs is made, and no file that
names another (a detached header) is read, as it could name one of this machine's.
"""

from __future__ import annotations

import re
import shutil
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from clmsda.errors import InputError
from clmsda.images.archives import MOST_FILES
from clmsda.serving.http import bodies
from clmsda.serving.http.served import Served

DETACHED = (".nhdr", ".mhd")
MOST_HEADER = 1 << 16
LONGEST = 80


@asynccontextmanager
async def received(request: Request, served: Served) -> AsyncIterator[tuple[Path, Path]]:
    """What was sent: its folder, and in it the file, or the folder of several files.

    The folder is removed where anything goes wrong within, and is the caller's where nothing does.
    Raises TooMuch, BadRequest, ClientDisconnect, InputError.
    """
    folder = served.new_folder()
    try:
        kind = request.headers.get("content-type", "")
        if kind.lower().startswith("multipart/"):
            path = await _several(request, folder, served.most_bytes)
        else:
            (folder / "files").mkdir()
            path = folder / "files" / safe_name(request.query_params.get("name", ""))
            if not await bodies.to_file(request, path, served.most_bytes):
                raise bodies.BadRequest("the file is empty: choose one with a CT")
        await run_in_threadpool(_check_all, path)
        yield folder, path
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


async def _several(request: Request, folder: Path, most: int) -> Path:
    """The files of a form, numbered; the file itself where there is only one."""
    from clmsda.serving.http.forms import Form

    form = Form(request.headers.get("content-type", ""), folder / "files", safe_name, MOST_FILES)
    try:
        async for chunk in bodies.chunks(request, most):
            await run_in_threadpool(form.take, chunk)
        form.end()
    finally:
        form.close()
    return form.paths[0] if len(form.paths) == 1 else form.folder


def safe_name(name: str) -> str:
    """A file's name without a folder, of letters, digits, dots and dashes; its suffix stays."""
    name = re.split(r"[/\\]", name)[-1]
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "_", plain)[-LONGEST:].lstrip(".-") or "upload"


def shown_name(name: str, otherwise: str) -> str:
    """A name for people, as the client gave it, in one line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in re.split(r"[/\\]", name)[-1]).split())
    return line[:LONGEST] or otherwise


def _check_all(path: Path) -> None:
    for one in [path] if path.is_file() else path.iterdir():
        check_whole(one)


def check_whole(path: Path) -> None:
    """Refuse a file whose voxels lie in another, which its header could choose freely. Raises InputError."""
    name = path.name.lower()
    if name.endswith(DETACHED):
        whole = False
    elif name.endswith((".nrrd", ".mha")):
        with open(path, "rb") as file:
            head = file.read(MOST_HEADER).replace(b"\r", b"")
        whole = _is_whole_nrrd(head) if name.endswith(".nrrd") else _is_whole_mha(head)
    else:
        whole = True
    if not whole:
        raise InputError(f"{path.name} is damaged or keeps its voxels in another file: save it as one .nrrd or .nii.gz")


def _is_whole_nrrd(head: bytes) -> bool:
    """Whether the voxels follow the header, which an empty line ends."""
    fields, end, _ = head.partition(b"\n\n")
    return head.startswith(b"NRRD") and bool(end) and not re.search(rb"(?im)^\s*data ?file\s*:", fields)


def _is_whole_mha(head: bytes) -> bool:
    """Whether the voxels follow the header, of which this is the last line."""
    found = re.search(rb"(?im)^\s*elementdatafile\s*=([^\n]*)\n", head)
    return not head.startswith(b"NRRD") and found is not None and found[1].strip().upper() == b"LOCAL"

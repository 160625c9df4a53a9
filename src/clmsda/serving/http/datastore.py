"""`Datastore`: the images that viewers of the MONAI Label protocol may name, and the labels that they save for them.

An image was given at the start or sent, to be kept until the server ends or for one session. What a viewer calls it is
a key and never a path.
"""

from __future__ import annotations

import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from clmsda.errors import InputError, heard
from clmsda.geometry import Grid, Volume
from clmsda.images import as_ct, read_ct, read_mask, write_mask
from clmsda.images.orientation import axial_first
from clmsda.images.voxel_files import READ_SUFFIXES, is_voxel_file, read_as_stored
from clmsda.serving.http.answers import Nothing, without
from clmsda.serving.http.given import Given
from clmsda.serving.http.served import Served
from clmsda.serving.http.uploads import safe_name
from clmsda.serving.sessions import Busy, NotOpen, Session

MOST = 32
"""So many images may be sent and kept at once, and so many times the largest upload on disk."""
MOST_UPLOADS = 8
SESSION_S = 3600.0
LONGEST = 128
FINAL = "final"

_TAG = re.compile(r"[A-Za-z0-9_-]{1,32}")


@dataclass(eq=False)
class Image:
    """path: a file, or a folder of DICOM files. series: of several. folder: its own, which goes with it; None if given.

    labels: files by tag. lasts_s: forgotten when it was not used for so long. grid: of the file's own axes, once read.
    """

    path: Path
    series: str | None = None
    folder: Path | None = None
    lasts_s: float | None = None
    labels: dict[str, Path] = field(default_factory=dict)
    grid: Grid | None = None
    opened: str | None = None
    used: float = field(default_factory=time.time)
    since: float = field(default_factory=time.time)

    @property
    def is_dicom(self) -> bool:
        return not is_voxel_file(self.path)


class Datastore:
    """Images by key; sessions beside them. Methods may be called from any thread."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self._images: dict[str, Image] = {}
        self._sessions: dict[str, Image] = {}
        self._known: set[Given] = set()
        self._lock = threading.RLock()

    def images(self) -> dict[str, Image]:
        """All images but those of sessions; what was given appears as it is looked through."""
        with self._lock:
            for given in self.served.given:
                if given.listed.is_set() and given not in self._known and not given.fault:
                    self._known.add(given)
                    for image in _of(given):
                        self._images[self._free_key(stem(given.path.name))] = image
            return dict(self._images)

    def image(self, key: str) -> Image:
        """Raises Nothing."""
        return _used(self.images().get(key), "image")

    def session(self, key: str) -> Image:
        """Raises Nothing."""
        self.forget()
        with self._lock:
            return _used(self._sessions.get(key), "session")

    def keep(self, key: str, folder: Path, path: Path) -> str:
        """Keep an image that was sent, under a key of the sender's; the one that was sent under it before goes.

        Raises InputError for a key that is none, or of an image that was given; Busy where too many are kept.
        """
        if not key.isprintable() or len(key) > LONGEST:
            raise InputError(f"expected an image's name of at most {LONGEST} characters in one line")
        with self._lock:
            before = self.images().get(key) if key else None
            if before is not None and before.folder is None:
                raise InputError("an image of this name was given to the server and is not changed: send another name")
            if before is None:
                self._make_room()
            key = key or self._free_key("image")
            self._images[key] = Image(path, folder=folder, labels={} if before is None else before.labels)
        if before is not None:
            self._drop(before)
        return key

    def begin(self, folder: Path, path: Path, lasts_s: float) -> str:
        """A session with an image that was sent; returns its key. lasts_s: at most `SESSION_S`. Raises Busy."""
        self.forget()
        key = secrets.token_urlsafe(16)
        with self._lock:
            self._make_room()
            lasts_s = min(lasts_s, SESSION_S) if lasts_s > 0 else SESSION_S
            self._sessions[key] = Image(path, folder=folder, lasts_s=lasts_s)
        return key

    def end(self, key: str) -> None:
        """Forget a session and its image. Raises Nothing."""
        with self._lock:
            image = _used(self._sessions.pop(key, None), "session")
        self._drop(image)

    def remove(self, key: str) -> None:
        """Forget an image that was sent, and its labels. Raises Nothing; InputError for one that was given."""
        with self._lock:
            image = self.image(key)
            if image.folder is None:
                raise InputError("this image was given to the server: it is not deleted over the network")
            del self._images[key]
        self._drop(image)

    def forget(self) -> None:
        """Forget the sessions that nobody uses any more."""
        now = time.time()
        with self._lock:
            old = [key for key, one in self._sessions.items() if now - one.used > (one.lasts_s or SESSION_S)]
            gone = [self._sessions.pop(key) for key in old]
        for image in gone:
            self._drop(image)

    def open(self, image: Image) -> Session:
        """The session at the desk of an image, which is read unless it is open. Raises InputError, Busy."""
        desk = self.served.desk
        if image.opened is not None:
            try:
                return desk.get(image.opened).session
            except NotOpen:
                image.opened = None
        with heard(here=True) as warnings:
            volume, image.grid = self.read(image)
        image.opened = desk.put(volume, name="of another viewer", warnings=warnings, kept=False, listed=False)
        return desk.get(image.opened).session

    def read(self, image: Image) -> tuple[Volume, Grid]:
        """The CT, and the grid of its file's own axes. Raises InputError, without the names of folders."""
        with _unnamed(image.path):
            if image.is_dicom:
                volume = read_ct(image.path, series=image.series)
                return volume, volume.grid
            stored = read_as_stored(image.path)
            return as_ct(axial_first(stored)), stored.grid

    def save_label(self, key: str, tag: str, path: Path) -> Path:
        """Keep a label that was sent for an image, in the folder for results where there is one.

        Raises Nothing, InputError for a tag that is none, or a file that is no mask of the image.
        """
        if not _TAG.fullmatch(tag):
            raise InputError(f"expected a tag of letters, digits, - and _; found {tag[:40]!r}")
        image = self.image(key)
        with _unnamed(path):
            mask = read_mask(path, grid=image.grid)
        name = safe_name(stem(image.path.name)) if image.folder is None else f"sent-{image.folder.name}"
        folder = self.served.private / "labels" if self.served.out is None else self.served.out
        folder.mkdir(parents=True, exist_ok=True)
        image.labels[tag] = folder / f"{name}.{tag}.label.nii.gz"
        write_mask(mask, image.labels[tag])
        return image.labels[tag]

    def label(self, key: str, tag: str) -> Path:
        """Raises Nothing."""
        path = self.image(key).labels.get(tag)
        if path is None or not path.is_file():
            raise Nothing("there is no label of this image and tag")
        return path

    def remove_label(self, key: str, tag: str) -> None:
        """Raises Nothing."""
        self.label(key, tag).unlink()
        del self.image(key).labels[tag]

    def _free_key(self, name: str) -> str:
        key, number = name, 1
        while key in self._images:
            number += 1
            key = f"{name}-{number}"
        return key

    def _make_room(self) -> None:
        sent = [one for one in (*self._images.values(), *self._sessions.values()) if one.folder is not None]
        held = sum(_size(one.folder) for one in sent if one.folder is not None)
        if len(sent) >= MOST or held > MOST_UPLOADS * self.served.most_bytes:
            raise Busy(f"{len(sent)} images with {held >> 20} MB were sent and are kept: end a session, or delete one")

    def _drop(self, image: Image) -> None:
        if image.opened is not None:
            self.served.desk.close(image.opened)
        if image.folder is not None:
            shutil.rmtree(image.folder, ignore_errors=True)


def stem(name: str) -> str:
    """A file's name without what says that it is an image."""
    suffix = suffix_of(name)
    return (name[: -len(suffix)] if suffix else name) or "image"


def suffix_of(name: str) -> str:
    """What a file's name ends in, if clmsda reads that."""
    known = (".seg.nrrd", *sorted(READ_SUFFIXES, key=len, reverse=True), ".zip", ".dcm")
    return next((suffix for suffix in known if name.lower().endswith(suffix)), "")


def _of(given: Given) -> list[Image]:
    if given.series is None:
        return [Image(given.path)]
    return [Image(given.path, series["uid"]) for series in given.series]


def _used(image: Image | None, what: str) -> Image:
    if image is None:
        raise Nothing(f"there is no such {what} (any more): send the image again")
    image.used = time.time()
    return image


def _size(folder: Path) -> int:
    return sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())


@contextmanager
def _unnamed(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise without(path.parent, error) from None

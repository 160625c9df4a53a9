"""Damage that knows no format: bytes, and whole files of a folder."""

from __future__ import annotations

import random

from fuzz.cases import Edit, Files

JUNK = {
    "empty": b"",
    "text": b"This is a note.\r\n",
    "viewer": b"MZ\x90\x00\x03\x00\x00\x00" + bytes(range(256)),
    "zeros": bytes(700),
    "preamble": bytes(128) + b"DICM",
    "old": b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + bytes(200),
    "json": b'{"PixelData": null}',
}
NAMES = (
    "AAA",
    "zzz.dcm",
    "DICOMDIR",
    "sub/IM0001.dcm",
    "viewer.exe",
    ".hidden",
    "notes.txt",
    "IM0002.DCM",
    "\u8096.dcm",
)


def _flip(files: Files, path: str, at: int, change: int) -> None:
    data = bytearray(files[path])
    data[at] ^= change
    files[path] = bytes(data)


def _cut(files: Files, path: str, length: int) -> None:
    files[path] = files[path][:length]


def _drop(files: Files, path: str, start: int, length: int) -> None:
    files[path] = files[path][:start] + files[path][start + length :]


def _double(files: Files, path: str, start: int, length: int) -> None:
    data = files[path]
    files[path] = data[: start + length] + data[start:]


def _fill(files: Files, path: str, start: int, length: int, byte: int) -> None:
    data = files[path]
    files[path] = data[:start] + bytes([byte]) * len(data[start : start + length]) + data[start + length :]


def _insert(files: Files, path: str, at: int, text: str) -> None:
    files[path] = files[path][:at] + text.encode("latin-1") + files[path][at:]


def _remove_file(files: Files, path: str) -> None:
    del files[path]


def _copy_file(files: Files, path: str, name: str) -> None:
    files[_beside(path, name)] = files[path]


def _add_file(files: Files, path: str, name: str, kind: str) -> None:
    files[_beside(path, name)] = JUNK[kind]


def _beside(path: str, name: str) -> str:
    folder, slash, _ = path.rpartition("/")
    return folder + slash + name


OPERATIONS = {
    "flip": _flip,
    "cut": _cut,
    "drop": _drop,
    "double": _double,
    "fill": _fill,
    "insert": _insert,
    "remove-file": _remove_file,
    "copy-file": _copy_file,
    "add-file": _add_file,
}


def draw(rng: random.Random, files: Files) -> Edit | None:
    """Flipped, missing, repeated or overwritten bytes; more often near the start, where headers are."""
    path = rng.choice(sorted(files))
    size = len(files[path])
    if not size:
        return None
    start = int(size * rng.random() ** rng.choice((1, 4)))
    length = rng.choice((1, 2, 4, 8, 16, 132, 512, 4096))
    name = rng.choice(("flip", "flip", "flip", "cut", "cut", "drop", "double", "fill", "insert"))
    if name == "flip":
        return ["flip", path, start, 1 << rng.randrange(8) if rng.random() < 0.7 else 255]
    if name == "cut":
        return ["cut", path, start]
    if name == "fill":
        return ["fill", path, start, length, rng.choice((0, 255, 0x20, 0x30, 0x39, 0x7F, 0x80))]
    if name == "insert":
        return ["insert", path, start, rng.choice(("\x00", "\xff\xfe\xfd", "\r\n", "-", "9" * 20, "\x00" * 512))]
    return [name, path, start, length]


def draw_file(rng: random.Random, files: Files) -> Edit | None:
    """A file that is missing, is there twice, or does not belong there."""
    path = rng.choice(sorted(files))
    name = rng.choice(("remove-file", "copy-file", "add-file"))
    if name == "remove-file":
        return [name, path]
    beside = rng.choice(NAMES)
    return [name, path, beside] if name == "copy-file" else [name, path, beside, rng.choice(sorted(JUNK))]

"""Damage to zips: members that do not belong there, are there twice, or are not what the directory says."""

from __future__ import annotations

import io
import random
import stat
import struct
import zipfile

from fuzz.cases import Edit, Files
from fuzz.edits.octets import JUNK

NAMES = (
    "../outside.dcm", "/absolute.dcm", "C:\\x\\y.dcm", "a/../../b.dcm", "x" * 300, "a/" * 200 + "deep.dcm", "nul\x00byte",
    "IM0001.dcm", "IM0001.dcm/below.dcm", "folder/", "\u8096\u764c.dcm", "..", ".", "", "AUX", "a\nb.dcm", "DICOMDIR",
)  # fmt: skip
# where a field begins, and its type, in the local headers and in the central directory (APPNOTE.TXT 4.3.7, 4.3.12)
FIELDS = {
    "local": {"flags": (6, "<H"), "method": (8, "<H"), "crc": (14, "<L"), "packed": (18, "<L"), "size": (22, "<L"),
              "name": (26, "<H"), "extra": (28, "<H")},
    "central": {"flags": (8, "<H"), "method": (10, "<H"), "crc": (16, "<L"), "packed": (20, "<L"), "size": (24, "<L"),
                "name": (28, "<H"), "extra": (30, "<H"), "attributes": (38, "<L"), "offset": (42, "<L")},
    "end": {"disk": (4, "<H"), "here": (8, "<H"), "entries": (10, "<H"), "length": (12, "<L"), "offset": (16, "<L")},
}  # fmt: skip
SIGNATURES = {"local": b"PK\x03\x04", "central": b"PK\x01\x02", "end": b"PK\x05\x06"}
VALUES = (0, 1, 2, 8, 9, 12, 14, 93, 99, 0x800, 0xFFFF, 1 << 20, 1 << 31, 0xFFFFFFFF)


def _member(files: Files, path: str, name: str, kind: str, megabytes: int = 0) -> None:
    """Add a member: junk, zeros that pack to a thousandth, a link, the zip itself, or the first member again."""
    before = files[path]
    with zipfile.ZipFile(stream := io.BytesIO(before), "a", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        if kind == "link":
            info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
        elif kind == "again":
            archive.writestr(info, archive.read(archive.namelist()[0]))
        elif kind == "zip":
            archive.writestr(info, before)
        elif kind == "zeros":
            with archive.open(info, "w", force_zip64=True) as member:
                for _ in range(megabytes):
                    member.write(bytes(1 << 20))
        else:
            archive.writestr(info, JUNK[kind])
    files[path] = stream.getvalue()


def _record(files: Files, path: str, record: str, index: int, field: str, value: int) -> None:
    """Set a field of a local header, of an entry of the directory, or of the end record."""
    data = bytearray(files[path])
    at = -1
    for _ in range(index + 1):
        at = data.find(SIGNATURES[record], at + 1)
    start, kind = FIELDS[record][field]
    struct.pack_into(kind, data, at + start, value % (1 << 8 * struct.calcsize(kind)))
    files[path] = bytes(data)


def _prefix(files: Files, path: str, length: int) -> None:
    """Bytes in front, as in a program that unpacks itself."""
    files[path] = b"MZ" + bytes(length) + files[path]


OPERATIONS = {"member": _member, "record": _record, "prefix": _prefix}


def draw(rng: random.Random, files: Files) -> Edit | None:
    path = rng.choice(sorted(path for path in files if path.endswith(".zip")) or [""])
    if not path:
        return None
    how = rng.random()
    if how < 0.5:
        kind = rng.choice((*sorted(JUNK), "link", "again", "zip", "zeros"))
        return ["member", path, rng.choice(NAMES), kind, *([rng.choice((1, 20, 300))] if kind == "zeros" else [])]
    if how < 0.97:
        record = rng.choice(("local", "central", "central", "end"))
        index = 0 if record == "end" else rng.randrange(max(1, files[path].count(SIGNATURES[record])))
        return ["record", path, record, index, rng.choice(sorted(FIELDS[record])), rng.choice(VALUES)]
    return ["prefix", path, rng.choice((10, 5000))]

"""Damage to DICOM files: elements removed, emptied, of the wrong type or out of range; items; pixels; nesting."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

from pydicom import Dataset, config, dcmread
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.tag import Tag

from fuzz.cases import Edit, Files

TEXTS = (
    "", " ", "0", "-1", "1", "2", "nan", "inf", "-inf", "1e308", "-1e308", "1e-300", "abc", "1\\2", "\\\\\\", "0\\0\\0",
    "99999999999999999999", "1,5", "\xe9\x00", "A" * 300, "1.2.3", "\x00", "\x1b$B", "0x10", "1e", "+-3", "2147483648",
)  # fmt: skip
NUMBERS = (0, 1, 2, 3, 7, 8, 12, 16, 17, 24, 32, 64, 255, 256, 1000, 32767, 32768, 65535, 1 << 24, (1 << 31) - 1, -1)
REALS = (0.0, -1.0, 1.0, 1e-300, 1e300, float("nan"), float("inf"), 0.5)
WIDTHS = {"US": "<H", "SS": "<h", "UL": "<L", "SL": "<l", "FL": "<f", "FD": "<d", "AT": "<L", "UV": "<Q", "SV": "<q"}
KINDS = ("DS", "IS", "UI", "LO", "CS", "PN", "DA", "UN", "OB", "OW", "SQ", "UT", *WIDTHS)
LIKELY = {
    "PhotometricInterpretation": ("RGB", "MONOCHROME1", "PALETTE COLOR", "YBR_FULL_422", "MONOCHROME3"),
    "SegmentationType": ("BINARY", "FRACTIONAL", "LABELMAP", "binary", "OTHER"),
    "SegmentationFractionalType": ("PROBABILITY", "OCCUPANCY", ""),
    "ContourGeometricType": ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR", "CLOSEDPLANAR_XOR", ""),
    "NumberOfFrames": ("0", "1", "2", "1000000000", "-5", "1\\2"),
    "SOPClassUID": (
        "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.66.4",
        "1.2.840.10008.5.1.4.1.1.66.7", "1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.7",
        "1.2.840.10008.1.3.10", "1.2.840.10008.5.1.4.1.1.88.33", "nonsense",
    ),
    "TransferSyntaxUID": (
        "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90",
        "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.5",
        "1.2.840.113619.5.2", "1.3.46.670589.33.1.4.1", "", "x",
    ),
    "Modality": ("CT", "MR", "SR", "SEG", "RTSTRUCT", ""),
    "ValueType": ("NUM", "CONTAINER", "CODE", "TEXT", "IMAGE", "UIDREF", "SCOORD3D", ""),
    "CodeValue": ("125007", "112040", "118565006", "103339001", "mm", "cm3", "1", "um", "[in_i]"),
    "SpecificCharacterSet": ("ISO_IR 192", "ISO 2022 IR 87", "ISO 2022 IR 13\\ISO 2022 IR 87", "GB18030", "nonsense"),
    "ImageType": ("ORIGINAL\\PRIMARY\\LOCALIZER", "LOCALIZER", "DERIVED", ""),
    "RescaleType": ("US", "OD", "HU"),
    "StudyDate": ("20240230", "2024", "00000000", "2024.01.02", "99999999"),
}  # fmt: skip
META = "meta"


def _tag(files: Files, path: str, place: str, vr: str, value: str) -> None:
    """Set an element's bytes (latin-1) and type."""

    def change(dataset: Dataset, tag: int) -> None:
        raw = value.encode("latin-1")
        dataset[tag] = RawDataElement(Tag(tag), vr, len(raw), raw, 0, False, True)

    _changed(files, path, place, change)


def _untag(files: Files, path: str, place: str) -> None:
    _changed(files, path, place, lambda dataset, tag: dataset.__delitem__(tag))


def _resize(files: Files, path: str, place: str, length: int) -> None:
    """Cut an element's bytes, or fill them up with zeros."""

    def change(dataset: Dataset, tag: int) -> None:
        raw = _bytes(dataset, tag)[:length].ljust(length, b"\0")
        dataset[tag] = RawDataElement(Tag(tag), str(dataset[tag].VR), length, raw, 0, False, True)

    _changed(files, path, place, change)


def _item(files: Files, path: str, place: str, number: int, what: str) -> None:
    """Remove, double, empty or swap (with the first) an item of a sequence."""

    def change(dataset: Dataset, tag: int) -> None:
        items = dataset[tag].value
        if what == "remove":
            del items[number]
        elif what == "double":
            items.insert(number, items[number])
        elif what == "empty":
            items[number] = Dataset()
        else:
            items[0], items[number] = items[number], items[0]

    _changed(files, path, place, change)


def _nest(files: Files, path: str, place: str, depth: int) -> None:
    """Put a sequence in a sequence in a sequence ... before the element's own items."""

    def change(dataset: Dataset, tag: int) -> None:
        group, number = divmod(tag, 1 << 16)
        head = struct.pack("<HH2sHL", group, number, b"SQ", 0, 0xFFFFFFFF)
        item, item_end = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF), struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
        raw = (item + head) * depth + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
        raw += (item_end + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)) * (depth - 1) + item_end
        dataset[tag] = RawDataElement(Tag(tag), "SQ", len(raw), raw, 0, False, True)

    _changed(files, path, place, change)


OPERATIONS = {"tag": _tag, "untag": _untag, "resize": _resize, "item": _item, "nest": _nest}


def _changed(files: Files, path: str, place: str, change: Callable[[Dataset, int], object]) -> None:
    """Write a file anew with the element at `place` (keywords or tags, and numbers of items, with / between) changed."""
    data = files[path]
    with config.disable_value_validation():
        whole = dcmread(BytesIO(data), force=True)
        dataset: Any = whole
        *way, last = place.split("/")
        if way[:1] == [META]:
            dataset, way = whole.file_meta, way[1:]
        for step in way:
            dataset = dataset[int(step)] if step.isdecimal() and len(step) < 8 else dataset[_number(step)].value
        change(dataset, _number(last))
        implicit, little = whole.original_encoding
        head, body = DicomBytesIO(), DicomBytesIO()
        head.is_implicit_VR, head.is_little_endian = False, True
        body.is_implicit_VR, body.is_little_endian = bool(implicit), bool(little)
        if place.startswith(META):
            write_file_meta_info(head, whole.file_meta, enforce_standard=False)
            start = data[:132] + head.getvalue()
        else:
            start = data[: _body_at(data)]
        write_dataset(body, whole)
    files[path] = start + body.getvalue()


def _body_at(data: bytes) -> int:
    """Where the file meta information ends: after the length that its first element holds."""
    if data[128:132] != b"DICM" or data[132:136] != b"\x02\x00\x00\x00":
        raise ValueError("no file meta information")
    return 144 + int(struct.unpack_from("<L", data, 140)[0])


def _number(step: str) -> int:
    tag = tag_for_keyword(step)
    return int(step, 16) if tag is None else tag


def _bytes(dataset: Dataset, tag: int) -> bytes:
    raw = dataset.get_item(tag)
    value = raw.value if raw is not None else b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str | list) or not hasattr(value, "__iter__"):
        return str(value).encode("latin-1", "replace")
    return "\\".join(map(str, value)).encode("latin-1", "replace")


def draw(rng: random.Random, files: Files) -> Edit | None:
    """One element or item of one file, or of all alike. Each kind of element is as likely as any other."""
    path = rng.choice(sorted(path for path in files if path.endswith((".dcm", ".DCM"))) or [""])
    if not path:
        return None
    places: dict[str, list[tuple[str, str, Dataset, int]]] = {}
    with config.disable_value_validation():
        dataset = dcmread(BytesIO(files[path]), force=True)
        for place, vr, owner, tag in [*_walk(dataset), *_walk(dataset.file_meta, META + "/")]:
            template = "/".join(step for step in place.split("/") if not step.isdecimal() or len(step) == 8)
            places.setdefault(template, []).append((place, vr, owner, tag))
        place, vr, owner, tag = rng.choice(places[rng.choice(sorted(places))])
        target = "*" if rng.random() < 0.3 else path
        if vr == "SQ" and rng.random() < 0.6:
            items = len(owner[tag].value)
            if not items or rng.random() < 0.1:
                return ["nest", target, place, rng.choice((2, 60, 400, 3000))]
            what = rng.choice(("remove", "double", "empty", "swap"))
            return ["item", target, place, rng.randrange(items), what]
        return _draw_value(rng, target, place, vr, _bytes(owner, tag) if vr != "SQ" else b"")


def _draw_value(rng: random.Random, target: str, place: str, vr: str, raw: bytes) -> Edit:
    how = rng.random()
    if how < 0.2:
        return ["untag", target, place]
    if how < 0.3:
        return ["tag", target, place, vr if vr != "SQ" else "SQ", ""]
    if how < 0.37:
        return [
            "resize",
            target,
            place,
            rng.choice((1, 2, 3, len(raw) // 2, max(0, len(raw) - 1), len(raw) + 1, 2 * len(raw))),
        ]
    keyword = place.rpartition("/")[2]
    if keyword in LIKELY and rng.random() < 0.6:
        return ["tag", target, place, vr, rng.choice(LIKELY[keyword])]
    if vr in ("DS", "IS") and rng.random() < 0.6:
        parts = raw.decode("latin-1").split("\\")
        parts[rng.randrange(len(parts))] = _other_number(rng, parts[0])
        return ["tag", target, place, vr, "\\".join(parts)]
    if rng.random() < 0.2 or vr == "SQ":
        vr = rng.choice(KINDS)
    return ["tag", target, place, vr, _value(rng, vr)]


def _other_number(rng: random.Random, text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        value = 1.0
    return rng.choice((*TEXTS[:14], f"{value * 1.5:g}", f"{-value:g}", f"{value + 0.01:.6g}", f"{value * 1000:g}"))


def _value(rng: random.Random, vr: str) -> str:
    if vr not in WIDTHS:
        return rng.choice(TEXTS)
    form = WIDTHS[vr]
    width = 8 * struct.calcsize(form)
    if vr in ("FL", "FD"):
        number: Any = rng.choice(REALS) if vr == "FD" else rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e30))
    else:
        number = rng.choice(NUMBERS) % (1 << width)
        number -= (1 << width) if form[1].islower() and number >> (width - 1) else 0
    return struct.pack(form, number).decode("latin-1") * rng.choice((1, 1, 1, 2, 3))


def _walk(dataset: Dataset, prefix: str = "") -> Iterator[tuple[str, str, Dataset, int]]:
    """Place, VR, dataset and tag of every element, those of items included."""
    for element in list(dataset.elements()):
        tag = int(element.tag)
        name = keyword_for_tag(tag) or f"{tag:08X}"
        vr = str(element.VR or "UN")
        if vr not in ("SQ", "UN") and prefix == "" and element.VR is None:
            vr = "UN"
        if dataset[tag].VR == "SQ":
            yield prefix + name, "SQ", dataset, tag
            for number, item in enumerate(dataset[tag].value):
                yield from _walk(item, f"{prefix}{name}/{number}/")
        else:
            yield prefix + name, vr if vr != "UN" else str(dataset[tag].VR), dataset, tag

"""Diameters that a reader drew on a CT, out of a SR (PS3.16 TID 1500) or a presentation state (GSPS, PS3.3 A.33).

In a SR, a line is what a measurement was inferred from: SCOORD, two points on an image, or SCOORD3D, two points in
space. In a GSPS it is a graphic object of two points in pixels. A lesion's long axis is the longest of the lines that
its measurement group (or its tracking UID) holds, or that cross each other on a slice; a line that is called a short
axis is none.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clmsda.dicom_objects.errors import NoLines, OtherSeries
from clmsda.dicom_objects.source import Source
from clmsda.errors import InputError
from clmsda.images.dicom_bytes import dicom_bytes
from clmsda.prompts import RecistLine

if TYPE_CHECKING:
    from pydicom import Dataset

_GROUP = "125007"  # DCM, Measurement Group
_TRACKING_UID = "112040"  # DCM
_SHORT_AXIS = ("103340004", "G-A186")  # of SNOMED CT, of SNOMED RT
_ON_PLANE = 1.0
"""Lines whose slices are nearer than this many mm may cross."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Line:
    """ends_mm: (2, 3) LPS. lesion: what tells that lines belong together; "" where nothing does."""

    ends_mm: NDArray[np.float64]
    lesion: str

    @property
    def length_mm(self) -> float:
        return float(np.linalg.norm(self.ends_mm[1] - self.ends_mm[0]))


class _Elsewhere(Exception):
    """A line that is not on this series; the message says where."""


def read_lines(path: Path, source: Source) -> list[RecistLine]:
    """The long axes that are drawn in a SR or GSPS on a CT series, one of each lesion, in the file's order.

    Lines on other images are left out and named in a warning.
    Raises NoLines for a file of another kind, or without a line; OtherSeries where all of them are on other images.
    """
    from pydicom import dcmread
    from pydicom.config import disable_value_validation

    with warnings.catch_warnings(), disable_value_validation(), dicom_bytes(path, str(path)) as file:
        warnings.simplefilter("ignore")  # pydicom names every value that is longer than the standard allows
        dataset = dcmread(file, force=True, stop_before_pixels=True)
        kind = str(dataset.get("Modality") or "another kind of object")
        read = {"SR": _of_report, "PR": _of_presentation}.get(kind)
        if read is None:
            raise NoLines(f"{path}: expected a structured report or a presentation state with lines, found {kind[:40]}")
        found: list[_Line] = []
        elsewhere: list[str] = []
        for lesion, item in read(dataset):
            try:
                found.append(_Line(_ends(item, source), lesion))
            except _Elsewhere as error:
                elsewhere.append(str(error))
    if not found and elsewhere:
        raise OtherSeries(f"{path} has no line on this series: {elsewhere[0]}; give the CT that it was drawn on")
    if not found:
        raise NoLines(f"{path} holds no line of two points: draw the long diameter, or give --recist")
    if elsewhere:
        log.warning("%s: %d of its lines left out: %s", path.name, len(elsewhere), elsewhere[0])
    return [_recist(line, path) for line in _longest(found)]


@dataclass(frozen=True)
class _Drawn:
    """points: (2, 3) LPS mm in the frame of reference of this UID; or (2, 2), column and row from the first pixel's
    corner, on these images.
    """

    points: NDArray[np.float64]
    images: Sequence[Dataset]
    frame_uid: str = ""


def _of_report(report: Dataset) -> Iterator[tuple[str, _Drawn]]:
    """Lines with what they belong to: the tracking UID of their group, else the group's place."""
    for number, (group, items) in enumerate(_groups(report)):
        uids = [str(one.get("UID") or "").strip() for one in items if _code(one) == _TRACKING_UID]
        lesion = next((uid for uid in uids if uid), f"group {number}") if group else ""
        for item in items:
            if _code(item) in _SHORT_AXIS:
                continue
            for child in item.get("ContentSequence") or ():
                drawn = _coordinates(child)
                if drawn is not None:
                    yield lesion, drawn


def _groups(report: Dataset) -> Iterator[tuple[bool, list[Dataset]]]:
    """The items of each measurement group, then those of none."""
    strays: list[Dataset] = []

    def walk(items: Sequence[Dataset]) -> Iterator[list[Dataset]]:
        for item in items:
            if _code(item) == _GROUP:
                yield list(_below(item))
            else:
                strays.append(item)
                yield from walk(item.get("ContentSequence") or ())

    for group in walk(report.get("ContentSequence") or ()):
        yield True, group
    yield False, strays


def _below(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or ():
        yield child
        yield from _below(child)


def _code(item: Dataset) -> str:
    """The value of the code that names an item."""
    first = next(iter(item.get("ConceptNameCodeSequence") or ()), None)
    return str(first.get("CodeValue") or "") if first is not None else ""


def _coordinates(item: Dataset) -> _Drawn | None:
    """What an item SCOORD or SCOORD3D draws, if it is a line."""
    kind = item.get("ValueType")
    if kind not in ("SCOORD", "SCOORD3D") or item.get("GraphicType") not in ("POLYLINE", "MULTIPOINT"):
        return None
    points = _points(item, 2 if kind == "SCOORD" else 3)
    if points is None:
        return None
    if kind == "SCOORD3D":
        return _Drawn(points, (), str(item.get("ReferencedFrameOfReferenceUID") or ""))
    images = [
        image for child in item.get("ContentSequence") or () for image in child.get("ReferencedSOPSequence") or ()
    ]
    return _Drawn(points, images)


def _of_presentation(state: Dataset) -> Iterator[tuple[str, _Drawn]]:
    """A presentation state's lines; its annotations hold for all of its images where they name none (C.10.5)."""
    series = state.get("ReferencedSeriesSequence") or ()
    everywhere = [image for one in series for image in one.get("ReferencedImageSequence") or ()]
    for annotation in state.get("GraphicAnnotationSequence") or ():
        images = list(annotation.get("ReferencedImageSequence") or ()) or everywhere
        for item in annotation.get("GraphicObjectSequence") or ():
            points = _points(item, 2)
            in_pixels = item.get("GraphicAnnotationUnits") == "PIXEL" and item.get("GraphicDimensions", 2) == 2
            if points is not None and in_pixels and item.get("GraphicType") in ("POLYLINE", "INTERPOLATED"):
                yield "", _Drawn(points, images)


def _points(item: Dataset, dimensions: int) -> NDArray[np.float64] | None:
    """(2, dimensions), or None where an item's graphic data are not two different points."""
    try:
        numbers = np.array([float(value) for value in item.get("GraphicData") or ()])
    except (TypeError, ValueError):
        return None
    if numbers.size != 2 * dimensions or not np.isfinite(numbers).all():
        return None
    points = numbers.reshape(2, dimensions)
    return points if np.abs(points[1] - points[0]).max() > 0 else None


def _ends(drawn: _Drawn, source: Source) -> NDArray[np.float64]:
    """(2, 3) LPS mm. Raises _Elsewhere."""
    if drawn.points.shape[1] == 3:
        if drawn.frame_uid != source.frame_uid:
            raise _Elsewhere(f"it was drawn in the frame of reference {drawn.frame_uid or '(none)'}")
        return drawn.points
    if len(drawn.images) != 1:
        raise _Elsewhere(f"expected one image that a line was drawn on, found {len(drawn.images)}")
    k = _slice(drawn.images[0], source)
    return source.to_lps(k, drawn.points[:, ::-1] - 0.5)


def _slice(image: Dataset, source: Source) -> int:
    """The slice of the grid that a reference names. Raises _Elsewhere."""
    uid = str(image.get("ReferencedSOPInstanceUID") or "")
    frame = image.get("ReferencedFrameNumber")
    for k, number in enumerate(source.slices):
        if str(source.images[number].SOPInstanceUID) != uid:
            continue
        if source.frames is None or str(source.frames[k]) == str(frame):
            return k
    raise _Elsewhere(f"a line is on image {uid or '(none)'}{f', frame {frame}' if frame else ''}")


def _longest(lines: list[_Line]) -> list[_Line]:
    """The longest line of each lesion, in the order in which lesions come first."""
    lesions: list[list[_Line]] = []
    for line in lines:
        mine = next((one for one in lesions if any(_together(line, other) for other in one)), None)
        if mine is None:
            lesions.append(mine := [])
        mine.append(line)
    return [max(one, key=lambda line: line.length_mm) for one in lesions]


def _together(a: _Line, b: _Line) -> bool:
    return a.lesion == b.lesion if a.lesion or b.lesion else _cross(a.ends_mm, b.ends_mm)


def _cross(a: NDArray, b: NDArray) -> bool:
    """Whether two lines of one plane cross, as a long and a short axis do."""
    across = np.cross(a[1] - a[0], b[1] - b[0])
    size = float(np.linalg.norm(across))
    if size < 1e-6 or abs(float((b[0] - a[0]) @ across)) / size > _ON_PLANE:
        return False
    shares = [float(np.cross(b[0] - a[0], other) @ across) / size**2 for other in (b[1] - b[0], a[1] - a[0])]
    return all(0 <= share <= 1 for share in shares)


def _recist(line: _Line, path: Path) -> RecistLine:
    try:
        start, end = (tuple(map(float, point)) for point in line.ends_mm)
        return RecistLine(start, end)  # type: ignore[arg-type]
    except InputError as error:
        raise NoLines(f"{path}: {error}") from error

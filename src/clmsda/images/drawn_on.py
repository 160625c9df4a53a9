"""Whether a DICOM mask belongs to an image: the frame of reference, in which positions in mm have a meaning, and the
series that it was drawn on (PS3.3 C.7.4.1, C.8.8.5, C.12.4). A file without these says nothing, and is not refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from pydicom import Dataset

from clmsda.images.damage import damage_named
from clmsda.images.dicom_files import DicomFile
from clmsda.images.errors import OtherFrame
from clmsda.images.masks import dicom_mask
from clmsda.images.region_names import choose, regions_of
from clmsda.images.rtstruct import referenced_series
from clmsda.images.scan_facts import read_frame_uid
from clmsda.images.voxel_files import is_voxel_file

log = logging.getLogger(__name__)


def check_drawn_on(mask: Path, image: Path, series: str, roi: str | None) -> None:
    """Raise OtherFrame for a mask in another frame of reference than an image; say where its series is another one.

    series: of the image, where it is DICOM. roi: the region, as in `read_mask`. Nothing is known of voxel files.
    """
    file = dicom_mask(mask)
    if file is None or (image.is_file() and is_voxel_file(image)):
        return
    with damage_named(file.name):
        compare_frames(file, read_frame_uid(image, series=series), roi)
        say_other_series(file, series, roi)


def compare_frames(file: DicomFile, frame_uid: str, roi: str | None) -> None:
    """Raise OtherFrame if a mask's region says that it lies in another frame of reference than `frame_uid`.

    A region may name a frame that its own file does not list: that contradiction is said, not refused.
    """
    if not frame_uid:
        return
    header = file.header
    known = {_uid(one, "FrameOfReferenceUID") for one in [header, *_frames(header)]} - {""}
    own = ""
    if "SegmentSequence" not in header:
        own = _uid(choose(regions_of(file), roi, file.name).item, "ReferencedFrameOfReferenceUID")
    if own == frame_uid or (not own and (not known or frame_uid in known)):
        return
    said = {own} if own in known else known
    if said and frame_uid not in said:
        raise OtherFrame(
            f"{file.name} lies in another frame of reference, {', '.join(sorted(said))}, than the image, {frame_uid}, "
            "so the same millimeters are other places: give the image that it was drawn on, or register it first"
        )
    log.warning(
        "%s names a frame of reference for its region, %s, that it does not list and that is not the image's, %s: "
        "make sure that it was drawn on this image",
        file.name,
        own,
        frame_uid,
    )


def say_other_series(file: DicomFile, series: str, roi: str | None) -> None:
    """Say where a mask was drawn on other series than this one: whether it fits, the geometry tells."""
    referred = referred_series(file, roi)
    if series and referred and series not in referred:
        log.warning(
            "%s was drawn on another series, %s, than the one given, %s: it is taken because it fits onto the image",
            file.name,
            ", ".join(sorted(referred)),
            series,
        )


def referred_series(file: DicomFile, roi: str | None = None) -> set[str]:
    """The series that a mask says it was drawn on; of an RTSTRUCT those of the region's frame, if they can be told."""
    with damage_named(file.name):
        header = file.header
        frames = list(_frames(header))
        if len(frames) > 1:
            own = _uid(choose(regions_of(file), roi, file.name).item, "ReferencedFrameOfReferenceUID")
            frames = [frame for frame in frames if _uid(frame, "FrameOfReferenceUID") == own] or frames
        series = [*(header.get("ReferencedSeriesSequence") or []), *referenced_series(frames)]
        return {_uid(one, "SeriesInstanceUID") for one in series} - {""}


def _frames(header: Dataset) -> Iterator[Dataset]:
    yield from header.get("ReferencedFrameOfReferenceSequence") or []


def _uid(item: Dataset, keyword: str) -> str:
    return str(item.get(keyword) or "").strip()

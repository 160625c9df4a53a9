"""Regions in RT structure sets and DICOM segmentations: what they are called, drawn on, and where they lie.

Segments of TCIA's collections are told apart by their description (`GTV-1`), as their label is that of the coded
type (`Neoplasm, Primary`).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

from pydicom import DataElement, Dataset
from pydicom.dataelem import RawDataElement
from pydicom.filereader import read_partial

from clmsda.geometry import Grid, Volume
from clmsda.images.damage import damage_named
from clmsda.images.dicom_bytes import dicom_bytes
from clmsda.images.dicom_files import DicomFile, load
from clmsda.images.dicom_seg import read_segments
from clmsda.images.masks import SEG_CLASSES
from clmsda.images.region_names import Region, choose, regions_of
from clmsda.images.rtstruct import read_roi, referenced_series

CONTOUR_DATA = 0x30060050
_BULK = (0x30060039, 0x52009229, 0x52009230, 0x7FE00010)  # contours, functional groups, pixels: long, not needed here


@dataclass(frozen=True)
class Regions:
    """names: of all regions. references: SeriesInstanceUIDs of the images that they were drawn on."""

    path: Path
    study: str
    names: tuple[str, ...]
    references: frozenset[str]


def read_regions(path: Path) -> Regions:
    """What a file says of its regions, before the contours or pixels. Raises UnreadableFile, TooLarge."""
    with warnings.catch_warnings(), dicom_bytes(path, path.name) as file:
        warnings.simplefilter("ignore")  # pydicom names every value that is longer than the standard allows
        header = read_partial(file, stop_when=lambda tag, _, __: tag in _BULK, force=True)
        return Regions(path, str(header.get("StudyInstanceUID") or ""), _names(header), _references(header))


def read_region(path: Path, grid: Grid, name: str) -> Volume:
    """One region on the image's grid. Raises RoiNotFound, BadContour and others of `clmsda.images.errors`."""
    file = load(path)
    with damage_named(file.name):
        if file.sop_class not in SEG_CLASSES:
            _ease_contours(choose(regions_of(file), name, file.name))
            return read_roi(file, grid, name)
        name_segments(file)
        return read_segments(file, grid, name)


def name_segments(file: DicomFile) -> None:
    """Give the segments the names by which `read_regions` tells them apart."""
    for segment in file.header.get("SegmentSequence") or []:
        segment.SegmentLabel = _segment_name(segment)


def _ease_contours(region: Region) -> None:
    """Contours of a region as doubles: pydicom takes as long for their decimal strings as for the heads of a CT."""
    for drawing in region.drawings:
        for contour in drawing.get("ContourSequence") or []:
            raw = contour.get_item(CONTOUR_DATA)
            if isinstance(raw, RawDataElement) and raw.value:
                values = list(map(float, raw.value.split(b"\\")))
                contour[CONTOUR_DATA] = DataElement(CONTOUR_DATA, "FD", values, already_converted=True)


def _names(header: Dataset) -> tuple[str, ...]:
    rois = header.get("StructureSetROISequence") or []
    segments = header.get("SegmentSequence") or []
    return (*(str(roi.get("ROIName") or "").strip() for roi in rois), *map(_segment_name, segments))


def _segment_name(segment: Dataset) -> str:
    label, description = (str(segment.get(f"Segment{word}") or "").strip() for word in ("Label", "Description"))
    return description if description.casefold().startswith("gtv") else label


def _references(header: Dataset) -> frozenset[str]:
    frames = header.get("ReferencedFrameOfReferenceSequence") or []
    series = [*referenced_series(frames), *(header.get("ReferencedSeriesSequence") or [])]
    return frozenset(str(one.SeriesInstanceUID) for one in series if "SeriesInstanceUID" in one)

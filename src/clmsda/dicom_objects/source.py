"""The CT series that objects are made from: its headers, in the order of the grid's slices.

An object files into the study of its source, so it carries the same patient and study attributes, as they are.
Attributes that may be empty by the standard (type 2: PatientID, StudyDate and others) stay empty where the series
has none; a series without one that may not (type 1) is refused.
"""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clmsda.dicom_objects.errors import IncompleteSource, NoSource
from clmsda.geometry import FARTHEST_MM, Grid, Volume
from clmsda.images.orientation import onto

if TYPE_CHECKING:
    from pydicom import Dataset

    from clmsda.images.dicom_planes import Plane

TYPE_1 = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPClassUID", "SOPInstanceUID")
"""What every slice must have (PS3.3 C.7.2.1, C.7.3.1, C.7.4.1, C.12.1)."""
TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
TYPE_3 = (
    "SpecificCharacterSet", "TimezoneOffsetFromUTC",
    "IssuerOfPatientID", "StudyDescription", "PatientAge", "PatientSize", "PatientWeight",
)  # fmt: skip
"""Patient and study attributes that are carried over where the series has them (PS3.3 C.7.1, C.7.2)."""
TRIAL = (
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID", "ClinicalTrialSiteName", "ClinicalTrialSubjectID",
)  # fmt: skip
"""Carried over where the series has all of them: without one, the others may not stand (PS3.3 C.7.1.3)."""
METHODS = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")


@dataclass(frozen=True, eq=False)
class Source:
    """A CT series without its pixels.

    images: one header per file, with what an object made from it needs to refer to it. slices: for each slice of the
        grid, the number of its image. frames: for each slice, its frame counted from 1; None where files hold one each.
    patient: patient and study attributes, as they are in the series.
    grid: of the series' own planes (coronal ones of a coronal series), which is `read_ct`'s for axial ones.
    positions_mm: (slices, 3), the LPS position of each slice's first pixel, as its header says. Headers are rounded:
        what is drawn on a slice must lie where the slice says that it is, the grid is a straight line through them.
    """

    images: tuple[Dataset, ...]
    slices: tuple[int, ...]
    frames: tuple[int, ...] | None
    patient: Dataset
    grid: Grid
    positions_mm: NDArray[np.float64]

    @property
    def study_uid(self) -> str:
        return str(self.images[0].StudyInstanceUID)

    @property
    def series_uid(self) -> str:
        return str(self.images[0].SeriesInstanceUID)

    @property
    def frame_uid(self) -> str:
        """The frame of reference, in which positions in mm have a meaning."""
        return str(self.images[0].FrameOfReferenceUID)

    def image(self, k: int) -> Dataset:
        """The header of the file that holds slice k."""
        return self.images[self.slices[k]]

    def to_lps(self, k: int, index: ArrayLike) -> NDArray[np.float64]:
        """(..., 2) indices (row, column) in slice k to (..., 3) LPS mm."""
        return np.asarray(index, np.float64) @ self.grid.affine[:3, 1:3].T + self.positions_mm[k]

    def voxels(self, mask: Volume) -> NDArray:
        """The voxels of a mask in the order of the slices. Raises GridMismatch."""
        return onto(mask, self.grid).voxels


def read_source(path: str | os.PathLike[str], *, series: str | None = None, for_lines: bool = False) -> Source:
    """Read the headers of a CT series: a DICOM folder, a zip of one, or an enhanced CT file.

    series: SeriesInstanceUID, needed where there are several CT series. for_lines: it is needed for what was drawn on
    it, and for no object to write, which is said where there is none.
    Raises NoSource (a NIfTI, NRRD or MHA), IncompleteSource, and what `clmsda.images.read_ct` raises for
    a series that is no stack.
    """
    import zipfile

    from pydicom.config import disable_value_validation

    from clmsda.images.archives import opened
    from clmsda.images.damage import damage_named
    from clmsda.images.dicom_files import choose, is_dicom, load_all
    from clmsda.images.dicom_planes import planes_of, stack

    path = Path(path)
    if path.is_file() and not zipfile.is_zipfile(path) and not is_dicom(path):
        if for_lines:
            raise NoSource(f"{path} is not DICOM, and lines of an SR or GSPS lie on a DICOM series: give that series")
        raise NoSource(
            f"{path} is not DICOM, so it names no patient and no study that a SEG, RTSTRUCT or SR could be filed into: "
            "give the DICOM series, or turn a mask of it into these with clmsda convert MASK --reference SERIES"
        )
    # Validation would quote a patient's odd values in logs.
    with opened(path) as root, disable_value_validation(), damage_named(str(path)):
        files = choose(load_all(root, path), series, root, path)
        planes, grid = stack([plane for file in files for plane in planes_of(file)], str(path))
        _check(planes)
        if "NumberOfFrames" in planes[0].file.header:
            ordered = sorted(planes, key=lambda plane: plane.frame)
            return Source(
                images=(_multi_frame(ordered, grid),),
                slices=(0,) * len(planes),
                frames=tuple(plane.frame + 1 for plane in planes),
                patient=_patient(planes[0].file.header),
                grid=grid,
                positions_mm=np.array([plane.position_mm for plane in planes]),
            )
        return Source(
            images=tuple(_single_frame(plane, grid) for plane in planes),
            slices=tuple(range(len(planes))),
            frames=None,
            patient=_patient(planes[0].file.header),
            grid=grid,
            positions_mm=np.array([plane.position_mm for plane in planes]),
        )


def file_into(dataset: Dataset, source: Source) -> None:
    """Give an object the patient and study of its source, which must be equal in every object of a study."""
    for element in source.patient:
        dataset[element.tag] = deepcopy(element)


def reference(source: Source, k: int) -> Dataset:
    """The item that refers to slice k (PS3.3 10.3, Image SOP Instance Reference)."""
    from pydicom import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = source.image(k).SOPClassUID
    item.ReferencedSOPInstanceUID = source.image(k).SOPInstanceUID
    if source.frames is not None:
        item.ReferencedFrameNumber = source.frames[k]
    return item


def _check(planes: list[Plane]) -> None:
    """Raise IncompleteSource unless every slice has what objects refer to, and all are of one patient and study."""
    first = planes[0].file
    for plane in planes:
        header = plane.file.header
        missing = [name for name in TYPE_1 if not header.get(name)]
        if missing:
            why = " (without it, positions in mm mean nothing to other software)"
            raise IncompleteSource(
                f"{plane.name} has no {', '.join(missing)}{why if 'FrameOfReferenceUID' in missing else ''}: every CT "
                "must have it, and a SEG, RTSTRUCT or SR that refers to this one would have to make it up; export the "
                "series again"
            )
        for name in ("StudyInstanceUID", "PatientID"):
            if header.get(name) != first.header.get(name):
                raise IncompleteSource(f"{plane.name} has another {name} than {first.name}: split the series")
    if "NumberOfFrames" in first.header and any(plane.file is not first for plane in planes):
        raise IncompleteSource(
            f"{first.name} and others hold several frames each: a SEG, RTSTRUCT or SR needs one file per slice, or one "
            "file with all slices; export the series so"
        )


def _identity(header: Dataset) -> Dataset:
    """What objects need of an image, without the patient: `file_into` adds that as it is, whatever others check."""
    from pydicom import Dataset

    identity = Dataset()
    for name in TYPE_1:
        setattr(identity, name, str(header[name].value))
    for name in TYPE_2:
        setattr(identity, name, None)
    identity.Modality, identity.Rows, identity.Columns = "CT", header.Rows, header.Columns
    identity.PositionReferenceIndicator = None
    return identity


def _single_frame(plane: Plane, grid: Grid) -> Dataset:
    image = _identity(plane.file.header)
    for item in (_position(plane), _orientation(plane), _measures(plane, grid)):
        image.update(item)
    return image


def _multi_frame(planes: list[Plane], grid: Grid) -> Dataset:
    """planes: in the order of the frames."""
    from pydicom import Dataset

    image, shared = _identity(planes[0].file.header), Dataset()
    image.NumberOfFrames = len(planes)
    shared.PlaneOrientationSequence = [_orientation(planes[0])]
    shared.PixelMeasuresSequence = [_measures(planes[0], grid)]
    image.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for plane in planes:
        frame = Dataset()
        frame.PlanePositionSequence = [_position(plane)]
        frames.append(frame)
    image.PerFrameFunctionalGroupsSequence = frames
    return image


def _position(plane: Plane) -> Dataset:
    return _decimals(ImagePositionPatient=plane.position_mm)


def _orientation(plane: Plane) -> Dataset:
    return _decimals(ImageOrientationPatient=np.concatenate([plane.row, plane.column]))


def _measures(plane: Plane, grid: Grid) -> Dataset:
    """Spacings. A thickness that the header lacks (type 2 in a CT, but 1 in a SEG) is the distance between slices."""
    step_mm = float(grid.spacing_mm[0])
    try:
        thickness_mm = float(plane.file.header.get("SliceThickness") or step_mm)
    except (ValueError, TypeError):  # as text that is no number, or several
        thickness_mm = step_mm
    if not 0 < thickness_mm < FARTHEST_MM:
        thickness_mm = step_mm
    return _decimals(PixelSpacing=plane.spacing_mm, SliceThickness=[thickness_mm], SpacingBetweenSlices=[step_mm])


def _decimals(**attributes: ArrayLike) -> Dataset:
    """Attributes with numbers in as many digits as fit (VR DS, 16 characters)."""
    from pydicom import Dataset
    from pydicom.valuerep import format_number_as_ds

    item = Dataset()
    for name, values in attributes.items():
        setattr(item, name, [format_number_as_ds(float(value)) for value in np.asarray(values)])
    return item


def _patient(header: Dataset) -> Dataset:
    """Patient and study attributes as the series has them; those of type 2 always, if need be empty."""
    from pydicom import Dataset

    patient = Dataset()
    for name in TYPE_2:
        setattr(patient, name, None)
    names = [*TYPE_2, *TYPE_3]
    if all(name in header for name in TRIAL):
        names += TRIAL
    if any(header.get(method) for method in METHODS):  # that an identity was removed may not stand without how
        names += ["PatientIdentityRemoved", *METHODS]
    for name in names:
        if name in header:
            patient[name] = deepcopy(header[name])
    return patient

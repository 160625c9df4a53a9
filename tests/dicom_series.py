"""Writes real DICOM files from any volume: good series, and ones with every fault that we refuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK as sitk
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    RTStructureSetStorage,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

from clmsda.geometry import Volume

Edit = Callable[[Dataset, int], object]


def decimals(values: Sequence[float] | np.ndarray) -> list[str]:
    """Numbers as DICOM decimal strings of at most 16 characters."""
    return [format_number_as_ds(float(value)) for value in values]


def new_dataset(sop_class: str, modality: str) -> Dataset:
    """An instance with the identifiers that every DICOM file needs."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, generate_uid()
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber, dataset.StudyID = "20240102", "101112", "", "1"
    dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate, dataset.PatientSex = "P1", "Nobody^No", "", "O"
    dataset.ReferringPhysicianName, dataset.Manufacturer, dataset.SeriesNumber = "", "clmsda tests", 1
    dataset.Modality = modality
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def slices(
    volume: Volume,
    *,
    modality: str = "CT",
    sop_class: str = CTImageStorage,
    slope: float = 1,
    intercept: float = -1024,
    description: str = "thorax",
    study_uid: str | None = None,
    frame_uid: str | None = None,
) -> list[Dataset]:
    """One dataset per slice, in the volume's order."""
    series_uid, study_uid, frame_uid = generate_uid(), study_uid or generate_uid(), frame_uid or generate_uid()
    steps = volume.grid.affine[:3, :3] / volume.grid.spacing_mm
    datasets = []
    for number, plane in enumerate(volume.voxels):
        dataset = new_dataset(sop_class, modality)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid
        dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = frame_uid, ""
        dataset.SeriesDescription, dataset.InstanceNumber = description, number + 1
        dataset.ContentDate, dataset.ContentTime, dataset.AcquisitionNumber = "20240102", "101112", 1
        dataset.KVP, dataset.PatientPosition = "120", "HFS"
        dataset.ImagePositionPatient = decimals(volume.grid.to_lps((number, 0, 0)))
        dataset.ImageOrientationPatient = decimals([*steps[:, 2], *steps[:, 1]])
        dataset.PixelSpacing = decimals(volume.grid.spacing_mm[1:])
        dataset.SliceThickness = decimals(volume.grid.spacing_mm[:1])[0]
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *plane.shape, 1
        dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 1
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = decimals([slope, intercept]) + ["HU"]
        stored = np.rint((plane.astype(np.float64) - intercept) / slope).astype("<i2")
        dataset.PixelData = stored.tobytes()
        datasets.append(dataset)
    return datasets


def save(datasets: Sequence[Dataset], folder: Path, *, name: str = "IM{:04d}.dcm") -> list[Path]:
    """Write datasets as files of a new or existing folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name.format(number) for number in range(1, len(datasets) + 1)]
    for dataset, path in zip(datasets, paths, strict=True):
        dataset.save_as(path, enforce_file_format=True)
    return paths


def write_series(folder: Path, volume: Volume, *, edit: Edit | None = None, name: str = "IM{:04d}.dcm") -> list[Path]:
    """Write a CT series; `edit(dataset, slice number)` may spoil each slice before it is written."""
    datasets = slices(volume)
    for number, dataset in enumerate(datasets):
        if edit is not None:
            edit(dataset, number)
    return save(datasets, folder, name=name)


def sheared(volume: Volume, degrees: float) -> Edit:
    """Moves slices along their columns as a gantry tilted by `degrees` does."""
    step = volume.grid.affine[:3, 1] / volume.grid.spacing_mm[1] * volume.grid.spacing_mm[0]

    def edit(dataset: Dataset, number: int) -> None:
        origin = volume.grid.to_lps((number, 0, 0)) + number * step * np.tan(np.radians(degrees))
        dataset.ImagePositionPatient = decimals(origin)

    return edit


def compressed(uid: UID) -> Edit:
    """Compresses the pixels, by pydicom where it can, else (JPEG lossless) by GDCM."""

    def edit(dataset: Dataset, number: int) -> None:
        if uid != JPEGLosslessSV1:
            dataset.compress(uid, generate_instance_uid=False)
            return
        stored = np.frombuffer(dataset.PixelData, "<i2").reshape(dataset.Rows, dataset.Columns)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetUseCompression(True)
        writer.SetCompressor("JPEG")
        with TemporaryDirectory() as folder:
            writer.SetFileName(f"{folder}/slice.dcm")
            writer.Execute(sitk.GetImageFromArray(stored.astype(np.int16)))
            other = dcmread(f"{folder}/slice.dcm")
        assert other.file_meta.TransferSyntaxUID == uid
        dataset["PixelData"] = other["PixelData"]
        dataset.file_meta.TransferSyntaxUID = uid

    return edit


def rtstruct(rois: dict[str, list[np.ndarray]], *, kind: str = "CLOSED_PLANAR", frame_uid: str = "") -> Dataset:
    """An RT Structure Set with contours of (N, 3) LPS points per ROI name. frame_uid: by default one of its own."""
    frame_uid = frame_uid or generate_uid()
    dataset = new_dataset(RTStructureSetStorage, "RTSTRUCT")
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.StructureSetLabel, dataset.StructureSetDate, dataset.StructureSetTime = "test", "20240102", "101112"
    dataset.StructureSetROISequence, dataset.ROIContourSequence = Items(), Items()
    for number, (name, contours) in enumerate(rois.items(), start=5):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame_uid
        drawn.ReferencedROINumber, drawn.ContourSequence = number, Items()
        for points in contours:
            item = Dataset()
            item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
            item.ContourData = decimals(np.asarray(points).ravel())
            drawn.ContourSequence.append(item)
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(drawn)
    return dataset


def contours_of(mask: Volume, label: int) -> list[np.ndarray]:
    """(N, 3) LPS outlines of a label, slice by slice, holes included, half a voxel around its centers."""
    from skimage.measure import find_contours

    found = []
    for number, plane in enumerate(mask.voxels == label):
        for outline in find_contours(np.pad(plane, 1).astype(float), 0.5):
            points = np.column_stack([np.full(len(outline) - 1, float(number)), outline[:-1] - 1])
            found.append(mask.grid.to_lps(points))
    return found

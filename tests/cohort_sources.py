"""Small chests with balls for tumors, and data sets of them in the layouts that are imported."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from dicom_series import contours_of, rtstruct, save, slices
from pydicom import Dataset
from pydicom.sequence import Sequence as Items

from clmsda.geometry import Grid, Volume
from clmsda.images import write_image, write_mask

GRID = Grid.axial((14, 36, 44), (5.0, 5.0, 5.0), center_mm=(0, 0, 0))
RIGHT, LEFT = (-50.0, 0.0, 0.0), (50.0, 0.0, 0.0)
"""Middles of the lungs, LPS mm."""


def ball(size_mm: float = 30.0, center_mm: Sequence[float] = LEFT) -> Volume:
    """A mask of one ball."""
    distance = np.linalg.norm(_points() - center_mm, axis=-1)
    return Volume((distance <= size_mm / 2).astype(np.uint8), GRID, "ball")


def chest(*tumors: Volume, seed: int = 0) -> Volume:
    """A body of water with two lungs of air, and tumors of tissue."""
    x, y, z = np.moveaxis(_points(), -1, 0)
    hu = np.where((x / 100) ** 2 + (y / 80) ** 2 < 1, 0, -1000)
    for side in (-1, 1):
        hu[((x - 50 * side) / 40) ** 2 + (y / 60) ** 2 + (z / 60) ** 2 < 1] = -850
    for tumor in tumors:
        hu[tumor.voxels > 0] = 40
    noise = np.random.default_rng(seed).normal(0, 10, GRID.shape)
    return Volume((hu + noise).clip(-1024).astype(np.int16), GRID, "chest")


def _points() -> np.ndarray:
    return GRID.to_lps(np.moveaxis(np.indices(GRID.shape), 0, -1))


def labels(*tumors: Volume) -> Volume:
    """Each tumor with a label of its own, from 1."""
    voxels = np.zeros(GRID.shape, np.uint8)
    for number, tumor in enumerate(tumors, 1):
        voxels[tumor.voxels > 0] = number
    return Volume(voxels, GRID, "labels")


def write_pair(image: Path, mask: Path, *tumors: Volume, seed: int = 0) -> None:
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_image(chest(*tumors, seed=seed), image)
    write_mask(labels(*tumors), mask)


def write_folder(folder: Path, sizes_mm: Mapping[str, float]) -> Path:
    """images/NAME.nii and masks/NAME.nii of one ball each."""
    for seed, (name, size_mm) in enumerate(sizes_mm.items()):
        write_pair(folder / "images" / f"{name}.nii", folder / "masks" / f"{name}.nii", ball(size_mm), seed=seed)
    return folder


def write_table(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf8") as file:
        csv.writer(file).writerows(rows)
    return path


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf8")
    return path


def ct_of(patient: str, *tumors: Volume) -> list[Dataset]:
    """The slices of a patient's CT."""
    datasets = slices(chest(*tumors))
    for dataset in datasets:
        dataset.PatientID = patient
    return datasets


def rtstruct_of(ct: Sequence[Dataset], rois: Mapping[str, Volume | None], series_uid: str = "") -> Dataset:
    """A structure set drawn on a CT, or as it says on another series; a ROI without a volume is empty."""
    outlines = {name: contours_of(mask, 1) if mask else [] for name, mask in rois.items()}
    dataset = rtstruct(outlines, frame_uid=ct[0].FrameOfReferenceUID)
    dataset.PatientID, dataset.StudyInstanceUID = ct[0].PatientID, ct[0].StudyInstanceUID
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = series_uid or ct[0].SeriesInstanceUID
    study.RTReferencedSeriesSequence = Items([series])
    frame.FrameOfReferenceUID = ct[0].FrameOfReferenceUID
    frame.RTReferencedStudySequence = Items([study])
    dataset.ReferencedFrameOfReferenceSequence = Items([frame])
    return dataset


def write_tcia(
    folder: Path, patient: str, rois: Mapping[str, Volume | None], edit: Callable[[list[Dataset]], object] | None = None
) -> Dataset:
    """A patient's CT and structure set, in folders as the NBIA Data Retriever makes them; returns the structure set."""
    ct = ct_of(patient, *(mask for mask in rois.values() if mask))
    structures = rtstruct_of(ct, rois)
    if edit:
        edit(ct)
    save(ct, folder / patient / "09-18-2008-StudyID-NA-69331" / "0.000000-NA-82046", name="1-{:03d}.dcm")
    save([structures], folder / patient / "09-18-2008-StudyID-NA-69331" / "3.000000-NA-78236", name="1-{}.dcm")
    return structures

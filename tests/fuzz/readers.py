"""What is fuzzed: each reader with its samples, the damage that fits it, and what a result must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clmsda import cohorts, images, models
from clmsda.cohorts.candidates import read_exclusions
from clmsda.cohorts.clinical import read_histologies
from clmsda.cohorts.layouts import msd, nnunet
from clmsda.cohorts.pairs import pairs
from clmsda.dicom_objects import read_lines, read_source
from clmsda.geometry import Volume
from clmsda.images.dicom_regions import read_region, read_regions
from clmsda.images.dicom_series import open_series
from clmsda.images.scan_facts import read_scan_facts
from clmsda.phantoms.backgrounds import read_backgrounds
from clmsda.prompts import RecistLine
from clmsda.response.reading import read_time_point
from clmsda.studies.config import read_study
from clmsda.studies.folder import read_study_file
from clmsda.studies.progress import read_epochs
from clmsda.studies.score_rows import SCORES, read_rows
from clmsda.training import checkpoint, read_config
from fuzz.samples import GRID, TRAINED, all_samples, trained

DICOM = ("dicom", "octets", "folder")
VOXELS = ("headers", "octets")
HEADED = ("texts", "octets")
SERIES = ("series", "series-rle", "series-jpeg", "series-implicit", "series-enhanced")


@dataclass(frozen=True)
class Reader:
    """call: reads the folder of a case. families: of damage, the most fitting first. share: of all inputs."""

    name: str
    call: Callable[[Path], object]
    samples: tuple[str, ...]
    families: tuple[str, ...]
    share: float = 1.0


def readers() -> dict[str, Reader]:
    """All readers by name."""
    found = (
        Reader("ct-dicom", _ct, SERIES, DICOM, 4),
        Reader("ct-zip", lambda at: _ct(at / "ct.zip"), ("zip",), ("archives", "octets"), 2),
        Reader("ct-nifti", _ct_file, ("ct-nii", "ct-nii.gz", "ct-float.nii"), VOXELS, 3),
        Reader("ct-nrrd", _ct_file, ("ct-nrrd", "ct-raw.nrrd", "ct-nhdr"), HEADED, 2),
        Reader("ct-meta", _ct_file, ("ct-mha", "ct-raw.mha", "ct-mhd"), HEADED, 2),
        Reader("ct-series-list", images.list_series, SERIES, DICOM),
        Reader("ct-source", _source, SERIES, DICOM, 2),
        Reader("ct-import", _import, SERIES[:4], DICOM, 2),
        Reader("scan-facts", _facts, (*SERIES, "seg", "sr"), DICOM),
        Reader("mask-nifti", _mask_file, ("mask-nii", "mask-nii.gz"), VOXELS, 2),
        Reader("mask-nrrd", _mask_file, ("mask-nrrd",), HEADED),
        Reader("mask-meta", _mask_file, ("mask-mha",), HEADED),
        Reader("mask-seg", _mask_object, ("seg", "seg-labelmap"), DICOM[:2], 4),
        Reader("mask-rtstruct", _mask_object, ("rtstruct", "rtstruct-plain"), DICOM[:2], 4),
        Reader("regions", _regions, ("seg", "rtstruct", "rtstruct-plain"), DICOM[:2], 2),
        Reader("response-sr", _time_point, ("sr",), DICOM[:2], 3),
        Reader("response-json", _time_point, ("measured",), ("documents", "texts", "octets"), 2),
        Reader("lines", _lines, ("lines",), DICOM[:2], 3),
        Reader("training-toml", lambda at: read_config(at / "training.toml"), ("training",), HEADED),
        Reader("study-toml", lambda at: read_study(at / "study.toml"), ("study",), HEADED),
        Reader("study-results", _results, ("results",), ("texts", "documents", "octets"), 2),
        Reader("cohort-csv", _cohort, ("cohort",), HEADED, 2),
        Reader("split", _split, ("split",), ("documents", "texts", "octets")),
        Reader(
            "lists",
            _lists,
            ("pairs", "clinical", "exclusions", "decathlon", "nnunet"),
            ("texts", "documents", "octets"),
        ),
        Reader("model", _model, ("model",), ("documents", "octets")),
        Reader("checkpoint", _checkpoint, ("checkpoint",), ("documents", "octets")),
        Reader("backgrounds", _backgrounds, ("backgrounds",), ("documents", "texts", "octets")),
    )
    return {reader.name: reader for reader in found}


def _ct(path: Path) -> Volume:
    volume = images.read_ct(path)
    _check_volume(volume)
    assert volume.voxels.dtype == np.int16 and volume.voxels.min() >= -1024, "a CT is int16 of at least -1024 HU"
    return volume


def _ct_file(at: Path) -> Volume:
    return _ct(_only(at, "ct."))


def _mask_file(at: Path) -> None:
    """Alone, and on the grid of the CT."""
    path = _only(at, "mask.")
    _check_mask(images.read_mask(path))
    assert images.read_mask(path, grid=GRID).grid == GRID, "a mask is on the grid that was asked for"


def _mask_object(at: Path) -> None:
    """All regions and one by name, on the grid of the CT; a segmentation also on its own grid."""
    path = at / "mask.dcm"
    refusals: list[Any] = []
    for read in (
        lambda: _check_mask(images.read_mask(path, grid=GRID)),
        lambda: _check_mask(images.read_mask(path, grid=GRID, roi=(images.list_rois(path) or ["GTV"])[0])),
        lambda: _check_mask(images.read_mask(path)),
    ):
        _tried(read, refusals)
    _all_refused(refusals, 3)


def _regions(at: Path) -> None:
    found = read_regions(at / "mask.dcm")
    refusals: list[Exception] = []
    for name in found.names[:3]:
        _tried(lambda name=name: _check_mask(read_region(at / "mask.dcm", GRID, name)), refusals)  # type: ignore[misc]
    _all_refused(refusals, len(found.names[:3]))


def _tried(read: Callable[[], object], refusals: list[Any]) -> None:
    from clmsda.errors import InputError

    try:
        read()
    except InputError as error:
        refusals.append(error)


def _all_refused(refusals: list[Any], count: int) -> None:
    """Hand on a refusal where nothing could be read."""
    if count and len(refusals) == count:
        raise refusals[0]


def _source(at: Path) -> None:
    source = read_source(at)
    assert len(source.slices) == source.grid.shape[0] == len(source.positions_mm), "an image for every slice"


def _import(at: Path) -> None:
    series = open_series(sorted(path for path in at.rglob("*") if path.is_file()))
    planes = [plane.copy() for plane in series.slices(0, series.grid.shape[0])]
    assert len(planes) == series.grid.shape[0], "as many slices as the grid has"
    assert all(plane.shape == series.grid.shape[1:] and plane.dtype == np.int16 for plane in planes), (
        "slices of the grid"
    )


def _facts(at: Path) -> None:
    facts = read_scan_facts(at, Volume(np.zeros(GRID.shape, np.int16), GRID))
    for length in (facts.slice_thickness_mm, facts.slice_spacing_mm):
        assert length is None or 0 < length < float("inf"), "lengths are positive numbers"


def _time_point(at: Path) -> None:
    point = read_time_point(_only(at, ""))
    assert point.lesions, "a time point has lesions"
    for lesion in point.lesions:
        for value in (lesion.volume_ml, lesion.long_axis_mm, lesion.short_axis_mm):
            assert value is None or 0 <= value < float("inf"), "measurements are numbers"


def _lines(at: Path) -> None:
    source = read_source(at / "ct")
    refusals: list[Any] = []
    for name in ("report.dcm", "state.dcm"):
        _tried(lambda name=name: _check_lines(read_lines(at / name, source)), refusals)  # type: ignore[misc]
    _all_refused(refusals, 2)


def _check_lines(lines: list[RecistLine]) -> None:
    assert lines and all(0 < line.size_mm < float("inf") for line in lines), "lines have lengths"


def _results(at: Path) -> None:
    read_study_file(at)
    read_epochs(at)
    read_rows(at / "scores.csv", SCORES)


def _cohort(at: Path) -> None:
    cohort = cohorts.Cohort.open(at)
    assert cohort.digest
    for case in cohort.cases:
        volume, mask = cohort.slab(case)
        assert volume.grid == mask.grid, "CT and mask of a slab lie on one grid"


def _split(at: Path) -> None:
    folder = at / "cohort"
    folder.mkdir()
    (folder / "cohort.csv").write_bytes(all_samples()["cohort"]["cohort.csv"])
    cohorts.check_split(cohorts.Split.read(at / "split.json"), cohorts.Cohort.open(folder))


def _lists(at: Path) -> object:
    for name, read in (("pairs.csv", pairs), ("clinical.csv", read_histologies)):
        if (at / name).exists():
            return read(at / name)
    if (at / "exclusions.csv").exists():
        return read_exclusions(at)
    return nnunet(at) if at.name.endswith("nnunet") else msd(at)


def _model(at: Path) -> None:
    model = models.load(at / "model.safetensors", "cpu")
    assert 0 <= model.config.confidence(0.5) <= 1, "a confidence is between 0 and 1"


def _checkpoint(at: Path) -> None:
    path = at / "checkpoint.safetensors"
    checkpoint.load(path, *trained(), {}, TRAINED)
    checkpoint.read_progress(path)


def _backgrounds(at: Path) -> None:
    for background in read_backgrounds(at):
        _check_volume(background.ct)
        assert np.isfinite([background.noise_hu, background.grain_mm, background.tissue_hu]).all(), "numbers"


def _only(at: Path, start: str) -> Path:
    """The file of a case that is given to its reader."""
    apart = (".raw", ".zraw", ".raw.gz")
    return next(path for path in sorted(at.iterdir()) if path.name.startswith(start) and not path.name.endswith(apart))


def _check_mask(mask: Volume) -> None:
    _check_volume(mask)
    assert mask.voxels.dtype in (np.uint8, np.uint16), "labels are uint8 or uint16"


def _check_volume(volume: Volume) -> None:
    spacing = volume.grid.spacing_mm
    assert np.isfinite(volume.grid.affine).all() and (spacing >= 0.05).all() and (spacing <= 25).all(), "a CT's grid"
    assert volume.voxels.size == np.prod(volume.grid.shape)

"""A CT series with lesions, as the writers of DICOM objects get it, and the validators that others made."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import highdicom as hd
import pytest
from dicom_series import Edit, write_series
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from clmsda.dicom_objects import Finding, Source, by_clmsda, findings_of, read_source, write_dataset
from clmsda.geometry import Volume
from clmsda.images import read_ct, read_mask
from clmsda.images.orientation import onto

MODEL = "shipped@0123456789ab"


@dataclass(frozen=True)
class Clinic:
    """A series in a folder, as it is read, and the findings in it. labels: on the CT's grid."""

    folder: Path
    ct: Volume
    labels: Volume
    source: Source
    findings: tuple[Finding, ...]

    def read_back(self, dataset: Dataset, roi: str | None = None) -> Volume:
        """What our own reader makes of an object, through a file."""
        path = self.folder.parent / "object.dcm"
        write_dataset(dataset, path)
        return read_mask(path, grid=self.ct.grid, roi=roi)


def clinic(folder: Path, volume: Volume, labels: Volume, *, edit: Edit | None = None) -> Clinic:
    """Write a volume as a CT series into folder/ct, and find the labels (0, 1, 2, ...) in it."""
    write_series(folder / "ct", volume, edit=edit)
    return found_in(folder / "ct", labels)


def found_in(ct: Path, labels: Volume) -> Clinic:
    volume, source = read_ct(ct), read_source(ct)
    placed = onto(labels, volume.grid)
    algorithm = by_clmsda(MODEL, prompted=True)
    findings = findings_of(placed, volume, series_uid=source.series_uid, algorithm=algorithm)
    return Clinic(ct, volume, placed, source, findings)


def saved(dataset: Dataset, path: Path) -> Dataset:
    """The dataset as it comes out of its file."""
    write_dataset(dataset, path)
    return dcmread(path)


def by_highdicom(case: Clinic, path: Path) -> NDArray:
    """The labels that highdicom reads from a segmentation, on the CT's grid."""
    ct = hd.Volume(case.ct.voxels, case.ct.grid.affine, coordinate_system="PATIENT", frame_of_reference_uid=None)
    volume = hd.seg.segread(path).get_volume(combine_segments=True, skip_overlap_checks=True)
    return volume.match_geometry(ct).array


def tool(name: str) -> str:
    """The path of a validator; without it the test is skipped."""
    beside = Path(sys.executable).parent / name
    path = str(beside) if beside.exists() else shutil.which(name)
    if path is None:
        package = {"dciodvfy": "Debian's dicom3tools", "plastimatch": "Debian's plastimatch"}
        pytest.skip(f"needs {name}, of {package.get(name, 'dcmqi (pip install dcmqi)')}")
    return path


def dicom_errors(path: Path) -> list[str]:
    """What dciodvfy finds wrong with a file."""
    done = subprocess.run([tool("dciodvfy"), str(path)], capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).splitlines()
    assert any(line and not line.startswith(("Error", "Warning")) for line in said), said  # it names the object's kind
    return [line for line in said if line.startswith("Error")]

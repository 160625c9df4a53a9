"""What others make of our objects: dciodvfy (the standard) and dcmqi (voxels, measurements); synthetic and real CT."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from clinic import Clinic, by_highdicom, clinic, dicom_errors, found_in, tool
from scipy import ndimage

from clmsda.dicom_objects import write_objects
from clmsda.geometry import Grid, Volume
from clmsda.images import read_ct, read_mask
from clmsda.images.orientation import onto

OBJECTS = ("seg", "rtstruct", "sr")


def written(case: Clinic, folder: Path) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    paths = {name: folder / f"{name}.dcm" for name in OBJECTS}
    write_objects(case.source, case.findings, **paths)
    return paths


def check_by_others(case: Clinic, paths: dict[str, Path]) -> None:
    """No error by the standard; the same voxels and measurements by dcmqi."""
    assert {name: dicom_errors(path) for name, path in paths.items()} == {name: [] for name in OBJECTS}
    check_voxels(case, paths["seg"])
    check_measurements(case, paths["sr"])


def check_voxels(case: Clinic, seg: Path) -> None:
    out = seg.parent / "dcmqi"
    out.mkdir()
    run = [tool("segimage2itkimage"), "--inputDICOM", seg, "--outputDirectory", out, "--outputType", "nrrd"]
    subprocess.run([str(word) for word in run], check=True, capture_output=True)
    assert len(list(out.glob("*.nrrd"))) == len(case.findings)
    for number, one in enumerate(case.findings, 1):
        voxels = onto(read_mask(out / f"{number}.nrrd"), case.ct.grid, part=True).voxels
        np.testing.assert_array_equal(voxels > 0, case.labels.voxels == one.label)


def check_measurements(case: Clinic, sr: Path) -> None:
    out = sr.with_suffix(".json")
    run = [tool("tid1500reader"), "--inputDICOM", str(sr), "--outputMetadata", str(out)]
    subprocess.run(run, check=True, capture_output=True)
    found: dict[str, dict[str, float]] = {}
    for group in json.loads(out.read_text())["Measurements"]:
        numbers = found.setdefault(group["TrackingUniqueIdentifier"], {})
        numbers |= {one["quantity"]["CodeMeaning"]: float(one["value"]) for one in group["measurementItems"]}
    for one in case.findings:
        numbers = found[one.tracking_uid]
        assert numbers["Volume"] == pytest.approx(one.measurement.volume_ml, abs=1e-3)
        assert numbers["Long Axis"] == pytest.approx(one.measurement.long_axis_mm, abs=6e-3)
        assert numbers["Short Axis"] == pytest.approx(one.measurement.short_axis_mm, abs=6e-3)
        assert numbers["Attenuation Coefficient"] == pytest.approx(one.measurement.mean_hu, abs=0.06)


def test_plastimatch_reads_holes_and_islands_as_they_are(tmp_path: Path) -> None:
    """Contours with keyholes, by a program that radiotherapy uses."""
    rng = np.random.default_rng(1)
    grid = Grid.axial((6, 70, 90), (2.5, 0.7, 0.8), origin_mm=(-31.2, 44.5, -512.75))
    mask = np.zeros(grid.shape, np.uint8)
    mask[:, 1:-1, 1:-1] = ndimage.gaussian_filter(rng.random((6, 68, 88)), (0, 1.5, 1.5)) > 0.5
    mask[2], mask[2, 30, 40] = 0, 1
    assert sum(ndimage.label(plane == 0)[1] - 1 for plane in mask) > 50
    ct = Volume(rng.integers(-1024, 1500, grid.shape).astype(np.int16), grid)
    case = clinic(tmp_path, ct, Volume(mask, grid))
    write_objects(case.source, case.findings, rtstruct=tmp_path / "rt.dcm")
    run = [tool("plastimatch"), "convert", "--input", tmp_path / "rt.dcm", "--referenced-ct", case.folder]
    run += ["--output-prefix", tmp_path / "out", "--prefix-format", "nrrd"]
    subprocess.run([str(word) for word in run], check=True, capture_output=True)
    (path,) = (tmp_path / "out").glob("*.nrrd")
    np.testing.assert_array_equal(read_mask(path, grid=case.ct.grid).voxels > 0, mask > 0)


def test_the_lopsided_fixture(lopsided: Volume, labels: Volume, tmp_path: Path) -> None:
    case = clinic(tmp_path, lopsided, labels)
    check_by_others(case, written(case, tmp_path / "objects"))


@pytest.mark.parametrize(
    ("name", "side"), [("ibsi-ct-phantom/dicom", None), ("nsclc-radiomics/NSCLC-Radiomics/LUNG1-001", "left")]
)
def test_real_tumors(shared_data: Path, tmp_path: Path, name: str, side: str | None) -> None:
    """The IBSI series is cropped, so that neither lung is whole, and was written by software that left out much."""
    folder = shared_data / name
    case = found_in(folder, read_mask(folder, grid=read_ct(folder).grid, roi="GTV-1"))
    assert [one.side for one in case.findings] == [side]
    paths = written(case, tmp_path / "objects")
    for kind in ("seg", "rtstruct"):
        np.testing.assert_array_equal(read_mask(paths[kind], grid=case.ct.grid).voxels, case.labels.voxels)
    np.testing.assert_array_equal(by_highdicom(case, paths["seg"]), case.labels.voxels)
    check_by_others(case, paths)

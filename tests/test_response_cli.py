"""`clmsda response` as a shell runs it: tables, JSON, pictures, and refusals that leave nothing behind."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from command_line import clmsda, refused
from dicom_series import slices
from response_cases import ball_ml

from clmsda.geometry import Grid, Volume
from clmsda.images import write_mask

PATIENTS = ("a1f3", "b2c4")


def write(path: Path, when: str, sizes: dict[int, float], patient: str = PATIENTS[0]) -> Path:
    """Balls of these diameters, measured in a scan."""
    lesions = [
        {"label": label, "volume_ml": ball_ml(size), "long_axis_mm": size, "short_axis_mm": size}
        for label, size in sizes.items()
    ]
    scan = {"date": when, "slice_thickness_mm": 1.0, "slice_spacing_mm": 1.0, "patient_check": patient}
    path.write_text(json.dumps({"lesions": lesions, "scan": scan, "image": f"1.2.840.{when.replace('-', '.')}"}))
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A baseline, a partial response, and a progression with a new lesion."""
    return [
        write(tmp_path / "baseline.json", "2024-01-10", {1: 40.0, 2: 20.0, 3: 12.0}),
        write(tmp_path / "first.json", "2024-03-10", {1: 26.0, 2: 12.0, 3: 12.0}),
        write(tmp_path / "second.json", "2024-05-09", {1: 36.0, 2: 14.0, 3: 12.0, 4: 9.0}),
    ]


def test_tables(files: list[Path]) -> None:
    done = clmsda("response", *files, "--organ", "3=liver")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    sums = next(line for line in lines if "sum of targets" in line).split()
    assert sums[3:] == ["72.0", "50.0", "(-30.6%)", "62.0", "(-13.9%)"]
    assert "PR (target PR)" in done.stdout
    assert "follow-up 2: PD: sum 62.0 mm, 12.0 mm (+24.0%) above the smallest sum of 50.0 mm; new lesion: lesion 4" in (
        " ".join(done.stdout.split())
    )
    assert "1 (lung)" in done.stdout and "3 (liver)" in done.stdout
    assert "lesions matched by label" in done.stdout
    assert (
        "extrapolated" in done.stdout
        and "Eisenhauer" in done.stdout
        and "Zhao" in done.stdout
        and "QIBA" in done.stdout
    )
    assert "For research use only" in done.stdout


def test_json(files: list[Path], tmp_path: Path) -> None:
    done = clmsda("response", *files, "--json", "-")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [one["overall_response"] for one in found["follow_ups"]] == ["PR", "PD"]
    assert [one["days"] for one in found["follow_ups"]] == [60, 120]
    assert found["best_response"] == "PR"
    assert found["lesions"][2]["why_not"] == "2 larger targets in lung"
    second = found["follow_ups"][1]
    assert (second["sum_mm"], second["smallest_earlier_sum_mm"], second["baseline_sum_mm"]) == (50.0, 38.0, 60.0)
    assert (second["change_from_baseline_percent"], second["change_from_smallest_percent"]) == (-16.7, 31.6)
    assert [one["name"] for one in second["new_lesions"]] == ["lesion 4"]
    grown = found["lesions"][0]["time_points"][2]["since_scan_before"]
    assert grown["doubling_time_days"] == pytest.approx(60 * np.log(2) / (3 * np.log(36 / 26)), abs=0.1)
    assert not any(patient in done.stdout for patient in PATIENTS)
    clmsda("response", *files, "--json", tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == found


def test_pictures(files: list[Path], tmp_path: Path) -> None:
    """A waterfall of one follow-up, a spider of two; the same files give the same picture."""
    outputs = tmp_path / "waterfall.png", tmp_path / "spider.svg", tmp_path / "again.svg"
    for count, out in zip((2, 3, 3), outputs, strict=True):
        done = clmsda("response", *files[:count], "--plot", out)
        assert done.returncode == 0, done.stderr
    assert outputs[0].read_bytes().startswith(b"\x89PNG")
    ElementTree.fromstring(outputs[1].read_text())
    assert outputs[1].read_text() == outputs[2].read_text()


def test_pictures_of_what_is_not_known(files: list[Path], tmp_path: Path) -> None:
    """Missing lesions, no measurable lesion, everything gone and back: a picture all the same."""
    small = write(tmp_path / "small.json", "2024-01-01", {1: 8.0})
    empty = write(tmp_path / "empty.json", "2024-06-01", {1: 40.0, 2: 0.0})
    for arguments in (
        [files[0], empty],
        [small, files[0], empty],
        [files[0], "2024-03-03", files[2], "--gone=1:1", "--gone=1:2", "--gone=1:3"],
    ):
        done = clmsda("response", *arguments, "--plot", tmp_path / "plot.svg")
        assert done.returncode == 0, done.stderr
        ElementTree.fromstring((tmp_path / "plot.svg").read_text())


def test_the_readers_word(files: list[Path]) -> None:
    gone = clmsda("response", files[0], "2024-04-01", "--gone=1", "--gone=2", "--gone=3", "--json", "-")
    assert json.loads(gone.stdout)["follow_ups"][0]["overall_response"] == "CR"
    new = clmsda("response", *files[:2], "--new-lesion", "bone, L3", "--json", "-")
    assert json.loads(new.stdout)["follow_ups"][0]["reasons"][-1] == "new lesion: bone, L3"
    chosen = clmsda("response", *files[:2], "--target", "3", "--json", "-")
    assert json.loads(chosen.stdout)["follow_ups"][0]["sum_mm"] == 12.0
    known = clmsda("response", *files, "--not-new", "2:4", "--json", "-")
    assert json.loads(known.stdout)["follow_ups"][1]["target_response"] == "PD"


def test_refusals_leave_nothing_behind(files: list[Path], tmp_path: Path) -> None:
    other = write(tmp_path / "other.json", "2024-03-10", {1: 26.0}, PATIENTS[1])
    out = tmp_path / "out"
    out.mkdir()
    outputs = ["--json", out / "r.json", "--plot", out / "r.png"]
    for arguments, said in (
        ([files[1], files[0]], "give baseline.json (2024-01-10), first.json (2024-03-10)"),
        ([files[0], other], "found other.json of another than baseline.json"),
        ([files[0], tmp_path / "missing.json"], "No such file"),
        ([files[0], files[0]], "are the same file: give each scan once"),
        ([files[0], files[1], "--match", "tracking"], "shares no tracking UID"),
        ([*files, "--gone", "1"], "say at which of the 2 follow-ups"),
        ([*files, "--target", "7"], "no lesion 7"),
        ([*files, "--date", "0:2020-01-01"], "contradicts --date"),
    ):
        message = refused("response", *arguments, *outputs)
        assert said in message
        assert not any(patient in message for patient in PATIENTS)
    assert not list(out.iterdir())
    assert "must end in one of .json" in refused("response", *files, "--json", out / "r.txt")
    assert "one of the time points" in refused("response", *files, "--json", files[0])
    assert "Missing argument" in refused("response", files[0])
    assert "does not exist" in refused("response", *files, "--plot", out / "no" / "r.png")


def test_from_masks_to_a_response(tmp_path: Path) -> None:
    """Two DICOM series of one patient, 90 days apart, a ball of 30 mm that becomes one of 20 mm: PR, by its labels."""
    grid = Grid.axial((30, 48, 48), (2.0, 1.0, 1.0), center_mm=(0, 0, 0))
    radius_mm = np.linalg.norm(grid.to_lps(np.moveaxis(np.indices(grid.shape), 0, -1)), axis=-1)
    files = []
    for name, day, diameter_mm in (("a", "20240102", 30.0), ("b", "20240401", 20.0)):
        mask = Volume((radius_mm <= diameter_mm / 2).astype(np.uint8), grid)
        folder = tmp_path / name
        folder.mkdir()
        for number, one in enumerate(slices(Volume(np.where(mask.voxels, 40, -850).astype(np.int16), grid))):
            one.StudyDate = day
            one.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        write_mask(mask, tmp_path / f"{name}.nii.gz")
        files.append(tmp_path / f"{name}.json")
        done = clmsda("measure", tmp_path / f"{name}.nii.gz", "--image", folder, "--json", files[-1])
        assert done.returncode == 0, done.stderr
    done = clmsda("response", *files, "--json", "-")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    first = found["follow_ups"][0]
    assert (first["overall_response"], first["days"]) == ("PR", 90)
    assert first["change_from_baseline_percent"] == pytest.approx(-33.3, abs=2)
    assert first["volume"]["volume_change_percent"] == pytest.approx(100 * ((2 / 3) ** 3 - 1), abs=2)
    assert found["time_points"][0]["slice_mm"] == 2.0
    assert not [note for note in found["notes"] if "not checked" in note or "no date" in note]

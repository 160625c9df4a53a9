"""Reading time points: JSON and SR, what is refused of them, and what of a scan is known without naming a patient."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from dicom_series import write_series
from pydicom import Dataset, dcmread

from clmsda.geometry import Volume
from clmsda.images import read_ct, write_image
from clmsda.images.scan_facts import ScanFacts, facts_of, parse_date, patient_check, read_scan_facts
from clmsda.response import read_time_point, read_time_points
from clmsda.response.timepoints import TimePointError

Edit = Callable[[dict], object]


def write(path: Path, *, edit: Edit | None = None, when: str | None = "2024-01-10", image: str = "1.2.840.1.5") -> Path:
    """Measurements as `segment --json` writes them, with much that a response does not need."""
    content = {
        "software": "clmsda 0.1.0",
        "image": image,
        "scan": {"date": when, "slice_thickness_mm": 3.0, "slice_spacing_mm": 2.5, "patient_check": "a1f3"},
        "lesions": [
            {"label": 1, "volume_ml": 14.1, "long_axis_mm": 31, "short_axis_mm": 28.5, "center_lps": [1, 2.5, -3.0],
             "slices": [3, 9], "warnings": [], "tracking_uid": "2.25.1"},
            {"label": 2, "volume_ml": 0.0, "long_axis_mm": None, "short_axis_mm": None, "center_lps": None},
        ],
    }  # fmt: skip
    if edit:
        edit(content)
    path.write_text(json.dumps(content), encoding="utf8")
    return path


def test_a_json_of_measurements(tmp_path: Path) -> None:
    point = read_time_point(write(tmp_path / "a.json"), 1)
    assert str(point) == "follow-up 1 (2024-01-10)"
    assert point.slice_mm == 3.0  # slices may be thicker than they lie apart, or lie apart more than they are thick
    first, second = point.lesions
    assert (first.label, first.volume_ml, first.long_axis_mm, first.tracking_uid) == (1, 14.1, 31.0, "2.25.1")
    assert not first.is_empty
    assert second.is_empty


def test_a_json_without_facts_of_the_scan(tmp_path: Path) -> None:
    point = read_time_point(write(tmp_path / "a.json", edit=lambda content: content.pop("scan")))
    assert (point.date, point.slice_mm, point.patient_check) == (None, None, None)


def test_a_date_is_a_scan_with_nothing_to_measure(tmp_path: Path) -> None:
    points = read_time_points([write(tmp_path / "a.json"), "2024-03-01"])
    assert (points[1].date, points[1].lesions) == (date(2024, 3, 1), ())


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda c: c.pop("lesions"), "lesions: Field required"),
        (lambda c: c["lesions"].clear(), "holds no lesion"),
        (lambda c: c["lesions"][0].update(volume_ml=-1), "lesions.0.volume_ml"),
        (lambda c: c["lesions"][0].update(volume_ml="14"), "lesions.0.volume_ml"),
        (lambda c: c["lesions"][0].update(long_axis_mm=None), "lesion 1 has no long and short axis"),
        (lambda c: c["lesions"][1].update(label=1), "every lesion needs its own label, found twice: 1"),
        (lambda c: c["lesions"][1].update(tracking_uid="2.25.1"), "its own tracking UID, found twice: 2.25.1"),
        (lambda c: c["scan"].update(date="10.1.2024"), "scan.date: expected YYYY-MM-DD, found '10.1.2024'"),
    ],
)
def test_files_that_are_no_time_points(edit: Edit, said: str, tmp_path: Path) -> None:
    with pytest.raises(TimePointError) as error:
        read_time_point(write(tmp_path / "a.json", edit=edit))
    assert said in str(error.value)
    assert "a.json" in str(error.value)


def test_other_files_are_refused(tmp_path: Path, lopsided: Volume) -> None:
    (tmp_path / "text.json").write_text("no JSON")
    (tmp_path / "short.json").write_text("{")
    slice_ = write_series(tmp_path / "ct", lopsided)[0]
    for path, said in (
        (tmp_path / "text.json", "does not hold measurements"),
        (tmp_path / "short.json", "does not hold measurements"),
        (tmp_path / "missing.json", "No such file"),
        (tmp_path, "Is a directory"),
        (slice_, "no structured report (found CT)"),
    ):
        with pytest.raises(TimePointError) as error:
            read_time_point(path)
        assert said in str(error.value)


def test_the_order_of_the_scans(tmp_path: Path) -> None:
    early, late = write(tmp_path / "early.json"), write(tmp_path / "late.json", when="2024-05-01", image="1.2.840.1.6")
    assert [point.date for point in read_time_points([early, late])] == [date(2024, 1, 10), date(2024, 5, 1)]
    with pytest.raises(TimePointError, match=r"give early.json \(2024-01-10\), late.json \(2024-05-01\)"):
        read_time_points([late, early])


def test_another_patient(tmp_path: Path) -> None:
    one = write(tmp_path / "one.json")
    other = write(
        tmp_path / "other.json", when="2024-05-01", image="1.2.840.1.6",
        edit=lambda content: content["scan"].update(patient_check="b2c4"),
    )  # fmt: skip
    with pytest.raises(TimePointError, match=r"found other.json of another than one.json") as error:
        read_time_points([one, other])
    assert "b2c4" not in str(error.value)


def test_the_same_scan_twice(tmp_path: Path) -> None:
    one, same = write(tmp_path / "one.json"), write(tmp_path / "same.json")
    with pytest.raises(TimePointError, match="measure the same scan"):
        read_time_points([one, same])
    files = [write(tmp_path / f"{n}.json", when=None, image="ct.nii.gz") for n in (1, 2)]
    assert len(read_time_points(files)) == 2  # two files may well have one name


def test_dates_that_the_reader_adds(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{n}.json", when=None, image="") for n in (1, 2)]
    points = read_time_points(files, {0: date(2024, 1, 1), 1: date(2024, 2, 1)})
    assert [point.date for point in points] == [date(2024, 1, 1), date(2024, 2, 1)]
    with pytest.raises(TimePointError, match=r"in the order of their dates"):
        read_time_points(files, {0: date(2024, 3, 1), 1: date(2024, 2, 1)})
    dated = write(tmp_path / "dated.json", image="")
    with pytest.raises(TimePointError, match=r"is of 2024-01-10, which contradicts --date 0:2024-02-02"):
        read_time_points([dated, files[1]], {0: date(2024, 2, 2)})


def test_a_baseline_without_a_lesion(tmp_path: Path) -> None:
    nothing = write(tmp_path / "nothing.json", edit=lambda content: content["lesions"].pop(0))
    with pytest.raises(TimePointError, match="the baseline measures no lesion"):
        read_time_points([nothing, "2024-05-01"])
    with pytest.raises(TimePointError, match="at least one follow-up"):
        read_time_points([write(tmp_path / "a.json")])


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SR of two lesions, as `segment --sr` writes it."""
    from clmsda.dicom_objects import build_seg, build_sr, findings_of, read_source, write_dataset
    from clmsda.dicom_objects.findings import BY_HAND
    from clmsda.geometry import Grid

    folder = tmp_path_factory.mktemp("sr")
    voxels = np.zeros((12, 40, 48), np.uint8)
    voxels[2:8, 4:24, 6:40] = 1
    voxels[9:11, 30:36, 30:42] = 5
    grid = Grid.axial(voxels.shape, (2.5, 0.8, 0.8), origin_mm=(-20.0, 30.0, -400.0))
    ct = Volume(np.where(voxels > 0, 30, -850).astype(np.int16), grid)
    write_series(folder / "ct", ct)
    source = read_source(folder / "ct")
    found = findings_of(Volume(voxels, grid), ct, series_uid=source.series_uid, algorithm=BY_HAND)
    write_dataset(build_sr(source, found, build_seg(source, found)), folder / "sr.dcm")
    values = [(one.label, one.measurement.volume_ml, one.measurement.long_axis_mm, one.measurement.short_axis_mm,
               one.tracking_uid) for one in found]  # fmt: skip
    (folder / "values.json").write_text(json.dumps(values))
    return folder / "sr.dcm"


def test_our_own_report(report: Path) -> None:
    point = read_time_point(report)
    values = json.loads((report.parent / "values.json").read_text())
    assert [one.label for one in point.lesions] == [1, 5]
    for lesion, (_, volume_ml, long_mm, short_mm, uid) in zip(point.lesions, values, strict=True):
        assert lesion.volume_ml == pytest.approx(volume_ml, abs=0.001)
        assert (lesion.long_axis_mm, lesion.short_axis_mm) == (
            pytest.approx(long_mm, abs=0.01),
            pytest.approx(short_mm, abs=0.01),
        )
        assert (lesion.tracking_uid, lesion.organ) == (uid, "lung")
    assert point.date == date(2024, 1, 2)
    assert point.patient_check == patient_check("P1")
    assert point.image == str(dcmread(next((report.parent / "ct").iterdir())).SeriesInstanceUID)


def numbers(item: Dataset) -> list[Dataset]:
    """All numeric content items below one."""
    children = item.get("ContentSequence") or ()
    return [child for child in children if child.get("ValueType") == "NUM"] + [
        found for child in children for found in numbers(child)
    ]


def test_units_of_other_reports(report: Path, tmp_path: Path) -> None:
    other = dcmread(report)
    factors = {"mm": ("cm", 0.1), "mL": ("mm3", 1000.0)}
    for item in numbers(other):
        measured = item.MeasuredValueSequence[0]
        unit = measured.MeasurementUnitsCodeSequence[0]
        if unit.CodeValue in factors:
            unit.CodeValue, factor = factors[unit.CodeValue]
            measured.NumericValue = float(measured.NumericValue) * factor
            if "FloatingPointValue" in measured:
                del measured.FloatingPointValue
    other.save_as(tmp_path / "other.dcm")
    for ours, theirs in zip(
        read_time_point(report).lesions, read_time_point(tmp_path / "other.dcm").lesions, strict=True
    ):
        assert theirs.volume_ml == pytest.approx(ours.volume_ml)
        assert theirs.long_axis_mm == pytest.approx(ours.long_axis_mm)


def test_reports_that_are_refused(report: Path, tmp_path: Path) -> None:
    bushels, bare, short = dcmread(report), dcmread(report), tmp_path / "short.dcm"
    for item in numbers(bushels):
        item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue = "[bu_us]"
    bushels.save_as(tmp_path / "bushels.dcm")
    bare.ContentSequence = bare.ContentSequence[:1]
    bare.save_as(tmp_path / "bare.dcm")
    short.write_bytes(report.read_bytes()[:900])
    for path, said in (
        (tmp_path / "bushels.dcm", "found the unit '[bu_us]'"),
        (tmp_path / "bare.dcm", "no measurement group"),
        (short, "short.dcm"),
    ):
        with pytest.raises(TimePointError) as error:
            read_time_point(path)
        assert said in str(error.value)


def test_facts_of_a_scan(lopsided: Volume, tmp_path: Path) -> None:
    write_series(tmp_path / "ct", lopsided, edit=lambda one, _: setattr(one, "SliceThickness", "5.0"))
    ct = read_ct(tmp_path / "ct")
    facts = read_scan_facts(tmp_path / "ct", ct, series=ct.source)
    assert facts == ScanFacts("2024-01-02", 5.0, pytest.approx(2.5), patient_check("P1"))
    write_image(lopsided, tmp_path / "ct.nii.gz")
    assert read_scan_facts(tmp_path / "ct.nii.gz", ct) == ScanFacts(slice_spacing_mm=pytest.approx(2.5))
    assert read_scan_facts(tmp_path / "ct", ct, series="1.2.3").date is None


def test_facts_that_a_header_lacks() -> None:
    header = Dataset()
    assert facts_of(header, None) == ScanFacts()
    header.PatientID, header.StudyDate, header.AcquisitionDate = "", "", "20240501"
    assert facts_of(header, 2.0) == ScanFacts("2024-05-01", None, 2.0, None)
    header.SharedFunctionalGroupsSequence = [Dataset()]
    header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence = [Dataset()]
    header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness = "1.25"
    assert facts_of(header, 1.0).slice_thickness_mm == 1.25  # multi-frame objects


def test_a_patient_is_checked_but_not_named() -> None:
    """Short enough that many patients share each check: nobody can be found by trying all record numbers."""
    assert patient_check("P1") == patient_check(" P1 ") != patient_check("P2")
    assert patient_check("  ") is None
    checks = [patient_check(str(number)) for number in range(200_000)]
    assert len(set(checks)) < len(checks) / 3


def test_dates() -> None:
    assert parse_date("2024-02-29") == parse_date("20240229") == date(2024, 2, 29)
    assert parse_date("2023-02-29") is None
    assert parse_date("") is None

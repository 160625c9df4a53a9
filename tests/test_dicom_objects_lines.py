"""A reader's own lines: out of our reports, highdicom's presentation states, and items written one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clinic import Clinic, clinic
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from measurement_reports import LENGTH, LONG, SHORT, content, group, in_space, number, report
from presentation_states import Ends, presentation
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

from clmsda.dicom_objects import NoLines, OtherSeries, build_seg, build_sr, read_lines, read_source, write_dataset
from clmsda.errors import heard
from clmsda.geometry import Volume
from clmsda.prompts import RecistLine


@pytest.fixture
def case(lopsided: Volume, labels: Volume, tmp_path: Path) -> Clinic:
    return clinic(tmp_path, lopsided, labels)


def image(case: Clinic, k: int, **more: object) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = case.source.image(k).SOPClassUID
    item.ReferencedSOPInstanceUID = case.source.image(k).SOPInstanceUID
    for name, value in more.items():
        setattr(item, name, value)
    return item


def drawn(case: Clinic, k: int, ends: Ends, concept: tuple[str, str, str] = LENGTH, **more: object) -> Dataset:
    """A length inferred from a line on slice k. ends: (column, row) from the first pixel's corner."""
    source = content("IMAGE", None, ReferencedSOPSequence=[image(case, k, **more)])
    line = content("SCOORD", None, [source], GraphicType="POLYLINE", GraphicData=[float(x) for x in np.ravel(ends)])
    measured = number(concept, "10")
    measured.ContentSequence = [line]
    return measured


def assert_ends(line: RecistLine, ends_mm: Ends | np.ndarray) -> None:
    np.testing.assert_allclose([line.start_mm, line.end_mm], ends_mm, atol=2e-3)


def test_our_own_reports_give_the_long_axes_that_were_measured(case: Clinic, tmp_path: Path) -> None:
    write_dataset(build_sr(case.source, case.findings, build_seg(case.source, case.findings)), tmp_path / "sr.dcm")
    lines = read_lines(tmp_path / "sr.dcm", case.source)
    assert len(lines) == len(case.findings) == 3
    for line, finding in zip(lines, case.findings, strict=True):
        assert_ends(line, finding.measurement.long_axis_lps)


def test_a_presentation_state_gives_a_line_for_each_lesion_by_the_longer_of_two_that_cross(
    case: Clinic, tmp_path: Path
) -> None:
    across, along, apart = [[5.5, 2.0], [5.5, 6.0]], [[2.0, 4.5], [11.0, 4.5]], [[2.0, 8.5], [4.0, 8.5]]
    path = presentation(case, tmp_path / "pr.dcm", [(2, across), (2, along), (2, apart), (4, across)])
    lines = read_lines(path, case.source)
    wanted = [(2, along), (2, apart), (4, across)]  # the one on slice 4 lies below the first, 5 mm away
    assert len(lines) == 3
    for line, (k, ends) in zip(lines, wanted, strict=True):
        assert_ends(line, case.source.to_lps(k, np.array(ends)[:, ::-1] - 0.5))


def test_a_groups_longest_line_counts_whatever_it_is_called_but_no_short_axis(case: Clinic, tmp_path: Path) -> None:
    short, long, longer = [[1, 1], [2, 1]], [[1, 3], [5, 3]], [[1, 5], [9, 5]]
    path = report(
        tmp_path / "sr.dcm",
        group(drawn(case, 1, short), drawn(case, 1, long), drawn(case, 1, longer, SHORT), uid="1.2.3"),
        group(drawn(case, 3, longer, LONG), uid="1.2.4"),
        group(drawn(case, 2, longer), uid="1.2.3"),  # the first lesion once more
    )
    lines = read_lines(path, case.source)
    assert len(lines) == 2
    assert_ends(lines[0], case.source.to_lps(2, np.array(longer)[:, ::-1] - 0.5))
    assert_ends(lines[1], case.source.to_lps(3, np.array(longer)[:, ::-1] - 0.5))


def test_points_in_space_are_taken_in_the_series_frame_of_reference_only(case: Clinic, tmp_path: Path) -> None:
    ends = [[-30.0, 141.0, -510.0], [-27.0, 145.5, -509.0]]
    path = report(tmp_path / "sr.dcm", group(in_space(ends, case.source.frame_uid)))
    (line,) = read_lines(path, case.source)
    assert_ends(line, ends)
    path = report(tmp_path / "sr.dcm", group(in_space(ends, "1.2.3.4")))
    with pytest.raises(OtherSeries, match=r"no line on this series: .*frame of reference 1\.2\.3\.4"):
        read_lines(path, case.source)


def test_lines_on_other_images_are_left_out_and_named(case: Clinic, tmp_path: Path) -> None:
    ends = [[1, 1], [5, 3]]
    path = report(
        tmp_path / "sr.dcm",
        group(drawn(case, 1, ends, ReferencedSOPInstanceUID="1.9.9")),
        group(drawn(case, 1, ends)),
    )
    with heard() as said:
        assert len(read_lines(path, case.source)) == 1
    assert said == ["sr.dcm: 1 of its lines left out: a line is on image 1.9.9"]


def test_frames_of_an_enhanced_ct(case: Clinic, tmp_path: Path) -> None:
    headers = [dcmread(file) for file in sorted(case.folder.iterdir())]
    enhanced = LegacyConvertedEnhancedCTImage(headers, generate_uid(), 2, generate_uid(), 1)
    (tmp_path / "enhanced").mkdir()
    enhanced.save_as(tmp_path / "enhanced" / "ct.dcm")
    source = read_source(tmp_path / "enhanced")
    assert source.frames is not None
    other = Clinic(tmp_path / "enhanced", case.ct, case.labels, source, case.findings)
    k, ends = 5, [[2, 2], [8, 7]]
    line = drawn(other, k, ends, ReferencedFrameNumber=source.frames[k])
    (found,) = read_lines(report(tmp_path / "sr.dcm", group(line)), source)
    assert_ends(found, source.to_lps(k, np.array(ends)[:, ::-1] - 0.5))


@pytest.mark.parametrize("ends", [[[1, 1]], [[1, 1], [1, 1]], [[1, 1], [2, 2], [3, 1]], [[float("nan"), 1], [2, 2]]])
def test_what_is_no_line_of_two_points_is_none(case: Clinic, tmp_path: Path, ends: Ends) -> None:
    path = report(tmp_path / "sr.dcm", group(drawn(case, 1, ends)))
    with pytest.raises(NoLines, match=r"sr\.dcm"):
        read_lines(path, case.source)


def test_other_files_are_refused_by_what_they_are(case: Clinic, tmp_path: Path) -> None:
    with pytest.raises(NoLines, match="expected a structured report or a presentation state with lines, found CT"):
        read_lines(next(case.folder.iterdir()), case.source)
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(NoLines, match="another kind of object"):
        read_lines(tmp_path / "text.dcm", case.source)

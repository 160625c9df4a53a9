"""OHIF shows what a session saved: the CT, the lesion of SEG and RTSTRUCT at its place, the report's measurements."""

from __future__ import annotations

import numpy as np
import pytest
from ohif.screen import Screen
from ohif.study import NAME, WINDOW_HU, Study
from playwright.sync_api import expect

from clmsda.metrics import f1


def test_the_ct(screen: Screen, study: Study) -> None:
    """Its slices, in their window, and the names of all series beside it."""
    expect(screen.named("series-modality-label")).to_have_text(["CT", "SR", "RTSTRUCT", "SEG"])
    center, width = WINDOW_HU
    gray = np.clip((study.ct.voxels[screen.slice] - center) / width + 0.5, 0, 1) * 255
    assert gray.std() > 50  # there is something to be seen
    assert np.abs(screen.at_voxels(screen.picture())[:, :, 0] - gray).mean() < 3


@pytest.mark.parametrize("modality", ["SEG", "RTSTRUCT"])
def test_the_lesion(modality: str, screen: Screen, study: Study) -> None:
    """Its name in the panel; where that is clicked, its voxels of that slice in color, until they are hidden."""
    screen.show_series(modality)
    screen.load_segments()
    expect(screen.named("segmentation-select-value")).to_contain_text(f"clmsda {modality}")
    expect(screen.named("data-row-title")).to_have_text([NAME])
    screen.named("data-row-title").click()

    def drawn() -> bool:
        colored, k = screen.colored(), screen.slice
        before, here, after = (f1(colored, study.mask.voxels[k + step] > 0) for step in (-1, 0, 1))
        return here > max(before, after, 0.97)  # not 1: the line of a contour is wider than the contour

    screen.until(drawn, "the lesion is not drawn where it is")
    screen.named("data-row-visibility-toggle").click()
    screen.until(lambda: not screen.colored().any(), "the lesion is not hidden")


def test_the_report(screen: Screen, study: Study) -> None:
    """What OHIF 3.13.2 shows of it, which is neither the mean density nor the size group: docs/pacs.md says so."""
    screen.show_series("SR")
    found = study.lesion["measurement"]
    screen.until(lambda: bool(screen.texts), "no measurements are drawn")
    assert screen.texts == [
        f"Volume: {found['volume_ml']:.2f} mL",
        f"Confidence (F1 to expect): {study.lesion['confidence']:.2f} 1",
        f"L: : {found['long_axis_mm']:.2f} mm",
        f"W: : {found['short_axis_mm']:.2f} mm",
    ]
    screen.until(lambda: screen.slice == found["measured_slice"], "another slice is shown")
    for axis in ("long_axis_lps", "short_axis_lps"):
        ends = screen.places(found[axis])
        assert np.abs(screen.lines - ends).max(axis=(1, 2)).min() < 0.5, axis

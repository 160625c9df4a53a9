"""Figures 1 and 2: the tumors of a cohort by size, and the two patches of a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from clmsda.cohorts import Case, Cohort, describe
from clmsda.geometry import Volume
from clmsda.patches import PatchConfig, cut, cut_mask, directions_of, view_grid
from clmsda.studies.report.figures.slices import cut_slice, outline, scale_bar, show, write
from clmsda.studies.report.figures.style import DARK, GROUP_COLORS, INK, TRUTH, WIDTH, new_figure
from clmsda.studies.results import GROUPS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def typical(cohort: Cohort) -> list[Case]:
    """The case of median size of each size group (of an even number, the smaller of the middle two)."""
    found = []
    for group in GROUPS:
        cases = sorted(
            (one for one in cohort.cases if one.size_group == group), key=lambda one: (one.size_mm, one.case)
        )
        found += cases[(len(cases) - 1) // 2 :][:1]
    return found


def sizes(cohort: Cohort) -> Figure:
    """Figure 1: how many tumors are how large, and the typical tumor of each group in the same field."""
    examples = typical(cohort)
    figure = new_figure(4.5)
    left = figure.add_gridspec(2, len(examples), height_ratios=(1.0, 1.25))
    describe.draw_histogram(figure.add_subplot(left[0, :]), cohort.cases, GROUP_COLORS, bin_mm=5.0)
    field_mm = 1.35 * max(case.size_mm for case in examples)
    for column, case in enumerate(examples):
        panel = figure.add_subplot(left[1, column])
        found = cut_slice(cohort, case, field_mm)
        show(panel, found.hu)
        outline(panel, found.truth, TRUTH)
        scale_bar(panel, field_mm, found.grid.shape[1])
        panel.set_title(f"Group {case.size_group}: {case.size_mm / 10:.1f} cm", color=INK)
    return figure


def pairs(cohort: Cohort, config: PatchConfig) -> Figure:
    """Figure 2: what the network is shown of a small, a middle and a large tumor, in both views."""
    examples = typical(cohort)
    side = min((WIDTH - 0.3) / len(examples), 2.6)
    figure = new_figure(2 * side + 0.3)
    grid = figure.subplots(2, len(examples), squeeze=False)
    for column, case in enumerate(examples):
        for row, (view, ratio) in enumerate((("size-variant", 1.0), ("size-invariant", config.ratio(case.size_mm)))):
            field_mm = _patch(grid[row, column], cohort, case, config, ratio)
            write(grid[row, column], 0.05, 0.95, f"{field_mm / 10:.1f} cm wide", va="top")
            if column == 0:
                grid[row, column].set_ylabel(view, fontsize=8.5, fontweight="bold", color=INK)
            if row == 0:
                grid[row, column].set_title(
                    f"{case.size_mm / 10:.1f} cm, r = {config.ratio(case.size_mm):.2f}", color=INK
                )
    return figure


def _patch(panel: Axes, cohort: Cohort, case: Case, config: PatchConfig, ratio: float) -> float:
    """One patch as the network gets it (of a 3-D one, the slice through the center); returns its width in mm."""
    image, truth = cohort.slab(case)
    if config.spatial_dims == 2:
        index = int((truth.voxels != 0).sum(axis=(1, 2)).argmax())
        low, high = (index, 0, 0), (index + 1, *image.grid.shape[1:])
        image, truth = image.crop(low, high), truth.crop(low, high)
        _, row, column = image.grid.to_index(case.center_mm)
        center, directions = image.grid.to_lps((0, row, column)), directions_of(image.grid)
        grid = view_grid(config, center, ratio, directions=directions)
    else:
        grid = view_grid(config, case.center_mm, ratio)
    plane = cut(image, grid, config)[0]
    mask = cut_mask(Volume(truth.voxels.astype(np.float32), truth.grid), grid, config)[0]
    if config.spatial_dims == 3:
        middle = len(plane) // 2
        plane, mask = plane[middle], mask[middle]
    show(panel, plane, (0.0, 1.0))
    outline(panel, mask, TRUTH)
    field_mm = float(grid.shape[2] * grid.spacing_mm[2])
    scale_bar(panel, field_mm, plane.shape[1])
    panel.set_facecolor(DARK)
    return field_mm

"""Panels of CT: one axial slice around a tumor, in the lung window, with thin contours and a scale bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clmsda.cohorts import Case, Cohort
from clmsda.geometry import Grid, Volume, resample
from clmsda.patches import LUNG_WINDOW_HU, PatchConfig, directions_of, view_grid
from clmsda.studies.report.figures.style import rim

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PIXELS = 240
FIELD = 1.9
"""Of a panel, in tumor sizes."""
SMALLEST_MM = 60.0


@dataclass(frozen=True, eq=False)
class Slice:
    """The slice of largest tumor area, turned as radiologists look at it. hu, truth: (rows, columns) on `grid`."""

    case: Case
    grid: Grid
    index: int
    hu: NDArray[np.float32]
    truth: NDArray[np.float32]

    @property
    def field_mm(self) -> float:
        return float(self.grid.shape[2] * self.grid.spacing_mm[2])

    def cut_mask(self, mask: Volume) -> NDArray[np.float32]:
        """A mask on the slab's grid as the share of each pixel, so that 0.5 is its contour."""
        return _plane(mask, self.index, self.grid, fill=0.0)


def cut_slice(cohort: Cohort, case: Case, field_mm: float | None = None) -> Slice:
    """The slice of a case, in a square field around the tumor. Raises CohortError for a damaged slab."""
    image, truth = cohort.slab(case)
    index = int((truth.voxels != 0).sum(axis=(1, 2)).argmax())
    if field_mm is None:
        field_mm = max(FIELD * case.size_mm, SMALLEST_MM)
    center = np.array(case.center_mm)
    config = PatchConfig((PIXELS, PIXELS), reference_spacing_mm=field_mm / PIXELS)
    _, row, column = image.grid.to_index(center)
    grid = view_grid(config, image.grid.to_lps((index, row, column)), directions=directions_of(image.grid))
    return Slice(case, grid, index, _plane(image, index, grid, fill=None), _plane(truth, index, grid, fill=0.0))


def _plane(volume: Volume, index: int, grid: Grid, fill: float | None) -> NDArray[np.float32]:
    one = volume.crop((index, 0, 0), (index + 1, *volume.grid.shape[1:]))
    return resample(Volume(one.voxels.astype(np.float32), one.grid), grid, fill=fill).voxels[0]


def show(panel: Axes, pixels: NDArray, window: tuple[float, float] = LUNG_WINDOW_HU) -> None:
    """Gray pixels without axes."""
    panel.imshow(pixels, cmap="gray", vmin=window[0], vmax=window[1], interpolation="bilinear")
    panel.set_xticks([])
    panel.set_yticks([])
    panel.grid(False)
    for spine in panel.spines.values():
        spine.set_visible(False)


def outline(panel: Axes, mask: NDArray, color: str, width: float = 0.9, style: str = "solid") -> None:
    """The contour of a mask at 0.5; closed at the panel's border."""
    if (mask > 0.5).any():
        steps = [np.arange(-1, length + 1) for length in mask.shape]
        drawn = panel.contour(
            steps[1], steps[0], np.pad(mask, 1), levels=[0.5], colors=[color], linewidths=width, linestyles=style
        )
        drawn.set_path_effects(rim(width))
        panel.set_xlim(-0.5, mask.shape[1] - 0.5)
        panel.set_ylim(mask.shape[0] - 0.5, -0.5)


def scale_bar(panel: Axes, field_mm: float, pixels: int) -> None:
    """A bar of a round length, at most a third of the field, at the lower left."""
    length_mm = max(length for length in (1, 2, 5, 10, 20, 50, 100) if length <= max(field_mm / 3, 1))
    left, length = 0.05 * pixels, length_mm / field_mm * pixels
    panel.plot([left, left + length], [0.94 * pixels] * 2, color="white", linewidth=1.4, path_effects=rim(1.4))
    text = f"{length_mm / 10:g} cm" if length_mm >= 10 else f"{length_mm} mm"
    write(panel, left / pixels, 0.09, text, va="bottom")


def write(panel: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """White text with a dark rim, at a place of the panel (0 to 1, upwards)."""
    panel.text(x, y, text, transform=panel.transAxes, color="white", fontsize=7, path_effects=rim(0), **style)

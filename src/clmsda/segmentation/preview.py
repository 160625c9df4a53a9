"""The picture of a segmentation: three planes per lesion, with the contour and both axes drawn.

Every panel shows the same field in mm, so lengths compare across planes and with the scale bar.
Orientation follows radiological convention: the patient's right is on the left side, the patient's
head (in axial planes the front) is up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clmsda.files import replacing
from clmsda.geometry import Grid, GridError, Volume
from clmsda.measurements import Measurement, bounding_box

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WINDOW_HU = (-1350.0, 150.0)
FIELD_MM = 60.0
"""The smallest field that a panel shows."""

_INK, _FAINT, _BACKGROUND = "#e8eaed", "#8a9099", "#0b0d10"
_CONTOUR, _LONG, _SHORT = "#ffb74d", "#4fc3f7", "#f48fb1"
_OBLIQUE_DEGREES = 10.0
_PLANES = ("Sagittal", "Coronal", "Axial")  # by the patient's axis (x, y, z) that they cut across
_PANEL_INCHES, _HEADER_INCHES, _GAP_INCHES = 3.6, 0.62, 0.08


def draw(
    volume: Volume,
    lesions: Sequence[tuple[int, Volume, Measurement]],
    path: Path | str,
    *,
    probabilities: Mapping[int, float] | None = None,
) -> None:
    """Draw lesions as `picture` does, and write that (.png, .pdf, .svg), whole or not at all.

    Raises OutputError, EmptyMask, and GridError for a mask on another grid.
    """
    path = Path(path)
    figure = picture(volume, lesions, probabilities)
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".").lower() or "png", facecolor=_BACKGROUND)


def picture(
    volume: Volume, lesions: Sequence[tuple[int, Volume, Measurement]], probabilities: Mapping[int, float] | None = None
) -> Figure:
    """Lesions below each other, three planes each.

    volume: HU. lesions: the label, a mask on the same grid and its measurement each. probabilities: that they are
    tumors, by label, where nobody prompted. The first plane is the measured slice, the others pass through the
    lesion's center; all run along the grid's axes.
    Nothing from the image's header is drawn. Raises EmptyMask, and GridError for a mask on another grid.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    row_inches = _PANEL_INCHES + _HEADER_INCHES
    width, height = 3 * _PANEL_INCHES + 4 * _GAP_INCHES, max(1, len(lesions)) * row_inches + _GAP_INCHES
    figure = Figure(figsize=(width, height), facecolor=_BACKGROUND, dpi=160)
    FigureCanvasAgg(figure)
    for row, (label, mask, measurement) in enumerate(lesions):
        panels = []
        for column in range(3):
            left = (_GAP_INCHES + column * (_PANEL_INCHES + _GAP_INCHES)) / width
            bottom = 1 - (row + 1) * row_inches / height
            panels.append(figure.add_axes((left, bottom, _PANEL_INCHES / width, _PANEL_INCHES / height)))
        height_of_title = 1 - (row * row_inches + 0.34) / height
        _title(figure, _GAP_INCHES / width, height_of_title, label, measurement, (probabilities or {}).get(label))
        _draw_lesion(panels, volume, mask, measurement)
    return figure


@dataclass(frozen=True)
class _Plane:
    """A cut through the grid and how it lies on the screen.

    cut: the array axis it cuts across, at `index`. across, down: the array axes along the screen.
    flips: whether (across, down) run against the screen's x and y.
    """

    name: str
    cut: int
    index: int
    across: int
    down: int
    flips: tuple[bool, bool]

    def to_screen(self, grid: Grid, index: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 3) indices to (..., 2) mm on the screen: x to the right, y down."""
        signs = np.where(self.flips, -1.0, 1.0)
        return index[..., [self.across, self.down]] * grid.spacing_mm[[self.across, self.down]] * signs


def _planes(grid: Grid, index: Sequence[int]) -> list[_Plane]:
    """The planes through a voxel: along the slices first, then the axial, coronal, sagittal that remain."""
    cosines = grid.affine[:3, :3] / grid.spacing_mm  # rows x, y, z; columns the array axes
    patient = max(permutations(range(3)), key=lambda p: sum(abs(cosines[p[axis], axis]) for axis in range(3)))
    straight = np.cos(np.deg2rad(_OBLIQUE_DEGREES))
    oblique = any(abs(cosines[patient[axis], axis]) < straight for axis in range(3))
    planes = []
    for cut in sorted(range(3), key=lambda axis: (axis != 0, -patient[axis])):
        across, down = sorted((axis for axis in range(3) if axis != cut), key=lambda axis: patient[axis])
        if patient[cut] == 2:  # axial: x to the right, y (to the back) down
            flips = (cosines[0, across] < 0, cosines[1, down] < 0)
        else:  # x or y to the right, z up
            flips = (cosines[patient[across], across] < 0, cosines[2, down] > 0)
        name = ("Slice", "Row", "Column")[cut] + " plane" if oblique else _PLANES[patient[cut]]
        planes.append(_Plane(name, cut, int(index[cut]), across, down, (bool(flips[0]), bool(flips[1]))))
    if not oblique:
        return planes
    return sorted(planes, key=lambda plane: plane.cut)


def _draw_lesion(panels: Sequence[Axes], volume: Volume, mask: Volume, measurement: Measurement) -> None:
    grid = volume.grid
    if not mask.grid.same_as(grid):
        raise GridError(f"expected a mask on the image's grid of shape {grid.shape}, found another: {mask.grid.shape}")
    lower, upper = bounding_box(mask.voxels)
    center = np.rint(grid.to_index(measurement.center_mm)).astype(int)
    center[0] = measurement.measured_slice
    lengths_mm = np.array(grid.shape) * grid.spacing_mm
    extent_mm = float(((upper - lower) * grid.spacing_mm).max())
    field_mm = min(max(FIELD_MM, 1.7 * extent_mm), float(lengths_mm.max()))
    middle = (lower + upper - 1) / 2
    for panel, plane in zip(panels, _planes(grid, [int(i) for i in center]), strict=True):
        view = _view(grid, plane, middle, field_mm)
        _draw_plane(panel, volume, mask, plane, view)
        _decorate(panel, grid, plane, view)
        if plane.cut == 0:
            _draw_axes(panel, grid, plane, measurement, view)
        if panel is panels[0]:
            _scale_bar(panel, view)


_View = tuple[float, float, float, float]  # left, right, bottom, top in mm on the screen


def _view(grid: Grid, plane: _Plane, middle: NDArray[np.float64], field_mm: float) -> _View:
    """A square field around the lesion, moved into the image where the image is large enough."""
    corners = np.array([np.full(3, -0.5), np.array(grid.shape) - 0.5])
    ends = np.sort(plane.to_screen(grid, corners), axis=0)
    start = plane.to_screen(grid, middle) - field_mm / 2
    room = ends[1] - ends[0] - field_mm
    start = np.where(room >= 0, np.clip(start, ends[0], ends[0] + np.maximum(room, 0)), ends[0] + room / 2)
    x, y = (float(value) for value in start)
    return x, x + field_mm, y + field_mm, y


def _draw_plane(panel: Axes, volume: Volume, mask: Volume, plane: _Plane, view: _View) -> None:
    """The CT in the lung window and the contour of the mask, at the right proportions."""
    grid = volume.grid
    image, inside = (np.take(part.voxels, plane.index, axis=plane.cut) for part in (volume, mask))
    if plane.across < plane.down:
        image, inside = image.T, inside.T
    first, last = plane.to_screen(grid, np.array([np.full(3, -0.5), np.array(grid.shape) - 0.5]))
    panel.imshow(
        image.astype(np.float32),
        cmap="gray",
        vmin=WINDOW_HU[0],
        vmax=WINDOW_HU[1],
        extent=(first[0], last[0], last[1], first[1]),
        interpolation="bicubic",
    )
    steps = np.arange(-1, max(grid.shape) + 1)  # one voxel more on all sides closes contours at the border
    at = plane.to_screen(grid, np.stack([steps] * 3, axis=-1))
    padded = np.pad(inside != 0, 1).astype(float)
    x, y = at[: padded.shape[1], 0], at[: padded.shape[0], 1]
    if padded.any():
        panel.contour(x, y, padded, levels=[0.5], colors=[_CONTOUR], linewidths=1.1)
    panel.set_xlim(view[0], view[1])
    panel.set_ylim(view[2], view[3])


def _decorate(panel: Axes, grid: Grid, plane: _Plane, view: _View) -> None:
    """Orientation letters at the edges, and the plane's name and number below."""
    panel.set_facecolor("black")
    panel.set_xticks([])
    panel.set_yticks([])
    for spine in panel.spines.values():
        spine.set_visible(False)
    signs = np.where(plane.flips, -1.0, 1.0)
    right, down = (grid.affine[:3, axis] * sign for axis, sign in zip((plane.across, plane.down), signs, strict=True))
    for place, direction in (((0.02, 0.5), -right), ((0.98, 0.5), right), ((0.5, 0.98), -down), ((0.5, 0.02), down)):
        sides = ("left" if place[0] < 0.1 else "right" if place[0] > 0.9 else "center",
                 "top" if place[1] > 0.9 else "bottom" if place[1] < 0.1 else "center")  # fmt: skip
        _write(panel, place, _letters(direction), color=_INK, size=9, ha=sides[0], va=sides[1])
    noun = ("slice", "row", "column")[plane.cut]
    text = plane.name if plane.name.lower().startswith(noun) else f"{plane.name} · {noun}"
    _write(panel, (0.98, 0.02), f"{text} {plane.index}", color=_INK, size=8, ha="right", va="bottom")


def _draw_axes(panel: Axes, grid: Grid, plane: _Plane, measurement: Measurement, view: _View) -> None:
    """Long and short axis of the measured slice, each with its length beside one end."""
    taken: list[NDArray[np.float64]] = []
    for axis, length_mm, color in (
        (measurement.long_axis_lps, measurement.long_axis_mm, _LONG),
        (measurement.short_axis_lps, measurement.short_axis_mm, _SHORT),
    ):
        ends = plane.to_screen(grid, grid.to_index(np.array(axis)))
        panel.plot(ends[:, 0], ends[:, 1], color=color, linewidth=1.2, solid_capstyle="butt", path_effects=_rim(1.2))
        label = _label_position(ends, view, taken)
        taken.append(label)
        _write(panel, label.tolist(), f"{length_mm:.1f} mm", color=color, size=9, ha="center", va="center", data=True)


def _label_position(
    ends: NDArray[np.float64], view: _View, taken: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Where a length stands: beyond the axis's upper end, or the lower one where that is taken; in view."""
    field_mm = view[1] - view[0]
    along = ends[0] - ends[1]
    along = along / max(float(np.linalg.norm(along)), 1e-9)
    half_label = field_mm * np.array([0.085, 0.04])
    offset = along * (np.abs(along) * half_label).sum()
    corner = np.array([view[0], view[3]])
    places = [
        np.clip(end, corner + half_label, corner + field_mm - half_label)
        for end in (ends[0] + offset, ends[1] - offset)
    ]
    places.sort(key=lambda place: float(place[1]))
    return next((p for p in places if all((np.abs(p - other) > 2 * half_label).any() for other in taken)), places[1])


def _scale_bar(panel: Axes, view: _View) -> None:
    """A bar of a round length at the lower left."""
    field_mm = view[1] - view[0]
    length_mm = max(length for length in (1, 2, 5, 10, 20, 50, 100) if length <= max(field_mm / 4, 1))
    left, y = view[0] + 0.035 * field_mm, view[2] - 0.035 * field_mm
    panel.plot([left, left + length_mm], [y, y], color=_INK, linewidth=2, path_effects=_rim(2.0))
    text = f"{length_mm / 10:g} cm" if length_mm >= 10 else f"{length_mm} mm"
    place = (left + length_mm / 2, y - 0.015 * field_mm)
    _write(panel, place, text, color=_INK, size=8, ha="center", va="bottom", data=True)


def _title(
    figure: Figure, left: float, y: float, label: int, measurement: Measurement, probability: float | None
) -> None:
    first, last = measurement.slices
    figure.text(left, y, f"Lesion {label}", color=_INK, va="center", size=13, weight="bold")
    facts = [
        f"{measurement.volume_ml:.2f} ml",
        f"{measurement.long_axis_mm:.1f} \N{MULTIPLICATION SIGN} {measurement.short_axis_mm:.1f} mm",
        f"slices {first} to {last}",
        f"size group {measurement.size_group}",
    ]
    if probability is not None:
        facts.append(f"probability {probability:.2f}")
    figure.text(left + 0.115, y - 0.001, (" " * 6).join(facts), color=_FAINT, va="center", size=10)


def _write(panel: Axes, place: Sequence[float], text: str, *, data: bool = False, **style: Any) -> None:
    """Text with a thin dark rim, readable on lung and on bone. place: of the panel, or mm with `data`."""
    x, y = place
    transform = panel.transData if data else panel.transAxes
    panel.text(x, y, text, transform=transform, path_effects=_rim(0.0), clip_on=True, **style)


def _rim(linewidth: float) -> list[Any]:
    """A dark rim around text (0) or around a line of this width."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=linewidth + (0.8 if linewidth else 2.0), foreground=_BACKGROUND)]


def _letters(direction: NDArray[np.float64]) -> str:
    """Where a direction in LPS points: R, L, A, P, H (head), F (feet); two letters if oblique."""
    unit = direction / np.linalg.norm(direction)
    names = [pair[int(value > 0)] for pair, value in zip(("RL", "AP", "FH"), unit, strict=True)]
    order = np.argsort(-np.abs(unit))
    return "".join(names[axis] for axis in order[:2] if abs(unit[axis]) > 0.35)

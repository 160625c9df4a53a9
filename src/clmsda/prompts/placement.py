"""Whether a prompt lies where a lung tumor can be: in the image, in the patient, on tissue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from clmsda.geometry import LPS_FROM_RAS, Grid, Volume
from clmsda.prompts.kinds import (
    Correction,
    Inside,
    Outside,
    Point,
    PointMm,
    Prompt,
    PromptError,
    RecistLine,
    described,
    position,
    text_of,
)  # fmt: skip

AIR_BELOW_HU = -970.0
"""Mean of a neighborhood below this is air. Lung is at -950 to -700, emphysema down to about -960."""

_OUTSIDE_BELOW_HU = -950.0  # air around the patient, noise averaged away: blankets pass, couches mostly do
_WALL_ABOVE_HU = -500.0  # mean around a pocket of air that lies in a tumor and not in lung
_POCKET_MM = 30.0  # a pocket of air that reaches this far is an airway, or lung that burst
_BALL_MM = 2.0


def check_in_image(prompt: Prompt | Correction, grid: Grid, *, frame: str = "lps") -> None:
    """Refuse a prompt outside the image: a point, an end of a line, the center of a box.

    frame: the one in which the person gave it; the error says in which other one it would fit.
    """
    points = _named(prompt)
    outside = [point for point in points if not grid.contains(point)]
    if not outside:
        return
    ends = grid.to_lps(corners(np.array([np.full(3, -0.5), np.array(grid.shape) - 0.5])))
    bounds = ", ".join(
        f"{axis} {low:.1f} to {high:.1f}"
        for axis, low, high in zip("xyz", ends.min(axis=0), ends.max(axis=0), strict=True)
    )
    raise PromptError(
        f"expected {described(prompt)} within the image, found {text_of(outside[0])} LPS mm, "
        f"but the image spans {bounds}" + _frame_hint(np.array(points), grid, frame)
    )


def _named(prompt: Prompt | Correction) -> list[PointMm]:
    """The points of a prompt that must lie in the image."""
    if isinstance(prompt, RecistLine):
        return [prompt.start_mm, prompt.end_mm]
    return [prompt.lps_mm] if isinstance(prompt, Inside | Outside) else [prompt.center_mm]


def check_inside(prompt: Prompt | Inside, volume: Volume) -> None:
    """Refuse a prompt outside the image, outside the body, or in air. Looks at few voxels only.

    volume: HU. The body is the largest connected region of the prompt's slice that is not air, holes
    filled, so lungs belong to it even where they touch the edge of a cropped image. Within the body a
    point is refused if the mean of the 2 mm around it is below -970 HU (trachea, bronchi, bullae),
    unless that air is a closed pocket in soft tissue: the cavity of a tumor. A line or a box is refused
    if all of it is in air.
    """
    check_in_image(prompt, volume.grid)
    center = prompt.lps_mm if isinstance(prompt, Inside) else prompt.center_mm
    if not _in_body(volume, center):
        raise PromptError(
            f"expected {described(prompt)} inside the patient, found {text_of(center)} LPS mm outside the body "
            f"(mean {_mean_hu(volume, center):.0f} HU): move it onto the tumor"
        )
    mean_hu = max(_mean_hu(volume, point) for point in _samples(prompt) if volume.grid.contains(point))
    if mean_hu < AIR_BELOW_HU and not _in_cavity(volume, center):
        raise PromptError(
            f"{described(prompt)} must lie on tissue, but {text_of(center)} LPS mm lies in air "
            f"(mean {mean_hu:.0f} HU): move it onto the tumor"
        )


def to_lps(points: NDArray[np.float64], frame: str, grid: Grid) -> NDArray[np.float64]:
    """(n, 3) points of a frame ("lps", "ras", "index") in LPS mm. Raises PromptError for another frame."""
    if frame == "index":
        return grid.to_lps(points[:, ::-1])
    if frame == "ras":
        return points @ LPS_FROM_RAS[:3, :3]
    if frame == "lps":
        return points
    raise PromptError(f"expected coordinates in the frame lps, ras or index, found {frame!r}")


def _frame_hint(points: NDArray[np.float64], grid: Grid, frame: str) -> str:
    """A frame in which all points would lie in the image, as words to add to an error."""
    given = {"lps": points, "ras": points @ LPS_FROM_RAS[:3, :3], "index": grid.to_index(points)[:, ::-1]}[frame]
    for other in ("lps", "ras", "index"):
        if other != frame and grid.contains(to_lps(given, other, grid)).all():
            return f"; it would lie inside if read as {other}: use --frame {other}"
    return ""


def _in_body(volume: Volume, lps_mm: PointMm) -> bool:
    """Whether a point lies in the largest region of its slice that is not air, holes filled."""
    k, row, column = _nearest(volume, lps_mm)
    rows_mm, columns_mm = volume.grid.spacing_mm[1:]
    steps = max(1, round(1.0 / rows_mm)), max(1, round(1.0 / columns_mm))
    plane = ndimage.uniform_filter(volume.voxels[k].astype(np.float32), [2 * step + 1 for step in steps])
    solid = plane[:: steps[0], :: steps[1]] >= _OUTSIDE_BELOW_HU
    labels, count = ndimage.label(solid)
    if count == 0:
        return False
    body = ndimage.binary_fill_holes(labels == np.bincount(labels.ravel())[1:].argmax() + 1)
    return bool(body[min(row // steps[0], body.shape[0] - 1), min(column // steps[1], body.shape[1] - 1)])


def _in_cavity(volume: Volume, lps_mm: PointMm) -> bool:
    """Whether the air at a point is closed within 30 mm on all sides, by soft tissue on average."""
    part = _around(volume, lps_mm, _POCKET_MM)
    index = _nearest(part, lps_mm)
    labels, _ = ndimage.label(part.voxels < -900)
    pocket = labels == labels[index]
    if labels[index] == 0 or any(
        np.take(pocket, end, axis=axis).any() for axis in range(3) if pocket.shape[axis] > 1 for end in (0, -1)
    ):
        return False
    wall = ndimage.binary_dilation(pocket, np.ones((3, 3, 3)), iterations=2) & ~pocket
    return float(part.voxels[wall].mean()) > _WALL_ABOVE_HU


def _mean_hu(volume: Volume, lps_mm: PointMm) -> float:
    """Mean HU within 2 mm of a point, or within a pixel's width of it where pixels are wider."""
    radius_mm = max(_BALL_MM, 1.01 * float(volume.grid.spacing_mm[1:].max()))
    part = _around(volume, lps_mm, radius_mm)
    index = np.moveaxis(np.indices(part.grid.shape), 0, -1) - np.array(_nearest(part, lps_mm))
    ball = np.linalg.norm(index * part.grid.spacing_mm, axis=-1) <= radius_mm
    return float(part.voxels[ball].mean(dtype=np.float64))


def _around(volume: Volume, lps_mm: PointMm, reach_mm: float) -> Volume:
    """The part of a volume that reaches `reach_mm` from a point along every axis of the grid."""
    index = np.array(_nearest(volume, lps_mm))
    reach = np.ceil(reach_mm / volume.grid.spacing_mm).astype(int)
    return volume.crop(np.maximum(index - reach, 0), np.minimum(index + reach + 1, volume.grid.shape))


def _nearest(volume: Volume, lps_mm: PointMm) -> tuple[int, int, int]:
    """Index of the voxel in which a point lies, clipped to the grid."""
    index = np.clip(np.rint(volume.grid.to_index(lps_mm)).astype(int), 0, np.array(volume.grid.shape) - 1)
    k, row, column = (int(i) for i in index)
    return k, row, column


def _samples(prompt: Prompt | Inside) -> list[PointMm]:
    """Points across the inner two thirds of a prompt, its center among them."""
    if isinstance(prompt, Point | Inside):
        return [prompt.lps_mm]
    fractions = np.linspace(1 / 6, 5 / 6, 7)
    if isinstance(prompt, RecistLine):
        start, end = np.array(prompt.start_mm), np.array(prompt.end_mm)
        return [position(start + f * (end - start), "a RECIST line") for f in fractions]
    lower, sides = np.array(prompt.lower_mm), np.subtract(prompt.upper_mm, prompt.lower_mm)
    grid = np.stack(np.meshgrid(*[fractions[::2]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return [prompt.center_mm, *(position(lower + f * sides, "a box") for f in grid)]


def corners(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """(8, 3) corners of a box given as (2, 3) opposite ones."""
    return box[0] + np.array(list(np.ndindex(2, 2, 2))) * (box[1] - box[0])

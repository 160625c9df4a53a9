"""Pictures of real lesions with the true outline and the one found. Local only: patients' pixels never enter git."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from real_tumor_report import Scored

from clmsda.geometry import Volume

EACH = 4
MARGIN_MM = 25.0
WINDOW_HU = (-1350, 150)

Masks = tuple[Volume, NDArray[np.bool_], NDArray[np.bool_]]


def chosen(rows: Sequence[Scored]) -> dict[str, list[Scored]]:
    """Of each set the lesions of lowest F1, then those around the median."""
    found = {}
    for name in dict.fromkeys(row.set for row in rows):
        part = sorted((row for row in rows if row.set == name and row.way == "click"), key=lambda row: row.f1)
        worst, rest = part[:EACH], part[EACH:]
        start = max(0, len(part) // 2 - EACH // 2 - len(worst))
        found[name] = worst + rest[start : start + EACH]
    return found


def draw(rows: Sequence[Scored], masks: Callable[[str], Masks], path: Path) -> None:
    """A row per set: the slice with most truth, the true outline green, the one found red. masks: by case."""
    from matplotlib.figure import Figure

    sets = chosen(rows)
    figure = Figure(figsize=(2.2 * 2 * EACH, 2.5 * len(sets)), layout="constrained")
    table = figure.subplots(len(sets), 2 * EACH, squeeze=False)
    for axes, lesions in zip(table, sets.values(), strict=True):
        for one in axes:
            one.set_axis_off()
        for one, row in zip(axes, lesions, strict=False):
            _panel(one, row, masks(row.case))
    figure.suptitle("Worst (left) and median (right); truth green, found red. Patients' data: not for the repository")
    figure.savefig(path, dpi=120)


def _panel(axes, row: Scored, found: Masks) -> None:  # type: ignore[no-untyped-def]
    ct, truth, mask = found
    k = int(truth.sum(axis=(1, 2)).argmax())
    marked = np.argwhere(truth[k])
    margin = np.ceil(MARGIN_MM / ct.grid.spacing_mm[1:]).astype(int)
    lower, upper = np.maximum(marked.min(axis=0) - margin, 0), marked.max(axis=0) + margin + 1
    box = slice(lower[0], upper[0]), slice(lower[1], upper[1])
    aspect = ct.grid.spacing_mm[1] / ct.grid.spacing_mm[2]
    axes.imshow(ct.voxels[k][box], cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], aspect=aspect)
    for outline, color in ((truth, "lime"), (mask, "red")):
        if outline[k][box].any() and not outline[k][box].all():
            axes.contour(outline[k][box], levels=[0.5], colors=color, linewidths=1)
    axes.set_title(
        f"{row.case.partition('/')[2]}, {row.size_mm:g} mm\nF1 {row.f1:.2f}, said {row.confidence:.2f}", fontsize=7
    )

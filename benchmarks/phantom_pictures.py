"""The pictures of docs/phantoms.md: tumors in three planes, and whole chests at five heights.

    python benchmarks/phantom_pictures.py docs/images [--tumors 5000 ...] [--chests 200 203]

Writes phantoms_tumors.png and phantoms_chest.png. Everything shown is synthetic.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from clmsda import phantoms
from clmsda.geometry import Grid

LUNG_HU, SOFT_HU = (-1350, 150), (-160, 240)
SIDE = 128
FIELD = 3.0
"""Sides of a tumor's pictures, in tumor sizes."""


def tumor_planes(seed: int) -> tuple[str, list[tuple[NDArray, NDArray]]]:
    """A title, and (HU, mask) of the axial, the coronal and the sagittal plane through a phantom's tumor."""
    phantom = phantoms.sample(seed)
    center, size = phantom.tumor_extent()
    step = FIELD * size / SIDE
    grid = Grid.axial((SIDE, SIDE, SIDE), (step, step, step), center_mm=center)
    hu, mask = phantoms.render(phantom, grid)
    hu = phantoms.acquire(hu, grid, phantom.acquisition, seed)
    middle = SIDE // 2
    planes = [(v[middle].numpy(), v[:, middle].numpy()[::-1], v[:, :, middle].numpy()[::-1]) for v in (hu, mask)]
    tumor = phantom.tumor
    title = f"{size:.0f} mm, {tumor.kind}{', ' * bool(tumor.hollow)}{tumor.hollow}, {tumor.site}"
    return f"{title}, {phantom.acquisition.slice_mm:g} mm slices", list(zip(*planes, strict=True))


def show(axes: Axes, hu: NDArray, window: tuple[float, float], mask: NDArray | None = None) -> None:
    axes.imshow(hu, cmap="gray", vmin=window[0], vmax=window[1], interpolation="nearest")
    if mask is not None and mask.any():
        axes.contour(mask.astype(float), [0.5], colors="lime", linewidths=0.7)
    axes.set_axis_off()


def draw_tumors(seeds: list[int], path: Path) -> None:
    figure = Figure(figsize=(12, 2.05 * len(seeds) / 2), layout="constrained")
    for part, seed in zip(figure.subfigures(len(seeds) // 2, 2).ravel(), seeds, strict=True):
        title, planes = tumor_planes(seed)
        part.suptitle(title, fontsize=8)
        for axes, (hu, mask) in zip(part.subplots(1, 3), planes, strict=True):
            show(axes, hu, LUNG_HU, mask)
    figure.savefig(path, dpi=80)


def draw_chests(seeds: list[int], path: Path) -> None:
    figure = Figure(figsize=(12, 4.2 * len(seeds)), layout="constrained")
    rows = figure.subplots(2 * len(seeds), 5)
    for number, seed in enumerate(seeds):
        ct, mask = phantoms.scan(phantoms.sample(seed), matrix=256)
        heights = np.linspace(0.08, 0.92, 5) * (len(ct.voxels) - 1)
        for column, k in enumerate(np.rint(heights).astype(int)):
            for row, window in ((0, LUNG_HU), (1, SOFT_HU)):
                show(rows[2 * number + row, column], ct.voxels[k], window, mask.voxels[k])
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tumors", type=int, nargs="*", default=list(range(5000, 5012)))
    parser.add_argument("--chests", type=int, nargs="*", default=[200, 203])
    options = parser.parse_args()
    draw_tumors(options.tumors, options.folder / "phantoms_tumors.png")
    draw_chests(options.chests, options.folder / "phantoms_chest.png")


if __name__ == "__main__":
    main()

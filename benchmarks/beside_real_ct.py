"""Phantoms beside real CT: HU in lungs and in the rest of the body, as a table and as curves for docs/phantoms.md.

    python benchmarks/beside_real_ct.py [--seeds 200 201 202 203 204] [--figure docs/images/beside_real_ct.png]

Over the middle half of a scan's slices. The body is the largest part of each slice that is no air, holes filled,
without its outer 5 mm; lung is what lies below -300 HU in it. Only percentiles and histograms leave a real CT.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from clmsda import phantoms
from clmsda.geometry import Volume
from clmsda.images import read_ct

REAL = {
    "CPTAC C3N-00247": "chest-ct/C3N-00247.nii.gz",
    "RIDER 1129164940": "chest-ct/RIDER-1129164940.nii.gz",
    "LIDC-IDRI-0001": "lidc-idri/LIDC-IDRI-0001/ct.nii.gz",
    "LUNG1-001": "nsclc-radiomics/NSCLC-Radiomics/LUNG1-001",
}
PERCENTILES = (5, 25, 50, 75, 95)
EDGE_MM, LUNG_HU = 5.0, -300


def body(plane: NDArray, pixel_mm: float) -> NDArray[np.bool_]:
    labels, count = ndimage.label(plane > -500)
    if not count:
        return np.zeros(plane.shape, bool)
    filled = ndimage.binary_fill_holes(labels == np.bincount(labels.ravel())[1:].argmax() + 1)
    return ndimage.binary_erosion(filled, iterations=max(1, round(EDGE_MM / pixel_mm)))


def inside(ct: Volume) -> NDArray:
    """HU in the body, over the middle half of the slices."""
    slices = range(len(ct.voxels) // 4, 3 * len(ct.voxels) // 4)
    return np.concatenate([ct.voxels[k][body(ct.voxels[k], ct.grid.spacing_mm[1])] for k in slices])


def row(name: str, hu: NDArray) -> str:
    cells = [
        " / ".join(f"{value:.0f}" for value in np.percentile(part, PERCENTILES))
        for part in (hu[hu < LUNG_HU], hu[hu >= LUNG_HU])
    ]
    return f"| {name} | {cells[0]} | {cells[1]} |"


def draw(real: dict[str, NDArray], synthetic: dict[str, NDArray], path: Path) -> None:
    """Densities of HU: a line for every real CT, a band and its middle for the phantoms."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    tissues = (("lung", (-1024, LUNG_HU), 8), ("soft tissue and bone", (LUNG_HU, 500), 8))
    for axes, (title, limits, step) in zip(figure.subplots(1, 2), tissues, strict=True):
        curves(axes, real, synthetic, np.arange(limits[0], limits[1] + step, step))
        axes.set(title=title, xlabel="HU", ylabel="share of voxels per HU", xlim=limits, ylim=(0, None))
    axes.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)


def curves(axes: Axes, real: dict[str, NDArray], synthetic: dict[str, NDArray], edges: NDArray) -> None:
    middles = (edges[1:] + edges[:-1]) / 2
    densities = [np.histogram(hu, edges, density=True)[0] for hu in synthetic.values()]
    low, middle, high = np.percentile(densities, [0, 50, 100], axis=0)
    axes.fill_between(middles, low, high, color="0.82", label=f"{len(densities)} phantoms, smallest to largest")
    axes.plot(middles, middle, color="0.35", lw=1.5, label="phantoms, median")
    for name, hu in real.items():
        axes.plot(middles, np.histogram(hu, edges, density=True)[0], lw=1.1, label=f"{name} (real)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[200, 201, 202, 203, 204])
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--figure", type=Path, help="draw densities of HU into this picture")
    options = parser.parse_args()
    shown = " / ".join(map(str, PERCENTILES))
    print(f"| | lung {shown} % | soft tissue and bone {shown} % |\n|---|---|---|")
    real, synthetic = {}, {}
    for name, path in REAL.items():
        real[name] = inside(read_ct(options.shared / path))
        print(row(name, real[name]), flush=True)
    for seed in options.seeds:
        synthetic[f"phantom {seed}"] = hu = inside(phantoms.scan(phantoms.sample(seed))[0])
        print(row(f"phantom {seed}", hu), flush=True)
    if options.figure:
        draw(real, synthetic, options.figure)


if __name__ == "__main__":
    main()

"""Phantoms beside real CT: percentiles of HU in lungs and in the rest of the body, as a table for docs/phantoms.md.

    python benchmarks/beside_real_ct.py [--seeds 200 201 202 203 204] [--shared ../shared/data]

Over the middle half of a scan's slices. The body is the largest part of each slice that is no air, holes filled,
without its outer 5 mm; lung is what lies below -300 HU in it. Only these percentiles leave a real CT.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
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
EDGE_MM = 5.0


def body(plane: NDArray, pixel_mm: float) -> NDArray[np.bool_]:
    labels, count = ndimage.label(plane > -500)
    if not count:
        return np.zeros(plane.shape, bool)
    filled = ndimage.binary_fill_holes(labels == np.bincount(labels.ravel())[1:].argmax() + 1)
    return ndimage.binary_erosion(filled, iterations=max(1, round(EDGE_MM / pixel_mm)))


def row(name: str, ct: Volume) -> str:
    slices = range(len(ct.voxels) // 4, 3 * len(ct.voxels) // 4)
    values = np.concatenate([ct.voxels[k][body(ct.voxels[k], ct.grid.spacing_mm[1])] for k in slices])
    cells = [
        " / ".join(f"{value:.0f}" for value in np.percentile(part, PERCENTILES))
        for part in (values[values < -300], values[values >= -300])
    ]
    return f"| {name} | {cells[0]} | {cells[1]} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=[200, 201, 202, 203, 204])
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    options = parser.parse_args()
    shown = " / ".join(map(str, PERCENTILES))
    print(f"| | lung {shown} % | soft tissue and bone {shown} % |\n|---|---|---|")
    for name, path in REAL.items():
        print(row(name, read_ct(options.shared / path)), flush=True)
    for seed in options.seeds:
        print(row(f"phantom {seed}", phantoms.scan(phantoms.sample(seed))[0]), flush=True)


if __name__ == "__main__":
    main()

"""One synthetic chest with a tumor, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from clmsda.geometry import Grid
from clmsda.phantoms.abdomen import Abdomen, sample_abdomen
from clmsda.phantoms.acquisition import Acquisition, sample_acquisition
from clmsda.phantoms.anatomy import Anatomy, Chest, sample_anatomy
from clmsda.phantoms.findings import Findings, sample_findings
from clmsda.phantoms.lungs import Lungs, sample_lungs
from clmsda.phantoms.siting import SITES, LungPoints, choose_center, choose_site, scatter
from clmsda.phantoms.skeleton import Skeleton, sample_skeleton
from clmsda.phantoms.space import Space
from clmsda.phantoms.trees import bronchi, grow
from clmsda.phantoms.tubes import Tubes
from clmsda.phantoms.tumors import CAVITIES, KINDS, Tumor, sample_tumor
from clmsda.phantoms.wall import Wall, sample_wall

SMALLEST_MM, LARGEST_MM = 7.0, 145.0
LARGEST_EVEN_MM = 60.0
"""Of sizes that are drawn evenly: larger ones are common enough among the hospital's."""
_TRIES = 6000


@dataclass(frozen=True)
class Tissues:
    """HU of what fills heart, vessels and mediastinum; contrast is in the blood or not."""

    contrast: bool
    muscle_hu: float
    fat_hu: float
    blood_hu: float
    aorta_hu: float
    vein_hu: float
    stranding_hu: float
    offset: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Phantom:
    """A chest and its tumor as continuous shapes; `render` shows it on any grid."""

    seed: int
    anatomy: Anatomy
    tissues: Tissues
    wall: Wall
    skeleton: Skeleton
    abdomen: Abdomen
    lungs: Lungs
    findings: Findings
    tumor: Tumor
    acquisition: Acquisition

    def tumor_mask(self, grid: Grid) -> NDArray[np.bool_]:
        """The tumor at the voxel centers of `grid`: bool (slices, rows, columns)."""
        return tumor_mask(self.anatomy, self.tumor, grid)

    def tumor_extent(self) -> tuple[NDArray[np.float64], float]:
        """Center (LPS mm) and size S (mm) of the tumor as in the paper's section 2.1.

        Both in the axial slice where the tumor's area is largest: its middle, moved into the tumor if
        it lies outside, and its longest diameter. Measured on a fine mask of the tumor alone.
        """
        center, size = self._extent
        return center.copy(), size

    @cached_property
    def _extent(self) -> tuple[NDArray[np.float64], float]:
        return measure_extent(self.anatomy, self.tumor, 44)


@torch.no_grad()
def tumor_mask(chest: Chest, tumor: Tumor, grid: Grid) -> NDArray[np.bool_]:
    space = Space.of_grid(grid)
    mask = np.zeros(grid.shape, dtype=bool)
    found = space.sub(*tumor.bounds())
    if found:
        index, sub = found
        mask[index] = (tumor.outlined.distance(sub, chest.fields(sub)) < 0).numpy()
    return mask


def measure_extent(chest: Chest, tumor: Tumor, steps: int) -> tuple[NDArray[np.float64], float]:
    """Center and size of a tumor from a mask of `steps` voxels along its longest side; size 0 if nothing is there."""
    lower, upper = tumor.bounds()
    step = float((upper - lower).max() / (steps - 1))
    shape = tuple(int(n) for n in np.maximum(np.ceil((upper - lower) / step) + 1, 1)[::-1])
    grid = Grid.axial(shape, (step, step, step), center_mm=(lower + upper) / 2)  # type: ignore[arg-type]
    mask = tumor_mask(chest, tumor, grid)
    areas = mask.sum(axis=(1, 2))
    k = int(areas.argmax())
    if not areas[k]:
        return tumor.center_mm, 0.0
    inside = np.argwhere(mask[k]).astype(np.float64)
    angles = np.linspace(0, np.pi, 48, endpoint=False)
    along = inside @ np.stack([np.cos(angles), np.sin(angles)])
    longest = float((along.max(axis=0) - along.min(axis=0)).max()) + 1.0
    middle = inside.mean(axis=0)
    nearest = inside[((inside - middle) ** 2).sum(axis=1).argmin()]
    if not mask[k][tuple(np.round(middle).astype(int))]:
        middle = nearest
    return grid.to_lps([k, *middle]), longest * step


def sample(
    seed: int,
    *,
    tumor_size_mm: float | None = None,
    site: str | None = None,
    kind: str | None = None,
    cavities: float = CAVITIES,
) -> Phantom:
    """The phantom of a seed.

    tumor_size_mm: size S asked for (reached within about a fifth where the lung has room); by default
    lognormal like the hospital cohort of the paper (mean 46 mm, SD 27 mm), within 7..145 mm.
    site: one of `SITES`, kind: one of `KINDS`; by default drawn as is usual for the size.
    """
    rng = np.random.default_rng(seed)
    size = sample_size(rng) if tumor_size_mm is None else float(tumor_size_mm)
    anatomy = sample_anatomy(rng)
    cloud = scatter(rng, anatomy, _TRIES)
    tissues = _sample_tissues(rng)
    vessels, airways = _sample_trees(rng, anatomy, cloud)
    wall = sample_wall(rng, anatomy)
    place = site or choose_site(rng, size)
    tumor = _sample_tumor(rng, anatomy, cloud, vessels, place, size, wall.muscle_hu, kind, cavities)
    lower, upper = tumor.bounds()
    base = min(anatomy.diaphragm.top_mm) - max(anatomy.diaphragm.drop_mm)
    return Phantom(
        seed=seed,
        anatomy=anatomy,
        tissues=tissues,
        wall=wall,
        skeleton=sample_skeleton(rng, anatomy),
        abdomen=sample_abdomen(rng, anatomy.diaphragm.top_mm[1], tissues.contrast, anatomy.cage.half_width_mm),
        lungs=sample_lungs(rng, vessels, airways, tissues.blood_hu),
        findings=sample_findings(rng, anatomy, cloud, tumor, wall.muscle_hu, tissues.contrast),
        tumor=tumor,
        acquisition=sample_acquisition(
            rng, anatomy.apex_mm, base, wall.torso.half_width_mm, (lower[2], upper[2]), size
        ),
    )


def sample_size(rng: np.random.Generator) -> float:
    """A size S in mm, lognormal like the hospital cohort of the paper."""
    while True:
        size = float(rng.lognormal(3.68, 0.56))
        if SMALLEST_MM <= size <= LARGEST_MM:
            return size


def draw_evenly(seed: int) -> tuple[float, str, str]:
    """A size S in mm, a site and a kind, each as often as any other: the hospital's seldom are small, at the hilum, or
    of ground glass."""
    rng = np.random.default_rng([seed, 7])
    size = float(np.exp(rng.uniform(np.log(SMALLEST_MM), np.log(LARGEST_EVEN_MM))))
    return size, str(rng.choice(SITES)), str(rng.choice(KINDS))


def _sample_tissues(rng: np.random.Generator) -> Tissues:
    contrast = bool(rng.random() < 0.55)
    blood = rng.uniform(110, 330) if contrast else rng.uniform(30, 58)
    return Tissues(
        contrast=contrast,
        muscle_hu=rng.uniform(80, 125) if contrast else blood + rng.normal(2, 4),
        fat_hu=rng.uniform(-115, -85),
        blood_hu=blood,
        aorta_hu=blood + (rng.uniform(-60, 40) if contrast else rng.normal(0, 3)),
        vein_hu=blood + (rng.uniform(-80, 250) if contrast else rng.normal(0, 3)),
        stranding_hu=rng.uniform(0, 80),
        offset=rng.uniform(size=3),
    )


def _sample_trees(rng: np.random.Generator, anatomy: Anatomy, cloud: LungPoints) -> tuple[Tubes, Tubes]:
    """Arteries, veins and bronchi of both lungs."""
    parts, airways = [], []
    tip = rng.uniform(0.42, 0.62)
    for side in (0, 1):
        own = cloud.points_mm[(cloud.points_mm[:, 0] > 0) == bool(side)]
        hilum = anatomy.mediastinum.great.hila_mm[side]
        arteries = grow(_spread(rng, own, 2048), hilum, tip, rng)
        veins = grow(_spread(rng, own, 1024), hilum + [0, 2, -28], tip, rng)
        airways.append(bronchi(arteries, 7, rng))
        parts += [arteries.tubes(), veins.tubes()]
    return Tubes.joined(parts), Tubes.joined(airways)


def _spread(rng: np.random.Generator, points_mm: NDArray, count: int) -> NDArray[np.float64]:
    chosen = points_mm[rng.integers(len(points_mm), size=count)]
    return chosen + rng.normal(0, 5.0, size=chosen.shape)


def _sample_tumor(
    rng: np.random.Generator,
    anatomy: Anatomy,
    cloud: LungPoints,
    vessels: Tubes,
    site: str,
    size_mm: float,
    wall_hu: float,
    kind: str | None,
    cavities: float,
) -> Tumor:
    center, outward = choose_center(rng, anatomy, cloud, _feeding(vessels, size_mm), site, size_mm)
    tumor = sample_tumor(rng, center, site, size_mm, wall_hu, outward, kind=kind, cavities=cavities)
    return fit_to_size(anatomy, tumor, size_mm)


def fit_to_size(chest: Chest, tumor: Tumor, size_mm: float) -> Tumor:
    """Walls cut tumors down: grow one back to the size that was drawn."""
    for _ in range(2):
        measured = measure_extent(chest, tumor, 20)[1]
        factor = float(np.clip(size_mm / max(measured, 0.4 * size_mm), 0.7, 1.5))
        if abs(factor - 1) < 0.08:
            break
        tumor = tumor.scaled(factor)
    return tumor


def _feeding(vessels: Tubes, size_mm: float) -> NDArray[np.float64]:
    """(n, 3) ends of vessels that a tumor of this size may sit on: the thickest that are clearly thinner than it."""
    radius = vessels.end_radius_mm
    thin = radius <= max(0.15 * size_mm, float(np.quantile(radius, 0.25)))
    return vessels.end_mm[thin & (radius >= np.quantile(radius[thin], 7 / 8))]

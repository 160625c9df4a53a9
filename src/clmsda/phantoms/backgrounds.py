"""Real chest CTs for synthetic tumors to be set into: where their lungs are, how noisy they are.

A folder of them holds three files each: NAME.json (where it comes from, grids, noise), NAME.ct.npy (HU, read from
disk where it is looked at) and NAME.lung.npy (distance from the lungs' surface).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from clmsda.errors import InputError
from clmsda.files import make_folder, map_array, replacing
from clmsda.geometry import Grid, GridError, Volume, resample
from clmsda.phantoms.anatomy import Fields
from clmsda.phantoms.shapes import FAR_MM
from clmsda.phantoms.space import Space

_STEP_MM = 2.0  # of the map of distances
_AIR_HU, _AIRWAY_HU = -400.0, -960.0
_MEASURED = ("noise_hu", "grain_mm", "tissue_hu")
_SMALLEST_LUNG_ML = 100.0
_NOISE_MM = 3.0
_GRAIN_MM = (0.2, 1.0)
_CLOSING_MM = 6.0  # vessels up to twice as thick lie within the lungs


class BackgroundError(InputError):
    """A CT without lungs to set a tumor into, or a folder that holds no backgrounds."""


@dataclass(frozen=True, eq=False)
class Background:
    """A real chest CT, or some of its slices.

    ct: HU. lung: mm from the lungs' surface, negative inside, on a coarser grid. sites: (n, 3) voxels of that
    inside the lungs' tissue, large airways left out. noise_hu, grain_mm: SD of its noise on its own pixels, and of
    the blur that makes its grain. tissue_hu: of its muscles, vessels and organs.
    """

    name: str
    ct: Volume
    lung: Volume
    sites: NDArray[np.int64]
    noise_hu: float
    grain_mm: float
    tissue_hu: float

    @classmethod
    def measured(cls, ct: Volume, name: str) -> Background:
        """ct: an axial chest CT without tumors. Raises BackgroundError where no lung is found."""
        lung, coarse = _lung_distance(ct)
        tissue = coarse.voxels[(coarse.voxels > 0) & (coarse.voxels < 130) & (lung.voxels < 30)]
        if not len(tissue):
            raise BackgroundError(f"{name}: found no soft tissue beside the lungs; is it a CT in Hounsfield units?")
        tissue_hu = float(np.median(tissue))
        return cls(name, ct, lung, _sites(lung, coarse.voxels), *_noise(ct, tissue_hu), tissue_hu)

    def fields(self, space: Space) -> Fields:
        """What `Tumor.distance` asks of an anatomy: only the lungs' surface is known of a real chest."""
        index = self.lung.grid.to_index(space.coordinates().numpy())
        lung = ndimage.map_coordinates(self.lung.voxels, index.T, order=1, mode="nearest").reshape(space.shape)
        far = torch.tensor(FAR_MM)
        return Fields(far, far, far, far, torch.from_numpy(lung), torch.tensor(0.0))

    @property
    def points_mm(self) -> NDArray[np.float64]:
        """(n, 3) LPS of the sites."""
        return self.lung.grid.to_lps(self.sites)

    @property
    def depths_mm(self) -> NDArray[np.float64]:
        """(n,) distance of each site from the lungs' surface, negative."""
        return self.lung.voxels[tuple(self.sites.T)].astype(np.float64)

    @property
    def heights_mm(self) -> tuple[float, float]:
        """z of its lowest and its highest slice."""
        ends = self.ct.grid.to_lps([[0, 0, 0], [self.ct.grid.shape[0] - 1, 0, 0]])[:, 2]
        return float(ends.min()), float(ends.max())

    def write(self, folder: Path | str) -> None:
        """Write its three files, the description last. Raises OutputError."""
        folder = make_folder(folder)
        for part, volume in (("ct", self.ct), ("lung", self.lung)):
            with replacing(folder / f"{self.name}.{part}.npy") as temporary:
                np.save(temporary, volume.voxels)
        values = {
            "source": self.ct.source,
            "ct": self.ct.grid.affine.tolist(),
            "lung": self.lung.grid.affine.tolist(),
            **{name: getattr(self, name) for name in _MEASURED},
        }
        with replacing(folder / f"{self.name}.json") as temporary:
            temporary.write_text(json.dumps(values, indent=2), encoding="utf8")


def read_backgrounds(folder: Path | str) -> list[Background]:
    """All backgrounds of a folder, by name. Raises BackgroundError where there are none, or one is damaged."""
    paths = sorted(Path(folder).glob("[!.]*.json"))
    if not paths:
        raise BackgroundError(f"{folder} holds no backgrounds: make some by `clmsda background {folder} CT`")
    return [_read(path) for path in paths]


def _read(path: Path) -> Background:
    try:
        values = json.loads(path.read_text(encoding="utf8"))
        ct, lung = (
            Volume(voxels, Grid(voxels.shape, np.array(values[part])), values["source"])
            for part in ("ct", "lung")
            for voxels in [map_array(path.with_name(f"{path.stem}.{part}.npy"))]
        )
        _check_spacing(ct.grid, 0.05, 25.0)
        _check_spacing(lung.grid, _STEP_MM / 2, 2 * _STEP_MM)
        sites = _sites(lung, resample(ct, lung.grid, fill=None).voxels)
        measured = [float(values[name]) for name in _MEASURED]
        if not np.isfinite(measured).all():  # as JSON may have them
            raise BackgroundError(f"expected {', '.join(_MEASURED)} to be numbers, found {measured}")
        return Background(path.stem, ct, lung, sites, *measured)
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f" ({error})" if isinstance(error, InputError) else ""
        raise BackgroundError(
            f"{path} or its arrays are damaged or incomplete{why}: make this background anew"
        ) from error


def _check_spacing(grid: Grid, lowest_mm: float, highest_mm: float) -> None:
    """Raise GridError: resampling to voxels of meters would average over all there is."""
    spacing = grid.spacing_mm
    if spacing.min() < lowest_mm or spacing.max() > highest_mm:
        raise GridError(f"expected voxels of {lowest_mm:g} to {highest_mm:g} mm, found {spacing.round(3).tolist()}")


def _lung_distance(ct: Volume) -> tuple[Volume, Volume]:
    """mm from the lungs' surface, and the CT, both on one coarse axial grid."""
    corners = ct.grid.to_lps(np.array(list(np.ndindex(2, 2, 2))) * (np.array(ct.grid.shape) - 1))
    extent = corners.max(axis=0) - corners.min(axis=0)
    shape = tuple(int(n) for n in np.ceil(extent[::-1] / _STEP_MM) + 1)
    middle = (corners.max(axis=0) + corners.min(axis=0)) / 2
    grid = Grid.axial(shape, (_STEP_MM,) * 3, center_mm=middle)  # type: ignore[arg-type]
    coarse = resample(ct, grid, fill=None)
    labels, _ = ndimage.label(ndimage.gaussian_filter(coarse.voxels, 0.5) < _AIR_HU)
    sizes = np.bincount(labels.ravel()) * grid.voxel_ml
    kept = sizes >= _SMALLEST_LUNG_ML
    kept[0] = False
    for side in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        kept[np.unique(side)] = False  # the room
    if not kept.any():
        raise BackgroundError(f"{ct.source}: found no lungs (air of at least {_SMALLEST_LUNG_ML:g} ml within a body)")
    outside = ndimage.distance_transform_edt(~kept[labels]) * _STEP_MM
    grown = ndimage.distance_transform_edt(outside <= _CLOSING_MM) * _STEP_MM
    lungs = np.stack([ndimage.binary_fill_holes(plane) for plane in grown > _CLOSING_MM])
    inside, outside = (ndimage.distance_transform_edt(part) * _STEP_MM for part in (lungs, ~lungs))
    distance = np.where(lungs, _STEP_MM / 2 - inside, outside - _STEP_MM / 2)
    return Volume(distance.astype(np.float32), grid, ct.source), coarse


def _sites(lung: Volume, hu: NDArray) -> NDArray[np.int64]:
    """Voxels inside the lungs' tissue, large airways left out; hu: the CT on the grid of `lung`."""
    return np.argwhere((lung.voxels < -1.5) & (ndimage.gaussian_filter(hu, 1.0) > _AIRWAY_HU))


def _noise(ct: Volume, tissue_hu: float) -> tuple[float, float]:
    """SD (HU) within small discs of soft tissue, and SD (mm) of the Gaussian that white noise must be blurred by
    to have this noise's grain. Of the quieter quarter of the discs, as the others hold edges, too.
    """
    slices = ct.voxels[:: max(1, ct.grid.shape[0] // 20)].astype(np.float32)
    width = (0, *(_NOISE_MM / ct.grid.spacing_mm[1:]))
    mean = ndimage.gaussian_filter(slices, width)
    rest = slices - mean
    variance = ndimage.gaussian_filter(rest**2, width)
    product = ndimage.gaussian_filter(rest * np.roll(rest, 1, axis=2), width)
    tissue = np.abs(mean - tissue_hu) < 30
    if not tissue.any():
        return 0.0, _GRAIN_MM[0]
    quarter = float(np.quantile(variance[tissue], 0.25))
    quiet = tissue & (variance <= quarter)
    alike = float(np.clip(product[quiet].mean() / max(variance[quiet].mean(), 1e-6), 1e-6, 1 - 1e-6))
    grain = 0.5 * float(ct.grid.spacing_mm[2]) / np.sqrt(-np.log(alike))
    return float(np.sqrt(quarter)), float(np.clip(grain, *_GRAIN_MM))

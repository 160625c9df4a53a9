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
from clmsda.lungs import NoLungs, coarse, lungs
from clmsda.phantoms.anatomy import Fields
from clmsda.phantoms.shapes import FAR_MM
from clmsda.phantoms.space import Space

_STEP_MM = 2.0  # of the map of distances
_AIRWAY_HU = -960.0
_MEASURED = ("noise_hu", "grain_mm", "tissue_hu")
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
        lung, seen = _lung_distance(ct)
        tissue = seen.voxels[(seen.voxels > 0) & (seen.voxels < 130) & (lung.voxels < 30)]
        if not len(tissue):
            raise BackgroundError(f"{name}: found no soft tissue beside the lungs; is it a CT in Hounsfield units?")
        tissue_hu = float(np.median(tissue))
        return cls(name, ct, lung, _sites(lung, seen.voxels), *_noise(ct, tissue_hu), tissue_hu)

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
    seen = coarse(ct, _STEP_MM)
    try:
        air = lungs(seen)
    except NoLungs as error:
        raise BackgroundError(str(error)) from error
    outside = ndimage.distance_transform_edt(~air) * _STEP_MM
    grown = ndimage.distance_transform_edt(outside <= _CLOSING_MM) * _STEP_MM
    whole = np.stack([ndimage.binary_fill_holes(plane) for plane in grown > _CLOSING_MM])
    inside, outside = (ndimage.distance_transform_edt(part) * _STEP_MM for part in (whole, ~whole))
    distance = np.where(whole, _STEP_MM / 2 - inside, outside - _STEP_MM / 2)
    return Volume(distance.astype(np.float32), seen.grid, ct.source), seen


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

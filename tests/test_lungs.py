"""Lungs are found by their air, and a tumor lies within their surroundings wherever in the lungs it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clmsda import phantoms
from clmsda.geometry import Grid, Volume
from clmsda.lungs import NoLungs, around, coarse, lungs, missing

ROOM_HU, BODY_HU, LUNG_HU = -1000.0, 40.0, -860.0
MIDDLES_MM = ((-65.0, 0.0, 0.0), (65.0, 0.0, 0.0))


def ellipsoid(grid: Grid, center_mm: tuple[float, ...], radii_mm: tuple[float, ...]) -> NDArray[np.bool_]:
    points = grid.to_lps(np.moveaxis(np.indices(grid.shape), 0, -1))
    return np.asarray((((points - center_mm) / radii_mm) ** 2).sum(axis=-1) < 1)


def chest(spacing_mm: tuple[float, float, float] = (4.0, 2.0, 2.0), turned: bool = False) -> Volume:
    """A body of 300 by 220 mm with two lungs of 1.3 l each, in a room."""
    shape = tuple(int(length / step) for length, step in zip((220.0, 260.0, 340.0), spacing_mm, strict=True))
    grid = Grid.axial(shape, spacing_mm, center_mm=(0, 0, 0))  # type: ignore[arg-type]
    if turned:  # as some scanners store it: from head to feet
        affine = grid.affine.copy()
        affine[:3, 3] += affine[:3, 0] * (shape[0] - 1)
        affine[:3, 0] *= -1
        grid = Grid(grid.shape, affine)
    hu = np.full(grid.shape, ROOM_HU)
    hu[ellipsoid(grid, (0, 0, 0), (150, 110, 1000))] = BODY_HU
    for middle in MIDDLES_MM:
        hu[ellipsoid(grid, middle, (50, 75, 85))] = LUNG_HU
    return Volume(hu + np.random.default_rng(0).normal(0, 15, grid.shape), grid, "chest")


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("spacing_mm", [(4.0, 2.0, 2.0), (1.5, 3.0, 3.0)])
def test_the_air_of_both_lungs_is_found_and_no_other(spacing_mm: tuple[float, float, float], turned: bool) -> None:
    seen = coarse(chest(spacing_mm, turned))
    air = lungs(seen)
    expected = sum(ellipsoid(seen.grid, middle, (50, 75, 85)) for middle in MIDDLES_MM)
    assert 2 * (air & (expected > 0)).sum() / (air.sum() + (expected > 0).sum()) > 0.97


@settings(max_examples=20, deadline=None)
@given(
    side=st.sampled_from([0, 1]),
    place=st.tuples(*[st.floats(-1, 1)] * 3),
    radius_mm=st.floats(3, 120),
)
def test_a_tumor_in_a_lung_is_searched_for_even_if_it_fills_it(
    side: int, place: tuple[float, float, float], radius_mm: float
) -> None:
    ct = chest((4.0, 4.0, 4.0))
    direction = np.array(place) / max(1.0, float(np.linalg.norm(place)))
    center = np.array(MIDDLES_MM[side]) + direction * (50, 75, 85)
    lung = ellipsoid(ct.grid, MIDDLES_MM[side], (50, 75, 85))
    tumor = ellipsoid(ct.grid, tuple(center), (radius_mm,) * 3) & lung
    ct.voxels[tumor] = BODY_HU
    seen = coarse(ct)
    region = around(seen, lungs(seen))
    inside = seen.grid.to_index(ct.grid.to_lps(np.argwhere(tumor)))
    assert region[tuple(np.rint(inside).astype(int).T)].all()
    assert region.mean() < 0.75


def test_a_lung_that_the_field_of_view_cuts_off_is_one() -> None:
    ct = chest()
    middle = ct.grid.shape[2] // 2
    part = ct.crop((10, 40, middle), (45, 90, middle + 50))
    assert lungs(coarse(part)).mean() > 0.5


def overlap(ct: Volume) -> float:
    """F1 of the lungs that are found with both of `chest`, as far as it shows them."""
    seen = coarse(ct)
    air = lungs(seen)
    expected = sum(ellipsoid(seen.grid, middle, (50, 75, 85)) for middle in MIDDLES_MM) > 0
    return float(2 * (air & expected).sum() / (air.sum() + expected.sum()))


@pytest.mark.parametrize(("hu", "first", "last"), [(-1024.0, 1, 0), (-3024.0, 0, 1), (-1000.0, 3, 4)])
def test_slices_of_air_or_padding_take_no_lung_away(hu: float, first: int, last: int) -> None:
    ct = chest()
    x, y, _ = np.moveaxis(ct.grid.to_lps(np.moveaxis(np.indices(ct.grid.shape), 0, -1)), -1, 0)
    ct.voxels[np.hypot(x - 65, y) < 5] = ROOM_HU  # an airway that both ends of the scan cut
    ct.voxels[:first] = ct.voxels[len(ct.voxels) - last :] = hu
    assert overlap(ct) > 0.97


@pytest.mark.parametrize(("crop", "hu"), [("bases", -1024.0), ("side", -3024.0), ("inside", -1024.0)])
def test_a_cut_lung_beside_padding_is_one(crop: str, hu: float) -> None:
    ct = chest()
    planes, rows, columns = ct.grid.shape
    low, high = {
        "bases": ((20, 0, 0), ct.grid.shape),
        "side": ((0, 0, 0), (planes, rows, columns // 2 - 30)),
        "inside": ((20, rows // 2 - 14, columns // 2 + 19), (35, rows // 2 + 14, columns // 2 + 45)),
    }[crop]
    part = ct.crop(low, high)
    part.voxels[:2] = hu
    seen = coarse(part)
    expected = sum(ellipsoid(seen.grid, middle, (50, 75, 85)) for middle in MIDDLES_MM) > 0
    expected[: round(2 * 4 / 2)] = False
    air = lungs(seen)
    assert 2 * (air & expected).sum() / (air.sum() + expected.sum()) > 0.93
    assert missing(seen, air)


@pytest.mark.parametrize("channel", ["mouth", "wound"])
def test_a_channel_to_the_room_takes_no_lung_away(channel: str) -> None:
    ct = chest()
    x, y, z = np.moveaxis(ct.grid.to_lps(np.moveaxis(np.indices(ct.grid.shape), 0, -1)), -1, 0)
    if channel == "mouth":  # an airway of 10 mm from a lung to the face, in the top slices
        ct.voxels[(np.hypot(x - 65, y) < 5) & (z > 0)] = ROOM_HU
        ct.voxels[(np.abs(x - 65) < 5) & (y < 0) & (z > 100)] = ROOM_HU
    else:
        ct.voxels[(x > 65) & (np.hypot(y, z) < 5)] = ROOM_HU
    assert overlap(ct) > 0.95


def test_what_lies_about_in_the_room_is_no_lung() -> None:
    ct = chest()
    x, y, _ = np.moveaxis(ct.grid.to_lps(np.moveaxis(np.indices(ct.grid.shape), 0, -1)), -1, 0)
    ct.voxels[(np.abs(x) < 160) & (y > 90) & (ct.voxels < -950)] = -880  # a mattress
    ct.voxels[(np.abs(x) < 160) & (np.abs(y - 125) < 2)] = 0  # on a table
    ct.voxels[(np.abs(x) > 154) & (np.abs(x) < 164) & (y > -40) & (y < 80)] = BODY_HU
    ct.voxels[(np.abs(x) < 154) & (y > -40) & (y < 90) & (ct.voxels < -950)] = -850  # a blanket between arm and chest
    assert overlap(ct) > 0.97


@pytest.mark.parametrize("vessels", [True, False])
def test_severe_emphysema_is_told_from_gas_by_its_vessels(vessels: bool) -> None:
    ct = chest()
    lung = sum(ellipsoid(ct.grid, middle, (50, 75, 85)) for middle in MIDDLES_MM) > 0
    ct.voxels[lung] -= 115
    if not vessels:
        with pytest.raises(NoLungs):
            lungs(coarse(ct))
        return
    _, row, column = np.indices(ct.grid.shape)
    ct.voxels[lung & (row % 7 < 4) & (column % 7 < 4)] += 150
    assert overlap(ct) > 0.97


def test_without_lungs_there_is_nothing_to_search() -> None:
    ct = chest()
    low = ct.voxels < -700
    ct.voxels[low & (np.abs(ct.grid.to_lps(np.moveaxis(np.indices(ct.grid.shape), 0, -1))[..., 0]) < 130)] = BODY_HU
    with pytest.raises(NoLungs, match="expected a CT of the chest"):
        lungs(coarse(ct))


def test_gas_in_the_bowel_is_no_lung() -> None:
    ct = chest()
    ct.voxels[ct.voxels < -700] -= 200
    with pytest.raises(NoLungs):
        lungs(coarse(ct))


@pytest.mark.parametrize("seed", range(3))
def test_the_tumor_of_a_phantom_is_within_the_surroundings(seed: int) -> None:
    phantom = phantoms.sample(seed)
    ct, truth = phantoms.scan(phantom, matrix=64)
    seen = coarse(ct)
    air = lungs(seen)
    assert missing(seen, air) == ""
    region = around(seen, air)
    inside = seen.grid.to_index(truth.grid.to_lps(np.argwhere(truth.voxels)))
    assert region[tuple(np.rint(inside).astype(int).clip(0, np.array(region.shape) - 1).T)].mean() > 0.97


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        ((0, 0, 0), (55, 130, 170), ""),
        ((0, 0, 0), (28, 130, 170), "cut off at the highest slice"),
        ((28, 0, 0), (55, 130, 170), "cut off at the lowest slice"),
        ((26, 0, 0), (29, 130, 170), "of lung were found, they are cut off at the lowest and the highest slice"),
        ((0, 0, 0), (55, 130, 85 + 32), "reach the image's left side"),
        ((0, 65, 0), (55, 130, 170), "reach the image's front side"),
        ((0, 0, 85), (55, 130, 170), ""),
    ],
)
def test_a_scan_that_shows_a_part_of_the_lungs_says_so(
    low: tuple[int, int, int], high: tuple[int, int, int], said: str
) -> None:
    ct = chest()
    seen = coarse(ct.crop(low, high))
    found = missing(seen, lungs(seen))
    assert (said in found) if said else not found

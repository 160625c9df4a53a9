"""Synthetic chests: the same shapes at any zoom and angle, tissues where they belong, a scanner's effects."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import rotation
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from clmsda import phantoms
from clmsda.geometry import Grid, Volume, resample
from clmsda.patches import NO_AUGMENTATION, PatchConfig
from clmsda.phantoms.acquisition import Acquisition
from clmsda.phantoms.findings import Opacity
from clmsda.phantoms.shapes import Ellipsoid, axes_along
from clmsda.phantoms.space import Space
from clmsda.phantoms.stars import Star
from clmsda.phantoms.textures import texture
from clmsda.phantoms.trees import grow
from clmsda.phantoms.tubes import Tubes, tube_coverage, tube_distance
from clmsda.training.config import ViewConfig
from clmsda.training.samples import PhantomSamples

SEEDS = (0, 1, 2, 3, 4, 5)
QUIET = Acquisition(
    pixel_mm=0.7, slice_mm=1.0, blur_mm=0.0, sharpen=0.0, noise_hu=0.0, motion_mm=0.0, streak_hu=0.0,
    shoulder_mm=999.0, low_mm=-999.0, high_mm=999.0, view_mm=999.0,
)  # fmt: skip


@pytest.fixture(scope="module", params=SEEDS)
def phantom(request: pytest.FixtureRequest) -> phantoms.Phantom:
    return phantoms.sample(request.param)


def around_tumor(phantom: phantoms.Phantom, count: int, fill: float = 2.0) -> Grid:
    """A cube of `count` voxels that is `fill` times as wide as the tumor."""
    center, size = phantom.tumor_extent()
    step = fill * size / count
    return Grid.axial((count, count, count), (step, step, step), center_mm=center)


def turned(grid: Grid, *degrees: float) -> Grid:
    affine = grid.affine.copy()
    affine[:3, :3] = rotation(*degrees) @ affine[:3, :3]
    affine[:3, 3] += grid.center_mm - Grid(grid.shape, affine).center_mm
    return Grid(grid.shape, affine)


def test_a_seed_gives_the_same_phantom_and_another_seed_another() -> None:
    grid = around_tumor(phantoms.sample(3), 24)
    first, second, other = (phantoms.render(phantoms.sample(seed), grid)[0] for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_acquisition_repeats_with_its_seed(phantom: phantoms.Phantom) -> None:
    grid = around_tumor(phantom, 24)
    hu, _ = phantoms.render(phantom, grid)
    first, second, other = (phantoms.acquire(hu, grid, phantom.acquisition, seed) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.min() >= -1024 and first.max() <= 3071


def test_masks_at_two_zooms_have_the_same_volume(phantom: phantoms.Phantom) -> None:
    coarse, fine = around_tumor(phantom, 32, 3.5), around_tumor(phantom, 64, 3.5)
    volumes = [phantoms.render(phantom, grid)[1].sum().item() * grid.voxel_ml for grid in (coarse, fine)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.05)


@pytest.mark.parametrize("degrees", [(0, 0, 25), (20, -15, 40)])
def test_a_turned_grid_shows_the_same_chest(phantom: phantoms.Phantom, degrees: tuple[float, float, float]) -> None:
    """Rendering on a turned grid equals rendering upright and then resampling, but for interpolation at edges."""
    upright = around_tumor(phantom, 72)
    target = turned(around_tumor(phantom, 32, 1.0), *degrees)
    hu, mask = phantoms.render(phantom, target)
    source, source_mask = phantoms.render(phantom, upright)
    expected = resample(Volume(source.numpy(), upright), target).voxels
    overlap = resample(Volume(source_mask.numpy().astype(np.uint8), upright), target, order=0).voxels.astype(bool)
    assert np.corrcoef(hu.numpy().ravel(), expected.ravel())[0, 1] > 0.93
    assert 2 * (overlap & mask.numpy()).sum() / (overlap.sum() + mask.sum().item()) > 0.93


def test_a_render_does_not_depend_on_what_else_the_grid_shows(phantom: phantoms.Phantom) -> None:
    whole = around_tumor(phantom, 48)
    lower, upper = (10, 14, 12), (30, 40, 38)
    part, part_mask = phantoms.render(phantom, whole.crop(lower, upper))
    hu, mask = phantoms.render(phantom, whole)
    window = tuple(slice(a, b) for a, b in zip(lower, upper, strict=True))
    assert torch.equal(mask[window], part_mask)
    assert (hu[window] - part).abs().quantile(0.995) < 2.0


def test_extent_agrees_with_the_mask(phantom: phantoms.Phantom) -> None:
    center, size = phantom.tumor_extent()
    grid = around_tumor(phantom, 80, 3.0)
    mask = phantoms.render(phantom, grid)[1].numpy()
    k = int(mask.sum(axis=(1, 2)).argmax())
    points = np.argwhere(mask[k]) * grid.spacing_mm[1]
    longest = max(np.linalg.norm(points - p, axis=1).max() for p in points) + grid.spacing_mm[1]
    assert size == pytest.approx(longest, rel=0.06)
    assert phantom.tumor_mask(Grid.axial((1, 1, 1), (1, 1, 1), center_mm=center)).all()
    largest = mask[k].sum()
    nearest = mask[round(float(grid.to_index(center)[0]))].sum()
    assert nearest >= 0.95 * largest


def test_tumor_mask_is_the_mask_of_a_render(phantom: phantoms.Phantom) -> None:
    grid = around_tumor(phantom, 24)
    assert np.array_equal(phantom.tumor_mask(grid), phantoms.render(phantom, grid)[1].numpy())


def test_sizes_asked_for_are_reached() -> None:
    for wanted in (10.0, 25.0, 60.0):
        sizes = [phantoms.sample(seed, tumor_size_mm=wanted).tumor_extent()[1] for seed in range(8)]
        assert np.median(sizes) == pytest.approx(wanted, rel=0.1)


def test_sizes_follow_the_cohort_of_the_paper() -> None:
    sizes = np.array([phantoms.sample(seed).tumor_extent()[1] for seed in range(60)])
    assert 36 < sizes.mean() < 56 and 15 < sizes.std() < 40
    assert sizes.min() > 5 and sizes.max() < 160


def test_a_sphere_has_its_volume() -> None:
    star = Star(
        center_mm=np.zeros(3), radius_mm=10.0, stretch=np.ones(3), axes=np.eye(3), directions=np.zeros((0, 3)),
        heights=np.zeros(0), sharpness=np.zeros(0), rough=0.0, grain=1.0, offset=np.zeros(3),
    )  # fmt: skip
    grid = Grid.axial((60, 60, 60), (0.4, 0.4, 0.4), center_mm=(0, 0, 0))
    inside = star.distance(Space.of_grid(grid)) < 0
    assert inside.sum().item() * grid.voxel_ml == pytest.approx(4 / 3 * np.pi, rel=0.01)


@pytest.mark.parametrize("step", [0.5, 1.0, 3.0])
def test_a_tube_covers_its_cross_section_at_any_zoom(step: float) -> None:
    tube = Tubes.along(np.array([[0.3, -40.0, 0.4], [0.3, 40.0, 0.4]]), np.array([1.0, 1.0]))
    grid = Grid.axial((21, 5, 21), (step, step, step), center_mm=(0, 0, 0))
    coverage = tube_coverage(Space.of_grid(grid), tube)
    assert coverage is not None
    assert coverage[:, 2].sum().item() * step**2 == pytest.approx(np.pi, rel=0.35)


def test_tube_distance_is_exact_near_a_tube() -> None:
    tube = Tubes.along(np.array([[-9.0, 0, 0], [12, 3, -4]]), np.array([2.0, 1.0]))
    grid = turned(Grid.axial((12, 14, 16), (2.0, 1.5, 1.5), center_mm=(1, 0, 0)), 10, 20, 30)
    space = Space.of_grid(grid)
    field = tube_distance(space, tube, 6.0)
    exact = tube_distance(Space.of_points(space.coordinates().numpy().astype(np.float64)), tube, 6.0)
    assert field is not None and exact is not None
    near = exact < 5.99
    assert near.any() and not near.all()
    # a tube cut into pieces tapers a little differently
    assert torch.allclose(field.reshape(-1)[near], exact[near], atol=2e-2)
    assert (field.reshape(-1)[exact > 6.01] > 6).all()


def test_a_tree_reaches_all_its_points_and_thins_out() -> None:
    points = np.random.default_rng(0).uniform(-50, 50, size=(256, 3))
    tree = grow(points, np.array([0.0, 0, 60]), 0.5, np.random.default_rng(1))
    ends = tree.generations[-1].end_mm
    assert all(np.abs(ends - p).sum(axis=1).min() < 1e-9 for p in points)
    radii = [tubes.start_radius_mm.mean() for tubes in tree.generations]
    assert all(a >= b for a, b in pairwise(radii)) and radii[0] > 5 * radii[-1]


def test_texture_is_one_field_on_any_grid() -> None:
    grid = turned(Grid.axial((9, 10, 11), (1.0, 1.0, 1.0), center_mm=(5, 6, 7)), 0, 0, 20)
    oblique = turned(grid, 15, 0, 0)
    for some in (grid, oblique, Grid.axial((5, 6, 7), (1.0, 1.0, 1.0), origin_mm=(30, -9, 2))):
        space = Space.of_grid(some)
        points = Space.of_points(space.coordinates().numpy().astype(np.float64))
        field, read = texture(space, 8.0, np.full(3, 0.3)), texture(points, 8.0, np.full(3, 0.3))
        assert torch.allclose(field.reshape(-1), read, atol=1e-3)


def test_tissues_have_their_hounsfield_units(phantom: phantoms.Phantom) -> None:
    anatomy = phantom.anatomy
    apex, dome = anatomy.apex_mm, anatomy.diaphragm.top_mm[0]
    grid = Grid.axial((60, 96, 120), ((apex - dome + 90) / 60, 3.0, 3.5), center_mm=(0, 0, (apex + dome - 60) / 2))
    hu, mask = (t.numpy() for t in phantoms.render(phantom, grid))
    fields = anatomy.fields(Space.of_grid(grid))
    deep = (fields.lung < -8).numpy() & ~mask
    assert 1.2 < (fields.lung < 0).sum().item() * grid.voxel_ml / 1000 < 9  # liters of lung
    assert -960 < np.median(hu[deep]) < -600
    liver = grid.to_index((-70.0, 0.0, dome - 40))
    assert 20 < hu[tuple(np.round(liver).astype(int))] < 160
    outside = phantom.wall.skin(Space.of_grid(grid)).numpy() > 40
    assert np.median(hu[outside]) == -1000
    assert (hu > 300).mean() > 0.002  # bone
    solid = mask & (hu > -100)
    if phantom.tumor.kind == "solid" and not phantom.tumor.hollow:
        assert solid.sum() > 0.5 * mask.sum()


def test_the_tumor_lies_in_the_lung_but_for_its_invasion(phantom: phantoms.Phantom) -> None:
    grid = around_tumor(phantom, 48, 3.0)
    mask = torch.from_numpy(phantom.tumor_mask(grid))
    beyond = phantom.anatomy.fields(Space.of_grid(grid)).lung[mask]
    assert beyond.max() <= max(phantom.tumor.invasion_mm, 0.0) + 1e-3
    assert (beyond < 0).float().mean() > 0.3


def test_lungs_end_above_and_below(phantom: phantoms.Phantom) -> None:
    """No air-filled lung above the apex nor below the recesses: what is beyond a tumor along z is right."""
    low = min(phantom.anatomy.diaphragm.top_mm) - 1.4 * max(phantom.anatomy.diaphragm.drop_mm) - 25
    for z in (phantom.anatomy.apex_mm + 25, low):
        grid = Grid.axial((3, 48, 60), (1.0, 4.0, 5.0), center_mm=(0, 0, z))
        lung = phantom.anatomy.fields(Space.of_grid(grid)).lung
        assert (lung < 0).float().mean() < 0.01


def flat(value: float, shape: tuple[int, int, int]) -> torch.Tensor:
    return torch.full(shape, value)


def test_a_perfect_scanner_changes_nothing() -> None:
    grid = Grid.axial((6, 20, 20), (1.0, 0.7, 0.7))
    hu = torch.from_numpy(np.random.default_rng(0).normal(0, 50, size=grid.shape).astype(np.float32))
    sharp = phantoms.acquire(hu, Grid.axial(grid.shape, (1.0, 2.0, 2.0)), QUIET, seed=0)
    assert torch.allclose(sharp, hu, atol=1e-3)


def test_blur_and_thick_slices_keep_the_mean() -> None:
    grid = Grid.axial((40, 24, 24), (1.0, 0.7, 0.7))
    thick = phantoms.acquire(flat(33.0, grid.shape), grid, _scanner(slice_mm=5.0, blur_mm=0.8, sharpen=1.0), seed=0)
    assert torch.allclose(thick, flat(33.0, grid.shape), atol=1e-2)


def test_thick_slices_smear_an_edge_over_their_thickness() -> None:
    grid = Grid.axial((60, 4, 4), (0.5, 2.0, 2.0))
    hu = flat(-800.0, grid.shape)
    hu[30:] = 40.0
    line = phantoms.acquire(hu, grid, _scanner(slice_mm=5.0), seed=3)[:, 2, 2].numpy()
    mixed = ((line > -790) & (line < 30)).sum() * 0.5
    assert 4 <= mixed <= 11
    assert line[0] == pytest.approx(-800, abs=1) and line[-1] == pytest.approx(40, abs=1)


@pytest.mark.parametrize("sharpen", [0.0, 1.0])
@pytest.mark.parametrize("slice_mm", [1.0, 5.0])
@pytest.mark.parametrize("step", [0.7, 2.3, 5.0])
def test_noise_is_what_resampling_brings_from_the_scanner(step: float, slice_mm: float, sharpen: float) -> None:
    """A patch rendered at once has the noise of a patch that is cut from a CT."""
    scanner = _scanner(noise_hu=20.0, slice_mm=slice_mm, pixel_mm=0.7, blur_mm=0.6, sharpen=sharpen)
    own = Grid.axial((int(120 / slice_mm), 170, 170), (slice_mm, 0.7, 0.7), center_mm=(0, 0, 0))
    ct = phantoms.acquire(flat(0.0, own.shape), own, scanner, seed=1).numpy()
    assert ct.std() == pytest.approx(20.0, rel=0.02)  # as its docstring says, on the CT's own pixels
    grid = Grid.axial((20, 20, 20), (step, step, step), center_mm=(0, 0, 0))
    cut = resample(Volume(ct, own), grid, fill=None).voxels.std()
    drawn = [float(phantoms.acquire(flat(0.0, grid.shape), grid, scanner, seed).std()) for seed in range(6)]
    assert np.mean(drawn) == pytest.approx(cut, rel=0.2)


def test_noise_below_the_pixel_of_the_scanner_is_smooth() -> None:
    grid = Grid.axial((48, 64, 64), (0.3, 0.3, 0.3))
    noisy = phantoms.acquire(flat(0.0, grid.shape), grid, _scanner(noise_hu=20.0, slice_mm=0.7), seed=1).numpy()
    assert np.corrcoef(noisy[:, :, 1:].ravel(), noisy[:, :, :-1].ravel())[0, 1] > 0.4


def test_beyond_the_scan_its_last_slice_goes_on_as_in_a_patch_that_is_cut() -> None:
    grid = Grid.axial((20, 40, 40), (5.0, 10.0, 10.0), center_mm=(0, 8, 0))
    rising = flat(0.0, grid.shape) + torch.arange(20.0)[:, None, None]
    hu = phantoms.acquire(rising, grid, _scanner(low_mm=-30.0, high_mm=30.0, view_mm=150.0), seed=0)
    assert hu[:, 20, 20].tolist() == [4.0] * 4 + list(range(4, 16)) + [15.0] * 4
    assert (hu[:, 0, 0] == -1024).all()  # outside of the reconstructed circle


def test_tumors_on_vessels_lie_in_either_lung() -> None:
    found = [phantom for phantom in map(phantoms.sample, range(100)) if phantom.tumor.site == "vessel"]
    left = [phantom for phantom in found if phantom.tumor.center_mm[0] > 0]
    assert 0.2 < len(left) / len(found) < 0.8


def _scanner(**changes: float) -> Acquisition:
    return replace(QUIET, **changes)


def test_a_scan_is_a_ct_with_its_mask(phantom: phantoms.Phantom) -> None:
    ct, mask = phantoms.scan(phantom, matrix=96)
    assert ct.voxels.dtype == np.int16 and mask.voxels.dtype == np.uint8
    assert ct.grid == mask.grid and ct.grid.shape[1:] == (96, 96)
    assert ct.grid.spacing_mm[0] == pytest.approx(phantom.acquisition.slice_mm)
    center, size = phantom.tumor_extent()
    assert ct.grid.contains(center)
    volume = mask.voxels.sum() * mask.grid.voxel_ml
    if size > 25:
        exact = phantom.tumor_mask(around_tumor(phantom, 64, 3.0)).sum() * around_tumor(phantom, 64, 3.0).voxel_ml
        assert volume == pytest.approx(exact, rel=0.15)
        middle = ndimage.center_of_mass(mask.voxels)
        assert np.linalg.norm(mask.grid.to_lps(middle) - center) < 0.6 * size
    assert ct.voxels.min() >= -1024 and ct.voxels.max() <= 3071


def test_slices_average_what_lies_within_their_thickness() -> None:
    phantom = phantoms.sample(5)
    center, size = phantom.tumor_extent()
    thick = Grid.axial((2, 40, 40), (6.0, size / 20, size / 20), center_mm=center)
    hu, share = phantoms.render_slices(phantom, thick)
    assert hu.shape == share.shape == thick.shape
    layers = round(6.0 / max(1.25, size / 20))
    thin = Grid.axial((2 * layers, 40, 40), (6.0 / layers, size / 20, size / 20), center_mm=center)
    expected = phantoms.render(phantom, thin)[0].reshape(2, layers, 40, 40).mean(dim=1)
    torch.testing.assert_close(hu, expected)
    assert float(((share > 0) & (share < 1)).float().mean()) > 0  # partial volume at the ends


def test_two_dimensional_samples_show_partial_volume() -> None:
    """A slice of 10 mm through the same phantom is not the slice of 1 mm."""
    views = ViewConfig(augmentation=NO_AUGMENTATION)
    samples = PhantomSamples(PatchConfig((32, 32), 2.0, 46.0), views, seed=40, count=12)
    shares = torch.cat([samples.pair(0, number).variant_mask.flatten() for number in range(12)])
    assert ((shares > 0.05) & (shares < 0.95)).any()


def test_the_mask_leaves_out_spikes_that_the_picture_shows() -> None:
    """A sphere with one thin spike: HU shows it, the mask is the sphere."""
    spiked = phantoms.sample(7, tumor_size_mm=30)
    body = replace(
        spiked.tumor.body, stretch=np.ones(3), axes=np.eye(3), rough=0.0, directions=np.array([[1.0, 0, 0]]),
        heights=np.array([0.6]), sharpness=np.array([80.0]), most=1.7,
    )  # fmt: skip
    tumor = replace(spiked.tumor, body=body, lobes=())
    tip = Space.of_points(body.center_mm + [[1.3 * body.radius_mm, 0, 0]])
    assert body.distance(tip) < 0 < tumor.outlined.body.distance(tip)
    assert np.array_equal(tumor.outlined.body.directions, np.zeros((0, 3)))


def test_no_slice_is_thicker_than_half_of_a_tumor() -> None:
    for size in (8.0, 12.0):
        thick = [phantoms.sample(seed, tumor_size_mm=size).acquisition.slice_mm for seed in range(12)]
        assert max(thick) <= max(2.5, size / 2)


def test_a_halo_is_fainter_than_ground_glass_which_the_mask_holds() -> None:
    tumors = [phantoms.sample(seed).tumor for seed in range(40)]
    halos = [tumor.halo_hu for tumor in tumors if tumor.halo_mm]
    assert halos and max(halos) < 120  # HU above a lung of about -850
    assert min(tumor.rim_hu for tumor in tumors) > -850 + 120


def test_the_share_of_cavities_is_asked_for() -> None:
    def hollow(**share: float) -> list[str]:
        return [phantoms.sample(seed, tumor_size_mm=26, **share).tumor.hollow for seed in range(20)]

    assert "cavity" not in hollow(cavities=0.0)
    assert 0 < hollow().count("cavity") < 10 < hollow(cavities=1.0).count("cavity")
    assert hollow() == hollow(cavities=phantoms.CAVITIES)


def test_a_tumor_can_be_told_from_what_clouds_the_lung_beside_it() -> None:
    """Collapsed lung differs from its tumor by 8 HU or more, and ground glass has no cloud within 10 mm."""
    collapsed = 0
    for seed in range(120):
        phantom = phantoms.sample(seed, tumor_size_mm=45)
        tumor = phantom.tumor
        for opacity in phantom.findings.opacities:
            apart = np.linalg.norm(opacity.shape.center_mm - tumor.center_mm) - tumor.body.radius_mm
            assert tumor.kind == "solid" or apart > opacity.shape.radii_mm.max() + 10
            if opacity.hu > 0:  # collapsed, not clouded
                collapsed += 1
                assert abs(opacity.hu - tumor.hu) >= 8
    assert collapsed > 3


def test_collapsed_lung_shows_its_vessels() -> None:
    """A clouded sphere in the lung: where a vessel as wide as two voxels runs through it, the vessel is seen."""
    phantom = phantoms.sample(3)
    vessels = phantom.lungs.vessels
    wide = np.flatnonzero((vessels.end_radius_mm > 2) & (vessels.end_radius_mm < 3))
    ends = Space.of_points(vessels.end_mm[wide])
    middle = vessels.end_mm[wide[int(phantom.anatomy.fields(ends).lung.argmin())]]
    cloud = Opacity(Ellipsoid.upright(middle, [20.0] * 3), 70.0, 1.0, 0.0, 0.0, np.zeros(3))
    phantom = replace(phantom, findings=replace(phantom.findings, opacities=(cloud,)))
    phantom = replace(phantom, lungs=replace(phantom.lungs, vessel_hu=250.0, bronchi=Tubes.none()))
    hu, _ = phantoms.render(phantom, Grid.axial((11, 11, 11), (1.0, 1.0, 1.0), center_mm=middle))
    assert hu.max() == pytest.approx(250, abs=5)
    assert hu.median() == pytest.approx(70, abs=12)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3).filter(lambda v: np.linalg.norm(v) > 0.1))
def test_axes_along_a_direction_are_a_rotation(direction: list[float]) -> None:
    first = np.array(direction) / np.linalg.norm(direction)
    axes = axes_along(first)
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) == pytest.approx(1)
    np.testing.assert_allclose(axes[:, 0], first)

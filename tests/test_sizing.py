"""Self-sizing: which assumed size is chosen, how it settles, and what one view sees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from half_tissue import Blind, HalfTissue, distance, lung, model
from numpy.typing import NDArray

from clmsda.geometry import Grid, Volume, fill_outside
from clmsda.patches import AXIAL, view_grid
from clmsda.segmentation.sizing import CANDIDATES_MM, choose, find_size, settle
from clmsda.segmentation.views import View, agreement, at_ends, look, sight, touches_border


@pytest.mark.parametrize("size_mm", [8.0, 25.0, 80.0])
def test_the_size_settles_at_the_true_one(size_mm: float) -> None:
    ball = ((0.0, 0.0, 0.0), size_mm)
    voxel = 1.0 if size_mm < 20 else 2.0
    sized = find_size(lung(ball, spacing_mm=[voxel] * 3, shape=(72, 72, 72)), model(), np.zeros(3), AXIAL)
    assert sized is not None and sized.settled
    assert sized.size_mm == pytest.approx(size_mm, rel=0.1, abs=1)
    np.testing.assert_allclose(sized.center_mm, 0, atol=max(1.5, 0.05 * size_mm))


def test_a_bad_start_takes_more_than_one_round() -> None:
    """From a corner of the tumor in a view that it fills, whose measurement is that of the view."""
    volume, click = lung(((0.0, 0.0, 0.0), 46.0)), np.array([6.0, -5.0, 4.0])
    start = sight(look(volume, model(), click, click, [14.0], AXIAL)[0], click)
    assert start is not None and start.cut_off and start.measurement.size_mm < 42
    sized = settle(volume, model(), click, start, AXIAL)
    assert sized.settled and sized.size_mm == pytest.approx(46, rel=0.08)
    np.testing.assert_allclose(sized.center_mm, 0, atol=1.5)


class SeesOnce(HalfTissue):
    """Sees in the first batch only."""

    blind = False

    def logits(self, patches: NDArray) -> NDArray[np.float32]:
        if self.blind:
            return Blind().logits(patches)
        self.blind = True
        return super().logits(patches)


def test_a_look_that_shows_nothing_does_not_lose_the_tumor() -> None:
    volume, click, network = lung(((0.0, 0.0, 0.0), 30.0)), np.array([4.0, -5.0, 3.0]), model(network=SeesOnce())
    start = sight(look(volume, network, click, click, [50.0], AXIAL)[0], click)
    assert start is not None
    sized = settle(volume, network, click, start, AXIAL)
    assert not sized.settled and sized.size_mm == 50.0
    np.testing.assert_allclose(sized.center_mm, click)


def view(assumed_mm: float, size_mm: float, offset_mm: float = 0.0, middle_mm: float = 0.0) -> View:
    """What a network would answer that assumed one size and saw a ball of another."""
    config = model().config.patches
    grid = view_grid(config, (middle_mm, 0, 0), config.ratio(assumed_mm))
    inside = distance(grid, ((offset_mm, 0.0, 0.0), size_mm)) <= 0
    return View(assumed_mm, grid, inside.astype(np.float32))


def chosen(*views: View) -> float | None:
    best = choose([sight(one, np.zeros(3)) for one in views])
    return None if best is None else best.view.assumed_mm


@pytest.mark.parametrize("size_mm", [10.0, 24.0, 60.0, 110.0])
def test_the_assumed_size_nearest_to_the_true_one_is_chosen(size_mm: float) -> None:
    best = chosen(*(view(assumed, size_mm) for assumed in CANDIDATES_MM))
    assert best is not None and abs(np.log2(best / size_mm)) <= 0.26  # candidates are half an octave apart


def test_the_self_consistent_size_is_chosen() -> None:
    """The network leaks at large assumed sizes and sees a vessel at small ones; at 20 and 28 it agrees with itself."""
    best = chosen(view(10, 5, 3), view(14, 7), view(20, 22), view(28, 23), view(40, 75), view(57, 90))
    assert best in (20, 28)
    assert chosen(view(20, 0.1, 50), view(28, 23), view(40, 0.1, 50)) == 28  # views without a tumor do not count
    assert chosen(view(20, 0.1, 50)) is None


def test_a_lone_view_that_measures_what_it_assumed_loses_to_neighbors_that_agree() -> None:
    assert chosen(view(10, 10, 4), view(14, 30), view(20, 30), view(28, 30), view(40, 30)) == 28


def crop(side_mm: float) -> Grid:
    return Grid.axial((round(side_mm),) * 3, (1.0, 1.0, 1.0), center_mm=(0.0, 0.0, 0.0))


@pytest.mark.parametrize(("before", "share"), [(5, 0.0), (0, 100 / 488)], ids=["within", "at one end"])
def test_how_much_of_a_surface_is_the_end_of_the_scan(before: int, share: float) -> None:
    """A cube of 10 voxels, whose surface has 10**3 - 8**3 of them, in a scan of 20."""
    voxels = np.zeros((20, 20, 20), bool)
    voxels[5:15, before : before + 10, 5:15] = True
    scan = crop(20)
    assert at_ends(Volume(voxels, scan), scan) == pytest.approx(share)
    assert at_ends(Volume(np.ones((20, 20, 20), bool), scan), scan) == 1


def test_a_mask_that_ends_only_with_the_scan_is_no_tumor() -> None:
    """A nodule of 6 mm in a crop of 30 mm: looks at large sizes take all of the crop for one, and agree on it."""
    scan = crop(30)

    def seen(assumed_mm: float, size_mm: float) -> View:
        one = view(assumed_mm, size_mm)
        probabilities = one.probabilities.copy()
        fill_outside(probabilities, one.grid, scan, 0.0)
        return replace(one, probabilities=probabilities, scan=scan)

    everything = [seen(size, 90) for size in (28, 40, 57)]
    assert chosen(seen(8, 6), seen(11, 6), *everything) == 8
    assert chosen(*(replace(one, scan=None) for one in (seen(8, 6), seen(11, 6), *everything))) == 40
    assert chosen(seen(20, 32), seen(28, 32), seen(40, 32)) == 28  # larger than the crop, and a tumor


class Swells(HalfTissue):
    """What it sees in the first batch is a tumor, and later all that it is shown."""

    first = True

    def logits(self, patches: NDArray) -> NDArray[np.float32]:
        found = super().logits(patches)
        if not self.first:
            found = np.full_like(found, 5.0)
        self.first = False
        return found


def test_a_look_that_shows_less_of_a_tumor_is_not_followed() -> None:
    volume = lung(((0.0, 0.0, 0.0), 12.0), spacing_mm=[1.0] * 3, shape=(30, 30, 30))
    click, network = np.zeros(3), model(network=Swells())
    start = sight(look(volume, network, click, click, [14.0], AXIAL)[0], click)
    assert start is not None
    sized = settle(volume, network, click, start, AXIAL)
    assert not sized.settled and sized.size_mm == 14.0


def test_agreement_is_f1_within_what_both_views_see() -> None:
    def between(a: View, b: View) -> float:
        one, other = sight(a, np.zeros(3)), sight(b, np.zeros(3))
        assert one is not None and other is not None
        assert agreement(one, other) == pytest.approx(agreement(other, one))
        return agreement(one, other)

    assert between(view(46, 40), view(46, 40)) == 1
    assert between(view(30, 30), view(46, 30)) > 0.9
    assert between(view(46, 40), view(46, 40 * 0.5 ** (1 / 3))) == pytest.approx(2 / 3, abs=0.05)  # half the volume
    assert between(view(46, 60), view(46, 60, middle_mm=40)) > 0.99  # the other view's field cuts the ball
    assert between(view(10, 60), view(60, 60)) == 1  # all that the small view sees is tumor in both


@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 6, 7)])
def test_a_border_is_touched_on_every_axis_but_that_of_a_plane(shape: tuple[int, int, int]) -> None:
    middle = [n // 2 for n in shape]
    mask = np.zeros(shape, bool)
    mask[tuple(middle)] = True
    assert not touches_border(mask)
    for axis in (axis for axis in range(3) if shape[axis] > 1):
        for end in (0, -1):
            index = list(middle)
            index[axis] = end
            mask = np.zeros(shape, bool)
            mask[tuple(index)] = True
            assert touches_border(mask)


def test_there_is_no_tumor_beyond_the_scan() -> None:
    volume = lung(((0.0, 0.0, 54.0), 30.0))
    for network, directions in ((model(), AXIAL), (model((32, 32)), AXIAL)):
        (seen,) = look(volume, network, np.array([0, 0, 50.0]), np.array([45.0, 0, 50.0]), [60.0], directions)
        points = seen.grid.to_lps(np.moveaxis(np.indices(seen.grid.shape), 0, -1))
        outside = ~volume.grid.contains(points)
        assert outside.any() and not seen.probabilities[outside].any()
        assert seen.probabilities.max() > 0.9

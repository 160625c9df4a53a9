"""Corrections: points inside and outside, and a mask to start from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from half_tissue import LUNG_HU, Ball, HalfTissue, distance, lung
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from clmsda.geometry import Grid, Volume
from clmsda.metrics import f1
from clmsda.models import Model, ModelConfig
from clmsda.networks import NetworkConfig
from clmsda.patches import PatchConfig
from clmsda.prompts import Box, Inside, Outside, Point, PromptError, RecistLine, Request, requests
from clmsda.runtimes import Run
from clmsda.segmentation import correct, segment
from clmsda.segmentation.corrections import followed, ignored, localized

ONE: Ball = ((0.0, 0.0, 0.0), 20.0)
OTHER: Ball = ((17.0, 0.0, 0.0), 16.0)  # touches the first one
OTHER_AND_LARGER: Ball = ((20.0, 0.0, 0.0), 24.0)
APART: Ball = ((0.0, 24.0, 0.0), 12.0)


def model(network: Run | None = None) -> Model:
    patches = PatchConfig((32, 32, 32), 46 / 16, 46.0, mark_prompt=True, corrections=True, marks="distance")
    config = ModelConfig(NetworkConfig(3, 5, levels=2, block="none"), patches, pairs=True)
    return Model("dense", "0123456789abcdef", config, network or HalfTissue())


def score(mask: np.ndarray, grid: Grid, *balls: Ball) -> float:
    return f1(mask, np.min([distance(grid, one) for one in balls], axis=0) <= 0)


def test_the_fine_look_outlines_a_ball() -> None:
    volume = lung(ONE)
    lesion = segment(volume, Point((2.0, 1.0, 0.0)), model()).lesions[0]
    assert score(lesion.mask.voxels, volume.grid, ONE) > 0.95 and lesion.warnings == ()


def test_a_point_outside_takes_away_what_was_too_much() -> None:
    volume = lung(ONE, OTHER)
    before = segment(volume, Point(ONE[0]), model()).lesions[0]
    after = segment(volume, [Point(ONE[0]), Outside(OTHER[0])], model()).lesions[0]
    k, row, column = np.rint(volume.grid.to_index(OTHER[0])).astype(int)
    assert before.mask.voxels[k, row, column] and not after.mask.voxels[k, row, column]
    assert after.measurement and before.measurement and after.measurement.volume_ml < before.measurement.volume_ml
    assert after.to_json()["corrections"] == [{"kind": "Outside", "lps_mm": OTHER[0]}]


def test_a_mask_to_start_from_is_gone_on_with() -> None:
    volume = lung(ONE)
    rough = Volume((distance(volume.grid, ONE) <= -3).astype(np.uint8), volume.grid)
    lesion = segment(volume, [], model(), refine=rough).lesions[0]
    assert score(lesion.mask.voxels, volume.grid, ONE) > 0.95 and lesion.prompt is None
    assert lesion.to_json()["prompt"] is None


def test_what_is_far_from_the_mask_is_not_followed_and_said() -> None:
    volume = lung(ONE)
    mask = Volume(distance(volume.grid, ONE) <= 0, volume.grid)
    request = Request(None, (Inside((0.0, 0.0, 50.0)),), mask)
    assert ignored(mask.voxels, volume.grid, request) == [
        "the point inside at 0.0, 0.0, 50.0 LPS mm was not followed: give another one near it"
    ]


def test_what_no_correction_touches_stays() -> None:
    grid = Grid.axial((5, 20, 40), (1.0, 1.0, 1.0))
    before, after = np.zeros(grid.shape, bool), np.zeros(grid.shape, bool)
    before[2, 5:15, 5:15] = after[2, 5:15, 5:15] = True
    before[2, 8:12, 15:20] = True  # gone in the new mask
    after[2, 5:15, 25:35] = True  # new in the new mask, far from any correction
    after[2, 0:5, 8:12] = True  # new as well
    changed = localized(before, after, grid, Request(None, (Inside(tuple(grid.to_lps((2, 2, 9)))),)))
    assert changed[2, 0:5, 8:12].all() and changed[2, 8:12, 15:20].all() and not changed[2, 5:15, 25:35].any()
    changed = localized(before, after, grid, Request(None, (Outside(tuple(grid.to_lps((2, 10, 18)))),)))
    assert not changed[2, 8:12, 15:20].any() and not changed[2, 0:5, 8:12].any() and changed[2, 5:15, 5:15].all()


def test_what_is_one_to_the_network_is_parted() -> None:
    """A network that sees all that is dense: a point outside in the second ball takes most of that away."""
    volume = lung(ONE, OTHER)
    before = segment(volume, [Point(ONE[0])], model()).lesions[0].mask.voxels
    lesion = segment(volume, [Point(ONE[0]), Outside(OTHER[0])], model()).lesions[0]
    k, row, column = np.rint(volume.grid.to_index(OTHER[0])).astype(int)
    assert before[k, row, column] and not lesion.mask.voxels[k, row, column] and lesion.warnings == ()
    assert score(lesion.mask.voxels, volume.grid, ONE) > score(before, volume.grid, ONE) + 0.05
    assert lesion.mask.voxels[distance(volume.grid, ONE) <= -4].mean() > 0.95


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 6))
def test_every_point_is_followed(seed: int, count: int) -> None:
    """Points that do not contradict each other within 6 mm, in a CT of two densities; what is far from them stays."""
    rng = np.random.default_rng(seed)
    grid = Grid.axial((16, 40, 40), (2.5, 1.5, 1.5))
    mask = distance(grid, ((0.0, 0.0, 0.0), 24.0)) <= 0
    image = Volume(np.where(rng.random(grid.shape) < 0.5, -800, 40).astype(np.int16), grid)
    points = grid.to_lps(rng.integers(np.zeros(3), grid.shape, (count, 3)))
    kinds = rng.random(count) < 0.5
    said = [(Inside if kind else Outside)(tuple(map(float, p))) for p, kind in zip(points, kinds, strict=True)]
    apart = np.linalg.norm(points[:, None] - points, axis=-1)
    assume((apart[kinds][:, ~kinds] > 6).all() and (np.linalg.norm(points[~kinds], axis=1) > 6).all())
    request = Request(Point((0.0, 0.0, 0.0)), tuple(said))
    after = followed(mask, image, request)
    assert ignored(after, grid, request) == []
    if count == 1:
        far = np.linalg.norm(grid.to_lps(np.argwhere(after != mask)) - points[0], axis=1)
        assert far.max(initial=0) < 8 * (abs(np.linalg.norm(points[0]) - 12) + 2)


def test_corrections_belong_to_the_prompt_before_them() -> None:
    a, b = Point((0, 0, 0)), Point((30, 0, 0))
    inside, outside = Inside((1, 0, 0)), Outside((5, 0, 0))
    assert [(one.prompt, one.corrections) for one in requests([a, inside, b, outside])] == [
        (a, (inside,)),
        (b, (outside,)),
    ]


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ([], "expected at least one prompt"),
        ([Outside((0, 0, 0))], "none was named before it"),
        ([Point((0, 0, 0)), Outside((0.1, 0, 0))], "inside the tumor and outside of it"),
        ([Point((0, 0, 0)), Inside((4, 0, 0)), Outside((4, 0, 0.2))], "inside the tumor and outside of it"),
        (
            [RecistLine((-5, 0, 0), (5, 0, 0)), Inside((0, 40, 0))],
            "lies 40 mm from a RECIST line: is it another lesion",
        ),
        ([Box((-5, -5, 0), (5, 5, 0)), Inside((0, 0, 30))], "lies 30 mm from a box"),
        ([Point((0, 0, 0)), Inside((0, 0, 45))], "lies 35 mm from what the prompt leads to"),
        ([RecistLine((-5, 0, 0), (5, 0, 0)), Outside((5, 0, 0))], "inside the tumor and outside of it"),
        ([Point((0.7, 0.7, 0.7)), Outside((0.1, 0.1, 0.1))], "inside the tumor and outside of it"),  # one voxel
        ([Point((0, 0, 0)), Outside((0, 0, 999))], "expected a point outside within the image"),
    ],
)
def test_contradictions_are_refused(prompts: list, words: str) -> None:
    with pytest.raises(PromptError, match=words):
        segment(lung(ONE), prompts, model())


def test_masks_that_cannot_be_started_from_are_refused() -> None:
    volume = lung(ONE)
    mask = (distance(volume.grid, ONE) <= 0).astype(np.uint8)
    elsewhere = Volume(mask[:, :, 1:], Grid(mask[:, :, 1:].shape, volume.grid.affine))
    for refine, prompts, words in (
        (elsewhere, [], "another grid"),
        (Volume(0 * mask, volume.grid), [], "found no voxel"),
        (Volume(mask + (distance(volume.grid, ((30.0, 0.0, 0.0), 8.0)) <= 0) * np.uint8(2), volume.grid), [], "1, 2"),
        (Volume(mask, volume.grid), [Point((0, 0, 48))], "from the mask to start from"),
        (Volume(mask, volume.grid), [Point((0, 0, 0)), Point((3, 0, 0))], "of one lesion"),
    ):
        with pytest.raises(PromptError, match=words):
            segment(volume, prompts, model(), refine=refine)


def test_a_model_that_cannot_start_from_a_mask_says_so() -> None:
    from half_tissue import model as plain

    volume = lung(ONE)
    mask = Volume((distance(volume.grid, ONE) <= 0).astype(np.uint8), volume.grid)
    with pytest.raises(PromptError, match="cannot start from a mask"):
        segment(volume, [Point(ONE[0])], plain(), refine=mask)
    with pytest.raises(ValueError, match="corrections need mark_prompt"):
        replace(PatchConfig(), corrections=True)


def test_what_any_model_outlines_is_corrected() -> None:
    from half_tissue import model as plain

    volume = lung(ONE, OTHER)
    lesion = segment(volume, [Point(ONE[0]), Outside(OTHER[0])], plain()).lesions[0]
    k, row, column = np.rint(volume.grid.to_index(OTHER[0])).astype(int)
    assert not lesion.mask.voxels[k, row, column] and score(lesion.mask.voxels, volume.grid, ONE) > 0.8


def test_a_mask_is_corrected_without_a_model() -> None:
    """Two balls that touch: what is clicked outside goes, what is clicked inside comes, nothing else moves."""
    volume = lung(ONE, OTHER)
    both = Volume(np.min([distance(volume.grid, one) for one in (ONE, OTHER)], axis=0) <= 0, volume.grid)
    less = correct(volume, both, [Point(ONE[0]), Outside((24.0, 0.0, 0.0))])
    assert score(less.mask.voxels, volume.grid, ONE) > score(both.voxels, volume.grid, ONE)
    assert not (less.mask.voxels & ~both.voxels).any() and less.warnings == () and np.isnan(less.confidence)
    more = correct(volume, less.mask, [Point(ONE[0]), Inside((17.0, 8.0, 0.0))])
    gained = more.mask.voxels & ~less.mask.voxels
    assert gained.any() and (volume.voxels[gained] > LUNG_HU).all()
    assert more.measurement and less.measurement and more.measurement.volume_ml > less.measurement.volume_ml


def test_what_a_point_outside_cuts_off_goes_with_it() -> None:
    """A dumbbell: a point outside in its thin middle leaves the half that was clicked."""
    one, other, middle = ((-15.0, 0.0, 0.0), 16.0), ((15.0, 0.0, 0.0), 16.0), (0.0, 0.0, 0.0)
    volume = lung(one, other)
    bar = np.abs(volume.grid.to_lps(np.moveaxis(np.indices(volume.grid.shape), 0, -1))) <= (14.0, 2.5, 2.5)
    mask = (np.min([distance(volume.grid, ball) for ball in (one, other)], axis=0) <= 0) | bar.all(axis=-1)
    left = correct(volume, Volume(mask, volume.grid), [Point(one[0]), Outside(middle)]).mask.voxels
    assert left[distance(volume.grid, one) <= -1].all() and not left[distance(volume.grid, other) <= 0].any()


def test_a_point_in_the_next_of_thick_slices_adds_little() -> None:
    """A nodule of 7 mm in slices of 2.5 mm: the next slice is half a slice from its border, not a whole one."""
    volume = lung(((0.0, 0.0, 1.25), 7.0), spacing_mm=[2.5, 0.75, 0.75], shape=(24, 60, 60))
    mask = Volume(distance(volume.grid, ((0.0, 0.0, 1.25), 7.0)) <= 0, volume.grid)
    first = int(np.flatnonzero(mask.voxels.any(axis=(1, 2)))[0])
    x, y, z = (float(value) for value in volume.grid.to_lps((first - 1, 30, 30)))
    more = correct(volume, mask, [Point((0.0, 0.0, 1.25)), Inside((x, y, z))])
    gained = more.mask.voxels & ~mask.voxels
    assert gained[first - 1, 30, 30] and gained.sum() < 0.8 * mask.voxels.sum() and more.warnings == ()


def test_a_point_outside_alone_takes_the_leak_from_a_mask() -> None:
    """Of a mask whose larger half is a leak, the half that nobody pointed at stays."""
    volume = lung(ONE, OTHER_AND_LARGER)
    both = Volume(np.min([distance(volume.grid, one) for one in (ONE, OTHER_AND_LARGER)], axis=0) <= 0, volume.grid)
    left = segment(volume, [Outside(OTHER_AND_LARGER[0])], model(), refine=both).lesions[0]
    k, row, column = np.rint(volume.grid.to_index(OTHER_AND_LARGER[0])).astype(int)
    assert not left.mask.voxels[k, row, column] and left.warnings == ()
    assert score(left.mask.voxels, volume.grid, ONE) > score(both.voxels, volume.grid, ONE) + 0.15


def test_what_is_taken_away_leaves_no_shell() -> None:
    """Of a ball whose rim is half as dense as it nothing stays, and the long axis is the lesion's."""
    volume = lung(ONE, OTHER)
    depth = -np.min([distance(volume.grid, one) for one in (ONE, OTHER)], axis=0)
    soft = Volume(np.clip(-800 + 560 * (depth + 0.75), -800, 40).astype(np.int16), volume.grid)
    both = Volume(depth >= 0, volume.grid)
    left = correct(soft, both, [Point(ONE[0]), Outside(OTHER[0])])
    assert left.measurement and left.measurement.long_axis_mm < 1.2 * ONE[1]
    shell = (distance(volume.grid, OTHER) > -1.6) & (distance(volume.grid, OTHER) <= 0) & (depth >= 0)
    away = shell & (distance(volume.grid, ONE) > 4)
    assert away.any() and left.mask.voxels[away].mean() < 0.05


def test_only_what_looks_of_several_sizes_say_has_a_confidence() -> None:
    """Neither one look at a mask that was given, nor what was corrected: nobody measured it."""
    volume = lung(ONE, OTHER)
    rough = Volume((distance(volume.grid, ONE) <= -3).astype(np.uint8), volume.grid)
    assert np.isnan(segment(volume, [], model(), refine=rough).lesions[0].confidence)
    first, changed = segment(volume, Point(ONE[0]), model()).lesions[0], [Point(ONE[0]), Outside(OTHER[0])]
    assert first.confidence > 0.5 and np.isnan(segment(volume, changed, model()).lesions[0].confidence)
    said = [Point(ONE[0]), Inside((2.0, 0.0, 0.0))]  # it lies there already
    assert segment(volume, said, model()).lesions[0].confidence == first.confidence


def test_a_mask_that_was_started_from_is_named() -> None:
    volume = lung(ONE)
    rough = Volume((distance(volume.grid, ONE) <= -3).astype(np.uint8), volume.grid, "reader.nii.gz")
    found = segment(volume, [], model(), refine=rough).lesions[0].to_json()
    assert (
        found["start"] == "reader.nii.gz"
        and "start" not in segment(volume, Point(ONE[0]), model()).lesions[0].to_json()
    )


def test_a_part_of_its_own_is_said_to_be_one() -> None:
    volume = lung(ONE, APART)
    lesion = segment(volume, [Point(ONE[0]), Inside(APART[0])], model()).lesions[0]
    assert "the point inside at 0.0, 24.0, 0.0 LPS mm made a part of its own: is it another lesion?" in lesion.warnings


def test_a_prompts_point_beside_the_mask_is_said() -> None:
    volume = lung(ONE)
    mask = Volume((distance(volume.grid, ONE) <= 0).astype(np.uint8), volume.grid)
    lesion = correct(volume, mask, [Point((18.0, 0.0, 0.0)), Outside((0.0, 0.0, 8.0))])
    assert any("18.0, 0.0, 0.0 LPS mm was not followed" in warning for warning in lesion.warnings)


def test_a_mask_on_a_grid_that_was_rounded_is_on_the_same_grid() -> None:
    volume = lung(ONE)
    affine = volume.grid.affine.copy()
    affine[:3] += 1e-6
    mask = Volume((distance(volume.grid, ONE) <= -3).astype(np.uint8), Grid(volume.grid.shape, affine))
    assert segment(volume, [], model(), refine=mask).lesions[0].measurement
    assert correct(volume, mask, [Inside((0.0, 0.0, 0.0))]).measurement


def test_a_lesion_that_the_side_of_the_scan_cuts_is_announced() -> None:
    volume = lung(ONE)
    cut = volume.crop((0, 0, 0), (*volume.grid.shape[:2], volume.grid.shape[2] // 2 + 2))
    lesion = segment(cut, Point((-3.0, 0.0, 0.0)), model()).lesions[0]
    assert "the tumor reaches a side of the scan: it may be incomplete" in lesion.warnings

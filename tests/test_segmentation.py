"""Segmentation with a network that is exact on bright balls in a dark lung (`half_tissue`)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from half_tissue import TISSUE_HU, Ball, Blind, HalfTissue, distance, lung, model
from numpy.typing import NDArray

from clmsda import models
from clmsda.geometry import Grid, Volume
from clmsda.metrics import f1
from clmsda.models import Model
from clmsda.patches import AXIAL
from clmsda.prompts import Box, Point, PromptError, RecistLine
from clmsda.segmentation import Lesion, segment
from clmsda.segmentation.answer import fill_slices
from clmsda.segmentation.sizing import Sized, as_told
from clmsda.segmentation.views import FUSED, look
from clmsda.segmentation.whole import where_any_sees


def score(lesion: Lesion, *balls: Ball) -> float:
    """F1 against the balls themselves."""
    truth = np.min([distance(lesion.mask.grid, ball) for ball in balls], axis=0) <= 0
    return f1(lesion.mask.voxels, truth)


def only(volume: Volume, prompt: Point | RecistLine | Box, network: Model) -> Lesion:
    (lesion,) = segment(volume, prompt, network).lesions
    return lesion


@pytest.mark.parametrize(
    ("size_mm", "voxel_mm"), [(8.0, 1.0), (14.0, 1.0), (25.0, 1.5), (46.0, 1.5), (70.0, 2.0), (100.0, 2.5)]
)
@pytest.mark.parametrize("off_center", [0.0, 0.6])
def test_one_click_finds_a_tumor_of_any_size(size_mm: float, voxel_mm: float, off_center: float) -> None:
    ball = ((3.0, -2.0, 5.0), size_mm)
    volume = lung(ball, spacing_mm=(voxel_mm, voxel_mm, voxel_mm), shape=(64, 72, 72))
    click = np.array(ball[0]) + off_center * size_mm / 2 * np.array([0.6, -0.64, 0.48])
    lesion = only(volume, Point(tuple(click)), model())
    assert score(lesion, ball) >= 0.9
    assert lesion.measurement is not None
    assert lesion.measurement.size_mm == pytest.approx(size_mm, rel=0.06, abs=voxel_mm)
    assert lesion.confidence > 0.8
    assert lesion.warnings == ()  # the size settled, nothing was cut off


def test_memory_does_not_grow_with_the_patch_but_with_the_tumor() -> None:
    """A patch covers far more of a thin-slice CT than the tumor in it."""
    ball = ((0.0, 0.0, 0.0), 20.0)
    volume = lung(ball, spacing_mm=(0.6, 0.6, 0.6), shape=(150, 150, 150))
    views = look(volume, model(), np.zeros(3), np.zeros(3), [16.0, 20.0, 25.0], AXIAL)
    part = where_any_sees(views, volume.grid, FUSED)
    assert min(part.shape) >= 30 and max(part.shape) <= 56  # of the 150 voxels that the patches reach
    inside = distance(volume.grid, ball) <= 0
    assert part.contains(volume.grid.to_lps(np.argwhere(inside))).all()
    nothing = look(volume, model(network=Blind()), np.zeros(3), np.zeros(3), [20.0], AXIAL)
    assert where_any_sees(nothing, volume.grid, FUSED).shape == (1, 1, 1)


def test_what_a_slice_of_the_mask_encloses_is_filled() -> None:
    mask = np.zeros((3, 9, 9), bool)
    mask[1, 1:8, 1:8] = True
    mask[1, 3:6, 3:6] = False  # a cavity
    mask[2, 1:8, 1:8] = True
    mask[2, 3:6, 3:9] = False  # a bay, open to the lung
    filled = mask.copy()
    fill_slices(filled)
    assert filled[1, 1:8, 1:8].all() and filled[1].sum() == 49
    np.testing.assert_array_equal(filled[[0, 2]], mask[[0, 2]])


def test_a_cavity_belongs_to_its_tumor() -> None:
    ball, cavity = ((0.0, 0.0, 0.0), 40.0), ((2.0, 3.0, 0.0), 16.0)
    volume = lung(ball)
    air = distance(volume.grid, cavity) <= 0
    volume.voxels[air] = -950
    lesion = only(volume, Point((-14.0, 0.0, 0.0)), model())
    assert lesion.mask.voxels[air].mean() > 0.95
    assert score(lesion, ball) >= 0.9


def test_thick_slices_and_a_turned_scan() -> None:
    ball = ((4.0, 2.0, -6.0), 30.0)
    upright = lung(ball, spacing_mm=(5.0, 1.2, 1.2), shape=(20, 80, 80))
    assert score(only(upright, Point(ball[0]), model()), ball) >= 0.9
    affine = upright.grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [19, 0, 79]
    affine[:3, [0, 2]] *= -1
    turned = Volume(np.ascontiguousarray(upright.voxels[::-1, :, ::-1]), Grid(upright.grid.shape, affine))
    assert score(only(turned, Point(ball[0]), model()), ball) >= 0.9


@pytest.mark.parametrize("network", [model(), model((32, 32))], ids=["3-D", "2-D"])
def test_a_neighbor_is_not_included(network: Model) -> None:
    wanted, neighbor = ((-14.0, 0.0, 0.0), 22.0), ((14.0, 4.0, 2.0), 26.0)
    volume = lung(wanted, neighbor)
    assert score(only(volume, Point(wanted[0]), network), wanted) >= 0.9
    both = segment(volume, [Point(neighbor[0]), Point(wanted[0])], network)
    assert score(both.lesions[0], neighbor) >= 0.9 and score(both.lesions[1], wanted) >= 0.9
    assert set(np.unique(both.mask.voxels)) == {0, 1, 2}
    assert both.mask.voxels[tuple(np.rint(volume.grid.to_index(wanted[0])).astype(int))] == 2


@pytest.mark.parametrize(
    "network", [model(), model((32, 32)), model((32, 32), pairs=False)], ids=["3-D", "2-D", "U-Net"]
)
@pytest.mark.parametrize(
    "prompt",
    [
        RecistLine((-10.0, 4.0, 2.0), (20.0, 4.0, 2.0)),
        RecistLine((-8.0, 4.0, 2.0), (16.0, 7.0, 2.0)),  # a hand that shook
        Box((-10.0, -11.0, -13.0), (20.0, 19.0, 17.0)),
        Box((-10.0, -11.0, 2.0), (20.0, 19.0, 2.0)),  # drawn on one slice
    ],
)
def test_a_line_and_a_box_carry_the_size(prompt: RecistLine | Box, network: Model) -> None:
    ball = ((5.0, 4.0, 2.0), 30.0)
    lesion = only(lung(ball), prompt, network)
    assert score(lesion, ball) >= 0.9
    assert lesion.prompt == prompt and lesion.warnings == ()


def test_a_line_that_is_far_too_short_is_believed_and_that_is_said() -> None:
    """The view zooms out while its border cuts the ball off; what is far beyond the line is then cut, and said."""
    ball = ((0.0, 0.0, 0.0), 60.0)
    lesion = only(lung(ball, spacing_mm=(2, 2, 2)), RecistLine((-9, 0, 0), (9, 0, 0)), model())
    assert lesion.measurement and 18 <= lesion.measurement.long_axis_mm <= 40
    assert any("far beyond what was drawn" in warning for warning in lesion.warnings)
    assert not any("border of the patch" in warning for warning in lesion.warnings)
    lesion = only(lung(ball, spacing_mm=(2, 2, 2)), RecistLine((-4, 0, 0), (4, 0, 0)), model())
    assert any("border of the patch" in warning for warning in lesion.warnings)


def test_a_line_beside_the_true_size_gives_what_a_click_gives() -> None:
    """Readers' lines differ by a few millimeters: where self-sizing finds what they say, it is the more exact one."""
    volume, ball = lung(((5.0, 4.0, 2.0), 30.0)), ((5.0, 4.0, 2.0), 30.0)
    click = only(volume, Point(ball[0]), model())
    line = only(volume, RecistLine((-7.0, 4.0, 2.0), (17.0, 4.0, 2.0)), model())  # a fifth too short
    assert np.array_equal(line.mask.voxels, click.mask.voxels)


def test_a_line_overrules_self_sizing_that_says_something_else() -> None:
    found = Sized(np.array([1.0, 2.0, 3.0]), 40.0, False)
    for told, kept in [(28.0, True), (58.0, True), (26.0, False), (62.0, False)]:
        sized = as_told(found, np.zeros(3), told)
        assert sized is not None and sized.settled
        assert sized.size_mm == (40.0 if kept else told)
        assert np.array_equal(sized.center_mm, found.center_mm if kept else np.zeros(3))
    assert as_told(found, np.zeros(3), None) is found
    blind = as_told(None, np.zeros(3), 30.0)
    assert blind is not None and blind.size_mm == 30.0


def test_two_prompts_on_one_tumor_are_one_lesion() -> None:
    ball = ((0.0, 0.0, 0.0), 40.0)
    found = segment(lung(ball), [Point((8.0, 3.0, 0.0)), Point((-9.0, 0.0, 5.0))], model())
    first, second = found.lesions
    assert score(first, ball) >= 0.9
    assert second.measurement is None and not second.mask.voxels.any()
    assert second.warnings == ("the same tumor as lesion 1",)
    assert set(np.unique(found.mask.voxels)) == {0, 1}


class AllTissueWithin(HalfTissue):
    """The middle of every patch, out to a share of its side: a lesion as large as it was assumed to be."""

    def logits(self, patches: NDArray) -> NDArray[np.float32]:
        axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in patches.shape[2:]]
        radius = np.linalg.norm(np.meshgrid(*axes, indexing="ij"), axis=0)
        return np.broadcast_to(40 * (0.5 - radius), patches[:, 0].shape)


def test_a_voxel_belongs_to_one_lesion() -> None:
    """Lesions that overlap in part are both kept, without a voxel in common, and the second says so."""
    prompts = [RecistLine((-20, 0, 0), (0, 0, 0)), RecistLine((-7, 0, 0), (13, 0, 0))]
    found = segment(lung(((0.0, 0.0, 0.0), 50.0)), prompts, model(network=AllTissueWithin()))
    first, second = found.lesions
    assert not (first.mask.voxels & second.mask.voxels).any()
    assert first.measurement is not None and second.measurement is not None
    assert second.measurement.volume_ml < first.measurement.volume_ml
    assert any("% of it belongs to lesion 1" in warning for warning in second.warnings)


@pytest.mark.parametrize("network", [model(), model((32, 32))], ids=["3-D", "2-D"])
def test_a_click_on_nothing_is_an_empty_lesion_with_a_reason(network: Model) -> None:
    volume = lung(((20.0, 0.0, 0.0), 20.0))
    found = segment(volume, [Point((-30.0, 5.0, 20.0)), Point((20.0, 0.0, 0.0))], network)
    nothing, ball = found.lesions
    assert nothing.measurement is None and not nothing.mask.voxels.any() and nothing.warnings[0]
    assert np.isnan(nothing.confidence)
    assert ball.measurement is not None and set(np.unique(found.mask.voxels)) == {0, 2}
    lost, kept = (lesion.to_json() for lesion in found.lesions)
    assert lost.keys() == kept.keys()
    assert lost["volume_ml"] == 0 and lost["long_axis_mm"] is None and lost["confidence"] is None


def test_a_model_that_sees_nothing_says_so() -> None:
    lesion = only(lung(((0.0, 0.0, 0.0), 20.0)), Point((0, 0, 0)), model(network=Blind()))
    assert lesion.measurement is None
    assert lesion.warnings == ("the model sees no tumor at the prompt, at any size: move the point",)


@pytest.mark.parametrize("network", [model(), model((32, 32))], ids=["3-D", "2-D"])
@pytest.mark.parametrize("end", [1, -1])
def test_a_tumor_at_the_end_of_the_scan_warns(network: Model, end: int) -> None:
    ball = ((0.0, 0.0, end * 50.0), 30.0)  # the scan ends at 54 mm
    lesion = only(lung(ball), Point((0.0, 0.0, end * 48.0)), network)
    assert score(lesion, ball) >= 0.9
    assert lesion.warnings == ("the tumor reaches the first or last slice of the scan: it may be incomplete",)
    assert lesion.measurement is not None and (71 if end > 0 else 0) in lesion.measurement.slices


@pytest.mark.parametrize("slice_mm", [1.5, 4.0])
@pytest.mark.parametrize("pairs", [True, False])
def test_the_walk_goes_through_the_tumor_and_ends(slice_mm: float, pairs: bool) -> None:
    ball = ((4.0, -3.0, 1.0), 34.0)
    volume = lung(ball, spacing_mm=(slice_mm, 1.5, 1.5), shape=(round(108 / slice_mm), 72, 72))
    lesion = only(volume, Point((6.0, 0.0, 9.0)), model((32, 32), pairs=pairs))
    assert score(lesion, ball) >= 0.9
    truth = np.flatnonzero((distance(volume.grid, ball) <= 0).any(axis=(1, 2)))
    assert lesion.measurement is not None
    assert np.abs(np.subtract(lesion.measurement.slices, (truth[0], truth[-1]))).max() <= 1
    assert np.isnan(lesion.confidence) != pairs  # a single view has nothing to agree with


def test_the_walk_does_not_jump_over_a_gap() -> None:
    lower, upper = ((0.0, 0.0, -20.0), 24.0), ((0.0, 0.0, 20.0), 24.0)
    lesion = only(lung(lower, upper), Point((0.0, 0.0, -20.0)), model((32, 32)))
    assert score(lesion, lower) >= 0.9


def test_a_click_between_two_slices_counts_for_the_nearer() -> None:
    ball = ((0.0, 0.0, 0.0), 30.0)
    volume = lung(ball, spacing_mm=(5.0, 1.5, 1.5), shape=(21, 72, 72))
    masks = [only(volume, Point((0.0, 0.0, z)), model((32, 32))).mask.voxels for z in (0.0, 2.4, -2.4)]
    assert (masks[0] == masks[1]).all() and (masks[0] == masks[2]).all()


def test_the_answer_in_json() -> None:
    ball = ((5.0, 4.0, 2.0), 30.0)
    found = segment(lung(ball), [Point((5.0, 4.0, 2.0)), RecistLine((-10.0, 4.0, 2.0), (20.0, 4.0, 2.0))], model())
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["model"] == "half-tissue@0123456789ab" and content["image"] == "lung"
    assert content["software"].startswith("clmsda ") and "research" in content["notice"]
    first, second = content["lesions"]
    assert (first["label"], second["label"]) == (1, 2)
    assert first["volume_ml"] == pytest.approx(np.pi / 6 * 30**3 / 1000, rel=0.1)
    assert first["long_axis_mm"] == pytest.approx(30, abs=2) and first["short_axis_mm"] == pytest.approx(30, abs=2)
    for name in ("long", "short"):
        start, end = first[f"{name}_axis_lps"]
        assert np.linalg.norm(np.subtract(start, end)) == pytest.approx(first[f"{name}_axis_mm"], abs=0.05)
        np.testing.assert_allclose(np.add(start, end) / 2, ball[0], atol=2)
    assert first["slices"] == [28, 47] or np.abs(np.subtract(first["slices"], [27, 46])).max() <= 1
    assert first["size_group"] in (1, 2) and 0.8 < first["confidence"] <= 1 and first["warnings"] == []
    assert first["mean_hu"] == pytest.approx(TISSUE_HU, abs=60)
    assert first["prompt"] == {"kind": "Point", "lps_mm": [5.0, 4.0, 2.0]}
    assert second["prompt"] == {"kind": "RecistLine", "start_mm": [-10.0, 4.0, 2.0], "end_mm": [20.0, 4.0, 2.0]}


def test_impossible_prompts_are_refused_before_any_work() -> None:
    volume = lung(((0.0, 0.0, 0.0), 20.0))
    for prompts, words in (([], "found none"), ([Point((0, 0, 0)), Point((900, 0, 0))], "within the image")):
        with pytest.raises(PromptError, match=words):
            segment(volume, prompts, "no model of this name")
    with pytest.raises(models.ModelError, match="no model of this name"):
        segment(volume, Point((0, 0, 0)), "no model of this name")


def test_progress_is_told_for_each_lesion() -> None:
    told: list[str] = []
    segment(lung(((0.0, 0.0, 0.0), 20.0)), [Point((0, 0, 0))] * 2, model(), progress=told.append)
    assert [text for text in told if ":" not in text] == ["lesion 1 of 2", "lesion 2 of 2"]
    assert "lesion 2 of 2: looking at the whole" in told

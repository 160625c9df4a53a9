"""The protocols on cases that can be worked out by hand, with a network that marks what is dense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_study import chest, threshold_model

from clmsda import models
from clmsda.cohorts import Cohort, add_case
from clmsda.geometry import Volume
from clmsda.metrics import f1, recall
from clmsda.models import Model
from clmsda.studies.config import ClickConfig
from clmsda.studies.protocols import (
    Prediction,
    Target,
    around,
    automatic,
    clicks,
    inner_clicks,
    nothing,
    predict,
    prompted,
)
from clmsda.studies.score_rows import SCORES
from clmsda.studies.scores import score, score_slices

PROTOCOLS = ("oracle", "estimated", "prompted", "automatic")
RUN = {"variant": "threshold", "fold": 0, "seed": 1}


def target(folder: Path, size_mm: float = 40.0) -> Target:
    image, mask = chest(size_mm)
    add_case(folder, "one", image, mask, image_path="", mask_path="")
    cohort = Cohort.open(folder)
    return Target.open(cohort, cohort.cases[0])


def filled(one: Target, hu: int) -> Target:
    """The same case on a CT of one value."""
    return Target(one.case, Volume(np.full(one.image.grid.shape, hu, np.int16), one.image.grid), one.truth)


@pytest.fixture(scope="module")
def detector() -> Model:
    return models.load(models.DETECTOR, "cpu")


@pytest.mark.parametrize(("pairs", "shape"), [(True, (32, 32)), (False, (32, 32)), (True, (24, 24, 24))])
def test_every_protocol_outlines_a_ball_on_the_slabs_grid(
    tmp_path: Path, pairs: bool, shape: tuple[int, ...], detector: Model
) -> None:
    one = target(tmp_path)
    model = threshold_model(tmp_path, pairs=pairs, shape=shape, spacing_mm=3.0)
    found = predict(one, model, PROTOCOLS, clicks(one, ClickConfig()), at_size=pairs, detector=detector)
    assert tuple(found) == PROTOCOLS
    for (prediction,) in found.values():
        assert prediction.mask.grid == one.image.grid
        assert f1(prediction.mask.voxels, one.truth.voxels) > 0.9
    assert found["oracle"][0].outside == found["estimated"][0].outside == 0
    assert ("not used" in found["estimated"][0].note) is not pairs
    assert found["automatic"][0].note.startswith("1 finding, with probability 0.8")
    assert np.isnan(found["automatic"][0].confidence) == (not pairs)  # there is one view


def test_automatic_marks_every_finding(tmp_path: Path, detector: Model) -> None:
    """A ball that is no tumor by the truth is marked, too, and the note counts it."""
    one = target(tmp_path, 30.0)
    points = one.image.grid.to_lps(np.moveaxis(np.indices(one.image.grid.shape), 0, -1))
    other = np.linalg.norm(points - one.center_mm - (60, 0, 0), axis=-1) < 13
    two = replace(one, image=replace(one.image, voxels=np.where(other, 40, one.image.voxels)))
    found = automatic(two, threshold_model(tmp_path, spacing_mm=3.0), detector)
    assert found.note.startswith("2 findings, the most probable one with probability 0.8")
    assert f1(found.mask.voxels, two.truth.voxels | other) > 0.9
    assert (found.mask.voxels & other).sum() > 0.9 * other.sum()


def test_a_slab_that_cannot_be_searched_has_no_findings(tmp_path: Path, detector: Model) -> None:
    """One without lungs, one that is no CT, and one in which there is nothing."""
    one, model = target(tmp_path), threshold_model(tmp_path)
    lung = one.image.voxels < -700
    lung[:, :, :10] = lung[:, :, -10:] = lung[:, :8] = lung[:, -8:] = False
    full, empty = (
        replace(one, image=replace(one.image, voxels=np.where(where, hu, one.image.voxels)))
        for where, hu in ((lung, 20), (one.truth.voxels, -850))
    )
    for what, said in ((full, "no lungs"), (filled(one, 40), "all voxels have one value"), (empty, "no findings")):
        found = automatic(what, model, detector)
        assert not found.mask.voxels.any() and said in found.note
        row = score(what, "automatic", [found], RUN)
        assert (row["f1"], row["volume_ml"], row["confidence"]) == ("0", "0", "")


def test_oracle_marks_the_tumors_slices_alone(tmp_path: Path) -> None:
    """The whole patch where everything is dense: 32 x 32 pixels of 3 mm around the center, on each of its slices."""
    one = target(tmp_path)
    dense = filled(one, 40)
    mask = around(dense, threshold_model(tmp_path, spacing_mm=3.0), 40.0).mask.voxels  # S_mean: ratio 1
    first, last = one.case.tumor_slices
    assert np.array_equal(np.flatnonzero(mask.any(axis=(1, 2))), np.arange(first, last + 1))
    points = one.image.grid.to_lps(np.argwhere(np.ones_like(mask)))
    inside = (np.abs(points - one.center_mm)[:, :2] <= 48.0).all(axis=1).reshape(mask.shape)
    inside[:first] = inside[last + 1 :] = False
    assert np.array_equal(mask, inside)


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 32)])
def test_a_tumor_larger_than_the_patch_is_missed_there(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """A ball of 64 mm in a patch of 32 pixels of 1.5 mm: what lies outside is missed, and counted as such."""
    one = target(tmp_path, 64.0)
    prediction = around(one, threshold_model(tmp_path, shape=shape, spacing_mm=1.5), 40.0)
    points = one.truth.grid.to_lps(np.argwhere(one.truth.voxels))
    axes = slice(0, 2) if len(shape) == 2 else slice(0, 3)
    beyond = (np.abs(points - one.center_mm)[:, axes] > 24.0).any(axis=1).mean()
    assert beyond > 0.1
    assert prediction.outside == pytest.approx(beyond)
    assert recall(prediction.mask.voxels, one.truth.voxels) == pytest.approx(1 - beyond)
    row = score(one, "oracle", [prediction], RUN)
    assert tuple(row) == SCORES
    assert float(row["outside"]) == pytest.approx(beyond, rel=1e-5)
    assert float(row["recall"]) == pytest.approx(1 - beyond, rel=1e-5)


def test_the_size_invariant_view_shows_all_of_a_large_tumor(tmp_path: Path) -> None:
    one = target(tmp_path, 64.0)
    model = threshold_model(tmp_path, spacing_mm=1.5, mean_mm=40.0)
    (invariant,) = predict(one, model, ["oracle"], [], at_size=True)["oracle"]
    (variant,) = predict(one, model, ["oracle"], [], at_size=False)["oracle"]
    assert variant.outside > 0.1 and invariant.outside == 0
    assert f1(invariant.mask.voxels, one.truth.voxels) > 0.95 > f1(variant.mask.voxels, one.truth.voxels)


def test_a_network_that_sees_nothing_gives_an_answer_with_a_reason(tmp_path: Path) -> None:
    one = target(tmp_path)
    empty = filled(one, -900)
    model = threshold_model(tmp_path)
    found = predict(empty, model, ["oracle", "estimated"], [], at_size=True)
    assert not found["oracle"][0].mask.voxels.any()
    assert "sees no tumor" in found["estimated"][0].note
    row = score(one, "estimated", found["estimated"], RUN)
    assert (row["f1"], row["volume_ml"], row["hd95_mm"], row["long_axis_mm"]) == ("0", "0", "", "")
    assert score_slices(one, "oracle", found["oracle"][0], RUN)[0]["recall"] == "0"


def test_a_click_that_no_tumor_can_lie_at_is_a_miss_with_a_reason(tmp_path: Path) -> None:
    one = target(tmp_path)
    air = filled(one, -1000)
    air.image.voxels[:, :5] = 0  # some tissue, far from the click
    prediction = prompted(air, threshold_model(tmp_path), clicks(one, ClickConfig())[0])
    assert not prediction.mask.voxels.any()
    assert "expected a point inside the patient" in prediction.note


def test_clicks_lie_in_the_inner_part_and_depend_on_seed_and_case_alone(tmp_path: Path) -> None:
    one = target(tmp_path)
    points = clicks(one, ClickConfig(jitter=0.5, per_case=50))
    assert points == clicks(one, ClickConfig(jitter=0.5, per_case=50))
    assert points[0] == clicks(one, ClickConfig(jitter=0.5))[0]
    assert points[0] != clicks(one, ClickConfig(jitter=0.5, seed=1))[0]
    distances = [np.linalg.norm(np.subtract(point.lps_mm, one.center_mm)) for point in points]
    assert max(distances) <= 0.5 * 20 + 5
    assert max(distances) > 5
    assert clicks(one, ClickConfig(jitter=0.0)) == inner_clicks(one.truth, one.center_mm, 1, 0, reach=0.0)


def test_a_click_beside_a_bent_tumor_is_moved_onto_it(tmp_path: Path) -> None:
    """A ring: the way from its center to its edge leads through its hole."""
    one = target(tmp_path)
    ring = one.truth.voxels.copy()
    points = one.truth.grid.to_lps(np.moveaxis(np.indices(ring.shape), 0, -1))
    ring[np.linalg.norm((points - one.center_mm)[..., :2], axis=-1) < 15] = False
    bent = Target(one.case, one.image, Volume(ring, one.truth.grid))
    for point in clicks(bent, ClickConfig(jitter=0.2, per_case=10)):
        assert ring[tuple(np.rint(one.truth.grid.to_index(point.lps_mm)).astype(int))]


def test_several_clicks_are_scored_by_their_means(tmp_path: Path) -> None:
    one = target(tmp_path)
    model = threshold_model(tmp_path, spacing_mm=3.0)
    good = around(one, model, 40.0)
    empty = nothing(one, "nothing")
    row = score(one, "prompted", [good, empty], RUN)
    alone = score(one, "prompted", [good], RUN)
    assert float(row["f1"]) == pytest.approx(float(alone["f1"]) / 2, rel=1e-4)
    assert row["long_axis_mm"] == alone["long_axis_mm"]
    assert row["note"] == "mean of 2 clicks; nothing"


def test_slices_hold_truth_or_prediction(tmp_path: Path) -> None:
    one = target(tmp_path)
    shifted = Volume(np.roll(one.truth.voxels, 2, axis=0), one.truth.grid)
    rows = score_slices(one, "oracle", Prediction(shifted), RUN)
    first, last = one.case.tumor_slices
    assert [int(row["slice"]) for row in rows] == list(range(first, last + 3))
    assert rows[0]["recall"] == rows[-1]["precision"] == "0"
    middle = rows[len(rows) // 2]
    assert float(middle["f1"]) == pytest.approx(
        f1(shifted.voxels[int(middle["slice"])], one.truth.voxels[int(middle["slice"])]), rel=1e-5
    )

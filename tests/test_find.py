"""`find`: what a detector points at is outlined, measured and numbered by probability; nothing found is an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import half_tissue
import numpy as np
import pytest
from command_line import clmsda, refused
from dicom_series import write_series
from half_tissue import LUNG_HU, TISSUE_HU, Ball, distance
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from clmsda import models
from clmsda.cli import outputs
from clmsda.errors import InputError
from clmsda.geometry import Grid, Volume
from clmsda.images import read_mask, write_image
from clmsda.metrics import f1
from clmsda.models import Model, ModelConfig, ModelError
from clmsda.networks import NetworkConfig
from clmsda.patches import PatchConfig
from clmsda.prompts import Point, PromptError
from clmsda.segmentation import delivery, find, segment
from clmsda.segmentation.automatic import MOST, least_probability
from clmsda.segmentation.candidates import candidates

BALLS: tuple[Ball, ...] = (((-51.0, 1.0, 11.0), 30.0), ((45.0, 15.0, -19.0), 12.0), ((49.0, -19.0, 29.0), 20.0))
OPERATING = ((0.1, 1.0, 4.0), (0.5, 0.9, 0.5), (0.7, 0.6, 0.2))


class Centers:
    """A detector that sees the middle of every dense part that does not reach the window's border.

    The larger, the more probable: as its diameter in voxels is to 16, at most 1.
    """

    def __call__(self, patches: NDArray) -> NDArray[np.float32]:
        return np.stack([self.answer(patch[0]) for patch in patches])

    def answer(self, patch: NDArray) -> NDArray[np.float32]:
        labels, _ = ndimage.label(patch > ((LUNG_HU + TISSUE_HU) / 2 + 1350) / 1500)
        heat = np.zeros(patch.shape, np.float32)
        for number, box in enumerate(ndimage.find_objects(labels), 1):
            if all(side.start > 0 and side.stop < n for side, n in zip(box, patch.shape, strict=True)):
                middle = np.rint(ndimage.center_of_mass(labels == number)).astype(int)
                height = min(1.0, (box[0].stop - box[0].start) / 16)
                away = np.linalg.norm(np.moveaxis(np.indices(patch.shape), 0, -1) - middle, axis=-1)
                heat = np.maximum(heat, height * np.exp(-0.5 * (away / 2) ** 2)).astype(np.float32)
        return heat


def detector(operating: Sequence[tuple[float, float, float]] = OPERATING) -> Model:
    config = ModelConfig(
        NetworkConfig(3, 1, width=4, levels=2, block="none"),
        PatchConfig((32, 32, 32), reference_spacing_mm=2.0, mean_size_mm=46.0),
        pairs=False,
        searches=True,
        operating=tuple(operating),
    )
    return Model("centers", "0123456789abcdef", config, Centers())


def chest(*balls: Ball) -> Volume:
    """Balls in two lungs, in a body in a room."""
    grid = Grid.axial((70, 90, 120), (2.0, 2.0, 2.0), center_mm=(0, 0, 0))
    points = grid.to_lps(np.moveaxis(np.indices(grid.shape), 0, -1))
    dense = np.where((np.abs(points) < (110, 80, 1000)).all(axis=-1), 1.0, -0.17)
    for side in (-50, 50):
        dense[(np.abs(points - (side, 0, 0)) < (40, 60, 55)).all(axis=-1)] = 0
    for ball in balls:
        share = np.clip(0.5 - distance(grid, ball) / 2, 0, 1)
        dense = np.where(share > 0, np.maximum(dense, share), dense)
    noise = np.random.default_rng(0).normal(0, 10, grid.shape)
    return Volume((LUNG_HU + (TISSUE_HU - LUNG_HU) * dense + noise).astype(np.int16), grid, "chest")


def test_candidates_are_the_middles_the_most_probable_first() -> None:
    found, unseen = candidates(chest(*BALLS), detector(), 0.1)
    assert not unseen
    sizes = sorted((ball[1] for ball in BALLS), reverse=True)
    assert [round(one.probability, 1) for one in found] == pytest.approx([min(1, size / 32) for size in sizes], abs=0.1)
    for one, ball in zip(found, sorted(BALLS, key=lambda ball: -ball[1]), strict=True):
        assert np.linalg.norm(np.array(one.center_mm) - ball[0]) < 3


def test_every_tumor_is_found_outlined_and_numbered_as_it_is_probable() -> None:
    ct = chest(*BALLS)
    found = find(ct, half_tissue.model(), detector=detector(), sensitivity=1.0)
    assert [lesion.label for lesion in found.lesions] == [1, 2, 3]
    probabilities = [lesion.probability for lesion in found.lesions]
    assert probabilities == sorted(probabilities, reverse=True)  # type: ignore[type-var]
    for lesion, ball in zip(found.lesions, sorted(BALLS, key=lambda ball: -ball[1]), strict=True):
        assert f1(lesion.mask.voxels, distance(ct.grid, ball) < 0) > 0.85
        assert lesion.to_json()["probability"] == round(lesion.probability or 0, 3)
    assert found.model == "half-tissue@0123456789ab, centers@0123456789ab"


def test_a_lesion_with_two_candidates_is_one_lesion() -> None:
    class Twice(Centers):
        def answer(self, patch: NDArray) -> NDArray[np.float32]:
            heat = super().answer(patch)
            return np.maximum(heat, 0.9 * np.roll(heat, 5, axis=0))  # within the ball still

    seeker = replace(detector(), probabilities=Twice())
    ct = chest(BALLS[0])
    assert len(candidates(ct, seeker, 0.5)[0]) == 2
    assert len(find(ct, half_tissue.model(), detector=seeker).lesions) == 1


def test_the_operating_point_is_the_one_that_is_asked_for() -> None:
    assert least_probability(detector(), None) == 0.5
    assert [least_probability(detector(), share) for share in (0.3, 0.6, 0.61, 0.9, 1.0)] == [0.7, 0.7, 0.5, 0.5, 0.1]
    with pytest.raises(InputError, match=r"at most 0\.9, found 0\.95"):
        least_probability(detector(OPERATING[1:]), 0.95)
    assert least_probability(detector(()), None) == 0.5
    with pytest.raises(ModelError, match="nobody measured the sensitivity of centers"):
        least_probability(detector(()), 0.9)
    with pytest.raises(ModelError, match=r"finds no tumors by itself.*the one called detector"):
        least_probability(half_tissue.model(), None)


@given(
    rates=st.lists(st.floats(0, 8), min_size=1, max_size=8),
    shares=st.lists(st.floats(0.1, 1), min_size=8, max_size=8),
    wanted=st.tuples(*[st.floats(0.01, 1)] * 2),
)
def test_who_asks_for_more_gets_no_less(rates: list[float], shares: list[float], wanted: tuple[float, float]) -> None:
    falling = zip(sorted(shares, reverse=True), sorted(rates, reverse=True), strict=False)
    table = [((number + 1) / 10, *point) for number, point in enumerate(falling)]
    seeker, best = detector(table), table[0][1]
    low, high = sorted(min(share, best) for share in wanted)
    assert least_probability(seeker, high) <= least_probability(seeker, low)
    assert least_probability(seeker, best) == table[0][0] <= least_probability(seeker, None)
    assert next(share for least, share, _ in table if least == least_probability(seeker, low)) >= low


def test_the_highest_sensitivity_of_the_shipped_detector_gives_more_than_its_default() -> None:
    shipped = models.read(models.DETECTOR)
    assert least_probability(shipped, 1.0) < least_probability(shipped, None)


def test_a_detector_outlines_nothing() -> None:
    with pytest.raises(PromptError, match="says where tumors are"):
        segment(chest(), Point((0, 0, 0)), detector())
    with pytest.raises(ModelError, match=r"centers says where tumors are.*the one called second"):
        find(chest(), detector(), detector=detector())


def test_what_is_less_probable_is_left_out() -> None:
    found = find(chest(*BALLS), half_tissue.model(), detector=detector(), sensitivity=0.5)
    assert len(found.lesions) == 1


def test_no_more_than_a_radiologist_would_look_at() -> None:
    class Everywhere(Centers):
        def answer(self, patch: NDArray) -> NDArray[np.float32]:
            return np.random.default_rng(0).random(patch.shape, np.float32)

    seen: list[str] = []
    seeker, blind = replace(detector(), probabilities=Everywhere()), half_tissue.model(network=half_tissue.Blind())
    found = find(chest(), blind, detector=seeker, progress=seen.append)
    assert f"candidate {MOST} of {MOST}" in seen
    (said,) = found.warnings
    assert re.fullmatch(rf"\d+ places look like tumors; only the {MOST} most probable were outlined", said)
    assert int(said.split()[0]) > MOST


def test_the_command_finds_the_tumor_of_the_demo(tmp_path: Path) -> None:
    clmsda("demo", tmp_path / "demo")
    ct, truth = tmp_path / "demo" / "ct.nii.gz", read_mask(tmp_path / "demo" / "truth.nii.gz")
    done = clmsda(
        "find", ct, "-o", tmp_path / "mask.nii.gz", "--json", tmp_path / "m.json", "--preview", tmp_path / "p.png"
    )
    (first, *_) = json.loads((tmp_path / "m.json").read_text())["lesions"]
    assert first["probability"] > 0.3 and first["center_lps"]
    assert f1(read_mask(tmp_path / "mask.nii.gz").voxels == 1, truth.voxels > 0) > 0.8
    assert "probability" in done.stdout and (tmp_path / "p.png").stat().st_size > 10_000


def test_where_nothing_is_found_that_is_the_answer(tmp_path: Path) -> None:
    write_image(chest(), tmp_path / "ct.nii.gz")
    done = clmsda("find", tmp_path / "ct.nii.gz", "-o", tmp_path / "mask.nii.gz", "--json", tmp_path / "m.json",
                  "--preview", tmp_path / "p.png")  # fmt: skip
    assert "no tumor was found" in done.stdout
    assert "nothing to write as preview" in done.stderr
    assert json.loads((tmp_path / "m.json").read_text())["lesions"] == []
    assert not read_mask(tmp_path / "mask.nii.gz").voxels.any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct.nii.gz", "m.json", "mask.nii.gz"]


def test_what_an_earlier_run_left_where_nothing_is_found_now_is_taken_away(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", chest())
    older = {"--preview": tmp_path / "p.png", "--dicom-seg": tmp_path / "seg.dcm", "--sr": tmp_path / "sr.dcm"}
    for path in older.values():
        path.write_text("of other findings")
    given = [text for pair in older.items() for text in pair]
    done = clmsda("find", tmp_path / "ct", "-o", tmp_path / "mask.nii.gz", *given)
    assert done.returncode == 0 and not any(path.exists() for path in older.values())
    assert all(f"removed {path}, which was there before" in done.stderr for path in older.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct", "mask.nii.gz"]


def test_picture_and_report_tell_how_probable_a_finding_is(tmp_path: Path) -> None:
    found = find(chest(*BALLS), half_tissue.model(), detector=detector(), sensitivity=1.0)
    told = delivery.findings(found, chest(*BALLS), "1.2.3")
    assert [one.probability for one in told] == [one.probability for one in found.lesions]
    outputs.write_outputs(chest(*BALLS), found, tmp_path / "mask.nii.gz", preview=tmp_path / "p.svg")
    drawn = (tmp_path / "p.svg").read_text()  # with each text as a comment beside its glyphs
    assert all(f"probability {one.probability:.2f} -->" in drawn for one in found.lesions)


def test_a_scan_of_half_the_lungs_says_so(tmp_path: Path) -> None:
    ct = chest()
    write_image(ct.crop((0, 0, 0), (35, 90, 120)), tmp_path / "ct.nii.gz")
    said = "the scan may not show all of the lungs: they are cut off at the highest slice"
    given = ("find", tmp_path / "ct.nii.gz", "-o", tmp_path / "mask.nii.gz", "--json", tmp_path / "m.json")
    assert f"no tumor was found; {said}" in " ".join(clmsda(*given).stdout.split())
    assert json.loads((tmp_path / "m.json").read_text())["warnings"] == [said]
    clmsda(*given, "--anonymize")
    assert json.loads((tmp_path / "m.json").read_text())["warnings"] == [said]


@pytest.mark.parametrize("what", ["head", "sensitivity", "detector", "model"])
def test_what_cannot_be_searched_is_refused(what: str, tmp_path: Path) -> None:
    ct = chest()
    if what == "head":
        ct.voxels[:] = np.maximum(ct.voxels, 20)
        ct.voxels[:, :5] = -1000
    write_image(ct, tmp_path / "ct.nii.gz")
    more, said = {
        "head": ((), "found no lungs"),
        "sensitivity": (("--sensitivity", "1.5"), "expected a sensitivity"),
        "detector": (("--detector", "second"), "finds no tumors by itself"),
        "model": (("--model", "detector"), "says where tumors are, and outlines none"),
    }[what]
    assert said in refused("find", tmp_path / "ct.nii.gz", "-o", tmp_path / "mask.nii.gz", *more)
    if what != "head":  # before the CT is read, which may take long
        assert said in refused("find", tmp_path / "none.nii.gz", "-o", tmp_path / "mask.nii.gz", *more)
    assert not (tmp_path / "mask.nii.gz").exists()
    assert models.DETECTOR in models.available()

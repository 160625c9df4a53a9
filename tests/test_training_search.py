"""Training of a detector: a bump at every tumor's center wherever the window lies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clmsda import models, phantoms
from clmsda.geometry import Grid
from clmsda.networks import NetworkConfig
from clmsda.patches import AugmentationConfig, PatchConfig
from clmsda.training import ConfigError, TrainingConfig, train
from clmsda.training.centers import NARROWEST_MM, WIDEST_MM, bump, unsaid, window_middle
from clmsda.training.config import DataConfig, LossConfig, OptimizationConfig, SearchConfig, ViewConfig, read_config
from clmsda.training.sources import open_samples

PLACE = st.tuples(*[st.floats(-20, 20)] * 3)


def config() -> TrainingConfig:
    return TrainingConfig(
        name="search",
        data=DataConfig(samples_per_epoch=4, validation_samples=2, workers=0),
        patches=PatchConfig((32, 32, 32), 4.0, 46.0),
        views=ViewConfig(
            cropped=0.5,
            search=SearchConfig(),
            augmentation=AugmentationConfig(15.0, 0.15, 0.0, mirrored=True, noise_hu=20.0),
        ),
        network=NetworkConfig(3, 1, width=4, levels=2, block="none", fold=2),
        loss=LossConfig(pairs=False),
        optimization=OptimizationConfig(epochs=1, batch_size=2, precision="float32"),
    )


@settings(max_examples=30, deadline=None)
@given(center=PLACE, size_mm=st.floats(3, 150), spacing_mm=st.floats(0.8, 3))
def test_a_bump_is_highest_at_the_center_and_as_wide_as_a_fifth(
    center: tuple[float, float, float], size_mm: float, spacing_mm: float
) -> None:
    grid = Grid.axial((48, 40, 44), (spacing_mm, 1.1 * spacing_mm, spacing_mm), center_mm=(0, 0, 0))
    found = bump(grid, np.array(center), size_mm)[0].numpy()
    points = grid.to_lps(np.moveaxis(np.indices(grid.shape), 0, -1))
    width = min(max(size_mm / 5, NARROWEST_MM), WIDEST_MM)
    expected = np.exp(-0.5 * (np.linalg.norm(points - center, axis=-1) / width) ** 2)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(place=PLACE, seed=st.integers(0, 1000))
def test_windows_lie_within_reach(place: tuple[float, float, float], seed: int) -> None:
    search, center = SearchConfig(shift_mm=30, strays=0.5, stray_mm=90), np.array(place)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        assert np.abs(window_middle(search, center, rng, strays=False) - center).max() <= 30
        assert np.abs(window_middle(search, center, rng, strays=True) - center).max() <= 90


def test_nodules_that_nobody_speaks_of_carry_no_loss() -> None:
    phantom = next(p for p in map(phantoms.sample, range(50)) if p.findings.nodules)
    nodule = phantom.findings.nodules[0]
    grid = Grid.axial((24, 24, 24), (2.0, 2.0, 2.0), center_mm=nodule.center_mm)
    without = unsaid(phantom, grid)[0]
    assert without[12, 12, 12] and not without.all()
    clear = phantoms.sample(next(s for s in range(50) if not phantoms.sample(s).findings.nodules))
    assert not unsaid(clear, grid).any()


def test_samples_are_windows_with_bumps_the_same_at_every_call() -> None:
    training, validation, _ = open_samples(config())
    for samples in (training, validation):
        pairs = [samples.pair(0, number) for number in range(len(samples))]
        for number, pair in enumerate(pairs):
            assert pair.variant.shape == (1, 32, 32, 32) and pair.variant_mask.shape == pair.variant_known.shape
            assert float(pair.variant_mask.min()) >= 0 and float(pair.variant_mask.max()) <= 1
            assert torch.equal(pair.variant, samples.pair(0, number).variant)
    assert any(float(training.pair(0, number).variant_mask.max()) > 0.5 for number in range(4))


def test_sizes_sites_and_kinds_are_drawn_evenly() -> None:
    sizes, sites, kinds = zip(*map(phantoms.draw_evenly, range(700)), strict=True)
    assert min(sizes) >= 7 and max(sizes) <= 60
    assert np.median(sizes) == pytest.approx(np.sqrt(7 * 60), rel=0.1)
    assert all(60 <= sites.count(site) <= 140 for site in set(sites)) and len(set(sites)) == 7
    assert all(180 <= kinds.count(kind) <= 290 for kind in set(kinds)) and len(set(kinds)) == 3


def test_tumors_of_any_size_site_and_kind_alike_are_asked_of_training_alone() -> None:
    data = DataConfig(samples_per_epoch=12, validation_samples=12, even_share=1.0, workers=0)
    training, validation, _ = open_samples(replace(config(), data=data))
    for seed in range(4):
        size, site, kind = phantoms.draw_evenly(seed)
        found = training.scene(seed)
        assert (found.tumor.site, found.tumor.kind) == (site, kind)
        assert found.tumor_extent()[1] == pytest.approx(size, rel=0.5)
        usual = phantoms.sample(seed).tumor
        assert (validation.scene(seed).tumor.site, validation.scene(seed).tumor.kind) == (usual.site, usual.kind)


def test_a_detector_is_trained_like_any_network(tmp_path: Path) -> None:
    path = train(config(), tmp_path / "run", device="cpu")
    trained = models.read(path)
    assert trained.config.patches.shape == (32, 32, 32) and not trained.config.pairs and trained.config.searches


def test_the_recipe_is_valid_and_contradictions_are_refused() -> None:
    recipe = Path(__file__).parent.parent / "models" / "detector.toml"
    assert read_config(recipe).views.search is not None
    for change in ("loss.pairs=true", "patches.mark_prompt=true"):
        with pytest.raises(ConfigError, match=r"views\.search needs"):
            read_config(recipe, [change, "network.in_channels=3" if "mark" in change else "name='x'"])
    assert replace(config().views, search=None).search is None

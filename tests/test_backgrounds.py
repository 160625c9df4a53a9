"""Synthetic tumors set into chest CTs. The CT here is a phantom's scan, as no real one may be in the project."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import clmsda, refused

from clmsda import phantoms
from clmsda.geometry import AIR_HU, Grid, Volume, resample
from clmsda.images import write_image
from clmsda.models import load
from clmsda.phantoms.backgrounds import Background, BackgroundError, read_backgrounds
from clmsda.phantoms.insets import sample_inset
from clmsda.training import ConfigError, read_config, train
from clmsda.training.sources import open_samples, scene_of

RECIPE = """
name = "mixed"
[data]
samples_per_epoch = 4
validation_samples = 2
[patches]
shape = [16, 16, 16]
reference_spacing_mm = 6.0
mean_size_mm = 46.0
[network]
spatial_dims = 3
levels = 2
width = 4
"""


@pytest.fixture(scope="module")
def ct() -> Volume:
    return phantoms.scan(phantoms.sample(3), matrix=128)[0]


@pytest.fixture(scope="module")
def folder(ct: Volume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backgrounds")
    Background.measured(ct, "chest").write(folder)
    return folder


@pytest.fixture(scope="module")
def background(folder: Path) -> Background:
    return read_backgrounds(folder)[0]


def test_lungs_are_where_the_phantom_has_them(background: Background) -> None:
    phantom = phantoms.sample(3)
    grid = Grid.axial((40, 60, 80), (4.0, 4.0, 4.0), center_mm=(0, 0, 0))
    space = phantoms.space.Space.of_grid(grid)
    truth = phantom.anatomy.fields(space).lung.numpy()
    found = background.fields(space).lung.numpy()
    sure = np.abs(truth) > 8  # nearer, vessels and the tumor at the surface count to either
    assert ((found < 0) == (truth < 0))[sure].mean() > 0.97


def test_a_ball_of_air_has_its_distances() -> None:
    grid = Grid.axial((60, 60, 60), (2.0, 2.0, 2.0))
    away = np.linalg.norm(np.indices(grid.shape) - 29.5, axis=0) * 2.0
    rng = np.random.default_rng(0)
    hu = np.where(away < 36, -850.0, 40.0) + rng.normal(0, 20, grid.shape)
    found = Background.measured(Volume(hu.astype(np.int16), grid, "ball"), "ball")
    assert np.abs(found.lung.voxels - (away - 36)).max() < 2.5
    assert found.tissue_hu == pytest.approx(40, abs=3)
    assert found.noise_hu == pytest.approx(20, rel=0.2)  # the quieter quarter
    assert found.grain_mm < 0.6  # white noise: far below the pixel of 2 mm
    assert (found.depths_mm < 0).all() and len(found.points_mm) == len(found.depths_mm)


@pytest.mark.parametrize("seed", range(4))
def test_an_inset_changes_the_ct_at_its_tumor_alone(background: Background, seed: int) -> None:
    inset = sample_inset(seed, [background])
    center, size = inset.tumor_extent()
    grid = Grid.axial((32, 32, 32), (size / 10,) * 3, center_mm=tuple(center))
    hu, share = phantoms.show(inset, grid)
    before = resample(background.ct, grid, fill=None).voxels
    changed = np.abs(hu.numpy() - before) > 1e-3
    assert share.sum() > 100
    assert changed[share.numpy() > 0].mean() > 0.95
    reach = inset.tumor.bounds(2 * inset.tumor.halo_mm + inset.tumor.softness_mm + 30)
    points = grid.to_lps(np.argwhere(changed))
    assert (points >= reach[0]).all() and (points <= reach[1]).all()


def test_the_mask_is_the_tumor_and_the_same_at_another_zoom(background: Background) -> None:
    inset = sample_inset(5, [background])
    center, size = inset.tumor_extent()
    volumes = []
    for count in (24, 48):
        grid = Grid.axial((count,) * 3, (2.4 * size / count,) * 3, center_mm=tuple(center))
        _hu, share = phantoms.show(inset, grid)
        assert np.array_equal(share.numpy() > 0, inset.tumor_mask(grid))
        volumes.append(float(share.sum()) * grid.voxel_ml)
    assert volumes[0] == pytest.approx(volumes[1], rel=0.08)


def test_a_seed_gives_the_same_inset_and_another_seed_another(background: Background) -> None:
    grid = Grid.axial((8, 24, 24), (4, 4, 4), center_mm=tuple(sample_inset(1, [background]).tumor_extent()[0]))
    one, again, other = (phantoms.show(sample_inset(seed, [background]), grid)[0] for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_a_slice_of_a_two_dimensional_patch(background: Background) -> None:
    inset = sample_inset(2, [background])
    center, size = inset.tumor_extent()
    hu, share = phantoms.show(inset, Grid.axial((1, 32, 32), (1.0, size / 16, size / 16), center_mm=tuple(center)))
    assert hu.shape == share.shape == (1, 32, 32) and share.sum() > 20


def test_tumors_fit_the_slices(background: Background) -> None:
    count, slice_mm = background.ct.grid.shape[0], background.ct.grid.spacing_mm[0]
    first = count // 2
    thin = background.ct.crop((first, 0, 0), (first + round(36 / slice_mm), *background.ct.grid.shape[1:]))
    thin_background = Background.measured(thin, "thin")
    low, high = thin_background.heights_mm
    for seed in range(5):
        assert sample_inset(seed, [thin_background], tumor_size_mm=140).tumor_extent()[1] < high - low


def test_a_share_of_the_training_samples_is_set_into_them(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "mixed.toml"
    path.write_text(RECIPE)
    backgrounds = read_backgrounds(folder)
    scenes = [scene_of(seed, backgrounds, 0.25, 0.0, phantoms.CAVITIES) for seed in range(40)]
    assert 4 <= sum(isinstance(scene, phantoms.Inset) for scene in scenes) <= 16
    training, validation, _ = open_samples(
        read_config(path, [f'data.backgrounds="{folder}"', "data.background_share=1.0"])
    )
    plain, plain_validation, _ = open_samples(read_config(path))
    assert not torch.equal(training.pair(0, 0).variant, plain.pair(0, 0).variant)
    assert torch.equal(validation.pair(0, 1).variant, plain_validation.pair(0, 1).variant)


def test_a_model_names_the_real_chests_that_it_saw(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "mixed.toml"
    path.write_text(RECIPE)
    config = read_config(path, ["optimization.epochs=1", f'data.backgrounds="{folder}"'])
    model = load(train(config, tmp_path / "run", device="cpu"), "cpu")
    assert model.config.provenance["backgrounds"] == ["chest"]


def test_a_cohort_takes_no_backgrounds(tmp_path: Path) -> None:
    path = tmp_path / "cohort.toml"
    path.write_text(RECIPE.replace("[data]", '[data]\nsource = "cohort"\nbackgrounds = "b"'))
    with pytest.raises(ConfigError, match=r"data\.backgrounds are for phantoms"):
        read_config(path)


def test_what_a_killed_process_left_is_no_background(folder: Path) -> None:
    left = folder / ".clmsda-0123abcd-chest.json"
    left.write_text("{")
    assert [one.name for one in read_backgrounds(folder)] == ["chest"]
    left.unlink()


def test_folders_without_backgrounds_or_with_damaged_ones(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BackgroundError, match="clmsda background"):
        read_backgrounds(tmp_path)
    (tmp_path / "chest.json").write_text((folder / "chest.json").read_text())
    with pytest.raises(BackgroundError, match="make this background anew"):
        read_backgrounds(tmp_path)
    (tmp_path / "chest.json").write_text(json.dumps({"source": "x"}))
    with pytest.raises(BackgroundError, match="make this background anew"):
        read_backgrounds(tmp_path)


@pytest.mark.parametrize("hu", [40.0, AIR_HU])
def test_no_lungs(hu: float) -> None:
    voxels = np.full((20, 60, 60), hu, dtype=np.int16)
    with pytest.raises(BackgroundError, match="found no lungs"):
        Background.measured(Volume(voxels, Grid.axial(voxels.shape, (5, 5, 5)), "block"), "block")


def test_the_command(ct: Volume, tmp_path: Path) -> None:
    write_image(ct, tmp_path / "chest.nii.gz")
    last = ct.grid.shape[0] - 1
    result = clmsda("background", tmp_path / "out", tmp_path / "chest.nii.gz", "--slices", f"5-{last}")
    assert result.returncode == 0, result.stderr
    made = read_backgrounds(tmp_path / "out")[0]
    assert made.name == f"chest-5-{last}" and made.ct.grid.shape[0] == last - 4
    assert np.array_equal(made.ct.voxels, ct.voxels[5:])
    assert "FIRST-LAST" in refused("background", tmp_path / "out", tmp_path / "chest.nii.gz", "--slices", "9-3")

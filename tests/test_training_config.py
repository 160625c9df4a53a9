"""The configuration of a run: every TOML that ships is right, and every wrong one is told all that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from clmsda.networks import VARIANTS
from clmsda.training.config import ConfigError, TrainingConfig, check, read_config

REPOSITORY = Path(__file__).parent.parent
SHIPPED = sorted((REPOSITORY / "models").rglob("*.toml"))
COHORT = "name = 'a'\n[data]\nsource = 'cohort'\n"


def read(folder: Path, text: str, *overrides: str) -> TrainingConfig:
    path = folder / "run.toml"
    path.write_text(text, encoding="utf8")
    return read_config(path, overrides)


def refusal(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        read(folder, text, *overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_there_are_configurations_to_test() -> None:
    assert REPOSITORY / "models" / "shipped.toml" in SHIPPED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    config = read_config(path)
    assert config.network.width >= 4


def test_the_defaults_are_the_papers(tmp_path: Path) -> None:
    config = read(tmp_path, COHORT)
    assert config.patches.shape == (256, 256) and config.patches.windows_hu == ((-1350.0, 150.0),)
    assert config.patches.mean_size_mm is None  # the cohort decides
    augmentation = config.views.augmentation
    assert (augmentation.rotation_deg, augmentation.scaling, augmentation.shift) == (20, 0.2, 20)
    assert (config.network.width, config.network.levels, config.network.block) == (64, 5, "msda")
    assert (config.optimization.decay, config.optimization.epochs, config.optimization.patience) == (0.95, 100, 25)
    assert (config.loss.consistency, config.loss.weight, config.data.samples_per_slice) == ("mse", 1.0, 5)


def test_a_resolved_configuration_reads_back(tmp_path: Path) -> None:
    import json

    config = read(tmp_path, COHORT, "network.block_levels=[0, 2]", "seed=7")
    assert check(json.loads(config.to_json()), "config.json") == config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (COHORT + "wokers = 2", "data.wokers: unknown key"),
        (COHORT + "[views.augmentation]\nrotate = 3", "views.augmentation.rotate: unknown key"),
        ("nmae = 'a'\n" + COHORT, "nmae: unknown key"),
        ("[data]\nsource = 'cohort'", "name: expected a value"),
        ("name = '../a'\n[data]\nsource = 'cohort'", "name: "),
        ("name = 'a'\ndata = 3", "data: "),
        ("seed = 'one'\n" + COHORT, "seed: Input should be a valid integer (found 'one')"),
        ("seed = true\n" + COHORT, "seed: Input should be a valid integer (found True)"),
        (COHORT + "workers = '2'", "data.workers: "),
        (COHORT + "workers = 1.5", "data.workers: "),
        (COHORT + "[patches]\nshape = 64", "patches.shape: "),
        (COHORT + "[patches]\nmean_size_mm = 2024-01-01", "patches.mean_size_mm: "),
        (COHORT + "[loss]\npairs = 'yes'", "loss.pairs: "),
        (COHORT + "[loss]\nconsistency = 'l2'", "loss.consistency: "),
        ("seed = -1\n" + COHORT, "seed: Input should be greater than or equal to 0 (found -1)"),
        (COHORT + "validation_fraction = 1.0", "data.validation_fraction: "),
        (COHORT + "[optimization]\nepochs = 0", "optimization.epochs: "),
        (COHORT + "[optimization]\nlearning_rate = inf", "optimization.learning_rate: "),
        (COHORT + "[optimization]\nlearning_rate = nan", "optimization.learning_rate: "),
        (COHORT + "[views]\nsize_error = 0.5", "views.size_error: "),
        (COHORT + "[views.augmentation]\nscaling = 1.5", "views.augmentation: expected"),
        (COHORT + "[patches]\nshape = [64]", "patches: shape must be"),
        (COHORT + "[patches]\nreference_spacing_mm = 0.0", "patches: reference_spacing_mm must be"),
        (COHORT + "[patches]\nwindows_hu = [[150.0, -1350.0]]", "patches: windows_hu must be"),
        (COHORT + "[network]\nwidth = 30", "network: width must be a multiple of 4"),
        (COHORT + "[network]\nlevels = 3\nblock_levels = [2]", "network: block_levels must be decoder levels 0..1"),
    ],
)
def test_one_error_is_named_by_its_path(tmp_path: Path, text: str, said: str) -> None:
    message = refusal(tmp_path, text)
    assert said in message
    assert message.startswith(f"{tmp_path / 'run.toml'}: ")
    assert ";" not in message.removesuffix(said)  # nothing else is wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (COHORT + "[network]\nspatial_dims = 3", "patches.shape has 2 lengths, but network.spatial_dims is 3"),
        (COHORT + "[patches]\nmark_prompt = true", "patches make 2 channels, but network.in_channels is 1"),
        (COHORT + "[patches]\nshape = [256, 250]", "patches.shape must be divisible by 16 for network.levels = 5"),
        (
            COHORT + "[[data.cohorts]]\nfolder = 'c'\nshare = 0.5\npatients = 'p.csv'",
            "data.cohorts stand among phantoms, but data.source is a cohort",
        ),
        (
            COHORT + "[views.again]\nfine = 0.5",
            "views.again needs patches.corrections, patches of three dimensions, and loss.pairs",
        ),
        ("name = 'a'", "patches.reference_spacing_mm and patches.mean_size_mm must be given for phantoms"),
    ],
)
def test_contradictions_are_named(tmp_path: Path, text: str, said: str) -> None:
    assert refusal(tmp_path, text).endswith(said)


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    message = refusal(
        tmp_path,
        "name = 'a'\nsede = 1\n[data]\nworkers = -1\n[patches]\nshape = [3]\n[network]\nwidth = 'wide'\n"
        "[optimization]\nepochs = 0\ndecay = 2.0",
    )
    paths = ("sede:", "data.workers:", "patches:", "network.width:", "optimization.epochs:", "optimization.decay:")
    assert all(path in message for path in paths), message
    contradictions = refusal(tmp_path, "name = 'a'\n[patches]\nshape = [31, 31, 31]\nmark_prompt = true")
    assert all(word in contradictions for word in ("3 lengths", "2 channels", "divisible by 16", "mean_size_mm"))


def test_overrides(tmp_path: Path) -> None:
    config = read(
        tmp_path, COHORT, "seed=3", "data.source=other/cohort", "network.block=ms", "views.augmentation.shift=5",
        "loss.pairs=false", "optimization.learning_rate=1e-3", "patches.shape=[64, 64]", "name = 'b'",
    )  # fmt: skip
    assert (config.name, config.seed, config.data.source, config.network.block) == ("b", 3, "other/cohort", "ms")
    assert config.views.augmentation.shift == 5.0 and config.loss.pairs is False
    assert config.optimization.learning_rate == 1e-3 and config.patches.shape == (64, 64)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("seed", "--set expects key.path=value, found 'seed'"),
        ("=3", "--set expects key.path=value"),
        ("name.first=x", "'name' is a value, not a table"),
        ("sede=3", "sede: unknown key"),
        ("seed=x", "seed: Input should be a valid integer (found 'x')"),
        ("network.width=", "network.width: "),
        ("network=3", "network: "),
    ],
)
def test_wrong_overrides_are_refused(tmp_path: Path, override: str, said: str) -> None:
    assert said in refusal(tmp_path, COHORT, override)


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    assert "not valid TOML" in refusal(tmp_path, "name = ")
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe4'")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read_config(tmp_path / "latin.toml")
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot read the configuration"):
            read_config(path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_one_line(tmp_path: Path, variant: str) -> None:
    wanted = VARIANTS[variant]
    config = read(tmp_path, f"variant = '{variant}'\n" + COHORT, "network.width=32", "loss.weight=0.5")
    assert (config.network.block, config.loss.pairs) == (wanted.block, wanted.pairs)
    assert (config.network.width, config.loss.weight) == (32, 0.5)
    assert config == read(
        tmp_path, COHORT, f"variant={variant}", f"network.block={wanted.block}", "network.width=32", "loss.weight=0.5"
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("variant=U-Net++", "variant: expected one of U-Net, U-Net + MS, U-Net + MSDA, CL-MSDA-Net; found 'U-Net++'"),
        ("variant=[1]", "variant: expected one of"),
        ("network.block=msda", "network.block = 'msda' contradicts variant 'U-Net + MS'"),
        ("loss.pairs=true", "loss.pairs = True contradicts variant 'U-Net + MS'"),
        ("network=3", "network: "),
    ],
)
def test_a_variant_that_is_none_or_contradicted_is_refused(tmp_path: Path, override: str, said: str) -> None:
    assert said in refusal(tmp_path, "variant = 'U-Net + MS'\n" + COHORT, override)

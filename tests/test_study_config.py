"""The configuration of a study: every TOML that ships is right, and every wrong one is told all that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_study import TOML, write_toml

from clmsda.networks import VARIANTS
from clmsda.studies.config import Study, dotted, lay_over, read_study, slug
from clmsda.training import ConfigError

SHIPPED = sorted((Path(__file__).parent.parent / "studies").glob("*.toml"))
PAPERS = ["U-Net", "U-Net + MS", "U-Net + MSDA", "CL-MSDA-Net"]
LEAST = """
name = "a"
split = "none"
cohort = {{ folder = "{cohort}" }}
[training]
data = {{ source = "phantoms" }}
patches = {{ reference_spacing_mm = 2.0, mean_size_mm = 46.0 }}
"""


def read(folder: Path, text: str, *overrides: str) -> Study:
    return read_study(write_toml(folder, folder / "cohort", text), overrides)


def refusal(folder: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as error:
        read(folder, text, *overrides)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{folder / 'study.toml'}: ")
    return str(error.value)


def test_the_studies_that_ship() -> None:
    names = {path.stem for path in SHIPPED}
    assert names >= {"vhsmc", "nsclc_radiomics", "phantom", "phantom_full", "smoke", "choices", "nsclc_cubes"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_study_is_valid(path: Path) -> None:
    study = read_study(path)
    assert study.name == path.stem and study.title
    if not study.trains_on_phantoms:
        assert [variant.name for variant in study.variants][: len(PAPERS)] == PAPERS
        for variant in study.variants[: len(PAPERS)]:
            config = study.training_config(variant, 1, source="cohort")
            wanted = VARIANTS[variant.name]
            assert (config.network.block, config.loss.pairs) == (wanted.block, wanted.pairs)


def test_the_phantom_study_asks_what_makes_the_method_work() -> None:
    (path,) = (path for path in SHIPPED if path.stem == "phantom")
    study = read_study(path)
    found = {one.name: study.training_config(one, 1, source="cohort") for one in study.variants[len(PAPERS) :]}
    assert {name: (one.network.block, one.loss.pairs, one.loss.weight) for name, one in found.items()} == {
        "U-Net on pairs": ("none", True, 1.0),
        "U-Net on pairs without consistency": ("none", True, 0.0),
    }


def test_the_study_of_real_cubes_parts_pairs_blocks_consistency_and_dimensions() -> None:
    (path,) = (path for path in SHIPPED if path.stem == "nsclc_cubes")
    study = read_study(path)
    made = {one.name: study.training_config(one, 1, source="cohort") for one in study.variants}
    found = {name: (c.loss.pairs, c.network.block, c.loss.weight > 0 and c.loss.pairs) for name, c in made.items()}
    assert found["U-Net on pairs"] == (True, "none", False)
    assert found["MSDA on pairs"] == (True, "msda", False)
    assert found["CL-MSDA-Net"] == (True, "msda", True)
    assert [name for name, c in made.items() if c.network.spatial_dims == 3] == ["3-D CL-MSDA-Net"]
    assert len(study.seeds) >= 2 and study.split is not None and study.split.folds == 3


@pytest.mark.parametrize(("name", "folds", "spacing"), [("vhsmc", 5, 0.52), ("nsclc_radiomics", None, 0.977)])
def test_the_papers_settings(name: str, folds: int | None, spacing: float) -> None:
    (path,) = (path for path in SHIPPED if path.stem == name)
    study = read_study(path)
    assert study.split is not None and study.split.folds == folds and study.published == name
    config = study.training_config(study.variants[-1], 1, source="cohort")
    assert config.patches.shape == (256, 256) and config.patches.reference_spacing_mm == spacing
    assert config.patches.mean_size_mm is None  # of the training part
    assert (config.network.width, config.network.levels, config.data.samples_per_slice) == (64, 5, 5)
    assert (config.optimization.epochs, config.optimization.patience, config.optimization.decay) == (100, 25, 0.95)


def test_the_papers_variants_are_the_default(tmp_path: Path) -> None:
    study = read(tmp_path, LEAST)
    assert [variant.name for variant in study.variants] == PAPERS
    assert [variant.slug for variant in study.variants] == ["u-net", "u-net-ms", "u-net-msda", "cl-msda-net"]


def test_a_variant_is_its_differences(tmp_path: Path) -> None:
    text = (
        LEAST + "[[variants]]\nname = 'wide'\n'network.width' = 32\nloss.weight = 0.5\n[[variants]]\nname = 'plain'\n"
    )
    wide, plain = read(tmp_path, text + "variant = 'U-Net'\n").variants
    assert wide.differences == {"network.width": 32, "loss.weight": 0.5}
    assert plain.differences == {"variant": "U-Net"}


def test_a_variant_takes_the_place_of_what_its_base_says(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        "name = 'b'\nvariant = 'CL-MSDA-Net'\nseed = 9\n[network]\nwidth = 16\nlevels = 3\n"
    )
    text = LEAST.replace("[training]", "[training]\nbase = 'base.toml'\nnetwork.levels = 2") + (
        "[[variants]]\nname = 'plain'\nvariant = 'U-Net'\n[[variants]]\nname = 'same'\n"
    )
    study = read(tmp_path, text)
    plain, same = (study.training_config(variant, 3, source="phantoms") for variant in study.variants)
    assert (plain.network.block, plain.loss.pairs, plain.seed, plain.name) == ("none", False, 3, "a-plain")
    assert (same.network.block, same.loss.pairs) == ("msda", True)
    assert {config.network.width for config in (plain, same)} == {16}
    assert {config.network.levels for config in (plain, same)} == {2}


def test_overrides_change_a_study(tmp_path: Path) -> None:
    study = read(tmp_path, TOML, "cohort.folder=elsewhere", "seeds=[5]", "training.network.width=8")
    assert (study.cohort.folder, study.seeds) == ("elsewhere", (5,))
    assert study.training_config(study.variants[0], 5, source="cohort").network.width == 8


TWICE = "[[variants]]\nname = 'CL-MSDA Net'\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LEAST + "[[variants]]\nname = 'x'\nvariant = 'U-Net++'", "variant: expected one of U-Net, U-Net + MS"),
        (LEAST + "[[variants]]\nname = 'x'\n'network.wdith' = 4", "variant 'x': training: network.wdith: unknown key"),
        (TOML + TWICE, "names that differ in letters or digits, found 'CL-MSDA-Net', 'CL-MSDA Net'"),
        (LEAST + "[[variants]]\nname = '+'", "a name needs a letter or a digit"),
        (LEAST + "[[peers]]\nname = 'x'", "either a folder of predictions or a method"),
        (
            LEAST + "[[peers]]\nname = 'x'\nmethod = 'region-growing'\nprotocol = 'oracle'",
            "the protocol of region-growing is prompted, found oracle",
        ),
        (LEAST.replace('"none"', "{{ folds = 5 }}"), 'set split = "none"'),
        (LEAST.replace('split = "none"', ""), "split: expected a value, found none"),
        (TOML.replace("test_fraction = 0.4", ""), "one of folds, test_fraction and file"),
        (TOML.replace("test_fraction = 0.4", "folds = 1"), "split.folds: "),
        (TOML.replace("test_fraction = 0.4", "folds = 3\ntest_fraction = 0.1"), "one of folds, test_fraction and file"),
        (TOML.replace("folder = ", "fodler = "), "cohort.fodler: unknown key"),
        (TOML.replace('folder = "{cohort}"', ""), "cohort: expected a folder or phantoms, found neither"),
        (TOML.replace("[1]", "[1, 1]"), "seeds: found one twice"),
        (TOML.replace("[1]", "[1]\nprotocols = ['click']"), "protocols.0: "),
        (TOML.replace("[1]", "[1]\nclick = {{ jitter = 2.0 }}"), "click.jitter: "),
        (TOML.replace("[1]", "[1]\npublished = 'nature'"), "published: "),
        (TOML.replace("levels = 2", "levels = 9"), "patches.shape must be divisible by 256"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_what_is_wrong_with_every_variant_is_said_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, TOML.replace("width = 4", "width = 5"))
    assert message.count("width must be a multiple of 4") == 1


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    shape = refusal(tmp_path, TOML + "mehtod = 1\n", "seeds=[]", "split.seed=x", "nmae=b", "cohort.phantoms.cases=1")
    assert all(
        word in shape for word in ("peers.0.mehtod:", "seeds:", "split.seed:", "nmae:", "cohort.phantoms.cases:")
    )
    sense = refusal(tmp_path, TOML + TWICE + "'network.width' = 5\n[[peers]]\nname = 'x'\n", "seeds=[1, 1]")
    assert all(word in sense for word in ("seeds:", "differ in letters", "multiple of 4", "peer 'x'"))


def test_the_example_in_the_documentation_is_valid(tmp_path: Path) -> None:
    repository = Path(__file__).parent.parent
    text = (repository / "docs" / "studies.md").read_text(encoding="utf8")
    example = text.split("```toml\n")[1].split("```")[0].replace("..", str(repository))
    (tmp_path / "study.toml").write_text(example, encoding="utf8")
    study = read_study(tmp_path / "study.toml")
    assert [row.slug for row in (*study.variants, *study.peers)] == [
        "cl-msda-net", "half-the-width", "nnu-net", "region-growing",
    ]  # fmt: skip
    assert study.training_config(study.variants[1], 1, source="cohort").network.width == 32


def test_a_base_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*gone\.toml"):
        read(tmp_path, LEAST.replace("[training]", "[training]\nbase = 'gone.toml'"))


def test_dotted_keys_and_back() -> None:
    nested = {"a": {"b": {"c": 1}}, "d": [1, 2]}
    assert dotted(nested) == {"a.b.c": 1, "d": [1, 2]}
    assert lay_over({"a": 3}, dotted(nested)) == nested
    assert lay_over(nested, {"a.b.c": 2}) == {"a": {"b": {"c": 2}}, "d": [1, 2]}
    assert nested["a"] == {"b": {"c": 1}}  # left as it was
    assert slug("U-Net + MSDA (no pairs)") == "u-net-msda-no-pairs"

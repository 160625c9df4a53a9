"""The configuration of one training run: frozen dataclasses, read from one TOML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from clmsda.errors import InputError
from clmsda.networks import VARIANTS, NetworkConfig
from clmsda.patches import AugmentationConfig, PatchConfig

FORBID = {"extra": "forbid", "allow_inf_nan": False}
PHANTOMS = "phantoms"
DEEPEST = 20
"""So many tables and lists within each other are enough for any configuration; far more overflow Python's stack."""


Positive = Annotated[float, Field(gt=0)]


def _rising(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] >= limits[1]:
        raise ValueError(f"expected a smaller and a larger size, found {list(limits)}")
    return limits


class ConfigError(InputError):
    """A TOML that is not a valid configuration; the message lists every error with its dotted path."""


@dataclass(frozen=True)
class CohortShare:
    """A cohort of real tumors among the phantoms.

    folder: of the cohort (`clmsda cohort import`). share: of an epoch's samples that come from it.
    patients: a table (CSV) with the columns patient and part; those of the part `train` are trained on,
        those of `validation` validated on, and nobody else is read.
    """

    __pydantic_config__: ClassVar = FORBID

    folder: str
    share: Annotated[float, Field(gt=0, le=1)]
    patients: str


@dataclass(frozen=True)
class DataConfig:
    """Where training samples come from.

    source: "phantoms" renders synthetic chests on the patch grids as they are needed; anything else
        is the folder of a cohort (a relative one starts from the current folder).
    samples_per_epoch, validation_samples: how many phantoms (ignored for a cohort).
    backgrounds, background_share: a folder of real chests (`clmsda background`) that this share of the training
        phantoms' tumors is set into. Validation sees phantoms alone.
    cavity_share: of the larger solid tumors of training phantoms, how many have a cavity; None for as many as
        validation always sees (`phantoms.CAVITIES`).
    even_share: of the training phantoms, how many have a tumor of any size, site and kind alike
        (`phantoms.draw_evenly`); the others' are distributed as the hospital's.
    cohorts: real tumors that take the place of so many phantoms, each cohort with its share.
    samples_per_slice: augmented samples of each tumor slice per epoch of a cohort (the paper: five).
    slice_step_mm: 2-D samples are of one tumor slice, drawn anew in every epoch, in each so many mm of a cohort's
        tumors; None for each slice. Slices that were resampled from thicker ones tell no more than these.
    validation_fraction: share of a cohort's patients held out, stratified by size group.
    split, fold: a split file (`clmsda cohort split`) and which of its folds, counted from 0, decide instead
        who is trained on and who is held out; a split of one fold needs no `fold`.
    workers: processes that prepare samples; 0 prepares them in the training process.
    """

    __pydantic_config__: ClassVar = FORBID

    source: str = PHANTOMS
    samples_per_epoch: Annotated[int, Field(gt=0)] = 512
    validation_samples: Annotated[int, Field(gt=0)] = 64
    backgrounds: str | None = None
    background_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    cavity_share: Annotated[float, Field(ge=0, le=1)] | None = None
    even_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    cohorts: tuple[CohortShare, ...] = ()
    samples_per_slice: Annotated[int, Field(gt=0)] = 5
    slice_step_mm: Positive | None = None
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    split: str | None = None
    fold: Annotated[int, Field(ge=0)] | None = None
    workers: Annotated[int, Field(ge=0)] = 1


@dataclass(frozen=True)
class PromptingConfig:
    """How often training draws a line or a box, instead of a click, and how many of the clicks are near the edge."""

    __pydantic_config__: ClassVar = FORBID

    lines: Annotated[float, Field(ge=0, le=1)] = 0.0
    boxes: Annotated[float, Field(ge=0, le=1)] = 0.0
    edge: Annotated[float, Field(ge=0, le=1)] = 0.0


@dataclass(frozen=True)
class AgainConfig:
    """The second look, which sees what the first one found.

    fine: share of the second looks that are fine: the tumor spans `span` of the mean tumor's voxels (a
        factor drawn between both), anywhere on it. The others look at the size-invariant view again.
    corrections: up to so many clicks into the first look's errors; half of the fine looks have none.
    """

    __pydantic_config__: ClassVar = FORBID

    fine: Annotated[float, Field(ge=0, le=1)] = 0.75
    span: Annotated[tuple[Positive, Positive], AfterValidator(_rising)] = (2.0, 2.8)
    corrections: Annotated[int, Field(ge=0)] = 3


@dataclass(frozen=True)
class SearchConfig:
    """Training of a detector: windows that lie anywhere, in which every tumor's center is to be found.

    shift_mm: the window's middle lies within this of the tumor's center along each axis; a share `strays` of the
        synthetic ones within stray_mm, so mostly without a tumor.
    """

    __pydantic_config__: ClassVar = FORBID

    shift_mm: Positive = 45.0
    strays: Annotated[float, Field(ge=0, le=1)] = 0.3
    stray_mm: Positive = 130.0


@dataclass(frozen=True)
class ViewConfig:
    """How the two views of a pair are chosen.

    size_error: 1 is the paper: the size-variant view shows every tumor at the reference spacing, the
        size-invariant one at its true size. Above 1, training is for self-sizing: the size-variant
        view assumes a size within `assumed_mm` that is wrong by a factor of up to `size_error` either
        way, and the size-invariant one a size that is nearly right (log-normal, 15 %).
    assumed_mm: smallest and largest size that self-sizing tries.
    click_radius: views are centered at a click this far (as a fraction of the way to the tumor's
        edge) from the tumor's center, at most; 0 is the paper's true center.
    recentered: share of pairs whose views are centered at the tumor instead, off by about a tenth of
        its size, while the prompt stays where the click was: what self-sizing does when it looks again.
    cropped: share of pairs shown as if the scan ended near the tumor or within it, its border continued
        outwards: else, where a crop ends tells how large its tumor is. What lies beyond carries no loss.
    prompting: which prompts are drawn. again: a second look at every pair; None for none.
    search: train a detector instead, on the size-variant view alone; None for the outline of a tumor.
    augmentation: one draw for both views of a pair.
    """

    __pydantic_config__: ClassVar = FORBID

    size_error: Annotated[float, Field(ge=1, le=10)] = 1.0
    assumed_mm: Annotated[tuple[Positive, Positive], AfterValidator(_rising)] = (6.0, 150.0)
    click_radius: Annotated[float, Field(ge=0, le=1)] = 0.0
    recentered: Annotated[float, Field(ge=0, le=1)] = 0.0
    cropped: Annotated[float, Field(ge=0, le=1)] = 0.0
    prompting: PromptingConfig = field(default_factory=PromptingConfig)
    again: AgainConfig | None = None
    search: SearchConfig | None = None
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)


@dataclass(frozen=True)
class LossConfig:
    """pairs: train on both views (CL-MSDA-Net), else on the size-variant one alone.

    consistency: distance of the two consistency terms; weight: their factor (paper: 1).
    """

    __pydantic_config__: ClassVar = FORBID

    pairs: bool = True
    consistency: Literal["mse", "dice", "l1"] = "mse"
    weight: Annotated[float, Field(ge=0)] = 1.0


@dataclass(frozen=True)
class OptimizationConfig:
    """Adam with the learning rate multiplied by `decay` after every epoch (paper section 2.4).

    batch_size: samples (pairs) per step over all ranks. patience: epochs without a better validation
    F1 before stopping. average: what is validated and kept is a running average of the weights that keeps
    this much of itself at every step; 0 for the weights of the last step. anchor: a model (as `start`) towards
    which what is kept lies, by `anchor_share` of the way: it keeps what that model knew (WiSE-FT). start: a
    model (a file, or the name of a shipped one) whose weights to begin with, instead of random ones; further
    input channels begin at zero. precision: "auto" is bfloat16 autocast on CUDA and on CPUs that have
    instructions for it (AMX, AVX512-BF16), where it is two to three times as fast, and float32 elsewhere, where
    bfloat16 is many times slower.
    """

    __pydantic_config__: ClassVar = FORBID

    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    decay: Annotated[float, Field(gt=0, le=1)] = 0.95
    epochs: Annotated[int, Field(gt=0)] = 100
    patience: Annotated[int, Field(gt=0)] = 25
    batch_size: Annotated[int, Field(gt=0)] = 8
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    anchor: str | None = None
    anchor_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 5.0
    start: str | None = None


@dataclass(frozen=True)
class TrainingConfig:
    """One training run."""

    __pydantic_config__: ClassVar = FORBID

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.+-]*$")]
    seed: Annotated[int, Field(ge=0)] = 0
    data: DataConfig = field(default_factory=DataConfig)
    patches: PatchConfig = field(default_factory=PatchConfig)
    views: ViewConfig = field(default_factory=ViewConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)


def read_config(path: Path | str, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read a TOML, apply `key.path=value` overrides, and check everything at once.

    Besides the fields of TrainingConfig, a top-level `variant` names one of the paper's four networks.

    Raises ConfigError for a file that is missing or no TOML, an unknown key, a wrong type or a value
    out of range.
    """
    return check(read_values(path, overrides), str(path))


def read_values(path: Path | str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The values of a TOML with `key.path=value` overrides applied, unchecked. Raises ConfigError."""
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, too, which tomllib leaves to int
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    if _depth(values) > DEEPEST:
        raise ConfigError(f"{path}: expected tables within tables up to {DEEPEST} deep, found them deeper")
    for override in overrides:
        _override(values, override)
    return values


def _depth(values: Any) -> int:
    """How many tables and lists are within each other."""
    depth, level = 0, [values]
    while level:
        inner = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        depth, level = depth + bool(inner), [value for values in inner for value in values]
    return depth


def check(values: dict[str, Any], where: str) -> TrainingConfig:
    """Validate a parsed TOML: strict types, unknown keys refused, contradictions named."""
    values = _with_variant(values, where)
    try:
        # Strict JSON mode takes lists for tuples and integers for floats, but no text for numbers.
        config = _adapter().validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError(f"{where}: {problems(error)}") from error
    contradictions = list(_contradictions(config))
    if contradictions:
        raise ConfigError(f"{where}: " + "; ".join(contradictions))
    return config


@cache
def _adapter() -> TypeAdapter[TrainingConfig]:
    """Made once: building it takes far longer than using it."""
    return TypeAdapter(TrainingConfig)


def problems(error: ValidationError) -> str:
    """Every error of a validation with its dotted path, in one line."""
    return "; ".join(map(_problem, error.errors()))


def _problem(error: ErrorDetails) -> str:
    path, kind = ".".join(map(str, error["loc"])), error["type"]
    if kind == "unexpected_keyword_argument":
        return f"{path}: unknown key"
    if kind == "missing":
        return f"{path}: expected a value, found none"
    if kind == "value_error":  # from the dataclass's own check, which says what it found
        return f"{path}: {error['ctx']['error']}"
    return f"{path}: {error['msg']} (found {error['input']!r})"


def _contradictions(config: TrainingConfig) -> Iterator[str]:
    dims, step = config.patches.spatial_dims, config.network.size_multiple
    if dims != config.network.spatial_dims:
        yield f"patches.shape has {dims} lengths, but network.spatial_dims is {config.network.spatial_dims}"
    if config.patches.channels != config.network.in_channels:
        made, taken = config.patches.channels, config.network.in_channels
        yield f"patches make {made} channels, but network.in_channels is {taken}"
    if any(n % step for n in config.patches.shape):
        folded = f" and network.fold = {config.network.fold}" * (config.network.fold > 1)
        yield f"patches.shape must be divisible by {step} for network.levels = {config.network.levels}{folded}"
    if config.data.source == PHANTOMS and None in (config.patches.reference_spacing_mm, config.patches.mean_size_mm):
        yield "patches.reference_spacing_mm and patches.mean_size_mm must be given for phantoms"
    if config.data.source == PHANTOMS and config.data.split is not None:
        yield "data.split divides a cohort, but data.source is phantoms"
    if config.data.source != PHANTOMS and config.data.backgrounds is not None:
        yield "data.backgrounds are for phantoms, but data.source is a cohort"
    if config.data.source != PHANTOMS and config.data.cohorts:
        yield "data.cohorts stand among phantoms, but data.source is a cohort"
    if sum(cohort.share for cohort in config.data.cohorts) > 1:
        yield "data.cohorts: shares add up to more than 1"
    if config.views.again is not None and not (config.patches.corrections and dims == 3 and config.loss.pairs):
        yield "views.again needs patches.corrections, patches of three dimensions, and loss.pairs"
    if config.views.search is not None and (config.loss.pairs or config.patches.mark_prompt or dims == 2):
        yield "views.search needs patches of three dimensions without mark_prompt, and loss.pairs = false"
    if config.data.fold is not None and config.data.split is None:
        yield "data.fold counts the folds of data.split, which is not given"


def _with_variant(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Spell out `variant`, one of the paper's four: it decides network.block and loss.pairs."""
    if "variant" not in values:
        return values
    name = values["variant"]
    if name not in list(VARIANTS):  # a list, as the value may be anything
        raise ConfigError(f"{where}: variant: expected one of {', '.join(VARIANTS)}; found {name!r}")
    spelled = {key: value for key, value in values.items() if key != "variant"}
    for table, key, value in (("network", "block", VARIANTS[name].block), ("loss", "pairs", VARIANTS[name].pairs)):
        given = spelled.get(table, {})
        if not isinstance(given, dict):
            continue  # the wrong type is reported with all others
        if given.get(key, value) != value:
            raise ConfigError(
                f"{where}: {table}.{key} = {given[key]!r} contradicts variant {name!r}: give one of the two"
            )
        spelled[table] = given | {key: value}
    return spelled


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = (part.strip() for part in override.partition("="))
    if not equals or not key:
        raise ConfigError(f"--set expects key.path=value, found {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text  # a bare word is text, so that --set data.source=cohort needs no quotes
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: {parent!r} is a value, not a table")
    values[last] = value

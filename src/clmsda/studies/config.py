"""The configuration of a study: one TOML names a cohort, a split, variants as differences, seeds and protocols.

A study trains variants x folds x seeds from one training configuration (`[training]`, the keys of a training
TOML), to which each variant adds its differences; peers are evaluated beside them without being trained.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from json import dumps
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter, ValidationError

from clmsda import models
from clmsda.errors import InputError
from clmsda.networks import VARIANTS
from clmsda.training import ConfigError, TrainingConfig
from clmsda.training.config import PHANTOMS, check, problems, read_values

FORBID = {"extra": "forbid", "allow_inf_nan": False}

Protocol = Literal["oracle", "estimated", "prompted", "automatic"]
PROTOCOLS = {
    "oracle": "true center and size, the tumor's slices only (the paper's)",
    "estimated": "true center, size estimated",
    "prompted": "a click in the tumor, all slices",
    "automatic": "nothing given, all slices of the slab around the tumor",
}
"""What each protocol gives to a method (design section 2.5)."""

Name = Annotated[str, Field(min_length=1, max_length=60)]
Count = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class StudyError(InputError):
    """A study's folder that is damaged, belongs to another study, or lacks what the study needs."""


@dataclass(frozen=True)
class PhantomConfig:
    """Synthetic cases: number i is phantom `seed + i`, with `matrix` rows and columns; see `clmsda phantom`."""

    __pydantic_config__: ClassVar = FORBID

    cases: Annotated[int, Field(ge=3)]
    seed: Seed = 0
    matrix: Annotated[int, Field(ge=64, le=1024)] = 512


@dataclass(frozen=True)
class CohortConfig:
    """Whose tumors: those in a folder (a relative one starts from the current folder), or phantoms.

    Phantoms are written by the study where they are missing: into `folder`, or else beside the runs.
    """

    __pydantic_config__: ClassVar = FORBID

    folder: str | None = None
    phantoms: PhantomConfig | None = None


@dataclass(frozen=True)
class SplitConfig:
    """How patients are shared out: `folds` of cross-validation, a hold-out of `test_fraction`, or a split file.

    validation_fraction: share of the patients outside the test part by which training is stopped.
    """

    __pydantic_config__: ClassVar = FORBID

    folds: Annotated[int, Field(ge=2)] | None = None
    test_fraction: Fraction | None = None
    file: str | None = None
    validation_fraction: Fraction = 0.2
    seed: Seed = 0

    @property
    def kind(self) -> str:
        return "k-fold" if self.folds else "hold-out" if self.test_fraction else "file"


@dataclass(frozen=True)
class ClickConfig:
    """Clicks of the prompted protocol: anywhere within this share of the way from the center to the edge.

    per_case: scores are means over so many clicks. They depend on seed and case alone: every method gets the same.
    """

    __pydantic_config__: ClassVar = FORBID

    jitter: Annotated[float, Field(ge=0, le=1)] = 0.5
    per_case: Count = 1
    seed: Seed = 0


@dataclass(frozen=True)
class AutomaticConfig:
    """Who says where tumors may be, for the automatic protocol: a model that finds them, shipped (a name) or a file's.

    patients: the table by which the detector's training parted patients (patient, collection, part): it tells which
    test patients the detector has seen.
    """

    __pydantic_config__: ClassVar = FORBID

    detector: str = models.DETECTOR
    patients: str | None = None


@dataclass(frozen=True)
class Variant:
    """A row of the study: how its training differs, as dotted keys of a training TOML with their values."""

    __pydantic_config__: ClassVar = FORBID

    name: Name
    differences: dict[str, Any] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        return slug(self.name)


METHODS: dict[str, Protocol] = {"region-growing": "prompted", "ball": "oracle"}
"""What each method of a peer is given."""


@dataclass(frozen=True)
class Peer:
    """A row that is not trained here: masks of another system by case name, or a method without a network.

    predictions: a folder with CASE.nii.gz (or another format of masks) on the CT's grid or the slab's.
    method: region growing from a click, or all that is dense in a ball of the true size at the true center.
    protocol: what the peer was given; masks of a folder count as automatic unless something was.
    multiplier: of region growing's standard deviations; 2.5 does best on the real cases of benchmarks/real_cases.py.
    """

    __pydantic_config__: ClassVar = FORBID

    name: Name
    predictions: str | None = None
    method: Literal["region-growing", "ball"] | None = None
    protocol: Protocol | None = None
    multiplier: Annotated[float, Field(gt=0)] = 2.5

    @property
    def slug(self) -> str:
        return slug(self.name)

    @property
    def given(self) -> Protocol:
        """The protocol that its scores stand under."""
        return self.protocol or (METHODS[self.method] if self.method else "automatic")


PAPER = tuple(Variant(name, {"variant": name}) for name in VARIANTS)


@dataclass(frozen=True)
class Study:
    """Everything that decides a study's results, and its title. split: None where every case is tested.

    published: whose figures the report prints beside, the paper's hospital cohort or its public one.
    """

    __pydantic_config__: ClassVar = FORBID

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.+-]*$")]
    cohort: CohortConfig
    split: SplitConfig | None
    training: dict[str, Any]
    title: str = ""
    variants: Annotated[tuple[Variant, ...], Field(min_length=1)] = PAPER
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (1,)
    protocols: Annotated[tuple[Protocol, ...], Field(min_length=1)] = ("oracle", "estimated", "prompted")
    click: ClickConfig = field(default_factory=ClickConfig)
    automatic: AutomaticConfig = field(default_factory=AutomaticConfig)
    peers: tuple[Peer, ...] = ()
    published: Literal["vhsmc", "nsclc_radiomics"] | None = None

    @property
    def trains_on_phantoms(self) -> bool:
        """Whether training renders its samples on the fly, instead of reading the cohort."""
        return bool(dotted(self.training).get("data.source") == PHANTOMS)

    def training_values(self, variant: Variant) -> dict[str, Any]:
        """The training TOML of a variant: the study's, with the variant's differences laid over it."""
        return lay_over(self.training, variant.differences)

    def epochs(self, variant: Variant) -> int:
        """How many epochs a variant trains at most."""
        return self.training_config(variant, self.seeds[0]).optimization.epochs

    def training_config(self, variant: Variant, seed: int, **data: object) -> TrainingConfig:
        """The configuration of one run. data: `source`, `split`, `fold`, for a cohort. Raises ConfigError."""
        values = self.training_values(variant)
        known = {"source": PHANTOMS if self.trains_on_phantoms else "cohort"} | data
        changes = {"name": f"{self.name}-{variant.slug}", "seed": seed}
        changes |= {f"data.{key}": value for key, value in known.items()}
        return check(lay_over(values, changes), "training")


def read_study(path: Path | str, overrides: Sequence[str] = ()) -> Study:
    """Read a study's TOML, apply `key.path=value` overrides, and check everything at once.

    `training.base` names a training TOML, from the study's folder, over which the other keys of
    `[training]` are laid. Raises ConfigError for whatever is wrong, in the study or in any variant's training.
    """
    path = Path(path)
    values = read_values(path, overrides)
    training = values.get("training")
    if isinstance(training, dict) and "base" in training:
        base = read_values(path.parent / str(training["base"]))
        values["training"] = lay_over(base, dotted({key: training[key] for key in training if key != "base"}))
    return check_study(values, str(path))


def check_study(values: dict[str, Any], where: str) -> Study:
    """Validate a parsed study: strict types, unknown keys refused, contradictions named, every variant checked."""
    try:
        study = TypeAdapter(Study).validate_json(dumps(_spelled(values), default=str), strict=True)
    except ValidationError as error:
        raise ConfigError(f"{where}: {problems(error)}") from error
    wrong = [*_contradictions(study), *_wrong_variants(study)]
    if wrong:
        raise ConfigError(f"{where}: " + "; ".join(wrong))
    return study


def _spelled(values: dict[str, Any]) -> dict[str, Any]:
    """`split = "none"` as None, and what a variant holds besides its name as its differences."""
    spelled = dict(values)
    if spelled.get("split") == "none":
        spelled["split"] = None
    variants = spelled.get("variants")
    if isinstance(variants, list):
        spelled["variants"] = [_variant(one) if isinstance(one, dict) else one for one in variants]
    return spelled


def _variant(values: dict[str, Any]) -> dict[str, Any]:
    differences = dotted({key: value for key, value in values.items() if key != "name"})
    return {"differences": differences} | ({"name": values["name"]} if "name" in values else {})


def _contradictions(study: Study) -> Iterator[str]:
    rows: list[Variant | Peer] = [*study.variants, *study.peers]
    for row in rows:
        same = [other.name for other in rows if other.slug == row.slug]
        if not row.slug:
            yield f"{row.name!r}: a name needs a letter or a digit, as a folder is named by it"
        elif len(same) > 1 and same[0] is row.name:
            yield f"variants and peers need names that differ in letters or digits, found {', '.join(map(repr, same))}"
    for what, values in (("seeds", study.seeds), ("protocols", study.protocols)):
        if len(set(values)) < len(values):
            yield f"{what}: found one twice in {list(values)}"
    for peer in study.peers:
        if (peer.predictions is None) == (peer.method is None):
            yield f"peer {peer.name!r}: expected either a folder of predictions or a method"
        if peer.method and peer.given != METHODS[peer.method]:
            yield f"peer {peer.name!r}: the protocol of {peer.method} is {METHODS[peer.method]}, found {peer.given}"
    if study.cohort.folder is None and study.cohort.phantoms is None:
        yield "cohort: expected a folder or phantoms, found neither"
    yield from _wrong_split(study)


def _wrong_split(study: Study) -> Iterator[str]:
    split = study.split
    if study.trains_on_phantoms and split is not None:
        yield 'split: training on phantoms as they are rendered leaves the whole cohort to test on: set split = "none"'
    if not study.trains_on_phantoms and split is None:
        yield "split: expected folds, test_fraction or file, as training.data.source is not phantoms"
    if split is not None and [split.folds, split.test_fraction, split.file].count(None) != 2:
        yield "split: expected one of folds, test_fraction and file"


def _wrong_variants(study: Study) -> Iterator[str]:
    """What is wrong with the variants' training; once, where it is wrong with all of them."""
    names: dict[str, list[str]] = {}
    for variant in study.variants:
        try:
            study.training_config(variant, study.seeds[0])
        except ConfigError as error:
            names.setdefault(str(error), []).append(variant.name)
    for message, wrong in names.items():
        yield message if 1 < len(wrong) == len(study.variants) else f"variant {', '.join(map(repr, wrong))}: {message}"


def slug(name: str) -> str:
    """A folder's name: "U-Net + MSDA" is u-net-msda."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def dotted(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def lay_over(values: dict[str, Any], differences: dict[str, Any]) -> dict[str, Any]:
    """Nested tables with dotted keys set in a copy of them.

    `variant` stands for network.block and loss.pairs, so it takes the place of what `values` says of these.
    """
    laid = deepcopy(values)
    if "variant" in differences:
        for name, key in (("network", "block"), ("loss", "pairs")):
            if isinstance(laid.get(name), dict):
                laid[name].pop(key, None)
    for path, value in differences.items():
        *parents, last = path.split(".")
        table: dict[str, Any] = laid
        for parent in parents:
            if not isinstance(table.get(parent), dict):
                table[parent] = {}
            table = table[parent]
        table[last] = value
    return laid

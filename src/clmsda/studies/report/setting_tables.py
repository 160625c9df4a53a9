"""Tables 1 to 3: who was studied, how, and how tumors of each size were shared out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from clmsda.cohorts import Cohort, describe
from clmsda.studies.report.published import PUBLISHED, Published
from clmsda.studies.report.table import MINUS, PAPER, TIMES, Cell, Column, Table
from clmsda.studies.results import Results
from clmsda.training import TrainingConfig
from clmsda.training.config import PHANTOMS


def table_1(results: Results, cohort: Cohort | None) -> Table:
    """Patients and tumors: this study's cohort beside both of the paper."""
    columns = [Column("Characteristic"), Column(results.study.name, "this study")]
    columns += [Column(published.name, PAPER, paper=True) for published in PUBLISHED.values()]
    ours: dict[str, Cell] = dict(_pair(row) for row in describe.characteristics(cohort.cases).rows) if cohort else {}
    theirs = [_published_characteristics(published) for published in PUBLISHED.values()]
    names = _merged(list(ours), list(theirs[0]))
    rows: list[tuple[Cell, ...]] = [(name, ours.get(name), *(column.get(name) for column in theirs)) for name in names]
    rows.append(("Validation", results.validation, *(published.validation for published in PUBLISHED.values())))
    notes = ["Size: longest diameter in the axial slice of largest area."]
    if cohort is None:
        notes.append("This study's cohort could not be read.")
    caption = "Patients and tumors of this study's cohort, beside the paper's two cohorts."
    return Table("table_1_cohort", "Table 1", results.caption(caption), tuple(columns), tuple(rows), tuple(notes))


def _pair(row: Sequence[str]) -> tuple[str, str]:
    name, value = row
    return name, value


def _merged(names: list[str], others: list[str]) -> list[str]:
    """Both lists in one order: a name that only the others have stands after the one before it there."""
    merged = list(names)
    for before, name in zip(["", *others], others, strict=False):
        if name not in merged:
            merged.insert(merged.index(before) + 1 if before in merged else 0, name)
    return merged


def _published_characteristics(cohort: Published) -> dict[str, Cell]:
    def share(count: int) -> str:
        return f"{count} ({100 * count / cohort.patients:.0f} %)"

    return {
        "Patients": str(cohort.patients),
        "Tumors": str(cohort.patients),
        "Histology: adenocarcinoma": share(cohort.adenocarcinoma),
        "Histology: squamous cell carcinoma": share(cohort.squamous),
        "Size, mean ± SD, cm": f"{cohort.mean_cm:.2f} ± {cohort.sd_cm:.2f}",
        "Size, range, cm": f"{cohort.size_cm[0]:.2f} to {cohort.size_cm[1]:.2f}",
        "Pixel spacing, median (range), mm": f"from {cohort.spacing_mm:g}",
        "Distance between slices, median (range), mm": cohort.slice_mm,
    }


def table_2(results: Results) -> Table:
    """Settings of training and evaluation, read from the configuration that every run was trained with."""
    columns = (Column("Setting"), Column("this study"), Column(PAPER, paper=True))
    configs: dict[str, list[TrainingConfig]] = {}
    for record in results.records:
        if record.config is not None:
            configs.setdefault(record.run.row.name, []).append(record.config)
    rows: list[tuple[Cell, ...]] = [
        ("Split", results.validation, "5-fold (VHSMC); hold-out (NSCLC-Radiomics)"),
        *((name, _all(configs, read), theirs) for name, read, theirs in _SETTINGS),
        ("Seeds", ", ".join(map(str, results.study.seeds)), "not known"),
        ("Protocols", ", ".join(results.study.protocols), "oracle"),
    ]
    caption = "Settings. Where variants or folds differ, every value is given."
    return Table("table_2_settings", "Table 2", caption, columns, tuple(rows))


def _all(configs: Mapping[str, Sequence[TrainingConfig]], read: Callable[[TrainingConfig], str]) -> str:
    """What the runs of each variant were set to; variants are named where they differ."""
    names: dict[str, list[str]] = {}
    for name, own in configs.items():
        names.setdefault("; ".join(dict.fromkeys(map(read, own))), []).append(name)
    if not names:
        return "no run has begun"
    if len(names) == 1:
        return next(iter(names))
    return ". ".join(f"{', '.join(those)}: {value}" for value, those in names.items())


def _windows(config: TrainingConfig) -> str:
    return ", ".join(f"{low:g} to {high:g} HU" for low, high in config.patches.windows_hu).replace("-", MINUS)


def _augmentation(config: TrainingConfig) -> str:
    drawn = config.views.augmentation
    rotation, shift = f"rotation ±{drawn.rotation_deg:g} degrees", f"shift ±{drawn.shift:g} pixels"
    return f"{rotation}, {shift}, scale {1 - drawn.scaling:g} to {1 + drawn.scaling:g}"


def _samples(config: TrainingConfig) -> str:
    if config.data.source == PHANTOMS:
        return f"{config.data.samples_per_epoch} phantoms per epoch"
    step = config.data.slice_step_mm
    each = "tumor" if config.network.spatial_dims == 3 else f"{step:g} mm of tumor" if step else "tumor slice"
    return f"{config.data.samples_per_slice} per {each} and epoch"


def _network(config: TrainingConfig) -> str:
    network = config.network
    return (
        f"{network.spatial_dims}-D, {network.levels} levels, {network.channels[0]} to {network.channels[-1]} channels"
    )


def _block(config: TrainingConfig) -> str:
    return {"none": "none", "ms": "multi-scale", "msda": "multi-scale dual-attention"}[config.network.block]


def _attention(config: TrainingConfig) -> str:
    tokens = config.network.attention_tokens
    if config.network.block != "msda":
        return "none"
    return f"exact up to {tokens} positions, then pooled keys and values" if tokens else "exact"


def _loss(config: TrainingConfig) -> str:
    loss = config.loss
    return (
        f"BCE + Dice on both views, {loss.weight:g} {TIMES} consistency ({loss.consistency})"
        if loss.pairs
        else "BCE + Dice"
    )


def _views(config: TrainingConfig) -> str:
    return "size-variant and size-invariant pairs" if config.loss.pairs else "size-variant"


def _optimizer(config: TrainingConfig) -> str:
    return f"Adam, {config.optimization.learning_rate:g}, {TIMES} {config.optimization.decay:g} per epoch"


_SETTINGS: tuple[tuple[str, Callable[[TrainingConfig], str], str], ...] = (
    ("Patch, pixels", lambda c: TIMES.join(map(str, c.patches.shape)), f"256{TIMES}256"),
    (
        "Reference spacing, mm",
        lambda c: f"{c.patches.reference_spacing_mm or 0:.4g}",
        "0.52 (VHSMC); 0.977 (NSCLC-Radiomics)",
    ),
    ("Mean size S_mean, mm", lambda c: f"{c.patches.mean_size_mm or 0:.4g}", "of the training set"),
    ("Window", _windows, f"{MINUS}1350 to 150 HU"),
    ("Augmentation", _augmentation, "rotation ±20 degrees, shift ±20 pixels, scale 0.8 to 1.2"),
    ("Samples", _samples, "5 per tumor slice"),
    ("Network", _network, "2-D, 5 levels, 64 to 1024 channels"),
    ("Block in the decoder", _block, "none, multi-scale, or multi-scale dual-attention"),
    ("Position attention", _attention, "not known"),
    ("Views", _views, "pairs for CL-MSDA-Net, else size-variant"),
    ("Loss", _loss, "BCE + Dice; consistency of unknown distance for CL-MSDA-Net"),
    ("Optimizer", _optimizer, f"Adam, one rate per cohort, {TIMES} 0.95 per epoch"),
    ("Batch size", lambda c: str(c.optimization.batch_size), "not known"),
    ("Epochs at most", lambda c: str(c.optimization.epochs), "100"),
    ("Stop after epochs without gain", lambda c: str(c.optimization.patience), "25"),
)


def table_3(results: Results, cohort: Cohort | None) -> Table:
    """Tumors of each size group in every part of the split."""
    found = describe.by_size_group(cohort, results.split) if cohort else None
    headings = found.columns if found else ("of", "part")
    columns = [Column(words, "tumors by size group" * words.startswith("group")) for words in headings]
    notes = () if found else ("This study's cohort could not be read.",)
    caption = (
        "Tumors of each size group in the cohort and in each part of the split. No patient is in two parts of a fold."
    )
    rows = found.rows if found else ()
    return Table("table_3_split", "Table 3", results.caption(caption), tuple(columns), rows, notes)

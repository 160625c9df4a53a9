"""Every figure of a report, with its caption; what cannot be drawn says why instead."""

from __future__ import annotations

from functools import partial

from clmsda.cohorts import Cohort
from clmsda.patches import PatchConfig
from clmsda.studies.report.figures import agreement, cases, comparisons, curves, tumors
from clmsda.studies.report.figures.style import Plate, render
from clmsda.studies.results import Results

__all__ = ["Plate", "all_plates", "render"]


def all_plates(results: Results, cohort: Cohort | None, no_cohort: str) -> list[Plate]:
    """Figures by the paper's numbers where it has them (its 3 to 5 describe the method), then S1 and on.

    no_cohort: why `cohort` is None.
    """
    return [*_of_tumors(results, cohort, no_cohort), *_of_cases(results, cohort, no_cohort), *_of_scores(results)]


def _of_tumors(results: Results, cohort: Cohort | None, no_cohort: str) -> list[Plate]:
    config = _patches(results)
    sizes = (
        f"Tumors by size: {len(cohort.cases) if cohort else 0} tumors in bins of 0.5 cm, and the tumor of median "
        "size of each group, all in one field of view, lung window, with the true contour."
    )
    pairs = (
        "The two patches of a pair, for the tumor of median size of each group, as a network is shown them: "
        "size-variant at the reference spacing, size-invariant scaled by r = S_mean / S. Blue: the true contour."
    )
    no_patches = no_cohort or "no run has begun, so the patches are not known"
    return [
        Plate("figure_1_sizes", "Figure 1", results.caption(sizes),
              partial(tumors.sizes, cohort) if cohort else None, no_cohort, picture=True),
        Plate("figure_2_pairs", "Figure 2", results.caption(pairs),
              partial(tumors.pairs, cohort, config) if cohort and config else None, no_patches, picture=True),
    ]  # fmt: skip


def _patches(results: Results) -> PatchConfig | None:
    """The patches of the first run that was trained on pairs, else of the first one that began."""
    configs = [record.config for record in results.records if record.config is not None]
    chosen = sorted(configs, key=lambda config: not config.loss.pairs)
    return chosen[0].patches if chosen else None


def _of_cases(results: Results, cohort: Cohort | None, no_cohort: str) -> list[Plate]:
    picked = [one for own in cases.pick(results, cohort).values() for one in own] if cohort else []
    how = (
        f"in the slice of largest area, {results.headline} protocol, lung window. Blue: truth. Orange: prediction of "
        f"seed {min(results.study.seeds)}, with its F1 (%) over the whole tumor at the lower right. Cases are ranked "
        "by mean F1 over all variants and seeds, not chosen by eye."
    )
    nobody = no_cohort or "no size group has so many cases that every variant was scored on"
    plates = []
    for number, name, words, ranks in (
        (6, "median_cases", "The median case", ("median",)),
        (7, "best_and_worst_cases", "The best and the worst case", ("best", "worst")),
    ):
        chosen = [one for one in picked if one.rank in ranks]
        draw = partial(cases.compare, results, cohort, chosen) if cohort and chosen else None
        caption = results.caption(f"{words} of each size group, {how}")
        plates.append(Plate(f"figure_{number}_{name}", f"Figure {number}", caption, draw, nobody, picture=True))
    return plates


def _of_scores(results: Results) -> list[Plate]:
    protocol = results.headline
    count = max((len(results.patients(name, protocol, "f1")) for name in results.names(protocol)), default=0)
    under = f"{protocol.capitalize()} protocol, n = {count} patients, each averaged over seeds."
    trained = sum(bool(record.epochs) for record in results.records)
    has_outside = any(score.outside is not None for score in results.scores if score.protocol == protocol)
    drawn = (
        ("ablation", comparisons.ablation, count > 0, under),
        ("f1_against_size", comparisons.against_size, count > 0, under),
        ("protocols", comparisons.protocols, bool(results.scores), f"n as in Table S2.{results.searched}"),
        ("bland_altman", agreement.bland_altman, count > 0, f"{protocol.capitalize()} protocol, n as in Table S5."),
        ("patch_coverage", comparisons.coverage, has_outside, under),
        ("training_curves", curves.training, trained > 0, f"{trained} runs."),
    )
    return [
        Plate(
            f"figure_s{number}_{name}",
            f"Figure S{number}",
            results.caption(f"{CAPTIONS[name]} {facts}"),
            partial(draw, results) if there else None,
            "no finished run has what it shows",
        )
        for number, (name, draw, there, facts) in enumerate(drawn, 1)
    ]


CAPTIONS = {
    "ablation": "Mean F1 of each method over all tumors and within each size group, with 95 % bootstrap intervals.",
    "f1_against_size": (
        "F1 against tumor size: a point for each patient, a running mean (Gaussian weights over log size), and "
        "dashed the running mean of the first method; dotted at 3 and 5 cm."
    ),
    "protocols": (
        "Mean F1 under each protocol, with 95 % bootstrap intervals. Protocols tell a method different things, so "
        "blocks do not compare as methods do."
    ),
    "bland_altman": (
        "Agreement with the truth: measured minus true volume (in percent of their mean) and long axis; a point for "
        "each tumor and seed. Gray: bias, dashed the 95 % limits of agreement, printed below. Empty predictions are "
        "left out."
    ),
    "patch_coverage": (
        "Share of each tumor outside its patch, which no network can find and which counts as missed; dotted at 3 "
        "and 5 cm."
    ),
    "training_curves": (
        "Training loss and validation F1 of every run; a marker where the kept network was. Losses of different "
        "variants have different terms, and do not compare."
    ),
}

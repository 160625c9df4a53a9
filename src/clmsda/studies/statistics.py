"""The statistics of a study: means over patients with bootstrap intervals, paired tests, limits of agreement.

The patient is the unit: seeds (and tumors) of one patient are averaged before anything else, since they say
nothing about patients who were not tested. A value that is not defined (None) is left out, and the `n` of every
result says how many were left in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

RESAMPLES = 10_000
_SEED = 20231005
_AT_ONCE = 4_000_000  # values drawn, as memory is finite


@dataclass(frozen=True)
class Estimate:
    """A mean over patients. sd: of single patients; low, high: 95 % bootstrap interval of the mean.

    None where `n` is too small: nothing has a mean of none, or a deviation of one.
    """

    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """Two variants on the patients that both were tested on.

    difference: of the means, `second` minus `first`, with its interval.
    p, p_holm: two-sided Wilcoxon signed-rank test, before and after Holm's correction; None for no patient.
    only_first, only_second: patients that the other variant lacks, which the test leaves out.
    """

    first: str
    second: str
    difference: Estimate
    p: float | None
    p_holm: float | None
    only_first: int
    only_second: int


@dataclass(frozen=True)
class Agreement:
    """Bland and Altman (1986): bias is the mean difference; 95 % of differences lie within low..high if normal."""

    n: int
    bias: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of distances that may be infinite, and the share of them that is."""

    n: int
    median: float | None
    low: float | None
    high: float | None
    infinite: float | None


def per_patient(pairs: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """Mean of each patient's values, in order of the patients' names. pairs: (patient, value)."""
    values: dict[str, list[float]] = {}
    for patient, value in pairs:
        if value is not None:
            values.setdefault(patient, []).append(value)
    return {patient: float(np.mean(values[patient])) for patient in sorted(values)}


def estimate(values: ArrayLike) -> Estimate:
    """Mean, standard deviation (n - 1) and 95 % bootstrap interval (percentiles, seeded) of patients' values."""
    return clustered(np.asarray(values, np.float64).reshape(-1, 1))


def clustered(patients: Sequence[NDArray[np.float64]] | NDArray[np.float64]) -> Estimate:
    """Mean and standard deviation over all values (slices); the interval draws whole patients.

    patients: the values of each patient. n counts values.
    """
    if len(patients) == 0:
        return Estimate(0, None, None, None, None)
    values = np.concatenate(patients)
    mean, sd = float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else None
    if len(patients) == 1:
        return Estimate(values.size, mean, sd, None, None)
    sums, counts = np.array([one.sum() for one in patients]), np.array([one.size for one in patients], np.float64)
    # A mean of sums over a mean of counts, drawn alike: the number of patients cancels.
    drawn = bootstrap(lambda a, b, axis: a.mean(axis) / b.mean(axis), sums, counts)
    low, high = map(float, drawn.confidence_interval)
    # Rounding in the sums must not push a mean of equal values out of its own interval.
    return Estimate(values.size, mean, sd, min(low, mean), max(high, mean))


def bootstrap(statistic: Callable[..., NDArray], *samples: NDArray[np.float64], resamples: int = RESAMPLES) -> Any:
    """scipy's percentile bootstrap of a statistic of paired samples: the same patients are drawn at every call."""
    return stats.bootstrap(
        samples, statistic, paired=True, vectorized=True, method="percentile", confidence_level=0.95,
        n_resamples=resamples, batch=max(1, _AT_ONCE // samples[0].size), rng=np.random.default_rng(_SEED),
    )  # fmt: skip


def compare(patients: Mapping[str, Mapping[str, float]]) -> list[Comparison]:
    """Every pair of variants, in their order, on the patients that both have; Holm's correction over all pairs.

    patients: per variant the patients' values (see `per_patient`).
    """
    pairs = list(combinations(patients, 2))
    tests = []
    for first, second in pairs:
        common = sorted(patients[first].keys() & patients[second].keys())
        differences = np.array([patients[second][name] - patients[first][name] for name in common])
        tests.append((estimate(differences), wilcoxon(differences), len(common)))
    corrected = holm([p for _, p, _ in tests])
    return [
        Comparison(a, b, difference, p, p_holm, len(patients[a]) - common, len(patients[b]) - common)
        for (a, b), (difference, p, common), p_holm in zip(pairs, tests, corrected, strict=True)
    ]


def wilcoxon(differences: ArrayLike) -> float | None:
    """Two-sided p of the signed-rank test; differences of 0 drop out, and without any other p is 1.

    None for no difference at all.
    """
    array = np.asarray(differences, np.float64)
    if array.size == 0:
        return None
    array = np.round(array, 12)  # what only rounding tells apart is equal, and ranks as a tie
    array = array[array != 0]
    return float(stats.wilcoxon(array).pvalue) if array.size else 1.0


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979), in the order given; None stays None and does not count."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[index] = largest
    return corrected


def agreement(differences: ArrayLike) -> Agreement:
    """Bias and 95 % limits of agreement (bias -/+ 1.96 standard deviations) of measured minus true."""
    array = np.asarray(differences, np.float64)
    if array.size == 0:
        return Agreement(0, None, None, None)
    bias = float(array.mean())
    if array.size == 1:
        return Agreement(1, bias, None, None)
    reach = 1.96 * float(array.std(ddof=1))
    return Agreement(array.size, bias, bias - reach, bias + reach)


def spread(values: ArrayLike) -> Spread:
    """Median, quartiles and share of infinite values: a mean would be infinite with the first miss."""
    array = np.asarray(values, np.float64)
    if array.size == 0:
        return Spread(0, None, None, None, None)
    shares = np.array([0.25, 0.5, 0.75])
    below, above = (np.quantile(array, shares, method=side) for side in ("lower", "higher"))
    part = shares * (array.size - 1) % 1
    with np.errstate(invalid="ignore"):  # linear by hand: beside an infinite value numpy says nan of a finite one
        low, median, high = np.where(part > 0, (1 - part) * below + part * above, below).tolist()
    return Spread(array.size, median, low, high, float(np.isinf(array).mean()))

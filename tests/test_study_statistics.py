"""Statistics of a study: worked by hand, from published examples, and by the properties that define them."""

from __future__ import annotations

from itertools import product
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clmsda.studies.statistics import (
    Agreement,
    Estimate,
    Spread,
    agreement,
    bootstrap,
    clustered,
    compare,
    estimate,
    holm,
    per_patient,
    spread,
    wilcoxon,
)

scores = st.floats(0, 1, allow_subnormal=False)
p_values = st.lists(st.one_of(st.none(), scores), max_size=8)

DARWIN = [6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75]
"""Heights of cross- minus self-fertilized maize in eighths of an inch (Darwin 1876, in Fisher's The Design of
Experiments): the signed-rank sums are 96 and 24, two-sided p 0.0413."""


def exact_p(differences: list[float]) -> float:
    """Two-sided p by counting all signs of the ranks (no ties)."""
    order = np.argsort(np.abs(differences))
    ranks = np.empty(len(order))
    ranks[order] = np.arange(1, len(order) + 1)
    total = ranks.sum()
    observed = min(ranks[np.array(differences) > 0].sum(), ranks[np.array(differences) < 0].sum())
    sums = [
        sum(r for r, sign in zip(ranks, signs, strict=True) if sign) for signs in product([0, 1], repeat=len(ranks))
    ]
    return sum(min(one, total - one) <= observed for one in sums) / len(sums)


def test_seeds_and_tumors_of_a_patient_are_averaged_first() -> None:
    pairs = [("b", 0.2), ("a", 0.5), ("b", 0.4), ("a", None), ("c", None), ("b", 0.9)]
    assert per_patient(pairs) == {"a": 0.5, "b": pytest.approx(0.5)}
    assert list(per_patient(pairs)) == ["a", "b"]


def test_mean_and_deviation_by_hand() -> None:
    found = estimate([2.0, 4.0, 9.0])
    assert (found.n, found.mean) == (3, pytest.approx(5.0))
    assert found.sd == pytest.approx(np.sqrt((9 + 1 + 16) / 2))
    assert estimate([]) == Estimate(0, None, None, None, None)
    assert estimate([0.7]) == Estimate(1, pytest.approx(0.7), None, None, None)


def test_the_interval_of_two_values_is_their_range() -> None:
    """A quarter of all resamples holds the first value twice, another one the second."""
    assert estimate([0.0, 1.0]) == Estimate(2, 0.5, pytest.approx(np.sqrt(0.5)), 0.0, 1.0)


def test_the_interval_is_that_of_the_normal_law_for_many_patients() -> None:
    values = np.random.default_rng(0).normal(50, 10, 400)
    found = estimate(values)
    reach = 1.96 * values.std(ddof=1) / 20
    assert found.low == pytest.approx(values.mean() - reach, abs=0.08)
    assert found.high == pytest.approx(values.mean() + reach, abs=0.08)


@settings(max_examples=30, deadline=None)
@given(st.lists(scores, min_size=2, max_size=30))
def test_the_interval_holds_the_mean_and_lies_among_the_values(values: list[float]) -> None:
    found = estimate(values)
    assert found == estimate(values)  # seeded
    assert min(values) - 1e-12 <= found.low <= found.mean <= found.high <= max(values) + 1e-12


def test_resamples_are_drawn_in_parts_without_a_seam() -> None:
    values = np.random.default_rng(2).normal(500, 100, 1000)
    means = bootstrap(np.mean, values, resamples=9000).bootstrap_distribution  # more than are drawn at once
    assert means.shape == (9000,) and len(np.unique(means)) > 8990
    assert means.mean() == pytest.approx(values.mean(), abs=0.2)
    assert means.std() == pytest.approx(values.std() / np.sqrt(1000), rel=0.05)


def test_slices_are_drawn_patient_by_patient() -> None:
    patients = [np.array([0.0] * 10), np.array([1.0] * 10)]
    found = clustered(patients)
    assert (found.n, found.mean, found.low, found.high) == (20, 0.5, 0.0, 1.0)
    assert found.sd == pytest.approx(np.std([0.0] * 10 + [1.0] * 10, ddof=1))
    alone = estimate(np.concatenate(patients))
    assert alone.low > 0.2 and alone.high < 0.8  # as if each slice were a patient
    assert clustered([]) == estimate([])
    assert clustered([np.array([0.5, 0.7])]).low is None


def test_slices_weigh_alike_whoever_they_are_of() -> None:
    assert clustered([np.array([0.0]), np.array([1.0, 1.0, 1.0])]).mean == 0.75


def test_wilcoxon_gives_darwins_p() -> None:
    assert wilcoxon(DARWIN) == pytest.approx(0.0413, abs=5e-5)
    assert wilcoxon(DARWIN) == pytest.approx(exact_p(DARWIN[:15]), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=9, unique=True), st.data())
def test_wilcoxon_counts_all_signs(sizes: list[int], data: st.DataObject) -> None:
    signs = data.draw(st.lists(st.sampled_from([-1, 1]), min_size=len(sizes), max_size=len(sizes)))
    differences = [sign * size for sign, size in zip(signs, sizes, strict=True)]
    assert wilcoxon(differences) == pytest.approx(min(1.0, exact_p(differences)))
    assert wilcoxon([-d for d in differences]) == pytest.approx(wilcoxon(differences))


def test_wilcoxon_without_a_difference() -> None:
    assert wilcoxon([]) is None
    assert wilcoxon([0.0, 0.0]) == 1.0
    assert wilcoxon([0.1 + 0.2 - 0.3]) == 1.0  # 5e-17: only rounding tells them apart
    assert wilcoxon([0.0, *DARWIN]) == pytest.approx(wilcoxon(DARWIN))


def test_holm_by_hand() -> None:
    """Sorted 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1, which must not fall below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.3, None, 0.4]) == [pytest.approx(0.6), None, pytest.approx(0.6)]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@settings(deadline=None)
@given(p_values)
def test_holm_keeps_order_and_lies_between_p_and_bonferroni(p: list[float | None]) -> None:
    corrected = holm(p)
    known = sorted((a, b) for a, b in zip(p, corrected, strict=True) if a is not None and b is not None)
    assert [a is None for a in p] == [b is None for b in corrected]
    assert all(a <= b <= min(1.0, len(known) * a) + 1e-12 for a, b in known)
    assert [b for _, b in known] == sorted(b for _, b in known)


def test_only_patients_that_both_have_are_compared() -> None:
    patients = {
        "A": {"p1": 0.1, "p2": 0.2, "p3": 0.3},
        "B": {"p2": 0.5, "p3": 0.4, "p4": 0.9, "p5": 1.0},
        "C": {"p1": 0.4},
    }
    found = {(one.first, one.second): one for one in compare(patients)}
    assert list(found) == [("A", "B"), ("A", "C"), ("B", "C")]
    pair = found["A", "B"]
    assert (pair.difference.n, pair.only_first, pair.only_second) == (2, 1, 2)
    assert pair.difference.mean == pytest.approx((0.3 + 0.1) / 2)
    assert pair.p == pytest.approx(0.5) and pair.p_holm == 1.0  # both signs of two ranks: 2 of 4, twice
    nobody = found["B", "C"]
    assert (nobody.difference.n, nobody.difference.mean, nobody.p, nobody.p_holm) == (0, None, None, None)
    assert found["A", "C"].p == 1.0


def test_limits_of_agreement_by_hand() -> None:
    """Differences 1, 2, 3: bias 2, standard deviation 1."""
    assert agreement([1, 2, 3]) == Agreement(3, 2.0, pytest.approx(2 - 1.96), pytest.approx(2 + 1.96))
    assert agreement([]) == Agreement(0, None, None, None)
    assert agreement([-4]) == Agreement(1, -4.0, None, None)


def test_limits_of_agreement_hold_95_percent() -> None:
    differences = np.random.default_rng(1).normal(-2, 3, 20_000)
    found = agreement(differences)
    assert np.mean((differences > found.low) & (differences < found.high)) == pytest.approx(0.95, abs=0.005)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], Spread(0, None, None, None, None)),
        ([3.0], Spread(1, 3.0, 3.0, 3.0, 0.0)),
        ([1.0, 2.0, 3.0, 4.0, 5.0], Spread(5, 3.0, 2.0, 4.0, 0.0)),
        ([4.0, inf, 2.0, 3.0, 1.0], Spread(5, 3.0, 2.0, 4.0, 0.2)),
        ([1.0, inf], Spread(2, inf, inf, inf, 0.5)),
        ([inf, inf, 1.0], Spread(3, inf, inf, inf, 2 / 3)),
        ([1.0, 2.0, 3.0, inf], Spread(4, 2.5, 1.75, inf, 0.25)),
    ],
)
def test_infinite_distances_count_without_swallowing_the_rest(values: list[float], expected: Spread) -> None:
    assert spread(values) == expected


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_finite_distances_have_numpys_quartiles(values: list[float]) -> None:
    found = spread(values)
    assert [found.low, found.median, found.high] == pytest.approx(np.quantile(values, [0.25, 0.5, 0.75]).tolist())
    assert found.infinite == 0

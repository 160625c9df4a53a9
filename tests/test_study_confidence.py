"""Whether a confidence holds: by fifths, by rank, and by what is announced; worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from clmsda.studies.confidence import Announced, announced, fifths, rank_correlation


def test_fifths_by_hand() -> None:
    """Ten masks given in mixed order: each fifth is a pair of neighbors by confidence; nothing found counts as 0."""
    said = [0.9, 0.1, 0.5, np.nan, 0.6, 0.8, 0.3, 0.2, 0.7, 0.4]
    f1 = [1.0, 0.2, 0.4, 0.0, 0.6, 0.9, 0.4, 0.2, 0.5, 0.2]
    found = fifths(said, f1)
    assert [part.n for part in found] == [2] * 5
    assert [part.confidence for part in found] == pytest.approx([0.05, 0.25, 0.45, 0.65, 0.85])
    assert [part.f1 for part in found] == pytest.approx([0.1, 0.3, 0.3, 0.55, 0.95])
    assert (found[0].low, found[0].high) == (0.0, 0.1)
    assert len(fifths([0.5, 0.6], [0.1, 0.2])) == 2 and fifths([], []) == []


def test_rank_correlation_by_hand() -> None:
    assert rank_correlation([0.1, 0.2, 0.9], [0.3, 0.4, 0.5]) == pytest.approx(1)
    assert rank_correlation([0.9, np.nan], [0.3, 0.4]) == pytest.approx(-1)
    # Ranks 1.5, 1.5, 3 and 1, 2, 3: 1.5 / sqrt(1.5 * 2).
    assert rank_correlation([0.5, 0.5, 0.6], [0.1, 0.2, 0.3]) == pytest.approx(1.5 / np.sqrt(3))
    assert np.isnan(rank_correlation([0.5, 0.5], [0.1, 0.2])) and np.isnan(rank_correlation([0.5], [0.1]))


def test_announced_by_hand() -> None:
    """Four failures: low confidence, a warning, neither, nothing found with a warning. 0.5 and 0.6 pass."""
    f1 = [0.1, 0.49, 0.3, 0.0, 0.5, 0.9]
    said = [0.59, 0.9, 0.6, np.nan, 0.6, 0.2]
    warned = [False, True, False, True, False, False]
    assert announced(said, f1, warned) == Announced(4, 0.75, 0.5)
    assert announced(said, f1, [False] * 6) == Announced(4, 0.25, 0.5)
    assert announced([0.9], [0.9], [False]) == Announced(0, None, 0.0)
    assert announced([0.9], [0.1], [False]) == Announced(1, 0.0, None)

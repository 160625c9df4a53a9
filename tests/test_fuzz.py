"""Damaged input of every reader ends in a result or in one refusal (`fuzz`; CONTRIBUTING.md, Fuzzing)."""

from __future__ import annotations

import sys

import pytest
from fuzz import campaign
from fuzz.worker import FAILURES

SEED, INPUTS = 20261127, 2000

# Limits are on CPU time and memory, the end is a number of inputs: a busy machine takes longer, and says the same.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(sys.platform != "linux", reason="limits of fuzzing are kept by way of Linux's /proc"),
]


def assert_no_failure(summary: campaign.Summary, inputs: int) -> None:
    assert not summary.failures, "\n".join(map(campaign.describe, summary.failures.values()))
    assert summary.inputs == inputs
    assert not any(counts[kind] for counts in summary.counts.values() for kind in FAILURES)


def test_what_failed_once() -> None:
    cases = campaign.corpus()
    assert cases
    assert_no_failure(campaign.replay(cases), len(cases))


def test_inputs_that_are_damaged_at_random() -> None:
    from fuzz.readers import readers

    summary = campaign.fuzz(sorted(readers()), SEED, count=INPUTS)
    assert_no_failure(summary, INPUTS)
    assert summary.counts.keys() == readers().keys()
    for kind in ("result", "refused"):  # else the damage is too slight to notice, or too coarse to try a reader
        assert sum(counts[kind] for counts in summary.counts.values()) > INPUTS / 5

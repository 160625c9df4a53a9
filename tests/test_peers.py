"""The ratios of docs/performance.md: `benchmarks/peers`, as far as it needs no peer."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The modules of benchmarks/peers that need nothing but this project."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    from peers import picture, rounds, tables

    return SimpleNamespace(picture=picture, rounds=rounds, tables=tables)


def test_a_ratio_is_of_the_same_round(peers: SimpleNamespace) -> None:
    """Rounds of 1, 2 and 4 seconds, in which the peer takes 3, 6 and 4: not the ratio of the medians, which is 2."""
    ours = peers.rounds.Timed("ours", (1.0, 2.0, 4.0), (9.0, 9.0, 9.0), gflop=10)
    theirs = peers.rounds.Timed("theirs", (3.0, 6.0, 4.0), (1.0, 1.0, 1.0), gflop=40)
    assert peers.rounds.ratio(theirs, ours) == peers.rounds.Spread(3.0, 1.0, 3.0)
    assert peers.rounds.ratio(theirs, ours, per_gflop=True) == peers.rounds.Spread(0.75, 0.25, 0.75)
    assert ours.rate == 5.0


def test_what_cannot_be_compared_is_refused(peers: SimpleNamespace) -> None:
    ours = peers.rounds.Timed("ours", (1.0, 2.0), (1.0, 2.0), gflop=1)
    with pytest.raises(ValueError, match="not in the same rounds"):
        peers.rounds.ratio(peers.rounds.Timed("theirs", (1.0,), (1.0,)), ours)
    with pytest.raises(ValueError, match="GFLOP of theirs"):
        peers.rounds.ratio(peers.rounds.Timed("theirs", (1.0, 1.0), (1.0, 1.0)), ours, per_gflop=True)


def test_each_round_begins_with_another_one(peers: SimpleNamespace) -> None:
    """And nothing heavy is done once more to warm up."""
    order: list[str] = []
    contestants = [
        peers.rounds.Contestant(name, lambda name=name: order.append(name), heavy=name == "c") for name in "abc"
    ]
    times = peers.rounds.by_turns(contestants, 2)
    assert "".join(order) == "ab" + "abc" + "bca"
    assert [(one.name, len(one.cpu), len(one.wall)) for one in times] == [("a", 2, 2), ("b", 2, 2), ("c", 2, 2)]


def test_processor_seconds_are_of_work_and_not_of_waiting(peers: SimpleNamespace) -> None:
    import time

    (waits, works) = peers.rounds.by_turns(
        [
            peers.rounds.Contestant("waits", lambda: time.sleep(0.2), heavy=True),
            peers.rounds.Contestant("works", lambda: sum(range(3_000_000)), heavy=True),
        ],
        1,
    )
    assert waits.wall[0] >= 0.2 > 0.1 > waits.cpu[0]
    assert works.cpu[0] > waits.cpu[0]


def test_the_tables_and_the_picture_say_who_is_slower(peers: SimpleNamespace, tmp_path: Path) -> None:
    def timed(name: str, seconds: float, **more: object) -> dict[str, object]:
        times = (seconds, seconds * 1.5, seconds * 2)
        return peers.rounds.Timed(name, times, times, gflop=6.0, voxels=10**6, more=more).to_json()

    limit = timed("matrix product, float32, torch", 0.1)
    rest = {"load": [1.0, 2.0], "versions": {"clmsda": "0"}, "facts": {}}
    tiles = {"tiles": 2, "whole": 10, "mirrored": 8}
    results = {
        "masks, phantom": {"times": [timed("clmsda", 1.0), timed("peer", 2.0, **tiles), limit], **rest},
        "reading, phantom": {"times": [timed("clmsda", 1.0), timed("quick", 0.5)], **rest},
        "steps 2-D float32": {"times": [timed("clmsda", 1.0, width=4), timed("peer", 1.0, width=8), limit], **rest},
    }
    results = json.loads(json.dumps(results))
    text = peers.tables.page(results)
    assert (
        "| peer | 1.00 M | 6 | 3.00 | 3.00 | 2.00 [2.00, 2.00] | 2.00 [2.00, 2.00] | 15.0 (10 tiles); mirrored 120 |"
        in text
    )
    assert "| quick | 0.75 | 0.75 | 0.50 [0.50, 0.50] | 2.67 |" in text
    assert "| A training step, 2-D, float32: clmsda | 4.00 | 10 % |" in text
    slower = text.partition("## Where clmsda is slower")[2].partition("##")[0]
    assert slower.strip() == "- phantom: reading its DICOM series: quick takes 0.50 [0.50, 0.50] times clmsda's time"
    page = tmp_path / "page.md"
    page.write_text(f"head\n{peers.tables.BEGIN}former{peers.tables.END}\ntail")
    peers.tables.rewrite(page, results)
    assert page.read_text() == f"head\n{peers.tables.BEGIN}\n\n{text}\n\n{peers.tables.END}\ntail"
    peers.picture.draw(results, tmp_path / "performance.png")
    assert (tmp_path / "performance.png").stat().st_size > 5_000

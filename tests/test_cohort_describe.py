"""Tables and figure of a cohort, from cases that can be counted by hand."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest

from clmsda.cohorts import Case, Cohort, Fold, Split
from clmsda.cohorts.describe import by_size_group, characteristics, draw_sizes
from clmsda.files import OutputError
from clmsda.measurements import size_group


def case(name: str, size_mm: float, patient: str = "", histology: str = "", slice_mm: float = 3.0) -> Case:
    return Case(
        name, patient or name, "", "", size_mm, size_mm, size_group(size_mm), (0, 0, 0), 0.9, slice_mm, (0.0,) * 12,
        (0, 1), histology=histology,
    )  # fmt: skip


CASES = (
    case("a", 10.0, "P", "adenocarcinoma"),
    case("b", 30.0, "P", "adenocarcinoma"),
    case("c", 30.1, "", "squamous cell carcinoma", slice_mm=5.0),
    case("d", 50.0),
    case("e", 79.9, "", "adenocarcinoma"),
)


def test_characteristics_are_those_of_the_cases() -> None:
    assert dict(characteristics(CASES).rows) == {
        "Patients": "4",
        "Tumors": "5",
        "Histology: adenocarcinoma": "3 (60 %)",
        "Histology: squamous cell carcinoma": "1 (20 %)",
        "Histology: unknown": "1 (20 %)",
        "Size, mean ± SD, cm": "4.00 ± 2.64",  # of 1, 3, 3.01, 5, 7.99: squares of deviations 27.90, / 4, rooted
        "Size, range, cm": "1.00 to 7.99",
        "Volume, median (range), ml": "30.1 (10.0 to 79.9)",
        "Pixel spacing, median (range), mm": "0.900 (0.900 to 0.900)",
        "Distance between slices, median (range), mm": "3.00 (3.00 to 5.00)",
    }
    assert dict(characteristics(CASES[:1]).rows)["Size, mean ± SD, cm"] == "1.00"  # one tumor has no deviation


def test_collections_are_counted_where_there_are_any() -> None:
    cases = [replace(one, collection=name) for one, name in zip(CASES, ["B", "A", "B", "B", ""], strict=True)]
    rows = [row for row in characteristics(cases).rows if row[0].startswith("Collection")]
    assert rows == [("Collection: B", "3 (60 %)"), ("Collection: A", "1 (20 %)"), ("Collection: unknown", "1 (20 %)")]


def test_tumors_are_counted_by_size_group_and_part() -> None:
    cohort = Cohort(Path(), CASES)
    assert by_size_group(cohort).rows == (("cohort", "all", "2 (40 %)", "2 (40 %)", "1 (20 %)", "5", "4", "4.00"),)
    split = Split(cohort.digest, 0, (Fold(("a", "b", "c"), ("d",), ("e",)),))
    assert by_size_group(cohort, split).rows[1:] == (
        ("fold 0", "training", "2 (67 %)", "1 (33 %)", "0 (0 %)", "3", "2", "2.34"),
        ("fold 0", "validation", "0 (0 %)", "1 (100 %)", "0 (0 %)", "1", "1", "5.00"),
        ("fold 0", "test", "0 (0 %)", "0 (0 %)", "1 (100 %)", "1", "1", "7.99"),
    )


def test_tables_are_csv_and_latex() -> None:
    table = by_size_group(Cohort(Path(), CASES))
    header, row = csv.reader(io.StringIO(table.to_csv()))
    assert tuple(header) == table.columns and tuple(row) == table.rows[0]
    lines = table.to_latex().splitlines()
    assert lines[1] == r"\begin{tabular}{lrrrrrrr}" and lines[-1] == r"\end{tabular}"
    assert r"cohort & all & 2 (40 \%) & 2 (40 \%) & 1 (20 \%) & 5 & 4 & 4.00 \\" in lines
    assert r"group 1 ($\leq$ 3 cm)" in table.to_latex()


@pytest.mark.parametrize("name", ["sizes.png", "sizes.svg", "sizes.pdf"])
def test_the_figure_is_written_whole_and_the_same_each_time(tmp_path: Path, name: str) -> None:
    draw_sizes(CASES, tmp_path / name)
    first = (tmp_path / name).read_bytes()
    assert first[:5] in (b"\x89PNG\r", b"<?xml", b"%PDF-")
    draw_sizes(CASES, tmp_path / name)
    assert (tmp_path / name).read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with pytest.raises(OutputError, match="does not exist"):
        draw_sizes(CASES, tmp_path / "missing" / name)


def test_bars_count_each_tumor_in_its_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tumors of exactly 3 and 5 cm stand below the limits, as their group does."""
    from matplotlib.axes import Axes

    drawn = []
    hist = Axes.hist
    monkeypatch.setattr(Axes, "hist", lambda *args, **kwargs: drawn.append(hist(*args, **kwargs)) or drawn[-1])
    draw_sizes(CASES, tmp_path / "sizes.png")
    counts, edges, _ = drawn[0]
    assert list(edges[:4]) == [0, 1, 2, 3] and edges[-1] == 8
    assert [list(stack) for stack in counts] == [
        [1, 0, 1, 0, 0, 0, 0, 0],
        [1, 0, 1, 1, 1, 0, 0, 0],
        [1, 0, 1, 1, 1, 0, 0, 1],
    ]

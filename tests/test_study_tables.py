"""Tables: rows worked out from a scores file of five rows, and the four forms in which they are written."""

from __future__ import annotations

import csv
import io
import json
import re
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_folder import run_folder, write_phantom_cohort

from clmsda.cohorts import Cohort
from clmsda.studies.config import check_study
from clmsda.studies.folder import prepare
from clmsda.studies.report.findings import findings
from clmsda.studies.report.page import templates
from clmsda.studies.report.published import PUBLISHED
from clmsda.studies.report.table import (
    MINUS,
    NOTHING,
    TIMES,
    Column,
    Table,
    best_of,
    latex_escape,
    printed,
    to_csv,
    to_latex,
    to_text,
)
from clmsda.studies.report.tables import all_tables
from clmsda.studies.results import Results, open_cohort, read_results
from clmsda.studies.statistics import Estimate, Spread

HEAD = (
    "variant,fold,seed,protocol,case,patient,size_mm,size_group,f1,recall,precision,surface_dice,hd95_mm,volume_ml,"
    "true_volume_ml,long_axis_mm,true_long_axis_mm,outside,confidence,note\n"
)
FIVE = {
    ("U-Net", 1): (
        "U-Net,0,1,oracle,phantom-00000,P0,16,1,0.4,0.5,0.6,0.3,4,2,4,14,16,0,,\n"
        "U-Net,0,1,oracle,phantom-00001,P1,36,2,0.8,0.7,0.9,0.5,2,11,10,37,36,0.02,0.7,\n"
    ),
    ("U-Net", 2): "U-Net,0,2,oracle,phantom-00000,P0,16,1,0.6,0.7,0.6,0.5,,0,4,,16,0,,nothing found\n",
    ("CL-MSDA-Net", 1): (
        "CL-MSDA-Net,0,1,oracle,phantom-00000,P0,16,1,0.7,0.8,0.6,0.9,1,4,4,16,16,0,,\n"
        "CL-MSDA-Net,0,1,oracle,phantom-00001,P1,36,2,0.6,0.9,0.5,0.7,3,20,10,40,36,0,,\n"
    ),
}
SLICES = {
    ("U-Net", 1): "U-Net,0,1,oracle,phantom-00000,4,0.2,0.3,0.4\nU-Net,0,1,oracle,phantom-00001,5,1,1,1\n",
    ("U-Net", 2): "U-Net,0,2,oracle,phantom-00000,4,0.6,0.5,0.4\n",
    ("CL-MSDA-Net", 1): "",
}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return write_phantom_cohort(tmp_path_factory.mktemp("cohort"), (16.0, 36.0))


@pytest.fixture(scope="module")
def results(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Two tumors, two methods, oracle protocol; of CL-MSDA-Net and of U-Net's second seed not all is there."""
    out = tmp_path_factory.mktemp("study") / "out"
    patches = {"shape": [32, 32], "reference_spacing_mm": 2.0, "mean_size_mm": 30.0}
    values = {
        "name": "five-rows",
        "cohort": {"folder": str(cohort.folder)},
        "split": "none",
        "training": {
            "name": "x",
            "data": {"source": "phantoms"},
            "patches": patches,
            "network": {"width": 4, "levels": 2},
        },
        "variants": [{"name": name, "variant": name} for name in ("U-Net", "CL-MSDA-Net")],
        "seeds": [1, 2],
        "protocols": ["oracle", "automatic"],
        "published": "vhsmc",
    }
    prepare(check_study(values, "study"), out)
    for (name, seed), rows in FIVE.items():
        folder = run_folder(out, name, 0, seed)
        folder.mkdir(parents=True)
        (folder / "scores.csv").write_text(HEAD + rows)
        head = "variant,fold,seed,protocol,case,slice,f1,recall,precision\n"
        (folder / "slices.csv").write_text(head + SLICES[name, seed])
        (folder / "done.json").write_text('{"seconds": 90}')
    return read_results(out)


@pytest.fixture(scope="module")
def tables(results: Results, cohort: Cohort) -> dict[str, Table]:
    return {table.label: table for table in all_tables(results, cohort)}


def shown(table: Table) -> dict[tuple[str, ...], dict[str, str]]:
    """Printed cells by heading, by the words at the left of each row."""
    columns = [f"{column.group} {column.heading}".strip() for column in table.columns]
    rows = {}
    for row, cells in zip(table.shown(), table.rows, strict=True):
        key = tuple(cell for cell in cells[:2] if isinstance(cell, str))
        rows[key] = dict(zip(columns, row, strict=True))
    return rows


def test_the_ablation_by_hand(tables: dict[str, Table]) -> None:
    """U-Net: P0 is (0.4 + 0.6) / 2, P1 0.8, so 65 with a deviation of 21.21; CL-MSDA-Net 70 and 60."""
    rows = shown(tables["Table 4"])
    assert rows["U-Net",] == {
        "Method": "U-Net",
        "this study F1 (%)": "65.00 (21.21)",
        "this study 95 % interval": "[50.0, 80.0]",
        "this study Recall (%)": "65.00 (7.07)",
        "this study Precision (%)": "75.00 (21.21)",
        "this study n": "2",
        "paper: VHSMC F1 (%)": "76.58",
        "paper: VHSMC Recall (%)": NOTHING,
        "paper: VHSMC Precision (%)": NOTHING,
    }
    assert rows["CL-MSDA-Net",]["this study F1 (%)"] == "65.00 (7.07)"
    assert rows["CL-MSDA-Net",]["paper: VHSMC Recall (%)"] == "79.06"
    assert tables["Table 4"].best == {(0, 1), (1, 1), (1, 3), (0, 4)}  # equal means are both best
    assert "Synthetic phantoms" in tables["Table 4"].caption and "oracle" in tables["Table 4"].caption


def test_published_figures_stand_in_columns_of_their_own(tables: dict[str, Table]) -> None:
    for label in ("Table 1", "Table 2", "Table 4", "Table 5", "Table 6"):
        assert any(column.paper for column in tables[label].columns)
    for table in tables.values():
        for index, column in enumerate(table.columns):
            assert column.paper == ("paper" in f"{column.group} {column.heading}")
            if column.paper:  # never one of ours: those are estimates
                assert not table.label.startswith("Table S")
                assert not any(isinstance(row[index], Estimate) for row in table.rows)
    other = tables["Table 5"]
    assert [row[1] for row in other.rows] == [68.04, 68.32, 68.57, 71.70]
    assert "Not part of this study" in other.caption and all(column.paper for column in other.columns[1:])


def test_the_papers_figures_are_those_of_its_abstract() -> None:
    hospital, public = PUBLISHED["vhsmc"], PUBLISHED["nsclc_radiomics"]
    gains = [80.49 - f1 for f1 in (hospital.f1["U-Net"], hospital.f1["U-Net + MS"], hospital.f1["U-Net + MSDA"])]
    assert gains == pytest.approx([3.91, 3.38, 2.95])
    gains = [71.70 - f1 for f1 in (public.f1["U-Net"], public.f1["U-Net + MS"], public.f1["U-Net + MSDA"])]
    assert gains == pytest.approx([3.66, 3.38, 3.13])
    for cohort in (hospital, public):
        assert cohort.adenocarcinoma + cohort.squamous == cohort.patients


def test_size_groups_by_hand(tables: dict[str, Table]) -> None:
    rows = shown(tables["Table 6"])
    small = rows["group 1 (≤ 3 cm)", "CL-MSDA-Net"]
    assert (small["this study F1 (%)"], small["this study n"], small["paper: VHSMC F1 (%)"]) == ("70.00", "1", "81.53")
    assert rows["group 2 (> 3 to 5 cm)", "U-Net"]["this study F1 (%)"] == "80.00"
    large = rows["group 3 (> 5 cm)", "U-Net"]
    assert (large["this study F1 (%)"], large["this study 95 % interval"], large["this study n"]) == (
        NOTHING,
        NOTHING,
        "0",
    )
    assert tables["Table 6"].best == {(1, 2), (1, 4), (0, 5), (1, 5), (2, 2), (3, 4), (2, 5)}


def test_comparisons_by_hand(tables: dict[str, Table]) -> None:
    """P0 gains 20 points, P1 loses 20."""
    rows = shown(tables["Table S1"])
    both = rows["all", f"CL-MSDA-Net {MINUS} U-Net"]
    assert both["Difference of mean F1 (points)"] == f"0.00 [{MINUS}20.00, 20.00]"
    assert (both["n"], both["p"], both["left out"]) == ("2", "1.000", "0")
    alone = rows["group 1 (≤ 3 cm)", f"CL-MSDA-Net {MINUS} U-Net"]
    assert (alone["Difference of mean F1 (points)"], alone["n"]) == ("20.00", "1")


def test_distances_of_empty_predictions_are_infinite(tables: dict[str, Table]) -> None:
    """U-Net's are 4, 2 and infinite: no mean, a median of 4, a third infinite."""
    rows = shown(tables["Table S3"])["oracle", "U-Net"]
    assert rows["HD95 (mm), median [quartiles]"] == "4.0 [3.0, ∞]"
    assert rows["HD95 infinite (%)"] == "33.3"
    assert rows["Surface Dice at 2 mm (%)"] == "45.00 (7.07)"


def test_slices_by_hand(tables: dict[str, Table]) -> None:
    """Slice 4 is (0.2 + 0.6) / 2 over seeds, slice 5 of the other patient 1."""
    rows = shown(tables["Table S4"])
    assert rows["oracle", "U-Net"]["F1 (%)"] == "70.00 (42.43)"
    assert rows["oracle", "U-Net"]["slices"] == "2"
    assert rows["oracle", "CL-MSDA-Net"]["F1 (%)"] == NOTHING


def test_agreement_by_hand(tables: dict[str, Table]) -> None:
    """U-Net: 2 ml for 4 is -66.67 % of their mean, 11 for 10 is 9.52; the empty one is left out."""
    unet = shown(tables["Table S5"])["oracle", "U-Net"]
    assert (unet["n"], unet["empty"]) == ("2", "1")
    assert unet["volume (% of the mean) bias"] == f"{MINUS}28.6"
    assert unet["long axis (mm) bias"] == f"{MINUS}0.5"
    assert unet["long axis (mm) upper limit"] == "3.7"  # -0.5 + 1.96 x 2.12


def test_coverage_by_hand(tables: dict[str, Table]) -> None:
    row = shown(tables["Table S6"])["oracle", "U-Net"]
    assert row["mean share outside the patch (%) all"] == "1.00"
    assert row["mean share outside the patch (%) group 2 (> 3 to 5 cm)"] == "2.00"
    assert (row["patients with more than 1 %"], row["largest share (%)"]) == ("1", "2.0")


def test_a_protocol_that_nobody_was_scored_under_is_not_available(tables: dict[str, Table]) -> None:
    rows = shown(tables["Table S2"])
    assert {row["automatic F1 (%)"] for row in rows.values()} == {"not available"}
    assert rows["all", "U-Net"]["oracle n"] == "2"
    assert rows["group 1 (≤ 3 cm)", "U-Net"]["oracle n"] == "1"


def test_what_is_missing_is_said(results: Results) -> None:
    missing = " ".join(results.missing)
    assert "1 of 4 runs are not finished" in missing and "CL-MSDA-Net, fold 0, seed 2" in missing
    assert "U-Net, fold 0, seed 1: no automatic score of" in missing  # it named automatic before that was available


def test_the_cohort_is_opened_and_described(results: Results, tables: dict[str, Table]) -> None:
    assert open_cohort(results)[1] == ""
    first = shown(tables["Table 1"])
    assert first["Patients", "2"]["this study five-rows"] == "2"
    assert shown(tables["Table 3"])["cohort", "all"]["tumors by size group group 1 (≤ 3 cm)"] == "1 (50 %)"
    assert [row[1] for row in tables["Table 2"].rows[1:3]] == ["no run has begun"] * 2


def test_findings_are_means_where_the_paper_has_no_claim(results: Results) -> None:
    (only,) = findings(results)
    assert only.numbers == ("U-Net: 65.0 [50.0, 80.0] (n = 2)", "CL-MSDA-Net: 65.0 [60.0, 70.0] (n = 2)")


SMALL = Table(
    "small",
    "Table 9",
    "50 % & more",
    (
        Column("Method"),
        Column("F1", "ours", "mean (SD)"),
        Column("95 %", "ours", "interval", 1),
        Column("HD95", "ours", digits=1),
        Column("F1", "paper", paper=True),
    ),
    (
        ("a_b <c>", (one := Estimate(3, 50.0, 1.25, 48.0, 51.5)), one, Spread(3, 2.0, 1.0, inf, 0.25), 76.58),
        ("d|e", (two := Estimate(1, 60.0, None, None, None)), two, Spread(0, None, None, None, None), None),
    ),
    ("A note of 5 %.",),
    frozenset({(1, 1)}),
)


def test_csv_holds_every_number_and_no_cell_twice() -> None:
    rows = list(csv.reader(io.StringIO(to_csv(SMALL))))
    assert rows[0] == [
        "Method", "ours F1 mean", "ours F1 SD", "ours F1 95 % low", "ours F1 95 % high",
        "ours HD95 median", "ours HD95 quartile 1", "ours HD95 quartile 3", "ours HD95 share infinite", "paper F1",
    ]  # fmt: skip
    assert rows[1] == ["a_b <c>", "50", "1.25", "48", "51.5", "2", "1", "inf", "0.25", "76.58"]
    assert rows[2] == ["d|e", "60", "", "", "", "", "", "", "", ""]


def test_latex_by_hand() -> None:
    text = to_latex(SMALL)
    assert r"\caption{50 \% \& more}" in text and r"\label{tab:small}" in text
    assert r"\begin{tabular}{lrrrr}" in text
    assert r"\multicolumn{1}{c}{} & \multicolumn{3}{c}{ours} & \multicolumn{1}{c}{paper} \\" in text
    assert r"\cmidrule(lr){2-4} \cmidrule(lr){5-5}" in text
    assert r"a\_b \textless{}c\textgreater{} & 50.00 (1.25) & [48.0, 51.5] & 2.0 [1.0, $\infty$] & 76.58 \\" in text
    assert r"d|e & \textbf{60.00} & -- & -- & -- \\" in text
    assert r"A note of 5 \%." in text
    wordy = Table("w", "Table 8", "c", (Column("a"), Column("b")), (("x" * 60, 1.0),))
    assert r"\begin{tabular}{p{0.33\linewidth}r}" in to_latex(wordy)


@given(st.text(st.sampled_from(f"ab \\&%$#_{{}}~^<>±≤∞²{MINUS}{TIMES}{NOTHING}")))
def test_latex_escapes_leave_no_command_and_open_no_group(text: str) -> None:
    escaped = latex_escape(text)
    bare = re.sub(r"\\text\w+\{\}|\$\\?[a-z]+\$|\$-\$|\$\^2\$|\\[&%$#_{}]", "", escaped)
    assert not set(bare) & set(f"\\&%$#_{{}}~^<>≤∞²{MINUS}{TIMES}{NOTHING}")
    assert latex_escape("10 % of a_1 & \\b") == r"10 \% of a\_1 \& \textbackslash{}b"


def test_html_is_escaped_and_marks_what_is_the_papers() -> None:
    text = templates().get_template("table.html").render(table=SMALL)
    assert '<th scope="row">a_b &lt;c&gt;</th>' in text and "<c>" not in text
    assert '<td class="paper number">76.58</td>' in text
    assert '<th scope="colgroup" colspan="3">ours</th><th scope="colgroup" colspan="1" class="paper">paper</th>' in text
    assert '<td class="number"><b>60.00</b></td>' in text


def test_text_is_a_markdown_table() -> None:
    lines = to_text(SMALL).splitlines()
    assert lines[0] == "Table 9. 50 % & more"
    table = [line for line in lines if line.startswith("|")]
    assert len({len(line) for line in table}) == 1 and set(table[1]) == set("|-")
    assert r"d\|e" in table[3] and "**60.00**" in table[3]
    assert lines[-1] == "A note of 5 %."


@pytest.mark.parametrize(
    ("value", "column", "expected"),
    [
        (None, Column("x"), NOTHING),
        (0.0004, Column("p", show="p"), "< 0.001"),
        (0.0446, Column("p", show="p"), "0.045"),
        (-0.001, Column("x"), "0.00"),
        (-1.5, Column("x", digits=1), f"{MINUS}1.5"),
        (7, Column("n"), "7"),
        (Estimate(0, None, None, None, None), Column("x", show="mean [interval]"), NOTHING),
        (
            Estimate(2, -1.0, 2.0, -2.0, 0.5),
            Column("x", show="mean [interval]", digits=1),
            f"{MINUS}1.0 [{MINUS}2.0, 0.5]",
        ),
    ],
)
def test_cells_are_printed(value: object, column: Column, expected: str) -> None:
    assert printed(value, column) == expected  # type: ignore[arg-type]


def test_the_best_needs_a_rival() -> None:
    rows = [(Estimate(1, 1.0, None, None, None),), (Estimate(0, None, None, None, None),)]
    assert best_of(rows, [0], range(2)) == set()
    rows.append((Estimate(1, 1.004, None, None, None),))
    assert best_of(rows, [0], range(3)) == {(0, 0), (2, 0)}  # as printed, both are 1.00


def test_study_json_is_what_the_study_says(results: Results) -> None:
    stored = json.loads((results.folder / "study.json").read_text())
    assert stored["cohort"]["synthetic"] is True and results.cohort.synthetic
    assert Path(results.cohort.path).name

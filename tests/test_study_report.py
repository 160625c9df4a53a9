"""The report: whole and self-contained, honest about an unfinished study, firm with a damaged one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from small_study import SIZES_MM
from study_folder import run_folder, write_phantom_cohort, write_study

from clmsda.cohorts import Cohort
from clmsda.cohorts.cohort import write_table
from clmsda.files import OutputError
from clmsda.patches import PatchConfig
from clmsda.studies.config import StudyError
from clmsda.studies.report import write_report
from clmsda.studies.report.figures import all_plates, cases, tumors
from clmsda.studies.report.figures.slices import cut_slice
from clmsda.studies.report.figures.style import COLORS, MARKERS, render
from clmsda.studies.report.page import SECTIONS, page
from clmsda.studies.report.tables import all_tables
from clmsda.studies.results import Results, of_collection, open_cohort, read_results

PAPERS = [f"Table {n}" for n in range(1, 7)] + [f"Figure {n}" for n in (1, 2, 6, 7)]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return write_phantom_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def finished(cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("finished") / "out", cohort, folds=2, seeds=(1,), published="vhsmc")


@pytest.fixture
def study(finished: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "study"))


@pytest.fixture(scope="module")
def report(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the finished study."""
    out = tmp_path_factory.mktemp("report") / "new" / "folder"
    return write_report(finished, out)


class Elements(HTMLParser):
    """Tags with their attributes, and whether every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def quick_page(study: Path) -> tuple[str, Results]:
    """The page without its figures, which take most of the time."""
    results = read_results(study)
    cohort, why = open_cohort(results)
    plates = all_plates(results, cohort, why)
    notices = [*([why] if why else []), *results.missing]
    return page(results, all_tables(results, cohort), plates, {plate.name: {} for plate in plates}, notices), results


def test_the_page_holds_everything_and_needs_nothing(report: Path) -> None:
    html = report.read_text(encoding="utf8")
    elements = Elements(html)
    resources = [a[key] for _, a in elements.found for key in ("src", "href", "data", "srcset") if a.get(key)]
    assert all(str(one).startswith(("data:", "#")) for one in resources)
    assert not elements.of("script") and not elements.of("link") and "@import" not in html and "url(" not in html
    anchors = {str(a["id"]) for _, a in elements.found if "id" in a}
    assert {str(one)[1:] for one in resources if str(one).startswith("#")} <= anchors
    labels = PAPERS + [f"Table S{n}" for n in range(1, 8)] + [f"Figure S{n}" for n in range(1, 7)]
    assert sorted(labels) == sorted(label for _, _, own in SECTIONS for label in own)
    assert {label.lower().replace(" ", "-") for label in labels} <= anchors
    assert len(elements.of("img")) == 10 and len(elements.of("table")) == 13
    assert all(image["alt"] for image in elements.of("img"))
    assert 'class="omitted"' not in html and "not complete" not in html


def test_the_page_says_what_is_synthetic_and_whose_figures_are_the_papers(report: Path) -> None:
    elements = Elements(report.read_text(encoding="utf8"))
    text = " ".join(elements.text)
    assert text.index("Synthetic data.") < text.index("In short") < text.index("Table 1.")
    # All of 13 tables and 10 figures but Table 2 (settings) and Table 5 (the paper's alone).
    assert text.count("Synthetic phantoms, not patients.") == 21
    assert "doi:10.3233/XST-230003" in text and "reconstructed" in text
    assert "The paper's ordering (U-Net < U-Net + MS < U-Net + MSDA < CL-MSDA-Net)" in text
    viewport = [a for a in elements.of("meta") if a.get("name") == "viewport"]
    assert viewport and "prefers-color-scheme: dark" in text and "@media print" in text


def test_tables_and_figures_are_files_too(report: Path) -> None:
    tables = sorted(path.name for path in (report.parent / "tables").iterdir())
    figures = sorted(path.name for path in (report.parent / "figures").iterdir())
    assert len(tables) == 39 and len(figures) == 20
    assert {"table_4_as_vhsmc.csv", "table_4_as_vhsmc.tex", "table_4_as_vhsmc.md"} <= set(tables)
    for name in figures:
        start = (report.parent / "figures" / name).read_bytes()[:300]
        assert start.startswith(b"\x89PNG") if name.endswith("png") else b"<svg" in start
    assert not list(report.parent.rglob(".*"))


def test_a_drawing_is_the_same_file_every_time(finished: Path, report: Path) -> None:
    results = read_results(finished)
    plate = next(plate for plate in all_plates(results, None, "no cohort") if plate.name == "figure_s3_protocols")
    for kind, content in render(plate).items():
        assert content == (report.parent / "figures" / f"{plate.name}.{kind}").read_bytes()


def test_rows_have_colors_and_markers_of_their_own() -> None:
    assert len(set(COLORS)) == len(COLORS) == len(set(MARKERS))


def test_cases_are_picked_by_rank(finished: Path, cohort: Cohort) -> None:
    results = read_results(finished)
    picked = cases.pick(results, cohort)
    means = {}
    for case in cohort.cases:
        own = [s.f1 for v in results.study.variants for s in results.of(v.name, "oracle") if s.case == case.case]
        means[case.case] = float(np.mean([f1 for f1 in own if f1 is not None]))
    for group, own in picked.items():
        ranked = sorted(means[case.case] for case in cohort.cases if case.size_group == group)
        expected = {"median": ranked[(len(ranked) - 1) // 2], "best": ranked[-1], "worst": ranked[0]}
        assert own and all(one.f1 == pytest.approx(expected[one.rank]) for one in own)
        assert len({one.case.case for one in own}) == len(own)


def test_a_slice_is_cut_where_the_tumor_is_largest(cohort: Cohort) -> None:
    case = cohort.cases[6]
    found = cut_slice(cohort, case)
    truth = cohort.slab(case)[1]
    assert truth.voxels[found.index].sum() == (truth.voxels != 0).sum(axis=(1, 2)).max()
    assert found.field_mm == pytest.approx(1.9 * case.size_mm)
    inside_mm2 = (found.truth > 0.5).sum() * found.grid.spacing_mm[1] ** 2
    assert inside_mm2 == pytest.approx(truth.voxels[found.index].sum() * 25, rel=0.05)
    rows, columns = np.nonzero(found.truth > 0.5)
    assert rows.mean() == pytest.approx(119.5, abs=3) and columns.mean() == pytest.approx(119.5, abs=3)
    assert found.hu[found.truth > 0.99].mean() == pytest.approx(40, abs=10)


@pytest.mark.parametrize("shape", [(32, 32), (24, 24, 24)])
def test_pairs_are_drawn_as_networks_see_them(cohort: Cohort, shape: tuple[int, ...]) -> None:
    config = PatchConfig(shape, reference_spacing_mm=3.0, mean_size_mm=36.0)
    figure = tumors.pairs(cohort, config)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts.count(f"{shape[-1] * 0.3:.1f} cm wide") == 3  # the size-variant views all show one field
    small = tumors.typical(cohort)[0]
    assert f"{shape[-1] * 0.3 * small.size_mm / 36.0:.1f} cm wide" in texts


def test_an_unfinished_study_is_reported_as_far_as_it_is(study: Path) -> None:
    (run_folder(study, "U-Net + MS", 1) / "done.json").unlink()
    shutil.rmtree(run_folder(study, "CL-MSDA-Net", 0))
    html, results = quick_page(study)
    text = " ".join(Elements(html).text)
    assert "This report is not complete." in text and "2 of 10 runs are not finished" in text
    assert "U-Net + MS, fold 1, seed 1 (epoch 21)" in text
    assert len(results.patients("U-Net", "oracle", "f1")) == len(SIZES_MM)
    assert len(results.patients("CL-MSDA-Net", "oracle", "f1")) == 3  # of fold 1
    comparisons = next(table for table in all_tables(results, None) if table.label == "Table S1")
    left_out = {str(row[1]): (row[2], row[6]) for row in comparisons.rows if row[0] == "all"}
    assert left_out["CL-MSDA-Net \N{MINUS SIGN} U-Net"] == (3, 4)


def test_a_study_that_has_just_begun_is_reported(study: Path) -> None:
    shutil.rmtree(study / "runs")
    html, results = quick_page(study)
    assert results.scores == () and "10 of 10 runs are not finished" in html and "In short" not in html
    drawn = {plate.label: plate for plate in all_plates(results, *open_cohort(results))}
    assert drawn["Figure 1"].draw and not drawn["Figure 2"].draw and not drawn["Figure S1"].draw
    assert "no run has begun" in drawn["Figure 2"].omitted


def test_a_case_that_one_variant_lacks_is_left_out_of_its_tests(study: Path) -> None:
    path = run_folder(study, "U-Net", 0) / "scores.csv"
    lines = path.read_text().splitlines(keepends=True)
    name = lines[1].split(",")[4]
    path.write_text("".join(line for line in lines if f",{name}," not in line))
    results = read_results(study)
    assert f"U-Net, fold 0, seed 1: no oracle score of {name}" in results.missing
    comparisons = next(table for table in all_tables(results, None) if table.label == "Table S1")
    counts = {str(row[1]): (row[2], row[6]) for row in comparisons.rows if row[0] == "all"}
    assert counts["CL-MSDA-Net \N{MINUS SIGN} U-Net"] == (len(SIZES_MM) - 1, 1)
    assert counts["CL-MSDA-Net \N{MINUS SIGN} U-Net + MS"] == (len(SIZES_MM), 0)


def edited(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def appended(name: str) -> Callable[[Path], object]:
    """The file's last line once more."""
    return lambda folder: (folder / name).write_text(
        (text := (folder / name).read_text()) + text.splitlines(keepends=True)[-1]
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (edited("scores.csv", ",f1,", ",f2,"), ["scores.csv", "expected the columns", "f1"]),
        (edited("scores.csv", "U-Net,0,1,oracle", "U-Net,0,one,oracle"), ["scores.csv, line 2", "seed"]),
        (edited("scores.csv", "U-Net,0,1,oracle", "U-Net,1,1,oracle"), ["line 2", "copied from another run"]),
        (edited("scores.csv", "U-Net,0,1,oracle,phantom", "U-Net,0,1,oracle,other"), ["does not test", "other-"]),
        (appended("scores.csv"), ["twice under", "phantom-"]),
        (lambda folder: (folder / "scores.csv").write_bytes(b"\xff\x00,"), ["scores.csv"]),
        (edited("slices.csv", "U-Net,0,1,oracle", "U-Net,0,1,oracle,0"), ["slices.csv, line 2"]),
        (lambda folder: (folder / "slices.csv").unlink(), ["slices.csv is missing", "study run"]),
        (lambda folder: (folder / "done.json").write_text("{}"), ["done.json is damaged", "remove it"]),
        (lambda folder: (folder / "metrics.jsonl").write_text('{"epoch": 0\n'), ["metrics.jsonl, line 1"]),
    ],
)
def test_a_damaged_run_is_refused(
    study: Path, spoil: Callable[[Path], object], said: list[str], tmp_path: Path
) -> None:
    spoil(run_folder(study, "U-Net", 0))
    with pytest.raises(StudyError) as refusal:
        write_report(study, tmp_path / "out")
    assert all(word in str(refusal.value) for word in said), refusal.value
    assert "\n" not in str(refusal.value) and not (tmp_path / "out").exists()


def test_a_score_out_of_range_is_refused(study: Path) -> None:
    path = run_folder(study, "U-Net", 0) / "scores.csv"
    lines = path.read_text().splitlines()
    cells = lines[1].split(",")
    cells[8] = "1.2"
    path.write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")
    with pytest.raises(StudyError, match=r"scores.csv, line 2: f1: .*less than or equal to 1.*found '1.2'"):
        read_results(study)


def test_a_damaged_configuration_is_refused(study: Path) -> None:
    (run_folder(study, "U-Net", 0) / "config.json").write_text('{"name": 3}')
    with pytest.raises(StudyError, match=r"config.json is damaged"):
        all_tables(read_results(study), None)


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"no study.json; make one with `clmsda study run`"):
        write_report(tmp_path, tmp_path / "out")


def test_a_report_that_cannot_be_written_is_refused(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clmsda.studies.report.all_plates", lambda *_: [])  # drawing is not what is tested
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="cannot make the folder"):
        write_report(study, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_figures_that_can_no_longer_be_drawn_are_removed(study: Path, tmp_path: Path) -> None:
    shutil.rmtree(study / "runs")
    moved = json.loads((study / "study.json").read_text())
    moved["cohort"]["path"] = "elsewhere"
    (study / "study.json").write_text(json.dumps(moved))
    figures = tmp_path / "out" / "figures"
    figures.mkdir(parents=True)
    for name in ("figure_s1_ablation.png", "my_own.png"):
        (figures / name).write_text("")
    html = write_report(study, tmp_path / "out").read_text()
    assert [path.name for path in figures.iterdir()] == ["my_own.png"]
    assert "elsewhere is not there any more" in html and html.count('class="omitted"') == 10


def test_a_cohort_that_changed_is_not_shown_as_if_it_had_not(study: Path, cohort: Cohort, tmp_path: Path) -> None:
    other = Path(shutil.copytree(cohort.folder, tmp_path / "cohort"))
    table = (other / "cohort.csv").read_text()
    (other / "cohort.csv").write_text(table.replace("P3", "P4", 1))
    stored = json.loads((study / "study.json").read_text())
    stored["cohort"]["path"] = str(other)
    (study / "study.json").write_text(json.dumps(stored))
    opened, why = open_cohort(read_results(study))
    assert opened is None and "has changed since the study was run" in why
    assert all_tables(read_results(study), None)[2].notes == ("This study's cohort could not be read.",)


def test_one_collection_is_reported_alone(tmp_path: Path) -> None:
    cohort = write_phantom_cohort(tmp_path / "cohort")
    names = ["A" if number % 2 else "B" for number in range(len(cohort.cases))]
    write_table(cohort.folder, [replace(case, collection=name) for case, name in zip(cohort.cases, names, strict=True)])
    cohort = Cohort.open(cohort.folder)
    write_study(tmp_path / "study", cohort, folds=2, seeds=(1,), predictions=False)
    results, (whole, _) = read_results(tmp_path / "study"), open_cohort(read_results(tmp_path / "study"))
    assert whole is not None
    part, cases = of_collection(results, whole, "A")
    wanted = {case.case for case in cohort.cases if case.collection == "A"}
    assert {case.case for case in cases.cases} == wanted == {score.case for score in part.scores}
    assert {one.case for one in part.slices} == wanted
    assert part.percent("U-Net", "oracle", "f1").n == len(wanted) < results.percent("U-Net", "oracle", "f1").n
    tables = all_tables(part, cases)  # of 13 all but Table 2 (settings) and Table 5 (the paper's alone)
    assert sum("Cases of A alone." in table.caption for table in tables) == 11
    assert tables[0].rows[1][:2] == ("Tumors", str(len(wanted)))
    with pytest.raises(StudyError, match="expected cases of the collection 'C', found A, B"):
        write_report(tmp_path / "study", tmp_path / "none", "C")
    assert not (tmp_path / "none").exists()
    shutil.rmtree(cohort.folder)
    with pytest.raises(StudyError, match=r"which cases are of A is not known: the cohort .* is not there any more"):
        write_report(tmp_path / "study", tmp_path / "none", "A")


def test_names_are_escaped(study: Path) -> None:
    stored = (study / "study.json").read_text()
    (study / "study.json").write_text(stored.replace("Worn masks", "<img src=x> & masks"))
    html, _ = quick_page(study)
    assert "&lt;img src=x&gt; &amp; masks" in html and "<img src=x" not in html


def test_one_variant_one_seed_one_fold(cohort: Cohort, tmp_path: Path) -> None:
    variants = [{"name": "Mine", "variant": "U-Net"}]
    out = write_study(tmp_path / "out", cohort, seeds=(1,), variants=variants, peers=[], protocols=["prompted"])
    html, results = quick_page(out)
    text = " ".join(Elements(html).text)
    assert results.headline == "prompted" and results.folds == 1
    assert "ordering" not in text and "Mine" in text and "paper: VHSMC" in text  # Table 4, for reference alone
    tables = {table.label: table for table in all_tables(results, None)}
    assert "Not part of this study" in tables["Table 4"].caption
    assert not any(column.paper for column in tables["Table 5"].columns)
    assert tables["Table S1"].rows == () and tables["Table 5"].best == frozenset()
    for plate in all_plates(results, None, "no cohort"):
        if plate.name in ("figure_s1_ablation", "figure_s4_bland_altman"):
            assert render(plate)["png"].startswith(b"\x89PNG")

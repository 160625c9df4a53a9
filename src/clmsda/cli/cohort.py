"""`clmsda cohort`: import patients from where they lie, describe them, split them."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clmsda.cli.options import check_suffix, new_table, show, status

if TYPE_CHECKING:
    from collections.abc import Callable

    from clmsda.cohorts.candidates import Exclusion, Listing

app = typer.Typer(help="Import, describe and split a cohort of patients.", no_args_is_help=True)

PICTURES = (".png", ".pdf", ".svg")

Folder = Annotated[Path, typer.Argument(metavar="COHORT", help="A cohort's folder.")]


class Kind(StrEnum):
    """How a source is laid out."""

    NSCLC_RADIOMICS = "nsclc-radiomics"
    MSD = "msd"
    NNUNET = "nnunet"
    FOLDER = "folder"


@app.command("import")
def import_(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help=f"How the source is laid out: {', '.join(Kind)}.")],
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The data set's folder; for kind folder also a CSV of pairs.")
    ],
    out: Annotated[Path, typer.Option(metavar="COHORT", help="Folder for the cohort; made, or gone on with.")],
    clinical: Annotated[
        Path | None, typer.Option(metavar="CSV", help="nsclc-radiomics: the collection's clinical table.")
    ] = None,
    histology: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="nsclc-radiomics: a histology to take, or all. Repeatable; else the paper's two: adenocarcinoma, "
            "squamous cell carcinoma.",
        ),
    ] = None,
    label: Annotated[
        str, typer.Option(metavar="NAME|NUMBER", help="Which label of the masks is tumor, where there are others.")
    ] = "",
    every: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Take one slice in N, of CTs that were resampled from thicker slices."),
    ] = 1,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes; 0 takes one per processor. Each needs up to 1.5 GB.")
    ] = 0,
) -> None:
    """Read, measure and store every tumor of a data set; tell what is left out, and why.

    Stopped anywhere, the same command keeps what is done and goes on.
    """
    from clmsda.cohorts.importing import NothingImported, import_cases
    from clmsda.files import make_folder

    listing = _list(kind, source, clinical, histology or [], label).thinned(every)
    make_folder(out)  # a refusal before the bar is all that is said
    try:
        with _progress("Importing") as progress:
            cohort, exclusions = import_cases(out, listing, workers=workers or os.cpu_count() or 1, progress=progress)
    except NothingImported as nothing:
        show_exclusions(nothing.exclusions)
        raise
    show_exclusions(exclusions)
    groups = [sum(case.size_group == group for case in cohort.cases) for group in (1, 2, 3)]
    typer.echo(
        f"{len(cohort.cases)} cases in {out} (size groups 1, 2, 3: {', '.join(map(str, groups))}); "
        f"{len(exclusions)} left out, each with its reason in {out / 'exclusions.csv'}"
    )


@app.command()
def describe(
    cohort: Folder,
    split: Annotated[
        Path | None, typer.Option(metavar="SPLIT", help="Count the tumors of each part of this split, too.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="PICTURE", help="Draw the distribution of sizes (.png, .pdf, .svg).")
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print the tables as comma-separated values.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Print the tables as LaTeX.")] = False,
) -> None:
    """Patients, histologies, sizes and spacings, and the tumors of each size group (the paper's Tables 1 and 3)."""
    from clmsda.cohorts import Cohort, Split, check_split
    from clmsda.cohorts.describe import by_size_group, characteristics, draw_sizes

    if csv and latex:
        raise typer.BadParameter("give one of --csv and --latex")
    if figure is not None:
        check_suffix(figure, PICTURES)
    opened = Cohort.open(cohort)
    folds = Split.read(split) if split else None
    if folds is not None:
        check_split(folds, opened)
    if figure is not None:
        draw_sizes(opened.cases, figure)
    tables = [characteristics(opened.cases), by_size_group(opened, folds)]
    if csv or latex:
        typer.echo("\n".join(table.to_csv() if csv else table.to_latex() for table in tables), nl=False)
        return
    for table in tables:
        show(new_table(table.columns, table.rows, table.title))


@app.command()
def split(
    cohort: Folder,
    out: Annotated[Path, typer.Option(metavar="SPLIT", help="The split's file (.json).")],
    folds: Annotated[int | None, typer.Option(metavar="K", help="Cross-validation with so many folds.")] = None,
    test_fraction: Annotated[
        float | None, typer.Option(min=0, max=1, help="Or one fold, with this share of the patients to test on.")
    ] = None,
    validation_fraction: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the other patients that decides when training stops.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another split.")] = 0,
) -> None:
    """Share out patients, evenly by tumor size, into training, validation and test."""
    from clmsda.cohorts import Cohort, Split, hold_out_test, k_fold
    from clmsda.cohorts.describe import by_size_group

    if (folds is None) == (test_fraction is None):
        raise typer.BadParameter("give one of --folds and --test-fraction")
    check_suffix(out, [".json"])
    opened = Cohort.open(cohort)
    parts = (
        k_fold(opened.cases, folds, validation_fraction, seed)
        if folds is not None
        else hold_out_test(opened.cases, test_fraction or 0.0, validation_fraction, seed)
    )
    made = Split(opened.digest, seed, parts)
    made.write(out)
    table = by_size_group(opened, made)
    show(new_table(table.columns, table.rows, table.title))


def _list(kind: Kind, source: Path, clinical: Path | None, histologies: list[str], label: str) -> Listing:
    """What the source holds. Options of other kinds are refused."""
    is_tcia = kind == Kind.NSCLC_RADIOMICS
    for name, given, fits in (
        ("--clinical", clinical is not None, is_tcia),
        ("--histology", bool(histologies), is_tcia),
        ("--label", bool(label), not is_tcia),
    ):
        if given and not fits:
            raise typer.BadParameter(f"{name} does not go with {kind}")
    if is_tcia and clinical is None:
        raise typer.BadParameter("nsclc-radiomics needs --clinical CSV, the collection's table with the histologies")
    with status(f"Looking through {source}") as progress:
        if clinical is not None:
            from clmsda.cohorts.tcia import PAPERS_HISTOLOGIES, nsclc_radiomics

            wanted = histologies or PAPERS_HISTOLOGIES
            return nsclc_radiomics(source, clinical, wanted, lambda count: progress(f"{count} files"))
        if kind == Kind.FOLDER:
            from clmsda.cohorts.pairs import pairs

            return pairs(source, label)
        from clmsda.cohorts.layouts import msd, nnunet

        return msd(source, label) if kind == Kind.MSD else nnunet(source, label)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr with the time that is left; gives a function that takes how many of how many are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def show_exclusions(exclusions: Iterable[Exclusion]) -> None:
    """Print what was left out, on stderr: each reason with all whom it befell."""
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding

    reasons: dict[str, list[str]] = defaultdict(list)
    for one in exclusions:
        reasons[one.reason].append(one.patient or one.source)
    console = Console(stderr=True, soft_wrap=False, highlight=False)
    for reason, names in sorted(reasons.items()):
        console.print(escape(f"left out, {len(names)}: {reason}"))
        console.print(Padding(escape(", ".join(names)), (0, 0, 0, 4)))

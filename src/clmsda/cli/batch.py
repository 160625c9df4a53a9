"""`clmsda batch`: CTs and prompts in; masks, measurements, one table and one page out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clmsda.cli.options import (
    DEFAULT_MODEL,
    Anonymize,
    Device,
    Frame,
    LabelMap,
    ModelName,
    PromptFrame,
    Runtime,
    status,
)
from clmsda.words import duration

if TYPE_CHECKING:
    from clmsda.batch import Row
    from clmsda.batch.outcomes import Outcome
    from clmsda.batch.running import Progress

EACH_S = 60.0
"""Where stderr is no terminal, lines at least so far apart say how far it is."""


def batch(
    source: Annotated[
        str,
        typer.Argument(metavar="TABLE|STUDIES", help="CSV: name, ct; point, recist, box, recist_from; or a folder."),
    ],
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Where everything goes; going on is the same.")],
    prompts: Annotated[
        Path | None, typer.Option(metavar="CSV", help="The prompts of STUDIES, by path, patient, study, series, date.")
    ] = None,
    frame: PromptFrame = Frame.LPS,
    model: ModelName = DEFAULT_MODEL,
    device: Device = "auto",
    runtime: Runtime = "auto",
    processes: Annotated[
        int | None, typer.Option(min=1, max=4096, help="How many CTs at once; each takes its memory. One, by itself.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Work on this Ray cluster: HOST:PORT, ray://HOST:PORT or auto; extra cluster."
        ),
    ] = None,
    dicom: Annotated[bool, typer.Option("--dicom", help="Write SEG, RTSTRUCT and SR, too: every CT a series.")] = False,
    preview: Annotated[bool, typer.Option(help="Write a picture of each case.")] = True,
    labelmap: LabelMap = False,
    anonymize: Anonymize = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what failed before.")] = False,
) -> None:
    """Segment every CT of a table, or of a folder, with the model loaded once.

    Each CT's files are in FOLDER/cases/NAME; results.csv has all measurements, and the reason of every failure;
    results.html shows all cases. Stopped anywhere, the same command goes on.
    """
    if labelmap and not dicom:
        raise typer.BadParameter("--labelmap is a kind of segmentation: give --dicom, too")
    from clmsda.batch import place, run
    from clmsda.batch.case import Wanted

    rows = _rows(source, prompts, out, anonymize)
    seen: list[Progress] = []
    try:
        with status("Segmenting") as say:
            outcomes = run(
                rows,
                place(out),
                model=model,
                device=device,
                runtime=runtime,
                processes=processes,
                wanted=Wanted(str(frame), dicom, preview, anonymize, labelmap),
                retry=retry,
                ray=ray,
                progress=_teller(say, seen),
            )
    except BaseException:
        for last in seen:
            done = f"{last.done - last.failed} of {last.count} done"
            typer.echo(f"stopped: {done}; the same command goes on", err=True)
        raise
    if dicom and anonymize:
        typer.echo("the DICOM objects carry the patient's identifiers, as they must to be filed", err=True)
    _show(outcomes, place(out) / "results.html")


def _rows(source: str, prompts: Path | None, out: str, anonymize: bool) -> list[Row]:
    from clmsda.batch import place, read_studies, read_table
    from clmsda.batch.places import is_address

    with status(f"Reading {source}") as say:
        if prompts is None:
            return read_table(place(source))
        results = None if is_address(place(out)) else Path(out)
        return read_studies(
            Path(source), prompts, lambda count: say(f"{count} files"), out=results, anonymize=anonymize
        )


def _show(outcomes: list[Outcome], page: Path) -> None:
    """Name what failed, and say where all is. Raises typer.Exit where something did."""
    failures = [one for one in outcomes if one.status != "done"]
    for one in failures[:10]:
        where = f"line {one.line}, {one.name}" if one.line else one.name
        typer.echo(f"{where}: {one.reason}", err=True)
    if len(failures) > 10:
        typer.echo(f"... and {len(failures) - 10} more: see results.csv", err=True)
    typer.echo(f"{len(outcomes) - len(failures)} of {len(outcomes)} done: {page}")
    if failures:
        raise typer.Exit(1)


def _teller(say: Callable[[str], None], seen: list[Progress]) -> Callable[[Progress], None]:
    """What says how far it is: on a terminal always, elsewhere now and then in a line. seen: keeps the last of all."""
    said = time.monotonic()

    def tell(far: Progress) -> None:
        nonlocal said
        seen[:] = [far]
        say(_text(far))
        if not sys.stderr.isatty() and time.monotonic() - said >= EACH_S:
            said = time.monotonic()
            typer.echo(f"Segmenting: {_text(far)}", err=True)

    return tell


def _text(far: Progress) -> str:
    left = "" if far.seconds_left is None else f", about {duration(far.seconds_left)} left"
    return f"{far.done} of {far.count} ({far.failed} failed){left}"

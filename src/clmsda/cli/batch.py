"""`clmsda batch`: a table of CTs and prompts in; masks, measurements, one table and one page out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clmsda.cli.options import DEFAULT_MODEL, Device, Frame, ModelName, PromptFrame, Runtime, status

if TYPE_CHECKING:
    from clmsda.batch.running import Progress


def batch(
    table: Annotated[Path, typer.Argument(metavar="TABLE", help="CSV: name, ct; point, recist, box, recist_from; ...")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where everything goes; going on is the same.")],
    frame: PromptFrame = Frame.LPS,
    model: ModelName = DEFAULT_MODEL,
    device: Device = "auto",
    runtime: Runtime = "auto",
    processes: Annotated[int, typer.Option(min=1, max=256, help="How many CTs at once; each takes its memory.")] = 1,
    dicom: Annotated[bool, typer.Option("--dicom", help="Write SEG, RTSTRUCT and SR, too: every CT a series.")] = False,
    preview: Annotated[bool, typer.Option(help="Write a picture of each case.")] = True,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what failed before.")] = False,
) -> None:
    """Segment every CT of a table, with the model loaded once.

    Each row's files are in FOLDER/cases/NAME; results.csv has all measurements, and the reason of every failure;
    results.html shows all cases. Stopped anywhere, the same command goes on.
    """
    from clmsda.batch.case import Wanted
    from clmsda.batch.running import run

    with status(f"Reading {table}") as say:
        outcomes = run(
            table,
            out,
            model=model,
            device=device,
            runtime=runtime,
            processes=processes,
            wanted=Wanted(str(frame), dicom, preview),
            retry=retry,
            progress=lambda far: say(_text(far)),
        )
    failures = [one for one in outcomes if one.status != "done"]
    for one in failures[:10]:
        typer.echo(f"line {one.line}, {one.name}: {one.reason}", err=True)
    if len(failures) > 10:
        typer.echo(f"... and {len(failures) - 10} more: see results.csv", err=True)
    typer.echo(f"{len(outcomes) - len(failures)} of {len(outcomes)} done: {out / 'results.html'}")
    if failures:
        raise typer.Exit(1)


def _text(far: Progress) -> str:
    left = "" if far.seconds_left is None else f", about {far.seconds_left / 60:.0f} min left"
    return f"{far.done} of {far.count} ({far.failed} failed){left}"

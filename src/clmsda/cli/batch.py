"""`clmsda batch`: CTs and prompts in; masks, measurements, one table and one page out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clmsda.cli.options import DEFAULT_MODEL, Device, Frame, ModelName, PromptFrame, Runtime, status

if TYPE_CHECKING:
    from clmsda.batch.running import Progress


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
    retry: Annotated[bool, typer.Option("--retry", help="Try again what failed before.")] = False,
) -> None:
    """Segment every CT of a table, or of a folder, with the model loaded once.

    Each CT's files are in FOLDER/cases/NAME; results.csv has all measurements, and the reason of every failure;
    results.html shows all cases. Stopped anywhere, the same command goes on.
    """
    from clmsda.batch import place, read_studies, read_table, run
    from clmsda.batch.case import Wanted

    with status(f"Reading {source}") as say:
        if prompts is None:
            rows = read_table(place(source))
        else:
            rows = read_studies(Path(source), prompts, lambda count: say(f"{count} files"))
        outcomes = run(
            rows,
            place(out),
            model=model,
            device=device,
            runtime=runtime,
            processes=processes,
            wanted=Wanted(str(frame), dicom, preview),
            retry=retry,
            ray=ray,
            progress=lambda far: say(_text(far)),
        )
    failures = [one for one in outcomes if one.status != "done"]
    for one in failures[:10]:
        where = f"line {one.line}, {one.name}" if one.line else one.name
        typer.echo(f"{where}: {one.reason}", err=True)
    if len(failures) > 10:
        typer.echo(f"... and {len(failures) - 10} more: see results.csv", err=True)
    typer.echo(f"{len(outcomes) - len(failures)} of {len(outcomes)} done: {place(out) / 'results.html'}")
    if failures:
        raise typer.Exit(1)


def _text(far: Progress) -> str:
    left = "" if far.seconds_left is None else f", about {far.seconds_left / 60:.0f} min left"
    return f"{far.done} of {far.count} ({far.failed} failed){left}"

"""`clmsda phantom`: a cohort of synthetic chests that every other command reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def phantom(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the cohort; made if it is not there.")],
    cases: Annotated[int, typer.Option(min=1, help="How many patients.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Number of the first phantom: case i is phantom seed + i.")] = 0,
    matrix: Annotated[int, typer.Option(min=64, max=1024, help="Rows and columns of each CT.")] = 512,
) -> None:
    """Write synthetic chest CTs with one tumor each, their masks, and the table that `train` reads."""
    from rich.console import Console
    from rich.progress import Progress

    import clmsda.phantoms  # noqa: F401  without torch it is refused here, before anything is made
    from clmsda.cohorts import Case, write_phantoms
    from clmsda.files import make_folder

    make_folder(out)  # a refusal before the bar is all that is said
    with Progress(console=Console(stderr=True), speed_estimate_period=600) as bar:
        task, done = bar.add_task("Phantoms", total=cases), 0

        def drawing(share: float) -> None:
            bar.update(task, completed=done + 0.9 * share)  # the rest of a case is to write it

        def progress(_: Case) -> None:
            nonlocal done
            done += 1
            bar.update(task, completed=done)

        cohort = write_phantoms(out, cases, seed=seed, matrix=matrix, progress=progress, drawing=drawing)
    typer.echo(f"{len(cohort.cases)} cases in {out}")

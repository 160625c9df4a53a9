"""`clmsda study`: run an ablation study, see how far it is, and report it as a paper would."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from clmsda.cli.options import Device, new_table, show

app = typer.Typer(help="Train and evaluate variants x folds x seeds, and report them.", no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(metavar="OUT", help="The study's folder.")]


@app.command()
def run(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study's TOML.")],
    out: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Folder for all that the study makes; else runs/NAME.")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the TOML. Repeatable.")
    ] = None,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Take the I-th of N parts of the runs; give each to a process.")
    ] = "1/1",
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop in good order after about this long; go on later.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Run a study, or go on with it: stopped anywhere, the same command keeps what is done and does the rest.

    On several devices: torchrun --nproc-per-node 4 -m clmsda study run STUDY, or processes with --shard 1/4 to 4/4.
    """
    from clmsda.studies.config import read_study
    from clmsda.studies.running import run_study

    settings = read_study(study, changes or ())
    folder = out or Path("runs") / settings.name
    finished = run_study(settings, folder, device=device, shard=_shard(shard), minutes=minutes)
    if os.environ.get("RANK", "0") == "0":
        again = "not everything is done: the same command goes on"
        typer.echo(f"done: clmsda study report {folder}" if finished else again)


@app.command()
def status(out: Folder) -> None:
    """Every run of a study: waiting, training, evaluating or done; and the time that is left."""
    from clmsda.studies.progress import seconds_left, survey
    from clmsda.words import duration

    study, steps = survey(out)
    rows = []
    for step in steps:
        far = f"{step.done}/{step.total} {'epochs' if step.phase == 'training' else 'cases'}"
        seconds = step.training_s + step.evaluation_s
        cells = [step.run.row.name, str(step.run.fold), str(step.run.seed), step.phase]
        rows.append([*cells, "" if step.phase == "waiting" else far, duration(seconds) if seconds else ""])
    show(new_table(["variant", "fold", "seed", "state", "of it", "time"], rows, study.title or study.name))
    done = sum(step.phase == "done" for step in steps)
    left = f", about {duration(seconds_left(steps))} left" if done < len(steps) else ""
    typer.echo(f"{done} of {len(steps)} runs done{left}" if steps else "the cohort is being made")


@app.command()
def report(
    out: Folder,
    to: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the report goes; else OUT/report.")] = None,
    collection: Annotated[
        str, typer.Option(metavar="NAME", help="Report the cases of one collection of the cohort alone.")
    ] = "",
) -> None:
    """Tables, figures and one HTML page of a study, finished or not."""
    from clmsda.studies.config import slug
    from clmsda.studies.report import write_report

    page = write_report(out, to or out / f"report{'-' * bool(collection)}{slug(collection)}", collection)
    typer.echo(f"report: {page}")


def _shard(text: str) -> tuple[int, int]:
    first, slash, count = text.partition("/")
    if not (slash and first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise typer.BadParameter(f"--shard expects I/N with I from 1 to N, such as 2/4, found {text!r}")
    return int(first), int(count)

"""`clmsda train`: one TOML in, a run's folder out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from clmsda.cli.options import Device


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The run's TOML.")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Folder for checkpoint, metrics and model.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the TOML. Repeatable.")
    ] = None,
    device: Device = "auto",
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop in good order after about this long; resume later.")
    ] = None,
) -> None:
    """Train a network, or go on with the run in the folder RUN: stopped anywhere, it ends with the same weights.

    On several devices: torchrun --nproc-per-node 4 -m clmsda train CONFIG --out RUN
    """
    from clmsda import training

    settings = training.read_config(config, changes or ())
    model = training.train(settings, out, device=device, minutes=minutes)
    if os.environ.get("RANK", "0") == "0":
        typer.echo(f"model: {model}" if model.exists() else "stopped within the first epoch: the same command goes on")

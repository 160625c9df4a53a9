"""`clmsda export`: a model for other software, as an ONNX file or a MONAI bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clmsda.cli.options import check_suffix

if TYPE_CHECKING:
    from clmsda.models import Trained


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A shipped model by name, or a .safetensors file.")],
    onnx: Annotated[
        Path | None, typer.Option("--onnx", metavar="FILE", help="The network as one ONNX file (.onnx).")
    ] = None,
    monai_bundle: Annotated[
        Path | None,
        typer.Option(
            "--monai-bundle", metavar="FOLDER", help="The network as a MONAI bundle; it needs the extra train."
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option("--shape", metavar="N,N[,N]", help="Of the patches of --onnx; else as it was trained with."),
    ] = None,
) -> None:
    """Write a model for other software, as ONNX or as a MONAI bundle.

    ONNX: patches (N, channels, *shape) in 0..1 to tumor probabilities (N, 1, *shape), with the model's configuration in
    the metadata, as JSON under clmsda: windows, voxel size, marks. A bundle says in its metadata what it leaves out.
    """
    from clmsda import models

    if onnx is None and monai_bundle is None:
        raise typer.BadParameter("say what to write: give --onnx FILE or --monai-bundle FOLDER")
    if shape is not None and onnx is None:
        raise typer.BadParameter("--shape is of an ONNX file: give --onnx, too")
    found = models.read(model)
    if onnx is not None:
        typer.echo(_write_onnx(found, onnx, found.config.patches.shape if shape is None else _lengths(shape)))
    if monai_bundle is not None:
        from clmsda import bundles

        bundles.write(found, monai_bundle)
        typer.echo(f"{monai_bundle}: {bundles.LIMITS}")


def _write_onnx(model: Trained, path: Path, sides: tuple[int, ...]) -> str:
    """Write the file; returns what to say of it."""
    import json
    from dataclasses import asdict

    from clmsda.files import replacing
    from clmsda.models import HEADER
    from clmsda.runtimes import graph

    check_suffix(path, [".onnx"])
    network = model.config.network
    network.check((1, network.in_channels, *sides))
    texts = {HEADER: json.dumps(asdict(model.config)), "version": model.version}
    with replacing(path) as temporary:
        temporary.write_bytes(graph.onnx(network, model.weights, sides, texts=texts))
    text = ", ".join(map(str, sides))
    return f"{path}: {graph.INPUT} (N, {network.in_channels}, {text}) to {graph.OUTPUT} (N, 1, {text})"


def _lengths(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"expected lengths such as 80,80,80, found {text!r}", param_hint="--shape")
    return tuple(map(int, parts))

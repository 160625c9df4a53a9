"""`clmsda export`: a model as an ONNX file, for other software."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clmsda.cli.options import check_suffix


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A shipped model by name, or a .safetensors file.")],
    onnx: Annotated[Path, typer.Option("--onnx", metavar="FILE", help="Where to write it (.onnx).")],
    shape: Annotated[
        str | None,
        typer.Option("--shape", metavar="N,N[,N]", help="Of the patches; else as the model was trained with."),
    ] = None,
) -> None:
    """Write a model as ONNX: patches (N, channels, *shape) in 0..1 to tumor probabilities (N, 1, *shape).

    Its configuration is in the metadata, as JSON under clmsda: windows, voxel size, marks.
    """
    import json
    from dataclasses import asdict

    from clmsda import models
    from clmsda.files import replacing
    from clmsda.runtimes import graph

    check_suffix(onnx, [".onnx"])
    found = models.read(model)
    network = found.config.network
    sides = found.config.patches.shape if shape is None else _lengths(shape)
    network.check((1, network.in_channels, *sides))
    texts = {models.HEADER: json.dumps(asdict(found.config)), "version": found.version}
    with replacing(onnx) as temporary:
        temporary.write_bytes(graph.onnx(network, found.weights, sides, texts=texts))
    text = ", ".join(map(str, sides))
    typer.echo(f"{onnx}: {graph.INPUT} (N, {network.in_channels}, {text}) to {graph.OUTPUT} (N, 1, {text})")


def _lengths(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"expected lengths such as 80,80,80, found {text!r}", param_hint="--shape")
    return tuple(map(int, parts))

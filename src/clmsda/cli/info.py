"""`clmsda info`: what is installed, what the networks cost, what a model or a folder holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from clmsda.cli.options import DEFAULT_MODEL, STDOUT, new_table, show, status, write_json
from clmsda.version import software_version

app = typer.Typer(help="Versions and devices; or one of: networks, model, series.", invoke_without_command=True)

PACKAGES = ("openvino", "torch", "numpy", "scipy", "pydicom", "SimpleITK")
RUNTIMES = ("openvino", "torch")


@app.callback()
def overview(
    ctx: typer.Context,
    json: Annotated[
        bool, typer.Option("--json", help="As JSON, with the models' licenses; at once, so no device is asked.")
    ] = False,
) -> None:
    """Versions and devices; or one of: networks, model, series."""
    if ctx.invoked_subcommand:
        if json:
            raise typer.BadParameter(f"--json is for `clmsda info` alone, found {ctx.invoked_subcommand!r} behind it")
        return
    if json:
        write_json(_facts(), STDOUT)
        return
    from clmsda import models, runtimes

    rows = [["clmsda", software_version()], ["python", sys.version.split()[0]]]
    rows += [[name, _version(name) or "not installed"] for name in PACKAGES]
    rows += [["devices", ", ".join(runtimes.devices())], ["threads", str(runtimes.cores())]]
    rows += [["models", ", ".join(models.available()) or "none"]]
    show(new_table(["", ""], rows))


def _facts() -> dict[str, Any]:
    """What is installed, without importing any of it: documented in docs/command-line.md."""
    import platform

    from clmsda import shipped

    return {
        "clmsda": software_version(),
        "license": "Apache-2.0",
        "use": "research only, no medical device",
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in PACKAGES if name not in RUNTIMES},
        "runtimes": {name: _version(name) for name in RUNTIMES},
        "models": [shipped.facts(name) for name in shipped.available()],
    }


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


@app.command()
def networks(
    width: Annotated[int, typer.Option(help="Channels of the first level, a multiple of 4; 64 is the paper's.")] = 64,
    dims: Annotated[int, typer.Option(min=2, max=3, help="Spatial dimensions; 2 is the paper's.")] = 2,
    side: Annotated[int | None, typer.Option(min=32, help="Side of the patch; else 256 in 2-D, 64 in 3-D.")] = None,
    attention_tokens: Annotated[
        int | None, typer.Option(min=0, help="Pool attention's keys and values above so many; 0 never pools.")
    ] = None,
) -> None:
    """Parameters, and FLOPs of one forward pass on one patch, of the paper's four variants."""
    from clmsda.networks import VARIANTS, NetworkConfig, build, flops, parameter_count

    shape = (side or (256 if dims == 2 else 64),) * dims
    tokens = NetworkConfig().attention_tokens if attention_tokens is None else attention_tokens
    rows = []
    for name, variant in VARIANTS.items():
        config = NetworkConfig(spatial_dims=dims, width=width, block=variant.block, attention_tokens=tokens)
        with status(name):
            network = build(config)
            cost = flops(network, (1, config.in_channels, *shape))
        views = "both views" if variant.pairs else "size-variant view"
        rows.append([name, views, f"{parameter_count(network) / 1e6:.2f}", f"{cost / 1e9:.1f}"])
    title = f"width {width}, patch {'x'.join(map(str, shape))}, {tokens or 'all'} attention tokens"
    show(new_table(["variant", "trained on", "parameters (millions)", "GFLOPs per patch"], rows, title))


@app.command()
def model(
    name: Annotated[
        str, typer.Argument(metavar="[NAME|FILE]", help="A shipped model, or a .safetensors file.")
    ] = DEFAULT_MODEL,
) -> None:
    """What a model is and what it was trained with."""
    import json
    from dataclasses import asdict

    from clmsda import models

    loaded = models.read(name)
    typer.echo(json.dumps({"model": loaded.version, **asdict(loaded.config)}, indent=2))


@app.command()
def series(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A DICOM folder or a zip of one.")],
) -> None:
    """The DICOM series in a folder or zip: what `--series` takes."""
    from clmsda.images import list_series

    for one in list_series(path):  # a line each, never wrapped: the UID is there to be copied
        typer.echo(one)

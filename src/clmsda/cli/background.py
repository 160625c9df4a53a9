"""`clmsda background`: a real chest CT made ready for synthetic tumors to be set into."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def background(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of backgrounds; made if it is not there.")],
    image: Annotated[Path, typer.Argument(metavar="CT", help="A chest CT: a DICOM series, NIfTI, NRRD or MetaImage.")],
    slices: Annotated[
        str | None,
        typer.Option(metavar="FIRST-LAST", help="Only these axial slices, counted from 0: without a tumor of its own."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Its name there; by default the CT's and the slices'.")] = None,
) -> None:
    """Add a real chest CT to a folder that `data.backgrounds` of a training TOML may name."""
    from clmsda.images import read_ct
    from clmsda.phantoms import Background

    ct = read_ct(image)
    first, last = _range(slices, ct.grid.shape[0])
    part = ct.crop((first, 0, 0), (last + 1, *ct.grid.shape[1:]))
    name = name or f"{image.name.split('.')[0]}-{first}-{last}"
    made = Background.measured(part, name)
    made.write(out)
    low, high = made.heights_mm
    typer.echo(f"{out / name}.json: {high - low:.0f} mm, noise {made.noise_hu:.0f} HU, tissue {made.tissue_hu:.0f} HU")


def _range(text: str | None, count: int) -> tuple[int, int]:
    if text is None:
        return 0, count - 1
    first, dash, last = text.partition("-")
    if not (dash and first.strip().isdigit() and last.strip().isdigit() and int(first) <= int(last) < count):
        raise typer.BadParameter(f"expected FIRST-LAST within 0-{count - 1}, found {text!r}", param_hint="--slices")
    return int(first), int(last)

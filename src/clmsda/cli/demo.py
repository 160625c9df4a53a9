"""`clmsda demo`: one synthetic patient, from CT file to measurements beside the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clmsda.cli.options import DEFAULT_MODEL, Device, ModelName, Runtime, new_table, show, status
from clmsda.files import make_folder

if TYPE_CHECKING:
    from clmsda.geometry import Volume

SHIPPED = Path(__file__).parent / "demo_ct"
"""A phantom's CT and mask, for who has no torch to draw one: `clmsda phantom X --cases 1 --seed SEED --matrix 192`."""
SEED = 46


def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for CT, masks, JSON and picture.")] = Path("demo"),
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Another phantom than the one that comes with clmsda; it needs the extra train."),
    ] = None,
    model: ModelName = DEFAULT_MODEL,
    device: Device = "auto",
    runtime: Runtime = "auto",
) -> None:
    """Segment a synthetic chest from one click, and print the measurements beside the truth."""
    from clmsda import images, measurements, metrics, models, prompts, segmentation
    from clmsda.cli.outputs import write_outputs
    from clmsda.cli.tables import COLUMNS, measurement_row
    from clmsda.segmentation.delivery import refuse_nothing

    loaded = models.load(model, device, runtime=runtime)
    ct, truth = _shipped() if seed is None else _drawn(seed)
    make_folder(out)
    images.write_image(ct, out / "ct.nii.gz")
    images.write_mask(truth, out / "truth.nii.gz")
    expected = measurements.measure(truth)
    click = prompts.Point(expected.center_mm)
    with status("Segmenting from one click") as progress:
        ct = images.read_ct(out / "ct.nii.gz")
        found = segmentation.segment(ct, click, loaded, progress=progress)
        refuse_nothing(found)
        write_outputs(ct, found, out / "mask.nii.gz", out / "measurements.json", out / "preview.png")
    rows = [
        measurement_row("truth", expected),
        *(measurement_row("found", lesion.measurement) for lesion in found.lesions if lesion.measurement),
    ]
    where = ",".join(f"{x:.1f}" for x in click.lps_mm)
    name = f"phantom {SEED if seed is None else seed}"
    show(new_table(COLUMNS, rows, f"{name}, one click at {where} LPS mm, model {found.model}"))
    typer.echo(f"F1 {metrics.f1(found.mask.voxels > 0, truth.voxels > 0):.3f}. Mask, JSON and picture are in {out}/")


def _shipped() -> tuple[Volume, Volume]:
    from clmsda import images

    ct = images.read_ct(SHIPPED / "ct.nii.gz")
    return ct, images.read_mask(SHIPPED / "truth.nii.gz", grid=ct.grid)


def _drawn(seed: int) -> tuple[Volume, Volume]:
    from clmsda import phantoms

    with status(f"Drawing phantom {seed}"):
        return phantoms.scan(phantoms.sample(seed), matrix=256)

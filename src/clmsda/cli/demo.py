"""`clmsda demo`: one synthetic patient, from CT file to measurements beside the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clmsda.cli.options import Device, ModelName, new_table, show, status
from clmsda.files import make_folder


def demo(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for CT, masks, JSON and picture.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Which phantom.")] = 34,
    model: ModelName = "shipped",
    device: Device = "auto",
) -> None:
    """Segment a synthetic chest from one click, and print the measurements beside the truth."""
    from clmsda import images, measurements, metrics, models, phantoms, prompts, segmentation
    from clmsda.cli.segment import write_outputs
    from clmsda.cli.tables import COLUMNS, measurement_row
    from clmsda.segmentation.delivery import refuse_nothing

    make_folder(out)
    loaded = models.load(model, device)
    with status(f"Rendering phantom {seed}"):
        ct, truth = phantoms.scan(phantoms.sample(seed), matrix=256)
        images.write_image(ct, out / "ct.nii.gz")
        images.write_mask(truth, out / "truth.nii.gz")
    expected = measurements.measure(truth)
    click = prompts.Point(expected.center_mm)
    with status("Segmenting from one click") as progress:
        ct = images.read_ct(out / "ct.nii.gz")
        found = segmentation.segment(ct, click, loaded, device=device, progress=progress)
        refuse_nothing(found)
        write_outputs(ct, found, out / "mask.nii.gz", out / "measurements.json", out / "preview.png")
    rows = [
        measurement_row("truth", expected),
        *(measurement_row("found", lesion.measurement) for lesion in found.lesions if lesion.measurement),
    ]
    where = ",".join(f"{x:.1f}" for x in click.lps_mm)
    show(new_table(COLUMNS, rows, f"phantom {seed}, one click at {where} LPS mm, model {found.model}"))
    typer.echo(f"F1 {metrics.f1(found.mask.voxels > 0, truth.voxels > 0):.3f}. Mask, JSON and picture are in {out}/")

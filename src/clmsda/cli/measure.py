"""`clmsda measure`: volume and diameters of the lesions in a mask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clmsda.cli.options import STDOUT, Json, check_suffix, new_table, show, write_json
from clmsda.version import software


def measure(
    mask: Annotated[
        Path, typer.Argument(metavar="MASK", help="NIfTI, NRRD, MHA, DICOM SEG, or RTSTRUCT with --image.")
    ],
    image: Annotated[
        Path | None, typer.Option(metavar="CT", help="The CT under the mask: adds the mean HU; an RTSTRUCT needs it.")
    ] = None,
    series: Annotated[
        str | None, typer.Option(metavar="UID", help="Which CT series, where --image holds several.")
    ] = None,
    roi: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which ROI of an RTSTRUCT or segment of a DICOM SEG.")
    ] = None,
    json: Json = None,
) -> None:
    """Measure every lesion (label) of a mask: volume, long and short axis, slices, size group."""
    import numpy as np

    from clmsda import images, measurements
    from clmsda.cli.tables import COLUMNS, measurement_row
    from clmsda.geometry import Volume
    from clmsda.images.scan_facts import read_scan_facts

    if json is not None and json != STDOUT:
        check_suffix(json, [".json"])
    if series is not None and image is None:
        raise typer.BadParameter("--series chooses among the series of --image: give that too")
    ct = images.read_ct(image, series=series) if image else None
    labels = images.read_mask(mask, grid=ct.grid if ct else None, roi=roi)
    present = [int(label) for label in np.unique(labels.voxels) if label]
    if not present:
        raise measurements.EmptyMask(f"{mask}: no voxel is marked, so there is nothing to measure")
    found = {label: measurements.measure(Volume(labels.voxels == label, labels.grid), image=ct) for label in present}
    if json is not None:
        lesions = [{"label": label, **measurement.to_json()} for label, measurement in found.items()]
        scan = read_scan_facts(image, ct, series=ct.source) if image and ct else read_scan_facts(mask, labels)
        about = {"mask": str(mask), "software": software(), "scan": scan.to_json()}
        write_json({**about, "lesions": lesions}, json)
    if json != STDOUT:
        show(new_table(COLUMNS, [measurement_row(str(label), one) for label, one in found.items()]))

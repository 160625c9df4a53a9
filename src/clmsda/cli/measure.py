"""`clmsda measure`: volume and diameters of the lesions in a mask."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clmsda.cli.options import STDOUT, Json, check_suffix, new_table, show, write_json
from clmsda.version import software

if TYPE_CHECKING:
    from clmsda.geometry import Volume
    from clmsda.measurements import Measurement


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
        list[str] | None,
        typer.Option(
            metavar="NAME|NUMBER",
            help="Which ROI of an RTSTRUCT, segment of a DICOM SEG, or label. Repeat for several.",
        ),
    ] = None,
    json: Json = None,
) -> None:
    """Measure every lesion (label) of a mask: volume, long and short axis, slices, size group."""
    from clmsda import images
    from clmsda.cli.tables import COLUMNS, measurement_row
    from clmsda.errors import heard
    from clmsda.images.scan_facts import read_scan_facts

    if json is not None and json != STDOUT:
        check_suffix(json, [".json"])
    if series is not None and image is None:
        raise typer.BadParameter("--series chooses among the series of --image: give that too")
    found: dict[int, Measurement] = {}
    lesions = []
    chosen: list[str | None] = [*roi] if roi else [None]
    with heard() as warnings:
        ct = images.read_ct(image, series=series) if image else None
        for one in chosen:
            labels = _read(mask, image, ct, one)
            for label, measurement, told in _measured(mask, labels, ct, one):
                if label in found:
                    raise typer.BadParameter(f"--roi {one}: lesion {label} is measured already: give each region once")
                found[label] = measurement
                lesions.append({"label": label, **told, **measurement.to_json()})
    if json is not None:
        scan = read_scan_facts(image, ct, series=ct.source) if image and ct else read_scan_facts(mask, labels)
        about = {"mask": str(mask), "software": software(), "scan": scan.to_json()}
        write_json({**about, "warnings": warnings, "lesions": lesions}, json)
    if json != STDOUT:
        show(new_table(COLUMNS, [measurement_row(str(label), one) for label, one in found.items()]))


def _read(mask: Path, image: Path | None, ct: Volume | None, roi: str | None) -> Volume:
    """The mask, on the image's grid. Raises OtherFrame and what `read_mask` raises."""
    from clmsda.images import read_mask
    from clmsda.images.drawn_on import check_drawn_on

    if image is not None and ct is not None:
        check_drawn_on(mask, image, ct.source, roi)
    return read_mask(mask, grid=ct.grid if ct else None, roi=roi)


def _measured(
    mask: Path, labels: Volume, ct: Volume | None, roi: str | None
) -> list[tuple[int, Measurement, dict[str, Any]]]:
    """Every lesion's label, its measurement, and its name and tracking UID where the mask tells them.

    Raises EmptyMask.
    """
    import numpy as np

    from clmsda import measurements
    from clmsda.geometry import Volume
    from clmsda.images.masks import described
    from clmsda.images.voxel_files import is_voxel_file

    present = [int(label) for label in np.unique(labels.voxels) if label]
    if not present:
        raise measurements.EmptyMask(f"{mask}: no voxel is marked, so there is nothing to measure")
    regions = described(mask, roi)
    found = []
    for value in present:
        measurement = measurements.measure(Volume(labels.voxels == value, labels.grid), image=ct)
        region = regions.get(value)
        label, told = value, {}
        if region is not None:
            label = region.label
            told = {"name": region.name} if region.name else {}
            told |= {"tracking_uid": region.tracking[1]} if region.tracking else {}
        elif roi is not None and mask.is_file() and is_voxel_file(mask):
            label = int(roi)
        found.append((label, measurement, told))
    return found

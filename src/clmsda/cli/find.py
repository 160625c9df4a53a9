"""`clmsda find`: a chest CT in; the lung tumors in it out, as `segment` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clmsda.cli.options import (
    DEFAULT_MODEL,
    Device,
    DicomSeg,
    Json,
    LabelMap,
    ModelName,
    Rtstruct,
    Runtime,
    Sr,
    dicom_outputs,
    status,
)
from clmsda.cli.outputs import Wanted, deliver
from clmsda.shipped import DETECTOR

if TYPE_CHECKING:
    from clmsda.dicom_objects import Source
    from clmsda.geometry import Volume
    from clmsda.segmentation import Segmentation


def find(
    ct: Annotated[Path, typer.Argument(metavar="CT", help="DICOM folder, zip of one, NIfTI, NRRD or MHA.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="MASK", help="Mask to write: .nii.gz, .nii, .nrrd or .mha.")
    ],
    sensitivity: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of tumors to be found, as measured on phantoms; by default what comes with two false findings.",
        ),
    ] = None,
    series: Annotated[
        str | None, typer.Option(metavar="UID", help="Which CT series, where the folder holds several.")
    ] = None,
    model: ModelName = DEFAULT_MODEL,
    detector: Annotated[str, typer.Option(metavar="NAME|FILE", help="The model that says where to look.")] = DETECTOR,
    device: Device = "auto",
    runtime: Runtime = "auto",
    json: Json = None,
    preview: Annotated[
        Path | None, typer.Option(metavar="PICTURE", help="Picture of three planes with contour and axes (.png ...).")
    ] = None,
    dicom_seg: DicomSeg = None,
    rtstruct: Rtstruct = None,
    sr: Sr = None,
    labelmap: LabelMap = False,
    anonymize: Annotated[
        bool,
        typer.Option(
            "--anonymize",
            help="Leave what leads back to the patient out of JSON, picture, mask. DICOM objects keep it: they must.",
        ),
    ] = False,
) -> None:
    """Find, outline and measure the lung tumors of a chest CT; nobody says where they are.

    Lesions get the labels 1, 2, ... by probability. Look at every one: most scans have findings that are no tumors,
    and some tumors are missed (docs/automatic.md).
    """
    from clmsda import images, models, segmentation

    wanted = Wanted(output, json, preview, dicom_outputs(dicom_seg, rtstruct, sr, labelmap), labelmap, anonymize)

    def run(_: Source | None) -> tuple[Volume, Segmentation]:
        with status("Loading the models"):
            seeker, outliner = (models.load(name, device, runtime=runtime) for name in (detector, model))
        with status(f"Reading {ct}"):
            volume = images.read_ct(ct, series=series)
        with status("Finding tumors") as progress:
            found = segmentation.find(volume, outliner, detector=seeker, sensitivity=sensitivity, progress=progress)
            return volume, found

    deliver(ct, series, wanted, {"the CT": ct}, run)

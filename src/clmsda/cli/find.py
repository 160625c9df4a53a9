"""`clmsda find`: a chest CT in; the lung tumors in it out, as `segment` writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clmsda.cli.options import (
    DEFAULT_MODEL,
    Anonymize,
    Ct,
    Device,
    DicomSeg,
    Json,
    LabelMap,
    MaskOut,
    ModelName,
    OneSeries,
    Preview,
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
    ct: Ct,
    output: MaskOut,
    sensitivity: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of tumors to be found, as measured on phantoms. The highest (1, of the shipped detector) gives "
            "most; by default what comes with one false finding in two scans (docs/automatic.md).",
        ),
    ] = None,
    series: OneSeries = None,
    model: ModelName = DEFAULT_MODEL,
    detector: Annotated[str, typer.Option(metavar="NAME|FILE", help="The model that says where to look.")] = DETECTOR,
    device: Device = "auto",
    runtime: Runtime = "auto",
    json: Json = None,
    preview: Preview = None,
    dicom_seg: DicomSeg = None,
    rtstruct: Rtstruct = None,
    sr: Sr = None,
    labelmap: LabelMap = False,
    anonymize: Anonymize = False,
) -> None:
    """Find, outline and measure the lung tumors of a chest CT; nobody says where they are.

    Lesions get the labels 1, 2, ... as the detector finds them probable. Look at every one, and at the lungs: some
    findings are no tumors, and some tumors are missed (docs/automatic.md).
    """
    from clmsda import images, models, segmentation
    from clmsda.segmentation import automatic

    wanted = Wanted(output, json, preview, dicom_outputs(dicom_seg, rtstruct, sr, labelmap), labelmap, anonymize)

    def run(_: Source | None) -> tuple[Volume, Segmentation]:
        with status("Loading the models"):
            seeker, outliner = (models.load(name, device, runtime=runtime) for name in (detector, model))
        automatic.least_probability(seeker, sensitivity)  # before the CT is read, which takes longer
        models.check_outliner(outliner)
        with status(f"Reading {ct}"):
            volume = images.read_ct(ct, series=series)
        with status("Finding tumors") as progress:
            found = segmentation.find(volume, outliner, detector=seeker, sensitivity=sensitivity, progress=progress)
            return volume, found

    deliver(ct, series, wanted, {"the CT": ct}, run)

"""`clmsda segment`: a CT and prompts in; mask, measurements, picture and DICOM objects out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clmsda.cli.options import (
    DEFAULT_MODEL,
    Anonymize,
    Boxes,
    Ct,
    Device,
    DicomSeg,
    DrawnIn,
    Frame,
    Insides,
    Json,
    LabelMap,
    Lines,
    MaskOut,
    ModelName,
    OneSeries,
    Outsides,
    Points,
    Preview,
    PromptFrame,
    Rtstruct,
    Runtime,
    Sr,
    dicom_outputs,
    prompts_of,
    status,
)
from clmsda.cli.outputs import Wanted, deliver

if TYPE_CHECKING:
    from clmsda.dicom_objects import Source
    from clmsda.geometry import Grid, Volume
    from clmsda.models import Model
    from clmsda.prompts import Correction, Prompt, RecistLine
    from clmsda.segmentation import Segmentation


def segment(
    ct: Ct,
    output: MaskOut,
    point: Points = None,
    recist: Lines = None,
    box: Boxes = None,
    recist_from: DrawnIn = None,
    inside: Insides = None,
    outside: Outsides = None,
    refine: Annotated[
        Path | None, typer.Option(metavar="MASK", help="Start from this mask of the lesion, on the CT's grid.")
    ] = None,
    frame: PromptFrame = Frame.LPS,
    series: OneSeries = None,
    model: ModelName = DEFAULT_MODEL,
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
    """Segment and measure the tumors at the given prompts.

    Lesions get the labels 1, 2, ... in the order: points, RECIST lines, boxes, lines of files. --inside, --outside
    and --refine correct one lesion.
    Numbers may be negative: --point=-75.7,22.0,-31.4
    """
    prompts = prompts_of(point, recist, box, frame, inside=inside, outside=outside, refine=refine is not None,
                         drawn=bool(recist_from))  # fmt: skip
    from clmsda import models
    from clmsda.segmentation import delivery

    wanted = Wanted(output, json, preview, dicom_outputs(dicom_seg, rtstruct, sr, labelmap), labelmap, anonymize)
    inputs = {"the CT": ct} | ({"the mask to start from": refine} if refine else {})
    inputs |= {f"the lines in {path}": path for path in recist_from or ()}

    def run(source: Source | None) -> tuple[Volume, Segmentation]:
        drawn = _lines(recist_from or [], source)
        load = partial(models.load, model, device, runtime=runtime)
        volume, found = _run(ct, lambda grid: [*prompts(grid), *drawn], series, load, refine)
        delivery.refuse_nothing(found)
        return volume, found

    deliver(ct, series, wanted, inputs, run, in_series=bool(recist_from))


def _lines(files: list[Path], source: Source | None) -> list[RecistLine]:
    from clmsda.dicom_objects import read_lines

    return [line for path in files if source is not None for line in read_lines(path, source)]


def _run(
    ct: Path,
    prompts: Callable[[Grid], list[Prompt | Correction]],
    series: str | None,
    load: Callable[[], Model],
    refine: Path | None,
) -> tuple[Volume, Segmentation]:
    from clmsda import images, segmentation

    with status("Loading the model"):
        loaded = load()
    with status(f"Reading {ct}"):
        volume = images.read_ct(ct, series=series)
        start = None if refine is None else images.read_mask(refine, grid=volume.grid)
    given = prompts(volume.grid)
    with status("Segmenting") as progress:
        return volume, segmentation.segment(volume, given, loaded, refine=start, progress=progress)

"""`clmsda segment`: a CT and prompts in; mask, measurements, picture and DICOM objects out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clmsda.cli.options import (
    DEFAULT_MODEL,
    STDOUT,
    Boxes,
    Device,
    DicomSeg,
    DrawnIn,
    Frame,
    Insides,
    Json,
    LabelMap,
    Lines,
    ModelName,
    Outsides,
    Points,
    PromptFrame,
    Rtstruct,
    Runtime,
    Sr,
    check_places,
    check_suffix,
    dicom_outputs,
    prompts_of,
    status,
    write_json,
)
from clmsda.cli.tables import show_lesions
from clmsda.errors import heard
from clmsda.files import replacing_all

if TYPE_CHECKING:
    from clmsda.dicom_objects import Source
    from clmsda.geometry import Grid, Volume
    from clmsda.models import Model
    from clmsda.prompts import Correction, Prompt, RecistLine
    from clmsda.segmentation import Segmentation

PICTURES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")


def segment(
    ct: Annotated[Path, typer.Argument(metavar="CT", help="DICOM folder, zip of one, NIfTI, NRRD or MHA.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="MASK", help="Mask to write: .nii.gz, .nii, .nrrd or .mha.")
    ],
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
    series: Annotated[
        str | None, typer.Option(metavar="UID", help="Which CT series, where the folder holds several.")
    ] = None,
    model: ModelName = DEFAULT_MODEL,
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
    """Segment and measure the tumors at the given prompts.

    Lesions get the labels 1, 2, ... in the order: points, RECIST lines, boxes, lines of files. --inside, --outside
    and --refine correct one lesion.
    Numbers may be negative: --point=-75.7,22.0,-31.4
    """
    prompts = prompts_of(point, recist, box, frame, inside=inside, outside=outside, refine=refine is not None,
                         drawn=bool(recist_from))  # fmt: skip
    from clmsda import models
    from clmsda.segmentation import delivery

    objects = dicom_outputs(dicom_seg, rtstruct, sr, labelmap)
    files = _named(output, json, preview)
    inputs = {"the CT": ct} | ({"the mask to start from": refine} if refine else {})
    inputs |= {f"the lines in {path}": path for path in recist_from or ()}
    check_places(files | objects, inputs)
    with replacing_all(objects | files) as paths:  # entered first: a bad folder is refused before the work
        with heard() as warnings:
            source = _source(ct, series) if objects or recist_from else None
            drawn = _lines(recist_from or [], source)
            load = partial(models.load, model, device, runtime=runtime)
            volume, found = _run(ct, lambda grid: [*prompts(grid), *drawn], series, load, refine)
        delivery.refuse_nothing(found)
        report = delivery.report(found, ct, volume, warnings=warnings, anonymize=anonymize)
        write_outputs(volume, found, **{kind: paths[kind] for kind in files}, report=report)
        if source is not None and objects:
            from clmsda.dicom_objects import write_objects

            with status("Writing DICOM objects"):
                lesions = delivery.findings(found, volume, source.series_uid)
                write_objects(source, lesions, **{kind: paths[kind] for kind in objects}, labelmap=labelmap)
    if objects and anonymize:
        typer.echo("the DICOM objects carry the patient's identifiers, as they must to be filed", err=True)
    if json == STDOUT:
        write_json(report, STDOUT)
    else:
        show_lesions(found.lesions)


def _named(output: Path, json: Path | None, preview: Path | None) -> dict[str, Path]:
    """The files to write, by kind, with names that say what they are; the mask, which is always there, last."""
    from clmsda.images.voxel_files import WRITE_SUFFIXES

    suffixes = {"json": (".json",), "preview": PICTURES, "mask": WRITE_SUFFIXES}
    given = {"json": None if json == STDOUT else json, "preview": preview, "mask": output}
    outputs = {kind: path for kind, path in given.items() if path is not None}
    for kind, path in outputs.items():
        check_suffix(path, suffixes[kind])
    return outputs


def _source(ct: Path, series: str | None) -> Source:
    """What DICOM objects will refer to. Read first, so that a CT that can have none is refused before the work."""
    from clmsda.dicom_objects import read_source

    return read_source(ct, series=series)


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


def write_outputs(
    volume: Volume,
    found: Segmentation,
    mask: Path,
    json: Path | None = None,
    preview: Path | None = None,
    report: dict[str, Any] | None = None,
) -> None:
    """Write the mask, and the measurements (or a report on them) and the picture where they are asked for."""
    from clmsda.images import write_mask

    write_mask(found.mask, mask)
    if json is not None:
        write_json(report or found.to_json(), json)
    if preview is not None:
        from clmsda.segmentation.preview import draw

        draw(volume, [(one.label, one.mask, one.measurement) for one in found.lesions if one.measurement], preview)

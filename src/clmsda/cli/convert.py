"""`clmsda convert`: any mask of a lesion becomes DICOM objects, or voxels."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clmsda.cli.options import (
    DicomSeg,
    LabelMap,
    Rtstruct,
    Sr,
    check_places,
    check_suffix,
    dicom_outputs,
    status,
)
from clmsda.files import replacing_all

if TYPE_CHECKING:
    from clmsda.dicom_objects import Algorithm, Finding, Source
    from clmsda.geometry import Volume


class Drawn(StrEnum):
    """Who drew a mask."""

    MANUAL = "manual"
    SEMIAUTOMATIC = "semiautomatic"
    AUTOMATIC = "automatic"


def convert(
    mask: Annotated[Path, typer.Argument(metavar="MASK", help="NIfTI, NRRD, MHA, DICOM SEG or RTSTRUCT.")],
    reference: Annotated[
        Path, typer.Option(metavar="CT", help="The CT that it was drawn on; for DICOM objects, its DICOM series.")
    ],
    series: Annotated[
        str | None, typer.Option(metavar="UID", help="Which CT series, where --reference holds several.")
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(metavar="NAME|NUMBER", help="Which ROI of an RTSTRUCT, segment of a DICOM SEG, or label."),
    ] = None,
    dicom_seg: DicomSeg = None,
    rtstruct: Rtstruct = None,
    sr: Sr = None,
    nifti: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write voxels on the CT's grid: .nii.gz, .nii, .nrrd or .mha.")
    ] = None,
    labelmap: LabelMap = False,
    drawn: Annotated[
        Drawn | None,
        typer.Option(
            help="Who drew it: a person, a person with software, software alone. Else as a DICOM mask says, or manual."
        ),
    ] = None,
    software: Annotated[
        str | None, typer.Option(metavar="NAME", help="The software that drew it; needed unless drawn by hand.")
    ] = None,
    software_version: Annotated[str | None, typer.Option(metavar="VERSION", help="Its version.")] = None,
) -> None:
    """Turn the lesions (labels) of a mask into DICOM objects that file into the study of their CT, or into voxels."""
    objects = dicom_outputs(dicom_seg, rtstruct, sr, labelmap)
    voxels = {} if nifti is None else {"nifti": nifti}
    if not objects and not voxels:
        raise typer.BadParameter("say what to write: at least one of --dicom-seg, --rtstruct, --nifti")
    algorithm = _algorithm(drawn, software, software_version)
    if nifti is not None:
        from clmsda.images.voxel_files import WRITE_SUFFIXES

        check_suffix(nifti, WRITE_SUFFIXES)
    check_places(objects | voxels, {"the mask": mask, "the CT": reference})
    with replacing_all(objects | voxels) as paths:
        with status(f"Reading {mask}"):
            source, ct, labels = _read(mask, reference, series, roi, bool(objects))
        if source is not None:
            findings = _findings(source, ct, labels, mask, roi, algorithm)
            _write_objects(source, findings, {kind: paths[kind] for kind in objects}, labelmap)
        if voxels:
            _write_voxels(_with_lesion_numbers(labels, mask, roi), paths["nifti"])
    for path in (*objects.values(), *voxels.values()):
        typer.echo(str(path))


def _algorithm(drawn: Drawn | None, software: str | None, version: str | None) -> Algorithm | None:
    """What the options say of who drew the mask; None where they say nothing."""
    from clmsda.dicom_objects import BY_HAND, Algorithm

    by_software = drawn in (Drawn.SEMIAUTOMATIC, Drawn.AUTOMATIC)
    if by_software and not software:
        raise typer.BadParameter(f"--drawn {drawn} needs the software's name, which the objects must give: --software")
    if (software or version) and not by_software:
        raise typer.BadParameter("--software and its version go with --drawn semiautomatic or automatic")
    if drawn is None:
        return None
    if drawn == Drawn.MANUAL:
        return BY_HAND
    return Algorithm("AUTOMATIC" if drawn == Drawn.AUTOMATIC else "SEMIAUTOMATIC", software or "", version or "")


def _read(
    mask: Path, reference: Path, series: str | None, roi: str | None, for_objects: bool
) -> tuple[Source | None, Volume, Volume]:
    """The source (where objects are wanted), the CT, and the labels on its grid."""
    from clmsda.dicom_objects import check_series, read_source
    from clmsda.images import read_ct, read_mask
    from clmsda.images.drawn_on import check_drawn_on
    from clmsda.images.voxel_files import is_voxel_file

    source = read_source(reference, series=series) if for_objects else None
    ct = read_ct(reference, series=series)
    if not (reference.is_file() and is_voxel_file(reference)):
        check_series(mask, ct.source, roi)
        check_drawn_on(mask, reference, ct.source, roi)
    labels = read_mask(mask, grid=ct.grid, roi=roi)
    return source, ct, labels


def _findings(
    source: Source, ct: Volume, labels: Volume, mask: Path, roi: str | None, algorithm: Algorithm | None
) -> tuple[Finding, ...]:
    from dataclasses import replace

    from clmsda.dicom_objects import BY_HAND, carry_over, findings_of

    findings = findings_of(labels, ct, series_uid=source.series_uid, algorithm=BY_HAND)
    findings = carry_over(findings, mask, roi, series_uid=source.series_uid)
    return findings if algorithm is None else tuple(replace(one, algorithm=algorithm) for one in findings)


def _write_objects(source: Source, findings: tuple[Finding, ...], paths: dict[str, Path], labelmap: bool) -> None:
    from clmsda.dicom_objects import write_objects

    with status("Writing DICOM objects"):
        write_objects(source, findings, **paths, labelmap=labelmap)


def _with_lesion_numbers(labels: Volume, mask: Path, roi: str | None) -> Volume:
    """Segments under the numbers of their lesions, where the mask tells these; one region that was chosen stays 1."""
    import numpy as np

    from clmsda.geometry import Volume
    from clmsda.images.masks import described

    table = np.arange(int(labels.voxels.max()) + 1, dtype=np.uint16)
    for number, region in described(mask, roi).items() if roi is None else ():
        if number < len(table) and "SegmentNumber" in region.item:
            table[number] = region.label
    return Volume(table[labels.voxels], labels.grid, labels.source)


def _write_voxels(labels: Volume, path: Path) -> None:
    from clmsda.dicom_objects import NothingToWrite
    from clmsda.images import write_mask

    if not labels.voxels.any():
        raise NothingToWrite(f"{labels.source}: no voxel is marked, so there is nothing to write")
    write_mask(labels, path)

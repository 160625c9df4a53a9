"""What `segment` and `find` write of one CT: mask, measurements, picture, DICOM objects; all of them, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from clmsda.cli.options import STDOUT, check_places, check_suffix, status, write_json
from clmsda.cli.tables import show_lesions
from clmsda.errors import heard
from clmsda.files import replacing_all

if TYPE_CHECKING:
    from clmsda.dicom_objects import Source
    from clmsda.geometry import Volume
    from clmsda.segmentation import Segmentation

PICTURES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")


@dataclass(frozen=True)
class Wanted:
    """The files that are asked for. json: `STDOUT` prints it. objects: DICOM objects, by kind."""

    mask: Path
    json: Path | None
    preview: Path | None
    objects: Mapping[str, Path]
    labelmap: bool
    anonymize: bool

    def files(self) -> dict[str, Path]:
        """Those that are no DICOM, by kind; the mask, which is always there, last. Raises OutputError for a name."""
        from clmsda.images.voxel_files import WRITE_SUFFIXES

        suffixes = {"json": (".json",), "preview": PICTURES, "mask": WRITE_SUFFIXES}
        given = {"json": None if self.json == STDOUT else self.json, "preview": self.preview, "mask": self.mask}
        outputs = {kind: path for kind, path in given.items() if path is not None}
        for kind, path in outputs.items():
            check_suffix(path, suffixes[kind])
        return outputs


def deliver(
    ct: Path,
    series: str | None,
    wanted: Wanted,
    inputs: Mapping[str, Path],
    run: Callable[[Source | None], tuple[Volume, Segmentation]],
    *,
    in_series: bool = False,
) -> None:
    """Do the work, and write what is asked for. A place that cannot be written to is refused before the work.

    inputs: what must not be overwritten. run: gives the CT and what was found in it, from the DICOM series that
    objects will refer to, if there are to be any. in_series: whether it needs that series in any case,
    for lines that were drawn on it.
    """
    from clmsda.segmentation import delivery

    files, objects = wanted.files(), dict(wanted.objects)
    check_places(files | objects, inputs)
    with replacing_all(objects | files) as paths:
        with heard() as warnings:
            source = _source(ct, series, in_series) if objects or in_series else None
            volume, found = run(source)
        report = delivery.report(found, ct, volume, warnings=warnings, anonymize=wanted.anonymize)
        left_out = [] if found.lesions else _leave_out(["preview", *objects], paths)
        write_outputs(volume, found, **{kind: paths[kind] for kind in files if kind in paths}, report=report)
        if found.lesions and source is not None and objects:
            from clmsda.dicom_objects import write_objects

            with status("Writing DICOM objects"):
                lesions = delivery.findings(found, volume, source.series_uid)
                write_objects(source, lesions, **{kind: paths[kind] for kind in objects}, labelmap=wanted.labelmap)
    _remove_older([(files | objects)[kind] for kind in left_out])
    if objects and wanted.anonymize and not left_out:
        typer.echo("the DICOM objects carry the patient's identifiers, as they must to be filed", err=True)
    if wanted.json == STDOUT:
        write_json(report, STDOUT)
    else:
        show_lesions(found)


def _leave_out(kinds: Sequence[str], paths: dict[str, Path]) -> list[str]:
    """Of nothing there is no picture and no DICOM object; an empty mask and a list of no lesions say so.

    Gives the kinds that are left out.
    """
    dropped = [kind for kind in kinds if paths.pop(kind, None)]
    if dropped:
        typer.echo(f"nothing was found, so there is nothing to write as {', '.join(dropped)}", err=True)
    return dropped


def _remove_older(paths: Sequence[Path]) -> None:
    """Take away what an earlier run wrote where this one has nothing to write: it would tell of other findings."""
    for path in paths:
        if path.exists():
            path.unlink()
            typer.echo(f"removed {path}, which was there before", err=True)


def _source(ct: Path, series: str | None, for_lines: bool) -> Source:
    """What DICOM objects will refer to. Read first, so that a CT that can have none is refused before the work."""
    from clmsda.dicom_objects import read_source

    return read_source(ct, series=series, for_lines=for_lines)


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

        drawn = [(one.label, one.mask, one.measurement) for one in found.lesions if one.measurement]
        sure = {one.label: one.probability for one in found.lesions if one.probability is not None}
        draw(volume, drawn, preview, probabilities=sure)

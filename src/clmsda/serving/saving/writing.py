"""A session's lesions as files: each state of them once, so that all files of a state refer to each other."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clmsda.dicom_objects import NoSource, read_source, write_objects
from clmsda.dicom_objects.writing import short_text
from clmsda.errors import heard
from clmsda.files import make_folder, replacing
from clmsda.images import write_mask
from clmsda.images.scan_facts import ScanFacts
from clmsda.segmentation import Segmentation, delivery
from clmsda.serving.saving.kinds import OBJECTS
from clmsda.serving.saving.page import write_page
from clmsda.serving.saving.sheet import write_sheet
from clmsda.serving.saving.summary import summarized
from clmsda.serving.sessions import Lesion, Opened, SessionError

if TYPE_CHECKING:
    from clmsda.dicom_objects import Finding

Say = Callable[[str], None]
NEEDED = {"sr.dcm": ("seg.dcm",)}
"""What a file refers to."""
STATES = 4
"""The files of so many states stay, as somebody may be reading them."""


def write(opened: Opened, kinds: Collection[str], folder: Path, say: Say = lambda text: None) -> dict[str, Path]:
    """Write lesions as they are now, those that hold something; returns the files by kind.

    kinds: of `KINDS`; what one of them refers to is written, too. folder: keeps the files of this state, until those
    of another are asked for: the same state gives the same files.
    Raises SessionError where there is no lesion, and what `clmsda.dicom_objects` raises for a CT that is no series.
    """
    lesions = [one for one in opened.session.lesions if one.now.measurement]
    if not lesions:
        raise SessionError("no lesion holds anything, so there is nothing to save: click into a tumor first")
    wanted = set(kinds).union(*(NEEDED.get(kind, ()) for kind in kinds))
    with opened.saving:
        here = folder / _state(lesions)
        _make_room(folder, here)
        missing = [kind for kind in sorted(wanted) if not (here / kind).exists()]
        if missing:
            found = opened.session.found(lesions)
            _write(opened, lesions, found, missing, here, say)
    return {kind: here / kind for kind in wanted}


def _make_room(folder: Path, here: Path) -> None:
    """Make the folder of a state, and remove those of states that are long past."""
    make_folder(here)
    here.touch()
    by_age = sorted(folder.iterdir(), key=lambda one: one.stat().st_mtime)
    for old in by_age[:-STATES]:
        shutil.rmtree(old, ignore_errors=True)


def _state(lesions: Sequence[Lesion]) -> str:
    content = [[one.to_json(), one.now.uid] for one in lesions]
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()


def _write(
    opened: Opened, lesions: Sequence[Lesion], found: Segmentation, kinds: Collection[str], folder: Path, say: Say
) -> None:
    if "mask.nii.gz" in kinds:
        say("writing the mask")
        write_mask(found.mask, folder / "mask.nii.gz")
    if "measurements.json" in kinds:
        record = measurements(opened, lesions, found)
        with replacing(folder / "measurements.json") as temporary:
            temporary.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf8")
    if not set(OBJECTS).isdisjoint(kinds):
        say("writing DICOM objects")
        _write_objects(opened, lesions, found, kinds, folder)
    reports = {"report.html": write_page, "report.pdf": write_sheet}
    if not set(reports).isdisjoint(kinds):
        say("drawing the report")
        summary = summarized(opened, lesions, found, measurements(opened, lesions, found))
        for kind in set(reports).intersection(kinds):
            reports[kind](summary, folder / kind)


def measurements(opened: Opened, lesions: Sequence[Lesion], found: Segmentation) -> dict[str, Any]:
    """What `clmsda segment --json` writes, with each lesion's name and organ and whether a person accepted it."""
    volume = opened.session.volume
    if opened.path is not None:
        record = delivery.report(found, opened.path, volume, warnings=opened.warnings)
    else:
        record = found.to_json() | {"scan": ScanFacts(slice_spacing_mm=float(volume.grid.spacing_mm[0])).to_json()}
    for lesion, one in zip(record["lesions"], lesions, strict=True):
        lesion |= {"name": one.title, "organ": one.organ, "accepted": one.accepted}
    return record


def _write_objects(
    opened: Opened, lesions: Sequence[Lesion], found: Segmentation, kinds: Collection[str], folder: Path
) -> None:
    if opened.path is None:
        raise NoSource("the voxels came from a program, so they name no study: open the DICOM series for these files")
    volume = opened.session.volume
    with heard(here=True):
        source = read_source(opened.path, series=opened.series or volume.source)
    named = [
        _named(finding, lesion)
        for finding, lesion in zip(delivery.findings(found, volume, source.series_uid), lesions, strict=True)
    ]
    both = not {"seg.dcm", "sr.dcm"}.isdisjoint(kinds)  # together, as the report names its segmentation
    write_objects(
        source,
        named,
        seg=folder / "seg.dcm" if both else None,
        rtstruct=folder / "rtstruct.dcm" if "rtstruct.dcm" in kinds else None,
        sr=folder / "sr.dcm" if both else None,
    )


def _named(finding: Finding, lesion: Lesion) -> Finding:
    """The finding as a person called it; an organ other than the lung is part of the name, which every viewer shows."""
    name = lesion.title if lesion.organ in ("lung", "other") else f"{lesion.title}, {lesion.organ}"
    return replace(finding, name=short_text(name), organ=lesion.organ)

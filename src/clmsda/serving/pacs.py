"""A series in a PACS and prompts become SEG, RTSTRUCT and SR, ready to be stored beside it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clmsda.errors import heard
from clmsda.files import make_folder, replacing_all, temporary_folder
from clmsda.geometry import Grid, Volume
from clmsda.images.errors import NotCT
from clmsda.models import Model
from clmsda.prompts import Correction, Prompt
from clmsda.segmentation import Segmentation
from clmsda.segmentation.delivery import findings, refuse_nothing, report
from clmsda.serving.dicomweb import Listed, find_series, pull
from clmsda.serving.instances import Instance, read_instances
from clmsda.serving.web import Server

OBJECTS = {"seg": "seg.dcm", "rtstruct": "rtstruct.dcm", "sr": "sr.dcm"}


@dataclass(frozen=True, eq=False)
class Segmented:
    """What was found in a series. listed: where it is filed, and so where the objects belong.

    report: the measurements as JSON, with the facts of the scan and each lesion's tracking UID.
    """

    listed: Listed
    volume: Volume
    found: Segmentation
    report: dict[str, Any]
    objects: tuple[Instance, ...]


def segment_series(
    server: Server,
    series_uid: str,
    prompts_on: Callable[[Grid], Sequence[Prompt | Correction]],
    model: Model,
    out: Path,
    *,
    study_uid: str | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Segmented:
    """Pull a CT series, outline the tumor at each prompt, and write SEG, RTSTRUCT and SR into the folder `out`.

    prompts_on: gives the prompts once the CT's grid is known. Nothing is stored in the PACS: that is `store`'s part.
    The CT itself is kept only while it is read.

    Raises NotCT, NoLesion where nothing is found at any prompt, and what `find_series`, `pull`, `read_ct`,
    `segment` and `clmsda.dicom_objects` raise.
    """
    from clmsda.dicom_objects import read_source, write_objects
    from clmsda.images import read_ct
    from clmsda.segmentation import segment

    listed = find_series(server, series_uid, study_uid)
    if listed.modality not in ("CT", ""):
        raise NotCT(f"expected a series of CT slices, found {listed.modality}: {series_uid}")
    places = {kind: make_folder(out) / name for kind, name in OBJECTS.items()}
    with ExitStack() as whole:
        # Entered first: a folder that cannot be written is refused before the work, and all three appear or none.
        paths = whole.enter_context(replacing_all(places))
        ct = whole.enter_context(temporary_folder())
        whole.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # pydicom quotes values that break a rule, a patient's among them
        pull(server, listed, ct, lambda count: progress(f"{count} of {listed.images or '?'} slices"))
        with heard() as said:
            volume = read_ct(ct, series=series_uid)
            source = read_source(ct, series=series_uid)
        found = segment(volume, prompts_on(volume.grid), model, progress=progress)
        refuse_nothing(found)
        measured = report(found, ct, volume, warnings=said)
        write_objects(
            source,
            findings(found, volume, source.series_uid),
            seg=paths["seg"],
            rtstruct=paths["rtstruct"],
            sr=paths["sr"],
        )
    return Segmented(listed, volume, found, measured, read_instances(list(places.values())))

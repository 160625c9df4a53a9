"""All objects that are asked for of the same findings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clmsda.dicom_objects.findings import Finding
from clmsda.dicom_objects.rtstruct import build_rtstruct
from clmsda.dicom_objects.seg import build_seg
from clmsda.dicom_objects.source import Source
from clmsda.dicom_objects.sr import build_sr
from clmsda.dicom_objects.writing import write_dataset


def write_objects(
    source: Source,
    findings: Sequence[Finding],
    *,
    seg: Path | None = None,
    rtstruct: Path | None = None,
    sr: Path | None = None,
    labelmap: bool = False,
) -> None:
    """Build the objects that have a path, then write them. The report (sr) refers to the segmentation, so it needs seg.

    Raises what `build_seg`, `build_rtstruct` and `build_sr` raise, before anything is written; OutputError.
    """
    datasets = {}
    if seg is not None:
        datasets[seg] = build_seg(source, findings, labelmap=labelmap)
    if rtstruct is not None:
        datasets[rtstruct] = build_rtstruct(source, findings)
    if sr is not None:
        if seg is None:
            raise ValueError("a report refers to a segmentation: give seg, too")
        datasets[sr] = build_sr(source, findings, datasets[seg])
    for path, dataset in datasets.items():
        write_dataset(dataset, path)

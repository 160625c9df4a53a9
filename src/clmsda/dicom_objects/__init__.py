"""What a reading room takes, made from findings: DICOM SEG, RTSTRUCT and SR.

`read_source` reads the headers of the CT series; `finding` (one lesion) or `findings_of` (any mask) say what was found
in it; `build_seg`, `build_rtstruct` and `build_sr` give the objects, which file into the study of the CT; `read_lines`
takes a reader's own lines out of a SR or GSPS. Importing this costs little: pydicom and highdicom are imported when an
object is made.
"""

from clmsda.dicom_objects.errors import IncompleteSource, NoLines, NoSource, NothingToWrite, OtherSeries
from clmsda.dicom_objects.findings import BY_HAND, Algorithm, Finding, by_clmsda, finding, findings_of, tracking_uid
from clmsda.dicom_objects.lines import read_lines
from clmsda.dicom_objects.objects import write_objects
from clmsda.dicom_objects.origins import carry_over, check_series
from clmsda.dicom_objects.rtstruct import build_rtstruct
from clmsda.dicom_objects.seg import build_seg
from clmsda.dicom_objects.source import Source, read_source
from clmsda.dicom_objects.sr import build_sr
from clmsda.dicom_objects.writing import write_dataset

__all__ = [
    "BY_HAND",
    "Algorithm",
    "Finding",
    "IncompleteSource",
    "NoLines",
    "NoSource",
    "NothingToWrite",
    "OtherSeries",
    "Source",
    "build_rtstruct",
    "build_seg",
    "build_sr",
    "by_clmsda",
    "carry_over",
    "check_series",
    "finding",
    "findings_of",
    "read_lines",
    "read_source",
    "tracking_uid",
    "write_dataset",
    "write_objects",
]

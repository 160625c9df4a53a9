"""The files that a session can be saved as, by name, and their media types."""

from __future__ import annotations

KINDS = {
    "mask.nii.gz": "application/gzip",
    "measurements.json": "application/json",
    "seg.dcm": "application/dicom",
    "rtstruct.dcm": "application/dicom",
    "sr.dcm": "application/dicom",
    "report.html": "text/html",
    "report.pdf": "application/pdf",
}
OBJECTS = ("seg.dcm", "rtstruct.dcm", "sr.dcm")
"""What a PACS takes."""

"""What is kept of a session for others: mask, measurements, DICOM objects, a report for people. No HTTP here."""

from clmsda.serving.saving.kinds import KINDS
from clmsda.serving.saving.writing import measurements, write

__all__ = ["KINDS", "measurements", "write"]

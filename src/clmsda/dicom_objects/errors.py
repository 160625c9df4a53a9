"""What cannot become a DICOM object, by name."""

from clmsda.errors import InputError


class NoSource(InputError):
    """A CT that is no DICOM series: there is no patient and no study to file an object into."""


class IncompleteSource(InputError):
    """A series without an attribute that objects made from it must have (type 1 in the standard)."""


class NothingToWrite(InputError):
    """Findings without a single voxel, or no finding at all."""


class OtherSeries(InputError):
    """A mask, or findings, that belong to another series than the one given."""


class NoLines(InputError):
    """A file that should hold lines that a reader drew, and holds none."""

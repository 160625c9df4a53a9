"""What the readers refuse, by name."""

from clmsda.errors import InputError


class MissingPath(InputError):
    """There is no such file or folder."""


class UnreadableFile(InputError):
    """A file that is truncated, damaged or of an unknown format."""


class NoDicom(InputError):
    """A folder or archive without a DICOM file."""


class SeveralSeries(InputError):
    """More than one CT series: the caller must choose."""


class SeriesNotFound(InputError):
    """The series that was asked for is not there."""


class NotCT(InputError):
    """Images, but not of computed tomography."""


class Localizer(InputError):
    """A localizer (scout, topogram): a projection, not slices."""


class IncompleteHeader(InputError):
    """A DICOM image without an attribute that its geometry or values need."""


class MixedSeries(InputError):
    """Slices of one series that do not form one stack: sizes, directions or frames of reference differ."""


class MissingSlice(InputError):
    """A gap in the stack of slices."""


class DuplicateSlice(InputError):
    """Two slices at one position."""


class UnevenSpacing(InputError):
    """Distances between slices that vary."""


class GantryTilt(InputError):
    """Slices that are sheared against each other, as by a gantry that was tilted."""


class ImpossibleSpacing(InputError):
    """Distances between voxels that no chest CT has."""


class Contradiction(InputError):
    """A header that says two things which cannot both be true."""


class TooLarge(InputError):
    """More voxels, or an archive with more in it, than is ever unpacked."""


class NotVolume(InputError):
    """An image that is not three-dimensional with one value per voxel."""


class NotHounsfield(InputError):
    """Values that cannot be the Hounsfield units of a chest CT."""


class NotLabels(InputError):
    """A mask whose values are not labels 0, 1, 2, ..."""


class GridMismatch(InputError):
    """A mask that does not lie on the grid of the image."""


class OtherFrame(InputError):
    """A mask in another frame of reference than the image."""


class RoiNotFound(InputError):
    """The region of interest that was asked for is not there, or none was chosen among several."""


class BadContour(InputError):
    """A contour that cannot be filled on the slices of the image."""


class UnknownFormat(InputError):
    """A file name without a suffix that clmsda reads or writes."""

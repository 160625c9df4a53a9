"""The only rooms that know file formats: any chest CT in, masks in and out.

Importing this costs little: pydicom and SimpleITK are imported when a file needs them.
"""

from clmsda.images.ct import as_ct, list_series, read_ct
from clmsda.images.masks import list_rois, read_mask, write_image, write_mask
from clmsda.images.plausibility import check_ct

__all__ = ["as_ct", "check_ct", "list_rois", "list_series", "read_ct", "read_mask", "write_image", "write_mask"]

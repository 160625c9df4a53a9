"""A volume as a NIfTI-1 file of one piece, without a copy of its voxels."""

from __future__ import annotations

import numpy as np

from clmsda.geometry import LPS_FROM_RAS, Grid, Volume
from clmsda.images.nifti_header import NIFTI_1, layout

STARTS_AT = NIFTI_1 + 4
_SCANNER, _MM, _INT16 = 1, 2, 4


def nifti_bytes(volume: Volume) -> tuple[bytes, memoryview]:
    """The header (352 bytes) and the voxels as int16, columns running fastest; sform and qform say the same."""
    voxels = np.ascontiguousarray(volume.voxels, "<i2")
    return _header(volume.grid), voxels.data.cast("B")


def _header(grid: Grid) -> bytes:
    header = np.zeros(1, layout(NIFTI_1, "<"))
    affine = LPS_FROM_RAS @ grid.affine[:, [2, 1, 0, 3]]
    spacing_mm = grid.spacing_mm[::-1]
    rotation = affine[:3, :3] / spacing_mm
    qfac = 1.0 if np.linalg.det(rotation) > 0 else -1.0
    fields = header[0]
    fields["dim"] = (3, *grid.shape[::-1], 1, 1, 1, 1)
    fields["datatype"], fields["bitpix"] = _INT16, 16
    fields["pixdim"] = (qfac, *spacing_mm, 1, 1, 1, 1)
    fields["vox_offset"], fields["scale"], fields["units"] = STARTS_AT, (1, 0), _MM
    fields["codes"], fields["srow"] = (_SCANNER, _SCANNER), affine[:3].ravel()
    fields["quaternion"], fields["offset"] = _quaternion(rotation * (1, 1, qfac)), affine[:3, 3]
    fields["magic"] = b"n+1"
    return np.array(NIFTI_1, "<i4").tobytes() + header.tobytes()[4:] + bytes(4)


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """(b, c, d) of the nearest rotation, with a >= 0."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([x, y, z]) * (1 if w >= 0 else -1)

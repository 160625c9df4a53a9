"""What the header of a NIfTI file says: sizes, number type, scaling, and where the voxels lie, by one set of rules.

Layouts and meanings: nifti1.h and nifti2.h of the NIfTI Data Format Working Group. The rules, which are nibabel's but
for lengths in other units than mm and for what is refused, stand in docs/input.md.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clmsda.geometry import LPS_FROM_RAS, Grid
from clmsda.images.errors import Contradiction, ImpossibleSpacing, NotVolume, UnreadableFile
from clmsda.images.plausibility import check_straight

NIFTI_1, NIFTI_2 = 348, 540
"""Bytes of the header, which it names first."""
_FIELDS = (
    "dim",
    "datatype",
    "bitpix",
    "pixdim",
    "vox_offset",
    "scale",
    "codes",
    "quaternion",
    "offset",
    "srow",
    "units",
    "magic",
)
_LAYOUTS = {
    NIFTI_1: (
        (40, 70, 72, 76, 108, 112, 252, 256, 268, 280, 123, 344),
        ("8i2", "i2", "i2", "8f4", "f4", "2f4", "2i2", "3f4", "3f4", "12f4", "u1", "S4"),
    ),
    NIFTI_2: (
        (16, 12, 14, 104, 168, 176, 344, 352, 376, 400, 500, 4),
        ("8i8", "i2", "i2", "8f8", "i8", "2f8", "2i4", "3f8", "3f8", "12f8", "i4", "S4"),
    ),
}
NUMBERS = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
_SEVERAL = {32: "2, complex", 128: "3, colors", 1792: "2, complex", 2048: "2, complex", 2304: "4, colors"}
_MILLIMETERS = {0: 1.0, 1: 1e3, 2: 1.0, 3: 1e-3}  # unknown, meters, millimeters, micrometers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Header:
    """The header of a single-file NIfTI.

    shape: of the axes i, j, k. kind: numpy's number type, with the byte order. scale: slope and intercept, or None.
    starts_at: the first byte of the voxels.
    """

    name: str
    fields: Any
    shape: tuple[int, int, int]
    kind: np.dtype
    starts_at: int

    @property
    def scale(self) -> tuple[float, float] | None:
        """None for a slope of 0, which the standard defines as no scaling, intercept included, and for none at all."""
        slope, intercept = (float(value) for value in self.fields["scale"])
        if slope == 0 or not np.isfinite(slope):
            return None
        if not np.isfinite(intercept):
            raise UnreadableFile(f"{self.name} has a scl_slope of {slope:g} but a scl_inter of {intercept}: correct it")
        return slope, intercept

    def affine(self) -> NDArray[np.float64]:
        """(4, 4), from (i, j, k, 1) to (x, y, z, 1) in RAS mm, by the rules of docs/input.md.

        Raises Contradiction, GantryTilt (a sheared sform), ImpossibleSpacing, UnreadableFile, GridError.
        """
        q_code, s_code = (int(code) for code in self.fields["codes"])
        unit_mm = self._unit_mm()
        if s_code <= 0 and q_code <= 0:
            log.warning("%s does not say where its voxels lie (qform and sform codes 0): sides are assumed", self.name)
            return unit_mm @ self._unplaced()
        if s_code <= 0:
            return unit_mm @ self._qform()
        affine = unit_mm @ self._sform()
        check_straight(Grid(self.shape, affine), self.name)
        if q_code > 0:
            self._check_agree(affine, unit_mm @ self._qform(), s_code, q_code)
        else:
            self._compare_pixdim(np.linalg.norm(affine[:3, :3], axis=0), self.fields["pixdim"][1:4] * unit_mm[0, 0])
        return affine

    def _sform(self) -> NDArray[np.float64]:
        affine = np.vstack([self.fields["srow"].reshape(3, 4), [0, 0, 0, 1]]).astype(np.float64)
        if not np.isfinite(affine).all():
            raise UnreadableFile(f"{self.name} has an sform that is no number: {affine[:3].tolist()}; correct it")
        return affine

    def _qform(self) -> NDArray[np.float64]:
        spacing, b_c_d = self._spacing(), self.fields["quaternion"].astype(np.float64)
        square = float(b_c_d @ b_c_d)
        if not (square < 1 + 1e-4 and np.isfinite(self.fields["offset"]).all()):
            found = ", ".join(f"{value:g}" for value in (*b_c_d, *self.fields["offset"]))
            raise UnreadableFile(f"{self.name} has a qform that is no rotation and place: {found}; correct it")
        b, c, d = b_c_d / max(1.0, np.sqrt(square))
        rest = 1 - b * b - c * c - d * d
        # Less than numbers of the header's kind can tell from half a turn is half a turn, as nibabel has it.
        a = np.sqrt(rest) if rest >= 3 * np.finfo(self.fields["quaternion"].dtype).eps else 0.0
        rotation = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        qfac = -1.0 if self.fields["pixdim"][0] < 0 else 1.0
        affine = np.eye(4)
        affine[:3, :3] = rotation * spacing * [1, 1, qfac]
        affine[:3, 3] = self.fields["offset"]
        return affine

    def _unplaced(self) -> NDArray[np.float64]:
        """As nibabel has it: i grows to the left, j to anterior, k to superior, around 0, 0, 0."""
        affine = np.diag([*self._spacing() * [-1, 1, 1], 1.0])
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(self.shape) - 1) / 2)
        return affine

    def _spacing(self) -> NDArray[np.float64]:
        spacing = self.fields["pixdim"][1:4].astype(np.float64)
        if not (np.isfinite(spacing).all() and (spacing > 0).all()):
            found = " x ".join(f"{value:g}" for value in spacing)
            raise ImpossibleSpacing(
                f"{self.name} has voxels of {found} mm in its header: correct pixdim[1] to pixdim[3]"
            )
        return spacing

    def _unit_mm(self) -> NDArray[np.float64]:
        """(4, 4), from the unit of the file to mm."""
        unit = int(self.fields["units"]) & 7
        if unit not in _MILLIMETERS:
            raise UnreadableFile(
                f"{self.name} gives lengths in an unknown unit (xyzt_units {unit}): correct it to 2, mm"
            )
        return np.diag([*[_MILLIMETERS[unit]] * 3, 1.0])

    def _check_agree(self, sform: NDArray, qform: NDArray, s_code: int, q_code: int) -> None:
        """Raise Contradiction unless both put every voxel into the same place, but for rounding."""
        corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(self.shape) - 1)
        away = np.linalg.norm(corners @ (sform - qform)[:3, :3].T + (sform - qform)[:3, 3], axis=1).max()
        # Half a voxel: a qform's rotation is rounded to about 0.0005 where it turns by nearly 180 degrees.
        if away <= 0.5 * np.linalg.norm(sform[:3, :3], axis=0).min():
            return
        raise Contradiction(
            f"{self.name} says twice where its voxels lie, and sform (code {s_code}) and qform (code {q_code}) are up "
            f"to {away:.4g} mm apart: keep the right one and set the code of the other to 0"
        )

    def _compare_pixdim(self, spacing_mm: NDArray[np.float64], stated_mm: NDArray[np.float64]) -> None:
        if not np.allclose(stated_mm, spacing_mm, rtol=1e-2):
            found, said = (" x ".join(f"{value:.4g}" for value in values) for values in (spacing_mm, stated_mm))
            log.warning(
                "%s: voxels are of %s mm by its sform, which counts, of %s mm by its pixdim", self.name, found, said
            )


def layout(length: int, order: str) -> np.dtype:
    """The fields of a header of this length that are used here. order: of bytes, < or >."""
    places, formats = _LAYOUTS[length]
    kinds = [kind[:-2] + order + kind[-2:] for kind in formats]
    return np.dtype({"names": list(_FIELDS), "formats": kinds, "offsets": list(places), "itemsize": length})


def parse(raw: bytes, name: str) -> Header:
    """The header that a file begins with. Raises EOFError (too short), UnreadableFile, NotVolume."""
    for order in "<>":
        length = int(np.frombuffer(raw[:4], order + "i4")[0]) if len(raw) >= NIFTI_1 else 0
        if length not in _LAYOUTS or len(raw) < length:
            continue
        fields: Any = np.frombuffer(raw[:length], layout(length, order))[0]
        if fields["magic"].rstrip(b"\0") != (b"n+1" if length == NIFTI_1 else b"n+2"):
            raise UnreadableFile(f"{name} is no NIfTI file of one piece (magic {fields['magic']!r}): convert it")
        start = fields["vox_offset"]
        if not (np.isfinite(start) and length <= start < 1 << 28):
            raise UnreadableFile(
                f"{name} says that its voxels begin at byte {start:g}, within its header or far behind it: damaged"
            )
        shape = _shape(fields["dim"], name)
        return Header(name, fields, shape, _kind(int(fields["datatype"]), order, name), int(start))
    raise EOFError("it has no whole NIfTI header")


def _shape(dim: NDArray, name: str) -> tuple[int, int, int]:
    """The lengths of the three axes. Raises NotVolume for fewer and for more, UnreadableFile."""
    lengths = [int(length) for length in dim[1 : 1 + max(0, min(int(dim[0]), 7))]]
    if not 1 <= dim[0] <= 7 or min(lengths) < 1:
        raise UnreadableFile(f"{name} has sizes that no image has (dim {[int(n) for n in dim]}): damaged")
    shape, expected = "x".join(map(str, reversed(lengths))), f"expected one three-dimensional image, found {name}"
    if len(lengths) >= 5 and lengths[4] > 1 and lengths[3] == 1:
        raise NotVolume(f"{expected} with {lengths[4]} numbers per voxel (a vector): convert it")
    if max(lengths[3:], default=1) > 1:
        raise NotVolume(f"{expected} of {len(lengths)} dimensions, {shape}: give one time point or channel")
    if len(lengths) < 3 or min(lengths[:3]) < 2:
        raise NotVolume(f"{expected} of shape {shape}, a single slice: give the whole volume")
    return lengths[0], lengths[1], lengths[2]


def _kind(code: int, order: str, name: str) -> np.dtype:
    if code in NUMBERS:
        return np.dtype(order + NUMBERS[code])
    if code in _SEVERAL:
        number, words = _SEVERAL[code].split(", ")
        raise NotVolume(
            f"expected one three-dimensional image, found {name} with {number} numbers per voxel ({words}): convert it"
        )
    raise UnreadableFile(f"{name} holds numbers of a type that cannot be read (datatype {code}): convert it")


def grid_of(header: Header) -> Grid:
    """The grid in LPS mm, with the axes k, j, i. Raises GridError and what `Header.affine` raises."""
    return Grid(header.shape[::-1], (LPS_FROM_RAS @ header.affine())[:, [2, 1, 0, 3]])

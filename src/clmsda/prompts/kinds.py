"""Where a person says that the tumor is: `Point`, `RecistLine`, `Box`; `Inside`, `Outside` correct. All in LPS mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from clmsda.errors import InputError

PointMm = tuple[float, float, float]


class PromptError(InputError):
    """A prompt that cannot be read, or that lies where no lung tumor can be."""


@dataclass(frozen=True)
class Point:
    """A point inside the tumor, LPS mm."""

    lps_mm: PointMm

    def __post_init__(self) -> None:
        object.__setattr__(self, "lps_mm", position(self.lps_mm, "a point"))

    @property
    def center_mm(self) -> PointMm:
        return self.lps_mm

    @property
    def size_mm(self) -> None:
        """A point says nothing about size."""
        return None


@dataclass(frozen=True)
class RecistLine:
    """The tumor's long diameter as RECIST draws it: both ends in LPS mm. Its length is the size."""

    start_mm: PointMm
    end_mm: PointMm

    def __post_init__(self) -> None:
        object.__setattr__(self, "start_mm", position(self.start_mm, "a RECIST line's start"))
        object.__setattr__(self, "end_mm", position(self.end_mm, "a RECIST line's end"))
        if self.size_mm < 1e-3:
            raise PromptError(f"a RECIST line needs two different ends, found {text_of(self.start_mm)} twice")

    @property
    def center_mm(self) -> PointMm:
        return _middle(self.start_mm, self.end_mm)

    @property
    def size_mm(self) -> float:
        return float(np.linalg.norm(np.subtract(self.end_mm, self.start_mm)))


@dataclass(frozen=True)
class Box:
    """A box around the tumor, along x, y and z: two opposite corners in LPS mm, in any order.

    It may be flat in z (drawn on one slice). Its size is the longer of its sides along x and y.
    """

    lower_mm: PointMm
    upper_mm: PointMm

    def __post_init__(self) -> None:
        corners = [position(self.lower_mm, "a box's corner"), position(self.upper_mm, "a box's corner")]
        object.__setattr__(self, "lower_mm", tuple(min(pair) for pair in zip(*corners, strict=True)))
        object.__setattr__(self, "upper_mm", tuple(max(pair) for pair in zip(*corners, strict=True)))
        sides = np.subtract(self.upper_mm, self.lower_mm)
        if sides[:2].min() < 1e-3:
            found = " x ".join(f"{side:g}" for side in sides)
            raise PromptError(f"a box needs a size along x and y, found {found} mm: give two opposite corners")

    @property
    def center_mm(self) -> PointMm:
        return _middle(self.lower_mm, self.upper_mm)

    @property
    def size_mm(self) -> float:
        return float(np.subtract(self.upper_mm, self.lower_mm)[:2].max())


@dataclass(frozen=True)
class Inside:
    """A correction: a point that belongs to the lesion of the prompt before it, LPS mm."""

    lps_mm: PointMm

    def __post_init__(self) -> None:
        object.__setattr__(self, "lps_mm", position(self.lps_mm, "a point inside"))


@dataclass(frozen=True)
class Outside:
    """A correction: a point that does not belong to the lesion of the prompt before it, LPS mm."""

    lps_mm: PointMm

    def __post_init__(self) -> None:
        object.__setattr__(self, "lps_mm", position(self.lps_mm, "a point outside"))


Prompt = Point | RecistLine | Box
Correction = Inside | Outside


def described(prompt: Prompt | Correction) -> str:
    """What a prompt is called in a message."""
    return _DESCRIPTIONS[type(prompt)]


def text_of(point: PointMm) -> str:
    return ", ".join(f"{value:.1f}" for value in point)


_DESCRIPTIONS = {
    Point: "a point", RecistLine: "a RECIST line", Box: "a box", Inside: "a point inside", Outside: "a point outside",
}  # fmt: skip


def _middle(a: PointMm, b: PointMm) -> PointMm:
    return position((np.array(a) + np.array(b)) / 2, "a center")


def position(values: ArrayLike, what: str) -> PointMm:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (3,) or not np.isfinite(array).all():
        raise PromptError(f"{what} needs three finite numbers (x, y, z), found {array.tolist()}")
    x, y, z = (float(value) for value in array)
    return x, y, z

"""Contours of a mask's slice, as RTSTRUCT wants them: closed polygons without holes.

They follow the border of `clmsda.contours`, which is the measurements', too. Every pixel center is half a pixel away
from it, so filling the polygons gives the same mask again.

A hole joins the contour around it by a keyhole: a channel of no width, there and back (PS3.3 C.8.8.6.3). Each polygon
then means the same to a reader that fills polygons one by one as to one that combines them by exclusive or. The
channel runs between two rows of pixels, so that no center lies on it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clmsda.contours import border_steps

_Corner = tuple[int, int]
"""(row, column) in half pixels: even at centers of pixels."""


def outlines(inside: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """The contours of a slice as (N, 2) polygons of (row, column), first point not repeated.

    inside: (rows, columns). One polygon per part of the mask that is connected by edges, holes keyed in.
    """
    outer, holes = [], {}
    for loop in _loops(inside):
        if _area(loop) > 0:
            outer.append(loop)
        else:
            holes[min(loop)] = loop
    for start in sorted(holes):  # what a channel meets lies above or to the left, and so is keyed in already
        _key_in(outer, holes[start], inside)
    return [_without_straight_points(np.array(loop)) / 2.0 for loop in outer]


def _loops(inside: NDArray[np.bool_]) -> list[list[_Corner]]:
    """Every closed border, in half pixels: clockwise on the screen around the mask, the other way around holes."""
    following: dict[_Corner, _Corner] = {(a, b): (c, d) for (a, b), (c, d) in border_steps(inside).tolist()}
    loops = []
    while following:
        start, point = following.popitem()
        loop = [start]
        while point != start:
            loop.append(point)
            point = following.pop(point)
        loops.append(loop)
    return loops


def _area(loop: list[_Corner]) -> int:
    """Twice the area within a border in half pixels; negative around a hole."""
    rows, columns = np.array(loop).T
    return int((columns * np.roll(rows, -1) - np.roll(columns, -1) * rows).sum())


def _key_in(outer: list[list[_Corner]], hole: list[_Corner], inside: NDArray[np.bool_]) -> None:
    """Join a hole to the border that lies left of its top left corner.

    The pixels left of that corner, above and below the channel, belong to the mask up to that border.
    """
    corner = min(hole)
    row, column = (corner[0] + 1) // 2, corner[1] // 2  # the hole's first pixel; the one above it is inside
    pairs = np.pad(inside, ((0, 0), (1, 0)))[row - 1 : row + 1, : column + 1][:, ::-1]  # to the left, then the edge
    away = int(np.argmin(pairs.all(axis=0)))
    met = corner[0], 2 * (column - 1 - away) + int(not pairs[:, away].any())
    at = hole.index(corner)
    detour = [met, *hole[at:], *hole[: at + 1], met]
    for loop in outer:
        if met in loop:
            place = loop.index(met)
            loop[place : place + 1] = detour
            return
        if (met[0] - 1, met[1]) in loop:  # the middle of an upright step, which is no corner yet
            ends = sorted(loop.index((met[0] + side, met[1])) for side in (-1, 1))
            place = ends[1] if ends[1] - ends[0] == 1 else len(loop)
            loop[place:place] = detour
            return


def _without_straight_points(loop: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same polygon without points at which it goes straight on."""
    before, after = loop - np.roll(loop, 1, axis=0), np.roll(loop, -1, axis=0) - loop
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    back = (before * after).sum(axis=1) < 0
    return loop[(turn != 0) | back]

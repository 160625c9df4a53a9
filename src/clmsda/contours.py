"""The border of a mask's slice by marching squares at 0.5: what is measured, and what becomes an RTSTRUCT's contour.

It runs halfway between the centers of inside and outside pixels, and separates pixels that touch at a corner only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Steps of the border through a cell of four pixel centers, with the inside to the right. A cell's code has the bits
# 1, 2, 4, 8 for its upper left, upper right, lower left and lower right pixel; a step leads from one edge's middle to
# another's, as (row, column) in half pixels from the upper left center.
_TOP, _BOTTOM, _LEFT, _RIGHT = (0, 1), (2, 1), (1, 0), (1, 2)
_STEPS = {
    1: ((_TOP, _LEFT),),
    2: ((_RIGHT, _TOP),),
    3: ((_RIGHT, _LEFT),),
    4: ((_LEFT, _BOTTOM),),
    5: ((_TOP, _BOTTOM),),
    6: ((_RIGHT, _TOP), (_LEFT, _BOTTOM)),
    7: ((_RIGHT, _BOTTOM),),
    8: ((_BOTTOM, _RIGHT),),
    9: ((_TOP, _LEFT), (_BOTTOM, _RIGHT)),
    10: ((_BOTTOM, _TOP),),
    11: ((_BOTTOM, _LEFT),),
    12: ((_LEFT, _RIGHT),),
    13: ((_TOP, _RIGHT),),
    14: ((_LEFT, _TOP),),
}


def border_steps(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n, 2, 2) steps along the border of a slice, each from one (row, column) to another, in half pixels.

    inside: (rows, columns). Centers of pixels are at even numbers, 0 the first; the mask lies to the right of a step.
    """
    padded = np.pad(inside, 1).astype(np.uint8)
    codes = padded[:-1, :-1] + 2 * padded[:-1, 1:] + 4 * padded[1:, :-1] + 8 * padded[1:, 1:]
    where = np.argwhere((codes > 0) & (codes < 15))
    found = codes[tuple(where.T)]
    parts = [
        2 * (where[found == code] - 1)[:, None, :] + np.array(step) for code, steps in _STEPS.items() for step in steps
    ]
    return np.concatenate(parts)

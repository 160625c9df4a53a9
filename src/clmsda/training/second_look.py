"""The second look of a training step: the network's own first answer, and the corrections that it asks for.

What the first look at the size-invariant view found is carried onto the grid of the second look, where the
largest of its errors are clicked as a person would: in what was missed, and in what is too much.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from clmsda.geometry import Grid
from clmsda.marks import PointMm, Shape, points
from clmsda.training.samples import Again

DEEPEST = 0.7
"""So often the click lies deepest within an error; else anywhere in it."""


def carried(probabilities: Tensor, from_first: Tensor) -> Tensor:
    """(N, 1, *spatial) probabilities of the first look on the second look's grids; 0 beyond the first one's.

    from_first: (N, 3, 4), see `Again.from_first`.
    """
    grid = functional.affine_grid(from_first, list(probabilities.shape), align_corners=True)
    return functional.grid_sample(probabilities, grid, align_corners=True)


def look_again(again: Again, probabilities: Tensor, windows: int, shape: Shape) -> Tensor:
    """The input of the second look: (N, channels, *spatial).

    probabilities: (N, 1, *spatial) of the first look, without gradient. windows: channels before the marks.
    """
    before = carried(probabilities, again.from_first)
    images = again.image.clone()
    for number, (clicks, seed) in enumerate(zip(again.clicks.tolist(), again.seed.tolist(), strict=True)):
        rng = np.random.default_rng(seed)
        mask = before[number, 0] > 0.5
        if clicks:
            target, known = again.mask[number, 0] > 0.5, again.known[number, 0]
            inside, outside = corrections((mask & known).cpu().numpy(), (target & known).cpu().numpy(), clicks, rng)
            for channel, positions in ((windows, inside), (windows + 1, outside)):
                grid = Grid(tuple(mask.shape), np.eye(4))  # type: ignore[arg-type]
                mark = torch.from_numpy(points(positions, grid, shape)).to(images)
                images[number, channel] = images[number, channel].maximum(mark)
        images[number, windows + 3] = mask.to(images) if rng.random() < 0.5 else before[number, 0].to(images)
    return images


def corrections(
    found: NDArray[np.bool_], true: NDArray[np.bool_], count: int, rng: np.random.Generator
) -> tuple[tuple[PointMm, ...], tuple[PointMm, ...]]:
    """Clicks into the `count` largest errors of a mask: indices (slice, row, column) inside, and outside."""
    inside: list[PointMm] = []
    outside: list[PointMm] = []
    errors = [(size, part, inside) for size, part in largest_parts(true & ~found, count)]
    errors += [(size, part, outside) for size, part in largest_parts(found & ~true, count)]
    for _, part, clicks in sorted(errors, key=lambda error: -error[0])[:count]:
        clicks.append(_click(part, rng))
    return tuple(inside), tuple(outside)


def largest_parts(errors: NDArray[np.bool_], count: int) -> list[tuple[int, NDArray[np.bool_]]]:
    """The largest connected errors, with their sizes in voxels."""
    labels, number = ndimage.label(errors)
    sizes = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    largest = np.argsort(-sizes, kind="stable")[:count]
    return [(int(sizes[k]), labels == k + 1) for k in largest]


def _click(part: NDArray[np.bool_], rng: np.random.Generator) -> PointMm:
    if rng.random() < DEEPEST:
        depth = ndimage.distance_transform_edt(np.pad(part, 1))[1:-1, 1:-1, 1:-1]
        index = np.unravel_index(int(depth.argmax()), part.shape)
    else:
        where = np.argwhere(part)
        index = tuple(where[rng.integers(len(where))])
    k, row, column = (float(i) for i in index)
    return k, row, column

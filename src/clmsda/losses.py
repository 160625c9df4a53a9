"""Losses: supervised on each view of a tumor, and consistency between the two (design: paper section 2.3).

Everything is computed in float32, whatever the network ran in, and for 2-D and 3-D alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from torch import Tensor
from torch.nn import functional

from clmsda.errors import InputError
from clmsda.zoom import zoom

Distance = Literal["mse", "dice", "l1"]

SMOOTH = 1.0
"""Added above and below in Dice, in voxels: an empty prediction of an empty target costs nothing,
and one false voxel in an empty target half a point, with a finite gradient everywhere."""


BUMP_EDGE = 0.01
"""What is below this of a bump is none."""
BUMP_VOXELS = 84.0
"""The sum of the smallest bump (sd 3.5 mm, at 2 mm): all bumps, and false ones, weigh as much as it does."""


class LossError(InputError):
    """Predictions, targets or settings that no loss is defined for."""


class Losses(NamedTuple):
    """The terms of the loss of a pair, scalars. `total` is what is minimized."""

    total: Tensor
    supervised_v: Tensor
    supervised_i: Tensor
    norm: Tensor
    restore: Tensor


def supervised(logits: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
    """S = binary cross-entropy + Dice loss, the mean over the batch.

    logits: (N, 1, *spatial). target: the same shape, 0..1; fractions of tumor per voxel are welcome.
    known: the same shape, bool, where the target is known: nothing else carries loss, and every
    sample counts alike; None for everywhere. Both parts are smallest where the probability equals the target.
    """
    if logits.shape != target.shape:
        raise LossError(f"logits of shape {tuple(logits.shape)} do not fit a target of shape {tuple(target.shape)}")
    logits, target = logits.float(), target.float()
    if known is None:
        entropy = functional.binary_cross_entropy_with_logits(logits, target)
        return entropy + _dice(logits.sigmoid(), target).mean()
    valid = known.float()
    voxels = functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * valid
    entropy = (_sum(voxels) / _sum(valid).clamp(min=1)).mean()
    return entropy + _dice(logits.sigmoid(), target, valid).mean()


def centers(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """What a detector is trained on: quality focal loss (Li et al., NeurIPS 2020) + Dice loss, the mean over the batch.

    logits: (N, 1, *spatial). target: the same shape, bumps of height 1 at the centers of tumors. known: bool, nothing
    else carries loss. Cross-entropy is weighed by the squared error, so that what looks like a tumor and is none
    counts, and all that is plainly lung hardly does. It is summed, and within a bump divided by the bump's sum: a small
    tumor that is missed costs as much as a large one, and about as much as a false one.
    """
    logits, target, valid = logits.float(), target.float(), known.float()
    probability = logits.sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    own = target > BUMP_EDGE
    share = (BUMP_VOXELS / _sum(target * own).clamp(min=BUMP_VOXELS / 4)).view(-1, *[1] * (target.ndim - 1))
    weight = own * share + ~own
    focal = _sum(entropy * (probability - target).square() * weight * valid) / BUMP_VOXELS
    return (focal + _dice(probability, target, valid)).mean()


def consistency(
    source: Tensor, view: Tensor, ratio: Tensor, distance: Distance = "mse", known: Tensor | None = None
) -> Tensor:
    """D(zoom(source, ratio), view) over the voxels that the zoomed source covers, the mean over the batch.

    source, view: probabilities (N, 1, *spatial) of the two views; zooming the former by ratio (N,)
    leads to the latter. Every sample counts alike, however small a part of it is covered. The
    gradient reaches both views, and neither outside the common field of view, nor where `known`
    (bool, of the view's shape) is false.
    """
    if distance not in _DISTANCES:
        raise LossError(f"distance must be one of {', '.join(_DISTANCES)}; found {distance!r}")
    if source.shape != view.shape:
        raise LossError(f"views must have one shape, found {tuple(source.shape)} and {tuple(view.shape)}")
    zoomed, valid = zoom(source.float(), ratio)
    if known is not None:
        valid = valid & known
    return _DISTANCES[distance](zoomed, view.float(), valid.float()).mean()


def total(
    logits_v: Tensor,
    logits_i: Tensor,
    target_v: Tensor,
    target_i: Tensor,
    ratio: Tensor,
    *,
    known_v: Tensor | None = None,
    known_i: Tensor | None = None,
    distance: Distance = "mse",
    weight: float = 1.0,
) -> Losses:
    """The loss of CL-MSDA-Net: S(p_v, y_v) + S(p_i, y_i) + weight * (C_norm + C_restore).

    logits and targets: (N, 1, *spatial) of the size-variant (v) and the size-invariant (i) view.
    ratio: (N,), r = S_mean / S, so that zoom(p_v, r) lies on p_i and zoom(p_i, 1 / r) on p_v.
    known: where the targets are known; None for everywhere.
    The paper gives neither distance nor weight; ours are mean squared error and 1.
    """
    supervised_v, supervised_i = supervised(logits_v, target_v, known_v), supervised(logits_i, target_i, known_i)
    probability_v, probability_i = logits_v.float().sigmoid(), logits_i.float().sigmoid()
    norm = consistency(probability_v, probability_i, ratio, distance, known_i)
    restore = consistency(probability_i, probability_v, 1 / ratio, distance, known_v)
    return Losses(supervised_v + supervised_i + weight * (norm + restore), supervised_v, supervised_i, norm, restore)


def _sum(voxels: Tensor) -> Tensor:
    """(N, ...) to (N,)."""
    return voxels.flatten(1).sum(1)


def _mse(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    return _sum((a - b).square() * valid) / _sum(valid).clamp(min=1)


def _l1(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    return _sum((a - b).abs() * valid) / _sum(valid).clamp(min=1)


def _dice(a: Tensor, b: Tensor, valid: Tensor | float = 1.0) -> Tensor:
    """(N,) soft Dice loss per sample, with 2 min(a, b) in the place of 2 a b.

    For a target of zeros and ones this is soft Dice to the letter. For fractions it is still 0
    where a equals b, which the product is not (Wang et al., Dice Semimetric Losses, MICCAI 2023).
    """
    a, b = a * valid, b * valid
    return 1 - (2 * _sum(a.minimum(b)) + SMOOTH) / (_sum(a) + _sum(b) + SMOOTH)


_DISTANCES: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = MappingProxyType(
    {"mse": _mse, "dice": _dice, "l1": _l1}
)

"""Losses: small sums by hand, and what must not be taught."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from clmsda.losses import Distance, LossError, centers, consistency, supervised, total
from clmsda.zoom import zoom

DISTANCES: list[Distance] = ["mse", "dice", "l1"]


def disk(radius: float, size: int = 48, dims: int = 2) -> Tensor:
    """A ball's soft mask (1, 1, *spatial) in the middle; its edge is as soft as it is large."""
    axis = torch.arange(size) - (size - 1) / 2
    squared = sum(g.square() for g in torch.meshgrid(*[axis] * dims, indexing="ij"))
    return torch.sigmoid(6 * (1 - squared.sqrt() / radius))[None, None]  # type: ignore[union-attr]


def logit(probability: Tensor) -> Tensor:
    return torch.logit(probability, eps=1e-6)


def test_supervised_by_hand() -> None:
    target = torch.tensor([[1.0, 0], [0, 0]])[None, None]
    # p = 1/2 everywhere: entropy ln 2; Dice 1 - (2 * 0.5 + 1) / (2 + 1 + 1)
    assert supervised(torch.zeros(1, 1, 2, 2), target).item() == pytest.approx(math.log(2) + 0.5)


def test_what_is_unknown_carries_no_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 4, 6, generator=generator).requires_grad_()
    target = torch.rand(2, 1, 4, 6, generator=generator)
    known = torch.ones(2, 1, 4, 6, dtype=torch.bool)
    assert supervised(logits, target, known).item() == pytest.approx(supervised(logits, target).item(), rel=1e-6)
    known[..., 3:] = False
    part = supervised(logits[..., :3], target[..., :3])  # as if the rest did not exist
    assert supervised(logits, target, known).item() == pytest.approx(part.item(), rel=1e-6)
    ratio = torch.tensor([1.5, 0.7])
    (supervised(logits, target, known) + consistency(target, logits.sigmoid(), ratio, known=known)).backward()
    assert logits.grad is not None and not logits.grad[..., 3:].any() and logits.grad[..., :3].any()


def test_supervised_is_the_mean_over_samples() -> None:
    logits = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(2, 1, 4, 4, 4)
    target[0, 0, 1:3, 1:3] = 1
    target[1, 0, 0, 0, 0] = 1
    alone = [supervised(logits[n : n + 1], target[n : n + 1]) for n in range(2)]
    assert supervised(logits, target).item() == pytest.approx(sum(alone).item() / 2)  # type: ignore[union-attr]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**16 - 1), st.integers(0, 100))
def test_dice_of_a_binary_target_is_the_usual_soft_dice(bits: int, seed: int) -> None:
    target = torch.tensor([(bits >> n) & 1 for n in range(16)]).float().view(1, 1, 4, 4)
    logits = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    p = logits.sigmoid()
    dice = 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)
    entropy = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    assert supervised(logits, target).item() == pytest.approx((entropy + dice).item(), rel=1e-4)


def test_an_empty_target_behaves() -> None:
    target = torch.zeros(1, 1, 8, 8)
    assert supervised(torch.full_like(target, -30), target).item() == pytest.approx(0, abs=1e-6)
    logits = torch.zeros_like(target).requires_grad_()
    supervised(logits, target).backward()
    assert logits.grad is not None and (logits.grad > 0).all() and logits.grad.isfinite().all()


def test_fractions_of_tumor_are_matched_not_sharpened() -> None:
    target = torch.full((1, 1, 4, 4), 0.3)
    values = {p: supervised(logit(torch.full_like(target, p)), target).item() for p in (0.1, 0.2, 0.3, 0.4, 0.9)}
    assert min(values, key=values.__getitem__) == 0.3


def bumps(*widths: float, size: int = 40) -> Tensor:
    """(1, 1, size, size, size): a bump of each width, one behind the other, far apart."""
    axis = torch.arange(size).float()
    found = torch.zeros(size, size, size)
    for number, width in enumerate(widths):
        place = (axis - 10 - 20 * number).square()[:, None, None]
        others = (axis - size / 2).square()
        found = torch.maximum(found, torch.exp(-(place + others[:, None] + others) / (2 * width**2)))
    return found[None, None]


def test_a_detector_pays_for_missed_and_for_false_bumps_where_it_is_known() -> None:
    everywhere = torch.ones(1, 1, 40, 40, 40, dtype=torch.bool)
    target = bumps(2.0)
    assert centers(logit(target), target, everywhere) < 0.01
    missed = centers(logit(torch.zeros_like(target)), target, everywhere)
    false = centers(logit(bumps(2.0, 2.0)), target, everywhere)
    assert missed > 1 and false > 0.3
    hidden = everywhere & (bumps(2.0, 2.0) - target < 1e-3)
    assert centers(logit(bumps(2.0, 2.0)), target, hidden) < 0.05


def test_a_small_bump_that_is_missed_costs_about_as_much_as_a_large_one() -> None:
    everywhere = torch.ones(1, 1, 40, 40, 40, dtype=torch.bool)
    costs = [
        float(centers(torch.full((1, 1, 40, 40, 40), -6.0), bumps(width), everywhere)) for width in (1.75, 3.0, 4.0)
    ]
    assert max(costs) < 1.5 * min(costs)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("ratio", [0.6, 1.7])
def test_consistent_views_cost_nothing_and_only_in_the_right_direction(
    distance: Distance, dims: int, ratio: float
) -> None:
    p_v, p_i = disk(6, 32, dims), disk(6 * ratio, 32, dims)
    agree = consistency(p_v, p_i, torch.tensor([ratio]), distance)
    wrong = consistency(p_v, p_i, torch.tensor([1 / ratio]), distance)
    assert agree < 0.1 * wrong
    assert consistency(p_v, p_v, torch.ones(1), distance).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("distance", "expected"), [("mse", 0.25), ("l1", 0.5), ("dice", 1 - (2 * 4 * 0.25 + 1) / (4 * 0.25 + 4 * 0.75 + 1))]
)
def test_distances_by_hand(distance: Distance, expected: float) -> None:
    a, b = torch.full((1, 1, 2, 2), 0.25), torch.full((1, 1, 2, 2), 0.75)
    assert consistency(a, b, torch.ones(1), distance).item() == pytest.approx(expected)


@pytest.mark.parametrize("distance", DISTANCES)
def test_nothing_is_taught_outside_the_field_of_view(distance: Distance) -> None:
    p_v, p_i = disk(9).requires_grad_(), (0.2 + 0.6 * disk(6)).requires_grad_()
    ratio = torch.tensor([0.5])
    consistency(p_v, p_i, ratio, distance).backward()
    _, valid = zoom(p_v.detach(), ratio)
    assert p_v.grad is not None and p_i.grad is not None
    assert not valid.all() and not p_i.grad[~valid].any()
    assert p_i.grad[valid].any() and p_v.grad.any()
    # The same holds the other way round: enlarging sees the middle of its source only.
    p_v.grad = None
    consistency(p_v, p_i.detach(), torch.tensor([2.0]), distance).backward()
    assert p_v.grad is not None and not p_v.grad[..., :11, :].any() and p_v.grad[..., 12:36, 12:36].any()


def test_a_sample_counts_alike_however_little_is_covered() -> None:
    a, b = torch.full((2, 1, 16, 16), 0.2), torch.full((2, 1, 16, 16), 0.5)
    assert consistency(a, b, torch.tensor([0.25, 1.0])).item() == pytest.approx(0.09)


def test_no_common_field_of_view_costs_nothing() -> None:
    p = disk(3, 8).requires_grad_()
    for distance in DISTANCES:
        loss = consistency(p, 1 - p, torch.tensor([0.01]), distance)
        loss.backward()
        assert loss.item() == 0 and p.grad is not None and not p.grad.any()


@pytest.mark.parametrize("dims", [2, 3])
def test_total_adds_its_parts_with_one_meaning_of_ratio(dims: int) -> None:
    ratio = torch.tensor([0.7])
    p_v, p_i = disk(8, 32, dims), disk(8 * 0.7, 32, dims)
    y_v, y_i = (p_v > 0.5).float(), (p_i > 0.5).float()
    losses = total(logit(p_v), logit(p_i), y_v, y_i, ratio, weight=2.5)
    parts = losses.supervised_v + losses.supervised_i + 2.5 * (losses.norm + losses.restore)
    assert losses.total.item() == pytest.approx(parts.item())
    assert losses.supervised_v.item() == pytest.approx(supervised(logit(p_v), y_v).item())
    assert losses.norm < 1e-3 and losses.restore < 1e-3
    swapped = total(logit(p_i), logit(p_v), y_i, y_v, ratio)
    assert swapped.norm > 10 * losses.norm and swapped.restore > 10 * losses.restore


def test_weight_zero_leaves_the_supervised_terms() -> None:
    logits, target = torch.randn(1, 1, 8, 8), torch.ones(1, 1, 8, 8)
    losses = total(logits, -logits, target, target, torch.tensor([2.0]), weight=0)
    assert losses.total.item() == pytest.approx((losses.supervised_v + losses.supervised_i).item())
    assert losses.norm > 0


def test_half_precision_logits_are_measured_in_float32() -> None:
    logits, target = logit(disk(5)), (disk(5) > 0.5).float()
    ratio = torch.tensor([1.5])
    with torch.autocast("cpu", torch.bfloat16):
        losses = total(logits.bfloat16(), logits.bfloat16(), target, target, ratio)
    expected = total(logits.bfloat16().float(), logits.bfloat16().float(), target, target, ratio)
    assert losses.total.dtype == torch.float32
    assert losses.total.item() == pytest.approx(expected.total.item(), rel=1e-6)


def test_refuses_what_no_loss_is_defined_for() -> None:
    p = torch.rand(1, 1, 4, 4)
    with pytest.raises(LossError, match="do not fit a target"):
        supervised(p, torch.zeros(1, 4, 4))
    with pytest.raises(LossError, match="one shape"):
        consistency(p, torch.rand(1, 1, 4, 8), torch.ones(1))
    with pytest.raises(LossError, match="mse, dice, l1"):
        consistency(p, p, torch.ones(1), "l2")  # type: ignore[arg-type]

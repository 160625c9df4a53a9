"""Zoom: exact where it can be, and honest about what it does not cover."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from clmsda.zoom import ZoomError, interpolation, zoom

ratios = st.floats(0.05, 20, allow_nan=False)


def one(ratio: float) -> torch.Tensor:
    return torch.tensor([ratio], dtype=torch.float64)


def random_images(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(2, 3, 7, 10), (2, 1, 5, 8, 6)])
def test_ratio_one_changes_nothing(shape: tuple[int, ...]) -> None:
    images = random_images(*shape)
    zoomed, valid = zoom(images, torch.ones(2))
    assert torch.equal(zoomed, images)
    assert valid.shape == (2, 1, *shape[2:]) and valid.all()


def test_enlarging_a_ramp_halves_its_slope_about_the_center() -> None:
    ramp = torch.arange(9.0).expand(1, 1, 4, 9)
    zoomed, valid = zoom(ramp, one(2.0))
    assert torch.allclose(zoomed[0, 0, 1], 4 + (torch.arange(9.0) - 4) / 2)
    assert valid.all()


def test_shrinking_by_two_averages_and_leaves_the_border_invalid() -> None:
    line = torch.tensor([0.0, 0, 0, 1, 0, 0, 0]).expand(1, 1, 7, 7)
    zoomed, valid = zoom(line, one(0.5))
    assert torch.allclose(zoomed[0, 0, 3], torch.tensor([0, 0, 0, 0.5, 0, 0, 0]))  # triangle 1/4 1/2 1/4
    assert valid[0, 0, 3].tolist() == [False, False, True, True, True, False, False]
    assert not zoomed[0, 0, 0].any() and not valid[0, 0, 0].any()


def test_the_outer_half_voxel_holds_the_edge_value() -> None:
    weights, inside = interpolation(4, torch.tensor([1.2]))  # first source center: 1.5 - 1.5 / 1.2 = 0.25
    assert torch.allclose(weights[0, 0], torch.tensor([0.75, 0.25, 0, 0]))
    weights, inside = interpolation(4, torch.tensor([0.8]))  # first source center: 1.5 - 1.5 / 0.8 = -0.375, width 1.25
    assert inside.all() and weights[0, 0, 0] > 0.6
    weights, inside = interpolation(4, torch.tensor([0.7]))  # -0.64 lies outside
    assert inside[0].tolist() == [False, True, True, False]


@pytest.mark.parametrize("shape", [(7, 12), (7, 10, 5)])
@pytest.mark.parametrize("ratio", [1.0, 1.3, 2.0, 7.7])
def test_enlarging_agrees_with_scipy(shape: tuple[int, ...], ratio: float) -> None:
    image = random_images(*shape).double()
    middle = (np.array(shape) - 1) / 2
    expected = ndimage.affine_transform(
        image.numpy(), np.full(len(shape), 1 / ratio), middle - middle / ratio, order=1, mode="nearest"
    )
    zoomed, valid = zoom(image[None, None], one(ratio))
    assert valid.all()
    np.testing.assert_allclose(zoomed[0, 0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.6, 3.0])
def test_there_and_back_again_on_a_smooth_image(ratio: float) -> None:
    axis = torch.linspace(-1, 1, 64)
    smooth = torch.exp(-((axis[:, None] - 0.1) ** 2 + (axis[None, :] + 0.05) ** 2) / 0.2)[None, None]
    there, seen = zoom(smooth, one(ratio))
    back, valid = zoom(there, one(1 / ratio))
    inside = valid & (zoom(seen.float(), one(1 / ratio))[0] > 0.999)  # made of seen voxels only
    assert inside.float().mean() > 0.85 * min(1, 1 / ratio**2)
    assert (back - smooth)[inside].abs().max() < 0.02


def test_each_sample_has_its_own_ratio() -> None:
    images = random_images(3, 2, 6, 9)
    ratio = torch.tensor([0.6, 1.0, 2.5])
    zoomed, valid = zoom(images, ratio)
    for n in range(3):
        alone, alone_valid = zoom(images[n : n + 1], ratio[n : n + 1])
        assert torch.allclose(zoomed[n], alone[0], atol=1e-6)
        assert torch.equal(valid[n], alone_valid[0])


@settings(deadline=None, max_examples=50)
@given(ratios, st.integers(1, 12), st.integers(1, 12))
def test_values_stay_in_range_and_constants_stay_constant(ratio: float, rows: int, columns: int) -> None:
    images = torch.cat([random_images(1, 1, rows, columns), torch.ones(1, 1, rows, columns)], dim=1)
    zoomed, valid = zoom(images, one(ratio))
    covered = valid[:, 0]
    assert torch.allclose(zoomed[:, 1], covered.float(), atol=1e-5)
    assert (zoomed[:, 0] <= images[:, 0].max() + 1e-5).all()
    assert (zoomed[:, 0][covered] >= images[:, 0].min() - 1e-5).all()
    assert ratio < 1 or covered.all()


@settings(deadline=None, max_examples=50)
@given(ratios)
def test_zoom_commutes_with_mirroring(ratio: float) -> None:
    images = random_images(1, 1, 8, 11)
    zoomed, valid = zoom(images, one(ratio))
    mirrored, mirrored_valid = zoom(images.flip(-1), one(ratio))
    assert torch.allclose(mirrored, zoomed.flip(-1), atol=1e-5)
    assert torch.equal(mirrored_valid, valid.flip(-1))


@pytest.mark.parametrize("shape", [(2, 1, 4, 5), (2, 1, 3, 4, 2)])
def test_gradient_is_right(shape: tuple[int, ...]) -> None:
    images = random_images(*shape).double().requires_grad_()
    ratio = torch.tensor([0.7, 1.9])
    assert torch.autograd.gradcheck(lambda x: zoom(x, ratio)[0], (images,))


def test_half_precision_does_not_reach_the_coordinates() -> None:
    images = random_images(1, 1, 200, 200)
    expected, expected_valid = zoom(images, one(1.37))
    with torch.autocast("cpu", torch.bfloat16):
        zoomed, valid = zoom(images, one(1.37))
    assert torch.equal(zoomed, expected) and torch.equal(valid, expected_valid)
    assert zoom(images.bfloat16(), one(1.37))[0].dtype == torch.float32


@pytest.mark.parametrize(
    ("images", "ratio", "message"),
    [
        (torch.rand(1, 4, 4), torch.ones(1), "shape"),
        (torch.ones(1, 1, 4, 4, dtype=torch.int64), torch.ones(1), "floating-point"),
        (torch.rand(2, 1, 4, 4), torch.ones(1), r"shape \(2,\)"),
        (torch.rand(1, 1, 4, 4), torch.tensor([0.0]), "positive"),
        (torch.rand(1, 1, 4, 4), torch.tensor([-1.0]), "positive"),
        (torch.rand(1, 1, 4, 4), torch.tensor([float("nan")]), "finite"),
        (torch.rand(1, 1, 4, 4), torch.tensor([float("inf")]), "finite"),
    ],
)
def test_refuses_what_it_cannot_zoom(images: torch.Tensor, ratio: torch.Tensor, message: str) -> None:
    with pytest.raises(ZoomError, match=message):
        zoom(images, ratio)

"""Networks: counted by hand, wired by hand, and compared with the plain formulas of attention."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from clmsda import networks
from clmsda.networks import VARIANTS, NetworkConfig, NetworkError
from clmsda.networks.dual_attention import ChannelAttention, PositionAttention, pool_to
from clmsda.networks.layers import KITS, double_axis, fold, unfold, upsample
from clmsda.networks.multi_scale import MultiScale
from clmsda.networks.pooling import pooled_shape

BLOCKS = ["none", "ms", "msda"]
SHAPES = {2: (16, 24), 3: (8, 16, 24)}


def small(dims: int = 2, **settings: object) -> NetworkConfig:
    return NetworkConfig(**{"spatial_dims": dims, "width": 8, "levels": 3, **settings})  # type: ignore[arg-type]


def images(dims: int, samples: int = 2, channels: int = 1) -> Tensor:
    return torch.randn(samples, channels, *SHAPES[dims], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("dims", "block"), list(itertools.product([2, 3], BLOCKS)))
def test_a_forward_and_a_backward_pass(dims: int, block: str) -> None:
    torch.manual_seed(0)
    network = networks.build(small(dims, block=block, in_channels=2))
    logits = network(images(dims, channels=2))
    assert logits.shape == (2, 1, *SHAPES[dims]) and logits.isfinite().all()
    logits.square().mean().backward()
    missing = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not missing  # a DDP run would wait for these forever


@pytest.mark.parametrize("block", BLOCKS)
def test_one_seed_makes_one_network(block: str) -> None:
    logits = []
    for _ in range(2):
        torch.manual_seed(7)
        logits.append(networks.build(small(block=block))(images(2)))
    assert torch.equal(*logits)


def test_parameters_counted_by_hand() -> None:
    def conv(kernel: int, before: int, after: int) -> int:  # no bias; batch norm has two numbers per channel
        return kernel * before * after + 2 * after

    def unet(kernel: int) -> int:  # width 4, levels 4 and 8, one decoder level, head with bias
        down = conv(kernel, 1, 4) + conv(kernel, 4, 4) + conv(kernel, 4, 8) + conv(kernel, 8, 8)
        return down + conv(kernel, 12, 4) + conv(kernel, 4, 4) + 4 + 1

    def count(dims: int, block: str) -> int:
        return networks.parameter_count(networks.build(small(dims, width=4, levels=2, block=block)))

    for dims in (2, 3):
        scales = 2 * conv(1, 4, 4) + 3 * conv(3**dims, 1, 1)
        attention = 3 * (1 * 1 + 1) + 2 + conv(1, 1, 1)  # q, k, v with bias; two gammas; the 1x1 convolution
        assert count(dims, "none") == unet(3**dims)
        assert count(dims, "ms") == unet(3**dims) + scales
        assert count(dims, "msda") == unet(3**dims) + scales + 4 * attention


def test_full_width_is_the_papers_channels() -> None:
    assert NetworkConfig().channels == (64, 128, 256, 512, 1024)


def test_flops_counted_by_hand() -> None:
    attention = PositionAttention(8, tokens=0)
    tokens, width = 16, 8
    assert networks.flops(attention, (1, 8, 4, 4)) == 2 * (3 * tokens * width * width + 2 * tokens**2 * width)
    pooled = PositionAttention(8, tokens=4)
    pooling = 2 * 8 * (4 * 4 * 2 + 2 * 4 * 2)
    projections = 2 * (16 + 4 + 4) * width * width
    assert networks.flops(pooled, (1, 8, 4, 4)) == pooling + projections + 2 * (2 * 16 * 4 * width)
    network = networks.build(small(width=4, levels=2, block="none"))
    voxels, kernel = 8 * 8, 9
    fine = kernel * (1 * 4 + 4 * 4 + 12 * 4 + 4 * 4) + 4
    coarse = kernel * (4 * 8 + 8 * 8)
    assert networks.flops(network, (3, 1, 8, 8)) == 3 * 2 * (voxels * fine + voxels // 4 * coarse)


def test_counting_flops_changes_nothing() -> None:
    network = networks.build(small())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert networks.flops(network, (1, 1, 512, 512)) > 0
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_variants_differ_by_block_and_pairs() -> None:
    assert [(v.block, v.pairs) for v in VARIANTS.values()] == [
        ("none", False),
        ("ms", False),
        ("msda", False),
        ("msda", True),
    ]
    counts = [networks.parameter_count(networks.build(small(block=v.block))) for v in VARIANTS.values()]
    assert counts[0] < counts[1] < counts[2] == counts[3]


def test_blocks_sit_on_the_chosen_decoder_levels() -> None:
    network = networks.build(small(levels=4, block="msda", block_levels=(1,)))
    assert [type(block).__name__ for block in network.blocks] == ["Identity", "MultiScale", "Identity"]
    none = networks.build(small(levels=4, block="msda", block_levels=()))
    assert networks.parameter_count(none) == networks.parameter_count(networks.build(small(levels=4, block="none")))


class Times(nn.Module):
    """Multiplies: a convolution that can be followed by hand."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


@pytest.mark.parametrize("attention", [1.0, 10.0])
def test_the_chain_of_the_multi_scale_block(attention: float) -> None:
    block = MultiScale(2, 4)
    block.enter, block.leave = Times(1), Times(1)  # type: ignore[assignment]
    block.scales = nn.ModuleList(Times(factor) for factor in (2, 3, 5))
    block.attentions = nn.ModuleList(Times(attention) for _ in range(4))
    x = torch.tensor([1.0, 10, 100, 1000]).view(1, 4, 1, 1)
    y2 = 2 * 10
    y3 = 3 * (100 + y2)
    y4 = 5 * (1000 + y3)  # the y before attention goes down the chain
    expected = [attention * y + own for y, own in zip((1, y2, y3, y4), (1, 10, 100, 1000), strict=True)]
    assert block(x).flatten().tolist() == expected
    block.leave = Times(-1)  # type: ignore[assignment]
    assert not block(x).any()  # x - y is nowhere positive: the ReLU comes after the residual


def naive_position_attention(module: PositionAttention, x: Tensor) -> Tensor:
    """DANet's formula with 1x1 convolutions and a whole map of tokens by tokens."""

    def conv(layer: nn.Linear) -> Tensor:
        return functional.conv2d(x, layer.weight[:, :, None, None], layer.bias).flatten(2)

    query, key, value = conv(module.query), conv(module.key), conv(module.value)
    attention = torch.softmax(query.transpose(1, 2) @ key, dim=-1)
    return module.gamma * (value @ attention.transpose(1, 2)).view_as(x) + x


@pytest.mark.parametrize("channels", [1, 4, 8, 13, 16])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_position_attention_is_the_formula(channels: int, memory: torch.memory_format) -> None:
    torch.manual_seed(0)
    module = PositionAttention(channels, tokens=0)
    nn.init.normal_(module.key.weight, std=3)
    nn.init.constant_(module.gamma, 0.7)
    x = torch.randn(2, channels, 5, 6, requires_grad=True)
    found = module(x.contiguous(memory_format=memory))
    expected = naive_position_attention(module, x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    weights = torch.randn_like(x)
    gradients = [torch.autograd.grad((out * weights).sum(), (x, module.query.weight)) for out in (found, expected)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [2, 4, 16, 100])
def test_position_attention_takes_the_fused_kernel(channels: int, dtype: torch.dtype) -> None:
    module = PositionAttention(channels, tokens=16).to(dtype)
    x = torch.randn(1, channels, 8, 8, dtype=dtype)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # raises if it cannot be taken
        module(x).sum().backward()


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)])
def test_channel_attention_is_the_formula(shape: tuple[int, ...]) -> None:
    module = ChannelAttention()
    nn.init.constant_(module.gamma, 0.7)
    x = torch.randn(2, 5, *shape)
    flat = x.flatten(2)
    energy = flat @ flat.transpose(1, 2)
    attention = torch.softmax(energy.max(-1, keepdim=True).values - energy, dim=-1)
    torch.testing.assert_close(module(x), 0.7 * (attention @ flat).view_as(x) + x)


def test_channel_attention_stays_in_float32() -> None:
    module = ChannelAttention()
    nn.init.constant_(module.gamma, 0.7)
    x = torch.randn(2, 8, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        found = module(x)
        half = module(x.bfloat16())
    assert torch.equal(found, module(x))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), module(x.bfloat16().float()), rtol=1e-2, atol=2e-2)


def test_attention_starts_switched_off() -> None:
    network = networks.build(small(block="msda"))
    gammas = [value for name, value in network.named_parameters() if name.endswith("gamma")]
    assert len(gammas) == 2 * 4 * 2 and not any(gammas)  # two kinds, four quarters, two decoder levels
    x = torch.randn(1, 4, 6, 6)
    assert torch.equal(PositionAttention(4, 0)(x), x) and torch.equal(ChannelAttention()(x), x)


def test_a_budget_that_is_not_exceeded_changes_nothing() -> None:
    exact, pooled = PositionAttention(4, tokens=0), PositionAttention(4, tokens=30)
    nn.init.ones_(exact.gamma)
    pooled.load_state_dict(exact.state_dict())
    x = torch.randn(2, 4, 5, 6)
    assert torch.equal(exact(x), pooled(x))
    pooled.tokens = 29
    assert not torch.equal(exact(x), pooled(x))


@pytest.mark.parametrize("dims", [2, 3])
def test_pooled_attention_is_exact_where_boxes_are_uniform(dims: int) -> None:
    exact, pooled = PositionAttention(4, tokens=0), PositionAttention(4, tokens=3**dims)
    nn.init.ones_(exact.gamma)
    pooled.load_state_dict(exact.state_dict())
    x = functional.interpolate(torch.randn(2, 4, *[3] * dims), scale_factor=2, mode="nearest")
    torch.testing.assert_close(pooled(x), exact(x), rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 20), min_size=2, max_size=3), st.integers(1, 300))
def test_pooling_keeps_the_budget_and_the_mean(shape: list[int], tokens: int) -> None:
    x = torch.randn(1, 2, *shape, generator=torch.Generator().manual_seed(0))
    pooled = pool_to(x, tokens)
    assert pooled.shape[2:] == pooled_shape(shape, tokens) and pooled[0, 0].numel() <= tokens
    torch.testing.assert_close(pooled.flatten(2).mean(2), x.flatten(2).mean(2), rtol=1e-4, atol=1e-5)
    if math.prod(shape) <= tokens:
        assert torch.equal(pooled, x)


def test_pooling_averages_boxes() -> None:
    x = torch.randn(2, 3, 8, 12, 4)
    torch.testing.assert_close(pool_to(x, 4 * 6 * 4), functional.avg_pool3d(x, (2, 2, 1)))
    assert pool_to(torch.tensor([1.0, 4, 10]).view(1, 1, 3, 1), 2).flatten().tolist() == pytest.approx([2, 8])


@pytest.mark.parametrize("shape", [(2, 3, 4, 7), (1, 2, 1, 4, 5)])
def test_upsampling_by_slices_is_linear_interpolation(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, requires_grad=True)
    sliced = x
    for axis in range(2, x.ndim):
        sliced = double_axis(sliced, axis)
    interpolated = upsample(x)
    torch.testing.assert_close(sliced, interpolated, rtol=1e-5, atol=1e-6)
    weights = torch.randn_like(sliced)
    gradients = [torch.autograd.grad((out * weights).sum(), x)[0] for out in (sliced, interpolated)]
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)


def test_a_slab_is_segmented_like_its_slice() -> None:
    """The 3-D network with its kernels in the middle slice, on copies of a slice, is the 2-D network."""
    torch.manual_seed(0)
    flat, deep = (networks.build(small(dims, attention_tokens=0)).eval() for dims in (2, 3))
    state = {name: torch.zeros_like(tensor) for name, tensor in deep.state_dict().items()}
    for name, tensor in flat.state_dict().items():
        middle = state[name].shape[2] // 2 if tensor.ndim == 4 else None
        (state[name] if middle is None else state[name][:, :, middle]).copy_(tensor)
        if name.endswith("position.gamma"):  # channel attention sums over voxels: it knows how many slices there are
            tensor.fill_(0.5)
            state[name].fill_(0.5)
    deep.load_state_dict(state)
    image = images(2)
    slab = image[:, :, None].expand(-1, -1, 4, -1, -1)
    torch.testing.assert_close(deep(slab)[:, :, 1], flat(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_half_precision_and_any_memory_format(dims: int) -> None:
    torch.manual_seed(0)
    network = networks.build(small(dims, attention_tokens=32)).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.3)
    # Not smaller in 3-D: oneDNN's bfloat16 convolution leaves weight gradients unset now and then for maps of 2x2x2.
    x = images(dims) if dims == 2 else torch.randn(1, 1, 24, 24, 24)
    expected = network(x)
    last = network(x.contiguous(memory_format=KITS[dims].channels_last))
    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(x)
        half.float().square().mean().backward()
    assert half.dtype == torch.bfloat16
    assert (half.float() - expected).abs().max() < 0.1 * expected.abs().max()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("block", BLOCKS)
def test_it_learns(block: str) -> None:
    torch.manual_seed(0)
    network = networks.build(small(width=4, block=block))
    target = torch.zeros(2, 1, 16, 16)
    target[0, :, 3:9, 4:12] = 1
    target[1, :, 8:15, 2:7] = 1
    x = target + 0.3 * torch.randn(target.shape)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(40):
        loss = functional.binary_cross_entropy_with_logits(network(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ((network(x) > 0).float() - target).abs().mean() < 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spatial_dims": 4}, "2 or 3"),
        ({"width": 10}, "multiple of 4"),
        ({"width": 0}, "width must be at least 4"),
        ({"levels": 1}, "levels must be at least 2"),
        ({"levels": 1_000_000}, "levels must be at most 12, found 1000000"),
        ({"width": 1 << 30}, "width must be at most 4096"),
        ({"in_channels": 0}, "in_channels"),
        ({"attention_tokens": -1}, "attention_tokens"),
        ({"block": "transformer"}, "none, ms or msda"),
        ({"levels": 3, "block_levels": (0, 2)}, r"0\.\.1, found \[2\]"),
    ],
)
def test_refuses_impossible_networks(settings: dict, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        NetworkConfig(**settings)


def test_refuses_inputs_it_cannot_take() -> None:
    network = networks.build(small())
    with pytest.raises(NetworkError, match=r"multiples of 4 for 3 levels, found \(16, 18\)"):
        network(torch.zeros(1, 1, 16, 18))
    with pytest.raises(NetworkError, match="2-D network of 1 channels"):
        network(torch.zeros(1, 2, 16, 16))
    with pytest.raises(NetworkError, match="2-D network"):
        network(torch.zeros(1, 1, 8, 16, 16))


def test_configuration_survives_json_and_refuses_unknown_keys() -> None:
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(NetworkConfig)
    config = NetworkConfig(spatial_dims=3, width=12, levels=4, block_levels=(1, 2))
    assert adapter.validate_json(adapter.dump_json(config)) == config
    with pytest.raises(ValidationError, match="wdith"):
        adapter.validate_python({"wdith": 8})
    with pytest.raises(ValidationError, match="multiple of 4"):
        adapter.validate_python({"width": 10})


def test_folding_by_hand() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    corners = [[[0, 2], [8, 10]], [[1, 3], [9, 11]], [[4, 6], [12, 14]], [[5, 7], [13, 15]]]
    assert torch.equal(fold(x, 2), torch.tensor([corners], dtype=torch.float32))
    assert torch.equal(fold(x, 2), functional.pixel_unshuffle(x, 2))


@pytest.mark.parametrize(("dims", "side"), list(itertools.product([2, 3], [1, 2, 4])))
def test_unfolding_undoes_folding(dims: int, side: int) -> None:
    x = images(dims, channels=3)
    folded = fold(x, side)
    assert folded.shape == (2, 3 * side**dims, *(n // side for n in SHAPES[dims]))
    assert torch.equal(unfold(folded, side), x)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_folded_network_sees_every_voxel_and_answers_for_every_voxel(dims: int) -> None:
    torch.manual_seed(0)
    network = networks.build(small(dims, fold=2, levels=2)).eval()
    x = images(dims).requires_grad_()
    logits = network(x)
    assert logits.shape == (2, 1, *SHAPES[dims])
    logits.sum().backward()
    assert x.grad is not None and (x.grad != 0).float().mean() > 0.99
    neighbors = logits[..., 0::2] - logits[..., 1::2]
    assert (neighbors != 0).all()  # two voxels of one block are told apart
    assert (
        networks.flops(network, (1, 1, *SHAPES[dims]))
        < networks.flops(networks.build(small(dims, levels=2)), (1, 1, *SHAPES[dims])) / 2
    )


def test_sides_that_do_not_fold_are_refused() -> None:
    network = networks.build(small(2, fold=2, levels=2))
    with pytest.raises(NetworkError, match="multiples of 4 for 2 levels and fold 2"):
        network(torch.zeros(1, 1, 8, 10))

"""What a network is made of, and how the paper's four variants differ. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

from clmsda.errors import InputError

Block = Literal["none", "ms", "msda"]

SCALES = 4
"""Into so many parts the multi-scale block splits its channels."""
REDUCTION = 8
"""Queries and keys of attention have an eighth of the channels (DANet)."""


class NetworkError(InputError):
    """A network that cannot be built, or an input that it cannot take."""


@dataclass(frozen=True)
class NetworkConfig:
    """A U-Net in two or three dimensions (paper section 2.2; the defaults are the paper's).

    width: channels at full resolution; each of the `levels` doubles them (64..1024).
    block: what follows the double convolution of a decoder level: nothing, the multi-scale block,
        or the multi-scale dual-attention block.
    block_levels: the decoder levels that get the block, 0 at full resolution; None for all.
    attention_tokens: position attention is exact up to so many voxels; above, its keys and values
        (not its queries) are averaged down to at most so many. 0 for exact attention always.
    fold: blocks of so many voxels a side enter as the channels of one, and leave the same way as
        logits: the levels work on coarser maps, at a fraction of the cost. 1 is the paper's network.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    spatial_dims: int = 2
    in_channels: int = 1
    width: int = 64
    levels: int = 5
    block: Block = "msda"
    block_levels: tuple[int, ...] | None = None
    attention_tokens: int = 4096
    fold: int = 1

    def __post_init__(self) -> None:
        if self.spatial_dims not in (2, 3):
            raise NetworkError(f"spatial_dims must be 2 or 3, found {self.spatial_dims}")
        for name, lowest in (("in_channels", 1), ("width", 4), ("levels", 2), ("attention_tokens", 0), ("fold", 1)):
            if getattr(self, name) < lowest:
                raise NetworkError(f"{name} must be at least {lowest}, found {getattr(self, name)}")
        for name, highest in (("in_channels", 1024), ("width", 4096), ("levels", 12), ("fold", 64)):
            if getattr(self, name) > highest:  # else the channels of a level are a number of any length
                raise NetworkError(f"{name} must be at most {highest}, found {getattr(self, name)}")
        if self.width % 4:
            raise NetworkError(f"width must be a multiple of 4 (the blocks split channels in four), found {self.width}")
        if self.block not in ("none", "ms", "msda"):
            raise NetworkError(f"block must be none, ms or msda; found {self.block!r}")
        wrong = sorted(set(self.block_levels or ()) - set(range(self.levels - 1)))
        if wrong:
            raise NetworkError(f"block_levels must be decoder levels 0..{self.levels - 2}, found {wrong}")

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each level, from full resolution to the bottom."""
        return tuple(self.width * 2**level for level in range(self.levels))

    @property
    def size_multiple(self) -> int:
        """Every side of an input must be a multiple of this."""
        return int(self.fold * 2 ** (self.levels - 1))

    def check(self, shape: Sequence[int]) -> None:
        """Raise NetworkError unless a network takes input of this shape, (N, in_channels, *spatial)."""
        dims, multiple = self.spatial_dims, self.size_multiple
        if len(shape) != dims + 2 or shape[1] != self.in_channels:
            raise NetworkError(
                f"a {dims}-D network of {self.in_channels} channels needs input "
                f"(N, {self.in_channels}, {dims} sides), found {tuple(shape)}"
            )
        if any(side % multiple for side in shape[2:]):
            folded = f" and fold {self.fold}" * (self.fold > 1)
            raise NetworkError(
                f"sides must be multiples of {multiple} for {self.levels} levels{folded}, "
                f"found {tuple(shape[2:])}: crop or pad the input"
            )

    def block_at(self, level: int) -> Block:
        """The block of one decoder level."""
        return self.block if self.block_levels is None or level in self.block_levels else "none"


@dataclass(frozen=True)
class Variant:
    """How one row of the paper's ablation (section 3) differs from the others.

    pairs: trained on both views with the consistency terms; otherwise on the size-variant view alone.
    """

    block: Block
    pairs: bool


VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        "U-Net": Variant("none", pairs=False),
        "U-Net + MS": Variant("ms", pairs=False),
        "U-Net + MSDA": Variant("msda", pairs=False),
        "CL-MSDA-Net": Variant("msda", pairs=True),
    }
)

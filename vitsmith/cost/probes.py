"""The short models that calibration times: real geometry and random weights, at a grid of widths and numbers of tokens.

Depths come in pairs: the difference of two depths is the time of blocks, and the shallower one has all the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from vitsmith.engines.settings import Goal
from vitsmith.models.config import ImageModelConfig, MixerConfig, ResNetConfig, ViTConfig
from vitsmith.models.cost import flops
from vitsmith.models.parts import AttentionPoolConfig, BlockConfig, PositionEmbeddingConfig, RotaryConfig

HEAD = 64
"""Width of a head, as in nearly all published models."""
BATCH = 8
"""Images in a call of the probes that are opened for throughput."""


@dataclass(frozen=True)
class ShortModel:
    """A short model, and how it is run."""

    config: ImageModelConfig
    goal: Goal = "latency"
    batch: int = 1

    @property
    def flops(self) -> int:
        """Operations of one call."""
        return self.batch * flops(self.config)


def plain(width: int, grid: int, depth: int, **more: Any) -> ViTConfig:
    """A ViT with patches of 16x16, heads of 64 and MLPs of four times its width."""
    return ViTConfig(
        width=width, depth=depth, heads=width // HEAD, mlp_width=4 * width, patch=(16, 16),
        image_size=(16 * grid, 16 * grid), **more,
    )  # fmt: skip


REFERENCE = ShortModel(plain(384, 14, 2))
"""Timed at the start, in the middle and at the end: whether the machine stayed as fast as it was."""

_DEPTHS = {64: (3, 12), 192: (4, 12), 384: (6, 12), 768: (2, 5), 1024: (2, 4)}
"""Two depths by width. Real models have 12 blocks or more and read their weights from memory in each call: the deeper
probe of each width is larger than the processor's caches, or as deep as real models are."""
_SHORT_DEPTHS = {192: (4, 8), 384: (3, 8), 768: (2, 4)}
"""The same where a call has so many tokens that reading weights matters little, and calls take long."""
_MANY = 500
"""Tokens of a call, of all images together, from which that is so."""
_USUAL = [(width, 14) for width in (192, 384, 768, 1024)]
_LATENCY = [(64, 10), (192, 7), (384, 7), (768, 7), (192, 24), (384, 24), (768, 24)]
_THROUGHPUT = [(192, 14), (384, 7), (768, 7), (192, 7), (384, 14)]


def probes() -> list[ShortModel]:
    """All probes, the most important first."""
    return [
        *_pairs(_USUAL),
        *_pairs(_THROUGHPUT[:2], "throughput", BATCH),
        *_parts(),
        *_pairs(_LATENCY),
        *_pairs(_THROUGHPUT[2:], "throughput", BATCH),
    ]


def _pairs(sizes: Sequence[tuple[int, int]], goal: Goal = "latency", batch: int = 1) -> Iterator[ShortModel]:
    """Plain models of two depths for each (width, grid)."""
    for width, grid in sizes:
        depths = _SHORT_DEPTHS if batch * grid**2 >= _MANY else _DEPTHS
        for depth in depths[width]:
            yield ShortModel(plain(width, grid, depth), goal, batch)


def _parts() -> Iterator[ShortModel]:
    """Models for each kind of part that the plain ones do not have."""
    rotary = PositionEmbeddingConfig(learned="none", rotary=RotaryConfig())
    configs: list[ImageModelConfig] = [
        plain(384, 14, 4, gelu="erf"),
        plain(384, 14, 4, gelu="quick"),
        plain(384, 14, 4, position_embedding=rotary),
        plain(768, 14, 2, position_embedding=rotary),
        plain(384, 14, 4, block=BlockConfig(layer_scale=True)),
        plain(384, 14, 4, block=BlockConfig(gated=True)),
        plain(384, 14, 4, block=BlockConfig(qk_norm=True)),
        plain(384, 14, 4, merge=(16,) * 4),
        plain(192, 14, 4, merge=(16,) * 4),
        plain(384, 14, 2, pooling="attention", class_token=False,
              attention_pool=AttentionPoolConfig(heads=6, mlp_width=1536)),
        *(_mixer(512, depth) for depth in (2, 8)),
        *(_mixer(768, depth) for depth in (2, 5)),
        _hybrid((), 14), _hybrid((3, 4, 9), 7), _hybrid((2, 2, 2, 2), 7), _hybrid((1,), 10),
    ]  # fmt: skip
    yield from map(ShortModel, configs)
    yield ShortModel(_hybrid((2, 2), 8), "throughput", BATCH)


def _mixer(width: int, depth: int) -> MixerConfig:
    return MixerConfig(
        width=width, depth=depth, tokens_mlp_width=width // 2, channels_mlp_width=4 * width, patch=(16, 16)
    )


def _hybrid(stages: tuple[int, ...], grid: int) -> ViTConfig:
    """A Ti on a ResNet, whose patches have 16x16 pixels of the image, or 32x32 where it has four stages."""
    resnet = ResNetConfig(stages=stages)
    side = max(16 // resnet.stride, 1)
    pixels = side * resnet.stride * grid
    return ViTConfig(
        width=192, depth=2, heads=3, mlp_width=768, patch=(side, side), image_size=(pixels, pixels), resnet=resnet
    )

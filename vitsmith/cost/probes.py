"""The short models that calibration times: real geometry and random weights, at a grid of widths and numbers of tokens.

Depths come in pairs: the difference of two depths is the time of blocks, and the shallower one has all the rest.
"""

from __future__ import annotations

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

_DEPTHS = {192: (4, 12), 384: (6, 12), 768: (2, 5), 1024: (2, 4)}
"""Two depths by width. Real models have 12 blocks or more and read their weights from memory in each call: the deeper
probe of each width is larger than the processor's caches, or as deep as real models are."""
_LATENCY = [(width, grid) for grid in (14, 7) for width in _DEPTHS] + [(192, 24), (384, 24), (768, 24)]
_THROUGHPUT = [(192, 14), (384, 7), (768, 7), (192, 7), (384, 14)]


def probes() -> list[ShortModel]:
    """All probes, the most important first."""
    grid = [ShortModel(plain(width, grid, depth)) for width, grid in _LATENCY for depth in _DEPTHS[width]]
    batches = [
        ShortModel(plain(width, grid, depth), "throughput", BATCH)
        for width, grid in _THROUGHPUT
        for depth in _DEPTHS[width]
    ]
    return [*grid, *batches, *map(ShortModel, _parts())]


def _parts() -> list[ImageModelConfig]:
    """A model for each kind of part that the plain ones do not have."""
    rotary = PositionEmbeddingConfig(learned="none", rotary=RotaryConfig())
    return [
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
        _hybrid((), 14), _hybrid((3, 4, 9), 7), _hybrid((2, 2, 2), 14), _hybrid((1,), 10),
    ]  # fmt: skip


def _mixer(width: int, depth: int) -> MixerConfig:
    return MixerConfig(
        width=width, depth=depth, tokens_mlp_width=width // 2, channels_mlp_width=4 * width, patch=(16, 16)
    )


def _hybrid(stages: tuple[int, ...], grid: int) -> ViTConfig:
    """A Ti on a ResNet; the grid is that of its patches of 16x16 pixels of the image."""
    resnet = ResNetConfig(stages=stages)
    side = 16 // resnet.stride
    return ViTConfig(
        width=192, depth=2, heads=3, mlp_width=768, patch=(side, side), image_size=(16 * grid, 16 * grid), resnet=resnet
    )

"""What a model computes, counted by the kinds of work whose speed differs: the terms of the physical form of its time.

M rows, that is images times tokens, N and K sides of a matrix of weights, t tokens, D width. Products of an M x K by a
K x N matrix take the time 2 M N K / P / (M / (M + m)) / (min(N, K) / (min(N, K) + k)) + 4 N K / w: peak rate P, which
short rows (m) and small matrices (k) do not reach, and weights that are read from memory at the rate w. Multiplied
out, this is a sum of M N K, N K, and M max(N, K), each with a factor that is not negative; so is all other work. The
factors are found by calibration (`form.py`). No torch here.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from vitsmith.arrays import Array
from vitsmith.models.config import ImageModelConfig, LiTConfig, MixerConfig, ModelConfig, ResNetConfig, ViTConfig
from vitsmith.models.cost import convolutions

TERMS = (
    "call",
    "block",
    "products",
    "weights",
    "rows",
    "attention",
    "scores",
    "norms",
    "gelu_tanh",
    "gelu_erf",
    "gelu_quick",
    "gates",
    "turns",
    "scales",
    "head_norms",
    "transposes",
    "merged",
    "pixels",
    "convolutions",
    "root",
    "kernels",
    "maps",
)
"""Kinds of work, in the order of the numbers of `Work.counts`.

'call' once, 'block' once for each block, 'products', 'weights' and 'rows' of matrix products (see above), 'attention'
products of queries, keys and values, 'scores' softmax, 'norms' norms and additions of tokens, 'gelu_...' and 'gates'
activations of MLPs, 'turns' rotary positions, 'scales' LayerScale, 'head_norms' further norms, 'transposes' of a
Mixer, 'merged' similarities of tokens, 'pixels' of the image; of a ResNet: 'convolutions', its first one ('root'),
numbers in 'kernels', which torch standardises in each call, and numbers in feature 'maps', which GroupNorms see.
"""

_AT = {name: number for number, name in enumerate(TERMS)}


@dataclass(frozen=True)
class WorkPart:
    """One part of a model that computes at once: its work, and where it lies between calibrated sizes."""

    counts: Array
    """float64 (terms,)."""
    tokens: int = 1
    width: int = 1


@dataclass(frozen=True)
class Work:
    """The work of one call."""

    outer: WorkPart
    """Everything but the blocks in between: patches, the first and the last block, and the head."""
    blocks: tuple[WorkPart, ...]
    """The other blocks."""
    front: WorkPart | None
    """The ResNet of a hybrid."""
    batch: int
    family: str = field(default="vit")

    @property
    def counts(self) -> Array:
        """All work: float64 (terms,)."""
        parts = [self.outer, *self.blocks] + ([self.front] if self.front else [])
        return np.sum([part.counts for part in parts], axis=0)


@functools.lru_cache(maxsize=2048)  # for all engines and precisions
def work_of(config: ModelConfig, batch: int = 1) -> Work:
    """The work of a call of `batch` images; of two towers, that of the image tower."""
    tower: ImageModelConfig = config.image if isinstance(config, LiTConfig) else config
    blocks = list(_mixer_blocks(tower, batch) if isinstance(tower, MixerConfig) else _blocks(tower, batch))
    first, *between, last = blocks if len(blocks) > 1 else [WorkPart(np.zeros(len(TERMS))), *blocks]
    stem = _stem(tower, batch)
    outer = WorkPart(first.counts + last.counts + stem, blocks[0].tokens, tower.width)
    front = None
    if isinstance(tower, ViTConfig) and tower.resnet:
        front = WorkPart(_resnet(tower.resnet, tower.image_size, batch), blocks[0].tokens, tower.width)
    return Work(outer, tuple(between), front, batch, tower.family)


class _Counts:
    """Work that is being added up."""

    def __init__(self) -> None:
        self.numbers = np.zeros(len(TERMS))

    def add(self, **more: float) -> None:
        for name, count in more.items():
            self.numbers[_AT[name]] += count

    def product(self, rows: float, inputs: int, outputs: int) -> None:
        """(rows, inputs) by (inputs, outputs)."""
        self.add(products=rows * inputs * outputs, weights=inputs * outputs, rows=rows * max(inputs, outputs))


def _blocks(config: ViTConfig, batch: int) -> Iterator[WorkPart]:
    """The blocks of a ViT, in order; the last computes no more tokens than the head needs."""
    counts = config.tokens_per_block
    known: dict[tuple[int, int, int], WorkPart] = {}  # equal blocks are one part
    for number, (tokens, left) in enumerate(pairwise(counts)):
        last = number == config.depth - 1 and config.pooling == "token"
        kept = 1 + config.distillation_token if last else tokens
        key = tokens, kept, min(kept, left)
        if key not in known:
            known[key] = WorkPart(_block(config, batch, *key), tokens, config.width)
        yield known[key]


def _block(config: ViTConfig, batch: int, tokens: int, kept: int, left: int) -> Array:
    """A block of `tokens` tokens, which gives `kept` of them after its attention and `left` after merging."""
    width, inner, hidden, parts = config.width, config.attention_width, config.mlp_width, config.block
    work, rows, asked, mlp_rows = _Counts(), batch * tokens, batch * kept, batch * left
    work.add(block=1)
    work.product(rows, width, 2 * inner)
    work.product(asked, width, inner)
    work.product(asked, inner, width)
    work.add(attention=2 * asked * tokens * inner, scores=asked * tokens * config.heads)
    for _ in range(3 if parts.gated else 2):
        work.product(mlp_rows, width, hidden)
    work.add(norms=(rows + 3 * asked) * width / 2)
    work.add(**{"gates" if parts.gated else f"gelu_{config.gelu}": mlp_rows * hidden})
    if config.position_embedding.rotary:
        work.add(turns=(rows + asked) * inner)
    if parts.layer_scale:
        work.add(scales=(asked + mlp_rows) * width)
    if parts.qk_norm:
        work.add(head_norms=(rows + asked) * inner)
    if parts.attention_norm:
        work.add(head_norms=asked * inner)
    if parts.mlp_norm:
        work.add(head_norms=mlp_rows * hidden)
    if left < kept:
        head = inner // config.heads
        work.add(merged=batch * (tokens / 2) ** 2 * head + rows * width)
    return work.numbers


def _mixer_blocks(config: MixerConfig, batch: int) -> Iterator[WorkPart]:
    work, rows, width = _Counts(), batch * config.tokens, config.width
    work.add(block=1, norms=2 * rows * width, transposes=2 * rows * width)
    for inputs, outputs in ((config.tokens, config.tokens_mlp_width), (config.tokens_mlp_width, config.tokens)):
        work.product(batch * width, inputs, outputs)
    work.product(rows, width, config.channels_mlp_width)
    work.product(rows, config.channels_mlp_width, width)
    hidden = batch * width * config.tokens_mlp_width + rows * config.channels_mlp_width
    work.add(**{f"gelu_{config.gelu}": hidden})
    return (WorkPart(work.numbers, config.tokens, width) for _ in range(config.depth))


def _stem(config: ImageModelConfig, batch: int) -> Array:
    """Patches, the head, and what every call costs."""
    work, patches = _Counts(), math.prod(config.grid)
    resnet = config.resnet if isinstance(config, ViTConfig) else None
    channels = resnet.out_width if resnet else 3
    work.add(call=1, pixels=batch * 3 * math.prod(config.image_size), norms=batch * config.tokens * config.width)
    work.product(batch * patches, channels * math.prod(config.patch), config.width)
    if isinstance(config, MixerConfig):
        work.product(batch, config.width, config.classes)
        return work.numbers
    answers = config.tokens if config.pooling in ("unpooled", "token_unpooled") else 1 + config.distillation_token
    if pool := config.attention_pool:
        work.add(rows=batch * config.tokens * config.width, scores=batch * config.tokens * pool.heads)
        work.add(norms=2 * batch * config.tokens * config.width)
        for sides in ((config.width, config.width),) * 2 + ((config.width, pool.mlp_width),) * 2:
            work.product(batch, *sides)
    if config.representation:
        work.product(batch * answers, config.pooled_width, config.representation)
    if config.unit and config.unit.width:
        work.product(batch * answers, config.representation or config.pooled_width, config.unit.width)
    work.product(batch * answers, config.feature_width, config.classes)
    return work.numbers


def _resnet(config: ResNetConfig, image_size: tuple[int, int], batch: int) -> Array:
    """The ResNet front of a hybrid."""
    work = _Counts()
    for one in convolutions(config, image_size):
        area = batch * math.prod(one.size)
        kind = "root" if one.kernel == 7 else "convolutions"
        work.add(**{kind: area * one.weights}, kernels=one.weights, maps=area * one.outputs)
    return work.numbers

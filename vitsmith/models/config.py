"""Configurations: they hold everything that decides a model's arrays and arithmetic, and nothing else.

Sizes use the same words everywhere: width, depth, heads, mlp_width, patch, grid, classes.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vitsmith.fields import Finite, Frozen, Number
from vitsmith.models.parts import (
    AttentionPoolConfig,
    BlockConfig,
    Classes,
    Depth,
    Eps,
    Gelu,
    Hidden,
    NormKind,
    Pair,
    Pooling,
    PositionEmbeddingConfig,
    Rate,
    UnitConfig,
    Width,
    indivisible_heads,
)
from vitsmith.models.text_config import TextConfig

Registers = Annotated[int, Field(ge=0, le=1_024), Number]

GROUPS = 32
"""Groups of every GroupNorm in a hybrid, flax's default."""


class ResNetConfig(Frozen):
    """The convolutional front of a hybrid: a stem, then bottleneck stages (models_resnet.py of the original)."""

    stages: tuple[Depth, ...] = Field((), max_length=8, description="bottleneck units per stage; () is the stem alone")
    width_factor: Finite = Field(1.0, gt=0, le=64, description="the stem has 64 * width_factor channels")
    norm_eps: Eps = 1e-6
    divisor: Literal["deviation", "variance"] = Field(
        "deviation",
        description="what kernels are divided by: their deviation plus 1e-5 (the original), or the root of their "
        "variance plus 1e-8 (timm)",
    )

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.stem_width == 0 or self.stem_width % GROUPS:
            raise ValueError(f"the stem's {self.stem_width} channels are not a multiple of GroupNorm's {GROUPS} groups")
        return self

    @property
    def stem_width(self) -> int:
        return int(64 * self.width_factor)

    @property
    def out_width(self) -> int:
        return self.stem_width * 4 * 2 ** (len(self.stages) - 1) if self.stages else self.stem_width

    @property
    def stride(self) -> int:
        """Pixels per output position: 2 (root convolution) x 2 (pool) x 2 for each stage after the first."""
        return 4 * 2 ** max(len(self.stages) - 1, 0)

    def out_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the feature map; each halving rounds up, as 'SAME' padding does."""
        height, width = image_size
        for _ in range(int(math.log2(self.stride))):
            height, width = -(-height // 2), -(-width // 2)
        return height, width


class ViTConfig(Frozen):
    """Vision Transformer, arXiv 2010.11929; a hybrid when `resnet` is given."""

    family: Literal["vit"] = "vit"
    width: Width
    depth: Depth
    heads: Width
    head_width: Width | None = Field(
        None, description="width of one head where it is not width / heads, as after pruning heads"
    )
    mlp_width: Hidden
    patch: Pair = Field(description="(height, width) of a patch, in pixels or in positions of the ResNet's output")
    image_size: Pair = (224, 224)
    classes: Classes = Field(1000, description="0: no head, the pooled feature is the output")
    pooling: Pooling = "token"
    class_token: bool = True
    distillation_token: bool = Field(
        False, description="DeiT's second token and head, which learn from a teacher (arXiv 2012.12877)"
    )
    representation: Width | None = Field(None, description="width of the tanh layer before the head (pre_logits)")
    resnet: ResNetConfig | None = None
    gelu: Gelu = "tanh"
    norm_eps: Eps = 1e-6
    norm_after_pooling: bool = Field(False, description="timm's fc_norm: the final LayerNorm comes after the mean")
    dropout: Rate = 0.0
    attention_dropout: Rate = 0.0
    stochastic_depth: Rate = Field(0.0, description="rate of the last block; earlier blocks grow linearly from 0")
    merge: tuple[Annotated[int, Field(ge=0), Number], ...] = Field(
        (), description="tokens that each block merges into others (arXiv 2210.09461), one number a block; () is none"
    )
    patch_bias: bool = True
    unseen_edge: bool = Field(
        False, description="pixels at the right and below that fill no patch are left out (SigLIP So400m/14 at 384)"
    )
    registers: Registers = Field(0, description="learned tokens after the class token (arXiv 2309.16588)")
    position_embedding: PositionEmbeddingConfig = PositionEmbeddingConfig()
    norm_before: bool = Field(False, description="CLIP's ln_pre: a LayerNorm before the first block too")
    block: BlockConfig = BlockConfig()
    final_norm: bool = Field(True, description="a LayerNorm after the last block, or after pooling")
    attention_pool: AttentionPoolConfig | None = Field(None, description="the pooling of pooling='attention'")
    head_bias: bool = True
    norm: NormKind = Field(
        "layer",
        description="norms of the tokens: LayerNorm, or 'rms', RMSNorm (1910.07467); those in parts are LayerNorm",
    )
    patch_norm: bool = Field(False, description="a norm of the embedded patches, before their positions (AIMv2)")
    unit: UnitConfig | None = Field(None, description="the head sees features of length 1 (classes made of texts)")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        mistakes = []
        if self.head_width is None and (reason := indivisible_heads(self.width, self.heads)):
            mistakes.append(reason)
        if reason := impossible_merge(self):
            mistakes.append(reason)
        mistakes += impossible_parts(self)
        if self.pooling in ("token", "token_and_gap", "token_unpooled") and not self.class_token:
            mistakes.append(f"pooling {self.pooling!r} needs class_token=True")
        if self.pooling == "unpooled" and self.class_token:
            mistakes.append("pooling 'unpooled' has no class token; with one it is 'token_unpooled'")
        if self.distillation_token and self.pooling != "token":
            mistakes.append(
                f"distillation_token=True stands beside a class token: pooling must be 'token', not {self.pooling!r}"
            )
        if self.norm_after_pooling and self.pooling != "gap":
            mistakes.append("norm_after_pooling is for pooling 'gap'")
        if self.norm_after_pooling and not self.final_norm:
            mistakes.append("norm_after_pooling needs final_norm=True")
        reason = indivisible(self.patch_input, self.patch)
        if reason and self.resnet is None and not self.unseen_edge:
            mistakes.append(reason)
        if min(self.grid) < 1:
            mistakes.append(f"image size {show_size(self.image_size)} is smaller than one patch")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

    @property
    def patch_input(self) -> tuple[int, int]:
        """(height, width) of the input of the patches: the image, or the ResNet's output."""
        return self.resnet.out_size(self.image_size) if self.resnet else self.image_size

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        height, width = self.patch_input
        return height // self.patch[0], width // self.patch[1]

    @property
    def attention_width(self) -> int:
        """Width of all heads together."""
        return self.heads * (self.head_width or self.width // self.heads)

    @property
    def tokens_per_block(self) -> tuple[int, ...]:
        """The number of tokens before each block, and after the last: depth + 1 numbers.

        A block merges after its attention, so its MLP sees as many tokens as the next block.
        """
        merged = accumulate(self.merge or (0,) * self.depth)
        return (self.tokens, *(self.tokens - count for count in merged))

    @property
    def prefix(self) -> int:
        """Tokens before the patches: class token, distillation token, registers, in this order."""
        return self.class_token + self.distillation_token + self.registers

    @property
    def prefix_positions(self) -> int:
        """How many of the tokens before the patches, from the first on, have a learned position."""
        return {"all": self.prefix, "class": 1, "patches": 0, "none": 0}[self.position_embedding.learned]

    @property
    def tokens(self) -> int:
        """Length of the sequence, with all tokens before the patches."""
        return math.prod(self.grid) + self.prefix

    @property
    def pooled_width(self) -> int:
        """Width of what pooling gives."""
        return 2 * self.width if self.pooling == "token_and_gap" else self.width

    @property
    def feature_width(self) -> int:
        """Width of the input of the head."""
        return (self.unit and self.unit.width) or self.representation or self.pooled_width


class MixerConfig(Frozen):
    """MLP-Mixer, arXiv 2105.01601."""

    family: Literal["mixer"] = "mixer"
    width: Width
    depth: Depth
    tokens_mlp_width: Hidden
    channels_mlp_width: Hidden
    patch: Pair
    image_size: Pair = (224, 224)
    classes: Classes = 1000
    gelu: Gelu = "tanh"
    norm_eps: Eps = 1e-6
    dropout: Rate = 0.0
    stochastic_depth: Rate = 0.0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if reason := indivisible(self.image_size, self.patch):
            raise ValueError(reason)
        return self

    @property
    def grid(self) -> tuple[int, int]:
        return self.image_size[0] // self.patch[0], self.image_size[1] // self.patch[1]

    @property
    def tokens(self) -> int:
        return math.prod(self.grid)

    @property
    def feature_width(self) -> int:
        return self.width


class LiTConfig(Frozen):
    """Two towers and a temperature, arXiv 2111.07991. `image.classes` is the width of the image projection, or 0."""

    family: Literal["lit"] = "lit"
    image: ViTConfig
    text: TextConfig
    bias: bool = Field(False, description="a learned bias beside the temperature, for the sigmoid loss (2303.15343)")

    @model_validator(mode="after")
    def _same_width(self) -> Self:
        image = self.image.classes or self.image.feature_width
        text = self.text.classes or self.text.width
        if image != text:
            raise ValueError(f"the towers must meet in one width: image {image}, text {text}")
        return self

    @property
    def image_size(self) -> tuple[int, int]:
        return self.image.image_size

    @property
    def embedding_width(self) -> int:
        return self.image.classes or self.image.feature_width


ImageModelConfig = ViTConfig | MixerConfig
ModelConfig = Annotated[ViTConfig | MixerConfig | LiTConfig, Field(discriminator="family")]


def indivisible(size: tuple[int, int], patch: tuple[int, int]) -> str:
    """A message when `patch` does not tile `size`, with the nearest sizes that it tiles; '' when it does."""
    if size[0] % patch[0] == 0 and size[1] % patch[1] == 0:
        return ""
    smaller = tuple(max(side // p, 1) * p for side, p in zip(size, patch, strict=True))
    larger = tuple(-(-side // p) * p for side, p in zip(size, patch, strict=True))
    return (
        f"image size {show_size(size)} is not a multiple of the patch {show_size(patch)}; "
        f"the nearest multiples are {show_size(smaller)} and {show_size(larger)}"
    )


def impossible_parts(config: ViTConfig) -> list[str]:
    """Messages on parts of `config` that do not go together."""
    mistakes = []
    learned, rotary = config.position_embedding.learned, config.position_embedding.rotary
    if (config.pooling == "attention") != (config.attention_pool is not None):
        mistakes.append("pooling 'attention' and attention_pool need each other")
    if pool := config.attention_pool:
        mistakes += [f"attention_pool: {reason}"] if (reason := indivisible_heads(config.width, pool.heads)) else []
    if learned == "class" and not config.class_token:
        mistakes.append(
            "position_embedding.learned 'class' needs class_token=True: without a class token it is 'patches'"
        )
    if config.distillation_token and learned != "all":
        mistakes.append(f"distillation_token=True needs position_embedding.learned 'all', not {learned!r}")
    if rotary and (config.attention_width // config.heads) % 4:
        width = config.attention_width // config.heads
        mistakes.append(f"position_embedding.rotary needs a head width that is a multiple of 4, not {width}")
    if rotary and rotary.places != "index" and (rotary.start or rotary.reference):
        mistakes.append("position_embedding.rotary: start and reference are for places 'index'")
    if rotary and config.merge:
        mistakes.append("merge is not possible with position_embedding.rotary, which turns each token by its own place")
    return mistakes


def impossible_merge(config: ViTConfig) -> str:
    """A message when the merge schedule of `config` is impossible; '' when it is possible."""
    if not config.merge:
        return ""
    if len(config.merge) != config.depth:
        return f"merge has {len(config.merge)} numbers for {config.depth} blocks"
    if config.pooling in ("unpooled", "token_unpooled"):
        return f"merge is not possible with pooling {config.pooling!r}, which returns all tokens"
    if min(config.grid) < 1:
        return ""  # another mistake, reported elsewhere
    for block, (count, tokens) in enumerate(zip(config.merge, config.tokens_per_block, strict=False)):
        most = max((tokens - config.prefix) // 2, 0)
        if count > most:
            return f"merge takes {count} tokens in block {block}, which has {tokens}: at most {most} have a partner"
    return ""


def merges(config: ModelConfig) -> bool:
    """Whether the image tower merges tokens."""
    tower = config.image if isinstance(config, LiTConfig) else config
    return any(getattr(tower, "merge", ()))


def show_size(size: tuple[int, ...]) -> str:
    """'224x192' for (224, 192)."""
    return "x".join(map(str, size))

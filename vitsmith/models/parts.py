"""The parts by which vision transformers of one shape differ, as configurations: positions, blocks, attention pooling.

The defaults are those of the first paper, arXiv 2010.11929.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vitsmith.fields import Finite, Frozen, Number, Pixels

Rate = Annotated[float, Field(ge=0, lt=1), Number]
Pair = tuple[Pixels, Pixels]

# Limits far beyond any published model (ViT-22B: width 6144, depth 48, mlp_width 24576), so that a damaged or hostile
# number is refused before memory is taken for it.
Width = Annotated[int, Field(gt=0, le=65_536), Number]
Hidden = Annotated[int, Field(gt=0, le=1_048_576), Number]
Depth = Annotated[int, Field(gt=0, le=1_000), Number]
Length = Annotated[int, Field(gt=0, le=1_048_576), Number]
Pieces = Annotated[int, Field(gt=0, le=10_000_000), Number]
Classes = Annotated[int, Field(ge=0, le=10_000_000), Number]
Eps = Annotated[Finite, Field(ge=0, lt=1)]
Gelu = Literal["tanh", "erf", "quick"]
Pooling = Literal["token", "gap", "token_and_gap", "attention", "unpooled", "token_unpooled"]
NormKind = Literal["layer", "rms"]
PositionResize = Literal["zoom", "bicubic", "bicubic_plain", "bicubic_offset", "bilinear_plain"]


class RotaryConfig(Frozen):
    """Queries and keys are turned by angles that follow from the place of their patch (arXiv 2104.09864, in two axes).

    Head width d: place p on an axis gives the d / 4 angles p / base^(4k / d), k = 0, 1, ... Half of a head's pairs of
    channels turn by those of the row, half by those of the column. Tokens before the patches are not turned.
    """

    base: Finite = Field(100.0, gt=1)
    places: Literal["centred", "index"] = Field(
        "centred",
        description="'centred': middles of patches between -1 and 1, times 2 pi (DINOv3); 'index': 0, 1, 2, ... (EVA)",
    )
    first: Literal["rows", "columns"] = Field("rows", description="the axis of the first half of the pairs")
    start: int = Field(0, ge=0, le=1, description="with 'index': the place of the first patch")
    reference: Pair | None = Field(
        None, description="with 'index': places are scaled as if the grid had so many rows and columns"
    )
    bfloat16: bool = Field(False, description="base^(4k / d) is rounded to bfloat16, as DINOv3's own files have it")


class PositionEmbeddingConfig(Frozen):
    """How tokens know their place."""

    learned: Literal["all", "class", "patches", "none"] = Field(
        "all",
        description="tokens with a learned position: 'all'; the patches and, before them, the 'class' token but no "
        "registers (DINOv2); the 'patches' alone (DeiT III); 'none'",
    )
    resize: PositionResize = Field("zoom", description="how the author's code moves learned positions to another grid")
    rotary: RotaryConfig | None = None


class BlockConfig(Frozen):
    """What a block has besides LayerNorm, attention with biases, and an MLP with GELU."""

    layer_scale: bool = Field(False, description="a learned factor a channel after attention and MLP (2103.17239)")
    qkv_bias: bool = True
    qk_norm: bool = Field(False, description="LayerNorm over each head's queries and keys (2302.05442)")
    attention_norm: bool = Field(False, description="LayerNorm before the output projection of attention (EVA-02)")
    gated: bool = Field(False, description="MLP silu(gate) * value, of twice mlp_width inputs (SwiGLU, 2002.05202)")
    mlp_norm: bool = Field(False, description="LayerNorm before the last layer of the MLP (EVA-02)")


class UnitConfig(Frozen):
    """Features of length 1 before the head, as two towers compare images and texts (arXiv 2103.00020).

    With the embeddings of texts as its rows, times the temperature, the head classifies by their words.
    """

    width: Width | None = Field(None, description="width of the projection before; None: features as they are")
    bias: bool = Field(True, description="of the projection")


class AttentionPoolConfig(Frozen):
    """A learned probe that attends to all tokens, then an MLP (SigLIP's head, arXiv 2106.04560 section 3.4)."""

    heads: Width
    mlp_width: Hidden


def indivisible_heads(width: int, heads: int) -> str:
    """A message when `heads` does not divide `width`; '' when it does."""
    return f"width {width} is not a multiple of heads {heads}" if width % heads else ""

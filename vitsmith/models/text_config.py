"""Configurations of text towers: BERT, and the transformer of LiT, CLIP and SigLIP."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from vitsmith.fields import Frozen, Number
from vitsmith.models.parts import Classes, Depth, Eps, Gelu, Hidden, Length, Pieces, Width, indivisible_heads


class BertConfig(Frozen):
    """BERT text tower: post-norm, the first token pooled (flaxformer's BertEncoder)."""

    kind: Literal["bert"] = "bert"
    width: Width
    depth: Depth
    heads: Width
    mlp_width: Hidden
    vocabulary: Pieces = 30522
    positions: Length = 512
    segments: Length = 2
    length: Length = Field(16, description="tokens per text")
    classes: Classes = Field(768, description="width of the projection; 0: none")
    gelu: Gelu = "tanh"
    norm_eps: Eps = 1e-12

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if reason := indivisible_heads(self.width, self.heads):
            raise ValueError(reason)
        if self.positions < self.length:
            raise ValueError(f"{self.positions} positions are too few for texts of {self.length} tokens")
        return self


class TextTransformerConfig(Frozen):
    """Pre-norm text tower: that of LiT (models_lit.py of the original), CLIP (clip/model.py) and SigLIP."""

    kind: Literal["transformer"] = "transformer"
    width: Width
    depth: Depth
    heads: Width
    mlp_width: Hidden
    vocabulary: Pieces
    length: Length = 16
    classes: Classes = Field(description="width of the projection; 0: none")
    gelu: Gelu = "tanh"
    norm_eps: Eps = 1e-6
    mask: Literal["none", "causal"] = Field("none", description="'causal': no token sees a later one")
    pooling: Literal["last", "end"] = Field(
        "last", description="the token that is projected: the last, or the first end token of a text"
    )
    end_token: Annotated[int, Field(ge=0), Number] | None = Field(
        None, description="id of the end token of pooling 'end'; None: the largest id in the text, as in CLIP"
    )
    head_bias: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        mistakes = [reason] if (reason := indivisible_heads(self.width, self.heads)) else []
        if self.end_token is not None and self.pooling != "end":
            mistakes.append("end_token is for pooling 'end'")
        if self.end_token is not None and self.end_token >= self.vocabulary:
            mistakes.append(f"end_token {self.end_token} is not below vocabulary {self.vocabulary}")
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self


TextConfig = Annotated[BertConfig | TextTransformerConfig, Field(discriminator="kind")]

"""The text towers of LiT: BERT (arXiv 1810.04805, as flaxformer has it) and a plain text transformer.

B batch, L length, D width, E embedding width. Source: models_lit.py of the original.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitsmith.layers.attention import Attention
from vitsmith.layers.block import Block
from vitsmith.layers.eager import is_watched
from vitsmith.layers.mlp import Mlp
from vitsmith.layers.padding import trim_padding
from vitsmith.layers.positions import PositionEmbedding
from vitsmith.models.config import BertConfig, TextTransformerConfig
from vitsmith.models.inputs import check_tokens

PADDING = 0
"""Token id that BERT ignores."""


class BertBlock(nn.Module):
    """Post-norm: LayerNorm(x + Attention(x)), then LayerNorm(x + Mlp(x)), on (B, L, D)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads)
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = Mlp(config.width, config.mlp_width, config.gelu)
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, x: Tensor, bias: Tensor, kept: int | None = None) -> Tensor:
        """The output for all tokens, or for the first `kept` only, computed from all."""
        x = self.norm1(x[:, :kept] + self.attention(x, bias, kept=kept))
        return self.norm2(x + self.mlp(x))


class Bert(nn.Module):
    """Token ids (B, L) -> (B, E): the first token after the last block, projected."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.positions, config.width)
        self.segments = nn.Embedding(config.segments, config.width)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.blocks = nn.ModuleList(BertBlock(config) for _ in range(config.depth))
        self.head = nn.Linear(config.width, config.classes) if config.classes else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        check_tokens(tokens, self.config.length)
        if not is_watched(self):
            tokens = trim_padding(tokens, PADDING)  # no token attends to it: the same result, in less time
        x = self.words(tokens) + self.positions.weight[: tokens.shape[1]] + self.segments.weight[0]
        x = self.norm(x)
        # A large finite number, as in flaxformer: a text of padding alone gives a mean and not NaN.
        bias = torch.where(tokens == PADDING, -1e10, 0.0).to(x.dtype)[:, None, None, :]  # (B, 1, 1, L)
        for block in self.blocks[:-1]:
            x = block(x, bias)
        x = self.blocks[-1](x, bias, kept=1 if self.training else None)  # saves a 20th of the time of 12 blocks
        return self.head(x[:, 0])


class TextTransformer(nn.Module):
    """Token ids (B, L) -> (B, E): the last token, projected. Nothing is masked; padding repeats the end token."""

    def __init__(self, config: TextTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocabulary, config.width)
        self.positions = PositionEmbedding(config.length, config.width)
        self.blocks = nn.ModuleList(
            Block(
                config.width,
                Attention(config.width, config.heads),
                Mlp(config.width, config.mlp_width, config.gelu),
                norm_eps=config.norm_eps,
            )
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.head = nn.Linear(config.width, config.classes)

    def forward(self, tokens: Tensor) -> Tensor:
        check_tokens(tokens, self.config.length)
        x = self.positions(self.words(tokens))
        for block in self.blocks[:-1]:
            x = block(x)
        # Blocks know the order only from the positions, and can compute the first token alone: so flip.
        x = self.blocks[-1](x.flip(1), kept=1) if self.training else self.blocks[-1](x)
        return self.head(self.norm(x)[:, -1])


def text_tower(config: BertConfig | TextTransformerConfig) -> Bert | TextTransformer:
    """The tower that `config` describes."""
    return Bert(config) if isinstance(config, BertConfig) else TextTransformer(config)

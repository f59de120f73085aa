"""The text towers: BERT (arXiv 1810.04805, as flaxformer has it), and the transformer of LiT, CLIP and SigLIP.

B batch, L length, D width, E embedding width. Sources: models_lit.py of the original; clip/model.py of OpenAI's CLIP,
arXiv 2103.00020; text_transformer.py of big_vision for SigLIP, arXiv 2303.15343.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitsmith.layers.attention import Attention
from vitsmith.layers.block import Block
from vitsmith.layers.eager import is_watched
from vitsmith.layers.mlp import Mlp
from vitsmith.layers.padding import trim_after, trim_padding
from vitsmith.layers.positions import PositionEmbedding
from vitsmith.models.inputs import check_tokens
from vitsmith.models.text_config import BertConfig, TextTransformerConfig

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
        self.words = _table(config.vocabulary, config.width)
        self.positions = _table(config.positions, config.width)
        self.segments = _table(config.segments, config.width)
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
    """Token ids (B, L) -> (B, E): the last or the end token after the last block, projected. Padding is not masked.

    LiT and SigLIP mask nothing and pool the last token: LiT's padding repeats the end token, SigLIP 2's is token 0.
    CLIP masks what follows a token, and pools the end token.
    """

    def __init__(self, config: TextTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.words = _table(config.vocabulary, config.width)
        self.positions = PositionEmbedding(config.length, config.width)
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.head = _head(config)

    def forward(self, tokens: Tensor) -> Tensor:
        check_tokens(tokens, self.config.length)
        return self._end_token(tokens) if self.config.pooling == "end" else self._last_token(tokens)

    def _last_token(self, tokens: Tensor) -> Tensor:
        x = self.positions(self.words(tokens))
        for block in self.blocks[:-1]:
            x = block(x)
        # Blocks without a mask know the order only from the positions, and can compute the first token alone: so flip.
        flipped = self.training and self.config.mask == "none"
        x = self.blocks[-1](x.flip(1), kept=1) if flipped else self.blocks[-1](x)
        return self.head(self.norm(x)[:, -1])

    def _end_token(self, tokens: Tensor) -> Tensor:
        end = self.config.end_token
        ends = tokens.argmax(dim=1) if end is None else (tokens == end).int().argmax(dim=1)  # (B,), the first of equals
        if self.config.mask == "causal" and not is_watched(self):
            tokens = trim_after(tokens, ends)  # no token sees a later one: the same result, in less time
        x = self.words(tokens) + self.positions.embedding[:, : tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        x = x.gather(1, ends[:, None, None].expand(-1, 1, x.shape[2])).squeeze(1)  # (B, D)
        return self.head(self.norm(x))


def _block(config: TextTransformerConfig) -> Block:
    attention = Attention(config.width, config.heads, causal=config.mask == "causal")
    mlp = Mlp(config.width, config.mlp_width, config.gelu)
    return Block(config.width, attention, mlp, norm_eps=config.norm_eps)


def _head(config: TextTransformerConfig) -> nn.Module:
    return nn.Linear(config.width, config.classes, bias=config.head_bias) if config.classes else nn.Identity()


def _table(rows: int, width: int) -> nn.Embedding:
    """An embedding whose values are set later: to draw some without memory would import torch._dynamo, for a second."""
    return nn.Embedding(rows, width, _weight=torch.empty(rows, width))


def text_tower(config: BertConfig | TextTransformerConfig) -> Bert | TextTransformer:
    """The tower that `config` describes."""
    return Bert(config) if isinstance(config, BertConfig) else TextTransformer(config)

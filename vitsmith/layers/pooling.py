"""Pool a sequence of tokens into the input of the head."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def pool(
    tokens: Tensor,
    pooling: Literal["token", "gap", "token_and_gap", "attention", "unpooled", "token_unpooled"],
    *,
    prefix: int,
    sizes: Tensor | None = None,
) -> Tensor:
    """(batch, tokens, width) -> (batch, width), or unchanged for the unpooled kinds.

    'token' takes the class token, which comes first. 'gap' is the mean over the patches, without the `prefix` tokens
    before them; for merged tokens it is weighted by `sizes`, (batch, tokens), the number of patches of each.
    'token_and_gap' is both, one behind the other, (batch, 2 * width). 'attention' is done by `AttentionPool`.
    """
    if pooling == "token":
        return tokens[:, 0]
    if pooling == "gap":
        return _mean(tokens, prefix, sizes)
    if pooling == "token_and_gap":
        return torch.cat([tokens[:, 0], _mean(tokens, prefix, sizes)], dim=-1)
    return tokens


def _mean(tokens: Tensor, prefix: int, sizes: Tensor | None) -> Tensor:
    patches = tokens[:, prefix:]
    if sizes is None:
        return patches.mean(dim=1)
    weights = sizes[:, prefix:, None].to(tokens.dtype)
    return (patches * weights).sum(dim=1) / weights.sum(dim=1)

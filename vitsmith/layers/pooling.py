"""From a sequence of tokens to what the head sees."""

from __future__ import annotations

from typing import Literal

from torch import Tensor


def pool(
    tokens: Tensor, pooling: Literal["token", "gap", "unpooled", "token_unpooled"], *, class_token: bool
) -> Tensor:
    """(batch, tokens, width) -> (batch, width), or unchanged for the unpooled kinds.

    'token' takes the class token, which comes first. 'gap' is the mean over the patches, without the class token.
    """
    if pooling == "token":
        return tokens[:, 0]
    if pooling == "gap":
        return tokens[:, int(class_token) :].mean(dim=1)
    return tokens

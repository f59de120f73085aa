"""Pool a sequence of tokens into the input of the head."""

from __future__ import annotations

from typing import Literal

from torch import Tensor


def pool(
    tokens: Tensor,
    pooling: Literal["token", "gap", "unpooled", "token_unpooled"],
    *,
    class_token: bool,
    sizes: Tensor | None = None,
) -> Tensor:
    """(batch, tokens, width) -> (batch, width), or unchanged for the unpooled kinds.

    'token' takes the class token, which comes first. 'gap' is the mean over the patches, without the class token; for
    merged tokens it is weighted by `sizes`, (batch, tokens), the number of patches of each.
    """
    if pooling == "token":
        return tokens[:, 0]
    if pooling == "gap":
        patches = tokens[:, int(class_token) :]
        if sizes is None:
            return patches.mean(dim=1)
        weights = sizes[:, int(class_token) :, None].to(tokens.dtype)
        return (patches * weights).sum(dim=1) / weights.sum(dim=1)
    return tokens

"""Texts shorter than the context."""

from __future__ import annotations

from torch import Tensor

from vitsmith.layers.eager import is_eager_on_a_cpu


def trim_padding(tokens: Tensor, padding: int) -> Tensor:
    """(B, L) -> (B, length of the longest text), for models to which ids `padding` at the end are nothing.

    All L stay where looking at values would break a trace or make a GPU wait, and when a text has nothing but padding:
    what a model makes of it depends on how much there is.
    """
    if not is_eager_on_a_cpu(tokens) or not len(tokens):
        return tokens
    used = tokens != padding
    if not used.any(dim=1).all():
        return tokens
    return tokens[:, : int(used.any(dim=0).nonzero()[-1]) + 1]

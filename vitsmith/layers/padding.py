"""Trim what follows a text that is shorter than the context, where the model does not look at it."""

from __future__ import annotations

from torch import Tensor

from vitsmith.layers.eager import is_eager_on_a_cpu


def trim_padding(tokens: Tensor, padding: int) -> Tensor:
    """(B, L) -> (B, length of the longest text), for models that ignore the ids `padding` at the end.

    Nothing is trimmed where reading values would break a trace or make a GPU wait, and when a text is padding alone:
    its result depends on the amount of padding.
    """
    if not is_eager_on_a_cpu(tokens) or not len(tokens):
        return tokens
    used = tokens != padding
    if not used.any(dim=1).all():
        return tokens
    return tokens[:, : int(used.any(dim=0).nonzero()[-1]) + 1]


def trim_after(tokens: Tensor, ends: Tensor) -> Tensor:
    """(B, L) -> (B, 1 + the largest of `ends`), for causal models that pool the tokens at the positions `ends`, (B,).

    Nothing is trimmed where reading values would break a trace or make a GPU wait.
    """
    if not is_eager_on_a_cpu(tokens) or not len(tokens):
        return tokens
    return tokens[:, : int(ends.max()) + 1]

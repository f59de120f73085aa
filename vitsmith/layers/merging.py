"""Token merging: similar tokens become one, "Token Merging: Your ViT But Faster", arXiv 2210.09461 section 3.

Between attention and MLP a block merges a fixed number of its tokens. Tokens go in turn to two sets. Each token of the
first set finds its most similar token of the second, by the cosine of their attention keys. The `count` tokens of the
first set with the highest similarity are merged into their partners, as the mean weighted by the number of patches that
each token represents.

All shapes follow from the configuration, so that the model exports to every engine. Merged tokens are added, the others
are gathered: neither is a product, which a quantiser would round.

B batch, N tokens, P tokens before the patches, which never merge, D width, d head width, A tokens of the first set
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vitsmith.layers.block import Block


class MergingBlock(Block):
    """A block that merges `count` of its tokens; the first `prefix` are never merged.

    Attention is proportional to sizes: log(size) is added to the scores, as if each token occurred `size` times.
    """

    def __init__(self, *args: Any, count: int, prefix: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.count, self.prefix = count, prefix
        self.matched = nn.Identity()
        """Passes on the output of `match`, for hooks."""

    def forward(  # type: ignore[override]
        self, x: Tensor, sizes: Tensor | None = None, kept: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, N, D) and their sizes in patches, float32 (B, N), or None for one each -> the same after the
        block.

        With `kept`, only the first `kept` tokens, computed from all; then no tokens are merged: see `Block`.
        """
        bias = None if sizes is None else sizes.log().to(x.dtype)[:, None, None]  # (B, 1, 1, N)
        keys: list[Tensor] = []
        seen = self.attention(self.norm1(x), bias, kept=kept, keys=keys)
        x = self._with_attention(x if kept is None else x[:, :kept], seen)
        if self.count and kept is None:
            x, sizes = merge(x, sizes, self.matched(match(keys[0], self.count, self.prefix)), self.count, self.prefix)
        return self._with_mlp(x), sizes


def match(keys: Tensor, count: int, prefix: int) -> Tensor:
    """Choose the tokens to merge: int64 (B, 2, A) from keys (B, N, d).

    The first row holds positions in the first set: the tokens that stay, then the `count` that merge, each group in the
    order of the sequence. The second row holds the partner in the second set of each token of the first. Among equals
    the earlier comes first, so that engines agree as far as their arithmetic does.
    """
    keys = keys.detach().float()
    keys = keys / keys.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    alike, partners = (keys[:, prefix::2] @ keys[:, prefix + 1 :: 2].transpose(1, 2)).max(dim=-1)  # (B, A) each
    first = alike.shape[1]
    positions = torch.arange(first, device=keys.device)
    other, own = alike[:, None, :], alike[:, :, None]
    before = (other > own) | ((other == own) & (positions < positions[:, None]))
    merging = before.sum(dim=-1) < count
    # The numbers to sort are distinct, because runtimes order equal numbers differently.
    order = torch.where(merging, 0.0, float(first)) + (first - positions).float()
    return torch.stack([order.topk(first, dim=1).indices, partners], dim=1)


def merge(x: Tensor, sizes: Tensor | None, matched: Tensor, count: int, prefix: int) -> tuple[Tensor, Tensor]:
    """Merge tokens (B, N, D) of `sizes` (B, N) as `match` says -> (B, N - count, D), (B, N - count).

    The order is: prefix, the remaining tokens of the first set, the second set. Sums are in float32.
    """
    if sizes is None:
        sizes = torch.ones_like(x[..., 0], dtype=torch.float32)
    order, partners = matched.unbind(1)
    stay, go = order[:, : order.shape[1] - count], order[:, order.shape[1] - count :]
    into = partners.gather(1, go)  # (B, count)
    first, second = x[:, prefix::2], x[:, prefix + 1 :: 2]
    first_sizes, second_sizes = sizes[:, prefix::2], sizes[:, prefix + 1 :: 2]
    go_sizes = first_sizes.gather(1, go)
    added = take(first, go).float() * go_sizes[..., None]
    total = second_sizes.scatter_add(1, into, go_sizes)
    sums = (second.float() * second_sizes[..., None]).scatter_add(1, wide(into, added), added)
    means = (sums / total[..., None]).to(x.dtype)
    return (
        torch.cat([x[:, :prefix], take(first, stay), means], dim=1),
        torch.cat([sizes[:, :prefix], first_sizes.gather(1, stay), total], dim=1),
    )


def regroup(groups: Tensor, matched: Tensor, count: int, prefix: int) -> Tensor:
    """The token of each patch after one more merge: int64 (B, patches), positions among tokens without the prefix.

    `groups` is the same before the merge; `matched` is the output of `match`.
    """
    order, partners = matched.unbind(1)
    first = order.shape[1]
    stay = first - count
    ranks = torch.empty_like(order).scatter_(1, order, torch.arange(first).expand_as(order))
    placed = torch.where(ranks < stay, ranks, stay + partners)  # tokens of the first set
    before, odd = groups // 2, groups % 2 == 1  # even positions are the first set, odd ones the second
    return torch.where(odd, stay + before, placed.gather(1, before.clamp(max=first - 1)))


def take(x: Tensor, positions: Tensor) -> Tensor:
    """Tokens (B, M, D) at (B, n) -> (B, n, D)."""
    return x.gather(1, wide(positions, x))


def wide(positions: Tensor, x: Tensor) -> Tensor:
    """(B, n) -> (B, n, D), for each of the D values of a token."""
    return positions[..., None].expand(-1, -1, x.shape[-1])

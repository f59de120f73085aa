"""Which patches became one token in a model that merges."""

from __future__ import annotations

import torch
from torch import Tensor

from vitsmith.layers.merging import MergingBlock, regroup
from vitsmith.models.lit import LiT
from vitsmith.models.vit import VisionTransformer


def groups(model: torch.nn.Module, images: Tensor) -> Tensor:
    """int64 (B, rows, columns): a number for each patch of (B, 3, height, width), equal where patches became one token.

    Numbers are positions among the tokens that are left, without the prefix. LiT: the tokens of the image tower.
    """
    tower = model.image if isinstance(model, LiT) else model
    assert isinstance(tower, VisionTransformer)
    rows, columns = tower.config.grid
    found = torch.arange(rows * columns).repeat(len(images), 1)
    seen: list[tuple[MergingBlock, Tensor]] = []
    handles = [
        block.matched.register_forward_hook(lambda _m, _i, matched, block=block: seen.append((block, matched.cpu())))
        for block in tower.blocks
        if isinstance(block, MergingBlock)
    ]
    try:
        with torch.inference_mode():
            tower.features(images)
    finally:
        for handle in handles:
            handle.remove()
    for block, matched in seen:
        found = regroup(found, matched, block.count, block.prefix)
    return found.view(-1, rows, columns)

"""Work counted for the prediction of time, against operations counted as papers do."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tiny import CONFIGS
from vitsmith.cost.work import TERMS, work_of
from vitsmith.models.config import MixerConfig, ViTConfig
from vitsmith.models.configure import change, configure
from vitsmith.models.cost import flops

SMALL = ViTConfig(width=64, depth=4, heads=2, mlp_width=256, patch=(16, 16), image_size=(64, 96), pooling="gap")


def operations(config: ViTConfig | MixerConfig, batch: int = 1) -> float:
    counts = dict(zip(TERMS, work_of(config, batch).counts, strict=True))
    return 2 * (counts["products"] + counts["attention"] + counts["convolutions"] + counts["root"])


@pytest.mark.parametrize("change_of", [{}, {"merge": (3, 2, 1, 0)}, {"block": {"gated": True}}, {"classes": 0}])
def test_products_are_the_operations_of_the_papers(change_of: dict[str, object]) -> None:
    config = change(SMALL, **change_of)
    assert operations(config) == pytest.approx(flops(config))
    assert operations(config, 3) == pytest.approx(3 * flops(config))


@pytest.mark.parametrize("name", ["mixer", "hybrid-stages", "hybrid-stem", "vit-gap"])
def test_other_families_too(name: str) -> None:
    config = CONFIGS[name]
    assert isinstance(config, ViTConfig | MixerConfig)
    if isinstance(config, ViTConfig):
        config = change(config, pooling="gap")
    assert operations(config) == pytest.approx(flops(config))


def test_the_last_block_computes_the_class_token_alone() -> None:
    plain, token = change(SMALL, class_token=True), change(SMALL, pooling="token")
    tokens, width = plain.tokens, plain.width
    saved = 2 * (tokens - 1) * (2 * width * width + 2 * width * plain.mlp_width) + 4 * (tokens - 1) * tokens * width
    assert operations(plain) - operations(token) == pytest.approx(saved)


def test_blocks_between_are_counted_one_by_one() -> None:
    b16 = configure("ViT-B_16")
    work, deeper = work_of(b16, 2), work_of(change(b16, depth=14), 2)
    assert len(work.blocks) == 10 and len(deeper.blocks) == 12
    np.testing.assert_array_equal(work.outer.counts, deeper.outer.counts)
    assert {(part.tokens, part.width) for part in work.blocks} == {(197, 768)}

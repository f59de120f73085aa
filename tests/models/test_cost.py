"""Costs computed from configurations, against built models and torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.tiny import CONFIGS
from vitsmith.models.build import build, count_parameters
from vitsmith.models.config import LiTConfig
from vitsmith.models.cost import flops, parameters
from vitsmith.models.presets import presets

ALL = CONFIGS | {name: preset.config for name, preset in presets().items()}


@pytest.mark.parametrize("name", ALL)
def test_parameters_and_operations_are_the_models(name: str) -> None:
    config = ALL[name]
    model = build(config, device="meta").eval()
    inputs = [torch.empty(1, 3, *config.image_size, device="meta")]
    if isinstance(config, LiTConfig):
        inputs.append(torch.empty(1, config.text.length, dtype=torch.long, device="meta"))
    tower = model.image if isinstance(config, LiTConfig) else model
    tower.blocks[-1].register_forward_hook(lambda *_: None)  # or only what the head sees of it would be computed
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    similarity = 2 * config.embedding_width if isinstance(config, LiTConfig) else 0  # the product of two embeddings
    assert parameters(config) == count_parameters(model)
    assert flops(config) + similarity == counter.get_total_flops()

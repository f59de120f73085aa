"""Exact slices: what adds nothing goes, and nothing changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.compress.prune.models import (
    CASES,
    batches_of,
    model_of,
)
from tests.tiny import CONFIGS, VIT, tiny_inputs, tiny_model
from vitsmith.compress.prune.importance import PLACES, score_blocks, score_parts
from vitsmith.compress.prune.sizes import Pruning, plan_sizes
from vitsmith.compress.prune.slicing import keep_blocks, keep_parts, largest
from vitsmith.models.build import ImageModel, count_parameters
from vitsmith.models.configure import change
from vitsmith.models.cost import parameters


@torch.no_grad()
def silence(model: ImageModel, field: str, gone: list[int]) -> None:
    """What the parts at `gone` say is no longer listened to."""
    place = next(place for place in PLACES[model.config.family] if place.field == field)
    for block in model.blocks:
        weight = block.get_submodule(place.outward).weight
        weight.view(len(weight), getattr(model.config, field), -1)[:, gone] = 0


@pytest.mark.parametrize("method", ["taylor", "activation"])
@pytest.mark.parametrize("name", CASES)
def test_what_adds_nothing_is_what_goes_and_nothing_changes(name: str, method: Any) -> None:
    model = model_of(name)
    config = model.config
    fields = [place.field for place in PLACES[config.family]]
    gone = {field: list(range(1, getattr(config, field), 2)) for field in fields}
    for field in fields:
        silence(model, field, gone[field])
    halves = {"mlp_width" if field == "channels_mlp_width" else field: getattr(config, field) // 2 for field in fields}
    smaller = plan_sizes(config, Pruning(**halves)).config
    images = tiny_inputs(config, 3, seed=1)[0]
    pruned = keep_parts(model, smaller, score_parts(model, batches_of(config), method))
    assert pruned.config == smaller and count_parameters(pruned) == parameters(smaller) < parameters(config)
    with torch.no_grad():
        torch.testing.assert_close(pruned(images), model(images), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["vit-token", "mixer"])
@torch.no_grad()
def test_what_always_says_the_same_is_said_by_the_bias(name: str) -> None:
    model = model_of(name)
    config = model.config
    place = PLACES[config.family][-1]  # hidden units behind a GELU
    for block in model.blocks:
        inward = block.get_submodule(place.inward)
        inward.weight[: len(inward.weight) // 2] = 0
        inward.bias[: len(inward.weight) // 2] = torch.linspace(1, 2, len(inward.weight) // 2)
    left = getattr(config, place.field) // 2
    scores = score_parts(model, batches_of(config), "taylor")
    pruned = keep_parts(model, plan_sizes(config, Pruning(mlp_width=left)).config, scores)
    images = tiny_inputs(config, 3, seed=1)[0]
    torch.testing.assert_close(pruned(images), model(images), rtol=0, atol=2e-6)


@pytest.mark.parametrize("method", ["taylor", "activation"])
@pytest.mark.parametrize("name", ["vit-token", "hybrid-stem", "mixer"])
def test_blocks_that_do_nothing_are_what_goes(name: str, method: Any) -> None:
    model = tiny_model(change(CONFIGS[name], depth=4))
    assert isinstance(model, ImageModel)
    with torch.no_grad():
        for index in (0, 2):
            for place in PLACES[model.config.family]:
                outward = model.blocks[index].get_submodule(place.outward)
                outward.weight.zero_()
                outward.bias.zero_()
    scores = score_blocks(model, batches_of(model.config), method)
    pruned = keep_blocks(model, largest(scores, 2))
    assert pruned.config == change(model.config, depth=2)
    images = tiny_inputs(model.config, 3, seed=1)[0]
    with torch.no_grad():
        torch.testing.assert_close(pruned(images), model(images), rtol=0, atol=1e-6)


def test_the_heads_that_stay_are_those_of_the_model() -> None:
    model = model_of("vit-gap")
    parts = score_parts(model, batches_of(VIT), "activation")
    parts[0]["heads"].scores[:] = torch.tensor([3.0, 1.0, 1.0, 2.0])
    pruned = keep_parts(model, plan_sizes(model.config, Pruning(heads=2)).config, parts)
    old, new = (one.blocks[0].attention for one in (model, pruned))
    for kind in range(3):  # queries, keys, values
        for place, head in enumerate((0, 3)):
            rows = old.qkv.weight.view(3, 4, 8, 32)[kind, head]
            torch.testing.assert_close(new.qkv.weight.view(3, 2, 8, 32)[kind, place], rows, rtol=0, atol=0)
    kept = old.out.weight.view(32, 4, 8)[:, [0, 3]].flatten(1)
    torch.testing.assert_close(new.out.weight, kept, rtol=0, atol=0)
    assert largest(torch.tensor([1.0, 5.0, 5.0, 0.0]), 1) == [1] and largest(torch.tensor([1.0, 2.0, 3.0]), 2) == [1, 2]

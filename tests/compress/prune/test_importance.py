"""Importance of parts and blocks, against brute force."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.compress.prune.models import (
    batches_of,
    model_of,
)
from vitsmith.compress.prune.importance import PLACES, score_blocks, score_parts
from vitsmith.errors import InputError
from vitsmith.models.build import ImageModel


def loss_of_each(model: ImageModel, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return F.cross_entropy(model(images), labels, reduction="none")


def given_to(model: ImageModel, linear: torch.nn.Module, batches: list[Any]) -> torch.Tensor:
    """(rows, channels) of all that a layer is given."""
    seen: list[torch.Tensor] = []
    handle = linear.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].flatten(0, -2)))
    with torch.no_grad():
        for images, _ in batches:
            model(images)
    handle.remove()
    return torch.cat(seen)


def slope(model: ImageModel, module: torch.nn.Module, hook: Callable[..., Any], batches: list[Any]) -> float:
    """Mean over images of |d loss / d step| by central differences; `hook(step)` makes what changes the module."""
    losses = []
    for step in (1e-4, -1e-4):
        handle = hook(module, step)
        losses.append(torch.cat([loss_of_each(model, *batch) for batch in batches]))
        handle.remove()
    return float(((losses[0] - losses[1]) / 2e-4).abs().mean())


def towards_the_mean(channels: slice, mean: torch.Tensor) -> Callable[..., Any]:
    def hooked(linear: torch.nn.Module, step: float) -> Any:
        def move(_module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            moved = inputs[0].clone()
            moved[..., channels] += step * (mean[channels] - moved[..., channels])
            return (moved,)

        return linear.register_forward_pre_hook(move)

    return hooked


@pytest.mark.parametrize("name", ["vit-token", "vit-gap", "vit-distilled", "hybrid-stem", "mixer"])
def test_taylor_is_the_slope_of_the_loss_towards_the_mean(name: str) -> None:
    model = model_of(name).double()
    batches = batches_of(model.config, dtype=torch.float64)
    found = score_parts(model, batches, "taylor")
    for index in range(model.config.depth):
        for place in PLACES[model.config.family]:
            linear = model.blocks[index].get_submodule(place.outward)
            mean = given_to(model, linear, batches).mean(dim=0)
            known = found[index][place.field]
            torch.testing.assert_close(known.mean, mean)
            parts = len(known.scores)
            size = len(mean) // parts
            for part in {0, 1, parts - 1}:
                hook = towards_the_mean(slice(part * size, (part + 1) * size), mean)
                expected = slope(model, linear, hook, batches)
                assert float(known.scores[part]) == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("name", ["vit-token", "mixer"])
def test_taylor_of_a_block_is_the_slope_of_the_loss_towards_leaving_it_out(name: str) -> None:
    model = model_of(name).double()
    batches = batches_of(model.config, dtype=torch.float64)
    found = score_blocks(model, batches, "taylor")

    def hooked(block: torch.nn.Module, step: float) -> Any:
        return block.register_forward_hook(
            lambda _module, inputs, output: output + step * (inputs[0][:, : output.shape[1]] - output)
        )

    expected = [slope(model, block, hooked, batches) for block in model.blocks]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["vit-token", "vit-gap", "mixer"])
def test_activation_is_how_much_a_part_moves_what_it_adds_to(name: str) -> None:
    model = model_of(name).double().requires_grad_(False)
    batches = batches_of(model.config, dtype=torch.float64)
    found = score_parts(model, batches, "activation")
    for index, block in enumerate(model.blocks):
        for place in PLACES[model.config.family]:
            linear = block.get_submodule(place.outward)
            given = given_to(model, linear, batches)
            scores = found[index][place.field].scores
            for part, channels in enumerate(torch.arange(given.shape[1]).view(len(scores), -1)):
                added = given[:, channels] @ linear.weight[:, channels].T
                expected = (added - added.mean(dim=0)).pow(2).sum(dim=1).mean().sqrt()
                assert float(scores[part]) == pytest.approx(float(expected), rel=1e-6)


def test_activation_of_a_block_is_how_much_it_turns_the_tokens() -> None:
    model = model_of("vit-gap").double().requires_grad_(False)
    batches = batches_of(model.config, dtype=torch.float64)
    found = score_blocks(model, batches, "activation")
    images = torch.cat([images for images, _ in batches])
    seen = model.features(images, intermediates=["dropout", "blocks.0", "blocks.1"]).intermediates
    for index, (before, after) in enumerate((("dropout", "blocks.0"), ("blocks.0", "blocks.1"))):
        a, b = seen[before], seen[after]
        cosine = (a * b).sum(dim=-1) / (a.norm(dim=-1) * b.norm(dim=-1))
        assert float(found[index]) == pytest.approx(float((1 - cosine).mean()), rel=1e-6)


@pytest.mark.parametrize("method", ["taylor", "activation"])
def test_scoring_leaves_the_model_as_it_was(method: Any) -> None:
    model = model_of("vit-token")
    model.head.weight.requires_grad_(False)
    before = {name: (weight.clone(), weight.requires_grad) for name, weight in model.named_parameters()}
    score_blocks(model, batches_of(model.config), method)
    score_parts(model, batches_of(model.config), method)
    with pytest.raises(InputError):  # images of a wrong size, half way
        score_parts(model, [(torch.zeros(1, 3, 8, 8), torch.zeros(1).long())], method)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name][0]) and weight.requires_grad == before[name][1] and weight.grad is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

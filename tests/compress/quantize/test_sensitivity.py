"""Places in a model, and how much rounding each of them costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.tiny import CONFIGS, tiny_inputs, tiny_model
from vitsmith import Bundle
from vitsmith.compress.quantize.layers import describe_sites, site_of
from vitsmith.compress.quantize.sensitivity import measure_sensitivity, round_inputs, round_weights
from vitsmith.exporters.parts import parts_of
from vitsmith.models.configure import change


def test_places_are_known_by_the_modules_they_come_from() -> None:
    assert site_of("blocks.11.mlp.widen") == "blocks.11" and site_of("tower.patches.projection") == "patches"
    assert site_of("resnet.stages.0") == "resnet" and site_of("positions") == "" and site_of("header") == ""
    assert describe_sites(("patches", "blocks.10", "blocks.3")) == "patches, blocks 3, 10"


def test_rounding_is_that_of_torch() -> None:
    x = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * 3 + 1
    low, high = torch.tensor(-2.0), torch.tensor(5.0)
    step = (high - low) / 255
    expected = torch.fake_quantize_per_tensor_affine(x, step.item(), round((-low / step).item()), 0, 255)
    torch.testing.assert_close(round_inputs(x, low, high), expected)
    scales = x.abs().amax(dim=1) / 127
    zeros = torch.zeros(50, dtype=torch.int32)
    torch.testing.assert_close(round_weights(x), torch.fake_quantize_per_channel_affine(x, scales, zeros, 0, -127, 127))


@pytest.mark.parametrize("name", ["vit-token", "mixer", "hybrid-stages"])
def test_a_sabotaged_block_is_found_to_be_the_most_sensitive(name: str) -> None:
    model = tiny_model(change(CONFIGS[name], depth=4))
    factor = 300.0
    mlp = model.blocks[2].mlp if name != "mixer" else model.blocks[2].channel_mixing
    with torch.no_grad():  # the same function, but for one channel of activations that dwarfs the others
        model.blocks[2].norm2.weight[5] *= factor
        model.blocks[2].norm2.bias[5] *= factor
        mlp.widen.weight[:, 5] /= factor
    bundle = Bundle.of(model)
    inputs = tiny_inputs(model.config, 8)[0].numpy()
    (part,) = parts_of(bundle, inputs)
    before = part.run_torch(inputs)
    sites = ["patches", *(f"blocks.{index}" for index in range(4))]
    plain = measure_sensitivity(model, part.run_torch, inputs, sites)
    smooth = measure_sensitivity(model, part.run_torch, inputs, sites, smooth=0.5)
    assert plain[0].site == "blocks.2" and plain[0].noise > 10 * plain[1].noise
    assert next(one.noise for one in smooth if one.site == "blocks.2") < plain[0].noise / 10
    assert {one.site for one in plain} == set(sites) and all(one.noise > 0 for one in plain)
    np.testing.assert_array_equal(part.run_torch(inputs), before)

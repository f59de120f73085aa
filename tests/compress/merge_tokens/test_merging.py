"""Merging inside the blocks: the layer against the paper in plain loops, and whole models that merge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.compress.merge_tokens.models import LARGER
from tests.tiny import CONFIGS, tiny_inputs, tiny_model
from vitsmith.layers.attention import Attention
from vitsmith.layers.merging import MergingBlock, match, regroup
from vitsmith.layers.merging import merge as merge_tokens
from vitsmith.layers.mlp import Mlp
from vitsmith.models.configure import change


def merged_plainly(x: np.ndarray, sizes: np.ndarray, keys: np.ndarray, count: int, prefix: int) -> Any:
    """Tokens, sizes and the patches of each, for one image, as section 3 of the paper says it."""
    rest = range(prefix, len(x))
    first, second = list(rest)[0::2], list(rest)[1::2]
    edges = []
    for a in first:
        cosines = [float(keys[a] @ keys[b] / np.sqrt((keys[a] @ keys[a]) * (keys[b] @ keys[b]))) for b in second]
        edges.append((max(cosines), a, second[int(np.argmax(cosines))]))
    edges.sort(key=lambda edge: -edge[0])
    into = {a: b for _, a, b in edges[:count]}
    tokens = [x[i] for i in range(prefix)] + [x[a] for a in first if a not in into]
    counts = [sizes[i] for i in range(prefix)] + [sizes[a] for a in first if a not in into]
    members = [[a] for a in first if a not in into]
    for b in second:
        group = [b, *(a for a, target in into.items() if target == b)]
        tokens.append(sum(sizes[i] * x[i] for i in group) / sum(sizes[i] for i in group))
        counts.append(sum(sizes[i] for i in group))
        members.append(group)
    return np.array(tokens), np.array(counts), members


@pytest.mark.parametrize(("tokens", "prefix", "count"), [(11, 1, 3), (12, 1, 5), (12, 2, 5), (12, 0, 6), (7, 1, 0)])
def test_merging_is_what_the_paper_says(tokens, prefix, count):
    random = np.random.default_rng(tokens + count)
    x, keys = random.normal(size=(3, tokens, 8)), random.normal(size=(3, tokens, 4))
    sizes = random.integers(1, 5, (3, tokens)).astype(float)
    matched = match(torch.tensor(keys, dtype=torch.float32), count, prefix)
    found, found_sizes = merge_tokens(
        torch.tensor(x, dtype=torch.float32), torch.tensor(sizes, dtype=torch.float32), matched, count, prefix
    )
    places = regroup(torch.arange(tokens - prefix).repeat(3, 1), matched, count, prefix)
    for index in range(3):
        expected, expected_sizes, members = merged_plainly(x[index], sizes[index], keys[index], count, prefix)
        np.testing.assert_allclose(found[index], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(found_sizes[index], expected_sizes)
        for number, group in enumerate(members):
            assert set(np.flatnonzero(places[index] == number) + prefix) == set(group)


def test_of_equally_alike_tokens_the_earlier_merge():
    order, partners = match(torch.ones(1, 9, 4), 2, 1)[0]
    assert order.tolist() == [2, 3, 0, 1] and partners.tolist() == [0, 0, 0, 0]


def block_pair(count: int, prefix: int) -> tuple[MergingBlock, MergingBlock]:
    """A block that merges, and the same without."""
    torch.manual_seed(3)
    one, other = (
        MergingBlock(16, Attention(16, 4), Mlp(16, 24, "tanh"), count=number, prefix=prefix, norm_eps=1e-6).eval()
        for number in (count, 0)
    )
    other.load_state_dict(one.state_dict())
    return one, other


@pytest.mark.parametrize("prefix", [0, 1])
def test_equal_tokens_merge_without_loss(prefix):
    """Ten patches in pairs become five: attention in proportion to sizes makes all that follows the same."""
    torch.manual_seed(0)
    distinct, lead = torch.randn(2, 5, 16), torch.randn(2, prefix, 16)
    x = torch.cat([lead, distinct.repeat_interleave(2, dim=1)], dim=1)
    merging, whole = block_pair(5, prefix)
    _, last = block_pair(0, prefix)
    with torch.inference_mode():
        expected, none = last(whole(x)[0])
        found, sizes = last(*merging(x))
    assert none is None and sizes is not None
    assert sizes.tolist() == [[1.0] * prefix + [2.0] * 5] * 2
    torch.testing.assert_close(found[:, :prefix], expected[:, :prefix], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[:, prefix:], expected[:, prefix::2], rtol=0, atol=1e-5)
    if prefix:  # beside tokens that stand for one it is not so without sizes
        with torch.inference_mode():
            wrong, _ = last(merging(x)[0])
        assert (wrong - found).abs().max() > 1e-3


def test_attention_is_in_proportion_to_sizes():
    """A token of size s is attended to as s tokens would be."""
    block, _ = block_pair(0, 0)
    x, sizes = torch.randn(1, 4, 16), torch.tensor([[1.0, 3.0, 2.0, 1.0]])
    repeated = x.repeat_interleave(sizes[0].long(), dim=1)
    with torch.inference_mode():
        found, expected = block(x, sizes)[0], block(repeated)[0]
    torch.testing.assert_close(found[0], expected[0, [0, 1, 4, 6]], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith(("vit", "hybrid")) and "unp" not in name])
def test_merging_nothing_changes_nothing(name):
    plain = CONFIGS[name]
    images = tiny_inputs(plain, 2)[0]
    model = tiny_model(plain)
    merging = tiny_model(change(plain, merge=(0,) * plain.depth))
    merging.load_state_dict(model.state_dict())
    with torch.inference_mode():
        torch.testing.assert_close(merging(images), model(images), rtol=0, atol=1e-6)


def test_mean_pooling_weighs_by_size():
    config = change(LARGER, pooling="gap", merge=(5, 4, 3))
    model, images = tiny_model(config), tiny_inputs(config, 2)[0]
    sizes = []
    model.blocks[-1].register_forward_hook(lambda _m, _i, output: sizes.append(output[1]))
    with torch.inference_mode():
        features = model.features(images)
        logits = model(images)
    (weights, _) = sizes
    assert features.tokens.shape[1] == 30 - 12 and weights.sum(dim=1).tolist() == [30.0, 30.0]
    pooled = (features.tokens * weights[..., None]).sum(dim=1) / 30
    torch.testing.assert_close(features.pooled, pooled)
    torch.testing.assert_close(logits, F.linear(pooled, model.head.weight, model.head.bias))


def test_features_and_hooks_see_tokens_that_are_left():
    config = change(LARGER, merge=(5, 4, 0))
    features = tiny_model(config).features(
        tiny_inputs(config, 2)[0], intermediates=["blocks.*", "blocks.1.attention.weights"]
    )
    assert [features.intermediates[f"blocks.{at}"].shape[1] for at in range(3)] == [26, 22, 22]
    assert features.tokens.shape[1] == 22 and features.grid == (5, 6)
    weights = features.intermediates["blocks.1.attention.weights"]
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:3]))


def test_a_class_token_needs_nothing_else_of_the_last_block():
    config = change(LARGER, merge=(5, 4, 3))
    model, images = tiny_model(config), tiny_inputs(config, 2)[0]
    with torch.inference_mode():
        expected = model(images)
        found = model.head(model.features(images).pooled)  # computes all of the last block, and merges there
    torch.testing.assert_close(found, expected)


def test_it_trains():
    """Gradients go through merged tokens into every weight, also with everything that training makes random."""
    config = change(LARGER, merge=(5, 4, 0), dropout=0.1, stochastic_depth=0.2, attention_dropout=0.1)
    model, images = tiny_model(config).train(), tiny_inputs(config, 4)[0]
    torch.manual_seed(0)
    model(images).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in model.parameters())


def test_gradients_are_those_of_differences():
    torch.manual_seed(0)
    x = torch.randn(1, 9, 4, dtype=torch.float64)
    matched = match(torch.randn(1, 9, 3), 3, 1)

    def merged(tokens: torch.Tensor) -> torch.Tensor:
        return merge_tokens(tokens.float(), None, matched, 3, 1)[0].square().sum().double()

    gradient = torch.autograd.functional.jacobian(merged, x)
    step = torch.zeros_like(x)
    step[0, 3, 2] = 1e-2
    torch.testing.assert_close(gradient[0, 3, 2], (merged(x + step) - merged(x - step)) / 2e-2, rtol=1e-3, atol=1e-4)

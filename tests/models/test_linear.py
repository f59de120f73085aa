"""The faster kernels of linear layers, and padding that is not computed: values beside torch's own and NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.tiny import CONFIGS, tiny_model
from vitsmith.layers import cpu_attention, linear
from vitsmith.layers.eager import is_eager_on_a_cpu, is_watched
from vitsmith.layers.gelu import Gelu
from vitsmith.layers.linear import Linear, widen_and_activate
from vitsmith.layers.mlp import Mlp
from vitsmith.layers.padding import trim_padding
from vitsmith.models.text import Bert, TextTransformer


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def make(layer: type[nn.Linear], inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return layer(inputs, outputs, bias=bias)


@pytest.fixture
def products(monkeypatch) -> list[tuple[int, ...]]:
    """Shapes of what oneDNN multiplied, whatever this processor is."""
    seen: list[tuple[int, ...]] = []
    inner = linear._product

    def product(x: Tensor, *others: object) -> Tensor:
        seen.append(tuple(x.shape))
        return inner(x, *others)

    monkeypatch.setattr(linear, "_product", product)
    monkeypatch.setattr(linear, "_onednn_is_faster", lambda dtype: dtype == torch.float32)
    return seen


def without_onednn() -> bool:
    return not torch.backends.mkldnn.is_available()


needs_onednn = pytest.mark.skipif(without_onednn(), reason="this torch has no oneDNN")


@needs_onednn
@pytest.mark.parametrize("shape", [(5, 24), (2, 7, 24), (2, 3, 4, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_product_is_numpys(products, shape, bias) -> None:
    layer, x = make(Linear, 24, 40, bias=bias), draw(*shape)
    with torch.inference_mode():
        found = layer(x)
    expected = x.double().numpy() @ layer.weight.detach().double().numpy().T
    if bias:
        expected = expected + layer.bias.detach().double().numpy()
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)
    assert found.is_contiguous() and products == [shape]


@needs_onednn
def test_rows_far_apart_in_memory(products) -> None:
    layer, x = make(Linear, 24, 40), draw(6, 5, 24)
    with torch.no_grad():
        for view in (x[:, 0], x.transpose(0, 1), x[::2], x[:, :, :].flip(1), x[:1].expand(4, -1, -1)):
            expected = F.linear(view.contiguous(), layer.weight, layer.bias)
            torch.testing.assert_close(layer(view), expected, atol=2e-6, rtol=1e-5)
        assert layer(x[:0]).shape == (0, 5, 40)
    assert len(products) == 5  # of nothing torch's own


@needs_onednn
@pytest.mark.parametrize("form", ["tanh", "erf"])
def test_a_gelu_within_the_product(products, form) -> None:
    layer, gelu = make(Linear, 64, 128), Gelu(form)
    x = 6 * draw(50, 64)
    with torch.inference_mode():
        found = widen_and_activate(x, layer, gelu)
    exact = F.linear(x.double(), layer.weight.detach().double(), layer.bias.detach().double())
    expected = F.gelu(exact, approximate="tanh" if form == "tanh" else "none")
    assert exact.abs().max() > 8 and products == [(50, 64)]
    torch.testing.assert_close(found.double(), expected, atol=5e-6, rtol=1e-5)
    other = F.gelu(exact, approximate="none" if form == "tanh" else "tanh")
    assert (found - other).abs().max() > 1e-4  # and not the other form


def test_hooks_of_an_mlp_see_what_they_always_saw(products) -> None:
    torch.manual_seed(0)
    mlp, seen = Mlp(16, 32, "tanh").eval(), {}
    x = draw(3, 16)
    expected = mlp(x)
    for name in ("widen", "gelu"):
        getattr(mlp, name).register_forward_hook(
            lambda _module, _inputs, output, name=name: seen.update({name: output})
        )
    assert is_watched(mlp) and not is_watched(mlp.narrow)
    with torch.inference_mode():
        found = mlp(x)
        torch.testing.assert_close(seen["widen"], F.linear(x, mlp.widen.weight, mlp.widen.bias))
        torch.testing.assert_close(seen["gelu"], F.gelu(seen["widen"], approximate="tanh"))
    torch.testing.assert_close(found, expected.detach())


def test_training_is_torchs_own(products) -> None:
    ours, theirs, x = make(Linear, 8, 4), make(nn.Linear, 8, 4), draw(3, 8)
    for layer in (ours, theirs):
        layer(x).square().sum().backward()
    assert torch.equal(ours.weight.grad, theirs.weight.grad) and torch.equal(ours.bias.grad, theirs.bias.grad)
    frozen = make(Linear, 8, 4).requires_grad_(False)
    wanted = x.clone().requires_grad_()
    frozen(wanted).sum().backward()
    torch.testing.assert_close(wanted.grad, frozen.weight.sum(dim=0).expand(3, -1))
    assert products == []


def test_counters_maps_traces_and_autocast_see_torchs_own(products) -> None:
    layer, x = make(Linear, 8, 4).requires_grad_(False), draw(3, 8)
    expected = F.linear(x, layer.weight, layer.bias)
    with FlopCounterMode(display=False) as counter:
        torch.testing.assert_close(layer(x), expected)
    assert counter.get_total_flops() == 2 * 3 * 8 * 4
    torch.testing.assert_close(torch.func.vmap(layer)(x), expected)
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.to("meta")(x.to("meta")).shape == (3, 4)
    assert products == []
    assert is_eager_on_a_cpu(x) and not is_eager_on_a_cpu(x.to("meta"))


def test_attention_in_bfloat16_without_a_backward_pass() -> None:
    qkv = draw(2, 70, 3, 2, 16).bfloat16()
    assert cpu_attention.suits(qkv, None, 0.0)
    assert not cpu_attention.suits(qkv[:, : cpu_attention.SHORTEST - 1], None, 0.0)
    query, key, value = qkv.float().permute(2, 0, 3, 1, 4).unbind(0)
    expected = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    torch.testing.assert_close(cpu_attention.attend(qkv).float(), expected, atol=0.02, rtol=0.02)
    with torch.inference_mode():
        torch.testing.assert_close(cpu_attention.attend(qkv).float(), expected, atol=0.02, rtol=0.02)


def test_padding_is_trimmed_to_the_longest_text() -> None:
    tokens = torch.tensor([[5, 7, 0, 0, 0], [5, 0, 7, 0, 0], [5, 0, 0, 0, 0]])
    assert torch.equal(trim_padding(tokens, 0), tokens[:, :3])
    assert torch.equal(trim_padding(tokens[2:], 0), tokens[2:, :1])
    assert torch.equal(trim_padding(tokens, 9), tokens)
    empty = torch.cat([tokens, torch.zeros(1, 5, dtype=tokens.dtype)])
    assert torch.equal(trim_padding(empty, 0), empty)  # its mean is over all five
    assert trim_padding(tokens[:0], 0).shape == (0, 5)
    assert trim_padding(tokens.to("meta"), 0).shape == (3, 5)


def bert_beside_its_padding(tokens: Tensor, monkeypatch) -> tuple[list[Tensor], list[Tensor]]:
    """(answer, gradients ...) as it is, and with every token of the padding computed."""
    answers = []
    for trimmed in (True, False):
        if not trimmed:
            monkeypatch.setattr("vitsmith.models.text.trim_padding", lambda tokens, padding: tokens)
        tower = tiny_model(CONFIGS["lit-bert"]).text
        assert isinstance(tower, Bert)
        answer = tower(tokens)
        answer.square().sum().backward()
        answers.append([answer.detach(), *(parameter.grad for parameter in tower.parameters())])
    return answers[0], answers[1]


def test_berts_answers_and_gradients_are_those_with_all_padding(monkeypatch) -> None:
    length = CONFIGS["lit-bert"].text.length
    tokens = torch.zeros(3, length, dtype=torch.long)
    tokens[0, :3], tokens[1, :1], tokens[2, :2] = torch.tensor([3, 5, 4]), 3, torch.tensor([6, 1])
    assert length > 3
    found, expected = bert_beside_its_padding(tokens, monkeypatch)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["lit-bert", "lit-transformer"])
def test_a_text_towers_last_block_in_training(name) -> None:
    """It computes one token only; answers and gradients are those of all tokens."""
    towers = [tiny_model(CONFIGS[name]).text for _ in range(2)]
    assert isinstance(towers[0], Bert | TextTransformer)
    config = towers[0].config
    tokens = torch.randint(1, config.vocabulary, (4, config.length), generator=torch.Generator().manual_seed(0))
    answers = [towers[0].train()(tokens), towers[1].eval()(tokens)]
    torch.testing.assert_close(answers[0], answers[1], atol=1e-5, rtol=1e-4)
    for answer in answers:
        answer.square().sum().backward()
    for one, other in zip(towers[0].parameters(), towers[1].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-3)


def test_a_recorded_bert_shows_all_tokens() -> None:
    tower, seen = tiny_model(CONFIGS["lit-bert"]).text, []
    tokens = torch.zeros(1, tower.config.length, dtype=torch.long)
    tokens[0, 0] = 3
    expected = tower(tokens)
    tower.blocks[0].register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[1]))
    torch.testing.assert_close(tower(tokens), expected, atol=1e-5, rtol=1e-4)
    assert seen == [tower.config.length]

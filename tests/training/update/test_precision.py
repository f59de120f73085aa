"""bfloat16 arithmetic over float32 weights, against float32 arithmetic and against torch's own kernels."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.tiny import MIXER, VIT, tiny_model
from vitsmith.layers import cpu_attention
from vitsmith.layers.gelu import Gelu
from vitsmith.layers.norm import LayerNorm
from vitsmith.models.configure import change
from vitsmith.training.update.precision import computing_in

CONFIGS = {"vit": VIT, "vit-erf-gap": change(VIT, gelu="erf", pooling="gap"), "mixer": MIXER}


def batch(count: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, 3, *VIT.image_size, generator=generator) * 2 - 1
    return images, torch.arange(count) % VIT.classes


def gradients(model: nn.Module, precision: str, *, slices: int = 1) -> dict[str, Tensor]:
    images, labels = batch()
    model.zero_grad()
    with computing_in(model, precision) as forward:
        for few, theirs in zip(images.chunk(slices), labels.chunk(slices), strict=True):
            logits = forward(few)
            assert logits.dtype == torch.float32
            (F.cross_entropy(logits, theirs) / slices).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_alike(ours: dict[str, Tensor], theirs: dict[str, Tensor], least: float = 0.99) -> None:
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert gradient.dtype == torch.float32, name
        if theirs[name].norm() < 1e-6:  # 0 but for rounding, as of a bias that the next layer norm takes away again
            assert gradient.norm() < 1e-2, name
            continue
        ratio = gradient.norm() / theirs[name].norm()
        assert F.cosine_similarity(gradient.flatten(), theirs[name].flatten(), dim=0) > least, name
        assert 0.95 < ratio < 1.05, name


def without_key_bias(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """A bias on all keys changes no softmax, so that its gradient is 0 and all that is found there is rounding."""
    kept = {}
    for name, gradient in found.items():
        if name.endswith("attention.qkv.bias"):
            query, _, value = gradient.chunk(3)
            gradient = torch.cat([query, value])
        kept[name] = gradient
    return kept


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_are_those_of_float32(name) -> None:
    model = tiny_model(CONFIGS[name]).train()
    expected = without_key_bias(gradients(model, "fp32"))
    found = without_key_bias(gradients(model, "bf16"))
    assert_alike(found, expected)
    assert any(not torch.equal(found[key], expected[key]) for key in found)  # it was another arithmetic


def test_fp32_is_the_model_itself() -> None:
    model = tiny_model(VIT)
    with computing_in(model, "fp32") as forward:
        assert forward is model


def test_slices_add_up_to_the_batch() -> None:
    model = tiny_model(VIT).train()
    whole = without_key_bias(gradients(model, "bf16"))
    assert_alike(without_key_bias(gradients(model, "bf16", slices=4)), whole, least=0.999)


def test_weights_are_back_afterwards_and_after_a_mistake() -> None:
    model = tiny_model(VIT)
    before = dict(model.named_parameters())
    values = {name: parameter.detach().clone() for name, parameter in before.items()}
    with pytest.raises(RuntimeError, match="stop"), computing_in(model, "bf16"):
        assert model.head.weight.dtype == torch.bfloat16
        raise RuntimeError("stop")
    after = dict(model.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())
    assert all(torch.equal(after[name], value) for name, value in values.items())


def test_recomputed_activations_give_the_same_gradients() -> None:
    model = tiny_model(VIT).train()
    expected = gradients(model, "bf16")
    for block in model.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    found = gradients(model, "bf16")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["vit-token", "vit-distilled", "vit-gap"])
def test_what_training_leaves_out_of_the_last_block_changes_nothing(name) -> None:
    config = {
        "vit-token": VIT,
        "vit-distilled": change(VIT, distillation_token=True),
        "vit-gap": CONFIGS["vit-erf-gap"],
    }
    model = tiny_model(config[name])
    images, _ = batch()
    logits = model(images)  # all tokens
    logits.square().sum().backward()
    expected = {key: parameter.grad.clone() for key, parameter in model.named_parameters()}
    model.zero_grad()
    in_training = model.train()(images)
    in_training = in_training.mean(dim=1) if name == "vit-distilled" else in_training
    in_training.square().sum().backward()
    torch.testing.assert_close(in_training, logits, atol=1e-5, rtol=1e-5)
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[key], atol=1e-4, rtol=1e-4, msg=key)


def test_frozen_and_shared_parameters() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    model[2].requires_grad_(False)
    images = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    model(images).square().sum().backward()
    expected = model[0].weight.grad.clone()
    model.zero_grad()
    with computing_in(model, "bf16") as forward:
        assert model[0].weight is model[1].weight
        forward(images).square().sum().backward()
    assert F.cosine_similarity(model[0].weight.grad.flatten(), expected.flatten(), dim=0) > 0.999
    assert model[2].weight.grad is None


def test_twenty_losses_are_near_those_of_float32() -> None:
    def losses(precision: str) -> Tensor:
        model = tiny_model(VIT).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        images, labels = batch(16)
        seen = []
        for _ in range(20):
            optimizer.zero_grad()
            with computing_in(model, precision) as forward:
                loss = F.cross_entropy(forward(images), labels)
                loss.backward()
            optimizer.step()
            seen.append(loss.detach())
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
        return torch.stack(seen)

    expected = losses("fp32")
    torch.testing.assert_close(losses("bf16"), expected, atol=0.02, rtol=0.02)
    assert expected[-1] < expected[0] - 0.1  # it learns, so that equal losses mean equal updates


def test_attention_on_a_cpu_is_torchs_own() -> None:
    generator = torch.Generator().manual_seed(0)
    batch, tokens, heads, width = 3, 17, 2, 8
    qkv = torch.randn(batch, tokens, 3, heads, width, generator=generator).bfloat16().requires_grad_()
    weights = torch.randn(batch, tokens, heads, width, generator=generator)
    assert cpu_attention.suits(qkv, None, 0.0)
    (cpu_attention.attend(qkv).float() * weights).sum().backward()
    exact = qkv.detach().float().requires_grad_()
    query, key, value = exact.permute(2, 0, 3, 1, 4).unbind(0)
    expected = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    (expected * weights).sum().backward()
    torch.testing.assert_close(cpu_attention.attend(qkv).float(), expected, atol=0.02, rtol=0.02)
    torch.testing.assert_close(qkv.grad.float(), exact.grad, atol=0.05, rtol=0.03)


@pytest.mark.parametrize(
    ("change_qkv", "bias", "dropout"),
    [
        (lambda qkv: qkv.detach(), None, 0.0),
        (lambda qkv: qkv.float(), None, 0.0),
        (lambda qkv: qkv, torch.zeros(1), 0.0),
        (lambda qkv: qkv, None, 0.1),
        (lambda qkv: qkv.expand(1, cpu_attention.LONGEST + 1, 3, 1, 8), None, 0.0),
    ],
)
def test_attention_on_a_cpu_is_for_training_in_bfloat16(change_qkv, bias, dropout) -> None:
    qkv = torch.zeros(1, 1, 3, 1, 8, dtype=torch.bfloat16, requires_grad=True)
    assert not cpu_attention.suits(change_qkv(qkv), bias, dropout)


@pytest.mark.parametrize("channels", [16, 7])  # with oneDNN's kernel, and without
def test_gelu_and_its_derivative_are_right_to_rounding(channels) -> None:
    x = torch.linspace(-8, 8, 4032).view(3, -1, channels).bfloat16().requires_grad_()
    y = Gelu("tanh")(x)
    assert y.shape == x.shape
    assert y.is_contiguous()
    y.sum().backward()
    exact = x.detach().double().requires_grad_()
    expected = F.gelu(exact, approximate="tanh")
    expected.sum().backward()
    torch.testing.assert_close(y.double(), expected, atol=1e-5, rtol=2**-8)
    assert (x.grad.double() - exact.grad).abs().max() < 2**-8 + 0.0009  # rounding between 1 and 2, and the erf form


def test_layer_norms_gradients_are_right_to_rounding_over_many_tokens() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).bfloat16()

    norm = LayerNorm(32, eps=1e-6).bfloat16()
    norm.weight.data.copy_(draw(32))
    x, towards = (draw(8, 400, 32) + draw(8, 400, 1)).requires_grad_(), draw(8, 400, 32) + 0.02
    norm(x).backward(towards)
    exact = x.detach().double().requires_grad_()
    weight, bias = norm.weight.detach().double().requires_grad_(), norm.bias.detach().double().requires_grad_()
    F.layer_norm(exact, (32,), weight, bias, 1e-6).backward(towards.double())
    for ours, theirs in ((norm.weight, weight), (norm.bias, bias), (x, exact)):
        assert (ours.grad.double() - theirs.grad).norm() < 0.01 * theirs.grad.norm()  # torch 2.13's own: 0.06

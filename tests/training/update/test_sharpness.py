"""SAM and GSAM against the papers' formulas, with logistic regression written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitsmith.training.recipes.recipe import OptimizerSpec
from vitsmith.training.update.sharpness import sharpened_gradients

IMAGES = np.random.default_rng(0).normal(size=(12, 4))
LABELS = (np.arange(12) * 5 % 7 > 2).astype(float)
WEIGHTS = np.array([0.3, -0.7, 1.1, 0.2, -0.4])  # four weights and a bias


def loss_and_gradient(weights: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean logistic loss and its gradient, by hand."""
    inputs = np.concatenate([IMAGES, np.ones((12, 1))], axis=1)
    logits = inputs @ weights
    loss = np.mean(np.log1p(np.exp(logits)) - LABELS * logits)
    return float(loss), inputs.T @ (1 / (1 + np.exp(-logits)) - LABELS) / 12


def model_and_compute(parts: int, *, clear: bool = False, dtype: torch.dtype = torch.float64):
    model = nn.Linear(4, 1).to(dtype)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(WEIGHTS[None, :4]))
        model.bias.copy_(torch.from_numpy(WEIGHTS[4:]))
    images, labels = torch.from_numpy(IMAGES).to(dtype), torch.from_numpy(LABELS).to(dtype)

    def compute() -> torch.Tensor:
        if clear:
            model.zero_grad()
        total = torch.zeros((), dtype=dtype)
        for some, answers in zip(images.chunk(parts), labels.chunk(parts), strict=True):
            loss = F.binary_cross_entropy_with_logits(model(some)[:, 0], answers) / parts
            loss.backward()
            total += loss.detach()
        return total

    return model, compute


def joint(model: nn.Linear) -> np.ndarray:
    return np.concatenate([model.weight.grad.numpy()[0], model.bias.grad.numpy()])


def expected_gradient(spec: OptimizerSpec, share: float) -> np.ndarray:
    clean = loss_and_gradient(WEIGHTS)[1]
    rho = spec.rho if spec.sharpness == "sam" else spec.rho_min + (spec.rho - spec.rho_min) * share
    uphill = loss_and_gradient(WEIGHTS + rho * clean / np.sqrt(clean @ clean))[1]
    if spec.sharpness == "sam":
        return uphill
    direction = uphill / np.sqrt(uphill @ uphill)
    return uphill - spec.alpha * (clean - (clean @ direction) * direction)


@pytest.mark.parametrize("clear", [False, True])
@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize(
    ("spec", "share"),
    [
        (OptimizerSpec(sharpness="sam", rho=0.8), 0.3),
        (OptimizerSpec(sharpness="gsam", rho=0.9, rho_min=0.2, alpha=0.6), 0.25),
        (OptimizerSpec(sharpness="gsam", rho=0.9, alpha=1.5), 1.0),
    ],
)
def test_gradients_are_the_papers(spec: OptimizerSpec, share: float, parts: int, clear: bool) -> None:
    model, compute = model_and_compute(parts, clear=clear)
    loss = sharpened_gradients(model, compute, spec, share)
    assert loss.item() == pytest.approx(loss_and_gradient(WEIGHTS)[0], rel=1e-12)
    np.testing.assert_allclose(joint(model), expected_gradient(spec, share), rtol=1e-9)
    assert np.abs(joint(model) - loss_and_gradient(WEIGHTS)[1]).max() > 1e-2  # and not the plain ones


def test_gsam_without_alpha_and_with_one_rho_is_sam() -> None:
    (first, one), (second, other) = model_and_compute(1), model_and_compute(1)
    sharpened_gradients(first, one, OptimizerSpec(sharpness="sam", rho=0.5), 0.1)
    sharpened_gradients(second, other, OptimizerSpec(sharpness="gsam", rho=0.5, rho_min=0.5, alpha=0.0), 0.1)
    np.testing.assert_allclose(joint(first), joint(second), rtol=1e-12)


def test_weights_come_back_to_the_last_bit_even_after_a_fault() -> None:
    model, compute = model_and_compute(1, dtype=torch.float32)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    spec = OptimizerSpec(sharpness="sam", rho=1e4)  # adding and taking away so much would round
    sharpened_gradients(model, compute, spec, 1.0)
    assert all(torch.equal(now, then) for now, then in zip(model.parameters(), before, strict=True))

    calls = []

    def interrupted() -> torch.Tensor:
        calls.append(model.bias.item())
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compute()

    with pytest.raises(KeyboardInterrupt):
        sharpened_gradients(model, interrupted, spec, 1.0)
    assert calls[1] != calls[0]
    assert all(torch.equal(now, then) for now, then in zip(model.parameters(), before, strict=True))


def test_frozen_parameters_do_not_move() -> None:
    model, compute = model_and_compute(1)
    model.bias.requires_grad_(False)
    seen = []

    def watched() -> torch.Tensor:
        seen.append((model.bias.item(), model.weight[0, 0].item()))
        return compute()

    sharpened_gradients(model, watched, OptimizerSpec(sharpness="sam", rho=0.8), 1.0)
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] != seen[1][1]
    assert model.bias.grad is None


@pytest.mark.parametrize("kind", ["sam", "gsam"])
def test_a_gradient_of_zero_stays_zero(kind: str) -> None:
    model = nn.Linear(3, 1)

    def compute() -> torch.Tensor:
        loss = 0 * model(torch.ones(1, 3)).sum()
        loss.backward()
        return loss.detach()

    sharpened_gradients(model, compute, OptimizerSpec(sharpness=kind), 1.0)
    assert not torch.cat([model.weight.grad.flatten(), model.bias.grad]).any()

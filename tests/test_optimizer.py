"""SGD with momentum and clipping, against optax's formulas written out by hand in NumPy."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from vitsmith.train.optimizer import MomentumSGD, clip_by_global_norm


def bfloat16(values: np.ndarray) -> np.ndarray:
    """Rounded to the nearest bfloat16, halves to even, by integer arithmetic on the float32 bits."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


def gradients(step: int) -> np.ndarray:
    return np.random.default_rng(step).normal(size=50).astype(np.float32)


def take_step(optimizer: MomentumSGD, parameter: nn.Parameter, step: int) -> None:
    parameter.grad = torch.from_numpy(gradients(step))
    optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
    optimizer.step()


@pytest.mark.parametrize(("dtype", "stored"), [(torch.float32, np.float32), (torch.bfloat16, bfloat16)])
def test_updates_are_optaxs(dtype, stored) -> None:
    parameter = nn.Parameter(torch.ones(50))
    optimizer = MomentumSGD([parameter], momentum=0.9, velocity_dtype=dtype)
    expected, velocity = np.ones(50, np.float32), np.zeros(50, np.float32)
    for step in range(6):
        take_step(optimizer, parameter, step)
        moved = gradients(step) + stored(stored(np.float32(0.9)) * velocity)
        expected = expected - np.float32(0.1 / (step + 1)) * moved
        velocity = stored(moved)
    np.testing.assert_allclose(parameter.detach(), expected, rtol=0, atol=5e-7)
    np.testing.assert_allclose(optimizer.state[parameter]["velocity"].float(), velocity, rtol=0, atol=2e-7)


def test_a_saved_state_goes_on_exactly() -> None:
    parameter = nn.Parameter(torch.ones(50))
    optimizer = MomentumSGD([parameter])
    for step in range(3):
        take_step(optimizer, parameter, step)
    resumed = nn.Parameter(parameter.detach().clone())
    other = MomentumSGD([resumed])
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(3, 6):
        take_step(optimizer, parameter, step)
        take_step(other, resumed, step)
    assert torch.equal(parameter, resumed)
    assert other.state[resumed]["velocity"].dtype == torch.bfloat16


def test_parameters_without_a_gradient_stay() -> None:
    moving, resting = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    moving.grad = torch.ones(3)
    MomentumSGD([moving, resting], lr=0.5).step()
    assert moving.tolist() == [0.5] * 3
    assert resting.tolist() == [1.0] * 3


@pytest.mark.parametrize(("limit", "factor"), [(1.0, 1 / 13), (13.0, 1.0), (20.0, 1.0)])
def test_clipping_scales_all_gradients_to_one_joint_length(limit: float, factor: float) -> None:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1, 1)), nn.Parameter(torch.zeros(3))]
    given = [torch.tensor([3.0, 4.0]), torch.tensor([[12.0]])]
    for parameter, gradient in zip(parameters, given, strict=False):  # the third has none
        parameter.grad = gradient.clone()
    assert clip_by_global_norm(parameters, limit).item() == pytest.approx(13.0)
    for parameter, gradient in zip(parameters, given, strict=False):
        torch.testing.assert_close(parameter.grad, gradient * factor)
    assert parameters[2].grad is None

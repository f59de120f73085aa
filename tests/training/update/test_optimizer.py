"""SGD with momentum and clipping, against optax's formulas written out by hand in NumPy."""

from __future__ import annotations

import copy
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from vitsmith.training.recipes.recipe import OptimizerSpec
from vitsmith.training.update.optimizer import MomentumSGD, clip_by_global_norm, make_optimizer


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


def test_clipping_to_nothing_only_measures() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([30.0, 40.0])
    assert clip_by_global_norm([parameter], 0).item() == pytest.approx(50.0)
    assert parameter.grad.tolist() == [30.0, 40.0]


def test_weight_decay_is_decoupled_and_each_group_has_its_own_rate() -> None:
    """Three updates by optax's formulas: trace, then add_decayed_weights, then the rate."""
    decayed, free = nn.Parameter(torch.full((50,), 2.0)), nn.Parameter(torch.full((50,), 2.0))
    groups = [
        {"params": [decayed], "lr_scale": 0.5, "weight_decay": 0.3, "names": ["a"]},
        {"params": [free], "lr_scale": 1.0, "weight_decay": 0.0, "names": ["b"]},
    ]
    optimizer = make_optimizer(groups, OptimizerSpec(momentum_dtype="float32", lr=0.2))
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.2]
    expected = np.full((2, 50), 2.0)
    velocity = np.zeros(50)
    for step in range(3):
        for group in optimizer.param_groups:
            group["lr"] = 0.2 / (step + 1) * group["lr_scale"]
        decayed.grad, free.grad = (torch.from_numpy(gradients(step)) for _ in range(2))
        optimizer.step()
        velocity = gradients(step) + 0.9 * velocity
        expected[0] -= 0.1 / (step + 1) * (velocity + 0.3 * expected[0])
        expected[1] -= 0.2 / (step + 1) * velocity
    np.testing.assert_allclose(decayed.detach(), expected[0], rtol=0, atol=2e-6)
    np.testing.assert_allclose(free.detach(), expected[1], rtol=0, atol=2e-6)


def test_adamw_is_that_of_the_paper() -> None:
    """Algorithm 2 of arXiv 1711.05101 in double precision, its weight decay a share of the rate."""
    parameter = nn.Parameter(torch.ones(50))
    group = {"params": [parameter], "lr_scale": 1.0, "weight_decay": 0.1, "names": ["a"]}
    spec = OptimizerSpec(name="adamw", lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=5.0)
    optimizer = make_optimizer([group], spec)
    expected, first, second = np.ones(50), np.zeros(50), np.zeros(50)
    for step in range(1, 5):
        parameter.grad = torch.from_numpy(gradients(step))
        optimizer.step()
        gradient = gradients(step).astype(np.float64)
        first, second = 0.8 * first + 0.2 * gradient, 0.95 * second + 0.05 * gradient**2
        move = first / (1 - 0.8**step) / (np.sqrt(second / (1 - 0.95**step)) + 1e-6)
        expected -= 0.01 * (move + 0.1 * expected)
    np.testing.assert_allclose(parameter.detach(), expected, rtol=0, atol=1e-6)


def test_shards_in_two_processes_learn_what_one_process_does() -> None:
    """Runs tests/training/update/sharded_training.py, which compares FSDP2 with the same run on whole weights."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.training.update.sharded_training"]
    processes = [
        subprocess.Popen(
            command, env=shared | {"RANK": rank}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for rank in "01"
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    assert said[0].splitlines()[-1] == "sgd float32, sgd bfloat16, adamw, sam, gsam, ema", said[0]

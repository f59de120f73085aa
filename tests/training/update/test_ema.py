"""The running mean of the weights, against its formula in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from vitsmith.training.update.ema import Ema


class Counter(nn.Module):
    """A weight, a float buffer and a counter."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 20, dtype=dtype))
        self.register_buffer("seen", torch.zeros(3))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def move(self, step: int) -> None:
        with torch.no_grad():
            self.weight.add_(torch.from_numpy(np.random.default_rng(step).normal(size=20)).to(self.weight))
            self.seen += step
            self.count += 1


def test_the_mean_is_tensorflows() -> None:
    """decay_t = min(decay, (1 + t) / (10 + t)) after update t = 1, 2, ...; from t = 8 it is the 0.5 asked for."""
    model = Counter()
    ema = Ema(model, 0.5)
    expected, seen = model.weight.detach().numpy().astype(np.float64), np.zeros(3)
    for step in range(1, 13):
        model.move(step)
        ema.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach().numpy()
        seen = decay * seen + (1 - decay) * model.seen.numpy()
    own = model.weight.detach().clone()
    with ema.swapped():
        np.testing.assert_allclose(model.weight.detach(), expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(model.seen, seen, rtol=1e-6)
        assert model.count == 12  # a counter has no mean
    assert torch.equal(model.weight, own)
    ema.keep()
    np.testing.assert_allclose(model.weight.detach(), expected, rtol=0, atol=1e-6)


def test_weights_come_back_after_a_fault_and_are_the_same_objects() -> None:
    model = Counter()
    ema, weight = Ema(model, 0.9), model.weight
    model.move(1)
    own = weight.detach().clone()
    with pytest.raises(KeyboardInterrupt), ema.swapped():
        assert model.weight is weight
        assert not torch.equal(weight, own)
        raise KeyboardInterrupt
    assert model.weight is weight
    assert torch.equal(weight, own)


def test_a_mean_of_bfloat16_weights_is_kept_in_float32() -> None:
    model = Counter(torch.bfloat16)
    ema = Ema(model, 0.999)
    expected = model.weight.detach().double()
    for step in range(1, 4):
        model.move(step)
        ema.update()
        decay = (1 + step) / (10 + step)
        expected = decay * expected + (1 - decay) * model.weight.detach().double()
    mean = ema.state_dict()["mean.weight"]
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean.double(), expected, rtol=0, atol=1e-6)


def test_what_does_not_move_keeps_its_every_bit() -> None:
    model = Counter()
    ema, own = Ema(model, 0.9), model.weight.detach().clone()
    for _ in range(20):
        ema.update()
    assert torch.equal(ema.state_dict()["mean.weight"], own)


def test_a_saved_mean_goes_on_exactly() -> None:
    model = Counter()
    ema = Ema(model, 0.9)
    for step in range(3):
        model.move(step)
        ema.update()
    saved = {name: tensor.clone() for name, tensor in ema.state_dict().items()}
    resumed = Ema(model, 0.9)
    assert not torch.equal(resumed.state_dict()["mean.weight"], saved["mean.weight"])
    resumed.load_state_dict(saved)
    for step in range(3, 6):
        model.move(step)
        ema.update()
        resumed.update()
    assert resumed.updates == ema.updates == 6
    assert torch.equal(resumed.state_dict()["mean.weight"], ema.state_dict()["mean.weight"])


def test_a_mean_of_another_model_is_refused() -> None:
    with pytest.raises(KeyError, match="bias"):
        Ema(Counter(), 0.9).load_state_dict(Ema(nn.Linear(2, 2), 0.9).state_dict())

"""Sensitivity of each part of a model to int8: that part alone is rounded, and the model's output is compared.

It is a simulation in torch, the same for every engine. Weights are rounded to int8 for each output channel, inputs to
256 steps between the least and the largest value seen. With SmoothQuant (arXiv 2211.10438) each input channel is first
divided, and its weights multiplied, by max|input|^a / max|weight|^(1 - a).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitsmith.arrays import Array
from vitsmith.compress.quantize.layers import site_of

IMAGES = 16
_LARGEST = 127
_STEPS = 255


@dataclass(frozen=True)
class Sensitivity:
    """The error of one part of the model in int8."""

    site: str
    noise: float
    """Mean square of the output's error, as a share of the mean square of the output's variation between images."""


def measure_sensitivity(
    module: nn.Module,
    run: Callable[[Array], Array],
    inputs: Array,
    sites: Sequence[str],
    *,
    smooth: float | None = None,
    on_site: Callable[[], None] | None = None,
) -> list[Sensitivity]:
    """Sensitivity of each of `sites`, the most sensitive first.

    `run` returns the output of `module`, as an array, for a batch like `inputs`. It runs once to find the ranges of
    values, and once for each site. `smooth` is SmoothQuant's strength; None: without SmoothQuant.
    """
    layers: dict[str, nn.Module] = {}
    layers |= {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)}
    with _watched(layers) as ranges:
        expected = run(inputs)
    found = []
    for site in sites:
        here = {name: layer for name, layer in layers.items() if site_of(name) == site and name in ranges}
        with _rounded(here, ranges, smooth):
            found.append(Sensitivity(site, _noise(expected, run(inputs))))
        if on_site is not None:
            on_site()
    return sorted(found, key=lambda one: -one.noise)


def _noise(expected: Array, found: Array) -> float:
    """Mean square error, as a share of the variation between images; of the mean square for a single image."""
    varied = expected - expected.mean(axis=0) if len(expected) > 1 else expected
    return float(np.square(found - expected).mean() / max(np.square(varied).mean(), 1e-20))


@contextmanager
def _watched(layers: dict[str, nn.Module]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """(least, largest) input of each layer that runs: (channels,) for a linear layer, () for a convolution."""
    ranges: dict[str, tuple[Tensor, Tensor]] = {}

    def watch(name: str, linear: bool) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def keep(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            values = inputs[0].flatten(0, -2) if linear else inputs[0].reshape(-1, 1)
            low, high = torch.aminmax(values, dim=0)
            ranges[name] = (low, high) if linear else (low[0], high[0])

        return keep

    handles = [layer.register_forward_hook(watch(name, isinstance(layer, nn.Linear))) for name, layer in layers.items()]
    try:
        yield ranges
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _rounded(
    layers: dict[str, nn.Module], ranges: dict[str, tuple[Tensor, Tensor]], smooth: float | None
) -> Iterator[None]:
    """While it lasts, these layers compute with rounded inputs and weights."""

    def replace(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        low, high = ranges[name]

        def rounded(layer: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
            if isinstance(layer, nn.Linear):
                return _rounded_linear(layer, inputs[0], low, high, smooth)
            # Rounding kernels loses next to nothing, and a hybrid standardises its kernels in the layer.
            outputs: Tensor = layer.forward(round_inputs(inputs[0], low, high))
            return outputs

        return rounded

    handles = [layer.register_forward_hook(replace(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rounded_linear(layer: nn.Linear, x: Tensor, low: Tensor, high: Tensor, smooth: float | None) -> Tensor:
    weight = layer.weight
    if smooth is not None:
        scale = smoothing(torch.maximum(low.abs(), high.abs()), weight, smooth)
        x, weight, low, high = x / scale, weight * scale, low / scale, high / scale
    return F.linear(round_inputs(x, low.min(), high.max()), round_weights(weight), layer.bias)


def smoothing(largest: Tensor, weight: Tensor, strength: float) -> Tensor:
    """SmoothQuant's divisor of each input channel, (in,), from its largest inputs (in,) and weights (out, in)."""
    weights = weight.abs().amax(dim=0).clamp(min=1e-5)
    return (largest.clamp(min=1e-5) ** strength / weights ** (1 - strength)).clamp(min=1e-5)


def round_inputs(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Rounds values to 256 steps from `low` to `high`, one of which is 0; clips values outside."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    step = ((high - low) / _STEPS).clamp(min=1e-12)
    zero = torch.round(-low / step)
    return (torch.round(x / step + zero).clamp(0, _STEPS) - zero) * step


def round_weights(weight: Tensor) -> Tensor:
    """Rounds weights (out, in) to 255 steps around 0 for each output channel."""
    step = (weight.abs().amax(dim=1, keepdim=True) / _LARGEST).clamp(min=1e-12)
    return torch.round(weight / step) * step

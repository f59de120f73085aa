"""Short models of torch with random weights, opened as the torch engine opens any model."""

from __future__ import annotations

import torch

from vitsmith.engines.settings import Settings
from vitsmith.engines.torch.engine import TorchEngine
from vitsmith.models.build import build
from vitsmith.models.config import ModelConfig
from vitsmith.models.isolation import isolated
from vitsmith.weights.bundle.bundle import Bundle

_NOISE = 1 << 20
"""Random numbers, which are repeated: to draw each weight would take longer than to measure."""


def open_torch(config: ModelConfig, _engine: str, settings: Settings) -> TorchEngine:
    """The engine, opened for a model of `config`. Raises ConfigError when its weights do not fit into memory."""
    model = build(config, fresh=False)
    noise = torch.empty(_NOISE).uniform_(-1.0, 1.0, generator=torch.Generator().manual_seed(0))
    with isolated(), torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter.fill_(1.0)
                continue
            # as small as trained ones: activations that grow would become infinite, and slow
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 64
            scaled, flat = noise * fan_in**-0.5, parameter.view(-1)
            for at in range(0, len(flat), _NOISE):
                flat[at : at + _NOISE] = scaled[: len(flat) - at]
    return TorchEngine(Bundle.of(model), settings)

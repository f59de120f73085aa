"""Build a model with fresh weights from a name or a configuration."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vitsmith.errors import ConfigError, InputError, shown
from vitsmith.machine import total_memory
from vitsmith.models.config import LiTConfig, MixerConfig, ModelConfig, ViTConfig
from vitsmith.models.configure import configure
from vitsmith.models.cost import parameters
from vitsmith.models.initializers import initialize
from vitsmith.models.isolation import isolated
from vitsmith.models.lit import LiT
from vitsmith.models.mixer import MlpMixer
from vitsmith.models.vit import VisionTransformer

Model = VisionTransformer | MlpMixer | LiT
ImageModel = VisionTransformer | MlpMixer

_FAMILIES: dict[type, type[nn.Module]] = {ViTConfig: VisionTransformer, MixerConfig: MlpMixer, LiTConfig: LiT}


def create_model(
    name: str,
    *,
    classes: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    device: str | torch.device = "cpu",
    **overrides: Any,
) -> Model:
    """A model with fresh weights, in training mode.

    Args:
        name: any spelling of an architecture, see `vitsmith models`.
        classes: number of classes (default 1000); 0 gives the pooled feature instead of logits.
        image_size: pixels, an int or (height, width) (default 224).
        device: 'meta' builds the model without memory for its weights.
        overrides: fields of the configuration, such as `dropout=0.1, stochastic_depth=0.1, pooling="gap"`.

    The head starts at zero, as the original's does, so a fresh model gives equal logits to all classes.
    Raises UnknownNameError for an unknown name and ConfigError with all mistakes in the configuration.
    """
    config = configure(name, classes=classes, image_size=image_size, **overrides)
    try:
        place = torch.device(device)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or ["not a device"])[0]
        raise InputError(f"device {shown(device)} cannot be used here ({reason}): give 'cpu'") from None
    return build(config, device=place)


def build(config: ModelConfig, *, device: str | torch.device = "cpu", fresh: bool = True) -> Model:
    """The model of a configuration; with `fresh=False` its arrays are allocated but not initialised.

    Raises ConfigError, before memory is taken, for weights that do not fit into this machine's memory.
    """
    family = _FAMILIES[type(config)]
    if torch.device(device).type == "cpu":
        _check_memory(config)
    with isolated():
        with torch.device("meta"):
            model = family(config).float()  # for any default dtype
        if torch.device(device).type != "meta":
            model = model.to_empty(device=device)
            if fresh:
                initialize(model)
    assert isinstance(model, VisionTransformer | MlpMixer | LiT)
    return model


def _check_memory(config: ModelConfig) -> None:
    """Raise ConfigError when the weights do not fit: Linux would promise the memory and later kill the process."""
    needed, there = 4 * parameters(config), total_memory()
    if needed > there:
        raise ConfigError(
            f"a model of {parameters(config):,} weights needs {needed / 2**30:,.0f} GiB and this process may have "
            f"{there / 2**30:,.0f} GiB of memory: choose a smaller width or depth"
        )


def count_parameters(model: nn.Module) -> int:
    """Number of weights, trainable or not."""
    return sum(parameter.numel() for parameter in model.parameters())

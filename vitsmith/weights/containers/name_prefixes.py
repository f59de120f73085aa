"""What training scripts and wrappers put around a state dict: keys that hold it, and prefixes of its names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitsmith.errors import WeightsError

_CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys under which training scripts keep the weights, in timm's order (models/_helpers.py, `load_state_dict`)."""

_WRAPPERS = ("_orig_mod.", "module.", "_orig_mod.")
"""Prefixes that torch.compile and DistributedDataParallel put before every name, in either order."""


def state_dict_in(loaded: Any, path: Path) -> tuple[str, Mapping[str, Any]]:
    """(container, state dict) of what a file of `torch.save` holds. Raises WeightsError for anything else."""
    if not isinstance(loaded, Mapping) or not all(isinstance(key, str) for key in loaded):
        raise WeightsError(f"{path}: holds a {type(loaded).__name__}, not a state dict: save model.state_dict()")
    for key in _CONTAINERS:
        inner = loaded.get(key)
        if isinstance(inner, Mapping):
            if not all(isinstance(name, str) for name in inner):
                raise WeightsError(f"{path}: what it holds under {key!r} is no state dict: its keys are not names")
            return key, inner
    return "", loaded


def without_prefixes(name: str) -> str:
    """The name of an array without what wrappers put before it."""
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name

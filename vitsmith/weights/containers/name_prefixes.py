"""What lies around the weights in a state dict: keys that hold it, prefixes of its names, and buffers of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitsmith.errors import WeightsError

_CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys under which training scripts keep the weights, in timm's order (models/_helpers.py, `load_state_dict`)."""

_WRAPPERS = ("_orig_mod.", "module.", "_orig_mod.")
"""Prefixes that torch.compile and DistributedDataParallel put before every name, in either order."""

_BUFFERS = ("position_ids",)
"""Ends of names of arrays of whole numbers: transformers wrote those of positions, 0, 1, 2, ..., until 4.31."""


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


def is_buffer(name: str) -> bool:
    """Whether an array of this name is no weight and may hold whole numbers; readers decide about it."""
    return name.rsplit(".", 1)[-1] in _BUFFERS

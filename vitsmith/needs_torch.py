"""Whether torch is installed, and the way from modules without torch to parts of vitsmith that need it.

Code that runs an exported bundle does not import torch. A part that needs it is imported by its name when it is used,
after a check that names the package to install.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from vitsmith.errors import MissingPackageError


def has_torch() -> bool:
    """Whether torch is installed, which is found out without importing it."""
    return find_spec("torch") is not None


def require_torch(extra: str = "torch") -> None:
    """Raise MissingPackageError, which says to install `extra`, when torch is not installed."""
    if not has_torch():
        raise MissingPackageError("torch", extra)


def part(name: str) -> Any:
    """The part of vitsmith of that name, such as 'vitsmith.weights.torch_model:read_weights', imported now.

    The part must not import the module that asks for it. Raises MissingPackageError without torch.
    """
    require_torch()
    module, _, attribute = name.partition(":")
    found = import_module(module)
    return getattr(found, attribute) if attribute else found


def has_gpu() -> bool:
    """Whether torch has an NVIDIA GPU here; False when torch is not installed."""
    if not has_torch():
        return False
    import torch

    return torch.cuda.is_available()

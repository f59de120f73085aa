"""Whether torch is installed, and the way from modules without torch to parts of vitsmith that need it.

Code that runs an exported bundle does not import torch. A part that needs it is imported by its name when it is used,
after a check that names the package to install.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from vitsmith.errors import MissingPackageError

if TYPE_CHECKING:
    from vitsmith.arrays import Array
    from vitsmith.models.build import Model
    from vitsmith.models.config import ModelConfig
    from vitsmith.specs import Similarity
    from vitsmith.weights.bundle.bundle import Bundle


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
    return resolve_name(name)


def has_gpu() -> bool:
    """Whether torch has an NVIDIA GPU here; False when torch is not installed."""
    if not has_torch():
        return False
    import torch

    return torch.cuda.is_available()


def load_published(source: str, **options: Any) -> Bundle:
    """Download published weights. See `weights.checkpoints.load_published`."""
    require_torch()
    from vitsmith.weights import checkpoints

    return checkpoints.load_published(source, **options)


def load_released(path: Path, **options: Any) -> Bundle:
    """Load a `.npz` of the original. See `weights.checkpoints.load_released`."""
    require_torch()
    from vitsmith.weights import checkpoints

    return checkpoints.load_released(path, **options)


def load_weights(path: Path, kind: str, **options: Any) -> Bundle:
    """Load weights of timm or HF. See `weights.checkpoints.load_weights`."""
    require_torch()
    from vitsmith.weights import checkpoints

    return checkpoints.load_weights(path, kind, **options)


def save_as_bundle(bundle: Bundle, folder: Path) -> Bundle:
    """Write a bundle of torch weights to disk. See `weights.checkpoints.save_as_bundle`."""
    require_torch()
    from vitsmith.weights import checkpoints

    return checkpoints.save_as_bundle(bundle, folder)


def save_as_npz(bundle: Bundle, target: Path) -> None:
    """Write a `.npz` of the original. See `weights.checkpoints.save_as_npz`."""
    require_torch()
    from vitsmith.weights import checkpoints

    checkpoints.save_as_npz(bundle, target)


def without_head(bundle: Bundle) -> Bundle:
    """The weights of a classifier without its head, as a model of features. See `weights.checkpoints.without_head`."""
    require_torch()
    from vitsmith.weights import checkpoints

    return checkpoints.without_head(bundle)


def read_weights(path: Path, config: ModelConfig) -> Model:
    """The torch model in a bundle's `model.safetensors`. See `weights.torch_model.read_weights`."""
    require_torch()
    from vitsmith.weights import torch_model

    return torch_model.read_weights(path, config)


def write_weights(model: Model, path: Path) -> None:
    """Write the weights of a torch model. See `weights.torch_model.write_weights`."""
    require_torch()
    from vitsmith.weights import torch_model

    torch_model.write_weights(model, path)


def run_images(model: Model, tensors: Array, where: str) -> Array:
    """Outputs of a torch model for images. See `weights.torch_model.run_images`."""
    require_torch()
    from vitsmith.weights import torch_model

    return torch_model.run_images(model, tensors, where)


def run_texts(model: Model, tokens: Array, where: str) -> Array:
    """Embeddings of texts by a torch model. See `weights.torch_model.run_texts`."""
    require_torch()
    from vitsmith.weights import torch_model

    return torch_model.run_texts(model, tokens, where)


def similarity_of(model: Model, where: str) -> Similarity:
    """Temperature and bias of a LiT model. See `weights.torch_model.similarity_of`."""
    require_torch()
    from vitsmith.weights import torch_model

    return torch_model.similarity_of(model, where)


def hash_weights(model: Model) -> str:
    """A hash over the values of all weights. See `weights.torch_model.hash_weights`."""
    require_torch()
    from vitsmith.weights import torch_model

    return torch_model.hash_weights(model)

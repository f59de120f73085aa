"""The torch model of a bundle: read, written, run, and named by the values of its weights."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vitsmith.arrays import Array
from vitsmith.errors import BundleError, InputError, NotFiniteError
from vitsmith.files.regular import utf8_path
from vitsmith.finite import require_finite_outputs
from vitsmith.models.build import Model, build
from vitsmith.models.config import ModelConfig, show_size
from vitsmith.models.configure import change
from vitsmith.models.inputs import check_images
from vitsmith.models.isolation import isolated
from vitsmith.models.lit import LiT
from vitsmith.specs import Similarity
from vitsmith.weights.fill import require_finite_model, require_float32

_FLOATS = ("F64", "F32", "F16", "BF16")


@isolated()
def read_weights(path: Path, config: ModelConfig) -> Model:
    """The model of `config` with the weights in a safetensors file, in eval mode; memory is the model's own.

    Raises BundleError.
    """
    from safetensors import SafetensorError, safe_open

    skeleton = build(config, device="meta")
    shapes = {name: tuple(parameter.shape) for name, parameter in skeleton.named_parameters()}
    try:
        with utf8_path(path) as known, torch.no_grad():
            with safe_open(known, framework="pt") as file:
                _check_shapes(file, shapes, path)  # before memory is allocated for a wrong bundle.json
            model = skeleton.to_empty(device="cpu")
            for name, parameter in model.named_parameters():
                with safe_open(known, framework="pt") as file:  # anew, or pages that were read would stay in memory
                    parameter.copy_(file.get_tensor(name))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise BundleError(f"{path} cannot be read ({error}); copy the bundle again") from None
    require_finite_model(model, str(path))
    return model.eval()


def _check_shapes(file: Any, shapes: dict[str, tuple[int, ...]], path: Path) -> None:
    """Raises BundleError unless an open safetensors file has the arrays of these names and shapes, and no others."""
    if differing := sorted(set(file.keys()) ^ set(shapes)):
        raise BundleError(f"{path}: arrays do not fit bundle.json: {', '.join(differing[:5])}")
    for name, expected in shapes.items():
        entry = file.get_slice(name)
        found = tuple(entry.get_shape())
        if found != expected:  # else copy_ might broadcast
            raise BundleError(f"{path}: {name} is {show_size(found)}, expected {show_size(expected)}")
        if entry.get_dtype() not in _FLOATS:
            raise BundleError(f"{path}: {name} has type {entry.get_dtype()}, weights are floating point")


@isolated()
def write_weights(model: Model, path: Path) -> None:
    """Writes a safetensors file. Raises NotFiniteError for weights that are NaN or infinite."""
    from safetensors.torch import save_file

    require_finite_model(model, "the model")
    arrays = {name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()}
    save_file(arrays, path, metadata={"format": "pt"})


def run_images(model: Model, tensors: Array, where: str) -> Array:
    """float32 (batch, 3, height, width) -> logits, or image embeddings for LiT.

    Raises InputError for arrays of another shape, NotFiniteError for answers that are NaN or infinite.
    """
    require_float32(model, where)
    check_images(tensors, model.config.image_size)
    with isolated(inference=True):
        images = torch.from_numpy(tensors).to(next(model.parameters()).device, torch.float32)
        outputs = model.encode_image(images) if isinstance(model, LiT) else model(images)
    return require_finite_outputs(outputs.float().cpu().numpy(), tensors, where)


def run_texts(model: Model, tokens: Array, where: str) -> Array:
    """Token ids (texts, length) -> float32 (texts, E), unit vectors. Raises as `run_images`."""
    if not isinstance(model, LiT):
        raise InputError(f"{where} is a model of images alone: it cannot read text; use CLIP, SigLIP or LiT")
    require_float32(model, where)
    with isolated(inference=True):
        outputs = model.encode_text(torch.from_numpy(tokens).to(next(model.parameters()).device))
    return require_finite_outputs(outputs.float().cpu().numpy(), tokens, where, what="text")


@isolated()
def without_head(model: Model) -> Model:
    """The model without its classifier, which gives features. It has the same arrays, not copies."""
    bare = build(change(model.config, classes=0), device="meta")
    arrays = dict(model.named_parameters())
    bare.load_state_dict({name: arrays[name].data for name, _ in bare.named_parameters()}, assign=True)
    return bare


def similarity_of(model: Model, where: str) -> Similarity:
    """Temperature and bias of a LiT model. Raises NotFiniteError for a temperature of 0 or infinity."""
    assert isinstance(model, LiT)
    bias, temperature = model.logit_bias, model.temperature.item()
    if not 0 < temperature < math.inf:
        raise NotFiniteError(
            f"{where}: its temperature, e to the {model.log_temperature.item():.4g}, is {temperature}, "
            "so its scores mean nothing: take another checkpoint"
        )
    return Similarity(temperature=temperature, bias=None if bias is None else bias.item())


def hash_weights(model: nn.Module) -> str:
    """SHA-256 over the names, shapes and values of all parameters, whatever file and device they are on."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()

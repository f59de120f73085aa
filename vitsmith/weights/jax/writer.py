"""Writes `.npz` files as Google released them. Source: checkpoint.py of the original."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitsmith.errors import WeightsError
from vitsmith.files.atomic import replacing
from vitsmith.models.build import Model
from vitsmith.models.config import LiTConfig, ModelConfig, ResNetConfig, ViTConfig
from vitsmith.models.text_config import TextTransformerConfig
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.lit_text import vocabulary_suffix
from vitsmith.weights.containers.npz import write_npz
from vitsmith.weights.fill import arrays_of, require_finite_model
from vitsmith.weights.heads import assumed_head
from vitsmith.weights.jax.config import infer_config
from vitsmith.weights.jax.names import jax_slots
from vitsmith.weights.jax.vocabulary import check_text_fits_npz
from vitsmith.weights.layouts import Slot


def save_as_npz(bundle: Bundle, target: Path) -> None:
    """Writes an `.npz`, and the vocabulary of a LiT beside it. Raises WeightsError for what the format cannot hold."""
    if bundle.calibration is not None:
        raise WeightsError(
            "the original's .npz format cannot hold a calibration, so probabilities would change; save a bundle "
            "instead, or leave the calibration out: dataclasses.replace(bundle, calibration=None)"
        )
    check_text_fits_npz(bundle)
    read_as, _ = assumed_head(bundle.model, target.name)
    if bundle.head not in (read_as, "none"):
        raise WeightsError(
            f"the original's .npz format cannot say what the outputs mean ({bundle.head}): they would be read as "
            f"{read_as}; save a bundle instead"
        )
    check_fits_npz(bundle.model)
    target = target if target.suffix.lower() == ".npz" else target.with_name(target.name + ".npz")
    if bundle.text is not None and bundle.vocabulary is not None:
        with replacing(target.with_suffix(vocabulary_suffix(bundle.text))) as partial:
            partial.write_bytes(bundle.vocabulary)
    save_npz(bundle.model, target)  # last, so that it is never there without its vocabulary


def save_npz(model: Model, path: str | os.PathLike[str]) -> None:
    """Writes the original's names, layouts and shapes: the JAX code and timm's `.npz` loader read it.

    If a reader of the arrays would assume another image size or pooling, the archive's comment says which it is.
    Raises WeightsError for a configuration that the original has no arrays for, NotFiniteError for weights that are
    NaN or infinite.
    """
    check_fits_npz(model)
    slots = jax_slots(model.config)
    write_npz(path, arrays_of(model, slots), told=_untold(model, slots))


def check_fits_npz(model: Model) -> None:
    """Raises the errors of `save_npz`, before anything is written."""
    if reason := _not_in_original(model.config):
        raise WeightsError(f"the original's .npz format cannot hold {reason}; save a bundle instead")
    require_finite_model(model, "the model")


def _untold(model: Model, slots: Mapping[str, Slot]) -> dict[str, Any]:
    """The fields of this model that a reader of the arrays alone would get wrong."""
    tower = model.config.image if isinstance(model.config, LiTConfig) else model.config
    ours = {"image_size": tower.image_size, "pooling": getattr(tower, "pooling", None)}
    ours_of = dict(model.named_parameters())
    shapes = {name: slot.foreign_shape(tuple(ours_of[slot.parameter].shape)) for name, slot in slots.items()}
    try:
        guessed = infer_config(shapes)
    except WeightsError:
        return {name: value for name, value in ours.items() if name == "image_size" or "unpooled" in str(value)}
    guessed = guessed.image if isinstance(guessed, LiTConfig) else guessed
    return {name: value for name, value in ours.items() if getattr(guessed, name, None) != value}


def _not_in_original(config: ModelConfig) -> str:
    """The part of a configuration that the original cannot express, or ''."""
    if isinstance(config, LiTConfig) and config.bias:
        return "the bias of a sigmoid loss"
    towers: list[Any] = [config.image, config.text] if isinstance(config, LiTConfig) else [config]
    for tower in towers:
        default_eps = 1e-12 if getattr(tower, "kind", "") == "bert" else 1e-6
        if isinstance(tower, ViTConfig) and (part := _newer_part(tower)):
            return part
        if isinstance(tower, TextTransformerConfig) and (part := _newer_text_part(tower)):
            return part
        if tower.gelu != "tanh":
            return f"the {tower.gelu} form of GELU"
        if tower.norm_eps != default_eps:
            return f"LayerNorm eps {tower.norm_eps:g}"
        if getattr(tower, "kind", "") == "bert" and tower.heads != max(tower.width // 64, 1):
            return f"a BERT of width {tower.width} with {tower.heads} heads"  # they are not in its arrays
        if getattr(tower, "distillation_token", False):
            return "a distillation token"
        if getattr(tower, "norm_after_pooling", False):
            return "a norm after the pooling"
        if getattr(tower, "merge", ()):
            return "token merging"
        if getattr(tower, "head_width", None):
            return "pruned heads"
        if getattr(tower, "class_token", False) and tower.pooling == "gap":
            return "mean pooling beside a class token"
    return ""


def _newer_part(tower: ViTConfig) -> str:
    """A part that no model of the original has, or ''."""
    block, places = tower.block, tower.position_embedding
    parts = {
        "registers": tower.registers,
        "rotary positions": places.rotary,
        "positions for some of the tokens": places.learned != "all",
        "a patch embedding without bias": not tower.patch_bias,
        "a norm before the blocks": tower.norm_before or tower.patch_norm,
        "RMSNorm": tower.norm == "rms",
        "no norm after the blocks": not tower.final_norm,
        "attention pooling": tower.attention_pool,
        "features of length 1 before the head": tower.unit,
        "class token and mean of patches together": tower.pooling == "token_and_gap",
        "a head without bias": not tower.head_bias,
        "LayerScale": block.layer_scale,
        "projections without bias": not block.qkv_bias,
        "normalised queries and keys": block.qk_norm,
        "norms inside attention or the MLP": block.attention_norm or block.mlp_norm,
        "a gated MLP": block.gated,
        "a ResNet with timm's arithmetic": tower.resnet and tower.resnet != _original(tower.resnet),
    }
    return next((name for name, there in parts.items() if there), "")


def _original(resnet: ResNetConfig) -> ResNetConfig:
    """The same with the original's arithmetic."""
    return ResNetConfig(stages=resnet.stages, width_factor=resnet.width_factor)


def _newer_text_part(tower: TextTransformerConfig) -> str:
    """A part that no text tower of the original has, or ''."""
    parts = {
        "a causal mask": tower.mask == "causal",
        "pooling of the end token": tower.pooling == "end",
        "a text tower without projection": not tower.classes,
        "a text projection without bias": not tower.head_bias,
    }
    return next((name for name, there in parts.items() if there), "")

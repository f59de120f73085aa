"""Google's released `.npz` checkpoints, both ways. Source: checkpoint.py of the original."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeVar

from vitsmith.errors import ConfigError, WeightsError
from vitsmith.models.build import Model
from vitsmith.models.config import LiTConfig, ModelConfig
from vitsmith.models.configure import change
from vitsmith.models.presets import check_name
from vitsmith.weights.containers.npz import NpzFile, write_npz
from vitsmith.weights.fill import arrays_of, load_model, require_finite_model
from vitsmith.weights.jax.config import assumed, infer_config
from vitsmith.weights.jax.names import jax_slots, naming_of
from vitsmith.weights.layouts import Slot

HEAD = ("head/kernel", "head/bias")
T = TypeVar("T")


def load_npz(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    image_size: tuple[int, int] | None = None,
    pooling: str | None = None,
    headless: bool = False,
) -> Model:
    """The model in a released file, its architecture worked out from the arrays, in eval mode.

    Args:
        name: the expected architecture; another one in the file is a WeightsError.
        image_size: (height, width); needed if the grid is not square and the file does not say so.
        pooling: 'unpooled' or 'token_unpooled', which the arrays do not show.
        headless: leave the classifier out; the model then gives features.

    Raises WeightsError for anything missing, unexpected, misshapen or damaged, and for a head of zeros.
    """
    return read_npz(path, name=name, image_size=image_size, pooling=pooling, headless=headless)[0]


def read_npz(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    image_size: tuple[int, int] | None = None,
    pooling: str | None = None,
    headless: bool = False,
) -> tuple[Model, tuple[str, ...]]:
    """As `load_npz`; also returns notes on what was assumed because arrays do not show it."""
    with NpzFile(path) as file:
        image_size = _agreed("image_size", image_size, _told_size(file), file)
        pooling = _agreed("pooling", pooling, file.told.get("pooling"), file)
        try:
            config = infer_config(file.shapes, image_size=image_size, pooling=pooling)
        except (WeightsError, ConfigError) as error:
            raise type(error)(f"{file.path}: {error}") from None
        if name is not None:
            check_name(config, name, str(path))
        notes = assumed(config, image_size=image_size is not None, pooling=pooling is not None)
        unused: frozenset[str] = frozenset()
        if headless and not isinstance(config, LiTConfig):
            config, unused = change(config, classes=0), frozenset(HEAD)
        model = load_model(config, jax_slots(config, naming_of(set(file.shapes))), file, unused=unused)
    check_head(model, str(path), headless=headless)
    return model, notes


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


def _told_size(file: NpzFile) -> tuple[int, int] | None:
    told = file.told.get("image_size")
    return (told[0], told[1]) if isinstance(told, list) and len(told) == 2 else None


def _agreed(what: str, given: T | None, told: T | None, file: NpzFile) -> T | None:
    """The user's value, else that of the file. Raises WeightsError if they differ."""
    if given is not None and told is not None and given != told:
        raise WeightsError(f"{file.path}: was written with {what} {told}, not {given}: leave {what} out")
    return given if given is not None else told


def check_head(model: Model, source: str, *, headless: bool, kernel: str = HEAD[0]) -> None:
    """Raises WeightsError when a classifier is absent or all zeros: its answers would mean nothing.

    `kernel` is the name of its weights in `source`.
    """
    if isinstance(model.config, LiTConfig) or headless:
        return
    hint = "load(..., headless=True) for features, or init_for_finetune() for a new head"
    if not model.config.classes:
        raise WeightsError(f"{source}: there is no classifier head in this file: use {hint}")
    heads = {"head.weight": kernel}
    if getattr(model.config, "distillation_token", False):
        heads["distillation_head.weight"] = "head_dist.weight"  # timm's name: only its files come here with one
    for name, foreign in heads.items():
        if not model.get_parameter(name).any():
            raise WeightsError(f"{source}: {foreign!r} is all zeros (a head that was never trained): use {hint}")


def _not_in_original(config: ModelConfig) -> str:
    """The part of a configuration that the original cannot express, or ''."""
    if isinstance(config, LiTConfig) and config.bias:
        return "the bias of a sigmoid loss"
    towers: list[Any] = [config.image, config.text] if isinstance(config, LiTConfig) else [config]
    for tower in towers:
        default_eps = 1e-12 if getattr(tower, "kind", "") == "bert" else 1e-6
        if tower.gelu != "tanh":
            return "the erf form of GELU"
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

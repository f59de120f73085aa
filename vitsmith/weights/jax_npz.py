"""Google's released `.npz` checkpoints, both ways. Source: checkpoint.py of the original."""

from __future__ import annotations

import os
from typing import Any

from vitsmith.errors import WeightsError
from vitsmith.models.build import Model, build
from vitsmith.models.config import LiTConfig, ModelConfig
from vitsmith.models.configure import change
from vitsmith.models.presets import check_name
from vitsmith.weights.fill import arrays_of, check_arrays, fill_model, require_finite_model
from vitsmith.weights.infer import infer_config
from vitsmith.weights.jax_names import jax_slots, naming_of
from vitsmith.weights.npz import NpzFile, write_npz

HEAD = ("head/kernel", "head/bias")


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
        name: the architecture it is believed to be; another one in the file is a WeightsError.
        image_size: (height, width); needed only for grids that are not square.
        pooling: 'unpooled' or 'token_unpooled', which the arrays do not tell.
        headless: leave the classifier out; the model then gives features.

    Raises WeightsError for anything missing, unexpected, misshapen or damaged, and for a head of zeros.
    """
    with NpzFile(path) as file:
        config = infer_config(file.shapes, image_size=image_size, pooling=pooling)
        if name is not None:
            check_name(config, name, str(path))
        unused: frozenset[str] = frozenset()
        if headless and not isinstance(config, LiTConfig):
            config, unused = change(config, classes=0), frozenset(HEAD)
        model = build(config, fresh=False)
        slots = jax_slots(config, naming_of(set(file.shapes)))
        check_arrays(model, slots, file, unused=unused)
        fill_model(model, slots, file)
    check_head(model, str(path), headless=headless)
    return model.eval()


def save_npz(model: Model, path: str | os.PathLike[str]) -> None:
    """Writes the original's names, layouts and shapes: the JAX code and timm's `.npz` loader read it.

    Raises WeightsError for a configuration that the original has no arrays for, NotFiniteError for weights that are
    NaN or infinite.
    """
    config = model.config
    reason = _not_in_original(config)
    if reason:
        raise WeightsError(f"the original's .npz format cannot hold {reason}; save a bundle instead")
    require_finite_model(model, "the model")
    write_npz(path, arrays_of(model, jax_slots(config)))


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
    """What of a configuration the original cannot express, or ''."""
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

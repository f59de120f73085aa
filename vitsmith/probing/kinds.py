"""What features a model can give: by which of its programs, and of which kinds."""

from __future__ import annotations

from typing import Any, Literal

from vitsmith.errors import ConfigError, InputError
from vitsmith.models.config import LiTConfig, ViTConfig
from vitsmith.weights.bundle.bundle import Bundle

Kind = Literal["pooled", "class_and_mean"]
"""'pooled' is what the model pools of its tokens, before any `representation` or `unit`; 'class_and_mean' the class
token and the mean of the patches, one behind the other, as DINOv2's linear evaluation takes them (arXiv 2304.07193,
appendix B.3)."""
FeatureChoice = Literal["auto", "pooled", "class_and_mean"]

BOTH = "token_and_gap"
"""The pooling of a model whose head reads 'class_and_mean'."""
_ENGINES_OF_TORCH = ("auto", "torch", "torch-compiled")


def tower_of(bundle: Bundle) -> Any:
    """The configuration of the model, or of its image tower."""
    return bundle.config.image if isinstance(bundle.config, LiTConfig) else bundle.config


def with_program(bundle: Bundle, engine: str) -> tuple[Bundle, bool]:
    """The bundle with the program that gives the features, and whether that is torch weights.

    Torch weights come first: only they make a classifier. A program that the user named, or that an engine asked for
    by name runs, comes before them.
    """
    named = bundle.program != "torch" and bool(bundle.stored.folder)
    weights = next((one for one in bundle.programs if one.program == "torch"), None)
    if engine in _ENGINES_OF_TORCH and not (named and engine == "auto"):
        if bundle.program == "torch":
            return bundle, True
        if weights is not None:
            return bundle.using(weights), True
    return bundle, False


def kinds_of(bundle: Bundle, features: FeatureChoice) -> tuple[Kind, ...]:
    """The kinds of features that torch weights give. Raises InputError for a model that has no feature of an image."""
    config = tower_of(bundle)
    pooling = getattr(config, "pooling", "")
    if pooling in ("unpooled", "token_unpooled"):
        raise InputError(
            f"{bundle.where} gives a feature for each patch, not one for an image, and a probe needs one: give a model "
            "with pooling token or gap (`read_as` pooling=gap reads a weights file so)"
        )
    if features == "pooled":
        return ("pooled",)
    if features == "class_and_mean":
        _check_both(bundle)
        return ("class_and_mean",)
    return ("pooled", "class_and_mean") if _is_dino(bundle) else ("pooled",)


def kinds_of_program(bundle: Bundle, features: FeatureChoice) -> tuple[Kind, ...]:
    """The kinds of features that an exported program gives. Raises InputError for more than the pooled one."""
    if features == "class_and_mean":
        raise InputError(
            f"{bundle.where}: an exported program gives the pooled feature alone; torch weights give both: "
            "give these, or leave `features` out"
        )
    return ("pooled",)


def _check_both(bundle: Bundle) -> None:
    """Raises InputError for a model whose class token and patches cannot be the input of a head."""
    config = tower_of(bundle)
    if not getattr(config, "class_token", False):
        raise InputError(f"{bundle.where} has no class token: give `features` pooled")
    try:
        config.model_validate({**config.model_dump(), "classes": 1, "representation": None, "pooling": BOTH})
    except ValueError:
        raise InputError(
            f"{bundle.where} pools by {config.pooling!r} with parts of its own, so its head cannot read class token "
            "and patches: give `features` pooled"
        ) from None


def _is_dino(bundle: Bundle) -> bool:
    """Whether it is a DINOv2 or DINOv3: a class token, LayerScale, and no classifier that it was trained with."""
    config = bundle.config
    if not isinstance(config, ViTConfig) or config.classes or config.pooling not in ("token", "gap"):
        return False
    try:
        _check_both(bundle)
    except (InputError, ConfigError):
        return False
    return config.block.layer_scale

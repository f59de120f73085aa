"""Names that a shell completes besides verbs and options; where none fits, it offers files."""

from __future__ import annotations

from collections.abc import Iterable


def engines(incomplete: str) -> list[str]:
    """Engines, and 'auto'."""
    from vitsmith.engines.registry import ENGINES

    return _beginning(incomplete, ("auto", *ENGINES))


def precisions(incomplete: str) -> list[str]:
    """Precisions that an engine may be asked for."""
    return _beginning(incomplete, ("auto", "fp32", "bf16"))


def models(incomplete: str) -> list[str]:
    """Published checkpoints; nothing for an empty word, so that the shell offers files and folders."""
    if not incomplete:
        return []
    from vitsmith.weights.published import checkpoints

    return _beginning(incomplete, (row.tag for row in checkpoints()))


def architectures(incomplete: str) -> list[str]:
    """Names of architectures."""
    from vitsmith.models.presets import presets

    return _beginning(incomplete, presets())


def recipes(incomplete: str) -> list[str]:
    """Recipes that come with vitsmith, those of `lit` too."""
    from vitsmith.training.recipe_file import recipe_names

    return _beginning(incomplete, (*recipe_names(), *recipe_names("lit")))


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]

"""The quickstart's recipe: a small ViT on scikit-learn's digits from nothing, in seconds on a laptop."""

from __future__ import annotations

from vitsmith.training.recipes.file import merge, parse_recipe, read_recipe
from vitsmith.training.recipes.recipe import TrainRecipe


def digits_recipe(seed: int = 0) -> TrainRecipe:
    """`vitsmith/recipes/digits.toml` with another seed."""
    return parse_recipe(merge(read_recipe("digits"), {"run": {"seed": seed}}))

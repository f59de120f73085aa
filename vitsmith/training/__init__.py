"""A training run: from a recipe and data to a bundle."""

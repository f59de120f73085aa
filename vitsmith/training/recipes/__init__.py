"""Recipes: everything that decides a run, as descriptions and as TOML files."""

"""Architectures: configurations, presets, and one plain file for each family."""

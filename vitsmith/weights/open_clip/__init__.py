"""Weights of open_clip."""

"""Frozen features of models, each image run once and kept, and what `vitsmith probe` makes of them."""

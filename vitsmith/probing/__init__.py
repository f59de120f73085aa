"""Frozen features of models, each image run once and kept, and the classifiers that `vitsmith probe` fits to them."""

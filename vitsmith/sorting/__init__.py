"""Sorting images and texts without labels: duplicates, and clusters with names."""

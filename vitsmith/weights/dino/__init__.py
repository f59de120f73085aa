"""Weights of DINOv2 and DINOv3 as their authors publish them."""

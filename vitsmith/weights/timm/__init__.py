"""Weights of timm."""

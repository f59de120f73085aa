"""The engines of PyTorch: eager, compiled, and in low precision on GPUs."""

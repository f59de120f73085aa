"""The engine of ExecuTorch's runtime."""

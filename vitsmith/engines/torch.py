"""Eager PyTorch on the processor, or on a GPU when there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vitsmith.weights.bundle import Bundle

Array = np.ndarray[Any, Any]


class TorchEngine:
    """Runs `bundle.model` in inference mode, in float32. The model is moved to the device it runs on."""

    name = "torch"
    precision = "float32"

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        bundle.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self._bundle = bundle

    def run(self, images: Array) -> Array:
        return self._bundle.run_torch(images)

"""Eager PyTorch on the processor, or a GPU when there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vitsmith.models.lit import LiT
from vitsmith.weights.bundle import Bundle

Array = np.ndarray[Any, Any]


class TorchEngine:
    """Runs `bundle.model` in inference mode, in float32."""

    name = "torch"
    precision = "float32"

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = bundle.model.to(self._device)
        self._forward = model.encode_image if isinstance(model, LiT) else model

    def run(self, images: Array) -> Array:
        with torch.inference_mode():
            outputs = self._forward(torch.from_numpy(images).to(self._device))
        array: Array = outputs.float().cpu().numpy()
        return array

"""Eager PyTorch on the processor, or on a GPU when there is one."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch

from vitsmith.engines.base import Precision
from vitsmith.errors import InputError
from vitsmith.models.lit import LiT
from vitsmith.weights.bundle import Bundle

Array = np.ndarray[Any, Any]


class TorchEngine:
    """Runs `bundle.model` in inference mode. The model is moved to the device it runs on; 'bf16' runs a copy of it.

    In bfloat16 weights and activations are cast, sums inside layer norms, softmax and products stay float32.
    """

    name = "torch"

    def __init__(self, bundle: Bundle, threads: int | None = None, precision: Precision = "fp32") -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.precision = {"fp32": "float32", "bf16": "bfloat16"}[precision]
        self._where = bundle.where
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = bundle.model.to(self._device)
        if precision == "bf16":
            self._model = copy.deepcopy(self._model).bfloat16()

    def run(self, images: Array) -> Array:
        model = self._model
        with torch.inference_mode():
            given = torch.from_numpy(images).to(self._device, next(model.parameters()).dtype)
            outputs = model.encode_image(given) if isinstance(model, LiT) else model(given)
        return _numpy(outputs)

    def run_texts(self, tokens: Array) -> Array:
        model = self._model
        if not isinstance(model, LiT):
            raise InputError(f"{self._where} is a model of images alone: it cannot read text; use a LiT model")
        with torch.inference_mode():
            return _numpy(model.encode_text(torch.from_numpy(tokens).to(self._device)))


def _numpy(outputs: torch.Tensor) -> Array:
    array: Array = outputs.float().cpu().numpy()
    return array

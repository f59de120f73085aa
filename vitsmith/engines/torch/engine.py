"""Eager PyTorch on the processor, or on a GPU when there is one."""

from __future__ import annotations

import copy
import os

import torch

from vitsmith.arrays import Array
from vitsmith.engines.graph_report import GraphReport, attentions
from vitsmith.engines.protocol import shown_engine
from vitsmith.engines.settings import GPU_PRECISIONS, USUAL, Settings
from vitsmith.engines.torch.low_precision import quantized_copy
from vitsmith.errors import InputError
from vitsmith.finite import require_finite_outputs
from vitsmith.layers.attention import Attention
from vitsmith.machine import bf16_dot_products
from vitsmith.models.inputs import check_images
from vitsmith.models.isolation import isolated, keep_to_quota
from vitsmith.models.lit import LiT
from vitsmith.process.forks import require_own_process, torch_threads
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.fill import require_float32


class TorchEngine:
    """Runs `bundle.model` in inference mode. The model is moved to the device it runs on; 'bf16' runs a copy of it.

    In bfloat16 weights and activations are cast, sums inside layer norms, softmax and products stay float32. On a GPU
    'int8-weights' and 'fp8' run a copy in bfloat16 whose blocks are quantised: see `low_precision.py`.
    """

    name = "torch"

    def __init__(self, bundle: Bundle, settings: Settings = USUAL) -> None:
        if settings.threads is None:
            keep_to_quota()
        else:
            torch.set_num_threads(torch_threads(settings.threads))
        self.precision = {"fp32": "float32", "bf16": "bfloat16"}.get(settings.precision, settings.precision)
        self.why = ""
        self._where, self._size, self._process = bundle.where, bundle.preprocessing.size, os.getpid()
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self._device.type == "cuda" and torch.cuda._is_in_bad_fork():
            require_own_process(os.getppid(), "the GPU")
        require_float32(bundle.model, bundle.where)
        self._model = bundle.model.to(self._device)
        if settings.precision != "fp32":
            self._model = copy.deepcopy(self._model).bfloat16()
        if settings.precision in GPU_PRECISIONS:
            self._model = quantized_copy(self._model, settings.precision)

    @property
    def gpu(self) -> str:
        """The name of the GPU that it runs on; '' on the processor."""
        return torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else ""

    @property
    def _survives_forks(self) -> bool:
        """Whether a forked child may use it (on one core: see `forks`)."""
        return self._device.type == "cpu"

    def _check_process(self) -> None:
        if not self._survives_forks:
            require_own_process(self._process, self._where)

    def __repr__(self) -> str:
        return shown_engine(self.name, self.precision, self._where, self.why)

    def run(self, images: Array) -> Array:
        self._check_process()
        check_images(images, self._size)
        with isolated(inference=True):
            given = torch.from_numpy(images).to(self._device, next(self._model.parameters()).dtype)
            return require_finite_outputs(_numpy(self._images(given)), images, self._where)

    def run_tokens(self, images: Array) -> Array:
        """The same images -> float32 (batch, tokens, width): `features` of the model, or of its image tower."""
        self._check_process()
        check_images(images, self._size)
        tower = self._model.image if isinstance(self._model, LiT) else self._model
        with isolated(inference=True):
            given = torch.from_numpy(images).to(self._device, next(tower.parameters()).dtype)
            return require_finite_outputs(_numpy(tower.features(given).tokens), images, self._where)

    def run_pixels(self, pixels: Array) -> Array:
        raise InputError(f"{self._where} holds torch weights, which take normalised images: export with `pixels`")

    def run_texts(self, tokens: Array) -> Array:
        if not isinstance(self._model, LiT):
            raise InputError(f"{self._where} is a model of images alone: it cannot read text; use CLIP, SigLIP or LiT")
        self._check_process()
        with isolated(inference=True):
            answers = _numpy(self._texts(torch.from_numpy(tokens).to(self._device)))
        return require_finite_outputs(answers, tokens, self._where, what="text")

    def report(self) -> GraphReport:
        """The report. PyTorch does not distinguish optimised kernels; the innermost modules count as nodes."""
        model = self._model.image if isinstance(self._model, LiT) else self._model
        leaves = sum(1 for module in model.modules() if next(module.children(), None) is None)
        layers = [module for module in model.modules() if isinstance(module, Attention)]
        remarks = []
        if self.precision == "bfloat16" and self._device.type == "cpu" and bf16_dot_products() is False:
            remarks.append("this processor has no bfloat16 products: float32 is faster")
        explicit = sum(layer.explicit for layer in layers)
        if explicit:
            remarks.append(f"{explicit} attentions compute their weights (explicit=True) and are not fused")
        return GraphReport(
            engine=self.name,
            nodes=leaves,
            delegated_nodes=None,
            delegated_flops=None,
            attention=(len(layers) - explicit, attentions(model.config)),
            precision={{"float32": "fp32", "bfloat16": "bf16"}.get(self.precision, self.precision): 1.0},
            remarks=tuple(remarks),
        )

    def _images(self, images: torch.Tensor) -> torch.Tensor:
        return self._model.encode_image(images) if isinstance(self._model, LiT) else self._model(images)

    def _texts(self, tokens: torch.Tensor) -> torch.Tensor:
        assert isinstance(self._model, LiT)
        return self._model.encode_text(tokens)


def _numpy(outputs: torch.Tensor) -> Array:
    array: Array = outputs.float().cpu().numpy()
    return array

"""PyTorch through torch.compile: kernels are made for this model at every start, which takes a while."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable

import torch

from vitsmith.engines.settings import USUAL, Settings
from vitsmith.engines.torch.engine import TorchEngine
from vitsmith.errors import InputError
from vitsmith.models.lit import LiT
from vitsmith.weights.bundle.bundle import Bundle


class CompiledTorchEngine(TorchEngine):
    """As `TorchEngine`, compiled: once for single images, and once for batches of any other size.

    `engine="auto"` leaves it out: every process compiles anew (for a ViT-Ti/16 85 s, and 39 s more for single images,
    on two busy cores of an AMD EPYC). Raises InputError where there is no C++ compiler.
    """

    name = "torch-compiled"

    def __init__(self, bundle: Bundle, settings: Settings = USUAL) -> None:
        _require_compiler()
        super().__init__(bundle, settings)
        model = self._model
        self._run_images = _compiled(model.encode_image if isinstance(model, LiT) else model)
        self._run_texts = _compiled(model.encode_text) if isinstance(model, LiT) else None

    @property
    def _survives_forks(self) -> bool:
        return False  # its kernels start as many threads as there were when they were compiled

    def _images(self, images: torch.Tensor) -> torch.Tensor:
        return _with_any_batch(self._run_images, images)

    def _texts(self, tokens: torch.Tensor) -> torch.Tensor:
        assert self._run_texts is not None
        return _with_any_batch(self._run_texts, tokens)


def _compiled(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    # Each engine compiles for itself: torch counts how often one function was compiled and gives up after a few.
    compiled: Callable[[torch.Tensor], torch.Tensor] = torch.compile(function)
    return compiled


def _with_any_batch(run: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
    """Compiles for a batch of one, and for all others together: torch takes 0 and 1 for constants in any case."""
    if len(batch) == 0:
        return run(batch.new_zeros((1, *batch.shape[1:])))[:0]
    if len(batch) > 1:
        torch._dynamo.maybe_mark_dynamic(batch, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on GPUs and deprecations inside the compiler
        return run(batch)


def _require_compiler() -> None:
    """Raises InputError without a C++ compiler: torch itself would fail later, with a hundred lines."""
    if torch.cuda.is_available():
        return
    named = os.environ.get("CXX")
    wanted = [named] if named else ["g++", "clang++", "c++"]
    if not any(shutil.which(name) for name in wanted):
        raise InputError(
            f"torch-compiled needs a C++ compiler, and {' or '.join(wanted)} is not installed: install one "
            "(apt-get install g++), or use engine 'torch'"
        )

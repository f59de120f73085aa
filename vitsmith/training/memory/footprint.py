"""Traces the memory of an update, moment by moment, by running it on tensors that have shapes but no memory.

The update is that of `training/step.py`, run under torch's FakeTensorMode. A ledger records every array that is made
and freed, so this module needs to know nothing about the model, the optimizer or the precision. Memory that a kernel
takes and frees before it returns is not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vitsmith.data.batches.loader import Batch
from vitsmith.models.build import ImageModel, build
from vitsmith.models.config import ModelConfig
from vitsmith.training.devices import Devices
from vitsmith.training.learner import Learner
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.training.step import apply_gradients, compute_gradients
from vitsmith.training.update.losses import classification_loss

_BATCHES = (2, 4)  # a batch of 1 would have other strides, and mixup needs pairs


@dataclass(frozen=True)
class Footprint:
    """Bytes of one update on one device that holds everything. Linear in the micro-batch at every moment."""

    weights: int
    gradients: int
    optimizer: int
    mean: int
    block: int
    """Bytes of the weights of one block, approximately."""
    fixed: NDArray[np.float64]
    """(moments,) bytes of the gradients, activations and temporary arrays that do not grow with the micro-batch."""
    per_image: NDArray[np.float64]
    """(moments,) bytes that each image adds to them."""
    single: NDArray[np.bool_]
    """(moments,) whether an update of a single micro-batch has the moment too; others need earlier gradients."""
    kept: tuple[float, float]
    """Bytes that the forward pass keeps for the backward pass: the fixed part, and the part for each image."""

    def peak(self, micro: int, *, accumulate: int) -> int:
        """The highest moment: gradients, activations and temporary arrays together."""
        moments = self.fixed + micro * self.per_image
        return round(float(moments.max() if accumulate > 1 else moments[self.single].max()))

    def activations(self, micro: int) -> int:
        """Bytes kept for the backward pass."""
        return round(self.kept[0] + micro * self.kept[1])


def trace_update(config: ModelConfig, recipe: TrainRecipe, *, checkpointing: bool) -> Footprint:
    """The footprint of the recipe's update; needs neither the model's memory nor its device. Takes about a second."""
    run = recipe.run.model_copy(update={"compile": False, "parallel": "ddp"})
    plain = recipe.model_copy(update={"run": run, "distill": None})
    (small, facts), (large, _) = (_trace(config, plain, batch, checkpointing) for batch in _BATCHES)
    if len(small.moments) != len(large.moments):
        raise AssertionError("an update's steps depend on the size of its micro-batch")
    first, second = np.array(small.moments, float), np.array(large.moments, float)
    more = _BATCHES[1] - _BATCHES[0]
    per_image, kept = (second - first) / more, (large.kept - small.kept) / more
    return Footprint(
        **facts,
        fixed=first - _BATCHES[0] * per_image,
        per_image=per_image,
        single=np.array(small.slices) % 2 == 1,
        kept=(small.kept - _BATCHES[0] * kept, kept),
    )


def _trace(config: ModelConfig, recipe: TrainRecipe, batch: int, checkpointing: bool) -> tuple[_Ledger, dict[str, int]]:
    model = build(config, device="meta")
    assert isinstance(model, ImageModel)
    devices = Devices(torch.device("cpu"))
    with torch.random.fork_rng(devices=[]), FakeTensorMode():
        _take_shape(model)
        ledger = _Ledger()

        def loss(output: Tensor, part: Batch) -> Tensor:
            ledger.kept = ledger.kept or ledger.live
            return classification_loss(output, part)

        model.to = lambda *_: model  # type: ignore[assignment,method-assign]  # it is there, and cannot be moved
        learner = Learner.of(model, recipe, loss, devices, checkpointing=checkpointing)
        for parameter in learner.parameters:
            parameter.grad = torch.zeros_like(parameter)
        apply_gradients(learner, recipe, 0)  # the first update makes the optimizer's arrays
        states = [value for state in learner.optimizer.state.values() for value in state.values()]
        means = [] if learner.ema is None else [*learner.ema.state_dict().values()]
        facts = {
            "weights": _bytes(model.parameters()),
            "gradients": _bytes(learner.parameters),
            "optimizer": _bytes(states),
            "mean": _bytes(means),
            "block": _bytes(model.blocks[-1].parameters()),
        }
        slices = [_images(config, batch) for _ in range(2)]
        ledger.ignore([*model.parameters(), *model.buffers(), *states, *means, *(t for one in slices for t in one)])
        model.register_forward_pre_hook(ledger.next_slice)
        with ledger:
            compute_gradients(learner, slices, recipe, 1, devices)
            ledger.slices_done = True
            apply_gradients(learner, recipe, 1)
    return ledger, facts


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all arrays that are alive, each storage once, after every operation."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.kept = 0
        self.moments: list[int] = []
        self.slices: list[int] = []
        self.slices_done = False
        self._slice = 1
        self._begun = 0
        self._sizes: dict[int, int] = {}

    def ignore(self, tensors: Iterable[Any]) -> None:
        """Excludes tensors that are counted elsewhere."""
        for tensor in tensors:
            if isinstance(tensor, Tensor):
                self._sizes[tensor.untyped_storage()._cdata] = 0

    def next_slice(self, *_: Any) -> None:
        self._begun += 1
        self._slice = self._begun

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        before = self.live
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self._sizes:
                    self._sizes[key] = storage.nbytes()
                    self.live += storage.nbytes()
                    weakref.finalize(storage, self._free, key)
        if self.live > before:
            self.moments.append(self.live)
            self.slices.append(1 if self.slices_done else self._slice)
        return result

    def _free(self, key: int) -> None:
        self.live -= self._sizes.pop(key)


def _take_shape(model: nn.Module) -> None:
    """Replaces parameters on 'meta' by parameters on the CPU without memory: autocast depends on the device."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(torch.empty(parameter.shape))


def _images(config: ModelConfig, batch: int) -> Batch:
    return Batch(torch.empty(batch, 3, *config.image_size), torch.zeros(batch, dtype=torch.int64))


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.nbytes for tensor in tensors if isinstance(tensor, Tensor))

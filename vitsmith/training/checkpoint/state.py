"""The state that changes from update to update in any training, how it is saved and how it is restored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from vitsmith.errors import InputError
from vitsmith.training.update.ema import Ema
from vitsmith.training.update.optimizer import MomentumSGD


@dataclass(eq=False)
class TrainingState:
    """Weights in training with their optimizer."""

    model: nn.Module
    """The weights; their arrays are in shards when the recipe says so."""
    optimizer: torch.optim.Optimizer
    ema: Ema | None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters that are trained."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def averaged(self) -> AbstractContextManager[None]:
        """Within the context the model has its running mean, if there is one, in place of its weights."""
        return nullcontext() if self.ema is None else self.ema.swapped()

    def state(self, *, keep: bool = True) -> dict[str, Tensor]:
        """Copies of all tensors, whole and on the CPU, by name; nothing without `keep`.

        With several processes all of them must call it: shards come together one tensor at a time.
        """
        tensors: dict[str, Tensor] = {}
        for name, tensor in self._tensors():
            whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if keep:
                tensors[name] = whole.detach().to("cpu", copy=True).contiguous()
        return tensors

    @property
    def bytes(self) -> int:
        """Bytes of all that `state` copies, once the optimizer has made an update."""
        return sum(tensor.nbytes for _, tensor in self._tensors())

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Sets everything to what `state` gave, whatever the number of processes was.

        Raises InputError, and changes nothing, when an array is missing, misshapen or one too many.
        """
        self._check(tensors)
        weights = self.model.state_dict()
        for name, tensor in weights.items():
            _fill(tensor, tensors[f"model.{name}"])
        if isinstance(self.model, FSDPModule):
            self.model.reshard()  # forget what was gathered from the weights before
        for name, parameter in self._named():
            prefix = f"optimizer.{name}."
            saved = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            self.optimizer.state[parameter] = {key: _like(parameter, value) for key, value in saved.items()}
        if self.ema is not None:
            own = self.ema.state_dict()
            for name, tensor in own.items():
                _fill(tensor, tensors[f"ema.{name}"])
            self.ema.load_state_dict(own)

    def _check(self, tensors: dict[str, Tensor]) -> None:
        """Raises InputError: a missing array would silently change nothing, a misshapen one might be broadcast."""
        expected = {f"model.{name}": tuple(tensor.shape) for name, tensor in self.model.state_dict().items()}
        if self.ema is not None:
            expected |= {f"ema.{name}": tuple(tensor.shape) for name, tensor in self.ema.state_dict().items()}
        numbers = set()
        kept = ("velocity",) if isinstance(self.optimizer, MomentumSGD) else ("exp_avg", "exp_avg_sq")
        for name, parameter in self._named():
            expected |= {f"optimizer.{name}.{key}": tuple(parameter.shape) for key in kept}
            if not isinstance(self.optimizer, MomentumSGD):
                numbers.add(f"optimizer.{name}.step")
        missing = sorted((set(expected) | numbers) - set(tensors))
        extra = sorted(set(tensors) - set(expected) - numbers)
        wrong = [name for name, shape in expected.items() if name in tensors and tuple(tensors[name].shape) != shape]
        told = [
            f"{len(names)} {what}, the first is {names[0]!r}"
            for names, what in ((missing, "missing"), (extra, "unexpected"), (wrong, "of another shape"))
            if names
        ]
        if told:
            raise InputError(f"the arrays of the checkpoint are not those of this run ({'; '.join(told)}): start anew")

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self.model.state_dict().items():
            yield f"model.{name}", tensor
        for name, state in self._optimizer_states():
            for key, value in state.items():
                yield f"optimizer.{name}.{key}", torch.as_tensor(value)
        if self.ema is not None:
            for name, tensor in self.ema.state_dict().items():
                yield f"ema.{name}", tensor

    def _named(self) -> Iterator[tuple[str, nn.Parameter]]:
        for group in self.optimizer.param_groups:
            yield from zip(group["names"], group["params"], strict=True)

    def _optimizer_states(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for name, parameter in self._named():
            if parameter in self.optimizer.state:
                yield name, self.optimizer.state[parameter]


def _fill(target: Tensor, whole: Tensor) -> None:
    target.detach().copy_(_like(target, whole))


def _like(target: Tensor, whole: Tensor) -> Tensor:
    """`whole` on the device of `target` and sharded like it; a number, such as a count of updates, is only copied."""
    if whole.ndim == 0 and target.ndim > 0:
        return whole.to(target.device, copy=True)
    if isinstance(target, DTensor):
        return distribute_tensor(whole.to(target.device), target.device_mesh, target.placements)
    return whole.to(target.device, copy=True)

"""A model in training, with everything that changes from update to update, and how it is saved and set back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils.checkpoint import checkpoint

from vitsmith.layers.block import Block
from vitsmith.models.build import ImageModel, build
from vitsmith.models.mixer import MixerBlock
from vitsmith.train.devices import Devices, is_sharded, replicate, shard
from vitsmith.train.ema import Ema
from vitsmith.train.groups import freeze_parameters, parameter_groups
from vitsmith.train.losses import Loss
from vitsmith.train.optimizer import make_optimizer
from vitsmith.train.precision import Precision
from vitsmith.train.recipe import TrainRecipe


@dataclass(eq=False)
class Learner:
    """What an update works on."""

    model: ImageModel
    """The weights; their arrays are in shards when the recipe says so."""
    forward: nn.Module
    """The model, or what makes one model of the copies in all processes."""
    precision: Precision
    """What `computing_in` is asked for."""
    optimizer: torch.optim.Optimizer
    loss: Loss
    ema: Ema | None

    @classmethod
    def of(
        cls, model: ImageModel, recipe: TrainRecipe, loss: Loss, devices: Devices, *, checkpointing: bool
    ) -> Learner:
        """Puts the model on its device, in training mode, and wraps it as the recipe says."""
        model.to(devices.device).train()
        if checkpointing:
            recompute_blocks(model)
        if recipe.run.compile:
            model.compile()
        freeze_parameters(model, recipe.model.freeze)
        forward: nn.Module = model
        precision = recipe.run.precision
        if is_sharded(recipe, devices):
            shard(model, devices, bf16=precision == "bf16")
            precision = "fp32"  # shards are cast as they are brought together
        elif devices.count > 1:
            forward = replicate(model, devices)
        groups = parameter_groups(model, recipe.optimizer)
        optimizer = make_optimizer(groups, recipe.optimizer)
        ema = Ema(model, recipe.optimizer.ema) if recipe.optimizer.ema else None
        return cls(model, forward, precision, optimizer, loss, ema)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those that are trained."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

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

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Sets everything to what `state` gave, whatever the number of processes was."""
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

    def whole_model(self) -> ImageModel:
        """The trained weights in a model of its own on the CPU, in eval mode, whether they lie in shards or not."""
        whole = build(self.model.config, fresh=False)
        assert isinstance(whole, ImageModel)
        weights = {name: _whole(tensor).cpu() for name, tensor in self.model.state_dict().items()}
        whole.load_state_dict(weights)
        return whole.eval()

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


def recompute_blocks(model: nn.Module) -> None:
    """Blocks forget their activations and compute them again for the backward pass (arXiv 1604.06174)."""
    for module in model.modules():
        if isinstance(module, Block | MixerBlock):
            module.forward = partial(checkpoint, module.forward, use_reentrant=False)  # type: ignore[method-assign]


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _fill(target: Tensor, whole: Tensor) -> None:
    target.detach().copy_(_like(target, whole))


def _like(target: Tensor, whole: Tensor) -> Tensor:
    """`whole` where and as `target` is; a number, such as a count of updates, stays as it is."""
    if whole.ndim == 0 and target.ndim > 0:
        return whole.to(target.device, copy=True)
    if isinstance(target, DTensor):
        return distribute_tensor(whole.to(target.device), target.device_mesh, target.placements)
    return whole.to(target.device, copy=True)

"""SGD with momentum, step for step as the original's, AdamW, and clipping; over whole weights or shards of them.

The original is optax.chain(clip_by_global_norm, sgd(..., accumulator_dtype)). Weights in shards are FSDP2's DTensors:
elementwise operations run on the part that a process holds, and norms are those of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:  # pydantic and the recipe's other layers are not needed to make an update
    from vitsmith.training.recipes.recipe import OptimizerSpec

_FUSED_DEVICES = frozenset({"cpu", "cuda", "mps", "xpu"})
"""Where torch has fused AdamW (torch.utils._foreach_utils). On a CPU it took 0.02 s where 'foreach' took 0.12 s."""


class MomentumSGD(torch.optim.Optimizer):
    """velocity = gradient + momentum * velocity; parameter = parameter - lr * (velocity + weight_decay * parameter).

    `velocity_dtype` is the type of the velocity between updates: bfloat16 halves its memory. As in optax's `trace`, the
    update itself uses the float32 sum from before it is rounded, while `momentum * velocity` is a product of two
    numbers of `velocity_dtype`: in bfloat16 a momentum of 0.9 is 0.8984375.

    The weight decay is decoupled (arXiv 1711.05101) and in torch's units, a share of the learning rate, as AdamW's.
    big_vision's `wd` (optax.py: add_decayed_weights after the learning rate, then the schedule) is a share of the
    schedule alone: set `weight_decay = wd / lr` here.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float = 0.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        velocity_dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.velocity_dtype = velocity_dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update from the gradients; each group's `lr` is read anew."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moving = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not moving:
                continue
            parameters = local_shards(moving)
            gradients = local_shards([parameter.grad for parameter in moving])
            velocities = local_shards([self._velocity(parameter) for parameter in moving])
            momentum = torch.tensor(group["momentum"], dtype=self.velocity_dtype).item()
            carried = torch._foreach_mul(velocities, momentum)
            moved = torch._foreach_add(gradients, carried)
            if group["weight_decay"]:
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, moved, alpha=-group["lr"])
            torch._foreach_copy_(velocities, moved)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads as any optimizer does, but the velocities keep their type: torch would cast them to the parameter's."""
        super().load_state_dict(state_dict)
        for state in self.state.values():
            state["velocity"] = state["velocity"].to(self.velocity_dtype)

    def _velocity(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(parameter, dtype=self.velocity_dtype)
        velocity: Tensor = state["velocity"]
        return velocity


def make_optimizer(groups: Sequence[dict[str, Any]], optimizer: OptimizerSpec) -> torch.optim.Optimizer:
    """The optimizer of a recipe over the groups of `parameter_groups`.

    Every group has `lr` from the start: the highest rate times its `lr_scale`. A schedule sets it before each update.
    """
    groups = [{**group, "lr": optimizer.lr * group.get("lr_scale", 1.0)} for group in groups]
    if optimizer.name == "sgd":
        dtype = {"bfloat16": torch.bfloat16, "float32": torch.float32}[optimizer.momentum_dtype]
        return MomentumSGD(groups, lr=optimizer.lr, momentum=optimizer.momentum, velocity_dtype=dtype)
    kinds = {parameter.device.type for group in groups for parameter in group["params"]}
    return torch.optim.AdamW(
        groups, lr=optimizer.lr, betas=optimizer.betas, eps=optimizer.eps, fused=kinds <= _FUSED_DEVICES
    )


@torch.no_grad()
def clip_by_global_norm(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scales all gradients to a global norm of `max_norm` if theirs is larger; returns the norm before scaling.

    A `max_norm` of 0 only measures. As optax, and unlike torch's `clip_grad_norm_`, without an epsilon in the
    division. Never waits for the device.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = joint_norm(gradients)
    if max_norm:
        torch._foreach_div_(local_shards(gradients), torch.clamp(norm / max_norm, min=1.0))
    return norm


def joint_norm(tensors: Sequence[Tensor]) -> Tensor:
    """The norm of all tensors as one vector, shape (). For shards it is the whole's, the same in every process."""
    return _whole(torch.linalg.vector_norm(torch.stack(torch._foreach_norm([*tensors]))))


def joint_product(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """The inner product of two lists of tensors, each as one vector, shape (). For shards it is the whole's."""
    return _whole(torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum())


def local_shards(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The part of each tensor that this process holds, sharing its memory: all of a tensor that is no DTensor."""
    # Asked by its method: importing torch.distributed fails where torch is built without it.
    return [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor

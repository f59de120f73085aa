"""SGD with momentum, step for step as the original: optax.chain(clip_by_global_norm, sgd(..., accumulator_dtype))."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class MomentumSGD(torch.optim.Optimizer):
    """velocity = gradient + momentum * velocity; parameter = parameter - lr * velocity.

    `velocity_dtype` is how the velocity is kept between updates: bfloat16 halves its memory. As in optax's `trace`, the
    update itself uses the float32 sum from before it is rounded, while `momentum * velocity` is a product of two
    numbers of `velocity_dtype`: in bfloat16 a momentum of 0.9 is 0.8984375.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float = 0.0,
        momentum: float = 0.9,
        velocity_dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        self.velocity_dtype = velocity_dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update from the gradients; each group's `lr` is read anew."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            velocities = [self._velocity(parameter) for parameter in parameters]
            momentum = torch.tensor(group["momentum"], dtype=self.velocity_dtype).item()
            carried = torch._foreach_mul(velocities, momentum)
            moved = torch._foreach_add([parameter.grad for parameter in parameters], carried)
            torch._foreach_add_(parameters, moved, alpha=-group["lr"])
            torch._foreach_copy_(velocities, moved)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As every optimizer's, but the velocities keep their type: torch casts them to the parameter's."""
        super().load_state_dict(state_dict)
        for state in self.state.values():
            state["velocity"] = state["velocity"].to(self.velocity_dtype)

    def _velocity(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "velocity" not in state:
            state["velocity"] = torch.zeros_like(parameter, dtype=self.velocity_dtype)
        velocity: Tensor = state["velocity"]
        return velocity


@torch.no_grad()
def clip_by_global_norm(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scales all gradients to a joint length of `max_norm` when they are longer; returns the length from before.

    As optax, and unlike torch's `clip_grad_norm_`, without an epsilon in the division. Never waits for the device.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_div_(gradients, torch.clamp(norm / max_norm, min=1.0))
    return norm

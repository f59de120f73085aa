"""A running mean of the weights, which is often better than the weights of any one moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vitsmith.training.update.optimizer import local_shards


class Ema:
    """mean = decay * mean + (1 - decay) * weights after each update, in float32, over parameters and float buffers.

    Early on the decay is lower, (1 + updates) / (10 + updates), so that the fresh weights are soon forgotten. Source:
    `num_updates` of TensorFlow's tf.train.ExponentialMovingAverage.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = model
        self.decay = decay
        self.updates = 0
        _gather_anew(model)  # else a name may mean a gathered copy instead of the shard that is trained
        named = [*model.named_parameters(), *model.named_buffers()]
        self._weights = {name: tensor.detach() for name, tensor in named if tensor.is_floating_point()}
        self._means = {
            name: tensor.to(torch.float32, copy=True, memory_format=torch.preserve_format)
            for name, tensor in self._weights.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the weights as they are now. Call it once after each update of the optimizer."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        weights = [weight.float() for weight in local_shards([*self._weights.values()])]
        torch._foreach_lerp_(local_shards([*self._means.values()]), weights, 1 - decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Gives the model the mean within the context, and exactly its own weights again afterwards."""
        weights = local_shards([*self._weights.values()])
        copies = [weight.clone() for weight in weights]
        self.keep()
        try:
            yield
        finally:
            self._write(copies)

    def keep(self) -> None:
        """Puts the mean into the model for good."""
        self._write(local_shards([*self._means.values()]))

    def state_dict(self) -> dict[str, Tensor]:
        """Returns `updates`, and the mean of each weight under 'mean.<name>'. They are not copies."""
        updates = torch.tensor(self.updates)
        return {"updates": updates} | {f"mean.{name}": mean for name, mean in self._means.items()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state_dict` returned. Raises KeyError when the names are not the model's."""
        expected = {"updates", *(f"mean.{name}" for name in self._means)}
        if expected != set(state):
            raise KeyError(f"a running mean of other weights: {sorted(expected ^ set(state))[:4]}")
        self.updates = int(state["updates"])
        for name, mean in self._means.items():
            mean.copy_(state[f"mean.{name}"])

    @torch.no_grad()
    def _write(self, values: list[Tensor]) -> None:
        torch._foreach_copy_(local_shards([*self._weights.values()]), values)
        _gather_anew(self.model)


def _gather_anew(model: nn.Module) -> None:
    """Makes FSDP2 forget gathered weights: after an evaluation it keeps the root's, and would go on with the old ones.

    (`reshard_after_forward` is False for the root by default, and only a backward pass frees what it gathered.)
    """
    for module in model.modules():
        reshard = getattr(module, "reshard", None)  # FSDPModule's
        if callable(reshard):
            reshard()

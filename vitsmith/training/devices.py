"""The processes and devices of a run: one, or as many as `torchrun` or `accelerate launch` started.

accelerate reads the launcher's environment and connects the processes; DDP and FSDP2 are torch's own, because
accelerate 1.15 shards on accelerators only and silently ignores the request on CPUs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from vitsmith.errors import ConfigError, DatasetError
from vitsmith.layers.block import Block
from vitsmith.models.isolation import keep_to_quota
from vitsmith.models.mixer import MixerBlock
from vitsmith.training.recipes.recipe import TrainRecipe

T = TypeVar("T")

_NAMED = 4  # shortest useful part of a fingerprint that is shown


@dataclass(frozen=True)
class Devices:
    """One process's place among all of them. The process with `index` 0 writes files and prints."""

    device: torch.device
    index: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        return self.index == 0

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over all processes."""
        return self._reduce(value, divide=True)

    def rows(self, value: Tensor) -> Tensor:
        """Concatenates the rows of all processes, in order; all must give as many. No gradient flows through it."""
        value = value.detach()
        if self.count == 1:
            return value
        gathered = [torch.empty_like(value) for _ in range(self.count)]
        torch.distributed.all_gather(gathered, value.contiguous())
        return torch.cat(gathered)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.count == 1:
            return flag
        return bool(self._reduce(torch.tensor(float(flag), device=self.device), divide=False) > 0)

    def gather(self, value: T) -> list[T]:
        """Returns the values of all processes, in order, in every process."""
        if self.count == 1:
            return [value]
        gathered: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(gathered, value)
        return gathered

    def wait(self) -> None:
        """Waits until every process has called it."""
        if self.count > 1:
            torch.distributed.barrier()

    def _reduce(self, value: Tensor, *, divide: bool) -> Tensor:
        if self.count == 1:
            return value
        total = value.detach().clone()
        torch.distributed.all_reduce(total)
        return total / self.count if divide else total


def find_devices() -> Devices:
    """This process's device and place, as the launcher's environment says; one process when there is no launcher.

    A CUDA GPU is taken when torch sees one, unless ACCELERATE_USE_CPU=true.
    """
    cpu = not torch.cuda.is_available() or os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1")
    if "LOCAL_RANK" not in os.environ:
        keep_to_quota()
        return Devices(torch.device("cpu" if cpu else "cuda"))
    from accelerate import PartialState

    state = PartialState(cpu=cpu)
    # accelerate calls a process's CPU 'cpu:0', which is the same device as 'cpu'.
    return Devices(torch.device("cpu") if cpu else state.device, state.process_index, state.num_processes)


def leave_devices() -> None:
    """Closes the connection to the other processes, if there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def found_devices() -> Iterator[Devices]:
    """This process among all of them, as `find_devices`; the connection is closed at the end."""
    try:
        yield find_devices()
    finally:
        leave_devices()


def is_sharded(recipe: TrainRecipe, devices: Devices) -> bool:
    """Whether the weights are spread over the devices: the recipe says so, or `accelerate launch --use_fsdp`."""
    if recipe.run.parallel == "auto":
        return devices.count > 1 and os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1")
    return devices.count > 1 and recipe.run.parallel == "fsdp"


def shard(model: nn.Module, devices: Devices, *, bf16: bool) -> None:
    """Applies FSDP2 in place: each block's weights lie in equal parts on all devices, and are gathered when it runs."""
    mesh = init_device_mesh(devices.device.type, (devices.count,))
    compute = torch.bfloat16 if bf16 else None
    inner = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32)
    outer = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32, output_dtype=torch.float32)
    for module in model.modules():
        if isinstance(module, Block | MixerBlock):
            fully_shard(module, mesh=mesh, mp_policy=inner)
    fully_shard(model, mesh=mesh, mp_policy=outer)


def replicate(model: nn.Module, devices: Devices) -> nn.Module:
    """DDP: every device has the whole model; gradients are averaged while they are computed."""
    return DistributedDataParallel(model, device_ids=[devices.device] if devices.device.type == "cuda" else None)


@contextmanager
def synchronising(forward: nn.Module, last: bool) -> Iterator[None]:
    """Exchanges gradients between processes in the last slice of a batch only; until then each process adds its own."""
    if isinstance(forward, DistributedDataParallel) and not last:
        with forward.no_sync():
            yield
        return
    if isinstance(forward, FSDPModule):
        forward.set_requires_gradient_sync(last)
    yield


def check_batch(recipe: TrainRecipe, devices: Devices) -> None:
    """Raises ConfigError when the global batch cannot be shared out evenly."""
    size, micro = recipe.batch.size, recipe.batch.micro
    check_even(size, devices)
    if recipe.augment.mixup_alpha and size // devices.count % 2:
        raise ConfigError(f"mixup mixes pairs: set batch.size to a multiple of {2 * devices.count}")
    if micro and size // devices.count % micro:
        raise ConfigError(
            f"the {size // devices.count} images of each of {devices.count} processes are no multiple of "
            f"batch.micro = {micro}: change batch.size or batch.micro"
        )


def check_even(size: int, devices: Devices) -> None:
    """Raises ConfigError when a batch of `size` images cannot be shared out evenly."""
    if size % devices.count:
        raise ConfigError(
            f"a batch of {size} images cannot be shared out over {devices.count} processes: set batch.size to a "
            f"multiple of {devices.count}"
        )


def check_same_data(fingerprint: str, devices: Devices) -> None:
    """Raises DatasetError, in every process, when they do not all see the same names, classes and labels."""
    seen = devices.gather(fingerprint)
    if len(set(seen)) > 1:
        other = next(index for index, one in enumerate(seen) if one != seen[0])
        raise DatasetError(
            f"processes 0 and {other} see different data ({seen[0][: 2 * _NAMED]} and {seen[other][: 2 * _NAMED]}): "
            "give every machine the same files under the same names"
        )

"""Chooses a micro-batch that fits: predicts peak memory before the first step, and gives the reason of the choice.

Nearly all of the prediction is exact: `footprint.py` runs the update without memory. Added to it are the process as
it is, libraries that are loaded on first use, and holes that the allocator leaves (benchmarks/training_memory.py).
"""

from __future__ import annotations

import ctypes
import platform
from dataclasses import dataclass

import torch

from vitsmith.errors import InputError
from vitsmith.machine import free_memory, resident_memory
from vitsmith.models.config import ModelConfig
from vitsmith.training.memory.footprint import Footprint, trace_update
from vitsmith.training.recipes.recipe import TrainRecipe

MIB, GIB = 2**20, 2**30

ENOUGH_ON_CPU = 32
"""Images at once that keep a processor busy; larger micro-batches only take more memory."""

_BUSY = 8
"""Images at once below which checkpointing, a third more arithmetic, is preferred to a smaller micro-batch."""

_FIRST_USE = {"cpu": 85 * MIB, "cuda": 96 * MIB}
"""CPU: pages of torch, MKL and oneDNN that a first step touches, measured in benchmarks/training_memory.py. CUDA:
cuBLAS's workspaces of 32 MiB on Hopper, one for each of two threads and cuBLASLt's (torch's CUDA semantics notes)."""

_BATCHES_IN_MEMORY = 4  # data/batches/loader.py: two ahead, one just being begun, one in use
_RESERVE = 0.1  # share of memory for the rest of the machine; on a GPU for holes between cached blocks
_M_MMAP_THRESHOLD = -3  # malloc.h
_COMPACT_FROM = MIB
_HOLES = 0.5
"""Holes in glibc's heap, as a share of what an update takes: the most that was measured (glibc 2.36, ViT-Ti/16,
micro-batch 32, without checkpointing; benchmarks/results/training_memory*). None after `give_back_freed_memory`."""

_compact: list[bool] = [False]  # whether this process's malloc returns freed arrays at once

Parts = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class MemoryPlan:
    """How each device computes its share of a batch, and how much memory that takes."""

    micro: int
    """Images at once on one device."""
    accumulate: int
    """Micro-batches on each device for one update."""
    checkpointing: bool
    predicted: int
    """Peak bytes of the whole process, on one device."""
    available: int
    parts: Parts
    """Names and bytes of the parts of `predicted`."""
    reason: str
    """One line for people."""


def plan_memory(
    config: ModelConfig,
    recipe: TrainRecipe,
    *,
    devices: int = 1,
    sharded: bool = False,
    device: torch.device,
    available: int | None = None,
    built: bool = True,
) -> MemoryPlan:
    """Chooses micro-batch, accumulation and checkpointing so that the recipe's global batch fits on each device.

    `batch.micro` and `batch.checkpointing` of the recipe are kept. Else the largest micro-batch without checkpointing
    is taken, on a CPU of at most ENOUGH_ON_CPU images; checkpointing only where less than _BUSY images would fit.
    `available` is by default `available_memory(device)`. `built` says that this process already holds the weights.

    Before it plans checkpointing on a CPU it calls `give_back_freed_memory`: memory is short then.

    Raises InputError when nothing fits, saying what would help.
    """
    usable = available_memory(device) if available is None else available
    local = recipe.batch.size // devices
    kinds = {"auto": (False, True), "on": (True,), "off": (False,)}[recipe.batch.checkpointing]
    sizes = _sizes(local, recipe, device)
    refused: list[MemoryPlan] = []
    for checkpointing in kinds:
        if checkpointing and device.type == "cpu":  # holes would take more than checkpointing saves
            give_back_freed_memory()
        footprint = trace_update(config, recipe, checkpointing=checkpointing)
        may_recompute = not checkpointing and len(kinds) > 1
        for micro in [size for size in sizes if not may_recompute or size >= min(_BUSY, sizes[0])]:
            parts = _parts(footprint, config, recipe, micro, devices, sharded, device, built)
            if device.type == "cpu" and not _compact[0]:
                parts = (*parts, _holes(footprint, micro, local // micro))
            total = sum(size for _, size in parts)
            plan = MemoryPlan(micro, local // micro, checkpointing, total, usable, parts, "")
            if total <= usable:
                return _told(plan, devices, refused)
            refused.append(plan)
    if recipe.batch.micro:
        return _told(refused[-1], devices, [])
    raise InputError(_refusal(refused[-1], recipe, config))


def available_memory(device: torch.device) -> int:
    """Bytes that this process may hold in all, including what it holds already, less a reserve.

    CUDA: free memory, and what torch has reserved. CPU: the lower of the machine's and its control groups' memory.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int((free + torch.cuda.memory_reserved(device)) * (1 - _RESERVE))
    return int((free_memory() + resident_memory()) * (1 - _RESERVE))


def next_smaller(recipe: TrainRecipe, micro: int, *, devices: int = 1) -> int | None:
    """The largest micro-batch below `micro` that divides a device's share of the batch; None when there is none."""
    smaller = [size for size in _divisors(recipe.batch.size // devices, recipe) if size < micro]
    return max(smaller, default=None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: on a GPU, in torch's CPU allocator, or in Python."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    told = str(error)
    return isinstance(error, RuntimeError) and ("can't allocate memory" in told or "out of memory" in told)


def give_back_freed_memory() -> bool:
    """Makes glibc's malloc return every freed array of 1 MiB or more at once. False where there is no glibc.

    Otherwise holes stay: training took up to 40% more, with checkpointing twice as much (ViT-Ti/16, micro-batch 32,
    glibc 2.36; perhaps because up to 2.37 an aligned array does not go where one of its size was freed, sourceware bug
    14581). The price is that new pages are cleared again: a fifth of the time for ViT-Ti/16.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    _compact[0] = bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _COMPACT_FROM))
    return _compact[0]


def peak_otherwise(plan: MemoryPlan, config: ModelConfig, recipe: TrainRecipe, device: torch.device) -> int:
    """Peak bytes of another run in the place of the planned one, by itself: with the batch of `recipe` cut as it says.

    `recipe` must give `batch.micro`, and `batch.checkpointing` as 'on' or 'off'. For one device.
    """
    micro, checkpointing = recipe.batch.micro, recipe.batch.checkpointing == "on"
    assert micro is not None
    footprint = trace_update(config, recipe, checkpointing=checkpointing)
    parts = dict(_parts(footprint, config, recipe, micro, 1, False, device, True))
    parts["interpreter and libraries"] = dict(plan.parts)["interpreter and libraries"]
    if device.type == "cpu" and not checkpointing:  # with it, freed memory is given back
        parts |= [_holes(footprint, micro, recipe.batch.size // micro)]
    return sum(parts.values())


def _holes(footprint: Footprint, micro: int, accumulate: int) -> tuple[str, int]:
    return "holes in the heap", int(_HOLES * footprint.peak(micro, accumulate=accumulate))


def _sizes(local: int, recipe: TrainRecipe, device: torch.device) -> list[int]:
    """Micro-batches to try, the best first."""
    if recipe.batch.micro:
        return [recipe.batch.micro]
    sizes = sorted(_divisors(local, recipe), reverse=True)
    if device.type == "cpu":
        return [size for size in sizes if size <= ENOUGH_ON_CPU] or sizes[-1:]
    powers = [size for size in sizes if size & (size - 1) == 0]
    return powers or sizes


def _divisors(local: int, recipe: TrainRecipe) -> list[int]:
    """Sizes that divide a share of `local` images; even ones when pairs are mixed."""
    step = 2 if recipe.augment.mixup_alpha else 1
    return [size for size in range(step, local + 1, step) if local % size == 0]


def _parts(
    footprint: Footprint,
    config: ModelConfig,
    recipe: TrainRecipe,
    micro: int,
    devices: int,
    sharded: bool,
    device: torch.device,
    built: bool,
) -> Parts:
    share = devices if sharded else 1
    local = recipe.batch.size // devices
    peak = footprint.peak(micro, accumulate=local // micro)
    activations = min(footprint.activations(micro), peak)
    gradients = min(footprint.gradients, peak - activations)
    temporary = peak - activations - gradients
    height, width = config.image_size
    pixels = 3 * height * width * local
    images = 4 * pixels + (_BATCHES_IN_MEMORY * pixels if device.type == "cpu" else pixels)  # float32, and as read
    parts = {
        "interpreter and libraries": _base(device, footprint.weights if built else 0),
        "weights": footprint.weights // share + (2 * footprint.block if sharded else 0),
        "gradients": gradients // share + (footprint.block if sharded else 0),
        "optimizer state": footprint.optimizer // share,
        "running mean": footprint.mean // share,
        "activations": activations,
        "temporary": temporary,
        "gradient buckets": footprint.gradients if devices > 1 and not sharded else 0,  # DDP's
        "images read ahead": images,
        "checkpoint being written": _copies(footprint, recipe) if device.type == "cpu" else 0,
    }
    return tuple((name, size) for name, size in parts.items() if size)


def _copies(footprint: Footprint, recipe: TrainRecipe) -> int:
    """Bytes of the copies that a thread writes while updates go on; the last checkpoint comes after all updates."""
    written = 0 < recipe.run.checkpoint_every < recipe.schedule.steps
    return footprint.weights + footprint.optimizer + footprint.mean if written else 0


def _base(device: torch.device, weights: int) -> int:
    if device.type == "cuda":
        return _FIRST_USE["cuda"]
    return max(resident_memory() - weights, 0) + _FIRST_USE["cpu"]


def _told(plan: MemoryPlan, devices: int, refused: list[MemoryPlan]) -> MemoryPlan:
    how = " with checkpointing" if plan.checkpointing else ""
    used, usable = _gib(plan.predicted), _gib(plan.available)
    told = f"micro-batch {plan.micro} x {plan.accumulate} on each of {devices} devices{how}: {used} of {usable} GiB"
    if plan.predicted > plan.available:
        told += "; this may run out of memory: lower batch.micro, or leave it out"
    elif refused:
        other = refused[-1]
        told += f"; {other.micro} would need {_gib(other.predicted)} with"
        told += ("" if other.checkpointing else "out") + " checkpointing"
    return MemoryPlan(plan.micro, plan.accumulate, plan.checkpointing, plan.predicted, plan.available, plan.parts, told)


def _refusal(plan: MemoryPlan, recipe: TrainRecipe, config: ModelConfig) -> str:
    helps = ["a smaller model", f"images smaller than {config.image_size[0]} pixels (model.image_size)"]
    if recipe.run.precision != "bf16":
        helps.append("run.precision = bf16")
    if not plan.checkpointing:
        helps.append("batch.checkpointing = auto")
    if recipe.run.parallel != "fsdp":
        helps.append("several devices with run.parallel = fsdp")
    most = max(plan.parts, key=lambda part: part[1])
    return (
        f"training needs {_gib(plan.predicted)} GiB even with {plan.micro} images at once, and {_gib(plan.available)} "
        f"GiB are available; the largest part is {most[0]} ({_gib(most[1])} GiB). What helps: {', '.join(helps)}"
    )


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"

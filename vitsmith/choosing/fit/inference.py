"""The memory of inference with torch, from the configuration alone, and the largest batch that fits.

For a device that is not here: for the engines of this machine `predict_cost` has numbers that were measured. Linear in
the batch. How near it comes: benchmarks/results/memory_prediction_*.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vitsmith.amounts import bytes_text
from vitsmith.cost.memory import HELD
from vitsmith.errors import InputError, UnknownNameError
from vitsmith.models.config import ImageModelConfig, LiTConfig, ModelConfig
from vitsmith.models.cost import live_numbers, parameters

Device = Literal["cpu", "gpu"]
DEVICES = ("cpu", "gpu")
RESERVE = 0.1
"""Share of the device that stays free: for its driver, for what else runs on it, and for holes between arrays."""
LEFT_OUT = "the driver's own memory, other programs on the device, and images that wait to be computed"
"""What the prediction does not count, and the reserve is for."""
_BASE = {"cpu": 300_000_000, "gpu": 96 * 2**20}
"""CPU: the libraries of torch in a process, from benchmarks/results/memory_prediction_*.md. GPU: workspaces of cuBLAS,
as in training/memory/plan.py."""
_ON_CPU = HELD["torch", "fp32"]
_HOLES = {"cpu": _ON_CPU.work, "gpu": 1.0}
"""Memory that the heap takes for each byte of activations: glibc leaves holes."""
_NUMBER = {"fp32": 4, "bf16": 2, "fp16": 2}  # bytes
_MANY = 1_000_000
_PIXELS = 4 * _ON_CPU.images  # an image as it is given, and on the device, in float32


@dataclass(frozen=True)
class InferenceFit:
    """The largest batch of inference that fits, and what it takes. All of it is predicted."""

    memory: int
    """Bytes of the device."""
    batch: int
    weights: int
    """Bytes; in bf16 those in float32 that are loaded first stay beside their copy."""
    activations: int
    """Bytes of the fullest moment of a batch."""
    base: int
    """Bytes of libraries and work space."""
    precision: str
    device: str

    @property
    def predicted(self) -> int:
        """Peak bytes."""
        return self.weights + self.activations + self.base

    def __str__(self) -> str:
        return (
            f"inference: batch {self.batch:,} in {self.precision} takes {bytes_text(self.predicted)} of "
            f"{bytes_text(self.memory)}, predicted: weights {bytes_text(self.weights)}, activations "
            f"{bytes_text(self.activations)}, libraries {bytes_text(self.base)}; not counted: {LEFT_OUT}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; bytes."""
        return dict(vars(self)) | {"predicted": self.predicted, "left_out": LEFT_OUT}


def largest_batch(
    config: ModelConfig, memory: int, *, precision: str = "fp32", device: Device = "gpu", fused: bool = True
) -> InferenceFit:
    """The largest batch that fits into nine tenths of `memory` bytes; of two towers the images'.

    `fused`: attention never holds its scores, as torch's kernels and those of the exported programs.
    Raises InputError where not even one image fits, which says what it would take.
    """
    tower = config.image if isinstance(config, LiTConfig) else config
    usable = int(memory * (1 - RESERVE))

    def taken(batch: int) -> InferenceFit:
        return inference_memory(tower, batch, precision=precision, device=device, fused=fused, of=memory)

    many = taken(_MANY)  # so many that the copy of the weights is not the peak
    each = image_bytes(tower, precision=precision, device=device, fused=fused)
    found = taken(max((usable - many.base - many.weights) // each, 1))
    if found.predicted > usable:
        raise InputError(
            f"one image takes {bytes_text(taken(1).predicted)} in {precision}, and of {bytes_text(memory)} "
            f"{bytes_text(usable)} can be used: take a smaller model or smaller images"
        )
    return found


def inference_memory(
    config: ImageModelConfig,
    batch: int,
    *,
    precision: str = "fp32",
    device: Device = "gpu",
    fused: bool = True,
    of: int = 0,
) -> InferenceFit:
    """The peak of a batch, by parts. Raises UnknownNameError for a precision or device."""
    for name, given, known in (("precision", precision, tuple(_NUMBER)), ("device", device, DEVICES)):
        if given not in known:
            raise UnknownNameError(name, given, known)
    count, number = parameters(config), _NUMBER[precision]
    activations = batch * image_bytes(config, precision=precision, device=device, fused=fused)
    weights = count * (4 if number == 4 else 4 + number)
    if number < 4:  # while the copy is made it is in float32
        weights = max(weights, 8 * count - activations)
    return InferenceFit(of, batch, weights, activations, _BASE[device], precision, device)


def image_bytes(config: ImageModelConfig, *, precision: str, device: Device, fused: bool = True) -> int:
    """Bytes that each image of a batch adds to the fullest moment."""
    height, width = config.image_size
    numbers = _HOLES[device] * live_numbers(config, fused=fused) * _NUMBER[precision]
    return round(numbers + _PIXELS * 3 * height * width)

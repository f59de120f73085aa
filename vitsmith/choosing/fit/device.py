"""Whether a model fits into a device of so many bytes, for inference and for training: `recommend --device-memory`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitsmith.choosing.fit.inference import Device, InferenceFit, largest_batch
from vitsmith.errors import InputError, MissingPackageError, about
from vitsmith.models.config import ModelConfig
from vitsmith.needs_torch import part

if TYPE_CHECKING:
    from vitsmith.choosing.fit.training import TrainingFit


@dataclass(frozen=True)
class DeviceFit:
    """What fits of one model; what does not is told in `remarks`."""

    name: str
    inference: InferenceFit | None
    training: TrainingFit | None
    remarks: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """A sentence for each use, with the name of the model."""
        told = [str(one) for one in (self.inference, self.training) if one is not None]
        return [about(self.name, one) for one in (*told, *self.remarks)]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; bytes and seconds."""
        return {
            "name": self.name,
            "inference": self.inference and self.inference.to_dict(),
            "training": self.training and self.training.to_dict(),
            "remarks": list(self.remarks),
        }


def device_fit(
    name: str,
    config: ModelConfig,
    memory: int,
    *,
    precision: str = "fp32",
    device: Device = "gpu",
    images: int = 0,
    seconds_per_image: float | None = None,
) -> DeviceFit:
    """The largest batch of inference in `memory` bytes, and how `train` would cut a batch there.

    `images` are those to be learned from in all, and `seconds_per_image` is of a forward pass on the device: with both
    the time is told. Without torch training is left out, which is told.
    """
    remarks: list[str] = []

    def tried(fit: Callable[[], Any], what: str) -> Any:
        try:
            return fit()
        except (InputError, MissingPackageError) as error:
            remarks.append(f"{what} is not possible: {error}")
            return None

    inference = tried(lambda: largest_batch(config, memory, precision=precision, device=device), "inference")
    training = tried(
        lambda: part("vitsmith.choosing.fit.training:training_fit")(
            config,
            memory,
            precision=precision,
            device=device,
            images=images,
            seconds_per_image=seconds_per_image,
        ),
        "a plan of training",
    )
    return DeviceFit(name, inference, training, tuple(remarks))

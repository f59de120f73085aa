"""The table of distributions: who writes weights, how their files are recognised, and who reads them.

A distribution is a folder (`names.py`, `config.py`, `images.py`, `reader.py`) and a row here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vitsmith.errors import WeightsError
from vitsmith.weights.containers.npz import NpzFile
from vitsmith.weights.containers.open import Container
from vitsmith.weights.containers.tensors import SafetensorsFile, TorchFile
from vitsmith.weights.conversion import Conversion
from vitsmith.weights.dino import reader as dino
from vitsmith.weights.hf import reader as hf
from vitsmith.weights.jax import reader as jax
from vitsmith.weights.open_clip import reader as open_clip
from vitsmith.weights.options import LoadOptions
from vitsmith.weights.timm import reader as timm


@dataclass(frozen=True)
class Distribution:
    """One way in which weights are published."""

    kind: str
    """Its name in a bundle's provenance."""
    models: str
    """What of it is read, in messages."""
    containers: tuple[type[Container], ...]
    recognises: Callable[[Container], bool]
    """Whether the arrays of a file in one of these containers have its names."""
    read: Callable[[Container, LoadOptions], Conversion]
    """Raises WeightsError for what our models or preprocessing cannot do, naming it."""


NUMPY, PYTORCH = (NpzFile,), (SafetensorsFile, TorchFile)

DISTRIBUTIONS = (
    Distribution("jax-npz", "a ViT, hybrid, Mixer or LiT of the original", NUMPY, jax.recognises, jax.read),
    Distribution("timm", "a timm ViT or Mixer", PYTORCH, timm.recognises, timm.read),
    Distribution("hf", "an HF ViT, CLIP or SigLIP", PYTORCH, hf.recognises, hf.read),
    Distribution("dino", "the authors' DINOv2 or DINOv3", PYTORCH, dino.recognises, dino.read),
    Distribution("open_clip", "a CLIP of open_clip", PYTORCH, open_clip.recognises, open_clip.read),
)
"""The first that recognises a file reads it."""


def distribution_of(file: Container) -> Distribution:
    """The distribution that a file belongs to. Raises WeightsError for arrays of none."""
    possible = [one for one in DISTRIBUTIONS if isinstance(file, one.containers)]
    for one in possible:
        if one.recognises(file):
            return one
    shown = ", ".join(sorted(file.shapes)[:4]) or "nothing"
    models = " or ".join(one.models for one in possible)
    raise WeightsError(f"{file.path}: not the arrays of {models} (they begin with {shown})")

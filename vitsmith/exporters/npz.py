"""The original's checkpoint: the same weights under Google's names, in one .npz file."""

from __future__ import annotations

from pathlib import Path
from zipfile import is_zipfile

from vitsmith.exporters.exporter import Deliver, Exporter, Extras
from vitsmith.models.config import LiTConfig
from vitsmith.specs import ImageSpec, ProgramSpec
from vitsmith.weights.bundle.agreements import LICENSE
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.summary import describe_images, describe_input
from vitsmith.weights.save import save


def not_held(bundle: Bundle) -> tuple[str, ...]:
    """What the file does not say of this model, and without which readers compute something else or break a duty."""
    told = []
    usual = (ImageSpec.lit if isinstance(bundle.config, LiTConfig) else ImageSpec.original)(bundle.config.image_size)
    if bundle.refuses_images or bundle.preprocessing != usual:
        told.append(
            f"an .npz does not say how images are preprocessed, and readers take the original's way: "
            f"{describe_images(usual)}; this model's is {describe_input(bundle.preprocessing, bundle.provenance)}"
        )
    if bundle.provenance.license_text:
        told.append(f"an .npz does not hold {LICENSE}, which must be passed on with these weights")
    return tuple(told)


def _deliver(bundle: Bundle, path: Path, spec: ProgramSpec, extras: Extras) -> Deliver:
    """The weights become the file `path`."""

    def write(weights: Bundle) -> Bundle:
        save(weights, path, format="npz")
        return weights

    return write


def _is_npz(place: Path) -> bool:
    return place.is_file() and is_zipfile(place)


NPZ = Exporter("torch", "vitsmith export --to npz", deliver=_deliver, is_earlier=_is_npz)

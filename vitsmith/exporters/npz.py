"""The original's checkpoint: the same weights under Google's names, in one .npz file."""

from __future__ import annotations

from pathlib import Path
from zipfile import is_zipfile

from vitsmith.exporters.exporter import Deliver, Exporter, Extras
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.save import save


def _deliver(bundle: Bundle, path: Path, spec: ProgramSpec, extras: Extras) -> Deliver:
    """The weights become the file `path`."""

    def write(weights: Bundle) -> Bundle:
        save(weights, path, format="npz")
        return weights

    return write


def _is_npz(place: Path) -> bool:
    return place.is_file() and is_zipfile(place)


NPZ = Exporter("torch", "vitsmith export --to npz", deliver=_deliver, is_earlier=_is_npz)

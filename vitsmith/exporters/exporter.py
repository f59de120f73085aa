"""An exporter, which the file of each target defines: how it writes a part, and how it puts a checked program in place.

All else is the same for every target: see `exporters/run.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vitsmith.arrays import Array
from vitsmith.exporters.parts import Part
from vitsmith.gate import Requirements
from vitsmith.json_text import json_or_none
from vitsmith.specs import Program, ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import copy_programs, write_bundle
from vitsmith.weights.bundle.manifest import MANIFEST
from vitsmith.zeroshot.words import Words

LayerOutputs = Iterator[tuple[str, Array, Array]]
"""(layer, torch output, program's output) in the order of the graph."""
Deliver = Callable[[Bundle], Bundle]
"""Puts a checked program, which lies in a temporary folder, in its place, and returns the bundle there."""

Device = Literal["auto", "cpu", "gpu"]


@dataclass(frozen=True, eq=False)
class Extras:
    """Options that only some targets use."""

    labels: Words | Sequence[str] | None = None
    """web, of a LiT model: the classes that the page chooses from; without them it shows how similar two images are."""
    templates: str | Sequence[str] | None = None
    """web: prompts for `labels`, as for `ZeroShotClassifier`."""
    name: str = ""
    """triton: name of the model; default that of the architecture."""
    device: Device = "auto"
    """triton: where the server runs it; 'auto' leaves that to Triton, but int8 and OpenVINO are for processors."""


def copy_bundle(bundle: Bundle, folder: str | os.PathLike[str]) -> Bundle:
    """Writes an exported bundle, whose program lies in `bundle.folder`, to another place, and returns the one there.

    Golden answers, measurements and provenance are written as they are in memory.
    """
    source = bundle.place
    return write_bundle(bundle, folder, write_program=lambda files: copy_programs(source, files))


def into_folder(bundle: Bundle, folder: Path, spec: ProgramSpec, extras: Extras) -> Deliver:
    """The program becomes a bundle in `folder`."""
    return lambda made: copy_bundle(made, folder)


def is_exported_bundle(place: Path) -> bool:
    """Whether an export wrote the bundle at `place`."""
    try:
        made = json_or_none(place / MANIFEST)["provenance"]["source"]
    except (KeyError, TypeError):
        return False
    return str(made).startswith("vitsmith export")


@dataclass(frozen=True)
class Exporter:
    """One kind of program, or of files around a program."""

    program: Program
    """The kind of its program, which the engine of this name opens for the gate."""
    source: str
    """The command that provenance names as its source."""
    write: Callable[[Part, Path, ProgramSpec], None] | None = None
    """Writes the program of a part to a path, and what belongs beside it, unchecked. None for weights, which stay."""
    layers: Callable[[Part, Path, Array, ProgramSpec], LayerOutputs] | None = None
    """The outputs of the layers of a program that `write` wrote, and torch's, for a batch of the part's inputs."""
    check: Callable[[Bundle, ProgramSpec], object] = lambda bundle, spec: None
    """Raises before any work: InputError for what it cannot write, MissingPackageError."""
    requirements: Mapping[str, Requirements] = field(default_factory=dict)
    """By precision, requirements of the gate that differ from the usual ones, `exporters.gate.REQUIRED`."""
    deliver: Callable[[Bundle, Path, ProgramSpec, Extras], Deliver] = into_folder
    """Called before any work with what is exported and where to: raises for what does not fit."""
    is_earlier: Callable[[Path], bool] = is_exported_bundle
    """Whether an earlier export of this kind wrote what is at a path, which may then be replaced."""
    notes: tuple[str, ...] = ()
    """Notes for provenance."""

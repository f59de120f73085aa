"""An exporter, which the file of each target defines: how it writes a part, and how it puts a checked program in place.

All else is the same for every target: see `exporters/run.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vitsmith.arrays import Array
from vitsmith.exporters.parts import Part
from vitsmith.gate import Requirements
from vitsmith.specs import Program, ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.zeroshot.labels import GivenLabels

LayerOutputs = Iterator[tuple[str, Array, Array]]
"""(layer, torch output, program's output) in the order of the graph."""
Deliver = Callable[[Bundle], Bundle]
"""Puts a checked program, which lies in a temporary folder, in its place, and returns the bundle there."""

Device = Literal["auto", "cpu", "gpu"]


@dataclass(frozen=True, eq=False)
class Extras:
    """Options that only some targets use."""

    labels: GivenLabels | None = None
    """web, of a LiT model: the classes that the page chooses from; without them it shows how similar two images are."""
    templates: str | Sequence[str] | None = None
    """web: prompts for `labels`, as for `ZeroShotClassifier`."""
    name: str = ""
    """triton: name of the model; default that of the architecture."""
    device: Device = "auto"
    """triton: where the server runs it; 'auto' leaves that to Triton, but int8 and OpenVINO are for processors."""


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
    check: Callable[[Bundle, ProgramSpec], None] | None = None
    """Raises before any work: InputError for what it cannot write, MissingPackageError."""
    requirements: Mapping[str, Requirements] = field(default_factory=dict)
    """By precision, requirements of the gate that differ from the usual ones, `exporters.gate.REQUIRED`."""
    deliver: Callable[[Bundle, Path, ProgramSpec, Extras], Deliver] | None = None
    """Called before any work with what is exported and where to: raises for what does not fit. None: a bundle."""
    is_earlier: Callable[[Path], bool] | None = None
    """Whether an earlier export of this kind wrote what is at a path, which may then be replaced. None: a bundle."""
    notes: tuple[str, ...] = ()
    """Notes for provenance."""

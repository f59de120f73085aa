"""Checks what a program takes and gives: one batch each, of a known kind of numbers. Knows nothing of bundles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitsmith.arrays import Array
from vitsmith.errors import BundleError

_SAID = {"f": "floating point", "u": "uint8 pixels", "i": "token ids", "b": "booleans"}
_OTHER = "numbers of another type"


@dataclass(frozen=True)
class Port:
    """An input or output of a program."""

    kind: str
    """NumPy's kind of its numbers: 'f', 'i', 'u', 'b'; '' for anything else."""
    axes: int
    """Number of axes; 0 if the program does not say."""


def check_ports(path: Path, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Raises BundleError unless a program has one input and one output, whose first axis is the batch."""
    for ports, what, verb in ((inputs, "input", "takes"), (outputs, "output", "gives")):
        if len(ports) != 1:
            raise BundleError(f"{path} has {len(ports)} {what}s, but programs of bundles have one: export it again")
        port = ports[0]
        kinds = "fui" if what == "input" else "f"
        if port.axes < len(("batch", "what it is a batch of")) or port.kind not in tuple(kinds):
            found = f"{_SAID.get(port.kind, _OTHER)} with {port.axes} axes"
            raise BundleError(f"{path} {verb} {found}, not a batch of images, texts or answers: export it again")


def check_kind(path: Path, inputs: Array, kind: str) -> None:
    """Raises BundleError for inputs of another kind than a program takes: a cast would change their meaning."""
    if inputs.dtype.kind != kind:
        raise BundleError(
            f"{path} takes {_SAID.get(kind, _OTHER)}, but its bundle gives it {_SAID.get(inputs.dtype.kind, _OTHER)}: "
            "export it again"
        )


def check_outputs(where: str, inputs: Array, outputs: Array, classes: int) -> Array:
    """Returns `outputs`. Raises BundleError unless there is one for each input, of `classes` logits (0: any)."""
    if outputs.ndim < len(("batch", "logits")) or len(outputs) != len(inputs) or classes not in (0, outputs.shape[-1]):
        wanted = f"{len(inputs)} answers" + (f" of {classes} classes" if classes else "")
        raise BundleError(f"{where}: its program gave outputs of shape {outputs.shape}, not {wanted}: export it again")
    return outputs

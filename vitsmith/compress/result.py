"""One shape for all runs of compress: what they report while they work, what the gate says, and what is written."""

from __future__ import annotations

import datetime
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from vitsmith.compress.images import TaskImages
from vitsmith.evaluation.speed import Speedup
from vitsmith.gate import Measured, Requirements, doubts, failures, require
from vitsmith.machine import describe_machine
from vitsmith.runs.folder import MARKS
from vitsmith.runs.run import Run, whole_run
from vitsmith.version import __version__
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import read_bundle, write_bundle

MODEL = "model"
"""Folder of the bundle in a run."""


class RunEvent:
    """Something that happened in a run."""

    @property
    def line(self) -> str:
        """A line for the user; '' for none."""
        return ""


@dataclass(frozen=True)
class Told(RunEvent):
    """A message for the user."""

    text: str

    @property
    def line(self) -> str:
        return self.text


@dataclass(frozen=True)
class Working(RunEvent):
    """Work that takes a while begins."""

    what: str
    steps: int | None = None
    """How many steps `Advance` events will count; None: unknown."""


@dataclass(frozen=True)
class Advance(RunEvent):
    """Some steps of that work are done."""

    steps: int = 1


Listener = Callable[[RunEvent], None]
"""Called with each event of a run."""


@dataclass(frozen=True, eq=False, repr=False)
class Result(ABC):
    """A changed model and its original on the same images. `bundle` is in memory: check `failures`, or call `require`,
    before you use it."""

    bundle: Bundle
    original: Bundle
    images: TaskImages
    required: Requirements

    work: ClassVar[str]
    """Name of the work in messages, as 'pruning'."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self}>"

    @property
    @abstractmethod
    def measured(self) -> Measured:
        """What the gate compares."""

    @property
    @abstractmethod
    def bounds(self) -> Requirements:
        """The bounds that it is compared with."""

    @property
    @abstractmethod
    def advice(self) -> str:
        """Advice on `failures`; '' where they say themselves how many images are needed."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the gate refuses the model; () when it passes."""
        return failures(self.measured, self.bounds)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What cannot be told from so few labelled images; () with a strict gate, which lists it in `failures`."""
        return () if self.required.strict else doubts(self.measured, self.bounds)

    def require(self) -> None:
        """Raises GateError when the gate refuses the model."""
        require(f"{self.work} of {self.original.where}", self.failures, self.advice)


def write_result(verb: str, result: Result, target: Path, more: Callable[[Run], None] = lambda _: None) -> Bundle:
    """Writes a run of a verb at `target`, whole or not at all; returns the bundle in it.

    The run holds the model, the numbers as JSON, the command, and what `more` writes. It replaces what is there.
    Raises GateError when the gate refuses the model, OutputError.
    """
    result.require()
    with whole_run(target) as run:
        more(run)
        run.write_json(MARKS[verb], result.to_dict())
        write_bundle(result.bundle, run.folder / MODEL)
    return read_bundle(target / MODEL, verify=False)


def bounds_to_dict(required: Requirements, **fields: str) -> dict[str, Any]:
    """The requirements for JSON; `fields` names those between the drop and the strictness, by their keys."""
    bounds = {key: getattr(required, field) for key, field in fields.items()}
    return {"max_drop": required.accuracy_drop, **bounds, "strict_gate": required.strict}


def speeds_to_dict(speedup: Speedup) -> dict[str, Any]:
    """The speeds before and after, for JSON."""
    before, after = speedup.before, speedup.after
    return {
        "latency_ms": [before.latency_ms, after.latency_ms],
        "images_per_second": [before.images_per_second, after.images_per_second],
    }


def made_here() -> dict[str, str]:
    """Where, when and with which version numbers were measured, for JSON."""
    return {
        "machine": describe_machine(),
        "date": datetime.date.today().isoformat(),
        "vitsmith": __version__,
    }

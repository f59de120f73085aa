"""A program is compiled and run for the first time in a child process: a crash ends only that one.

The child is started as

    python -m vitsmith.engines.openvino.probe '{"path": "model.xml", "hint": "f32", "batch": null, "plans": [...]}'

and answers {"rates": [images a second of each plan]} or {"error": "..."}. It imports little.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.arrays import Array
from vitsmith.engines.openvino.graph import OpenVinoGraph
from vitsmith.engines.plan import Plan, race
from vitsmith.errors import BundleError, InputError, VitsmithError
from vitsmith.process.child import answer_parent, try_in_child

COMMAND = (sys.executable, "-m", "vitsmith.engines.openvino.probe")
LONGEST = 900
"""Most seconds for a probe: the largest published models compile in less than two minutes on two cores."""
TOGETHER = 2 << 30
"""Up to this many bytes of weights, over all plans, all plans are compiled at once and take turns."""

_FAULTS = {"SIGFPE", "SIGILL", "SIGSEGV", "SIGBUS", "SIGABRT", "SIGTRAP"}
"""Signals of a broken kernel. Others come from outside: too little memory, or a user who stops it."""


class EngineDied(InputError):  # noqa: N818
    """A program crashed its process; `lasting` says whether it would do so again."""

    def __init__(self, message: str, *, lasting: bool) -> None:
        super().__init__(message)
        self.lasting = lasting


@dataclass(frozen=True)
class Probe:
    """The result of a probe."""

    rates: tuple[float, ...] = ()
    """Images a second of each plan."""
    died: str = ""
    """How the child ended, if it did not answer."""
    lasting: bool = False
    """Whether it would end in the same way again."""


def probe(path: Path, hint: str, batch: int | None, plans: Sequence[Plan]) -> Probe:
    """Compiles and runs a program with each plan, in a child. Raises BundleError for a file that is no program."""
    task = {"path": str(path), "hint": hint, "batch": batch, "plans": [plan.to_dict() for plan in plans]}
    done = try_in_child(COMMAND, task, seconds=LONGEST)
    if done.signal or not done.answers:
        return Probe(died=done.how, lasting=done.signal in _FAULTS)
    answer = done.answers[-1]
    if "error" in answer:
        raise BundleError(answer["error"])
    return Probe(rates=tuple(answer["rates"]))


def measure(path: Path, hint: str, batch: int | None, plans: list[Plan]) -> list[float]:
    """Images a second of each plan; with one plan it only runs once, and its rate is 0."""
    first = OpenVinoGraph(path, hint, plans[0], batch=batch)
    inputs = example(first.compiled, max(max(plan.chunk * plan.streams for plan in plans), 1))
    first.run(inputs[: plans[0].chunk])
    if len(plans) == 1:
        return [0.0]
    size = sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*"))
    if size * len(plans) > TOGETHER:
        del first
        return [race([_run(OpenVinoGraph(path, hint, plan, batch=batch), inputs)], len(inputs))[0] for plan in plans]
    graphs = [first, *(OpenVinoGraph(path, hint, plan, batch=batch) for plan in plans[1:])]
    return race([_run(graph, inputs) for graph in graphs], len(inputs))


def example(compiled: Any, batch: int) -> Array:
    """Inputs like those of a compiled program: noise for images, ones for tokens."""
    port = compiled.input(0)
    shape = (batch, *tuple(port.shape)[1:])
    kind = port.get_element_type().to_dtype()
    random = np.random.default_rng(0)
    if kind == np.uint8:
        return random.integers(0, 256, shape, np.uint8)
    return random.normal(size=shape).astype(kind) if kind.kind == "f" else np.ones(shape, kind)


def _run(graph: OpenVinoGraph, inputs: Array) -> Callable[[], object]:
    return lambda: graph.run(inputs)


def main(task: str) -> None:
    """Runs one task in the child, as the head of this file says."""
    answer = answer_parent()
    asked = json.loads(task)
    plans = [plan for plan in map(Plan.from_dict, asked["plans"]) if plan is not None]
    try:
        answer({"rates": measure(Path(asked["path"]), asked["hint"], asked["batch"], plans)})
    except VitsmithError as error:
        answer({"error": str(error)})


if __name__ == "__main__":
    main(sys.argv[1])

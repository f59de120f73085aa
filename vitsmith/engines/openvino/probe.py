"""The child process in which a program is compiled and run for the first time: a crash ends only this process.

    python -m vitsmith.engines.openvino.probe '{"path": "model.xml", "hint": "f32", "batch": null, "plans": [...]}'

writes one line of JSON: {"rates": [images a second of each plan]} or {"error": "..."}. No torch here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.arrays import Array
from vitsmith.engines.openvino.graph import OpenVinoGraph
from vitsmith.engines.plan import Plan, race
from vitsmith.errors import VitsmithError
from vitsmith.json_text import to_json

TOGETHER = 2 << 30
"""Up to this many bytes of weights, over all plans, all plans are compiled at once and take turns."""


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
    """Runs one task, as the head of this file says."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is not the answer
    asked = json.loads(task)
    plans = [plan for plan in map(Plan.from_dict, asked["plans"]) if plan is not None]
    answer: dict[str, Any]
    try:
        answer = {"rates": measure(Path(asked["path"]), asked["hint"], asked["batch"], plans)}
    except VitsmithError as error:
        answer = {"error": str(error)}
    answers.write(to_json(answer, ascii_only=True) + "\n")
    answers.flush()


if __name__ == "__main__":
    main(sys.argv[1])

"""Whether idle threads of onnxruntime should spin, measured in a child process.

Two sessions are open for it, each with weights of its own: in this process, their memory would stay taken.

The child is started as

    python -m vitsmith.engines.onnx.spinning '{"path": "model.onnx", "batch": null, "shape": [1, 3, 224, 224],
                                               "kind": "float32", "plans": [...]}'

and answers {"rates": [images a second of each plan]} or {"error": "..."}. It imports little.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitsmith.arrays import Array
from vitsmith.engines.onnx.graph import OnnxGraph
from vitsmith.engines.plan import Plan, race
from vitsmith.errors import VitsmithError
from vitsmith.process.child import answer_parent, try_in_child

COMMAND = (sys.executable, "-m", "vitsmith.engines.onnx.spinning")
LONGEST = 300
"""Most seconds of the child."""


def spinning_rates(path: Path, plan: Plan, batch: int | None, inputs: Array) -> dict[Plan, float]:
    """Images a second of `plan` and of the same with spinning threads; empty where the child failed.

    `inputs` are inputs of the program, of which only the shape and the type count.
    """
    choices = [plan, replace(plan, spinning=True)]
    task = {
        "path": str(path), "batch": batch, "shape": list(inputs.shape), "kind": str(inputs.dtype),
        "plans": [one.to_dict() for one in choices],
    }  # fmt: skip
    answers = try_in_child(COMMAND, task, seconds=LONGEST).answers
    rates = answers[-1].get("rates") if answers else None
    return dict(zip(choices, rates, strict=True)) if rates else {}


def measure(path: Path, batch: int | None, inputs: Array, plans: Sequence[Plan]) -> list[float]:
    """Images a second of each plan, in turns."""
    graphs = [OnnxGraph(path, plan, batch) for plan in plans]
    runs: list[Callable[[], object]] = [lambda graph=graph: graph.run(inputs) for graph in graphs]  # type: ignore[misc]
    return race(runs, len(inputs), seconds=1.0)


def main(text: str) -> None:
    """Runs one task in the child, as the head of this file says."""
    answer = answer_parent()
    task = json.loads(text)
    plans = [plan for plan in map(Plan.from_dict, task["plans"]) if plan is not None]
    inputs = np.random.default_rng(0).integers(0, 2, task["shape"]).astype(task["kind"])
    try:
        answer({"rates": measure(Path(task["path"]), task["batch"], inputs, plans)})
    except VitsmithError as error:
        answer({"error": str(error)})


if __name__ == "__main__":
    main(sys.argv[1])

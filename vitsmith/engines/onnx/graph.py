"""A program opened by onnxruntime. Knows nothing of bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.arrays import Array
from vitsmith.engines.chunks import check_batch, run_in_chunks
from vitsmith.engines.onnx.session import open_session
from vitsmith.engines.plan import Plan
from vitsmith.engines.ports import Port, check_ports
from vitsmith.engines.settings import Settings
from vitsmith.machine import available_cores
from vitsmith.process.forks import keep_in_children


def usual_plan(settings: Settings, batch: int | None) -> Plan:
    """The plan without a race, for a program of a fixed `batch` or, with None, of any."""
    return Plan(batch or 1, 1, settings.threads or available_cores())


class OnnxGraph:
    """One graph of one input and one output, for any batch."""

    def __init__(self, path: Path, plan: Plan, batch: int | None) -> None:
        self._session = open_session(path, threads=plan.threads, spinning=plan.spinning)
        keep_in_children(self._session)
        check_ports(
            path, *(list(map(_port, ports)) for ports in (self._session.get_inputs(), self._session.get_outputs()))
        )
        self._input = self._session.get_inputs()[0]
        found = self._input.shape[0]
        check_batch(path, found if isinstance(found, int) else None, batch)
        self._batch = batch

    def run(self, inputs: Array) -> Array:
        if self._batch is None and len(inputs):
            return self._run(inputs)
        return run_in_chunks(self._run, inputs, self._batch or 1)

    def _run(self, inputs: Array) -> Array:
        outputs: Array = self._session.run(None, {self._input.name: inputs})[0]
        return outputs.astype(np.float32, copy=False)


def _port(node: Any) -> Port:
    """The port of an onnxruntime NodeArg, whose type is written as 'tensor(float16)'."""
    name = node.type.removeprefix("tensor(").removesuffix(")")
    kinds = {"float": "f", "float16": "f", "double": "f", "uint8": "u", "int32": "i", "int64": "i", "bool": "b"}
    return Port(kinds.get(name, ""), len(node.shape))

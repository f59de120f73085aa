"""A program compiled by OpenVINO for chunks of a fixed size. Knows nothing of bundles: the probe stays light."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.arrays import Array
from vitsmith.engines.chunks import check_batch, padded
from vitsmith.engines.openvino.core import compile_program, openvino_core
from vitsmith.engines.plan import Plan
from vitsmith.engines.ports import Port, check_kind, check_ports
from vitsmith.errors import BundleError
from vitsmith.process.forks import keep_in_children


class OpenVinoGraph:
    """One program of one input and one output, for any batch.

    A batch is cut into chunks of `plan.chunk`, computed `plan.streams` at a time. The last chunk is filled up with
    repeats. Once these have wasted more time than it takes to compile the program for single images, that is done, and
    the images left over are run one by one.

    Args:
        path: model.xml or model.onnx.
        hint: precision of float arithmetic, 'f32', 'bf16' or 'f16'. Without it OpenVINO takes bfloat16 if it can.
        plan: size of chunks, streams and threads.
        batch: the fixed batch of the program; None: any.
    """

    def __init__(
        self,
        path: Path,
        hint: str,
        plan: Plan,
        *,
        batch: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._path, self._hint, self._batch, self.plan, self._clock = path, hint, batch, plan, clock
        self._lock = threading.Lock()
        began = clock()
        self.compiled = compile_graph(path, hint, plan, batch=batch)
        self._compile_seconds, self._wasted = clock() - began, 0.0
        self._requests = _Requests(self.compiled, plan.streams)
        self._single: _Requests | None = None

    def run(self, inputs: Array) -> Array:
        """(batch, ...) -> float32 (batch, ...)."""
        check_kind(self._path, inputs, self._requests.kind)
        with self._lock:
            chunk = self.plan.chunk
            rest = len(inputs) % chunk
            if not rest:
                return self._requests.run(inputs, chunk)
            if self._single is None:
                began = self._clock()
                outputs = self._requests.run(inputs, chunk)
                self._count_waste(self._clock() - began, len(inputs), chunk - rest)
                return outputs
            whole = self._requests.run(inputs[: len(inputs) - rest], chunk)
            return np.concatenate([whole, self._single.run(inputs[len(inputs) - rest :], 1)])

    def _count_waste(self, seconds: float, images: int, repeats: int) -> None:
        self._wasted += seconds * repeats / (images + repeats)
        if self._batch is None and self._wasted > self._compile_seconds:
            plan = Plan(1, self.plan.streams, self.plan.threads)
            self._single = _Requests(compile_graph(self._path, self._hint, plan), plan.streams)

    @property
    def runs_singly(self) -> bool:
        """Whether the images left over of a batch are run one by one."""
        return self._single is not None


class _Requests:
    """A compiled program with its requests.

    They are not in an AsyncInferQueue: its threads take the interpreter lock once more after all work is done (2026.4),
    and a process that ends, or releases the program, at that moment crashes or waits for ever.
    """

    def __init__(self, compiled: Any, streams: int) -> None:
        self._shape = tuple(compiled.output(0).shape)[1:]
        self._dtype = compiled.input(0).get_element_type().to_dtype()
        self._requests = [compiled.create_infer_request() for _ in range(streams)]
        for native in (compiled, *self._requests):
            keep_in_children(native)

    @property
    def kind(self) -> str:
        """NumPy's kind of the numbers it takes."""
        return str(self._dtype.kind)

    def run(self, inputs: Array, chunk: int) -> Array:
        # Only such arrays are shared with a request; OpenVINO copies others, and frees the copy too early (2026.4).
        inputs = np.require(inputs, self._dtype, ["C_CONTIGUOUS", "WRITEABLE", "ALIGNED"])
        outputs = np.empty((len(inputs), *self._shape), np.float32)
        running: deque[tuple[Any, Array, Array]] = deque()
        try:
            for number, at in enumerate(range(0, len(inputs), chunk)):
                if len(running) == len(self._requests):
                    self._finish(*running.popleft())
                request, some = self._requests[number % len(self._requests)], padded(inputs[at : at + chunk], chunk)
                request.start_async([some], share_inputs=True)
                running.append((request, outputs[at : at + chunk], some))
            while running:
                self._finish(*running.popleft())
        finally:
            for request, *_ in running:  # they read arrays that end with this call
                with suppress(RuntimeError):
                    request.wait()
        return outputs

    @staticmethod
    def _finish(request: Any, outputs: Array, _shared: Array) -> None:
        request.wait()
        outputs[:] = request.get_output_tensor(0).data[: len(outputs)]


def compile_graph(path: Path, hint: str, plan: Plan, *, batch: int | None = None) -> Any:
    """An openvino.CompiledModel for chunks of `plan.chunk`. Raises BundleError or MissingPackageError."""
    core = openvino_core()
    from vitsmith.machine import available_cores

    try:
        model = core.read_model(str(path))
        check_ports(path, list(map(_port, model.inputs)), list(map(_port, model.outputs)))
        shape = model.input(0).get_partial_shape()
        found = None if shape[0].is_dynamic else shape[0].get_length()
        check_batch(path, found, batch)
        if found is None:
            shape[0] = plan.chunk
            model.reshape({model.input(0): shape})
        if model.input(0).get_partial_shape().is_dynamic or model.output(0).get_partial_shape().is_dynamic:
            raise BundleError(f"{path} takes images of any size, but programs of bundles take one: export it again")
        return compile_program(
            model,
            {
                "INFERENCE_PRECISION_HINT": hint,
                "NUM_STREAMS": plan.streams,
                "INFERENCE_NUM_THREADS": plan.threads,
                # Threads bound to cores would meet those of another process that was given some of the cores, too.
                "ENABLE_CPU_PINNING": plan.threads >= available_cores(),
            },
        )
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BundleError(f"{path} cannot be opened by openvino ({lines[-1] if lines else error})") from None


def _port(node: Any) -> Port:
    """The port of an openvino.Output."""
    shape = node.get_partial_shape()
    kinds = {"f32": "f", "f16": "f", "u8": "u", "i32": "i", "i64": "i", "boolean": "b"}  # bf16 arrives as float16
    kind = kinds.get(node.get_element_type().get_type_name(), "")
    return Port(kind, 0 if shape.rank.is_dynamic else len(shape))

"""ExecuTorch's runtime on the processor: the runtime of phones, on this machine."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.arrays import Array
from vitsmith.engines.chunks import check_batch, padded, run_in_chunks
from vitsmith.engines.executorch.report import report_on_executorch
from vitsmith.engines.graph_report import GraphReport
from vitsmith.engines.ports import Port, check_kind, check_ports
from vitsmith.engines.program import OpenProgram, ProgramEngine
from vitsmith.engines.settings import USUAL, Settings
from vitsmith.errors import BundleError, MissingPackageError
from vitsmith.files.regular import utf8_path
from vitsmith.needs_torch import require_torch
from vitsmith.process.forks import keep_in_children
from vitsmith.weights.bundle.bundle import Bundle

_KINDS = {0: "u", 3: "i", 4: "i", 6: "f"}
"""executorch.exir.scalar_type -> NumPy kind, for the types that programs of bundles have."""


class ExecutorchEngine(ProgramEngine):
    """Runs a bundle's model.pte, and for LiT its text.pte, which is opened on first use.

    The runtime has one pool of threads for the whole process, as large as the processor: `threads` does nothing.
    """

    name = "executorch"

    def __init__(self, bundle: Bundle, settings: Settings = USUAL) -> None:
        require_torch("executorch")  # the runtime takes torch's tensors
        super().__init__(bundle)
        self._images = _Program(self._path("model"), self._spec.batch)

    @property
    def _program(self) -> OpenProgram:
        return self._images

    def _open_texts(self, path: Path) -> OpenProgram:
        return _Program(path, self._spec.batch)

    def report(self) -> GraphReport:
        return report_on_executorch(self._path("model"), self._bundle)


class _Program:
    """One program with one input and one output. If it takes any batch, it is given its largest batch at most."""

    def __init__(self, path: Path, batch: int | None) -> None:
        import torch

        self._method = open_method(path)
        keep_in_children(self._method)
        facts = self._method.metadata
        with _hushed():  # the runtime logs what is not a tensor
            inputs = _ports(facts.num_inputs(), facts.input_tensor_meta)
            outputs = _ports(facts.num_outputs(), facts.output_tensor_meta)
        check_ports(path, inputs, outputs)
        taken = facts.input_tensor_meta(0)
        shape, self._path, self._kind = tuple(taken.sizes()), path, inputs[0].kind
        self._dtype = {0: torch.uint8, 3: torch.int32, 4: torch.int64, 6: torch.float32}[taken.dtype()]
        self._largest, self._frozen = shape[0], batch
        self._torch, self._lock = torch, threading.Lock()
        if self._largest == 1 and batch is None:
            check_batch(path, 1, None)  # single images only
        if not self._runs((batch or 1, *shape[1:])):
            if self._runs(shape):
                check_batch(path, self._largest, batch)
            raise BundleError(f"{path} does not run here: export it again, or use another target")

    def run(self, inputs: Array) -> Array:
        check_kind(self._path, inputs, self._kind)
        with self._lock:  # a method has one set of buffers
            if self._frozen is not None or not len(inputs):
                return run_in_chunks(self._execute, inputs, self._frozen or 1)
            parts = [inputs[at : at + self._largest] for at in range(0, len(inputs), self._largest)]
            return np.concatenate([self._execute(part) for part in parts])

    def _execute(self, inputs: Array) -> Array:
        given = self._torch.from_numpy(padded(inputs, len(inputs))).to(self._dtype)
        outputs: Array = self._method.execute([given])[0].float().numpy().copy()
        return outputs

    def _runs(self, shape: tuple[int, ...]) -> bool:
        """Whether such a batch runs. A program names its largest batch, not whether others run: so it is tried."""
        inputs = np.zeros(shape, np.float32)
        try:
            with _hushed():
                self._execute(inputs)
        except RuntimeError:
            return False
        return True


def _ports(count: int, facts: Callable[[int], Any]) -> list[Port]:
    """The ports of a program; `facts` describes a tensor by its number."""
    ports = []
    for number in range(count):
        try:
            tensor = facts(number)
            ports.append(Port(_KINDS.get(tensor.dtype(), ""), len(tensor.sizes())))
        except (IndexError, RuntimeError):  # not a tensor
            ports.append(Port("", 0))
    return ports


def open_method(path: Path) -> Any:
    """A program's method, an executorch.runtime.Method. Raises MissingPackageError or BundleError."""
    try:
        with warnings.catch_warnings(), _hushed():
            warnings.simplefilter("ignore")  # deprecations inside the package
            from executorch.runtime import Runtime

            runtime = Runtime.get()
    except ImportError:
        raise MissingPackageError("executorch", "executorch") from None
    try:
        with _hushed(), utf8_path(path) as name:
            method = runtime.load_program(name).load_method("forward")
    except (RuntimeError, OSError, KeyError) as error:
        raise BundleError(f"{path} cannot be opened by executorch ({error}); export it again") from None
    return method


_hushing = threading.RLock()


@contextmanager
def _hushed() -> Iterator[None]:
    """Hides the log that the runtime writes to standard error."""
    with _hushing:  # else a second thread would keep the silenced stream, and restore that for good
        try:
            kept = os.dup(2)
        except OSError:  # standard error is closed
            yield
            return
        _flush()
        try:
            with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            _flush()
            os.dup2(kept, 2)
            os.close(kept)


def _flush() -> None:
    with suppress(OSError, ValueError, AttributeError):  # None where there is no standard error
        sys.stderr.flush()

"""onnxruntime on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.errors import BundleError, InputError, MissingPackageError
from vitsmith.weights.bundle import Bundle

Array = np.ndarray[Any, Any]

PROGRAM = "model.onnx"
TEXT_PROGRAM = "text.onnx"


class OnnxEngine:
    """Runs a bundle's model.onnx, and for LiT its text.onnx, which is opened on first use."""

    name = "onnx"
    precision = "float32"

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        if bundle.folder is None:
            raise InputError(f"{bundle.where}: an onnx bundle lives in a folder; load it from there")
        self._folder, self._threads = bundle.folder, threads
        self._images = _Graph(bundle.folder / PROGRAM, threads)
        self._texts: _Graph | None = None

    def run(self, images: Array) -> Array:
        return self._images.run(images)

    def run_texts(self, tokens: Array) -> Array:
        if self._texts is None:
            path = self._folder / TEXT_PROGRAM
            if not path.exists():
                raise InputError(f"{self._folder} is a model of images alone: it cannot read text; export a LiT model")
            self._texts = _Graph(path, self._threads)
        return self._texts.run(tokens)


class _Graph:
    """One graph of one input and one output, for any batch."""

    def __init__(self, path: Path, threads: int | None) -> None:
        self._session = open_session(path, threads=threads)
        self._input = self._session.get_inputs()[0]
        batch = self._input.shape[0]
        if isinstance(batch, int):
            raise BundleError(
                f"{path} was exported for a batch of exactly {batch}; "
                "export it again with  vitsmith export --to onnx  for any batch"
            )

    def run(self, inputs: Array) -> Array:
        outputs: Array = self._session.run(None, {self._input.name: inputs})[0]
        return outputs


def open_session(path: Path, *, threads: int | None = None) -> Any:
    """An onnxruntime InferenceSession. Raises MissingPackageError or BundleError."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingPackageError("onnxruntime", "onnx") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Idle threads sleep and do not spin: beside decoding threads, spinning costs more than waking up does
    # (benchmarks/results/folder_prediction_amd-epyc_2026-11-23.md).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common base
        reason = str(error).strip().splitlines()[0]
        raise BundleError(f"{path} cannot be opened by onnxruntime ({reason}); export it again") from None

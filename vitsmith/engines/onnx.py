"""onnxruntime on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.errors import BundleError, InputError, MissingPackageError
from vitsmith.weights.bundle import Bundle

Array = np.ndarray[Any, Any]

PROGRAM = "model.onnx"


class OnnxEngine:
    """Runs a bundle's model.onnx."""

    name = "onnx"
    precision = "float32"

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        if bundle.folder is None:
            raise InputError(f"{bundle.where}: an onnx bundle lives in a folder; load it from there")
        self._session = open_session(bundle.folder / PROGRAM, threads=threads)
        self._input = self._session.get_inputs()[0]
        batch = self._input.shape[0]
        if isinstance(batch, int):
            raise BundleError(
                f"{bundle.folder / PROGRAM} was exported for a batch of exactly {batch}; "
                "export it again with  vitsmith export --to onnx  for any batch"
            )

    def run(self, images: Array) -> Array:
        outputs: Array = self._session.run(None, {self._input.name: images})[0]
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

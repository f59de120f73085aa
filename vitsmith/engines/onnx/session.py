"""An ONNX program opened by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitsmith.errors import BundleError, MissingPackageError
from vitsmith.files.regular import utf8_path


def open_session(path: Path, *, threads: int | None = None, spinning: bool = False, **options: Any) -> Any:
    """An onnxruntime InferenceSession. `options` are set on its SessionOptions.

    Raises MissingPackageError or BundleError.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingPackageError("onnxruntime", "onnx") from None
    chosen = onnxruntime.SessionOptions()
    chosen.log_severity_level = 3
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    if threads is not None:
        chosen.intra_op_num_threads = threads
    for name, value in options.items():
        setattr(chosen, name, value)
    try:
        with utf8_path(path) as name:
            return onnxruntime.InferenceSession(name, chosen, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common base
        reason = str(error).strip().splitlines()[0]
        raise BundleError(f"{path} cannot be opened by onnxruntime ({reason}); export it again") from None

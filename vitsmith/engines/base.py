"""The protocol every engine satisfies, and how one is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from vitsmith.errors import InputError, UnknownNameError
from vitsmith.weights.bundle import Bundle

Array = np.ndarray[Any, Any]


class Engine(Protocol):
    """Runs the image side of one bundle. Made by a function of the bundle; checked with its golden examples."""

    name: str
    precision: str

    def run(self, images: Array) -> Array:
        """float32 (batch, 3, height, width) in the range of the bundle's ImageSpec -> float32 outputs, any batch."""


def _torch(bundle: Bundle, threads: int | None) -> Engine:
    from vitsmith.engines.torch import TorchEngine

    return TorchEngine(bundle, threads)


def _onnx(bundle: Bundle, threads: int | None) -> Engine:
    from vitsmith.engines.onnx import OnnxEngine

    return OnnxEngine(bundle, threads)


ENGINES: dict[str, Callable[[Bundle, int | None], Engine]] = {"torch": _torch, "onnx": _onnx}
"""Engine by name; each runs the bundles whose program has that name."""


def open_engine(bundle: Bundle, engine: str = "auto", *, threads: int | None = None) -> Engine:
    """An engine for `bundle` whose golden answers have been checked on this machine.

    'auto' takes the one that the bundle's program is for. `threads` limits the processor cores it uses.
    Raises UnknownNameError, InputError for an engine that cannot run this bundle, BundleError for wrong answers.
    """
    name = bundle.program if engine == "auto" else engine
    if name not in ENGINES:
        raise UnknownNameError("engine", name, ("auto", *ENGINES))
    if name != bundle.program:
        raise InputError(
            f"{bundle.where} is a bundle for the {bundle.program!r} engine, not {name!r}"
            + ("; make one with  vitsmith export --to onnx" if name == "onnx" else "")
        )
    opened = ENGINES[name](bundle, threads)
    bundle.check_golden(opened.run)
    return opened

"""The protocol every engine satisfies, and how one is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args

import numpy as np

from vitsmith.data.photos import sample_images
from vitsmith.errors import BundleError, InputError, UnknownNameError
from vitsmith.weights.bundle import Bundle
from vitsmith.weights.golden import OUTPUT_TOLERANCE

Array = np.ndarray[Any, Any]
Precision = Literal["fp32", "bf16"]

TOLERANCES: dict[str, float] = {"fp32": OUTPUT_TOLERANCE, "bf16": 0.05}
"""How far golden outputs may be off, as a share of the largest. In bfloat16, with the weights of
tests/reference/fill.py, 0.005 to 0.016 were seen for ViTs, Mixers and both towers of LiT-B16B_2, and 0.12 for a hybrid,
which would be refused."""

SAMPLES = 2


class Engine(Protocol):
    """Runs one bundle. Made by a function of the bundle; checked with its golden examples."""

    name: str
    precision: str

    def run(self, images: Array) -> Array:
        """float32 (batch, 3, height, width) in the range of the bundle's ImageSpec -> float32 outputs, any batch."""

    def run_texts(self, tokens: Array) -> Array:
        """int32 (batch, length) -> float32 (batch, E) unit vectors. Raises InputError without a text tower."""


def _torch(bundle: Bundle, threads: int | None, precision: Precision) -> Engine:
    from vitsmith.engines.torch import TorchEngine

    return TorchEngine(bundle, threads, precision)


def _onnx(bundle: Bundle, threads: int | None, precision: Precision) -> Engine:
    from vitsmith.engines.onnx import OnnxEngine

    if precision != "fp32":
        raise InputError(f"{bundle.where} was exported in fp32 and runs in it; {precision} is for the torch engine")
    return OnnxEngine(bundle, threads)


ENGINES: dict[str, Callable[[Bundle, int | None, Precision], Engine]] = {"torch": _torch, "onnx": _onnx}
"""Engine by name; each runs the bundles whose program has that name."""


def open_engine(bundle: Bundle, engine: str = "auto", *, threads: int | None = None, precision: str = "fp32") -> Engine:
    """An engine for `bundle` whose golden answers have been checked on this machine.

    'auto' takes the one that the bundle's program is for. `threads` limits the processor cores it uses. With precision
    'bf16' (torch only) the golden answers may be off by what such arithmetic rounds.
    Raises UnknownNameError, InputError for an engine that cannot run this bundle, BundleError for wrong answers.
    """
    name = bundle.program if engine == "auto" else engine
    if name not in ENGINES:
        raise UnknownNameError("engine", name, ("auto", *ENGINES))
    if precision not in get_args(Precision):
        raise UnknownNameError("precision", precision, get_args(Precision))
    if name != bundle.program:
        raise InputError(
            f"{bundle.where} is a bundle for the {bundle.program!r} engine, not {name!r}"
            + ("; make one with  vitsmith export --to onnx" if name == "onnx" else "")
        )
    opened = ENGINES[name](bundle, threads, precision)  # type: ignore[arg-type]  # checked above
    _check(bundle, opened, precision)
    return opened


def _check(bundle: Bundle, opened: Engine, precision: str) -> None:
    """Golden answers; rounded arithmetic is also held against float32 where a bundle has none. Raises BundleError."""
    if precision != "fp32" and bundle.golden is None:
        bundle = bundle.with_golden(sample_images(SAMPLES))
    try:
        bundle.check_golden(opened.run, tolerance=TOLERANCES[precision])
    except BundleError as error:
        if precision == "fp32":
            raise
        raise BundleError(f"{error}: {precision} is too coarse for this model, or goes wrong here; use fp32") from None

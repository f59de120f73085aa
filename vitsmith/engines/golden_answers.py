"""Opens one engine, which must give the golden answers of its bundle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vitsmith.data.images.sample_photos import sample_images
from vitsmith.engines.protocol import Engine
from vitsmith.engines.registry import ENGINES, precisions_of
from vitsmith.engines.settings import Settings
from vitsmith.engines.tuning_cache import code_state, program_hash, question, recall, remember, unchanged
from vitsmith.errors import BundleError, MissingPackageError
from vitsmith.models.config import merges
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.golden import OUTPUT_TOLERANCE

TOLERANCES: dict[str, float] = {
    "fp32": OUTPUT_TOLERANCE,
    "fp16": 0.02,
    "bf16": 0.05,
    "int8": 0.1,
    "int8-weights": 0.1,
    "fp8": 0.2,
}
"""How far golden outputs may differ, as a share of the largest. In bfloat16, with the weights of
tests/reference/fill.py, the difference was 0.005 to 0.016 for ViTs, Mixers and both towers of LiT-B16B_2, and 0.12 for
a hybrid, which would be refused. Programs in fp16, bf16 and int8 have golden outputs of their own: other processors
round a few values the other way."""

SAMPLES = 2
_HELD = {"golden answers": "held"}


def open_checked(bundle: Bundle, name: str, settings: Settings) -> Engine:
    """Opens the engine of that name and checks its golden answers."""
    kind = ENGINES[name]
    if not kind.installed:
        raise MissingPackageError(kind.package, kind.extra)
    precision = settings.precision if settings.precision != "auto" else precisions_of(bundle, name)[0]
    opened = kind.open(bundle, replace(settings, precision=precision))
    asked = _golden_question(bundle, name, replace(settings, precision=precision))
    if asked is None or recall(asked) != _HELD:
        _check(bundle, opened, precision)
        if asked is not None:
            remember(asked, _HELD)
    return opened


def _golden_question(bundle: Bundle, name: str, settings: Settings) -> dict[str, Any] | None:
    """Everything that decides whether a program gives its golden answers here; None: compare them at every start.

    They are compared at every start for torch weights, and if the files were not compared with their hashes.
    """
    if not bundle.verified or bundle.golden is None or bundle.folder is None or bundle.program == "torch":
        return None
    if not unchanged(bundle):  # since it was loaded
        return None
    return question(
        "golden answers",
        program_hash(bundle),
        (ENGINES[name].package, "numpy", "pillow", "simplejpeg", "vitsmith"),
        engine=name,
        precision=settings.precision,
        threads=settings.threads,
        goal=settings.goal,
        preprocessing=bundle.preprocessing.model_dump(mode="json"),
        golden=bundle.golden.digest,
        code=code_state(),
    )


def tolerance_of(bundle: Bundle, precision: str) -> float:
    """How far the answers of `bundle` may differ when it runs in `precision` ('auto': its program's own).

    If tokens are merged, rounding may merge another pair: see `vitsmith.exporters.gate.REQUIRED_MERGING`.
    """
    own = bundle.program_spec.precision
    asked = own if precision == "auto" else precision
    usual = max(TOLERANCES[own], TOLERANCES[asked])
    return max(usual, 0.01 if own == asked == "fp32" else 0.3) if merges(bundle.config) else usual


def _check(bundle: Bundle, opened: Engine, precision: str) -> None:
    """Checks golden answers; without any, compares rounded arithmetic of torch with float32. Raises BundleError."""
    own = precision == bundle.program_spec.precision
    if not own and bundle.golden is None and bundle.program == "torch":
        bundle = bundle.with_golden(sample_images(SAMPLES))
    try:
        bundle.check_golden(opened.run, tolerance=tolerance_of(bundle, precision))
    except BundleError as error:
        if own:
            raise
        raise BundleError(f"{error}: {precision} is too coarse for this model, or goes wrong here; use fp32") from None

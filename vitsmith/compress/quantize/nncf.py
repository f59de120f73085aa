"""int8 with ranges found on calibration images, by NNCF: the same for ONNX and OpenVINO graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vitsmith.errors import MissingPackageError
from vitsmith.machine import int8_dot_products
from vitsmith.process.quiet import quiet
from vitsmith.process.telemetry import switch_off_openvino

AT_ONCE = 8
"""Calibration images in one run: faster than one by one, with the same ranges."""


@dataclass(frozen=True)
class StaticScheme:
    """How a graph is quantised."""

    smooth: float | None = None
    """SmoothQuant's strength, 0..1; None: without SmoothQuant."""
    float_nodes: tuple[str, ...] = ()
    """Names of nodes that stay in float."""


def quantize_static(model: Any, inputs: Sequence[Any], scheme: StaticScheme) -> Any:
    """A quantised graph from an onnx.ModelProto or an openvino.Model; each of `inputs` is the input of one run.

    Weights are symmetric for each output channel, activations asymmetric for each tensor, from their least to their
    largest value in any image. NNCF's default takes the mean over the inputs: it clips values of half of the images,
    and depends on how many images are in one input (docs/experiments.md). Products in attention, softmax, LayerNorm and
    residuals stay in float (ModelType.TRANSFORMER). Raises MissingPackageError.
    """
    with quiet():
        nncf = import_nncf()
        from nncf.quantization.advanced_parameters import AdvancedSmoothQuantParameters, OverflowFix
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        strength = -1.0 if scheme.smooth is None else scheme.smooth
        # Without such instructions products of two int8 are added up in int16, and weights of 8 bits overflow it.
        overflow = OverflowFix.ENABLE if int8_dot_products() is False else OverflowFix.DISABLE
        return nncf.quantize(
            model,
            nncf.Dataset(list(inputs)),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(names=list(scheme.float_nodes), validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=overflow,
                smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=strength),
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            ),
        )


def import_nncf() -> Any:
    """Return the package, with its telemetry switched off. Raises MissingPackageError."""
    switch_off_openvino()
    try:
        import nncf
    except ImportError:
        raise MissingPackageError("nncf", "export") from None
    return nncf

"""Float and int8 programs for onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitsmith.arrays import Array
from vitsmith.compress.quantize.layers import nodes_by_site
from vitsmith.compress.quantize.nncf import AT_ONCE, StaticScheme, quantize_static
from vitsmith.compress.quantize.own_rounding import with_own_rounding
from vitsmith.compress.quantize.schemes import Scheme
from vitsmith.errors import MissingPackageError
from vitsmith.exporters.onnx import LARGEST_SINGLE_FILE, write_graph
from vitsmith.exporters.parts import Part
from vitsmith.machine import int8_dot_products
from vitsmith.process.quiet import quiet
from vitsmith.specs import Program


class OnnxPrograms:
    """Makes programs of one model from its float graph, which it writes into `folder`.

    Only products with weights become int8. onnxruntime runs int8 convolutions only where their output is int8 too,
    which it is not before LayerNorm or GroupNorm: rounding them would cost accuracy and gain nothing. The same is true
    of the head (one token) and of the products in attention (1.50 times as fast as float with them in int8, 1.54
    without; Ti/16 on 2 cores of an AMD EPYC).
    """

    program: Program = "onnx"
    rests: tuple[str, ...] = ("fp32",)
    """onnxruntime has no bf16 on processors."""

    def __init__(self, parts: Sequence[Part], folder: Path) -> None:
        import_onnxruntime()
        self.parts, self.folder = parts, folder
        for part in parts:
            write_graph(part, folder / f"{part.name}.onnx")
        import onnx

        self._input = parts[0].input_name
        self._graph = onnx.load(folder / "model.onnx", load_external_data=False)
        self._products = _weight_products(self._graph)
        self._sites = nodes_by_site(self._graph)

    @property
    def sites(self) -> tuple[str, ...]:
        """Parts of the model with something to quantise."""
        return tuple(site for site, nodes in self._sites.items() if set(nodes) & set(self._products))

    def write(self, scheme: Scheme, tensors: Array, place: Path) -> None:
        """Writes model.onnx in int8 into `place`; other parts stay as they are."""
        kept = {node for site in scheme.float_sites for node in self._sites.get(site, ())}
        quantised = [name for name in self._products if name not in kept]
        if scheme.kind == "dynamic":
            self._write_dynamic(quantised, place / "model.onnx")
            return
        import onnx

        others = tuple(node.name for node in self._graph.graph.node if node.name not in set(quantised))
        graph = onnx.load(self.folder / "model.onnx")
        inputs = [{self._input: tensors[at : at + AT_ONCE]} for at in range(0, len(tensors), AT_ONCE)]
        result = with_own_rounding(quantize_static(graph, inputs, StaticScheme(scheme.smooth, others)))
        large = sum(len(array.raw_data) for array in result.graph.initializer) > LARGEST_SINGLE_FILE
        onnx.save(
            result, place / "model.onnx", save_as_external_data=large, location="model.onnx.data" if large else None
        )

    def _write_dynamic(self, names: list[str], path: Path) -> None:
        """Writes weights in int8; each input is rounded by its own range while the program runs."""
        with quiet():
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantize_dynamic(
                self.folder / "model.onnx",
                path,
                op_types_to_quantize=["MatMul"],
                nodes_to_quantize=names,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=int8_dot_products() is False,
                use_external_data_format=(self.folder / "model.onnx.data").exists(),
            )


def import_onnxruntime() -> Any:
    """Return the package. Raises MissingPackageError."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingPackageError("onnxruntime", "export") from None
    return onnxruntime


def _weight_products(graph: Any) -> list[str]:
    """Names of the nodes that multiply by a matrix of weights; attention multiplies activations by activations.

    Attention pooling multiplies by one matrix a head, (heads, ...): onnxruntime refuses to run such products in int8.
    """
    weights = {array.name for array in graph.graph.initializer if len(array.dims) == 2}
    return [node.name for node in graph.graph.node if node.op_type == "MatMul" and weights & set(node.input)]

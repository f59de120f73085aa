"""Float and int8 programs for OpenVINO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitsmith.arrays import Array
from vitsmith.compress.quantize.layers import HEADS, matching_nodes, nodes_by_site
from vitsmith.compress.quantize.nncf import AT_ONCE, StaticScheme, import_nncf, quantize_static
from vitsmith.compress.quantize.schemes import Scheme
from vitsmith.engines.openvino.core import import_openvino, openvino_core, others_compile
from vitsmith.exporters.onnx import write_graph
from vitsmith.exporters.openvino import openvino_from_onnx
from vitsmith.exporters.parts import Part
from vitsmith.machine import bf16_dot_products
from vitsmith.process.quiet import quiet
from vitsmith.specs import Program


class OpenVinoPrograms:
    """Makes programs of one model from its float graph, which it writes into `folder`.

    Attention stays one fused operation in float. Convolutions and products with weights become int8, except in heads:
    on the digits, a head smoothed with strength 0.95 gave a cosine of 0.42, and a head in float one of 0.9997.
    "dynamic" means weights in int8, and activations rounded in groups of 32 while the program runs. The plugin does
    that by itself where the processor has int8 dot products; elsewhere only the weights are smaller.
    """

    program: Program = "openvino"

    def __init__(self, parts: Sequence[Part], folder: Path) -> None:
        self._openvino = import_openvino()
        import_nncf()
        import onnx

        self.parts, self.folder = parts, folder
        self.rests: tuple[str, ...] = ("bf16", "fp32") if bf16_dot_products() else ("fp32",)
        for part in parts:
            path = folder / f"{part.name}.onnx"
            write_graph(part, path)
            if part.name == "model":
                graph = onnx.load(path, load_external_data=False)
                named, matching = nodes_by_site(graph), set(matching_nodes(graph))
                outputs = _nodes_of_outputs(graph)
            self._save(openvino_from_onnx(path), folder / f"{part.name}.xml")
            for written in folder.glob(f"{path.name}*"):
                written.unlink()
        kinds = {op.get_friendly_name(): op.get_type_name() for op in self._read().get_ops()}
        self._sites = {site: _renamed(kinds, set(names), outputs) for site, names in named.items()}
        self._matching = _renamed(kinds, matching, outputs)
        self._products = {name for name, kind in kinds.items() if kind in ("MatMul", "Convolution")}

    @property
    def sites(self) -> tuple[str, ...]:
        """Parts of the model with something to quantise."""
        there = [site for site, nodes in self._sites.items() if set(nodes) & self._products]
        return tuple(site for site in there if site not in HEADS)

    def write(self, scheme: Scheme, tensors: Array, place: Path) -> None:
        """Writes model.xml and model.bin in int8 into `place`; other parts stay as they are."""
        in_float = [node for site in (*HEADS, *scheme.float_sites) for node in self._sites.get(site, ())]
        kept = (*in_float, *self._matching)
        if scheme.kind == "dynamic":
            model = self._compress_weights(kept)
        else:
            inputs = [tensors[at : at + AT_ONCE] for at in range(0, len(tensors), AT_ONCE)]
            others_compile()  # NNCF runs the program to find its ranges
            model = quantize_static(self._read(), inputs, StaticScheme(scheme.smooth, kept))
        self._save(model, place / "model.xml")

    def _compress_weights(self, kept: tuple[str, ...]) -> Any:
        with quiet():
            nncf = import_nncf()
            return nncf.compress_weights(
                self._read(),
                mode=nncf.CompressWeightsMode.INT8_SYM,
                ignored_scope=nncf.IgnoredScope(names=list(kept), validate=False),
            )

    def _read(self) -> Any:
        return openvino_core().read_model(self.folder / "model.xml")

    def _save(self, model: Any, path: Path) -> None:
        self._openvino.save_model(model, path, compress_to_fp16=False)


def _nodes_of_outputs(graph: Any) -> dict[str, str]:
    """By name of each output of an ONNX graph: the node that gives it."""
    outputs = {one.name for one in graph.graph.output}
    return {name: node.name for node in graph.graph.node for name in node.output if name in outputs}


def _renamed(names: Iterable[str], wanted: set[str], outputs: Mapping[str, str]) -> list[str]:
    """OpenVINO's names of ONNX nodes: the same, with a suffix where a bias became an operation of its own.

    The operation that gives an output of the graph has the name of the output.
    """
    return [name for name in names if outputs.get(name, name.split("/")[0]) in wanted]

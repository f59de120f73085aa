"""ONNX: one graph, any batch, checked on onnxruntime before anything is written."""

from __future__ import annotations

import ast
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitsmith.data.photos import sample_images
from vitsmith.data.preprocess import preprocess
from vitsmith.engines.onnx import PROGRAM, TEXT_PROGRAM, open_session
from vitsmith.errors import InputError, MissingPackageError
from vitsmith.gate import Thresholds, Verdict, compare
from vitsmith.models.features import record
from vitsmith.models.lit import LiT, normalize
from vitsmith.specs import Measurement, Provenance
from vitsmith.weights.bundle import Bundle
from vitsmith.weights.bundle_folder import write_bundle

Array = np.ndarray[Any, Any]

OPSET = 20  # the first with a Gelu node, in both of its forms
LARGEST_SINGLE_FILE = 1_800_000_000
"""Bytes of weights beyond which they lie beside the graph: protobuf cannot hold 2 GiB."""
GATE_INPUTS = 14
GOLDEN_IMAGES = 2


@dataclass(frozen=True, eq=False)
class Part:
    """One graph of a bundle: LiT has two, an image and a text tower."""

    file: str
    module: nn.Module
    """Gives the output in eval mode."""
    inputs: Array
    """What the gate compares on: float32 (n, 3, height, width), or int32 (n, length)."""
    input_name: str
    output_name: str

    def run_torch(self, batch: Array) -> Array:
        """The module's output for a batch like `inputs`."""
        with torch.inference_mode():
            outputs = self.module(torch.from_numpy(batch).to(next(self.module.parameters()).device))
        array: Array = outputs.float().cpu().numpy()
        return array


def export_onnx(
    bundle: Bundle,
    folder: str | os.PathLike[str],
    *,
    images: Sequence[Array] | None = None,
    thresholds: Thresholds | None = None,
) -> tuple[Bundle, Verdict]:
    """Writes a bundle whose program is model.onnx, with a dynamic batch, and returns it with the gate's verdict.

    A LiT model becomes two graphs that give unit vectors, model.onnx for images and text.onnx for token ids; the
    verdict is that of the worse. `images` are uint8 RGB images for the gate, at best from the user's own data; default
    are the bundle's golden images and sample photographs. Raises GateError, leaving nothing, when onnxruntime gives
    other answers.
    """
    if bundle.program != "torch":
        raise InputError(f"{bundle.where} is already exported (model.{bundle.program}); export the torch one")
    if bundle.golden is None:
        bundle = bundle.with_golden(sample_images(GOLDEN_IMAGES))
    given = gate_images(bundle) if images is None or len(images) == 0 else images
    tensors = np.stack([preprocess(image, bundle.images) for image in given])
    with tempfile.TemporaryDirectory(prefix="vitsmith-export-") as place:
        verdicts = [_export_part(part, Path(place), bundle, thresholds) for part in parts_of(bundle, tensors)]
        exported = replace(
            bundle,
            program="onnx",
            folder=None,
            provenance=_provenance(bundle),
            measurements=tuple(_before_export(one) for one in bundle.measurements if "second" not in one.name),
            _model=None,
            _weights_hash=bundle.weights_hash,
            _similarity=bundle.similarity if isinstance(bundle.model, LiT) else None,
        )
        written = write_bundle(exported, folder, write_program=lambda target: _copy(Path(place), target))
    return written, max(verdicts, key=lambda verdict: verdict.relative)


def parts_of(bundle: Bundle, tensors: Array) -> list[Part]:
    """The graphs that a bundle of torch weights becomes; `tensors` are preprocessed images for the gate."""
    model = bundle.model
    if not isinstance(model, LiT):
        return [Part(PROGRAM, model, tensors, "images", "logits")]
    return [
        Part(PROGRAM, _UnitTower(model.image), tensors, "images", "embeddings"),
        Part(TEXT_PROGRAM, _UnitTower(model.text), gate_tokens(bundle), "tokens", "embeddings"),
    ]


class _UnitTower(nn.Module):
    """One of LiT's towers, giving unit vectors."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, inputs: Tensor) -> Tensor:
        return normalize(self.tower(inputs))


def _export_part(part: Part, place: Path, bundle: Bundle, thresholds: Thresholds | None) -> Verdict:
    """Writes one graph into `place` and compares it. Raises GateError."""
    path = place / part.file
    write_graph(part, path)
    session = open_session(path)
    verdict = compare(
        part.run_torch,
        lambda batch: np.asarray(session.run(None, {part.input_name: batch})[0]),
        part.inputs,
        thresholds,
        layers=lambda batch: layer_outputs(part, path, batch),
    )
    verdict.require(f"the ONNX export of {bundle.where} ({part.file})")
    return verdict


def gate_images(bundle: Bundle) -> list[Array]:
    """The bundle's golden images, made up to a useful number with sample photographs."""
    golden = list(bundle.golden.images) if bundle.golden else []
    return golden + sample_images(max(GATE_INPUTS - len(golden), 0))


def gate_tokens(bundle: Bundle) -> Array:
    """Token ids (GATE_INPUTS, length) of texts from one token to as many as fit, the same each time."""
    assert bundle.text is not None
    random = np.random.default_rng(0)
    length, padded = bundle.text.length, bundle.text.padding == "zero"
    tokens = random.integers(1, bundle.text.vocabulary, (GATE_INPUTS, length), np.int32)
    for row, used in zip(tokens, np.linspace(1, length, GATE_INPUTS).round().astype(int), strict=True):
        row[used:] = 0 if padded else row[-1]
    return tokens


def write_graph(part: Part, path: Path) -> None:
    """Traces a module at batch 2 with a dynamic batch and writes the graph, unchecked."""
    try:
        import onnxscript  # noqa: F401  (torch.onnx needs it and says so only in a traceback)
    except ImportError:
        raise MissingPackageError("onnxscript", "onnx") from None
    example = torch.from_numpy(np.resize(part.inputs, (2, *part.inputs.shape[1:])))
    with _quiet():
        program = torch.onnx.export(
            part.module,
            (example.to(next(part.module.parameters()).device),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[part.input_name],
            output_names=[part.output_name],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},),
            verbose=False,
        )
        assert program is not None
        size = sum(parameter.numel() * 4 for parameter in part.module.parameters())
        program.save(path, external_data=size > LARGEST_SINGLE_FILE)


def layer_outputs(part: Part, path: Path, batch: Array) -> Iterator[tuple[str, Array, Array]]:
    """(layer, torch output, onnx output) in the order of the graph, for a batch like the part's inputs.

    The exporter notes on each node which module it came from; the last node of a module gives the module's output.
    """
    import onnx

    tensors = _module_outputs(onnx.load(path, load_external_data=False))
    modules = dict(part.module.named_modules())
    names = [name for name in tensors if name in modules and name]
    with record(part.module, names) as expected, torch.inference_mode():
        part.run_torch(batch)
    found = _run_with_outputs(path, [tensors[name] for name in names], {part.input_name: batch})
    for name, output in zip(names, found, strict=True):
        yield name, expected[name].cpu().numpy(), output


def _module_outputs(graph: Any) -> dict[str, str]:
    """Name of the tensor that each module gives, ordered by where the module ends in the graph."""
    outputs: dict[str, str] = {}
    for node in graph.graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "[]")
        for scope in reversed(ast.literal_eval(scopes)):
            outputs.pop(scope, None)
            outputs[scope] = node.output[0]
    return outputs


def _run_with_outputs(path: Path, tensors: list[str], inputs: dict[str, Array]) -> list[Array]:
    """Runs the file's own graph with inner tensors made visible."""
    import onnx

    graph = onnx.load(path, load_external_data=False)
    visible = {output.name for output in graph.graph.output}
    known = {info.name: info for info in graph.graph.value_info}
    for name in dict.fromkeys(tensors):
        if name not in visible:
            graph.graph.output.append(known.get(name, onnx.ValueInfoProto(name=name)))
    opened = path.with_name("layers.onnx")
    onnx.save(graph, opened)
    session = open_session(opened)
    return list(session.run(tensors, inputs))


def _provenance(bundle: Bundle) -> Provenance:
    return bundle.provenance.model_copy(
        update={"source": f"vitsmith export --to onnx (opset {OPSET})", "parent": bundle.where}
    )


def _before_export(measurement: Measurement) -> Measurement:
    """An accuracy that was measured on the program this one was made from says so."""
    return measurement.model_copy(update={"data": f"{measurement.data}, before export"})


def _copy(source: Path, target: Path) -> None:
    import shutil

    for path in source.iterdir():
        if path.name.startswith((PROGRAM, TEXT_PROGRAM)):
            shutil.copyfile(path, target / path.name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter's remarks on packages that we do not use."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

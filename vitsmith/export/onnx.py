"""ONNX: one graph, any batch, checked on onnxruntime before anything is written."""

from __future__ import annotations

import ast
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.data.photos import sample_images
from vitsmith.data.preprocess import preprocess
from vitsmith.engines.onnx import PROGRAM, open_session
from vitsmith.errors import InputError, MissingPackageError
from vitsmith.gate import Thresholds, Verdict, compare
from vitsmith.models.features import record
from vitsmith.models.lit import LiT
from vitsmith.specs import Measurement, Provenance
from vitsmith.weights.bundle import Bundle
from vitsmith.weights.bundle_folder import write_bundle

Array = np.ndarray[Any, Any]

OPSET = 20  # the first with a Gelu node, in both of its forms
LARGEST_SINGLE_FILE = 1_800_000_000
"""Bytes of weights beyond which they lie beside the graph: protobuf cannot hold 2 GiB."""
GATE_IMAGES = 14


def export_onnx(
    bundle: Bundle,
    folder: str | os.PathLike[str],
    *,
    images: Sequence[Array] | None = None,
    thresholds: Thresholds | None = None,
) -> tuple[Bundle, Verdict]:
    """Writes a bundle whose program is model.onnx, with a dynamic batch, and returns it with the gate's verdict.

    `images` are uint8 RGB images for the gate, at best from the user's own data; default are the bundle's golden
    images and sample photographs. Raises GateError, leaving nothing, when onnxruntime gives other answers.
    """
    if bundle.program != "torch":
        raise InputError(f"{bundle.where} is already exported (model.{bundle.program}); export the torch one")
    if isinstance(bundle.model, LiT):
        raise InputError(f"{bundle.where} has two towers; exporting LiT models is not supported yet")
    given = gate_images(bundle) if images is None or len(images) == 0 else images
    tensors = np.stack([preprocess(image, bundle.images) for image in given])
    with tempfile.TemporaryDirectory(prefix="vitsmith-export-") as place:
        path = Path(place) / PROGRAM
        write_graph(bundle, path)
        session = open_session(path)
        verdict = compare(
            bundle.run_torch,
            lambda batch: np.asarray(session.run(None, {"images": batch})[0]),
            tensors,
            thresholds,
            layers=lambda batch: layer_outputs(bundle, path, batch),
        )
        verdict.require(f"the ONNX export of {bundle.where}")
        exported = replace(
            bundle,
            program="onnx",
            folder=None,
            provenance=_provenance(bundle),
            measurements=tuple(_before_export(one) for one in bundle.measurements if "second" not in one.name),
            _model=None,
        )
        return write_bundle(exported, folder, write_program=lambda target: _copy(Path(place), target)), verdict


def gate_images(bundle: Bundle) -> list[Array]:
    """The bundle's golden images, made up to a useful number with sample photographs."""
    golden = list(bundle.golden.images) if bundle.golden else []
    return golden + sample_images(max(GATE_IMAGES - len(golden), 0))


def write_graph(bundle: Bundle, path: Path) -> None:
    """Traces the torch model at batch 2 with a dynamic batch and writes the graph, unchecked."""
    try:
        import onnxscript  # noqa: F401  (torch.onnx needs it and says so only in a traceback)
    except ImportError:
        raise MissingPackageError("onnxscript", "onnx") from None
    import torch

    height, width = bundle.config.image_size
    example = torch.zeros(2, 3, height, width, device=next(bundle.model.parameters()).device)
    with _quiet():
        program = torch.onnx.export(
            bundle.model,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},),
            verbose=False,
        )
        assert program is not None
        size = sum(parameter.numel() * 4 for parameter in bundle.model.parameters())
        program.save(path, external_data=size > LARGEST_SINGLE_FILE)


def layer_outputs(bundle: Bundle, path: Path, batch: Array) -> Iterator[tuple[str, Array, Array]]:
    """(layer, torch output, onnx output) in the order of the graph, for float32 (batch, 3, height, width) images.

    The exporter notes on each node which module it came from; the last node of a module gives the module's output.
    """
    import onnx
    import torch

    tensors = _module_outputs(onnx.load(path, load_external_data=False))
    modules = dict(bundle.model.named_modules())
    names = [name for name in tensors if name in modules and name]
    with record(bundle.model, names) as expected, torch.inference_mode():
        bundle.model(torch.from_numpy(batch).to(next(bundle.model.parameters()).device))
    found = _run_with_outputs(path, [tensors[name] for name in names], batch)
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


def _run_with_outputs(path: Path, tensors: list[str], batch: Array) -> list[Array]:
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
    return list(session.run(tensors, {"images": batch}))


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
        if path.name.startswith(PROGRAM):
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

"""What is int8 in a program is int8, and what stays in float is float."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.compress.quantize.speeds import FAST
from tests.tiny import CONFIGS, VIT, pictures, tiny_inputs, tiny_lit, tiny_model
from vitsmith import Bundle
from vitsmith.compress.images import read_tensors, unlabelled_images
from vitsmith.compress.quantize.layers import nodes_by_site
from vitsmith.compress.quantize.onnx import OnnxPrograms
from vitsmith.compress.quantize.openvino import OpenVinoPrograms
from vitsmith.compress.quantize.result import Quantization
from vitsmith.compress.quantize.run import quantize
from vitsmith.compress.quantize.schemes import (
    REQUIRED,
    Scheme,
)
from vitsmith.engines.open import open_engine
from vitsmith.engines.openvino.core import openvino_core
from vitsmith.exporters.parts import parts_of
from vitsmith.models.configure import change
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.folder import read_bundle, write_bundle

PROGRAMS = {"onnx": OnnxPrograms, "openvino": OpenVinoPrograms}


def cosine_of(expected: np.ndarray, found: np.ndarray) -> float:
    lengths = np.linalg.norm(expected, axis=-1) * np.linalg.norm(found, axis=-1)
    return float(((expected * found).sum(axis=-1) / lengths).mean())


def int8_sites(folder: Path, engine: str, graph: Path) -> dict[str, int]:
    """How many products of each place have a rounded input."""
    if engine == "onnx":
        program = onnx.load(folder / "model.onnx").graph
        sites = {node: site for site, nodes in nodes_by_site(onnx.load(graph)).items() for node in nodes}
        rounded = {node.output[0] for node in program.node if node.op_type == "DequantizeLinear"}
        return dict(
            collections.Counter(
                sites[node.name]
                for node in program.node
                if node.op_type in ("MatMul", "Conv", "Gemm") and node.input[0] in rounded
            )
        )

    sites = {node: site for site, nodes in nodes_by_site(onnx.load(graph)).items() for node in nodes}
    counts: collections.Counter[str] = collections.Counter()
    for op in openvino_core().read_model(folder / "model.xml").get_ops():
        if op.get_type_name() in ("MatMul", "Convolution"):
            source = op.input_value(0).get_node()
            while source.get_type_name() in ("Reshape", "Transpose"):
                source = source.input_value(0).get_node()
            if source.get_type_name() == "FakeQuantize":
                counts[sites[op.get_friendly_name().split("/")[0]]] += 1
    return dict(counts)


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("vit-token", "onnx"),
        ("vit-token", "openvino"),
        ("mixer", "onnx"),
        ("hybrid-stages", "onnx"),
        ("hybrid-stages", "openvino"),
    ],
)
def test_what_is_int8_is_int8_and_what_is_float_is_float(
    name: str, engine: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = Bundle.of(tiny_model(CONFIGS[name]))
    images = read_tensors(bundle, pictures(12))
    floats = tmp_path / "float"
    floats.mkdir()
    programs = PROGRAMS[engine](parts_of(bundle, images), floats)
    graph = tmp_path / "graph.onnx"
    from vitsmith.exporters.onnx import write_graph

    write_graph(parts_of(bundle, images)[0], graph)
    expected = bundle.run_torch(images)
    seen = {}
    schemes = {"static": Scheme("static", 0.5), "half": Scheme("static", None, ("blocks.1",))}
    if name == "vit-token":
        schemes["dynamic"] = Scheme("dynamic")
    for label, scheme in schemes.items():
        described = dataclasses.replace(bundle, program=engine, program_spec=ProgramSpec(precision="int8"), golden=None)
        made = write_bundle(
            dataclasses.replace(described, _weights_hash=bundle.weights_hash, _model=None),
            tmp_path / label,
            write_program=lambda place, scheme=scheme: programs.write(scheme, images, place),
        )
        found = open_engine(made, engine).run(images)
        assert cosine_of(expected, found) > 0.98, label
        assert not np.allclose(found, expected, rtol=0, atol=1e-6), f"{label} rounds nothing"
        seen[label] = int8_sites(made.folder, engine, graph)
    products = 4 if name == "mixer" else 6  # query, key, value and out, and the two of the MLP
    blocks = {"blocks.0": products, "blocks.1": products}
    for count in (seen["static"], seen["half"]):
        assert "head" not in count
    assert {site: seen["static"].get(site) for site in blocks} == blocks
    assert seen["half"].get("blocks.0") == products and "blocks.1" not in seen["half"]
    assert ("patches" in seen["static"]) == (engine == "openvino")
    assert "patches" not in programs.sites or engine == "openvino"
    assert ("resnet" in programs.sites) == (engine == "openvino" and name == "hybrid-stages")
    assert capfd.readouterr().out == "", "NNCF's bars are silenced"


@pytest.mark.parametrize("head_bias", [True, False])
def test_openvino_keeps_the_head_in_float_with_and_without_a_bias(tmp_path: Path, head_bias: bool) -> None:
    """Without one the product itself gives the output of the graph, and OpenVINO names it after that."""
    bundle = Bundle.of(tiny_model(change(VIT, head_bias=head_bias)))
    images = read_tensors(bundle, pictures(4))
    programs = PROGRAMS["openvino"](parts_of(bundle, images), tmp_path)
    for kind in ("static", "dynamic"):
        place = tmp_path / kind
        place.mkdir()
        programs.write(Scheme(kind), images, place)
        constants = [op for op in openvino_core().read_model(place / "model.xml").get_ops() if not op.inputs()]
        types = {op.get_friendly_name(): op.get_element_type().get_type_name() for op in constants}
        assert types["head.weight"] == "f32", kind
        assert "i8" in types.values(), kind


def test_of_lit_the_image_tower_becomes_int8_and_texts_stay(tmp_path: Path) -> None:
    bundle = tiny_lit("lit-bert").with_golden(pictures(2))
    photos = unlabelled_images(bundle, pictures(24))
    result = quantize(
        bundle,
        photos,
        tmp_path / "model",
        Quantization("onnx", dataclasses.replace(REQUIRED, agreement=0.98)),
        race=lambda *_: FAST,
    )
    assert result.bundle is not None and "the text tower stays in fp32" in result.bundle.provenance.notes
    assert any("embeddings" in remark for remark in result.remarks)
    assert "mean_cosine" in [one.metric for one in read_bundle(tmp_path / "model").measurements]
    engine = open_engine(read_bundle(tmp_path / "model"), "onnx")
    tokens = tiny_inputs(bundle.config, 3)[1].numpy().astype(np.int32)
    np.testing.assert_allclose(engine.run_texts(tokens), bundle.run_texts_torch(tokens), rtol=0, atol=1e-5)
    images = read_tensors(bundle, pictures(4, seed=3))
    found, expected = engine.run(images), bundle.run_torch(images)
    assert cosine_of(expected, found) > 0.98 and np.abs(found - expected).max() > 1e-4

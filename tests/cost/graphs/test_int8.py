"""int8 graphs made without torch run by the kernels of those that `quantize` writes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from tests.cost.graphs.exports import layers_of
from tests.tiny import MIXER, VIT, tiny_inputs, tiny_model
from vitsmith.compress.quantize.layers import HEADS as HEADS_IN_FLOAT
from vitsmith.compress.quantize.onnx import OnnxPrograms
from vitsmith.compress.quantize.openvino import OpenVinoPrograms
from vitsmith.compress.quantize.schemes import Scheme
from vitsmith.cost.graphs.int8 import HEADS, quantized_for_onnx, quantized_for_openvino
from vitsmith.cost.graphs.program import graph_of
from vitsmith.cost.graphs.weights import ModelNumbers
from vitsmith.engines.onnx.session import open_session
from vitsmith.engines.openvino.graph import compile_graph
from vitsmith.engines.plan import Plan
from vitsmith.exporters.parts import parts_of
from vitsmith.models.config import ImageModelConfig
from vitsmith.models.configure import change
from vitsmith.models.parts import BlockConfig, PositionEmbeddingConfig, RotaryConfig
from vitsmith.weights.bundle.bundle import Bundle

CONFIGS: dict[str, ImageModelConfig] = {
    "plain": VIT,
    "gated, normed": change(VIT, block=BlockConfig(gated=True, qk_norm=True, attention_norm=True, mlp_norm=True)),
    "mixer": MIXER,
}
OPENVINO = CONFIGS | {
    "rotary alone, registers": change(
        VIT, position_embedding=PositionEmbeddingConfig(learned="none", rotary=RotaryConfig()), registers=2
    ),
    "class token and mean, no last norm, no biases": change(
        VIT, pooling="token_and_gap", final_norm=False, head_bias=False, block=BlockConfig(qkv_bias=False)
    ),
}
"""Others differ more for OpenVINO, which rounds queries and keys too, and has names of its own for a last product."""


def _bundle(config: ImageModelConfig) -> Bundle:
    return Bundle.of(tiny_model(config))


def _state(bundle: Bundle) -> dict[str, np.ndarray]:
    return {name: weight.numpy() for name, weight in bundle.model.state_dict().items()}


def _kernels(path: Path, images: np.ndarray, place: Path) -> Counter[tuple[str, str]]:
    """(operation, types of its inputs with their shapes) of all that onnxruntime runs, after its fusions."""
    session = open_session(path, enable_profiling=True, profile_file_prefix=str(place / path.stem))
    session.run(None, {"images": images})
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = [one["args"] for one in events if one.get("cat") == "Node" and one["name"].endswith("_kernel_time")]
    return Counter((one["op_name"], str(one["input_type_shape"])) for one in ran)


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float((one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("name", CONFIGS)
def test_onnxruntime_runs_the_kernels_of_a_quantised_bundle(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    bundle, images = _bundle(config), tiny_inputs(config, 2)[0].numpy()
    made, place = tmp_path / "made.onnx", tmp_path / "int8"
    place.mkdir()
    made.write_bytes(b"".join(quantized_for_onnx(graph_of(config)).pieces(ModelNumbers(_state(bundle)))))
    onnx.checker.check_model(onnx.load(made), full_check=True)
    OnnxPrograms(parts_of(bundle, images), tmp_path).write(Scheme("static"), images, place)

    kernels = [_kernels(path, images, tmp_path) for path in (place / "model.onnx", made)]
    assert kernels[0] == kernels[1]
    assert sum(count for (kind, _), count in kernels[0].items() if kind == "MatMulIntegerToFloat") >= 8

    outputs = open_session(made).run(None, {"images": images})[0]
    assert _cosine(outputs, bundle.model(tiny_inputs(config, 2)[0]).detach().numpy()) > 0.99


@pytest.mark.parametrize("name", OPENVINO)
def test_openvino_runs_the_layers_of_a_quantised_bundle(name: str, tmp_path: Path) -> None:
    config = OPENVINO[name]
    bundle, images = _bundle(config), tiny_inputs(config, 3)[0].numpy()
    made, place = tmp_path / "made.onnx", tmp_path / "int8"
    place.mkdir()
    made.write_bytes(b"".join(quantized_for_openvino(graph_of(config)).pieces(ModelNumbers(_state(bundle)))))
    OpenVinoPrograms(parts_of(bundle, images), tmp_path).write(Scheme("static"), images, place)

    compiled = [compile_graph(path, "f32", Plan(2, 1, 1)) for path in (place / "model.xml", made)]
    layers = [layers_of(one) for one in compiled]
    assert layers[0] == layers[1]
    assert layers[0]["FullyConnected", "u8"] >= 8
    assert _cosine(compiled[1]([images[:2]])[0], bundle.model(torch.from_numpy(images[:2])).detach().numpy()) > 0.99


def test_the_heads_that_stay_in_float_are_those_of_quantize() -> None:
    assert HEADS == HEADS_IN_FLOAT


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_an_int8_program_is_opened_without_torch(engine: str) -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "import numpy as np\n"
        "from vitsmith.cost.graphs.program import open_program\n"
        "from vitsmith.engines.settings import Settings\n"
        "from vitsmith.models.config import ViTConfig\n"
        "config = ViTConfig(width=64, depth=2, heads=1, mlp_width=64, patch=(8, 8), image_size=(16, 16))\n"
        f"program = open_program(config, {engine!r}, Settings(threads=1, precision='int8'))\n"
        "out = program.run(np.random.default_rng(0).normal(size=(3, 3, 16, 16)).astype(np.float32))\n"
        "assert out.shape == (3, 1000) and np.isfinite(out).all() and out.std() > 0.1, out\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Graphs made without torch give what torch's models give, and engines run them by the kernels of real exports."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.tiny import VIT, tiny_inputs, tiny_model
from vitsmith.cost.graphs.program import graph_of, open_program
from vitsmith.cost.graphs.weights import ModelNumbers
from vitsmith.engines.onnx.report import report_on_onnx
from vitsmith.engines.onnx.session import open_session
from vitsmith.engines.openvino.graph import compile_graph
from vitsmith.engines.openvino.report import report_on_openvino
from vitsmith.engines.plan import Plan
from vitsmith.engines.settings import Settings
from vitsmith.errors import InputError
from vitsmith.exporters.onnx import write_graph
from vitsmith.exporters.parts import parts_of
from vitsmith.models.config import ViTConfig
from vitsmith.models.configure import change
from vitsmith.models.parts import BlockConfig, PositionEmbeddingConfig, RotaryConfig
from vitsmith.weights.bundle.bundle import Bundle

CONFIGS = {
    "plain": VIT,
    "quick, scaled, rms": change(VIT, gelu="quick", norm="rms", norm_before=True, block=BlockConfig(layer_scale=True)),
    "gated, normed": change(VIT, block=BlockConfig(gated=True, qk_norm=True, attention_norm=True, mlp_norm=True)),
}


def _made(config: ViTConfig, place: Path) -> tuple[Bundle, Path, Path]:
    """(a model, its export, its graph made here with its weights)."""
    bundle = Bundle.of(tiny_model(config))
    exported, made = place / "exported.onnx", place / "made.onnx"
    write_graph(parts_of(bundle, tiny_inputs(config, 2)[0].numpy())[0], exported)
    state = {name: weight.numpy() for name, weight in bundle.model.state_dict().items()}
    made.write_bytes(b"".join(graph_of(config).pieces(ModelNumbers(state))))
    return bundle, exported, made


@pytest.mark.parametrize("name", CONFIGS)
def test_a_graph_gives_what_its_model_gives_by_the_kernels_of_its_export(name: str, tmp_path: Path) -> None:
    config = CONFIGS[name]
    bundle, exported, made = _made(config, tmp_path)
    onnx.checker.check_model(onnx.load(made), full_check=True)
    images = tiny_inputs(config, 2)[0]

    reports = [report_on_onnx(path, images.numpy(), bundle) for path in (exported, made)]
    assert reports[0] == reports[1]

    compiled = [compile_graph(path, "f32", Plan(2, 1, 1)) for path in (exported, made)]
    layers = [Counter(_layers(one)) for one in compiled]
    assert layers[0] == layers[1]
    assert report_on_openvino(compiled[0], bundle) == report_on_openvino(compiled[1], bundle)

    expected = bundle.model(images).detach().numpy()
    np.testing.assert_allclose(compiled[1]([images.numpy()])[0], expected, atol=1e-5)
    np.testing.assert_allclose(open_session(made).run(None, {"images": images.numpy()})[0], expected, atol=1e-5)


def _layers(compiled: object) -> list[tuple[str, str]]:
    operations = compiled.get_runtime_model().get_ordered_ops()  # type: ignore[attr-defined]
    facts = [operation.get_rt_info() for operation in operations]
    return [(str(one["layerType"].astype(str)), str(one["runtimePrecision"].astype(str))) for one in facts]


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ({"registers": 2}, "registers"),
        ({"patch_norm": True}, "patch_norm"),
        ({"merge": (0, 0)}, "merge"),
        ({"pooling": "gap"}, "pooling 'gap'"),
        ({"position_embedding": PositionEmbeddingConfig(rotary=RotaryConfig())}, "rotary"),
        ({"position_embedding": PositionEmbeddingConfig(learned="patches")}, "positions 'patches'"),
    ],
)
def test_what_is_not_covered_is_named(part: dict[str, Any], name: str) -> None:
    with pytest.raises(InputError, match=name):
        graph_of(change(VIT, **part))


def test_a_precision_that_an_engine_does_not_have_is_named() -> None:
    with pytest.raises(InputError, match="'onnx' in the precision 'bf16'"):
        open_program(VIT, "onnx", Settings(precision="bf16"))


def test_programs_are_opened_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "import numpy as np\n"
        "from vitsmith.cost.graphs.program import open_program\n"
        "from vitsmith.engines.settings import Settings\n"
        "from vitsmith.models.config import ViTConfig\n"
        "config = ViTConfig(width=64, depth=2, heads=1, mlp_width=64, patch=(8, 8), image_size=(16, 16))\n"
        "for engine in ('onnx', 'openvino'):\n"
        "    out = open_program(config, engine, Settings(threads=1)).run(np.ones((3, 3, 16, 16), np.float32))\n"
        "    assert out.shape == (3, 1000) and np.isfinite(out).all() and out.std() > 0.1, out\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Graphs made without torch give what torch's models give, and engines run them by the kernels of real exports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cost.graphs.exports import assert_same_as_export
from tests.tiny import VIT
from vitsmith.cost.graphs.program import graph_of, open_program
from vitsmith.engines.settings import Settings
from vitsmith.errors import InputError
from vitsmith.models.configure import change
from vitsmith.models.parts import BlockConfig

CONFIGS = {
    "plain": VIT,
    "quick, scaled, rms": change(VIT, gelu="quick", norm="rms", norm_before=True, block=BlockConfig(layer_scale=True)),
    "gated, normed": change(VIT, block=BlockConfig(gated=True, qk_norm=True, attention_norm=True, mlp_norm=True)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_graph_gives_what_its_model_gives_by_the_kernels_of_its_export(name: str, tmp_path: Path) -> None:
    assert_same_as_export(CONFIGS[name], tmp_path)


def test_what_is_not_covered_is_named() -> None:
    with pytest.raises(InputError, match="merge"):
        graph_of(change(VIT, merge=(0, 0)))


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

"""Other engines merge as torch does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitsmith as vs
from tests.compress.merge_tokens.models import LARGER
from tests.exporting import export_onnx
from tests.tiny import tiny_inputs, tiny_model
from vitsmith.engines.open import open_engine
from vitsmith.engines.openvino.core import openvino_core
from vitsmith.models.configure import change
from vitsmith.weights.bundle.bundle import Bundle

MERGES: dict[str, dict[str, Any]] = {
    "token": {"merge": (5, 4, 0)},
    "gap": {"merge": (15, 7, 3), "pooling": "gap"},
}


@pytest.fixture(scope="module", params=MERGES)
def exported(request, tmp_path_factory) -> tuple[Bundle, Path]:
    """A model that merges, and its ONNX graph, which passed the gate in batches of 1, 2 and 7."""
    bundle = Bundle.of(tiny_model(change(LARGER, **MERGES[request.param])))
    folder = tmp_path_factory.mktemp("exported") / "model"
    export_onnx(bundle, folder)
    return bundle, folder


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_onnxruntime_and_openvino_merge_alike(exported, batch):
    pytest.importorskip("openvino")
    bundle, folder = exported
    images = tiny_inputs(bundle.config, batch)[0].numpy()
    expected = bundle.run_torch(images)
    np.testing.assert_allclose(open_engine(vs.load(folder), "onnx").run(images), expected, atol=1e-5)
    compiled = openvino_core().compile_model(folder / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled([images])[0], expected, atol=1e-5)


def test_executorch_merges_alike(tmp_path):
    pytest.importorskip("executorch")
    from tests.exporting import export_executorch

    bundle = Bundle.of(tiny_model(change(LARGER, merge=(5, 4, 0))))
    export_executorch(bundle, tmp_path / "model")  # its gate compares batches of 1, 2 and 7
    engine = open_engine(vs.load(tmp_path / "model"), "executorch")
    for batch in (1, 2, 7):
        images = tiny_inputs(bundle.config, batch)[0].numpy()
        np.testing.assert_allclose(engine.run(images), bundle.run_torch(images), atol=2e-3)

"""Programs in a bundle's folder that are none of ours: one line says so, though their hashes are right."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import VIT
from vitsmith import Bundle, ImageSpec
from vitsmith.engines.open import open_engine
from vitsmith.engines.openvino import engine as openvino
from vitsmith.engines.openvino.probe import Probe
from vitsmith.errors import BundleError
from vitsmith.records import Provenance


def bundle(program: Any, folder: Path) -> Bundle:
    """What describes a program in a folder, without golden answers, which most programs would not give."""
    images = ImageSpec.original(VIT.image_size)
    return Bundle(VIT, images, Provenance(source="elsewhere"), program=program, folder=folder)


def foreign_graph(
    path: Path,
    *,
    taken: str = "FLOAT",
    given: str = "FLOAT",
    shape: tuple[Any, ...] = ("b", 3, 16, 24),
    more_in: Sequence[str] = (),
    more_out: Sequence[str] = (),
    classes: int = 5,
) -> None:
    """A graph of means of channels: what it takes and gives, and how much of it, is for the caller to say."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    kinds = {name: getattr(TensorProto, name) for name in (taken, given, "FLOAT")}
    axes = list(range(1, len(shape)))
    weights = [
        numpy_helper.from_array(np.ones((1, classes), np.float32), "w"),
        numpy_helper.from_array(np.array([-1, 1]), "s"),
    ]
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f"], ["m"], keepdims=0, **({"axes": axes} if axes else {})),
        helper.make_node("Reshape", ["m", "s"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["l"]),
        helper.make_node("Cast", ["l"], ["y"], to=kinds[given]),
        *(helper.make_node("Identity", ["l"], [name]) for name in more_out),
    ]
    floats = kinds["FLOAT"]
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("x", kinds[taken], shape)]
        + [helper.make_tensor_value_info(name, floats, (1, 1)) for name in more_in],
        [helper.make_tensor_value_info("y", kinds[given], ("b", classes))]
        + [helper.make_tensor_value_info(name, floats, ("b", classes)) for name in more_out],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.save(made, path)


FOREIGN = [
    ({"more_in": ["z"]}, "has 2 inputs, but programs of bundles have one"),
    ({"more_out": ["z"]}, "has 2 outputs, but programs of bundles have one"),
    ({"taken": "UINT8"}, "uint8"),
    ({"taken": "INT64"}, "int64|token ids"),
    ({"taken": "BOOL"}, "takes booleans with 4 axes"),
    ({"taken": "BFLOAT16"}, "takes numbers of another type with 4 axes"),
    ({"given": "INT32"}, "gives token ids with 2 axes"),
    ({"given": "BFLOAT16"}, "gives numbers of another type with 2 axes"),
    ({"shape": ("b", 3, 32, 32)}, "cannot run its program"),
    ({"shape": ("b", 16, 24, 3)}, "cannot run its program"),
    ({"shape": ("b",)}, "takes floating point with 1 axes"),
    ({"shape": ()}, "takes floating point with 0 axes"),
    ({"classes": 6}, r"gave outputs of shape \(2, 6\), not 2 answers of 5 classes"),
]


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize(("what", "told"), FOREIGN, ids=[str(what) for what, _ in FOREIGN])
def test_a_program_that_is_none_of_ours_is_told_in_one_line(
    engine: str, what: Any, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO's trial in a child is passed over: it would tell the same."""
    monkeypatch.setattr(openvino, "probe", lambda path, hint, batch, plans: Probe(rates=(0.0,) * len(plans)))
    foreign_graph(tmp_path / "model.onnx", **what)
    with pytest.raises(BundleError, match=told) as refused:
        open_engine(bundle("onnx", tmp_path), engine).run(np.zeros((2, 3, 16, 24), np.float32))
    assert "\n" not in str(refused.value) and str(tmp_path) in str(refused.value)


@pytest.mark.filterwarnings("ignore")  # deprecations inside the package
def test_an_executorch_program_that_is_none_of_ours_is_told(tmp_path: Path) -> None:
    from executorch.exir import to_edge

    class Other(torch.nn.Module):
        def __init__(self, answer: Callable[..., Any]) -> None:
            super().__init__()
            self.answer = answer

        def forward(self, *given: Any) -> Any:
            return self.answer(*given)

    def mean(images: torch.Tensor) -> torch.Tensor:
        return images.float().mean((2, 3)).repeat(1, 2)

    images = torch.zeros(1, 3, 16, 24)
    cases: list[tuple[Callable[..., Any], tuple[Any, ...], str]] = [
        (mean, (images.double(),), "takes numbers of another type with 4 axes"),
        (lambda given: (3, mean(given)), (images,), "has 2 outputs"),
        (lambda given: given * 2, (torch.zeros(()),), "takes floating point with 0 axes"),
        (lambda given: mean(given).int(), (images,), "gives token ids with 2 axes"),
    ]
    for answer, inputs, told in cases:
        program = to_edge(torch.export.export(Other(answer), inputs)).to_executorch()
        (tmp_path / "model.pte").write_bytes(program.buffer)
        with pytest.raises(BundleError, match=told):
            open_engine(bundle("executorch", tmp_path), "executorch")
    if sys.platform == "linux":  # others have no names that are not UTF-8
        place = tmp_path / "caf\udce9"
        place.mkdir()
        program = to_edge(torch.export.export(Other(mean), (images,))).to_executorch()
        (place / "model.pte").write_bytes(program.buffer)
        with pytest.raises(BundleError, match="was exported for a batch of exactly 1"):  # it was opened
            open_engine(bundle("executorch", place), "executorch")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), r"onnx failed \(MemoryError\): if memory is short, give it fewer images at once"),
        (RuntimeError("Failed to allocate\nmemory"), r"failed \(Failed to allocate memory\): if memory is short"),
        (ValueError("no"), r"onnx cannot run its program \(no\): export it again"),
    ],
)
def test_a_program_that_fails_at_work_is_one_line(
    error: Exception, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign_graph(tmp_path / "model.onnx")
    engine: Any = open_engine(bundle("onnx", tmp_path), "onnx")
    assert engine.run(np.zeros((2, 3, 16, 24), np.float32)).shape == (2, 5)

    def fail(inputs: Any) -> Any:
        raise error

    monkeypatch.setattr(engine._images, "run", fail)
    with pytest.raises(BundleError, match=told):
        engine.run(np.zeros((1, 3, 16, 24), np.float32))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("beside", [False, True])
def test_a_folder_whose_name_is_not_utf8_is_opened_by_onnxruntime(beside: bool, tmp_path: Path) -> None:
    """Also where weights lie beside the graph."""
    import onnx

    place = tmp_path / "caf\udce9"
    place.mkdir()
    foreign_graph(tmp_path / "model.onnx")
    made = onnx.load(tmp_path / "model.onnx")
    if beside:
        onnx.external_data_helper.set_external_data(made.graph.initializer[0], "model.onnx.data")
    onnx.save(made, tmp_path / "model.onnx")
    for file in tmp_path.glob("model.onnx*"):
        file.rename(place / file.name)
    assert (place / "model.onnx.data").exists() == beside
    engine = open_engine(bundle("onnx", place), "onnx")
    assert engine.run(np.zeros((2, 3, 16, 24), np.float32)).shape == (2, 5)

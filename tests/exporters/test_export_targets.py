"""OpenVINO, ExecuTorch and float16: the answers of torch on the runtimes themselves, and refusals that name a layer."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper

from tests.exporting import export_executorch, export_openvino
from tests.tiny import CONFIGS, pictures, tiny_inputs, tiny_lit, tiny_model, towers
from vitsmith import Bundle, load
from vitsmith.engines.onnx.session import open_session
from vitsmith.engines.open import open_engine
from vitsmith.engines.openvino.core import openvino_core
from vitsmith.errors import GateError
from vitsmith.exporters import executorch as executorch_module
from vitsmith.exporters import float16 as half_module
from vitsmith.exporters import onnx as onnx_module
from vitsmith.exporters import openvino as openvino_module
from vitsmith.exporters.executorch import LARGEST_BATCH
from vitsmith.exporters.float16 import half_from_float
from vitsmith.exporters.gate import Gate
from vitsmith.exporters.kernels import with_fixed_kernels
from vitsmith.exporters.onnx import write_graph
from vitsmith.exporters.parts import Part, parts_of
from vitsmith.gate import first_difference, lowest_cosine, relative_difference
from vitsmith.layers.gelu import gelu_of
from vitsmith.models.config import LiTConfig, ModelConfig, ResNetConfig
from vitsmith.models.configure import change
from vitsmith.specs import ProgramSpec

_LIT = CONFIGS["lit-bert"]
assert isinstance(_LIT, LiTConfig)
FAMILIES: dict[str, ModelConfig] = {
    "vit-token": change(CONFIGS["vit-token"], depth=1),
    "vit-timm": change(CONFIGS["vit-timm"], depth=1),
    "hybrid": change(CONFIGS["hybrid-stages"], depth=1, resnet=ResNetConfig(stages=(1,), width_factor=0.5)),
    "mixer": change(CONFIGS["mixer"], depth=1),
    "lit": LiTConfig(image=change(_LIT.image, depth=1), text=_LIT.text.model_copy(update={"depth": 1})),
}
"""Of one block each: exporting takes a second a block, lowering for ExecuTorch three."""


@functools.cache
def bundle_of(name: str) -> Bundle:
    vocabulary = tiny_lit("lit-bert").vocabulary if name == "lit" else None
    return Bundle.of(tiny_model(FAMILIES[name]), vocabulary=vocabulary).with_golden(pictures(2))


def parts(bundle: Bundle, count: int = 7) -> list[Part]:
    return parts_of(bundle, tiny_inputs(bundle.config, count)[0].numpy())


def assert_same(bundle: Bundle, exported: Bundle, tolerance: float, batches: tuple[int, ...] = (1, 2, 7)) -> None:
    """The engine that users get, on a bundle read from disk, beside torch; of LiT both towers."""
    engine = open_engine(load(exported.folder), exported.program)
    for batch in batches:
        images, *texts = (inputs.numpy() for inputs in tiny_inputs(bundle.config, batch, seed=batch))
        assert relative_difference(bundle.run_torch(images), engine.run(images)) <= tolerance
        if texts:
            tokens = texts[0].astype(np.int32)
            assert relative_difference(bundle.run_texts_torch(tokens), engine.run_texts(tokens)) <= tolerance


def shifted(name: str) -> Callable[[Any], None]:
    """Changes one weight of an ONNX graph."""

    def change_graph(graph: Any) -> None:
        (array,) = [array for array in graph.graph.initializer if array.name == name]
        values = numpy_helper.to_array(array).copy()
        values.reshape(-1)[::2] += 0.5
        array.CopyFrom(numpy_helper.from_array(values, name))

    return change_graph


# --- OpenVINO --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_openvino_gives_the_same_answers_for_any_batch(name: str, tmp_path: Path) -> None:
    bundle = bundle_of(name)
    exported, verdict = export_openvino(bundle, tmp_path / name)
    assert verdict.passed and verdict.relative < 1e-5 and verdict.agreement == 1.0
    programs = {"model.xml", "model.bin"} | ({"text.xml", "text.bin"} if name == "lit" else set())
    found = {path.name for path in exported.folder.iterdir() if path.name.startswith(("model", "text"))}
    assert found == programs and exported.program == "openvino"
    assert_same(bundle, exported, 1e-5)


@pytest.mark.parametrize(("name", "batch"), [("vit-token", 3), ("hybrid", None)])
def test_every_layer_of_a_good_openvino_program_agrees(name: str, batch: int | None, tmp_path: Path) -> None:
    (part,) = parts(bundle_of(name))
    spec = ProgramSpec(batch=batch)
    openvino_module.write_openvino(part, tmp_path / "model.xml", spec)
    layers = list(openvino_module.layer_outputs(part, tmp_path / "model.xml", part.inputs[:2], spec))
    assert first_difference(layers, 1e-4) == ""
    order = [name for name, _, _ in layers]
    milestones = ["resnet.root" if name == "hybrid" else "patches", "blocks.0.mlp.widen", "blocks.0", "head"]
    assert [name for name in order if name in milestones] == milestones
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml"]


def test_openvino_in_fp16_halves_the_weights_and_says_so(tmp_path: Path) -> None:

    bundle = bundle_of("lit")
    exported, verdict = export_openvino(bundle, tmp_path / "half", spec=ProgramSpec(precision="fp16"))
    assert 1e-5 < verdict.relative < 0.02 and verdict.cosine > 0.9999
    assert_same(bundle, exported, 0.02)
    assert load(exported.folder).program_spec.precision == "fp16"
    for name in ("model", "text"):
        constants = openvino_core().read_model(exported.folder / f"{name}.xml").get_ops()
        weights = [op for op in constants if op.get_type_name() == "Constant" and np.prod(op.get_output_shape(0)) > 64]
        kinds = {op.get_element_type().to_string() for op in weights if op.get_element_type().is_real()}
        assert kinds == {"f16"}


def test_openvino_in_bf16_keeps_float_weights_and_is_computed_in_bf16(tmp_path: Path) -> None:

    bundle = bundle_of("vit-token")
    exported, verdict = export_openvino(bundle, tmp_path / "bf16", spec=ProgramSpec(precision="bf16"))
    able = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert open_engine(load(exported.folder)).precision == ("bfloat16" if able else "float32")
    assert (1e-4 if able else 0) < verdict.relative < 0.05
    assert not able or not np.array_equal(exported.golden.outputs, bundle.golden.outputs), "its own golden answers"
    assert_same(bundle, exported, 0.05)
    kinds = {
        op.get_element_type().to_string() for op in openvino_core().read_model(exported.folder / "model.xml").get_ops()
    }
    assert "f32" in kinds and not {"bf16", "f16"} & kinds


def test_openvino_for_one_batch_size_takes_any_number_of_images(tmp_path: Path) -> None:
    bundle = bundle_of("mixer")
    exported, _ = export_openvino(bundle, tmp_path / "fixed", spec=ProgramSpec(batch=4))
    assert_same(bundle, exported, 1e-5, (4, 7))


@pytest.mark.parametrize(
    ("name", "weight", "layer"),
    [
        ("vit-token", "blocks.0.mlp.widen.bias", "blocks.0.mlp.widen"),
        ("lit", "tower.words.weight", "tower.words"),
    ],
)
def test_an_openvino_program_that_differs_is_refused_and_the_layer_is_named(
    name: str, weight: str, layer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_other(part: Part, path: Path, *, batch: int | None) -> None:
        write_graph(part, path, batch=batch)
        graph = onnx.load(path)
        if any(array.name == weight for array in graph.graph.initializer):
            shifted(weight)(graph)
            onnx.save(graph, path)

    monkeypatch.setattr(openvino_module, "write_graph", write_other)
    with pytest.raises(GateError, match=rf"nothing was written: .*the first layer that differs is {layer} \(relative"):
        export_openvino(bundle_of(name), tmp_path / "refused")
    assert not list(tmp_path.iterdir())


def test_openvino_reads_graphs_whose_weights_lie_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_module, "LARGEST_SINGLE_FILE", 0)
    (part,) = parts(bundle_of("vit-token"))
    openvino_module.write_openvino(part, tmp_path / "model.xml", ProgramSpec())
    layers = openvino_module.layer_outputs(part, tmp_path / "model.xml", part.inputs[:2], ProgramSpec())
    assert first_difference(layers, 1e-4) == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml"]


# --- float16 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "which"), [("vit-token", 0), ("hybrid", 0), ("mixer", 0), ("lit", 1)])
def test_float16_graphs_give_nearly_the_same_and_keep_norms_and_softmax_in_float32(
    name: str, which: int, tmp_path: Path
) -> None:
    part = parts(bundle_of(name))[which]
    write_graph(part, tmp_path / "float.onnx")
    half_from_float(tmp_path / "float.onnx", tmp_path / "half.onnx", inputs=part.inputs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["float.onnx", "half.onnx"]

    session = open_session(tmp_path / "half.onnx")
    for batch in (1, 2, 7):
        expected = part.run_torch(part.inputs[:batch])
        (found,) = session.run(None, {part.input_name: part.inputs[:batch]})
        assert found.dtype == np.float32 and relative_difference(expected, found) < 0.02
        assert lowest_cosine(expected, found) > 0.9999

    graph = onnx.load(tmp_path / "half.onnx")
    onnx.checker.check_model(graph, full_check=True)
    kinds = types_of(graph)
    for node in graph.graph.node:
        taken = {kinds[name] for name in node.input if kinds.get(name) in (TensorProto.FLOAT, TensorProto.FLOAT16)}
        if node.op_type in ("LayerNormalization", "InstanceNormalization", "Softmax"):
            assert taken == {TensorProto.FLOAT} and kinds[node.output[0]] == TensorProto.FLOAT
        if node.op_type in ("MatMul", "Gemm", "Conv", "Gelu"):
            assert taken == {TensorProto.FLOAT16}


def types_of(graph: Any) -> dict[str, int]:
    """Element types by inference alone: what the file says of inner tensors is dropped first."""
    graph = copy.deepcopy(graph)
    del graph.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(graph, check_type=True, strict_mode=True).graph
    told = {one.name: one.type.tensor_type.elem_type for one in (*graph.input, *graph.value_info, *graph.output)}
    return told | {one.name: one.data_type for one in graph.initializer}


def test_float16_graphs_with_weights_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (part,) = parts(bundle_of("vit-token"))
    monkeypatch.setattr(onnx_module, "LARGEST_SINGLE_FILE", 0)
    monkeypatch.setattr(half_module, "LARGEST_SINGLE_FILE", 0)
    write_graph(part, tmp_path / "float.onnx")
    half_from_float(tmp_path / "float.onnx", tmp_path / "half.onnx", inputs=part.inputs)
    for left in tmp_path.glob("float.onnx*"):
        left.unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.onnx", "half.onnx.data"]
    (found,) = open_session(tmp_path / "half.onnx").run(None, {"images": part.inputs})
    assert relative_difference(part.run_torch(part.inputs), found) < 0.02


@pytest.mark.parametrize(
    ("factor", "problem"),
    [
        (
            2e4,
            r"nothing was written: blocks\.0\.mlp\.widen gives \d.*, and the largest float16 is 65504; use",
        ),
        (1e8, r"was refused, nothing was written: the weight \S+ has \d.*e\+0\d, and the largest float16 is 65504"),
    ],
)
def test_what_float16_cannot_hold_is_refused(factor: float, problem: str, tmp_path: Path) -> None:
    """The model is sound in float32: what one layer makes larger the next makes smaller."""
    model = tiny_model(FAMILIES["vit-token"])
    with torch.no_grad():
        model.blocks[0].mlp.widen.weight.mul_(factor)
        model.blocks[0].mlp.narrow.weight.div_(factor)
    (part,) = parts(Bundle.of(model))
    write_graph(part, tmp_path / "float.onnx")
    with pytest.raises(GateError, match=problem):
        half_from_float(tmp_path / "float.onnx", tmp_path / "half.onnx", inputs=part.inputs)
    assert [path.name for path in tmp_path.iterdir()] == ["float.onnx"]


# --- ExecuTorch ------------------------------------------------------------------------------------------------------


def test_executorch_gives_the_same_answers_for_any_batch(tmp_path: Path) -> None:
    bundle = bundle_of("vit-token")
    exported, verdict = export_executorch(bundle, tmp_path / "model")
    assert verdict.passed and verdict.relative < 1e-5 and exported.program == "executorch"
    assert_same(bundle, exported, 1e-5, (1, 2, 7, LARGEST_BATCH + 3))
    assert not any(block.attention.explicit for block in bundle.model.blocks), "the model is as it was"


def test_executorch_for_one_batch_size_takes_any_number_of_images(tmp_path: Path) -> None:
    bundle = bundle_of("mixer")
    exported, _ = export_executorch(bundle, tmp_path / "fixed", spec=ProgramSpec(batch=4))
    assert_same(bundle, exported, 1e-5, (4, 7))


def test_executorch_takes_both_towers(tmp_path: Path) -> None:
    bundle = bundle_of("lit")
    exported, _ = export_executorch(bundle, tmp_path / "lit")
    assert {"model.pte", "text.pte"} <= {path.name for path in exported.folder.iterdir()}
    assert_same(bundle, exported, 1e-5)


def test_executorch_computes_a_hybrids_convolutions_in_xnnpack(tmp_path: Path) -> None:
    """Kernels that are standardised while a program runs stay outside."""
    bundle = bundle_of("hybrid")
    (part,) = parts(bundle)
    executorch_module.write_executorch(part, tmp_path / "model.pte", ProgramSpec(batch=2))
    assert (
        operators(tmp_path / "model.pte") & {"aten::convolution", "aten::addmm", "aten::bmm", "aten::softmax"} == set()
    )
    assert (
        relative_difference(part.run_torch(part.inputs[:2]), executed(tmp_path / "model.pte", part.inputs[:2])) < 1e-5
    )


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("form", ["tanh", "erf", "quick"])
def test_executorch_computes_each_form_of_gelu_in_xnnpack(form: Any, precision: Any, tmp_path: Path) -> None:
    """XNNPACK has the erf form alone, and ExecuTorch would take it for the tanh form too; they differ by 5e-4."""
    x = torch.linspace(-6, 6, 4001)[None]
    program = executorch_module.lower(gelu_of(form).eval(), x, ProgramSpec(precision=precision, batch=1))
    with (tmp_path / "gelu.pte").open("wb") as file:
        program.write_to_file(file)
    found = executed(tmp_path / "gelu.pte", x.numpy())
    wide = x.double()
    expected = {
        "tanh": wide / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (wide + 0.044715 * wide**3))),
        "erf": wide / 2 * (1 + torch.erf(wide / 2**0.5)),
        "quick": wide / (1 + torch.exp(-1.702 * wide)),
    }
    assert {other for other, values in expected.items() if np.abs(found - values.numpy()).max() < 1e-6} == {form}
    assert operators(tmp_path / "gelu.pte") == set()


def operators(path: Path) -> set[str]:
    """What a program runs outside XNNPACK."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    (plan,) = deserialize_pte_binary(path.read_bytes()).program.execution_plan
    return {operator.name for operator in plan.operators}


def executed(path: Path, inputs: np.ndarray) -> np.ndarray:
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method("forward")
    return method.execute([torch.from_numpy(inputs)])[0].numpy().copy()


def test_executorch_in_int8(tmp_path: Path) -> None:
    """A model wide enough that its linear layers are most of it."""
    bundle = Bundle.of(tiny_model(change(FAMILIES["vit-token"], width=128, mlp_width=256))).with_golden(pictures(2))
    spec = ProgramSpec(precision="int8", pixels=True)  # the convolution of pixels in int8 would lose a twentieth
    exported, verdict = export_executorch(bundle, tmp_path / "int8", spec=spec)
    assert 1e-3 < verdict.relative < 0.1 and verdict.cosine > 0.99
    assert exported.program_spec.precision == "int8"
    assert_same(bundle, exported, 0.1)
    linear = [one.weight.numel() for one in bundle.model.modules() if isinstance(one, torch.nn.Linear)]
    every = sum(one.numel() for one in bundle.model.parameters())
    size = (exported.folder / "model.pte").stat().st_size
    assert size < 4 * every - 2.5 * sum(linear), "of each linear weight three bytes of four are gone"


def test_executorch_in_int8_leaves_a_hybrids_convolutions_in_float(tmp_path: Path) -> None:
    """XNNPACK does not run them."""
    bundle = Bundle.of(tiny_model(FAMILIES["hybrid"])).with_golden(pictures(2))
    spec = ProgramSpec(precision="int8", pixels=True)
    _, verdict = export_executorch(bundle, tmp_path / "int8", spec=spec)
    assert verdict.cosine > 0.99


def test_executorch_in_int8_takes_attention_pooling(tmp_path: Path) -> None:
    bundle = Bundle.of(tiny_model(change(towers()["siglip"], depth=1, classes=5))).with_golden(pictures(2))
    exported, verdict = export_executorch(bundle, tmp_path / "int8", spec=ProgramSpec(precision="int8"))
    assert verdict.cosine > 0.99
    assert operators(exported.folder / "model.pte") & {"aten::where", "aten::logical_not", "aten::any"} == set()


def test_the_gate_sees_another_form_of_gelu_in_an_executorch_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executorch_module, "_tanh_gelu", lambda *_, **__: NotImplemented)
    with pytest.raises(GateError, match=r"outputs differ by .* the first layer that differs is blocks\.0\.mlp"):
        export_executorch(bundle_of("vit-token"), tmp_path / "model")


def test_an_executorch_program_that_differs_is_refused_and_the_layer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = executorch_module.with_fixed_kernels

    def with_another_bias(module: torch.nn.Module) -> torch.nn.Module:
        module = copy.deepcopy(right(module))
        bias = dict(module.named_parameters())
        (name,) = [name for name in bias if name.endswith("blocks.0.channel_mixing.narrow.bias")]
        bias[name].data[::2] += 0.5
        return module

    bundle, spec = bundle_of("mixer"), ProgramSpec(batch=2)
    (part,) = parts(bundle, 2)
    layers = list(executorch_module.layer_outputs(part, tmp_path / "layers.pte", part.inputs, spec))
    assert first_difference(layers, 1e-3) == "" and [name for name, _, _ in layers][-2:] == ["norm", "head"]
    monkeypatch.setattr(executorch_module, "with_fixed_kernels", with_another_bias)
    problem = r"differs is blocks\.0\.channel_mixing\.narrow \(relative"
    with pytest.raises(GateError, match=problem):
        export_executorch(bundle, tmp_path / "refused", spec=spec, gate=Gate(images=pictures(2)))
    assert not list(tmp_path.iterdir())


# --- kernels ---------------------------------------------------------------------------------------------------------


def test_fixed_kernels_change_nothing() -> None:
    model = tiny_model(CONFIGS["hybrid-stages"])
    images = tiny_inputs(model.config, 3)[0]
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    fixed = with_fixed_kernels(model)
    with torch.inference_mode():
        torch.testing.assert_close(fixed(images), model(images), rtol=0, atol=0)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())
    assert [name for name, _ in fixed.named_modules()] == [name for name, _ in model.named_modules()]
    kernel = fixed.get_submodule("resnet.root").weight
    torch.testing.assert_close(kernel.mean(dim=(1, 2, 3)), torch.zeros(len(kernel)), rtol=0, atol=1e-6)
    plain = tiny_model(CONFIGS["vit-token"])
    assert with_fixed_kernels(plain) is plain

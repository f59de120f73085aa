"""Reports count what a model costs, and say where each product is computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engines.programs import (
    torch_bundle,
    written,
)
from tests.tiny import VIT, tiny_model
from vitsmith import Bundle, machine
from vitsmith.engines.graph_report import Node, report_of
from vitsmith.engines.open import open_engine
from vitsmith.engines.openvino.core import openvino_core
from vitsmith.models.cost import flops
from vitsmith.specs import ProgramSpec


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_reports_count_what_the_model_costs(engine: str, programs: Any) -> None:
    """A Mixer computes everything, so that its products are those of `models.cost`; a ViT less in its last block."""
    mixer, vit = programs("mixer"), programs("vit-token")
    report = open_engine(mixer["onnx"], engine).report()
    assert report.flops == flops(mixer["torch"].config)
    assert report.attention_text == "none" and report.precision == {"fp32": 1.0} and report.delegated_flops == 1.0
    report = open_engine(vit["onnx"], engine).report()
    assert report.flops is not None and 0.6 * flops(VIT) < report.flops < flops(VIT)
    if engine == "openvino":
        assert report.attention == (2, 2) and not any("fused" in remark for remark in report.remarks)
    else:
        assert report.attention == (0, 2) and "attention is not fused: scores go through memory" in report.remarks
    assert report.nodes > 40 and report.delegated_nodes is not None and report.delegated_nodes > 0.9
    assert json.loads(json.dumps(report.to_dict()))["flops"] == report.flops
    facts = dict(report.facts())
    assert facts["engine"] == engine and facts["precision of products"] == "fp32"


def test_weights_stored_in_fewer_bits_do_not_count_as_arithmetic(programs: Any, tmp_path: Path) -> None:
    import openvino

    made = programs("vit-token")

    def write(place: Path) -> None:
        model = openvino_core().read_model(str(made["onnx"].folder / "model.onnx"))
        openvino.save_model(model, str(place / "model.xml"), compress_to_fp16=True)

    halved = written(made["torch"], tmp_path / "halved", "openvino", write, ProgramSpec(precision="fp16"))
    report = open_engine(halved, precision="fp32").report()
    assert report.precision == {"fp32": 1.0} and report.remarks == ()


def test_the_report_of_bfloat16_says_so(programs: Any) -> None:
    if not machine.bf16_dot_products():
        pytest.skip("this processor has no bfloat16")
    report = open_engine(programs("vit-token")["openvino"], precision="bf16").report()
    assert report.precision == {"bf16": 1.0} and report.attention == (2, 2)


def test_torch_says_whether_attention_is_fused(programs: Any) -> None:
    bundle = torch_bundle("vit-token")
    report = open_engine(bundle, precision="bf16").report()
    assert report.attention_text == "fused" and report.precision == {"bf16": 1.0} and report.delegated_nodes is None
    bundle.model.blocks[0].attention.explicit = True
    report = open_engine(bundle).report()
    assert report.attention_text == "1 of 2 fused" and any("explicit=True" in remark for remark in report.remarks)


def test_a_report_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.of(tiny_model(VIT), program_spec=ProgramSpec(precision="int8"))
    nodes = [
        Node("MatMul", "int8", 60),
        Node("Attention", "fp32", 30, attention=True),
        Node("Conv", "fp32", 10, optimised=False),
        Node("Add", "fp32", optimised=False),
    ]
    monkeypatch.setattr("vitsmith.engines.graph_report.int8_dot_products", lambda: False)
    report = report_of("some", nodes, 2, bundle, ["a remark"])
    assert (report.nodes, report.delegated_nodes, report.delegated_flops, report.flops) == (4, 0.5, 0.9, 50)
    assert report.precision == {"int8": 0.6, "fp32": 0.4} and report.precision_text == "int8 60%, fp32 40%"
    assert report.attention == (1, 2) and report.attention_text == "1 of 2 fused"
    assert report.remarks == (
        "a remark",
        "1 of 2 attentions are not fused: scores go through memory",
        "not on optimised kernels: Conv",
        "this processor has no int8 dot products (VNNI, AMX, asimddp): the float program may be faster",
    )
    assert "no product is computed in int8" in report_of("some", nodes[1:], 2, bundle).remarks

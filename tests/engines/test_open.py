"""What goes together: programs, engines, precisions and packages, and who is refused."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

import numpy as np
import pytest
import torch

from tests.engines.programs import (
    assert_close,
)
from tests.tiny import CONFIGS, tiny_inputs, tiny_model
from vitsmith import Bundle
from vitsmith.engines import registry
from vitsmith.engines.open import open_engine
from vitsmith.engines.openvino import core as openvino
from vitsmith.engines.openvino.core import openvino_core
from vitsmith.errors import BundleError, InputError, MissingPackageError, UnknownNameError
from vitsmith.specs import ProgramSpec


@pytest.mark.parametrize(
    ("program", "engine", "precision", "problem"),
    [
        ("torch", "onnx", "auto", r"for the 'torch' engine, not 'onnx'; make one with  vitsmith export --to onnx"),
        ("torch", "openvino", "auto", r"not 'openvino'; make one with  vitsmith export --to openvino"),
        ("onnx", "torch", "auto", r"for the 'onnx' engine, not 'torch'; it also runs in 'openvino'"),
        ("onnx", "executorch", "auto", r"for the 'onnx' engine, not 'executorch'; it also runs in 'openvino'"),
        ("openvino", "onnx", "auto", r"for the 'openvino' engine, not 'onnx'$"),
        ("onnx", "onnx", "bf16", r"cannot run in bf16: onnx runs it in fp32; openvino runs it in fp32 or bf16"),
        ("torch", "torch", "fp16", r"cannot run in fp16: torch runs it in fp32 or bf16"),
        ("onnx", "auto", "int8", r"\(onnx program, fp32\) cannot run in int8: onnx runs it in fp32"),
    ],
)
def test_what_does_not_go_together_says_what_would(
    program: str, engine: str, precision: str, problem: str, programs: Any
) -> None:
    with pytest.raises(InputError, match=problem) as refused:
        open_engine(programs("vit-token")[program], engine, precision=precision)
    assert "\n" not in str(refused.value)


def test_names_nobody_knows_are_refused(programs: Any) -> None:
    bundle = programs("vit-token")["torch"]
    with pytest.raises(UnknownNameError, match=r"unknown engine 'openvnio': did you mean openvino\?"):
        open_engine(bundle, "openvnio")
    with pytest.raises(UnknownNameError, match="unknown precision 'fp4'"):
        open_engine(bundle, precision="fp4")
    with pytest.raises(UnknownNameError, match="unknown goal 'speed': known are latency, throughput"):
        open_engine(bundle, goal="speed")  # type: ignore[arg-type]
    for name, threads in (("torch", 0), ("onnx", -1), ("openvino", 0)):
        made = programs("vit-token")[name]
        with pytest.raises(InputError, match=f"a whole number from 1 to 1,024, not {threads}"):
            open_engine(made, name, threads=threads)


def test_a_package_that_is_not_installed_is_named(programs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = programs("vit-token")
    missing = {"openvino", "onnxruntime"}
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name in missing else object())
    with pytest.raises(MissingPackageError, match=r"needs openvino.*: run  pip install 'vitsmith\[openvino\]'"):
        open_engine(made["onnx"], "openvino")
    with pytest.raises(MissingPackageError, match=r"needs onnxruntime.*: run  pip install 'vitsmith\[onnx\]'"):
        open_engine(made["onnx"])
    missing.remove("openvino")
    opened = open_engine(made["onnx"])
    assert opened.name == "openvino" and opened.why == "openvino: the only engine installed here that runs this"


def test_compiling_needs_a_compiler(programs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler, and g\+\+ or clang\+\+ or c\+\+ is not installed"):
        open_engine(programs("vit-token")["torch"], "torch-compiled")


def hint_of(bundle: Bundle, **options: Any) -> str:
    opened: Any = open_engine(dataclasses.replace(bundle, golden=None), "openvino", **options)
    return opened._images.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()


def test_openvino_is_told_its_precision(programs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Untold, it computes in bfloat16 wherever the processor can."""

    capabilities = openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    bf16, fp16 = ("bf16" if "BF16" in capabilities else "f32"), ("f16" if "FP16" in capabilities else "f32")
    bundle = programs("vit-token")["openvino"]
    assert hint_of(bundle) == hint_of(bundle, precision="fp32") == "f32"
    assert hint_of(bundle, precision="bf16") == bf16

    def as_if(**spec: Any) -> Bundle:
        return dataclasses.replace(bundle, program_spec=ProgramSpec(**spec))

    assert hint_of(as_if(precision="bf16")) == bf16 and hint_of(as_if(precision="bf16"), precision="fp32") == "f32"
    assert hint_of(as_if(precision="fp16")) == fp16
    assert hint_of(as_if(precision="int8")) == "f32" and hint_of(as_if(precision="int8", rest="bf16")) == bf16
    with pytest.raises(InputError, match="cannot run in bf16: openvino runs it in int8"):
        open_engine(as_if(precision="int8"), "openvino", precision="bf16")


def test_a_processor_without_bfloat16_computes_in_float32_and_says_so(
    programs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino as package

    class Core(package.Core):  # type: ignore[misc]
        def get_property(self, *names: Any) -> Any:
            return ["FP32", "INT8"] if names[-1] == "OPTIMIZATION_CAPABILITIES" else super().get_property(*names)

    without = Core()
    monkeypatch.setattr(openvino, "openvino_core", lambda: without)
    made = programs("vit-token")
    opened = open_engine(made["openvino"], "openvino", precision="bf16")
    assert opened.precision == "float32" and opened.report().precision == {"fp32": 1.0}
    assert "this processor does not compute in bf16: floats are computed in fp32" in opened.report().remarks
    images = tiny_inputs(made["torch"].config, 3)[0].numpy()
    assert_close(opened.run(images), made["torch"].run_torch(images))


def test_bfloat16_is_close_and_checked_with_the_golden_answers(programs: Any) -> None:
    made = programs("vit-token")
    opened = open_engine(made["onnx"], precision="bf16")  # onnxruntime has none
    images = tiny_inputs(made["torch"].config, 7)[0].numpy()
    assert opened.name == "openvino" and opened.why.endswith("runs this in bf16")
    assert_close(opened.run(images), made["torch"].run_torch(images), 0.05)
    golden = made["onnx"].golden
    wrong = dataclasses.replace(made["onnx"], golden=dataclasses.replace(golden, outputs=golden.outputs + 1))
    with pytest.raises(BundleError, match=r"allowed 0\.05.*: bf16 is too coarse for this model, or goes wrong here"):
        open_engine(wrong, precision="bf16")


def test_precisions_of_gpus_are_refused_without_one_and_quantise_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.of(tiny_model(CONFIGS["vit-token"]))
    with pytest.raises(InputError, match=r"cannot run in int8-weights: .*int8-weights needs an NVIDIA GPU"):
        open_engine(bundle, "torch", precision="int8-weights")
    monkeypatch.setattr("vitsmith.needs_torch.has_gpu", lambda: True)
    engine = open_engine(bundle, "torch", precision="int8-weights")
    images = tiny_inputs(bundle.config, 3)[0].numpy()
    expected, found = bundle.run_torch(images), engine.run(images)
    assert engine.precision == "int8-weights"
    assert 1e-4 < np.abs(found - expected).max() / np.abs(expected).max() < 0.05
    with pytest.raises(InputError, match="fp8 is for an NVIDIA GPU"):
        open_engine(bundle, "torch", precision="fp8")

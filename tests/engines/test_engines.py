"""Every engine gives torch's answers for any batch, says what it does, and is refused where it cannot be trusted."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import CONFIGS, MIXER, VIT, pictures, tiny_inputs, tiny_lit, tiny_model
from vitsmith import Bundle, ImageSpec, machine
from vitsmith.data.images.preprocess import normalize
from vitsmith.engines import choice, registry
from vitsmith.engines.chunks import run_in_chunks
from vitsmith.engines.graph_report import Node, report_of
from vitsmith.engines.open import open_engine
from vitsmith.engines.openvino import engine as openvino
from vitsmith.engines.openvino import probe as openvino_probe
from vitsmith.engines.openvino.core import openvino_core
from vitsmith.engines.openvino.graph import OpenVinoGraph
from vitsmith.engines.plan import Plan, default_plan, plans, race
from vitsmith.engines.settings import Settings
from vitsmith.engines.tuning_cache import place_of, question, recall, remember
from vitsmith.errors import BundleError, InputError, MissingPackageError, UnknownNameError
from vitsmith.exporters.onnx import write_graph
from vitsmith.exporters.parts import parts_of
from vitsmith.models.configure import change
from vitsmith.models.cost import flops
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.folder import write_bundle

FLOAT = ProgramSpec()
FAMILIES = ["vit-token", "hybrid-stages", "mixer", "lit-bert"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for this file: what was probed once need not be again."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("cache")
        patch.setenv("VITSMITH_CACHE", str(place))
        yield place


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def torch_bundle(name: str) -> Bundle:
    bundle = tiny_lit(name) if name.startswith("lit") else Bundle.of(tiny_model(CONFIGS[name]))
    return bundle.with_golden(pictures(2))


def written(
    bundle: Bundle, folder: Path, program: Any, write: Callable[[Path], None], spec: ProgramSpec = FLOAT
) -> Bundle:
    """A bundle on disk with another program in it, without the gate."""
    similarity = bundle.similarity if bundle.text is not None else None
    other = dataclasses.replace(
        bundle, program=program, program_spec=spec, _model=None, _similarity=similarity, _weights_hash="0" * 64
    )
    return write_bundle(other, folder, write_program=write)


def onnx_bundle(bundle: Bundle, folder: Path, spec: ProgramSpec = FLOAT) -> Bundle:
    def write(place: Path) -> None:
        assert bundle.golden is not None
        for part in parts_of(bundle, bundle.golden.tensors, pixels=spec.pixels):
            write_graph(part, place / f"{part.name}.onnx", batch=spec.batch)

    return written(bundle, folder, "onnx", write, spec)


def openvino_bundle(bundle: Bundle, onnx: Bundle, folder: Path) -> Bundle:
    import openvino

    def write(place: Path) -> None:
        assert onnx.folder is not None
        for graph in onnx.folder.glob("*.onnx"):
            model = openvino_core().read_model(str(graph))
            openvino.save_model(model, str(place / f"{graph.stem}.xml"), compress_to_fp16=False)

    return written(bundle, folder, "openvino", write)


Programs = dict[str, Bundle]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Programs]:
    """Bundles of a family by their program, made once."""
    made: dict[str, Programs] = {}

    def make(name: str) -> Programs:
        if name not in made:
            place = tmp_path_factory.mktemp(name)
            bundle = torch_bundle(name)
            onnx = onnx_bundle(bundle, place / "onnx")
            made[name] = {"torch": bundle, "onnx": onnx, "openvino": openvino_bundle(bundle, onnx, place / "openvino")}
        return made[name]

    return make


@pytest.fixture(scope="module")
def executorch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    """(torch, executorch) of a Mixer of one block, for up to four images at a time."""
    import warnings

    bundle = Bundle.of(tiny_model(change(MIXER, depth=1))).with_golden(pictures(2))

    def write(place: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower

            sizes = ({0: torch.export.Dim("batch", min=1, max=4)},)
            exported = torch.export.export(bundle.model, tiny_inputs(bundle.config, 2), dynamic_shapes=sizes)
            lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
            (place / "model.pte").write_bytes(lowered.to_executorch().buffer)

    return bundle, written(bundle, tmp_path_factory.mktemp("executorch") / "model", "executorch", write)


def assert_close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    assert found.dtype == np.float32 and found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(initial=0), 1e-9))


# --- every engine ----------------------------------------------------------------------------------------------------

PAIRS = [("torch", "torch"), ("onnx", "onnx"), ("onnx", "openvino"), ("openvino", "openvino")]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(("program", "engine"), PAIRS)
def test_every_engine_gives_the_same_answers_for_any_batch(name: str, program: str, engine: str, programs: Any) -> None:
    made = programs(name)
    bundle, opened = made["torch"], open_engine(made[program], engine)
    assert (opened.name, opened.precision, opened.why) == (engine, "float32", "asked for by name")
    for batch in (1, 2, 7, 1, 0):
        images, *tokens = (inputs.numpy() for inputs in tiny_inputs(bundle.config, batch, seed=batch))
        assert_close(opened.run(images), bundle.run_torch(images))
        for texts in tokens:
            some = texts.astype(np.int32)
            assert_close(opened.run_texts(some), bundle.run_texts_torch(some))
    if bundle.text is None:
        with pytest.raises(InputError, match="is a model of images alone: it cannot read text"):
            opened.run_texts(np.zeros((1, 6), np.int32))


def test_executorch_gives_the_same_answers_for_any_batch(executorch: tuple[Bundle, Bundle], capfd: Any) -> None:
    """XNNPACK's GELU and softmax are approximations."""
    bundle, exported = executorch
    opened = open_engine(exported)
    assert (opened.name, opened.precision) == ("executorch", "float32")
    for batch in (1, 2, 7, 0):
        images = tiny_inputs(bundle.config, batch, seed=batch)[0].numpy()
        assert_close(opened.run(images), bundle.run_torch(images), 5e-4)
    report = opened.report()
    assert report.flops == flops(bundle.config) and report.delegated_flops == 1.0 and report.precision == {"fp32": 1.0}
    assert report.attention_text == "none"
    assert report.delegated_nodes is not None and 0.2 < report.delegated_nodes < 1
    assert any("not delegated to XNNPACK: " in one and "aten::native_layer_norm" in one for one in report.remarks)
    assert capfd.readouterr().out == ""


def test_an_executorch_program_frozen_elsewhere_is_told(executorch: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    _, exported = executorch
    three = dataclasses.replace(exported, program_spec=ProgramSpec(batch=3))
    images = tiny_inputs(exported.config, 7)[0].numpy()
    assert_close(open_engine(three).run(images), open_engine(exported).run(images))
    with pytest.raises(BundleError, match=r"model\.pte takes batches of 4, its bundle says 5; export it again"):
        open_engine(dataclasses.replace(exported, program_spec=ProgramSpec(batch=5)))
    (tmp_path / "model.pte").write_bytes(b"not a program")
    with pytest.raises(BundleError, match=r"model\.pte cannot be opened by executorch") as refused:
        open_engine(dataclasses.replace(exported, folder=tmp_path))
    assert "\n" not in str(refused.value)


def test_compiled_torch_gives_the_same_answers_for_any_batch() -> None:
    bundle = Bundle.of(tiny_model(change(VIT, depth=1)))
    opened = open_engine(bundle, "torch-compiled")
    for batch in (2, 7, 3, 1, 0):
        images = tiny_inputs(bundle.config, batch, seed=batch)[0].numpy()
        assert_close(opened.run(images), bundle.run_torch(images))
    assert opened.report().engine == "torch-compiled" and opened.report().attention == (1, 1)


def test_arrays_of_any_kind_are_read_alike(programs: Any) -> None:
    """OpenVINO shares only plain arrays with its requests: others it copies, and frees the copy before it is read."""
    bundle = programs("vit-token")["torch"]
    images = tiny_inputs(bundle.config, 8)[0].numpy()
    expected = bundle.run_torch(images)
    backwards = np.ascontiguousarray(images[:, :, :, ::-1])[:, :, :, ::-1]
    fixed = images.copy()
    fixed.flags.writeable = False
    for engine in ("onnx", "openvino"):
        run = open_engine(programs("vit-token")["onnx"], engine).run
        for same in (backwards, np.asfortranarray(images), fixed):
            for _ in range(5):
                assert_close(run(same), expected)
                assert_close(run(same[:1]), expected[:1])


@pytest.mark.parametrize("engine", ["torch", "onnx", "openvino"])
def test_what_does_not_fit_is_told_in_the_same_words_by_every_engine(engine: str, programs: Any) -> None:
    """OpenVINO waits for ever when it is given channels last."""
    bundle = programs("vit-token")["torch" if engine == "torch" else "onnx"]
    height, width = bundle.preprocessing.size
    run = open_engine(bundle, engine).run
    for shape, told in (
        ((2, 3, height + 16, width), "create or load the model with image_size"),
        ((2, height, width, 3), "channels last"),
        ((3, height, width), "add the batch dimension"),
        ((2, 1, height, width), "three channels"),
    ):
        with pytest.raises(InputError, match=told):
            run(np.zeros(shape, np.float32))
    for kind in (np.uint8, np.int64, bool, np.complex64):  # pixels that nobody normalised
        with pytest.raises(InputError, match="must be normalised floating-point numbers, got "):
            run(np.ones((2, 3, height, width), kind))
    images = tiny_inputs(bundle.config, 2)[0].numpy()
    assert_close(run(images.astype(np.float64)), run(images))


def test_pixels_and_tokens_that_do_not_fit_are_told(programs: Any, tmp_path: Path) -> None:
    bundle = programs("vit-token")["torch"]
    height, width = bundle.preprocessing.size
    engine = open_engine(onnx_bundle(bundle, tmp_path / "pixels", ProgramSpec(pixels=True)), "onnx")
    for wrong in (np.zeros((2, height, width, 3), np.float32), np.zeros((2, height + 1, width, 3), np.uint8)):
        with pytest.raises(InputError, match=rf"pixels must be uint8 of shape \(batch, {height}, {width}, 3\), got"):
            engine.run_pixels(wrong)
    texts = open_engine(programs("lit-bert")["onnx"], "onnx")
    for wrong in (np.zeros((2, 3), np.int32), np.zeros((2, programs("lit-bert")["torch"].config.text.length))):
        with pytest.raises(InputError, match="tokens must be integers of shape"):
            texts.run_texts(wrong)


LET_GO = """
    import signal, sys, threading
    from vitsmith import load
    from vitsmith.engines.open import open_engine

    held = [open_engine(load(sys.argv[1]), "openvino")]
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join()
    signal.signal(signal.SIGINT, lambda *_: print("told"))
    signal.raise_signal(signal.SIGINT)
"""


def test_ctrl_c_is_told_after_an_engine_was_let_go_in_another_thread(programs: Any) -> None:
    """OpenVINO would take away the stack that signals are told on, see `openvino_core`."""
    folder = programs("vit-token")["openvino"].folder
    command = [sys.executable, "-c", textwrap.dedent(LET_GO), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "told\n"), done.stderr


def test_an_engine_may_be_used_from_several_threads(programs: Any) -> None:
    bundle = programs("vit-token")["torch"]
    inputs = [tiny_inputs(bundle.config, batch, seed=batch)[0].numpy() for batch in range(1, 9)]
    for engine in ("onnx", "openvino"):
        run = open_engine(programs("vit-token")["onnx"], engine).run
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(run, inputs))
        for images, outputs in zip(inputs, found, strict=True):
            assert_close(outputs, bundle.run_torch(images))


# --- what goes together ----------------------------------------------------------------------------------------------


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


# --- precision -------------------------------------------------------------------------------------------------------


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


# --- frozen batches, pixels ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def frozen(programs: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return onnx_bundle(programs("vit-token")["torch"], tmp_path_factory.mktemp("frozen") / "m", ProgramSpec(batch=3))


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_program_frozen_at_a_batch_runs_all_others_in_pieces(engine: str, frozen: Bundle, programs: Any) -> None:
    bundle, opened = programs("vit-token")["torch"], open_engine(frozen, engine)
    for batch in (1, 3, 7, 0):
        images = tiny_inputs(bundle.config, batch, seed=batch)[0].numpy()
        assert_close(opened.run(images), bundle.run_torch(images))


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_a_batch_frozen_by_someone_else_is_told(engine: str, frozen: Bundle) -> None:
    foreign = dataclasses.replace(frozen, program_spec=ProgramSpec())
    with pytest.raises(BundleError, match=r"model\.onnx was exported for a batch of exactly 3; export it again with"):
        open_engine(foreign, engine)
    other = dataclasses.replace(frozen, program_spec=ProgramSpec(batch=2))
    with pytest.raises(BundleError, match=r"model\.onnx takes batches of 3, its bundle says 2"):
        open_engine(other, engine)


def test_chunks_are_made_up_and_cut() -> None:
    seen: list[int] = []

    def run(inputs: np.ndarray) -> np.ndarray:
        seen.append(len(inputs))
        return inputs.sum(axis=1, keepdims=True)

    inputs = np.arange(14, dtype=np.float32).reshape(7, 2)
    np.testing.assert_array_equal(run_in_chunks(run, inputs, 3)[:, 0], [1, 5, 9, 13, 17, 21, 25])
    assert seen == [3, 3, 3]
    assert run_in_chunks(run, inputs[:0], 3).shape == (0, 1)


def test_programs_of_pixels_take_both(programs: Any, tmp_path: Path) -> None:
    images = ImageSpec.pillow(VIT.image_size, resize="squash", interpolation="bilinear", mean=(0.4, 0.5, 0.6))
    bundle = Bundle.of(tiny_model(VIT), preprocessing=images).with_golden(pictures(2))
    exported = onnx_bundle(bundle, tmp_path / "pixels", ProgramSpec(pixels=True))
    pixels = np.random.default_rng(0).integers(0, 256, (5, *VIT.image_size, 3), np.uint8)
    tensors = np.stack([normalize(one, images) for one in pixels])
    for engine in ("onnx", "openvino"):
        opened = open_engine(exported, engine)
        assert_close(opened.run_pixels(pixels), bundle.run_torch(tensors))
        assert_close(opened.run(tensors), bundle.run_torch(tensors))
    for program, engine in PAIRS:
        with pytest.raises(InputError, match=r"take.* normalised images.*: export .*with `pixels`"):
            open_engine(programs("vit-token")[program], engine).run_pixels(pixels)


# --- plans -----------------------------------------------------------------------------------------------------------


def test_plans_fit_the_goal_and_the_machine() -> None:
    assert default_plan("throughput", 2) == Plan(4, 2, 2) and default_plan("latency", 2) == Plan(1, 1, 2)
    for goal in ("throughput", "latency"):
        for threads in (1, 2, 7, 64):
            some = plans(goal, threads)
            assert len(set(some)) == len(some) <= 4
            assert all(plan.streams <= threads and 1 <= plan.threads <= threads for plan in some)
            assert all(plan.chunk == 5 for plan in plans(goal, threads, batch=5))


def test_a_race_takes_turns_and_the_best_of_them() -> None:
    now, order = [0.0], []

    def takes(name: str, seconds: Sequence[float]) -> Callable[[], None]:
        left = iter(seconds)

        def run() -> None:
            order.append(name)
            now[0] += next(left)

        return run

    runs = [takes("a", [9, 1, 4]), takes("b", [2, 2, 2])]
    assert race(runs, 8, seconds=15, clock=lambda: now[0]) == [8.0, 4.0]
    assert order == ["a", "b", "a", "b", "a", "b"]  # no fourth turn: 20 seconds are gone
    assert race([takes("c", [5.0])], 10, seconds=0, clock=lambda: now[0]) == [2.0]


def test_what_is_left_over_runs_singly_once_repeats_have_cost_enough(programs: Any) -> None:
    """Before, a rest is made up with repeats: compiling for it would cost more than it has saved so far."""
    bundle, onnx = programs("vit-token")["torch"], programs("vit-token")["onnx"]
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    graph = OpenVinoGraph(onnx.folder / "model.onnx", "f32", Plan(4, 2, 2), clock=clock)
    assert graph._compile_seconds == 1.0
    singly = []
    for batch in (5, 7, 4, 1, 6, 2):  # of a second each, repeats take 3/8, 1/8, -, 3/4, and that makes more than one
        images = tiny_inputs(bundle.config, batch, seed=batch)[0].numpy()
        assert_close(graph.run(images), bundle.run_torch(images))
        singly.append(graph.runs_singly)
    assert singly == [False, False, False, True, True, True]


@pytest.mark.parametrize(
    "damaged",
    [None, [], {}, {"chunk": 4}, {"chunk": "4", "streams": 2, "threads": 2, "spinning": False},
     {"chunk": 0, "streams": 2, "threads": 2, "spinning": False},
     {"chunk": True, "streams": 2, "threads": 2, "spinning": False}],
)  # fmt: skip
def test_a_plan_that_is_none_is_not_believed(damaged: Any) -> None:
    assert Plan.from_dict(damaged) is None
    assert Plan.from_dict(json.loads(json.dumps(Plan(4, 2, 2, True).to_dict()))) == Plan(4, 2, 2, True)


# --- the probe -------------------------------------------------------------------------------------------------------


def die_with(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(openvino_probe, "COMMAND", (sys.executable, "-S", "-c", f"import os, signal, sys; {code}"))


def test_a_program_that_kills_its_process_is_refused_and_that_is_remembered(
    programs: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = programs("vit-token")["onnx"]
    problem = r"model\.onnx: openvino, tried in a child process, died with SIGFPE"
    with monkeypatch.context() as patch:
        die_with(patch, "os.kill(os.getpid(), signal.SIGFPE)")
        with pytest.raises(InputError, match=problem + r": use engine 'onnx'$"):
            open_engine(onnx, "openvino")
        with pytest.raises(InputError, match=r"SIGFPE: export the model to onnx and use that"):
            open_engine(programs("vit-token")["openvino"])
    monkeypatch.setattr(openvino_probe, "try_in_child", None)  # nothing is tried again
    with pytest.raises(InputError, match=problem + r" \(remembered in .*cache/engines/.*\.json\)"):
        open_engine(onnx, "openvino")


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "died with SIGKILL"),
        ("sys.exit(3)", r"ended with exit code 3 \(no output\)"),
        ("print('no JSON'); print('first', file=sys.stderr); print('out of memory', file=sys.stderr)",
         r"ended with exit code 0 \(out of memory\)"),
    ],
)  # fmt: skip
def test_an_end_from_outside_is_told_and_not_remembered(
    code: str, how: str, programs: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = programs("vit-token")["onnx"]
    with monkeypatch.context() as patch:
        die_with(patch, code)
        with pytest.raises(InputError, match=how):
            open_engine(onnx, "openvino")
        patch.setattr(openvino_probe, "LONGEST", 0.0001)
        with pytest.raises(InputError, match="did not finish within"):
            open_engine(onnx, "openvino")
    assert not own_cache.exists()


def test_what_the_child_finds_wrong_is_told_in_one_line(programs: Any, tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"model\.onnx cannot be opened by openvino") as refused:
        open_engine(dataclasses.replace(programs("vit-token")["onnx"], folder=tmp_path), "openvino")
    assert "\n" not in str(refused.value)


def test_a_program_is_probed_once(programs: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, tried = programs("vit-token"), []
    probe = openvino_probe.probe

    def counted(*arguments: Any) -> openvino_probe.Probe:
        tried.append(arguments)
        return probe(*arguments)

    monkeypatch.setattr(openvino, "probe", counted)
    for _ in range(2):
        open_engine(made["onnx"], "openvino")
    moved = shutil.copytree(made["onnx"].folder, own_cache.parent / "moved")
    open_engine(dataclasses.replace(made["onnx"], folder=moved), "openvino")  # the same program
    assert len(tried) == 1
    open_engine(made["onnx"], "openvino", precision="bf16")
    open_engine(made["openvino"])
    assert len(tried) == 3


def test_plans_are_measured_in_the_child_for_auto(
    programs: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = programs("vit-token")
    named: Any = open_engine(made["openvino"], "openvino", threads=2)
    assert named.plan == Plan(4, 2, 2)
    for module in (openvino, choice):
        monkeypatch.setattr(module, "is_small", lambda bundle: False)
    rates = openvino_probe.probe(made["openvino"].folder / "model.xml", "f32", None, plans("throughput", 2)).rates
    assert len(rates) == 3 and min(rates) > 0
    monkeypatch.setattr(openvino, "probe", lambda *_: openvino_probe.Probe(rates=(1.0, 3.0, 2.0)))
    measured: Any = open_engine(made["openvino"], threads=2, num_images=MANY)
    again: Any = open_engine(made["openvino"], "openvino", threads=2)
    assert measured.plan == again.plan == Plan(8, 1, 2)
    images = tiny_inputs(made["torch"].config, 7)[0].numpy()
    assert_close(again.run(images), made["torch"].run_torch(images))


# --- auto ------------------------------------------------------------------------------------------------------------


MANY = 10**9
"""Images for which every measurement is worth it."""


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the tiny model were worth measuring."""
    for module in (choice, openvino):
        monkeypatch.setattr(module, "is_small", lambda bundle: False)


def race_with(monkeypatch: pytest.MonkeyPatch, module: Any, *rates: float) -> None:
    """Lets every engine run once, and says how fast they are."""

    def measured(runs: Sequence[Callable[[], object]], images: int, **_: Any) -> list[float]:
        for run in runs:
            run()
        assert len(runs) in (1, len(rates))
        return list(rates[: len(runs)])

    monkeypatch.setattr(module, "race", measured)


@pytest.mark.parametrize("count", [None, 0, 1, 99])
def test_auto_measures_nothing_for_few_images_or_an_unknown_number(
    count: int | None, programs: Any, own_cache: Path, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = programs("vit-token")
    monkeypatch.setattr(choice, "race", None)
    opened = open_engine(made["onnx"], num_images=count)
    assert opened.name == "onnx" and not list(own_cache.rglob("*.json"))
    many = "an unknown number of images" if count is None else "fewer than 100 images"
    assert opened.why == f"onnx: openvino not tried for {many}"


def test_auto_takes_what_it_remembers_for_a_single_image(
    programs: Any, own_cache: Path, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = programs("vit-token")
    race_with(monkeypatch, choice, 50.0, 120.0)
    assert open_engine(made["onnx"], num_images=MANY).name == "openvino"
    monkeypatch.setattr(choice, "race", None)
    opened = open_engine(made["onnx"], num_images=1)
    assert opened.name == "openvino" and opened.why.startswith("openvino 120.0 images/s, onnx 50.0 images/s")


def test_auto_measures_only_what_is_expected_to_save_more_than_it_costs(
    programs: Any, own_cache: Path, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One other engine is expected to cost 10 s, and to save 0.3 of the time: at 50 images a second 1,667 images."""
    made = programs("vit-token")
    race_with(monkeypatch, choice, 50.0, 120.0)
    kept = open_engine(made["onnx"], num_images=1666)
    assert kept.name == "onnx"
    assert kept.why == (
        "onnx: openvino not tried: that takes about 10 s and could save about 10.0 s on 1,666 images (50.0 images/s)"
    )
    race_with(monkeypatch, choice, 500.0, 1200.0)
    assert open_engine(made["onnx"], num_images=1667).name == "onnx"
    race_with(monkeypatch, choice, 50.0, 120.0)
    assert open_engine(made["onnx"], num_images=1667).name == "openvino"
    with pytest.raises(InputError, match="num_images must be a whole number"):
        open_engine(made["onnx"], num_images=-1)


def test_auto_measures_once_and_says_why(programs: Any, own_cache: Path, large: None, monkeypatch: Any) -> None:
    made = programs("vit-token")
    race_with(monkeypatch, choice, 50.0, 120.0)
    opened = open_engine(made["onnx"], num_images=MANY)
    assert opened.name == "openvino"
    assert opened.why.startswith("openvino 120.0 images/s, onnx 50.0 images/s (batches of 8, measured 20")
    monkeypatch.setattr(choice, "race", None)  # remembered, it is not measured again
    again = open_engine(made["onnx"], num_images=MANY)
    assert (again.name, again.why) == (opened.name, opened.why)
    race_with(monkeypatch, choice, 9.0, 1.0)
    one_at_a_time = open_engine(made["onnx"], goal="latency", num_images=MANY)
    assert one_at_a_time.name == "onnx" and "(one image at a time, measured" in one_at_a_time.why


def test_auto_really_measures(programs: Any, own_cache: Path, large: None) -> None:
    made = programs("vit-token")
    opened = open_engine(made["onnx"], num_images=MANY)
    images = tiny_inputs(made["torch"].config, 7)[0].numpy()
    assert_close(opened.run(images), made["torch"].run_torch(images))
    kept = [json.loads(path.read_text()) for path in (own_cache / "engines").iterdir()]
    (rates,) = [one["answer"]["rates"] for one in kept if one["question"]["what"] == "fastest engine"]
    assert opened.name == max(rates, key=rates.get) and set(rates) == {"onnx", "openvino"} and min(rates.values()) > 0


def test_auto_leaves_out_the_engine_that_answers_wrongly(
    programs: Any, own_cache: Path, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = programs("vit-token")
    run = openvino.OpenVinoEngine.run
    monkeypatch.setattr(openvino.OpenVinoEngine, "run", lambda self, images: run(self, images) + 1)
    opened = open_engine(made["onnx"], num_images=MANY)
    assert opened.name == "onnx"
    assert opened.why.startswith("onnx: the others fail; openvino was refused: ") and "give other answers" in opened.why
    monkeypatch.setattr(openvino, "OpenVinoEngine", None)  # remembered: it is not even opened
    assert open_engine(made["onnx"], num_images=MANY).name == "onnx"


def test_auto_goes_on_without_the_engine_that_dies(
    programs: Any, own_cache: Path, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = programs("vit-token")
    with monkeypatch.context() as patch:
        die_with(patch, "os.kill(os.getpid(), signal.SIGKILL)")
        opened = open_engine(made["onnx"], num_images=MANY)
        assert opened.name == "onnx" and "died with SIGKILL" in opened.why
    race_with(monkeypatch, choice, 1.0, 2.0)
    assert open_engine(made["onnx"], num_images=MANY).name == "openvino"  # a lack of memory passes


def test_auto_does_not_measure_what_does_not_matter(programs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "race", None)
    monkeypatch.setattr(openvino, "OpenVinoEngine", None)
    assert open_engine(programs("vit-token")["onnx"]).why == "onnx: the model is so small that others were not tried"
    opened = open_engine(programs("vit-token")["torch"])
    assert opened.why == "torch: the only engine installed here that runs this"  # compiled is not among them


def test_whether_threads_spin_is_measured_for_single_images(
    programs: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitsmith.engines.onnx import engine as onnx

    monkeypatch.setattr(onnx, "is_small", lambda bundle: False)
    race_with(monkeypatch, onnx, 1.0, 2.0)
    settings = Settings(threads=2, goal="latency")
    bundle = programs("vit-token")["onnx"]
    assert not onnx.OnnxEngine(bundle, settings).plan.spinning
    assert onnx.OnnxEngine(bundle, dataclasses.replace(settings, measure=True)).plan == Plan(1, 1, 2, True)
    assert onnx.OnnxEngine(bundle, settings).plan.spinning  # remembered
    assert not onnx.OnnxEngine(bundle, dataclasses.replace(settings, goal="throughput", measure=True)).plan.spinning


# --- what is remembered ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"question": {}}', b"\xff\xfe", b"[" * 10**5])
def test_a_damaged_cache_is_as_none(damage: bytes, own_cache: Path) -> None:
    asked = question("x", "program", ("numpy",), goal="latency")
    assert recall(asked) is None
    remember(asked, {"plan": 1})
    assert recall(asked) == {"plan": 1}
    place_of(asked).write_bytes(damage)
    assert recall(asked) is None
    remember(asked, {"plan": 2})
    assert recall(asked) == {"plan": 2}
    assert recall(question("x", "program", ("numpy",), goal="throughput")) is None


def test_an_answer_to_another_question_is_not_believed(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = question("x", "program", ("numpy",))
    remember(asked, {"plan": 1})
    other = question("y", "program", ("numpy",))
    shutil.copy(place_of(asked), place_of(other))
    assert recall(other) is None
    monkeypatch.setattr(machine, "_processor", lambda: ("Another CPU", frozenset({"avx2"})))
    assert recall(question("x", "program", ("numpy",))) is None


def test_a_cache_that_cannot_be_written_only_costs_time(
    programs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "file"))
    assert open_engine(programs("mixer")["onnx"], "openvino").name == "openvino"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- reports ---------------------------------------------------------------------------------------------------------


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


def test_the_child_is_light() -> None:
    """It starts before the first use of every program: torch alone would take longer than all the rest."""
    code = "import sys, vitsmith.engines.openvino.probe; print({'torch', 'pydantic', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr


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

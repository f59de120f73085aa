"""Every engine gives torch's answers for any batch, and refuses what does not fit."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engines.programs import (
    FAMILIES,
    PAIRS,
    assert_close,
    onnx_bundle,
)
from tests.tiny import VIT, pictures, tiny_inputs, tiny_model
from vitsmith import Bundle, ImageSpec
from vitsmith.data.images.preprocess import normalize
from vitsmith.engines.chunks import run_in_chunks
from vitsmith.engines.open import open_engine
from vitsmith.errors import BundleError, InputError
from vitsmith.models.cost import flops
from vitsmith.specs import ProgramSpec


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

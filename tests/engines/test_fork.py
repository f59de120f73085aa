"""Processes and threads: a forked child never waits for threads that it does not have, and threads share an engine."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitsmith as vs
from tests import ROOT
from tests.exporting import export_executorch, export_onnx
from tests.tiny import VIT, pictures, tiny_lit, tiny_model
from vitsmith.engines.open import open_engine
from vitsmith.engines.openvino.core import ThreadsLostError
from vitsmith.errors import InputError
from vitsmith.models.configure import change

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

_BEGIN = """
import os, sys, warnings
import numpy as np
import vitsmith as vs
from vitsmith.errors import InputError

place, engine, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
images = list(np.random.default_rng(0).integers(0, 256, (4, 70, 70, 3), np.uint8))
predictor = vs.Predictor(place, engine, threads=threads)
expected = predictor.logits(images)

def child():
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            found = work()
        right = np.allclose(found, expected, atol=1e-5)
        print("right" if right else "wrong", *(str(one.message) for one in told))
    except InputError as error:
        print("refused", error)

def work():
"""

_END = """

if os.fork() == 0:
    child()
else:
    _, status = os.wait()
    print("ended", os.waitstatus_to_exitcode(status))
    assert np.allclose(predictor.logits(images), expected, atol=1e-5)  # the parent goes on
"""

SAME, ANEW = "return predictor.logits(images)", "return vs.Predictor(place, engine, threads=threads).logits(images)"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle for each engine, large enough to be computed by several threads."""
    place = tmp_path_factory.mktemp("programs")
    config = change(VIT, width=128, mlp_width=512, image_size=(64, 64), depth=1)
    bundle = vs.save(vs.Bundle.of(tiny_model(config)), place / "torch")
    assert bundle is not None
    export_onnx(bundle, place / "onnx")
    return {"torch": place / "torch", "onnx": place / "onnx", "openvino": place / "onnx"}


def forked(place: Path, engine: str, threads: int, work: str, *, before: str = "") -> list[str]:
    """What a child says that does `work` after its parent has used the engine (and done `before`), and how it ends."""
    script = _BEGIN + textwrap.indent(work, "    ") + "\n\n" + before + _END
    clean = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(place), engine, str(threads)],
        env=clean | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(("engine", "threads"), [("torch", 2), ("onnx", 1), ("onnx", 2), ("openvino", 2)])
def test_what_a_child_opens_works_and_it_ends(places: dict[str, Path], engine: str, threads: int) -> None:
    """It ends as an ordinary program does, which lets go of everything."""
    said, ended = forked(places[engine], engine, threads, ANEW)
    assert said.startswith("right") and ended == "ended 0"


def test_openvino_is_refused_where_threads_of_closed_programs_are_missing(places: dict[str, Path]) -> None:
    """It would wait for them for ever; one that is closed while others are open leaves threads behind, too."""
    closed = "vs.Predictor(place, engine, threads=threads).logits(images)\nimport gc\ngc.collect()\n"
    said, ended = forked(places["openvino"], "openvino", 2, ANEW, before=closed)
    assert said.startswith("refused ") and ended == "ended 0"
    assert "forked from one that had closed programs of OpenVINO" in said and "get_context('spawn')" in said
    assert not ThreadsLostError.lasting, "or `auto` would never take it again"


@pytest.mark.parametrize(("engine", "threads"), [("onnx", 2), ("openvino", 1), ("openvino", 2)])
def test_an_engine_with_threads_is_refused_in_a_child(places: dict[str, Path], engine: str, threads: int) -> None:
    said, ended = forked(places[engine], engine, threads, SAME)
    assert said.startswith("refused ") and ended == "ended 0"
    assert "was opened by process" in said and "open the model in each process after the fork" in said


@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_an_engine_of_one_thread_goes_on_in_a_child(places: dict[str, Path], engine: str) -> None:
    assert forked(places[engine], engine, 1, SAME) == ["right", "ended 0"]


def test_torch_goes_on_with_one_core_and_says_so(places: dict[str, Path]) -> None:
    said, ended = forked(places["torch"], "torch", 2, SAME)
    assert said.startswith("right this process was forked from one that had computed with torch") and ended == "ended 0"
    assert said.count("this process was forked") == 1


def test_a_stream_of_images_does_not_cross_a_fork(places: dict[str, Path]) -> None:
    """Its threads decode in the parent."""
    begun = "stream = predictor.stream(iter(images * 20))\nnext(stream)\n"
    said, ended = forked(places["torch"], "torch", 1, "return list(stream)", before=begun)
    assert said.startswith("refused the stream of images was opened by process") and ended == "ended 0"


def test_processes_that_are_spawned_are_told_to_open_it_themselves(places: dict[str, Path]) -> None:
    predictor = vs.Predictor(places["onnx"], "onnx")
    with pytest.raises(InputError, match=r"an open engine of .* cannot be sent to another process: send the path"):
        pickle.dumps(predictor)
    again = pickle.loads(pickle.dumps(vs.Predictor(places["torch"], "torch")))  # torch's is only arrays
    images = pictures(2)
    np.testing.assert_array_equal(again.logits(images), vs.Predictor(places["torch"]).logits(images))


@pytest.mark.parametrize("engine", ["torch", "onnx", "openvino"])
def test_eight_threads_share_an_engine(places: dict[str, Path], engine: str) -> None:
    """Each gets the answers to its own images, whatever the others ask for at once."""
    predictor = vs.Predictor(places[engine], engine, batch_size=3)
    images = pictures(8 * 4, side=60)
    alone = predictor.logits(images)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            found = pool.map(predictor.logits, [images[at : at + 4] for at in range(0, 32, 4)])
            np.testing.assert_allclose(np.concatenate(list(found)), alone, atol=1e-5)


@pytest.mark.parametrize("engine", ["torch", "onnx", "openvino"])
def test_eight_threads_share_an_encoder(tmp_path: Path, engine: str) -> None:
    """Also at the first text, when the text program is opened: once."""
    bundle: Any = vs.save(tiny_lit(), tmp_path / "lit")
    if engine != "torch":
        bundle, _ = export_onnx(bundle, tmp_path / "onnx")
    encoder = vs.Encoder(bundle, engine)
    opened: list[Path] = []
    real = getattr(encoder.engine, "_open_texts", None)
    if real is not None:
        encoder.engine._open_texts = lambda path: opened.append(path) or real(path)  # type: ignore[attr-defined]
    texts = [
        f"a photo of the {color} {thing}" for color in ("red", "blue") for thing in ("cat", "dog", "circle", "square")
    ]
    with ThreadPoolExecutor(8) as pool:
        found = np.concatenate(list(pool.map(lambda text: encoder.texts([text]), texts)))
    np.testing.assert_allclose(found, encoder.texts(texts), atol=1e-5)
    assert len(opened) == (engine != "torch")


@pytest.fixture(scope="module")
def executorch_place(places: dict[str, Path]) -> Path:
    made = places["torch"].with_name("executorch")
    export_executorch(vs.load(places["torch"]), made)
    return made


def test_eight_threads_share_executorch(executorch_place: Path) -> None:
    predictor = vs.Predictor(executorch_place, "executorch", batch_size=3)
    images = pictures(8 * 4, side=60)
    alone = predictor.logits(images)
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(predictor.logits, [images[at : at + 4] for at in range(0, 32, 4)])
        np.testing.assert_allclose(np.concatenate(list(found)), alone, atol=1e-5)


def test_executorch_in_a_child(executorch_place: Path) -> None:
    """What the parent has open is refused, what the child opens works."""
    work = f"assert refused(); {ANEW}"
    refused = (
        "def refused():\n"
        "    try:\n"
        "        predictor.logits(images)\n"
        "    except InputError as error:\n"
        "        return 'open the model in each process after the fork' in str(error)\n"
    )
    said, ended = forked(executorch_place, "executorch", 1, work, before=refused)
    assert said.startswith("right") and ended == "ended 0"


def test_eight_threads_open_engines_at_once(places: dict[str, Path]) -> None:
    bundle = vs.load(places["onnx"])
    tensors = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    with ThreadPoolExecutor(8) as pool:
        engines = list(pool.map(lambda name: open_engine(bundle, name), ["onnx", "openvino"] * 4))
        found = list(pool.map(lambda one: one.run(tensors), engines))
    for answers in found:
        np.testing.assert_allclose(answers, found[0], atol=1e-4)


def test_the_silence_of_executorch_is_not_kept(capfd: pytest.CaptureFixture[str]) -> None:
    """Threads that open programs at once must leave standard error as it was."""
    from vitsmith.engines.executorch.engine import _hushed

    def hush(_: int) -> None:
        with _hushed():
            os.write(2, b"hidden")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hush, range(200)))
    os.write(2, b"seen")
    assert capfd.readouterr().err == "seen"


@pytest.mark.parametrize("engine", ["torch", "onnx", "openvino"])
def test_a_process_ends_with_an_engine_open(places: dict[str, Path], engine: str) -> None:
    """Made in a thread that has ended, and let go of by the interpreter's end."""
    code = (
        "import sys, threading, numpy as np, vitsmith as vs\n"
        "made = []\n"
        "work = threading.Thread(target=lambda: made.append(vs.Predictor(sys.argv[1], sys.argv[2])))\n"
        "work.start(); work.join()\n"
        "print(made[0].logits([np.zeros((9, 9, 3), np.uint8)]).shape)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(places[engine]), engine],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "(1, 5)", "")

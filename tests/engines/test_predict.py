"""The predictor: whatever kind of images, in order, a little ahead of the engine, and never silently without one."""

from __future__ import annotations

import dataclasses
import io
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.exporting import export_onnx
from tests.tiny import CONFIGS, VIT, pictures, tiny_model
from vitsmith import Bundle, ImageSpec, Labels, Predictor, save
from vitsmith.data.images.preprocess import preprocess
from vitsmith.errors import BundleError, ImageError, InputError, UnknownNameError
from vitsmith.models.configure import change
from vitsmith.predict import Prediction, softmax
from vitsmith.stream import Failure

NAMES = ("ant", "bee", "cat", "dog", "eel")
PICTURES = pictures(11)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    images = ImageSpec.pillow((16, 24), resize="squash", interpolation="bilinear")
    return Bundle.of(tiny_model(VIT), preprocessing=images, labels=Labels(names=NAMES)).with_golden(PICTURES[:2])


@pytest.fixture(scope="module")
def exported(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_onnx(bundle, tmp_path_factory.mktemp("exported") / "model")[0]


def expected_probabilities(bundle: Bundle) -> np.ndarray:
    """Straight through the model, one picture at a time."""
    tensors = [torch.from_numpy(preprocess(picture, bundle.preprocessing))[None] for picture in PICTURES]
    with torch.inference_mode():
        return torch.cat([bundle.model(tensor) for tensor in tensors]).softmax(dim=-1).numpy()


def in_time(work: Callable[[], Any]) -> Any:
    """The result of `work`, or a failure where it would wait for ever."""
    outcome: Future[Any] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return outcome.result(timeout=60)


# --- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 11, 64])
@pytest.mark.parametrize("decoders", [1, 4])
def test_answers_are_in_order_for_every_batch_size(bundle: Bundle, batch_size: int, decoders: int) -> None:
    predictions = Predictor(bundle, batch_size=batch_size, decoders=decoders)(PICTURES)
    expected = expected_probabilities(bundle)
    assert [one.source for one in predictions] == [f"image {number}" for number in range(11)]
    np.testing.assert_allclose(np.stack([one.probabilities for one in predictions]), expected, atol=1e-6)
    assert len({one.index for one in predictions}) > 1, "all pictures look alike: the order was not tested"


def test_the_exported_program_answers_alike(bundle: Bundle, exported: Bundle) -> None:
    with_torch, with_onnx = Predictor(bundle, batch_size=4), Predictor(exported, batch_size=4)
    assert (with_torch.engine.name, with_onnx.engine.name) == ("torch", "onnx")
    for one, other in zip(with_torch(PICTURES), with_onnx(PICTURES), strict=True):
        assert (one.index, one.label) == (other.index, other.label)
        np.testing.assert_allclose(other.probabilities, one.probabilities, atol=1e-5)
    np.testing.assert_allclose(with_onnx.logits(PICTURES), with_torch.logits(PICTURES), atol=1e-4)


def test_a_prediction_names_what_it_sees(bundle: Bundle) -> None:
    probabilities = np.array([0.1, 0.4, 0.05, 0.4, 0.05], np.float32)
    prediction = Prediction("x.jpg", probabilities, bundle.labels)
    assert (prediction.index, prediction.label, prediction.probability) == (1, "bee", pytest.approx(0.4))
    assert [name for name, _ in prediction.top(3)] == ["bee", "dog", "ant"] and len(prediction.top(99)) == 5
    assert Prediction("x.jpg", probabilities).label == "class 1"
    np.testing.assert_allclose(softmax(np.array([[1e4, 0.0, -1e4]])), [[1.0, 0.0, 0.0]])


def test_paths_bytes_arrays_and_pillow_images_are_one(bundle: Bundle, tmp_path: Path) -> None:
    picture = Image.fromarray(PICTURES[0])
    picture.save(tmp_path / "picture.png")
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    kinds = [tmp_path / "picture.png", str(tmp_path / "picture.png"), stream.getvalue(), PICTURES[0], picture]
    predictor = Predictor(bundle)
    together = predictor(kinds)
    assert [one.source for one in together[:2]] == [str(tmp_path / "picture.png")] * 2
    for kind, prediction in zip(kinds, together, strict=True):
        (alone,) = predictor(kind)
        np.testing.assert_allclose(alone.probabilities, together[0].probabilities, atol=1e-6)
        np.testing.assert_allclose(prediction.probabilities, together[0].probabilities, atol=1e-6)
    assert len(predictor(np.stack(PICTURES))) == 11 and predictor([]) == []
    assert predictor.logits([]).shape == (0, 5)


def test_a_folder_or_path_is_loaded(bundle: Bundle, tmp_path: Path) -> None:
    save(bundle, tmp_path / "model")
    (prediction,) = Predictor(tmp_path / "model")(PICTURES[0])
    np.testing.assert_allclose(prediction.probabilities, expected_probabilities(bundle)[0], atol=1e-6)


# --- what cannot be read ---------------------------------------------------------------------------------------------


def test_unreadable_images_are_reported_in_their_place(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    missing = tmp_path / "missing.jpg"
    sources = [PICTURES[0], tmp_path / "empty.jpg", b"no image", PICTURES[1], missing, np.zeros((2, 2), np.float32)]
    results = list(Predictor(bundle, batch_size=2).stream(sources))
    assert [type(one) for one in results] == [Prediction, Failure, Failure, Prediction, Failure, Failure]
    assert results[1].source == str(tmp_path / "empty.jpg") and "0 bytes" in results[1].reason
    assert results[2].reason.startswith("image 2: is not an image")
    assert str(missing) in results[4].reason and results[5].reason.startswith("image 5: float32")
    np.testing.assert_allclose(results[3].probabilities, expected_probabilities(bundle)[1], atol=1e-6)
    for call in (Predictor(bundle), Predictor(bundle).logits):
        with pytest.raises(ImageError, match=r"empty\.jpg: is empty"):
            call(sources)


def test_a_batch_of_nothing_but_failures_needs_no_engine(bundle: Bundle) -> None:
    predictor = Predictor(bundle, batch_size=2)
    predictor.engine = None
    assert [type(one) for one in predictor.stream([b"", b"", b""])] == [Failure] * 3


# --- ahead, but not too far ------------------------------------------------------------------------------------------


def decoders() -> set[threading.Thread]:
    """Threads that decode; a stream that another test left unfinished may have some until it is collected."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("decode")}


def test_endless_images_are_read_a_little_ahead(bundle: Bundle) -> None:
    read, before = [], decoders()

    def endless() -> Iterator[np.ndarray]:
        for number in itertools.count():
            read.append(number)
            yield PICTURES[number % 11]

    stream = Predictor(bundle, batch_size=4, decoders=2).stream(endless())
    assert read == []
    first = list(itertools.islice(stream, 5))
    assert [one.source for one in first] == [f"image {number}" for number in range(5)]
    assert 8 <= len(read) <= 8 + 2 * 4 + 2
    in_time(stream.close)
    assert decoders() <= before


def broken_source() -> Iterator[np.ndarray]:
    yield from PICTURES[:9]
    raise RuntimeError("the camera was unplugged")


@pytest.mark.parametrize("use", ["__call__", "logits"])
def test_failures_end_the_work_and_not_the_process(bundle: Bundle, use: str, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, before = Predictor(bundle, batch_size=2), decoders()
    with pytest.raises(RuntimeError, match="unplugged"):
        in_time(lambda: getattr(predictor, use)(broken_source()))

    def stop(_: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(predictor.engine, "run", stop)
    with pytest.raises(RuntimeError, match="out of memory"):
        in_time(lambda: getattr(predictor, use)(itertools.repeat(PICTURES[0], 500)))
    assert decoders() <= before


def test_decoders_work_where_priorities_may_not_be_changed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", forbid, raising=False)
    assert len(Predictor(bundle)(PICTURES[:3])) == 3


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (change(VIT, classes=0), "has no classifier, so it cannot name classes"),
        (CONFIGS["lit-bert"], "matches images with words: use  vitsmith zeroshot"),
        (CONFIGS["vit-unpooled"], "gives logits for each patch"),
        (CONFIGS["vit-token-unpooled"], "gives logits for each patch"),
    ],
)
def test_models_that_do_not_classify_images_are_refused(config: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Predictor(Bundle.of(tiny_model(config)))


def test_impossible_numbers_and_engines_are_refused(bundle: Bundle) -> None:
    for option in ("batch_size", "decoders", "threads"):
        with pytest.raises(InputError, match=rf"{option} must be a whole number from 1 to [0-9,]+, not 0"):
            Predictor(bundle, **{option: 0})
    with pytest.raises(UnknownNameError, match="unknown engine 'onxx': did you mean onnx"):
        Predictor(bundle, engine="onxx")


@pytest.mark.parametrize("program", ["bundle", "exported"])
def test_other_golden_answers_are_refused(program: str, request: pytest.FixtureRequest) -> None:
    good = request.getfixturevalue(program)
    answers = dataclasses.replace(good.golden, outputs=good.golden.outputs * np.float32(1.1))
    with pytest.raises(BundleError, match="golden images give other answers here"):
        Predictor(dataclasses.replace(good, golden=answers))
    other = good.preprocessing.model_copy(update={"interpolation": "bicubic"})
    with pytest.raises(BundleError, match="golden image 0 is preprocessed differently here"):
        Predictor(dataclasses.replace(good, preprocessing=other))

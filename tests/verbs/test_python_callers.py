"""What Python callers get wrong: one line that names what was given, at once, and never a traceback from inside."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitsmith as vs
from tests.tiny import VIT, pictures, tiny_lit, tiny_model
from vitsmith.arguments import flag, known_name, whole_number
from vitsmith.compress.merge_tokens.schedules import fit
from vitsmith.compress.prune.sizes import Pruning, plan_sizes
from vitsmith.engines.open import open_engine
from vitsmith.errors import ConfigError, InputError, UnknownNameError
from vitsmith.machine import available_cores
from vitsmith.retrieval.description import Space
from vitsmith.retrieval.index import Index
from vitsmith.retrieval.search import search
from vitsmith.retrieval.writer import IndexWriter
from vitsmith.zeroshot.labels import read_words

JUNK: list[Any] = [
    None, True, float("nan"), float("inf"), -1, 0, 2.5, 10**6, 10**30, "", "2", "x", "\0", b"x", [], (), {}, set(),
    [None], ["x"], [[]], {"a": 1}, object(), np.zeros(3), np.zeros((2, 2, 3), np.uint8), np.array(None), Path("x"),
    iter([]), lambda: 0, int, "\ud800", [1, 2], (0, 0), range(3), 1j,
]  # fmt: skip


_OTHERS = "labels text vocabulary measurements program program_spec folder golden head"
"""Fields of a bundle that may be left out."""


@pytest.fixture(scope="module")
def bundle() -> vs.Bundle:
    return vs.Bundle.of(tiny_model(VIT))


@pytest.fixture(scope="module")
def encoder() -> vs.Encoder:
    return vs.Encoder(tiny_lit())


def refused_or_right(do: Callable[[], Any]) -> None:
    """Anything but an error of ours with one line is a fault; some junk is a right value for something."""
    try:
        do()
    except vs.VitsmithError as error:
        assert str(error) and "\n" not in str(error)


@pytest.mark.parametrize("option", ["bundle", "engine", "batch_size", "decoders", "threads", "precision", "max_pixels"])
def test_predictors_and_encoders_of_anything(bundle: vs.Bundle, option: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for value in JUNK:
        for kind in (vs.Predictor, vs.Encoder):
            refused_or_right(lambda kind=kind, value=value: kind(**{"bundle": bundle, option: value}))


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
def test_images_and_texts_of_anything(bundle: vs.Bundle, encoder: vs.Encoder, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    predictor = vs.Predictor(bundle)
    classifier = vs.ZeroShotClassifier(encoder, ["cat", "dog"], cache=False)
    prediction = predictor(pictures(1))[0]
    calls: list[Callable[[Any], Any]] = [
        predictor, predictor.logits, lambda one: list(predictor.stream(one)), prediction.top, prediction.best,
        encoder.images, encoder.texts, encoder.tokens, encoder.cut, encoder.unknown,
        lambda one: list(encoder.stream(one)),
        classifier, classifier.logits, lambda one: list(classifier.stream(one)),
    ]  # fmt: skip
    for value in JUNK:
        for one in calls:
            refused_or_right(lambda one=one, value=value: one(value))


@pytest.mark.parametrize("option", ["model", "labels", "templates", "scores", "cache", "on_labels", "on_remark"])
def test_zero_shot_classifiers_of_anything(encoder: vs.Encoder, option: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for value in JUNK:
        if option.startswith("on_") and callable(value):
            continue  # a function, which fails when it is called
        fields = {"model": encoder, "labels": ["cat", "dog"], "cache": False} | {option: value}
        refused_or_right(lambda fields=fields: vs.ZeroShotClassifier(**fields))


def test_loading_saving_and_building_of_anything(bundle: vs.Bundle, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    vs.save(bundle, tmp_path / "model")
    vs.save(bundle, tmp_path / "model.npz", format="npz")
    fixed: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
        (vs.load, {"source": tmp_path / "model"}, "source name image_size pooling headless verify vocabulary"),
        (vs.load, {"source": tmp_path / "model.npz", "image_size": (16, 24)},
         "name image_size pooling headless verify vocabulary"),
        (vs.save, {"what": bundle, "path": tmp_path / "saved"}, "what path format"),
        (vs.init_for_finetune, {"source": tmp_path / "model", "classes": 3},
         "source classes image_size positions keep_representation name dropout depth bogus"),
        (vs.create_model, {"name": "ViT-Ti_16", "device": "meta"},
         "name classes image_size device dropout depth width pooling patch bogus"),
        (open_engine, {"bundle": bundle}, "engine threads precision goal"),
    ]  # fmt: skip
    for function, fields, options in fixed:
        for option in options.split():
            for value in JUNK:
                refused_or_right(lambda f=function, k=fields | {option: value}: f(**k))


def test_descriptions_of_anything(bundle: vs.Bundle) -> None:
    sound: list[tuple[type[Any], dict[str, Any]]] = [
        (vs.ImageSpec, {"size": (4, 4)}),
        (vs.Labels, {"names": ("a", "b")}),
        (vs.Measurement, {"name": "top1", "value": 1}),
        (vs.Provenance, {"source": "here"}),
        (vs.TextSpec, {"tokenizer": "wordpiece", "vocabulary": 9}),
    ]
    for kind, fields in sound:
        for option in (*kind.model_fields, "bogus"):
            for value in JUNK:
                refused_or_right(lambda kind=kind, k=fields | {option: value}: kind(**k))
        for value in JUNK:
            refused_or_right(lambda kind=kind, value=value: kind(value))
        refused_or_right(kind)
    for value in JUNK:
        refused_or_right(lambda value=value: vs.ImageSpec.original(value))
        refused_or_right(lambda value=value: vs.ImageSpec.lit(value))
        refused_or_right(lambda value=value: vs.Bundle.of(value))
        refused_or_right(lambda value=value: bundle.with_golden(value))
        refused_or_right(lambda value=value: bundle.measured(value))
    parts = {"config": bundle.config, "preprocessing": bundle.preprocessing, "provenance": bundle.provenance}
    for option in [
        *parts,
        *["labels", "text", "vocabulary", "measurements", "program", "program_spec", "folder", "golden", "head"],
    ]:
        for value in JUNK:
            refused_or_right(lambda k=parts | {option: value}: vs.Bundle(**k))


def test_what_the_lines_say(bundle: vs.Bundle, encoder: vs.Encoder) -> None:
    for option, value, line in (
        ("threads", 10**6, "threads must be a whole number from 1 to 1,024, not 1000000"),
        ("threads", True, "threads must be a whole number from 1 to 1,024, not True"),
        ("threads", 2.5, "threads must be a whole number from 1 to 1,024, not 2.5"),
        ("threads", "2", "threads must be a whole number from 1 to 1,024, not '2'"),
        ("decoders", 10**6, "decoders must be a whole number from 1 to 1,024, not 1000000"),
        ("batch_size", 10**9, "batch_size must be a whole number from 1 to 65,536, not 1000000000"),
        ("batch_size", float("nan"), "batch_size must be a whole number from 1 to 65,536, not nan"),
        ("batch_size", None, "batch_size must be a whole number from 1 to 65,536, not None"),
        ("max_pixels", -1, "max_pixels must be a whole number of at least 1, not -1"),
        ("precision", None, "precision must be one of auto, fp32, fp16, bf16, int8, int8-weights, fp8, not None"),
        ("engine", None, "engine must be one of auto, torch, torch-compiled, onnx, openvino, executorch, not None"),
        ("bundle", None, "what is loaded must be a bundle, a path, hf:OWNER/NAME or a published name, not None"),
    ):
        with pytest.raises(InputError) as told:
            vs.Predictor(**{"bundle": bundle, option: value})
        assert str(told.value) == line
    with pytest.raises(ConfigError, match=r"^ImageSpec: size: must be a list"):
        vs.ImageSpec(size="x")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="unknown kind of scores 'both'"):
        vs.ZeroShotClassifier(encoder, ["cat"], scores="both")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="device 'cuda:99' cannot be used here"):
        vs.create_model("Ti/16", device="cuda:99")


def test_numbers_of_numpy_are_numbers(bundle: vs.Bundle) -> None:
    found = vs.Predictor(bundle, batch_size=np.int64(2), decoders=np.int32(1), threads=np.uint8(1)).logits(pictures(3))
    np.testing.assert_allclose(found, vs.Predictor(bundle).logits(pictures(3)), atol=1e-6)
    assert whole_number(np.int64(7), "n") == 7 and type(whole_number(np.int64(7), "n")) is int
    assert flag(np.bool_(True), "f") is True and flag(0, "f") is False
    with pytest.raises(InputError, match="f must be True or False, not 'no'"):
        flag("no", "f")
    with pytest.raises(InputError, match="kind must be one of a, b, not None"):
        known_name(None, "kind", ("a", "b"))


def test_more_threads_than_cores_are_cut_with_a_word(bundle: vs.Bundle) -> None:
    cores, before = available_cores(), torch.get_num_threads()
    try:
        with pytest.warns(UserWarning, match=rf"{cores + 1} threads were asked for and there are {cores} cores"):
            vs.Predictor(bundle, threads=cores + 1)
        assert torch.get_num_threads() == cores
    finally:
        torch.set_num_threads(before)


def test_searches_of_anything(tmp_path: Path) -> None:
    with IndexWriter(tmp_path / "index", Space(kind="images", identity="a" * 32, model="ours", width=3)) as writer:
        for name, vector in zip("abc", np.eye(3, dtype=np.float32), strict=True):
            writer.add((name, vector))
        index: Index = writer.finish()
    for value in JUNK:
        refused_or_right(lambda value=value: search(index, value))
        refused_or_right(lambda value=value: search(index, np.eye(3), value))
        refused_or_right(lambda value=value: search(index, np.eye(3), threads=value))
    assert search(index, np.eye(3).tolist(), 1).positions.tolist() == [[0], [1], [2]]  # type: ignore[arg-type]


def _wrong_calls(bundle: Any, pets: str) -> dict[str, Callable[[], Any]]:
    """Verbs called from Python with wrong input, each for another message."""
    lit = tiny_lit()
    program = replace(bundle, program="onnx")
    return {
        "export npz with bounds": lambda: vs.export(bundle, "npz", max_drop=1),
        "export with a drop but no data": lambda: vs.export(bundle, "onnx", max_drop=1),
        "export strictly without data": lambda: vs.export(bundle, "onnx", strict_gate=True),
        "export with a split of nothing": lambda: vs.export(bundle, "onnx", split="val"),
        "export with labels": lambda: vs.export(bundle, "onnx", labels=["cat"]),
        "export int8": lambda: vs.export(bundle, "openvino", precision="int8"),
        "export a lit by labelled data": lambda: vs.export(lit, "onnx", data=pets),
        "export a program": lambda: vs.export(program, "openvino", images=[pets]),
        "export to a taken place": lambda: vs.export(bundle, "onnx", pets),
        "quantize without images": lambda: vs.quantize(bundle),
        "quantize with a split of nothing": lambda: vs.quantize(bundle, images=[pets], split="val"),
        "quantize by both bounds": lambda: vs.quantize(bundle, pets, min_agreement=0.9),
        "quantize on training images": lambda: vs.quantize(bundle, pets, split="train"),
        "quantize strictly on few": lambda: vs.quantize(bundle, pets, strict_gate=True),
        "quantize a lit": lambda: vs.quantize(lit, pets),
        "quantize on too few": lambda: vs.quantize(bundle, images=[pets]),
        "evaluate a lit": lambda: vs.evaluate(lit, pets),
        "evaluate without names": lambda: vs.evaluate(replace(bundle, labels=None), pets),
        "evaluate on nothing": lambda: vs.evaluate(bundle, "nowhere"),
        "train nothing": lambda: vs.train(pets),
        "train an architecture": lambda: vs.train(pets, "ViT-B_16"),
        "train into a taken place": lambda: vs.train(pets, arch="mu/16", out=pets),
        "label words in lines": lambda: read_words("cat\ndog"),
        "one label": lambda: vs.ZeroShotClassifier(lit, ["cat"]),
        "prune by more than there is": lambda: plan_sizes(bundle.config, Pruning(heads=99, keep=2)),
        "prune nothing": lambda: plan_sizes(bundle.config, Pruning()),
        "prune what it has not": lambda: plan_sizes(bundle.config, Pruning(tokens_mlp_width=3)),
        "merge too much": lambda: fit(bundle.config, "constant", tokens=10**6),
    }


def test_no_message_of_a_verb_in_python_has_an_option_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, pixels in enumerate(pictures(20)):
        (tmp_path / "pets" / ("cat" if number % 2 else "dog")).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "pets" / ("cat" if number % 2 else "dog") / f"{number}.png")
    bundle = vs.Bundle.of(tiny_model(VIT), labels=vs.Labels(names=("cat", "dog", "eel", "fox", "gnu")))
    told = {}
    for what, wrong in _wrong_calls(bundle, "pets").items():
        with pytest.raises(vs.VitsmithError) as refused:
            wrong()
        told[what] = str(refused.value)
    whole_commands = re.compile(r"vitsmith [a-z-]+ [^,;:]*")
    assert {what: one for what, one in told.items() if "--" in whole_commands.sub("", one)} == {}
    assert sum("`" in one for one in told.values()) > 12, "arguments have their names"

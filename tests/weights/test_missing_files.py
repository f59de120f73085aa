"""Weights whose folder lacks the file of the preprocessing or of the tokenizer: they load, and give no answers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitsmith as vs
from tests.command_line import call
from tests.exporting import export_onnx
from tests.tiny import pictures, tiny_lit
from tests.weights.hf_files import MODELS, written_model
from vitsmith.compress.images import labelled_images, read_tensors
from vitsmith.data.images.preprocess import preprocess
from vitsmith.errors import InputError
from vitsmith.training.images.teacher import Teacher
from vitsmith.training.lit.towers import open_image_tower
from vitsmith.weights.bundle.card import model_card

MISSING = r"has no preprocessor_config.json, so how its images are preprocessed is not known: put the file beside the "


@pytest.mark.parametrize("name", MODELS)
def test_a_model_without_its_preprocessing_loads_and_is_given_no_images(name: str, tmp_path: Path) -> None:
    bundle = vs.load(written_model(tmp_path, name), headless=True)
    images = torch.zeros(1, 3, *bundle.config.image_size)
    assert bundle.model(images).isfinite().all()
    encoder = vs.Encoder(bundle)
    for read in (encoder.images, lambda given: list(encoder.stream(given))):
        with pytest.raises(InputError, match=MISSING):
            read(pictures(1))
    usual = vs.load(tmp_path, headless=True, preprocessing="usual")
    assert usual.preprocessing == bundle.preprocessing and usual.identity == bundle.identity
    assert any("the usual preprocessing is" in note for note in usual.provenance.notes)
    assert vs.Encoder(usual).images(pictures(1)).shape == (1, encoder.width)


@pytest.mark.parametrize("name", MODELS)
def test_what_is_assumed_of_the_preprocessing_does_not_change_the_models_size(name: str, tmp_path: Path) -> None:
    bundle = vs.load(written_model(tmp_path, name), headless=True)
    fields = json.loads((tmp_path / "config.json").read_text())
    size = fields.get("vision_config", fields)["image_size"]
    assert bundle.config.image_size == (size, size)


def test_it_is_said_where_a_model_is_shown_that_images_are_refused(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "hf").mkdir()
    bundle = vs.load(written_model(tmp_path / "hf", "deit"))
    code, out, _ = call(capsys, "inspect", str(tmp_path / "hf"), "--json")
    told = json.loads(out)["images"]
    assert code == 0 and told.startswith(
        "not known (there is no preprocessor_config.json), so images are refused; usual"
    )
    assert f"- Input: {told}" in model_card(bundle)
    note = "there is no preprocessor_config.json"
    assert any(note in one for one in bundle.provenance.notes)
    own = vs.load(tmp_path / "hf", preprocessing=bundle.preprocessing.model_copy(update={"mean": (0.25, 0.25, 0.25)}))
    assert not any(note in one for one in own.provenance.notes) and "refused" not in model_card(own)


def test_a_classifier_refuses_also_as_a_bundle_and_a_program(tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    bundle = vs.load(written_model(tmp_path / "hf", "deit"))
    saved = vs.save(bundle, tmp_path / "saved")
    exported, _ = export_onnx(bundle, tmp_path / "onnx")
    for one in (bundle, saved, exported, vs.load(tmp_path / "onnx")):
        with pytest.raises(InputError, match=MISSING):
            vs.Predictor(one)
        assert isinstance(vs.Predictor(vs.load(one, preprocessing="usual")), vs.Predictor)
    with pytest.raises(InputError, match=rf"weights it was made from \({tmp_path / 'hf'}\), and make the bundle again"):
        vs.Predictor(saved)
    made_from_saved, _ = export_onnx(vs.load(tmp_path / "saved"), tmp_path / "again")
    with pytest.raises(InputError, match=rf"beside the weights that {tmp_path / 'saved'} was made from, and make the"):
        vs.Predictor(made_from_saved)
    with pytest.raises(InputError, match=rf"that {tmp_path / 'saved'} was made from, and make the bundle .*=usual$"):
        vs.Encoder(tmp_path / "saved").images(pictures(1))  # its features, in memory
    for target, pixels in (("web", False), ("triton", False), ("onnx", True)):  # they preprocess by themselves
        with pytest.raises(InputError, match=MISSING):
            vs.export(bundle, target, out=tmp_path / f"to-{target}", pixels=pixels)
        assert not (tmp_path / f"to-{target}").exists()
    known = vs.load(tmp_path / "hf", preprocessing="usual")
    own = known.preprocessing.model_copy(update={"mean": (0.25, 0.25, 0.25)})
    given = vs.load(tmp_path / "hf", preprocessing=own)
    assert (given.preprocessing, given.provenance.missing) == (own, "") and given.identity != known.identity
    assert isinstance(vs.Predictor(given), vs.Predictor)
    for one in (tmp_path / "saved", known):
        with pytest.raises(InputError, match="leave out preprocessing: for checkpoints only"):
            vs.load(one, preprocessing=own)
    vs.save(known, tmp_path / "known")
    assert '"missing"' not in (tmp_path / "known" / "bundle.json").read_text(encoding="utf-8")
    images = np.stack([preprocess(picture, known.preprocessing) for picture in pictures(2)])
    np.testing.assert_allclose(vs.Predictor(known).logits(pictures(2)), known.run_torch(images), atol=1e-5)


def test_no_verb_measures_or_learns_by_what_was_assumed(tmp_path: Path) -> None:
    bundle = vs.load(written_model(tmp_path, "deit"))
    names = tuple(str(number) for number in range(bundle.classes))
    for use in (
        lambda: labelled_images(bundle, "digits"),
        lambda: read_tensors(bundle, pictures(1)),
        lambda: Teacher(vs.load(tmp_path), names, bundle.preprocessing),
        lambda: open_image_tower(str(tmp_path)),
    ):
        with pytest.raises(InputError, match=MISSING):
            use()
    with pytest.raises(InputError, match="or --teacher-read-as preprocessing=usual"):
        Teacher(vs.load(tmp_path), names, bundle.preprocessing)


def test_texts_are_embedded_without_the_preprocessing_of_images() -> None:
    bundle = tiny_lit().with_provenance(missing="preprocessor_config.json")
    assert vs.Encoder(bundle).texts(["a cat"]).shape == (1, 32)
    with pytest.raises(InputError, match=MISSING):
        vs.ZeroShotClassifier(bundle, ["a cat", "a dog"])(pictures(1))
    without = dataclasses.replace(tiny_lit("lit-transformer"), vocabulary=None)
    for kind, told in (
        ("jax-npz", r"put the \.model file"),
        ("hf", r"put the spiece\.model published with the model"),
    ):
        with pytest.raises(InputError, match=rf"has no vocabulary, so texts cannot be read: {told}"):
            vs.ZeroShotClassifier(without.with_provenance(kind=kind), ["a cat", "a dog"])


def test_the_commands_say_how_to_go_on_in_one_line(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hf").mkdir()
    written_model(tmp_path / "hf", "deit")
    Image.fromarray(pictures(1)[0]).save("cat.png")
    for command in (("predict", "hf", "cat.png"), ("embed", "hf", "cat.png", "--out", "index")):
        code, out, err = call(capsys, *command)
        told = err.splitlines()[-1]
        assert (code, out) == (2, "") and "hf has no preprocessor_config.json" in told and "preprocessing=usual" in told
        assert call(capsys, *command, "--read-as", "preprocessing=usual")[0] == 0
    (tmp_path / "hf" / "preprocessor_config.json").write_text(json.dumps({"size": 224}))
    code, _, err = call(capsys, "predict", "hf", "cat.png", "--read-as", "preprocessing=usual")
    assert code == 2 and "leave out preprocessing='usual': nothing is missing" in err

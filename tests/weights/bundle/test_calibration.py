"""Calibration: the same probabilities wherever a bundle is used, set in one way, kept where it is true."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vitsmith as vs
from tests.command_line import call
from tests.exporting import export_onnx
from tests.tiny import VIT, pictures, tiny_model
from vitsmith import Bundle, Labels, Predictor
from vitsmith.data.sets.split_record import SplitRecord
from vitsmith.errors import BundleError, ConfigError, InputError, OutputError, WeightsError
from vitsmith.specs import Calibration, ProgramSpec
from vitsmith.weights.bundle import measurements
from vitsmith.weights.bundle.programs import add_program

NAMES = ("ant", "bee", "cow", "doe", "eel")
THRESHOLDS = (0.1, 0.9, 0.5, 0.3, 0.7)


def labelled(**fields: Any) -> Bundle:
    return Bundle.of(tiny_model(VIT), labels=Labels(names=NAMES), **fields).with_golden(pictures(2))


def everything_in(folder: Path) -> dict[str, bytes]:
    """Its files but those that say what it is."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("bundle.json", "README.md", ".lock")
    }


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX bundle with a sigmoid head."""
    return export_onnx(labelled(head="sigmoid"), tmp_path_factory.mktemp("exported") / "onnx")[0].place


# --- set -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_place", [True, False])
def test_an_exported_bundle_is_calibrated_and_keeps_its_files(exported: Path, tmp_path: Path, in_place: bool) -> None:
    shutil.copytree(exported, tmp_path / "model")
    plain = vs.load(tmp_path / "model")
    place = tmp_path / ("model" if in_place else "other")
    made = vs.save(plain.with_calibration(2.0, np.array(THRESHOLDS), data="pets"), place)
    assert made is not None and made.folder == place and made.program == "onnx"
    bundle = vs.load(place)
    assert bundle.calibration == made.calibration == Calibration(temperature=2.0, thresholds=THRESHOLDS, data="pets")
    assert everything_in(place) == everything_in(exported)
    assert "logits divided by 2, 5 thresholds (found on pets)" in (place / "README.md").read_text(encoding="utf-8")
    logits = Predictor(exported).logits(pictures(3))
    for one, row in zip(Predictor(bundle)(pictures(3)), logits, strict=True):
        np.testing.assert_allclose(one.probabilities, 1 / (1 + np.exp(-row / 2)), rtol=1e-5)
        assert set(one.present) == {name for name, p, t in zip(NAMES, one.scores, THRESHOLDS, strict=True) if p >= t}
    if not in_place:
        assert vs.load(tmp_path / "model").calibration is None
    vs.save(bundle.with_split(SplitRecord.empty()), place)
    assert vs.load(place).split is not None
    vs.save(vs.load(place).with_split(None), place)
    assert vs.load(place).split is None and everything_in(place) == everything_in(exported)


def test_every_engine_gives_the_same_probabilities(exported: Path) -> None:
    plain = labelled(head="sigmoid")
    expected = 1 / (1 + np.exp(-Predictor(plain, "torch").logits(pictures(3)) / 3))
    for bundle, engine in ((plain, "torch"), (vs.load(exported), "onnx"), (vs.load(exported), "openvino")):
        found = Predictor(bundle.with_calibration(3.0), engine)(pictures(3))
        np.testing.assert_allclose(np.stack([one.probabilities for one in found]), expected, rtol=1e-3)


def test_all_programs_of_a_bundle_are_calibrated_at_once(exported: Path, tmp_path: Path) -> None:
    bundle = vs.save(labelled(head="sigmoid"), tmp_path / "model")
    assert bundle is not None
    bundle = add_program(bundle, vs.load(exported).measured(measurements.size(1.0)))
    before = everything_in(tmp_path / "model")
    by_onnx = bundle.using(bundle.programs[1])
    saved = vs.save(by_onnx.with_calibration(2.0), tmp_path / "model")
    assert saved is not None and saved.program == "onnx" and saved.calibration == Calibration(temperature=2.0)
    bundle = vs.load(tmp_path / "model")
    assert [one.program for one in bundle.programs] == ["torch", "onnx"] and bundle.program == "torch"
    assert bundle.calibration == Calibration(temperature=2.0) and everything_in(tmp_path / "model") == before
    assert [one.metric for one in bundle.measurements] == ["size"]
    saved = vs.save(bundle.with_calibration(4.0), tmp_path / "model")
    assert saved is not None and saved.program == "torch" and len(saved.programs) == 2
    assert vs.load(tmp_path / "model").calibration == Calibration(temperature=4.0)
    with torch.no_grad():
        bundle.model.head.bias += 1
    with pytest.raises(OutputError, match="holds 2 programs"):  # of which the other has the weights of before
        vs.save(bundle, tmp_path / "model")


def test_another_calibration_leaves_what_was_measured_of_ranks(tmp_path: Path) -> None:
    known = (
        measurements.accuracy(0.9, "pets", "a laptop"),
        measurements.accuracy(0.1, "pets", "a laptop", metric="calibration_error"),
        measurements.latency("torch", 1, 2.0, "a laptop"),
    )
    vs.save(labelled().measured(*known), tmp_path / "model")
    vs.save(vs.load(tmp_path / "model").with_calibration(2.0), tmp_path / "model")
    assert [one.metric for one in vs.load(tmp_path / "model").measurements] == ["top1", "latency_p50"]


def test_what_cannot_be_saved_is_told(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "ViT" / "1")
    bundle = vs.load(tmp_path / "ViT" / "1")
    pixels = bundle.preprocessing.model_copy(update={"mean": (0.1, 0.1, 0.1)})
    with pytest.raises(InputError, match="were made with other preprocessing and cannot change"):
        vs.save(dataclasses.replace(bundle, preprocessing=pixels), tmp_path / "other")
    (tmp_path / "ViT" / "config.pbtxt").write_text("")
    with pytest.raises(InputError, match=r"config\.pbtxt repeats what .* save the bundle elsewhere"):
        vs.save(bundle.with_calibration(2.0), tmp_path / "ViT" / "1")
    (tmp_path / "ViT" / "1" / "page.json").write_text("{}")
    renamed = dataclasses.replace(bundle, labels=Labels(names=NAMES[::-1]))
    with pytest.raises(InputError, match="is a page, which was made with its old labels: export it again"):
        vs.save(renamed, tmp_path / "other")
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.jpg").write_bytes(b"x")
    with pytest.raises(OutputError, match="holds files that are no bundle"):
        vs.save(bundle, tmp_path / "holiday")
    golden = tmp_path / "ViT" / "1" / "golden.safetensors"
    golden.write_bytes(golden.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match="is not the file this bundle was written with"):
        vs.save(bundle.with_calibration(2.0), tmp_path / "other")
    shutil.rmtree(tmp_path / "ViT")
    with pytest.raises(BundleError, match="no longer exists"):
        vs.save(bundle, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(WeightsError, match="cannot hold a calibration"):
        vs.save(labelled().with_calibration(2.0), tmp_path / "model.npz", format="npz")
    with pytest.raises(ConfigError, match="temperature"):
        bundle.with_calibration(0.0)
    with pytest.raises(BundleError, match="1 thresholds for 5 classes"):
        bundle.with_calibration(thresholds=[0.5])


# --- kept ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_programs_of_the_same_weights_keep_it_and_int8_says_when_it_was_found(precision: Any) -> None:
    program = labelled().with_calibration(2.0).as_program("onnx", ProgramSpec(precision=precision), by="a test")
    assert program.calibration == Calibration(temperature=2.0)
    told = [note for note in program.provenance.notes if "calibration was found before int8" in note]
    assert len(told) == (precision == "int8")
    assert labelled().as_program("onnx", ProgramSpec(precision=precision), by="a test").provenance.notes == ()


@pytest.mark.parametrize(
    ("verb", "told"),
    [
        (["quantize"], "the calibration is kept, and was found before int8"),
        (["prune", "--depth", "1"], "the result is not calibrated"),
        (["merge-tokens"], "the result is not calibrated"),
    ],
)
def test_verbs_say_what_becomes_of_it(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.png").write_bytes(b"")
    for name, bundle in (("plain", labelled()), ("calibrated", labelled().with_calibration(2.0))):
        vs.save(bundle, name)
        code, _, err = call(capsys, verb[0], name, *verb[1:], "--images", "broken.png")  # told before images are read
        assert code == 2 and (told in " ".join(err.split())) is (name == "calibrated"), err


def test_models_that_answer_otherwise_have_none_and_say_so() -> None:
    from vitsmith.compress.merge_tokens.run import merge_by
    from vitsmith.compress.search.resize import resize_bundle

    bundle = labelled().with_calibration(2.0)
    for made in (merge_by(bundle, 1.1), resize_bundle(bundle, (24, 24))):
        assert made.calibration is None and made.provenance.notes[0].startswith("not calibrated: temperature")

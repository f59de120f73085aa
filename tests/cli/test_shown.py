"""What objects show of themselves: one short line that says what one wants to know."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import vitsmith as vs
from tests.tiny import VIT, pictures, tiny_lit, tiny_model
from vitsmith.cli.terminal.answers import Style, Writer
from vitsmith.evaluation.evaluation import Evaluation
from vitsmith.evaluation.scores import score_logits
from vitsmith.gate import Verdict
from vitsmith.retrieval.build import write_index
from vitsmith.runs.run import Run

NAMES = ("ant", "bee", "cow", "dog", "eel")
TINY = "ViT of width 32, depth 2, patch 8x8 at 16x24"


@pytest.fixture(scope="module")
def bundle() -> vs.Bundle:
    return vs.Bundle.of(tiny_model(VIT), labels=vs.Labels(names=NAMES))


def test_bundles_and_what_runs_them(bundle: vs.Bundle, tmp_path: Path) -> None:
    assert str(bundle) == repr(bundle) == f"<Bundle {TINY}, torch, 5 classes, created in memory>"
    vs.save(bundle, tmp_path / "m")
    assert repr(vs.load(tmp_path / "m")).endswith(f", torch, 5 classes, {tmp_path / 'm'}>")
    predictor = vs.Predictor(bundle, "torch")
    assert repr(predictor) == f"<Predictor {bundle!r}, torch in float32>"
    assert repr(predictor.engine) == "<Engine torch, float32, of created in memory: asked for by name>"
    assert repr(vs.Encoder(bundle, "torch")).startswith(
        f"<Encoder of images to 32 numbers, <Bundle {TINY}, torch, no cl"
    )


def test_values_are_not_classes() -> None:
    one = vs.Bundle.of(tiny_model(VIT.model_copy(update={"classes": 1})), head="regression")
    assert ", 1 value, " in repr(one)


def test_words(tmp_path: Path) -> None:
    classifier = vs.ZeroShotClassifier(tiny_lit(), ["cat", "dog"], cache=False)
    encoder = classifier.encoder
    assert repr(classifier) == f"<ZeroShotClassifier <Labels 2: 'cat', 'dog'>, {encoder.bundle!r}, torch in float32>"
    assert repr(encoder).startswith("<Encoder of images and texts to 32 numbers, <Bundle LiT of image width 32, ")
    index = write_index(encoder, pictures(2), tmp_path / "index")
    assert repr(index).startswith("<Index of 2 images by ") and repr(index).endswith(f"{tmp_path / 'index'}>")
    assert "32 numbers in float16" in repr(vs.open_index(tmp_path / "index"))


def test_labels_are_few_and_on_one_line() -> None:
    assert str(vs.Labels(names=NAMES)) == repr(vs.Labels(names=NAMES)) == "<Labels 5: 'ant', 'bee', 'cow', ...>"
    assert "\n" not in repr(vs.Labels.as_found(["a\nb", "x" * 1000])) and len(repr(vs.Labels(names=("x" * 1000,)))) < 80


def test_scores_and_verdicts() -> None:
    logits = np.eye(5, dtype=np.float32)[[0, 1, 2, 0]]
    scores = score_logits(logits, np.array([0, 1, 2, 3]))
    assert str(scores) == "top-1 75.00% (95% interval 30.06% to 95.44%) on 4 images"
    found = Evaluation(scores, logits, np.array([0, 1, 2, 3]), NAMES, 1.0, data="pets, held-out images")
    assert repr(found) == f"<Evaluation {scores} of pets, held-out images>"
    passed = Verdict(3, 1e-6, 1.0, 0.999999, ())
    shown = "top-1 agreement 100.0%, difference 1e-06, cosine 0.999999 on 3 images"
    assert repr(passed) == f"<Verdict passed, {shown}>"
    assert str(Verdict(3, 1e-6, 1.0, 0.999999, ("too far",))) == f"failed: too far, {shown}"


@pytest.mark.parametrize(
    ("score", "written", "shown"),
    [(1.3e-7, "1.3e-07", "<0.1%"), (0.123456789, "0.123457", "12.3%"), (0.0, "0.000000", "0.0%")],
)
def test_improbable_is_not_impossible(score: float, written: str, shown: str, capsys: pytest.CaptureFixture) -> None:
    one = vs.Prediction("a.png", np.float32([score]), vs.Labels(names=("ant",)), independent=True)
    for style in Style:
        Writer(style, 1, head="sigmoid").write(one)
    table, told, _, row = capsys.readouterr().out.splitlines()
    assert table.split() == ["ant", shown, "a.png"]
    assert json.loads(told)["predictions"] == [{"label": "ant", "index": 0, "probability": float(written)}]
    assert row == f"a.png,ant,{written},"


def test_runs(tmp_path: Path) -> None:
    with Run("evaluate", "pets", tmp_path / "run") as run:
        assert repr(run) == f"<Run {tmp_path / 'run'}>"

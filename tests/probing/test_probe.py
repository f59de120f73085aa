"""`vitsmith probe` and `vitsmith.probe`: scores, the bundle behind its gate, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitsmith as vs
from tests.command_line import call
from tests.probing.coloured import COLOURS, pets
from tests.tiny import CONFIGS, tiny_lit, tiny_model, towers
from vitsmith.data.sets.datasets import open_dataset
from vitsmith.data.sets.split_record import digest_of
from vitsmith.errors import DatasetError, GateError, InputError, NotFiniteError
from vitsmith.probing.backbone import Backbone
from vitsmith.probing.result import Probed
from vitsmith.records import Provenance
from vitsmith.weights.bundle.bundle import Bundle


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data set `pets` and the bundle `tok`, and us in it; the cache is empty."""
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    pets(tmp_path / "pets")
    vs.save(Bundle.of(tiny_model(CONFIGS["vit-token"]), provenance=licensed()), tmp_path / "tok")
    return tmp_path


def licensed() -> Provenance:
    return Provenance(source="a test", origin="hf:someone/model", license="MIT")


def heard(told: list[str]) -> Callable[[str], None]:
    return told.append


def test_the_bundle_answers_as_the_probe_did_and_knows_its_images(place: Path) -> None:
    probed = vs.probe("pets", "tok")
    bundle, best = probed.bundle, probed.best
    assert bundle is not None and bundle.folder == probed.folder / "model"  # type: ignore[operator]
    splits = open_dataset("pets", seed=0)
    score = best.score("logistic")
    assert score is not None and score.images == len(splits.val) == probed.held_out_images
    logits = vs.Predictor(bundle).logits(list(splits.val.sources))
    assert (logits.argmax(axis=1) == score.predicted).all()
    evaluated = vs.evaluate(bundle, "pets")  # which leaves out what was trained on
    assert evaluated.scores.num_images == len(splits.val) and evaluated.scores.top1 == score.accuracy
    measured = next(one for one in bundle.measurements if one.metric == "top1")
    assert measured.value == score.accuracy and measured.low == pytest.approx(score.interval[0])
    provenance, record = bundle.provenance, bundle.split
    assert (provenance.license, provenance.origin, provenance.parent) == ("MIT", "hf:someone/model", "tok")
    assert bundle.labels is not None and bundle.labels.names == tuple(COLOURS) and bundle.golden is not None
    assert record is not None and len(record.train) == len(splits.train)
    assert {digest_of(source, record.salt) for source in splits.val.sources} == set(record.held_out)
    written = json.loads((place / "runs/probe/pets-tok/probe.json").read_text())
    assert written["bundle"] == "runs/probe/pets-tok/model" and written["models"][0]["scores"][2]["accuracy"] == (
        score.accuracy
    )


def test_the_head_is_least_regularised_cross_entropy_on_standardised_features(place: Path) -> None:
    from sklearn.linear_model import LogisticRegression

    probed = vs.probe("pets", "tok")
    assert probed.bundle is not None
    splits, bare = open_dataset("pets", seed=0), vs.load("tok", headless=True)
    train, held_out = (
        np.stack([bare.run_torch(vs.load_image(source, bare.preprocessing)[None])[0] for source in part.sources])
        for part in (splits.train, splits.val)
    )
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    strength = probed.best.choice.value
    reference = LogisticRegression(C=1 / (strength * len(train)), tol=1e-10, max_iter=10_000)
    reference.fit((train - mean) / deviation, splits.train.labels)
    expected = reference.decision_function((held_out - mean) / deviation)
    found = vs.Predictor(probed.bundle).logits(list(splits.val.sources))
    np.testing.assert_allclose(found - found.mean(axis=1, keepdims=True), expected, atol=2e-2)


def test_several_models_stand_side_by_side_and_one_that_fails_loses_no_other(place: Path) -> None:
    vs.save(Bundle.of(tiny_model(towers()["dinov2"])), "dino")
    vs.save(Bundle.of(tiny_model(CONFIGS["vit-unpooled"])), "unpooled")
    vs.save(tiny_lit("lit-bert"), "lit")
    told: list[str] = []
    probed = vs.probe("pets", ["tok", "unpooled", "dino", "lit", "nowhere/there"], tell=heard(told))
    assert [one.startswith("warning: left out: unpooled gives") for one in told].count(True) == 1
    assert [one.name for one in probed.models] == ["tok", "dino", "lit"]
    assert [one.name for one in probed.failed] == ["unpooled", "nowhere/there"]
    assert "feature for each patch" in probed.failed[0].reason and "unpooled" in str(probed)
    best = max(one.cross_validated or 0 for one in probed.models)
    assert probed.best.cross_validated == best and probed.bundle is not None
    assert set(probed.models[1].validated) == {"pooled", "class_and_mean"}
    words = probed.models[2].score("zero-shot")
    assert words is not None and probed.models[0].score("zero-shot") is None
    report = (probed.folder / "report.html").read_text()  # type: ignore[operator]
    assert "zero-shot" in report and "not probed: unpooled gives" in report
    assert ("Worst classes" in report) == (probed.best.score("logistic").accuracy < 1)  # type: ignore[union-attr]
    with pytest.raises(InputError, match="feature for each patch"):
        vs.probe("pets", "unpooled")


def test_zero_shot_answers_are_those_of_the_zero_shot_classifier(place: Path) -> None:
    vs.save(tiny_lit("lit-bert-projected"), "lit")
    probed = vs.probe("pets", "lit", templates="a photo of {}", labels=["red", "cat", "dog"], bundle=False)
    splits = open_dataset("pets", seed=0)
    classifier = vs.ZeroShotClassifier("lit", ["red", "cat", "dog"], templates="a photo of {}")
    score = probed.best.score("zero-shot")
    assert score is not None and probed.bundle is None
    names = classifier.labels.names
    by_name = [list(COLOURS).index(names[at]) for at in classifier.logits(list(splits.val.sources)).argmax(axis=1)]
    assert score.predicted.tolist() == by_name


def test_prompts_of_each_label_are_used_as_they_are(place: Path) -> None:
    prompts = {"cat": ["blue square"], "dog": ["red circle"], "red": ["cat"]}
    vs.save(tiny_lit("lit-bert"), "lit")
    classifier = vs.ZeroShotClassifier("lit", prompts)
    expected = classifier.logits(list(open_dataset("pets", seed=0).val.sources)).argmax(axis=1).tolist()
    for labels in (prompts, classifier.words):
        score = vs.probe("pets", "lit", labels=labels, bundle=False, shots=()).best.score("zero-shot")
        assert score is not None and score.predicted.tolist() == expected
    with pytest.raises(InputError, match="leave `templates` out"):
        vs.probe("pets", "lit", labels=prompts, templates="a {}")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"shots": 3}, "must be a list of whole numbers"),
        ({"shots": "1,2"}, "must be a list of whole numbers"),
        ({"shots": {"a": 1}}, "shots must be a whole number"),
        ({"seed": -1}, "seed must be a whole number of at least 0|from 0"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"skip_unreadable": 2}, "skip_unreadable must be a number of at least 0 and below 1"),
        ({"skip_unreadable": "0.1"}, "skip_unreadable must be a number"),
        ({"labels": 3}, "labels must be a list of strings"),
        ({"templates": "no place"}, "neither a set of templates"),
        ({"templates": []}, "no templates were given"),
        ({"split": "test"}, "no split 'test' \\(none of its own\\): leave `split` out"),
        ({"split": "all"}, "give val or test"),
        ({"split": 3}, "split must be"),
        ({"features": "x"}, "unknown kind of features"),
        ({"precision": "fp16"}, "^tok .* cannot run in fp16"),
    ],
)
def test_what_python_callers_get_wrong_is_one_line(place: Path, given: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        vs.probe("pets", "tok", **given)
    assert "\n" not in str(caught.value)


def test_a_second_probe_runs_no_model(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    first = vs.probe("pets", "tok", bundle=False, tell=heard(told))
    monkeypatch.setattr(Backbone, "open", lambda _: pytest.fail("the model ran"))
    again = vs.probe("pets", "tok", bundle=False, tell=heard(told))
    assert again.best.cached == 36 and first.best.cached == 0 and "none was computed" in told[-1]
    assert str(first) == str(again)


def test_a_bundle_that_answers_otherwise_is_refused_and_the_scores_stay(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = Backbone.classifier

    def wrong(self: Backbone, kind: Any, weight: torch.Tensor, bias: torch.Tensor) -> Any:
        return right(self, kind, weight.flip(0), bias)

    monkeypatch.setattr(Backbone, "classifier", wrong)
    code, out, err = call(capsys, "probe", "pets", "--model", "tok")
    assert code == 3 and "was refused and not written" in err and "features are the same" in err
    folder = place / "runs/probe/pets-tok"
    assert "logistic" in out and not (folder / "model").exists() and (folder / "probe.json").is_file()
    with pytest.raises(GateError):
        vs.probe("pets", "tok").require()


def test_leaks_from_the_model_it_begins_from_are_told(place: Path) -> None:
    first = vs.probe("pets", "tok", out="first")
    told: list[str] = []
    other = vs.probe("pets", "first", seed=5, tell=heard(told))
    assert first.bundle is not None and other.bundle is not None and other.bundle.split is not None
    assert any("score is too good" in one for one in told)
    assert "score is too good" in " ".join(other.bundle.provenance.notes)
    assert set(other.bundle.split.earlier) == set(first.bundle.split.train)  # type: ignore[union-attr]


def test_what_teaches_nothing_or_is_damaged_is_refused(place: Path) -> None:
    for folder in (place / "one" / "cat", place / "three" / "cat"):
        folder.mkdir(parents=True, exist_ok=True)
        for at in range(2):
            Image.new("RGB", (30, 20), (at, 0, 0)).save(folder / f"{at}.png")
    with pytest.raises(DatasetError, match="at least 2 classes"):
        vs.probe("one", "tok")
    (place / "three" / "dog").mkdir()
    Image.new("RGB", (30, 20), (0, 200, 0)).save(place / "three" / "dog" / "0.png")
    with pytest.raises(DatasetError, match="fewer than 2"):
        vs.probe("three", "tok")
    Image.new("RGB", (30, 20), (0, 99, 0)).save(place / "three" / "dog" / "1.png")
    with pytest.raises(InputError, match="at least 3 training images"):
        vs.probe("three", "tok")
    broken = tiny_model(CONFIGS["vit-token"])
    with torch.no_grad():
        broken.norm.weight[3] = torch.nan  # type: ignore[union-attr,index]
    with pytest.raises(NotFiniteError):
        vs.probe("pets", Bundle.of(broken))
    assert not list((place / "runs").rglob("*.json"))


def test_images_that_are_replaced_between_two_models_are_not_compared(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vs.save(Bundle.of(tiny_model(CONFIGS["mixer"])), "mixer")
    right = Backbone.of.__func__  # type: ignore[attr-defined]

    def replacing(cls: Any, bundle: Bundle, name: str = "", **options: Any) -> Backbone:
        if name == "mixer":
            Image.new("RGB", (30, 20), (1, 2, 3)).save(place / "pets" / "cat" / "3.png")
        found: Backbone = right(cls, bundle, name, **options)
        return found

    monkeypatch.setattr(Backbone, "of", classmethod(replacing))
    with pytest.raises(DatasetError, match=r"cat/3\.png was replaced or removed"):
        vs.probe("pets", ["tok", "mixer"])


def test_the_command_line_says_what_python_says(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "probe", "pets", "--model", "tok", "--json", "--out", "here", "--shots", "1,3")
    found = json.loads(out)
    assert code == 0 and found["folder"] == "here" and found["bundle"] == "here/model" and not err
    probed: Probed = vs.probe("pets", "tok", shots=(1, 3))
    assert found["models"][0]["scores"] == json.loads(json.dumps(probed.to_dict()))["models"][0]["scores"]
    code, out, err = call(capsys, "probe", "pets", "--model", "tok", "--out", "here")
    assert code == 2 and "--force" in err
    for option, told in (
        (("--shots", "1,x"), "whole numbers"),
        (("--shots", "0"), "whole number"),
        (("--split", "train"), "val"),
    ):
        code, out, err = call(capsys, "probe", "pets", "--model", "tok", *option)
        assert code == 2 and told in err
    code, out, _ = call(capsys, "predict", "here", "pets/cat/0.png", "--json")
    assert code == 0 and json.loads(out)["predictions"][0]["label"] in COLOURS


def test_an_interruption_before_the_page_says_that_the_run_is_there(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vitsmith.report.probe.write_report", interrupt)
    for option, run in ((("--out", "there"), Path("there")), ((), Path("runs/probe/pets-tok"))):
        code, out, err = call(capsys, "probe", "pets", "--model", "tok", "--shots", "1", *option)
        assert (code, out) == (2, "") and f"interrupted; {run} is written and complete" in err, err
        assert (run / "probe.json").is_file() and (run / "model/bundle.json").is_file()

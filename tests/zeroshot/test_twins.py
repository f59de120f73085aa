"""Classes of one name, as ImageNet's two cranes: they load, are told apart wherever shown, and never mixed up."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.data.text.label_files import listed, shard, told
from tests.tiny import VIT, pictures, tiny_lit, tiny_model
from tests.weights.foreign_files import HF_CONFIG, loaded, refusal, timm_config, written
from tests.weights.foreign_reference import hf_vit, timm_vit
from vitsmith.cli.main import app
from vitsmith.compress.images import labelled_training_images
from vitsmith.data.sets.samples import Samples
from vitsmith.data.sets.shards.read import read_shards
from vitsmith.errors import DatasetError, InputError
from vitsmith.evaluation.evaluation import evaluate, match_classes
from vitsmith.exporters.web import _facts
from vitsmith.names import ambiguous_name, positions_by_name, tell_apart
from vitsmith.predict import Predictor
from vitsmith.specs import Labels
from vitsmith.training.images.teacher import Teacher
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.card import model_card
from vitsmith.weights.load import load
from vitsmith.weights.metadata import class_names
from vitsmith.weights.save import save
from vitsmith.zeroshot.classifier import ZeroShotClassifier
from vitsmith.zeroshot.labels import Words, check_words, read_words, words_of

TWINS = ("ant", "crane", "bee", "crane", "eel")
SHOWN = ("ant", "crane (1)", "bee", "crane (3)", "eel")


def twins(**fields: Any) -> Bundle:
    return Bundle.of(tiny_model(VIT), labels=Labels(names=TWINS), **fields)


def samples_of(*classes: str) -> Samples:
    images = pictures(len(classes))
    return Samples(classes, images, [str(index) for index in range(len(classes))], np.arange(len(classes)))


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (TWINS, SHOWN),
        (("ant", "bee"), ("ant", "bee")),
        (("caf\u00e9", "cafe\u0301"), ("caf\u00e9 (0)", "cafe\u0301 (1)")),
        (("a", "", "b", " "), ("a", "class 1", "b", "class 3")),
        (("class 1", ""), ("class 1 (0)", "class 1 (1)")),
        (("x", "x", "x (1)"), ("x (0)", "x (1) (1)", "x (1) (2)")),
        ((), ()),
    ],
)
def test_twins_are_told_apart_by_their_numbers(names: tuple[str, ...], shown: tuple[str, ...]) -> None:
    assert tell_apart(names) == shown and len(set(shown)) == len(shown)
    assert Labels.as_found(names).shown == shown and Labels.as_found(names).names == names


def test_a_name_is_found_by_itself_or_by_what_tells_it_apart() -> None:
    positions = positions_by_name(TWINS)
    assert positions["ant"] == [0] and positions["crane"] == [1, 3] and positions["crane (3)"] == [3]
    assert ambiguous_name("ant", TWINS) == "" and ambiguous_name("crane (3)", TWINS) == ""
    assert ambiguous_name("crane", TWINS) == (
        "'crane' is the name of several classes (1 and 3): write 'crane (1)' or 'crane (3)'"
    )
    assert positions_by_name(("x", "x", "x (1)"))["x (1)"] == [2], "a class of that very name comes first"


# --- where they come from --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headless", [False, True])
def test_foreign_models_with_twins_load(tmp_path: Path, headless: bool) -> None:
    (tmp_path / "hf").mkdir()
    written(tmp_path / "hf", hf_vit(), {**HF_CONFIG, "id2label": dict(enumerate(TWINS))})
    (tmp_path / "timm").mkdir()
    written(tmp_path / "timm", timm_vit(), timm_config(label_names=list(TWINS)))
    for folder in ("hf", "timm"):
        labels = loaded(tmp_path / folder, headless=headless).labels
        assert (labels is None) if headless else (labels is not None and labels.names == TWINS)


def test_names_by_number_are_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    names = {str(index): f"name {index}" for index in range(12)}
    in_text_order = dict(sorted(names.items()))  # "10" before "2"
    assert class_names(in_text_order, "here") == tuple(f"name {index}" for index in range(12))
    written(tmp_path, timm_vit(), timm_config(label_names={"1": "b", "0": "a", "4": "e", "3": "d", "2": "c"}))
    labels = loaded(tmp_path).labels
    assert labels is not None and labels.names == ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        ({"0": "a", "1": "b", "2": "c", "3": "d", "5": "e"}, "does not number the classes 0 to 4, each once"),
        ({"0": "a", "1": "b", "2": "c", "3": "d", "03": "e"}, "does not number the classes 0 to 4, each once"),
        ({str(index): "a" for index in range(1, 6)}, "does not number the classes 0 to 4, each once"),
        ({**{str(index): "a" for index in range(4)}, "-1": "e"}, "id2label.-1: a class is named by its number, 0 to 4"),
        ({**{str(index): "a" for index in range(4)}, "4": None}, "id2label.4: a name is text (got None)"),
        ({**{str(index): "a" for index in range(4)}, "4": ["a"]}, "id2label.4: a name is text (got ['a'])"),
        ("ant,bee", "is neither a list of names nor an object"),
        (
            {"0": "background", **{str(index): "a" for index in range(1, 6)}},
            "has 5 classes, the config.json beside it names 6; the first, 'background', is from TensorFlow's lists",
        ),
    ],
)
def test_names_that_do_not_number_the_classes_are_refused(tmp_path: Path, names: Any, problem: str) -> None:
    written(tmp_path, hf_vit(), {**HF_CONFIG, "id2label": names})
    assert problem in refusal(tmp_path)
    assert loaded(tmp_path, headless=True).labels is None, "who wants features needs no labels"


def test_numbers_as_names_are_read_as_text(tmp_path: Path) -> None:
    written(tmp_path, hf_vit(), {**HF_CONFIG, "id2label": {str(index): index + 5 for index in range(5)}})
    labels = loaded(tmp_path).labels
    assert labels is not None and labels.names == ("5", "6", "7", "8", "9")


def test_odd_names_of_others_are_kept_and_ours_refused(tmp_path: Path) -> None:
    names = ("two\nlines", "", "nul\0", "ant", "bee")
    written(tmp_path, hf_vit(), {**HF_CONFIG, "id2label": dict(enumerate(names))})
    save(load(tmp_path), tmp_path / "kept")
    kept = load(tmp_path / "kept")
    assert kept.labels is not None and kept.labels.names == names
    assert kept.labels.shown == ("two\nlines", "class 1", "nul\0", "ant", "bee")
    for name, problem in (
        ("two\nlines", "has a line break"),
        ("end\r", "has a line break"),
        ("nul\0", "has a line break or a NUL"),
        ("\ud800", "is not Unicode text"),
        (" ", "is empty"),
    ):
        with pytest.raises(InputError, match=f"the name of class 1, .*, {problem}"):
            Labels(names=("ant", name))
    with pytest.raises(ValueError, match="is not Unicode text"):
        Labels.as_found(["\ud800"])


def test_twins_of_shards_are_classes_with_their_numbers(tmp_path: Path) -> None:
    path = shard(tmp_path, ["1", "3", "0"])
    listed(tmp_path, "\n".join(TWINS), "classes.txt")
    samples = read_shards([path])
    assert samples.classes == SHOWN and samples.labels.tolist() == [1, 3, 0]
    assert match_classes(twins(), samples).tolist() == [1, 3, 0]
    path = shard(tmp_path, ["ant", "crane"])
    assert "'crane' is the name of several classes (1 and 3)" in told(lambda: read_shards([path]), DatasetError)
    path = shard(tmp_path, ["ant", "crane (3)"])
    assert read_shards([path]).labels.tolist() == [0, 3]


# --- where they are shown --------------------------------------------------------------------------------------------


def test_bundles_keep_the_names_and_show_them_apart(tmp_path: Path) -> None:
    save(twins(), tmp_path / "model")
    stored = json.loads((tmp_path / "model" / "bundle.json").read_text())["labels"]
    assert stored == {"names": list(TWINS)}
    bundle = load(tmp_path / "model")
    assert bundle.labels is not None and bundle.labels.names == TWINS
    assert load(tmp_path / "model", headless=True).labels is None
    assert f"5 ({', '.join(SHOWN)})" in model_card(bundle)
    done = CliRunner().invoke(app, ["inspect", str(tmp_path / "model")])
    assert ", ".join(SHOWN) in done.stdout
    done = CliRunner().invoke(app, ["inspect", str(tmp_path / "model"), "--json"])
    assert json.loads(done.stdout)["labels"] == list(TWINS)


def test_answers_say_which_twin(tmp_path: Path) -> None:
    save(twins(), tmp_path / "model")
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    prediction = Predictor(tmp_path / "model")([tmp_path / "a.png"])[0]
    order = np.argsort(-prediction.probabilities, kind="stable").tolist()
    assert [label for label, _ in prediction.top(5)] == [SHOWN[index] for index in order]
    assert prediction.label == SHOWN[prediction.index] and prediction.best(5) == order
    base = ["predict", str(tmp_path / "model"), str(tmp_path / "a.png"), "--top", "5"]
    rows = json.loads(CliRunner().invoke(app, [*base, "--json"]).stdout)["predictions"]
    assert [(row["label"], row["index"]) for row in rows] == [(SHOWN[index], index) for index in order]
    header, row = csv.reader(CliRunner().invoke(app, [*base, "--csv"]).stdout.splitlines())
    assert row[1:11:2] == [SHOWN[index] for index in order] and header[1] == "label1"
    text = CliRunner().invoke(app, base).stdout
    assert "crane (1)" in text and "crane (3)" in text


def test_labels_of_a_file_may_come_twice(tmp_path: Path) -> None:
    save(Bundle.of(tiny_model(VIT)), tmp_path / "model")
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    file = listed(tmp_path, "\n".join(TWINS))
    base = ["predict", str(tmp_path / "model"), str(tmp_path / "a.png"), "--top", "5", "--labels-file", str(file)]
    done = CliRunner().invoke(app, base)
    assert done.exit_code == 0 and all(name in done.stdout for name in SHOWN)


def test_a_page_shows_twins_apart() -> None:
    assert _facts(twins(), 1, None)["names"] == list(SHOWN)
    plain = Bundle.of(tiny_model(VIT), labels=Labels(names=("a", "b", "c", "d", "e")))
    assert "names" not in _facts(plain, 1, None)


# --- where they are matched by name ----------------------------------------------------------------------------------


def test_data_says_which_twin_it_means() -> None:
    bundle = twins()
    problem = told(lambda: match_classes(bundle, samples_of("ant", "crane")), DatasetError)
    assert "'crane' is the name of several classes (1 and 3): write 'crane (1)' or 'crane (3)'" in problem
    assert match_classes(bundle, samples_of("crane (3)", "ant", "crane (1)")).tolist() == [3, 0, 1]
    assert match_classes(bundle, samples_of("ant", "eel")).tolist() == [0, 4], "other classes are not concerned"
    problem = told(lambda: match_classes(bundle, samples_of("crane (2)", "ant")), DatasetError)
    assert "the first is 'crane (2)': did you mean crane (3) or crane (1)?" in problem


def test_an_evaluation_names_twins_apart() -> None:
    evaluation = evaluate(Predictor(twins()), samples_of("crane (3)", "ant"))
    assert evaluation.classes == SHOWN and evaluation.labels.tolist() == [3, 0]


def test_pruning_matches_a_model_of_twins_with_itself(tmp_path: Path) -> None:
    """Its teacher is the model itself: every class is matched with itself, also where names are the same."""
    for name in ("ant", "crane (3)"):
        (tmp_path / name).mkdir()
        for number, picture in enumerate(pictures(25)):
            Image.fromarray(picture).save(tmp_path / name / f"{number}.png")
    bundle = twins()
    material = labelled_training_images(bundle, str(tmp_path))
    assert material.calibration.classes == SHOWN and set(material.calibration.labels.tolist()) == {0, 3}
    teacher = Teacher(bundle, material.calibration.classes, bundle.preprocessing)
    assert teacher._columns.tolist() == [0, 1, 2, 3, 4]


def test_a_teacher_with_twins_is_matched_by_their_numbers() -> None:
    bundle = twins()
    problem = told(lambda: Teacher(bundle, ["ant", "crane", "bee", "eel", "dog"], bundle.preprocessing), DatasetError)
    assert "'crane' is the name of several classes (1 and 3)" in problem
    classes = ["crane (3)", "ant", "bee", "crane (1)", "eel"]
    assert Teacher(bundle, classes, bundle.preprocessing)._columns.tolist() == [3, 0, 2, 1, 4]
    problem = told(lambda: Teacher(bundle, classes[:4], bundle.preprocessing), DatasetError)
    assert "1 that the data does not have, the first is 'eel'" in problem


# --- in words --------------------------------------------------------------------------------------------------------


def test_twins_in_words_need_other_words(tmp_path: Path) -> None:
    words = check_words(["cat", "cat"], ["red cat", "blue cat"], where="here")
    assert words.labels.shown == ("cat (0)", "cat (1)")
    classifier = ZeroShotClassifier(tiny_lit(), words, templates="{}", cache=False)
    assert {label for label, _ in classifier([pictures(1)[0]])[0].top(2)} == {"cat (0)", "cat (1)"}
    assert "has the same label twice ('cat')" in told(lambda: check_words(["cat", "dog", "cat"], where="here"))
    # Other words to us, the same tokens to the model.
    same = Words(("cat", "cat"), ("cat", "Cat"))
    problem = told(lambda: ZeroShotClassifier(tiny_lit(), same, templates="{}", cache=False))
    assert "the labels 'cat (0)' and 'cat (1)' become the same 6 tokens" in problem


def test_twins_whose_further_words_differ_are_two_labels(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("crane\tbird\ta tall bird\ncrane\tbird\ta machine\n")
    assert read_words(str(tmp_path / "labels.txt")).labels.shown == ("crane (0)", "crane (1)")
    (tmp_path / "labels.txt").write_text("crane\tbird\ta tall bird\ncrane\ta tall bird\tbird\n")
    with pytest.raises(InputError, match="same label twice \\('crane'\\)"):
        read_words(str(tmp_path / "labels.txt"))


def test_twins_of_the_data_cannot_be_told_apart_by_words() -> None:
    assert "several classes called 'crane', which words cannot tell apart: give `labels_file` FILE" in told(
        lambda: words_of(SHOWN), InputError
    )
    assert words_of(["model (2)", "model (3)"]).words == ("model (2)", "model (3)"), "other numbers than their own"


def test_a_number_named_twice_is_refused(tmp_path: Path) -> None:
    """Python's JSON keeps the last of two equal keys, and the names behind it would be another class's."""
    path = written(tmp_path, hf_vit(), {**HF_CONFIG, "id2label": {str(index): "a" for index in range(5)}})
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"4": "a"', '"4": "a", "4": "b"'))
    assert "has the key '4' twice" in refusal(path)

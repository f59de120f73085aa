"""Zero-shot classification against the same arithmetic by hand, and everything that is refused."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tests.tiny import CONFIGS, VIT, pictures, tiny_lit, tiny_model
from vitsmith import Bundle, Labels, load, save
from vitsmith.cli.main import app
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.sets.datasets import open_labelled
from vitsmith.data.text.prompts import fill_templates, named_templates, read_templates, template_sets
from vitsmith.encode import Encoder
from vitsmith.errors import InputError, UnknownNameError
from vitsmith.text_spec import TextSpec
from vitsmith.zeroshot import embeddings as embeddings_module
from vitsmith.zeroshot.classifier import ZeroShotClassifier
from vitsmith.zeroshot.labels import Words, check_words, read_words, words_of

LABELS = ("cat", "red circle", "blue square")
TEMPLATES = ("a photo of the {}", "small {}", "{}")
PICTURES = pictures(5)


@pytest.fixture(autouse=True)
def cache_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "class-embeddings"


def by_hand(bundle: Bundle, labels: tuple[str, ...] = LABELS, templates: tuple[str, ...] = TEMPLATES) -> Any:
    """(cosines (N, K), temperature, bias) in float64, one prompt and one image at a time."""
    model = bundle.model.double()
    classes = []
    with torch.inference_mode():
        for label in labels:
            rows = []
            for template in templates:
                tokens = torch.from_numpy(bundle.tokenizer([template.replace("{}", label)]))
                row = model.text(tokens)[0]
                rows.append(row / row.norm())
            mean = sum(rows) / len(rows)
            classes.append(mean / mean.norm())
        images = [
            model.image(torch.from_numpy(preprocess(p, bundle.preprocessing))[None].double())[0] for p in PICTURES
        ]
        cosines = torch.stack([torch.stack([i @ c / i.norm() for c in classes]) for i in images]).numpy()
    bundle.model.float()
    bias = 0.0 if model.logit_bias is None else model.logit_bias.item()
    return cosines, float(np.exp(model.log_temperature.item())), bias


@pytest.mark.parametrize("name", ["lit-bert", "lit-transformer", "lit-bias"])
def test_single_scores_are_the_softmax_of_scaled_cosines(name: str) -> None:
    bundle = tiny_lit(name)
    cosines, temperature, bias = by_hand(bundle)
    classifier = ZeroShotClassifier(bundle, LABELS, templates=TEMPLATES, batch_size=2)
    exponentials = np.exp(temperature * cosines)
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    found = classifier(PICTURES)
    np.testing.assert_allclose([one.probabilities for one in found], expected, atol=1e-6)
    assert [one.label for one in found] == [LABELS[best] for best in expected.argmax(axis=1)]
    np.testing.assert_allclose(classifier.logits(PICTURES), temperature * cosines + bias, atol=1e-5)


def test_independent_scores_are_sigmoids_where_the_model_has_a_bias() -> None:
    bundle = tiny_lit("lit-bias")
    cosines, temperature, bias = by_hand(bundle)
    classifier = ZeroShotClassifier(bundle, LABELS, templates=TEMPLATES, scores="independent")
    assert classifier.score_meaning == "probability"
    expected = 1 / (1 + np.exp(-(temperature * cosines + bias)))
    np.testing.assert_allclose([one.probabilities for one in classifier(PICTURES)], expected, atol=1e-6)


def test_independent_scores_of_softmax_models_are_cosines_and_say_so() -> None:
    bundle = tiny_lit("lit-bert")
    classifier = ZeroShotClassifier(bundle, LABELS, templates=TEMPLATES, scores="independent")
    assert classifier.score_meaning == "cosine"
    found = [one.scores for one in classifier(PICTURES)]
    np.testing.assert_allclose(found, by_hand(bundle)[0], atol=1e-6)


def test_bfloat16_gives_nearly_the_same_vectors() -> None:
    bundle = tiny_lit().with_golden(pictures(2))
    exact, rounded = Encoder(bundle), Encoder(bundle, precision="bf16")
    for found, expected in (
        (rounded.images(PICTURES), exact.images(PICTURES)),
        (rounded.texts(LABELS), exact.texts(LABELS)),
    ):
        assert not np.array_equal(found, expected)
        assert ((found * expected).sum(axis=1) > 0.999).all()
    assert rounded.engine.precision == "bfloat16"


# --- class embeddings on disk ----------------------------------------------------------------------------------------


def test_class_embeddings_are_computed_once(cache_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_lit()
    first = ZeroShotClassifier(bundle, LABELS, templates=TEMPLATES)
    (kept,) = cache_here.iterdir()

    def forbidden(self: Encoder, texts: Any) -> Any:
        raise AssertionError("embedded again")

    monkeypatch.setattr(Encoder, "texts", forbidden)
    again = ZeroShotClassifier(tiny_lit(), LABELS, templates=TEMPLATES)
    assert np.array_equal(again.embeddings, first.embeddings)
    for change in (
        {"labels": LABELS[:2]}, {"templates": TEMPLATES[:2]}, {"model": tiny_lit(seed=1)}, {"cache": False},
        {"precision": "bf16"},
    ):  # fmt: skip
        with pytest.raises(AssertionError, match="embedded again"):
            ZeroShotClassifier(**{"model": bundle, "labels": LABELS, "templates": TEMPLATES} | change)
    assert [path.name for path in cache_here.iterdir()] == [kept.name]


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"not an array at all", b"PK\x03\x04", None])
def test_a_damaged_file_is_made_again(damage: bytes | None, cache_here: Path) -> None:
    first = ZeroShotClassifier(tiny_lit(), LABELS)
    (kept,) = cache_here.iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 0x40]) if damage is None else damage)  # None: one bit of a number
    assert np.array_equal(ZeroShotClassifier(tiny_lit(), LABELS).embeddings, first.embeddings)
    assert kept.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_a_remark_and_no_more(cache_here: Path) -> None:
    cache_here.parent.write_text("a file, not a folder")
    told: list[str] = []
    classifier = ZeroShotClassifier(tiny_lit(), LABELS, on_remark=told.append)
    assert len(told) == 1 and told[0].startswith("cannot keep the label embeddings for the next run: cannot write")
    assert np.array_equal(classifier.embeddings, ZeroShotClassifier(tiny_lit(), LABELS, cache=False).embeddings)


def test_labels_are_embedded_in_groups_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ZeroShotClassifier(tiny_lit(), LABELS, templates=TEMPLATES, cache=False).embeddings
    told: list[int] = []
    monkeypatch.setattr(embeddings_module, "TEXT_BATCH", 4)
    parts = ZeroShotClassifier(tiny_lit(), LABELS, templates=TEMPLATES, cache=False, on_labels=told.append)
    np.testing.assert_allclose(parts.embeddings, whole, atol=1e-6)
    assert told == [1, 2, 3]


# --- labels and templates --------------------------------------------------------------------------------------------


def test_the_sets_of_templates() -> None:
    assert template_sets() == ["clip", "lit", "simple"]
    assert [len(named_templates(name)) for name in template_sets()] == [80, 8, 1]
    assert all(template.count("{}") == 1 for name in template_sets() for template in named_templates(name))
    assert len(set(named_templates("clip"))) == 80 and set(named_templates("lit")[:7]) < set(named_templates("clip"))
    assert fill_templates(["a {}."], "{0} cat {}") == ["a {0} cat {}."]


def test_a_bundle_brings_its_templates(tmp_path: Path) -> None:
    assert ZeroShotClassifier(tiny_lit(), LABELS).templates == named_templates("lit")
    lit = tiny_lit()
    text = TextSpec(**lit.text.model_dump() | {"templates": ("the {}",)})
    own = Bundle.of(lit.model, text=text, vocabulary=lit.vocabulary)
    saved = save(own, tmp_path / "model")
    assert ZeroShotClassifier(saved, LABELS).templates == ("the {}",)
    assert ZeroShotClassifier(saved, LABELS, templates="simple").templates == ("a photo of a {}.",)


def test_templates_from_a_file_or_written_out(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("# mine\n\n a {} here \nthe {}\nthe {}\n")
    assert read_templates(str(file)) == ("a {} here", "the {}")
    assert read_templates("one {} only") == ("one {} only",)
    for text, problem in (
        ("# nothing\n", "holds no templates"),
        ("a photo\nthe {}\n", r"mine\.txt: template 'a photo' must have exactly one place for the label, \{\}"),
        ("{} and {}\n", r"'\{\} and \{\}' must have exactly one"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=problem):
            read_templates(str(file))
    with pytest.raises(InputError, match=r"'clipp' is neither .* did you mean clip"):
        read_templates("clipp")
    with pytest.raises(InputError, match="exactly one place"):
        ZeroShotClassifier(tiny_lit(), LABELS, templates=["no place"])
    with pytest.raises(InputError, match="no templates were given"):
        ZeroShotClassifier(tiny_lit(), LABELS, templates=[])


def test_labels_from_a_line_or_a_file(tmp_path: Path) -> None:
    assert read_words(" red panda, giraffe ,").names == ("red panda", "giraffe")
    file = tmp_path / "labels.txt"
    file.write_text("n02510455\tgiant panda, a bear\nred panda\n\n")
    read = read_words(str(file))
    assert read.names == ("n02510455", "red panda") and read.words == ("giant panda, a bear", "red panda")
    assert words_of(["red_panda"]).words == ("red panda",) and words_of(["red_panda"]).names == ("red_panda",)
    for given, problem in (
        (" , ,", "holds no labels"),
        ("", "holds no labels"),
        ("cat,dog, cat ,dog,a", r"has the same label twice \('cat', 'dog'\)"),
        (str(tmp_path / "none.txt"), r"cannot read the labels in .*none\.txt: No such file"),
        ("animals.lst", r"cannot read the labels in animals\.lst: No such file"),
        ("lists/animals", "cannot read the labels in lists/animals: No such file"),
    ):
        with pytest.raises(InputError, match=problem):
            read_words(given)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is UTF-16 or UTF-32 text: save it as UTF-8"):
        read_words(str(file))
    file.write_text("\n")
    with pytest.raises(InputError, match="holds no labels"):
        read_words(str(file))
    with pytest.raises(InputError, match="labels holds no labels"):
        check_words([], where="labels")
    file.write_text("\tdog\n")
    with pytest.raises(InputError, match=r"labels\.txt, line 1: the name is empty"):
        read_words(str(file))
    file.write_bytes("\ufeffcat\tdie Katze\r\nhund\r\n".encode())
    assert read_words(str(file)) == Words(("cat", "hund"), ("die Katze", "hund"))
    assert read_words("St. Bernard").names == ("St. Bernard",) and read_words("x" * 300).names == ("x" * 300,)


def test_several_words_of_a_label_and_whole_prompts(tmp_path: Path, cache_here: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_text('cat\ta cat\t "the red, cat" \ta cat\n"dog, small"\nbird\t\tb\n')
    read = read_words(str(file))
    assert read.names == ("cat", "dog, small", "bird") and read.words == ("a cat", "dog, small", "b")
    assert read.texts == [("a cat", "the red, cat"), ("dog, small",), ("b",)] and not read.whole
    bundle = tiny_lit()

    def mean(prompts: list[str]) -> Any:
        tokens = torch.from_numpy(bundle.tokenizer(prompts))
        with torch.inference_mode():
            rows = bundle.model.text(tokens).double().numpy()
        found = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(axis=0)
        return found / np.linalg.norm(found)

    several = ZeroShotClassifier(bundle, read, templates=["a {}", "{}"])
    prompts = [["a a cat", "a cat", "a the red, cat", "the red, cat"], ["a dog, small", "dog, small"], ["a b", "b"]]
    np.testing.assert_allclose(several.embeddings, [mean(one) for one in prompts], atol=1e-6)

    given: dict[str, Any] = {"cat": ["photo of a cat", "cat", "cat "], "dog": "the dog"}
    whole = ZeroShotClassifier(bundle, given)
    np.testing.assert_allclose(whole.embeddings, [mean(["photo of a cat", "cat"]), mean(["the dog"])], atol=1e-6)
    assert whole.labels.names == ("cat", "dog") and whole.templates == ("{}",)
    names = {path.name for path in cache_here.iterdir()}
    ZeroShotClassifier(bundle, {"kitty": given["cat"], "dog": ["the dog"]})  # its name is in no prompt
    assert {path.name for path in cache_here.iterdir()} == names
    ZeroShotClassifier(bundle, {"cat": ["photo of a cat", "cat", "the cat"], "dog": "the dog"})
    assert len(list(cache_here.iterdir())) == len(names) + 1
    assert ZeroShotClassifier(bundle, {"cat": ["a 猫 cat"], "dog": "a b c d e"}).unknown == {"cat": ["猫"]}
    for prompts, told in (
        ({"cat": ["a cat"], "猫": ["猫"]}, "the label '猫' has no word that"),
        ({"cat": ["a cat"], "dog": ["the dog", "猫"]}, "the label 'dog': '猫' has no word that"),
        ({"cat": ["a cat", "cat"], "dog": ["cat", "A cat"]}, "'cat' and 'dog' become the same 6 tokens"),
        ({"cat": [], "dog": "dog"}, "the prompts of the label 'cat' are none: write whole sentences"),
        ({"cat": ["a cat", " "], "dog": "dog"}, "the prompts of the label 'cat' have an empty one"),
        ({"cat": "a cat"}, "one label, 'cat', would get a probability of 1"),
        ({}, "labels holds no labels"),
        ({1: "a cat"}, "labels has 1 as a label"),
    ):
        with pytest.raises(InputError, match=told):
            ZeroShotClassifier(bundle, prompts)
    with pytest.raises(InputError, match="used as they are: leave `templates` out"):
        ZeroShotClassifier(bundle, given, templates="lit")


def test_labels_that_are_cut_are_named_and_those_that_become_one_are_refused() -> None:
    classifier = ZeroShotClassifier(tiny_lit(), ["cat", "a b c d e"], templates="the {}")  # of six tokens, one is [CLS]
    assert classifier.cut == ("a b c d e",)
    for labels in (["Cat", "cat"], ["a b c d e", "a b c d dog"], ["ж cat", "я cat"]):
        with pytest.raises(InputError, match=f"{labels[0]!r} and {labels[1]!r} become the same 6 tokens"):
            ZeroShotClassifier(tiny_lit(), labels, templates="the {}")


def test_models_that_cannot_read_are_refused() -> None:
    with pytest.raises(InputError, match="is a model of images alone: it cannot read text"):
        ZeroShotClassifier(Bundle.of(tiny_model(VIT)), LABELS)
    with pytest.raises(InputError, match=r"has no vocabulary, so texts cannot be read: put the \.txt file"):
        ZeroShotClassifier(Bundle.of(tiny_model(CONFIGS["lit-bert"])), LABELS)
    with pytest.raises(InputError, match=r"put the \.model file"):
        ZeroShotClassifier(Bundle.of(tiny_model(CONFIGS["lit-transformer"])), LABELS)
    with pytest.raises(UnknownNameError, match="unknown kind of scores 'both'"):
        ZeroShotClassifier(tiny_lit(), LABELS, scores="both")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="labels must be a list, not one text"):
        ZeroShotClassifier(tiny_lit(), "cat,dog")
    encoder = Encoder(tiny_lit())
    with pytest.raises(InputError, match="batch_size must be given to the Encoder"):
        ZeroShotClassifier(encoder, LABELS, batch_size=2)
    for tokens in (np.zeros((2, 5), np.int32), np.zeros(6, np.int32), np.zeros((2, 6), np.float32)):
        with pytest.raises(InputError, match=r"tokens must be integers of shape \(texts, 6\), got"):
            encoder.tokens(tokens)
    assert encoder.tokens(np.zeros((2, 6), np.int64)).shape == (2, 32)


# --- the verbs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for index, pixels in enumerate(PICTURES):
        path = tmp_path / "photos" / ("cat", "red_circle")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    save(tiny_lit(), tmp_path / "lit")
    save(Bundle.of(tiny_model(VIT), labels=Labels(names=tuple("abcde"))), tmp_path / "vit")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments, standalone_mode=False)


def test_zeroshot_over_a_folder(place: Path) -> None:
    labels = ",".join(LABELS)
    lines = run("zeroshot", "lit", "photos", "--labels", labels, "--json", "--top", "3").stdout.splitlines()
    classifier = ZeroShotClassifier("lit", LABELS)
    paths = sorted(Path("photos").rglob("*.png"))
    assert [json.loads(line)["image"] for line in lines] == [str(path) for path in paths]
    for line, prediction in zip(lines, classifier(paths), strict=True):
        answers = json.loads(line)["predictions"]
        assert [answer["label"] for answer in answers] == [label for label, _ in prediction.top(3)]
        np.testing.assert_allclose([a["probability"] for a in answers], [p for _, p in prediction.top(3)], atol=2e-6)
    told = run("zeroshot", "lit", "photos", "--labels", labels, "--scores", "independent", "--csv")
    assert told.stdout.splitlines()[0] == "image,label1,cosine1,error"
    assert "scores are cosines, not probabilities" in told.stderr
    table = run("zeroshot", "lit", "photos", "--labels", labels)
    assert table.stdout.count("%") == 5 and "photos/cat/0.png" in table.stdout


def test_a_data_set_stands_in_the_place_of_images(place: Path) -> None:
    by_data = run("zeroshot", "lit", "--data", "photos", "--labels", "cat,dog", "--json").stdout
    assert by_data == run("zeroshot", "lit", "photos", "--labels", "cat,dog", "--json").stdout and len(by_data) > 99
    both, none = run("predict", "vit", "photos", "--data", "photos"), run("predict", "vit")
    assert "images are given twice" in str(both.exception) and "give images: files" in str(none.exception)


def test_images_without_a_path_are_called_as_in_their_data_set(place: Path) -> None:
    with tarfile.open("photos.tar", "w") as shard:
        for number, path in enumerate(sorted(Path("photos").rglob("*.png"))):
            shard.add(path, f"{number}.png")
            (place / "label.cls").write_text(str(number % 2))
            shard.add(place / "label.cls", f"{number}.cls")
    lines = run("predict", "vit", "--data", "photos.tar", "--json").stdout.splitlines()
    assert [json.loads(line)["image"] for line in lines] == list(open_labelled("photos.tar", "all")[0].names)


def test_zeroshot_reports_what_it_cannot_read_and_what_was_cut(place: Path) -> None:
    (place / "photos" / "broken.jpg").write_bytes(b"")
    result = run("zeroshot", "lit", "photos", "--labels", "cat,a b c d e", "--templates", "the {}")
    assert "longer than the 6 tokens that the model reads, and cut in some prompt: 'a b c d e'" in result.stderr
    assert isinstance(result.exception, InputError) and "1 of 6 images could not be read" in str(result.exception)
    assert "skipped: photos/broken.jpg" in result.stderr and result.stdout.count("%") == 5


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["vit", "photos", "--labels", "cat,dog"], "is a model of images alone"),
        (["lit", "photos", "--labels", ","], "holds no labels"),
        (["lit", "photos", "--labels", "cat,cat"], "has the same label twice"),
        (["lit", "photos", "--labels", "cat", "--templates", "nothing"], "neither a set of templates"),
        (["lit", "none", "--labels", "cat", "--json", "--csv"], "exclude each other"),
        (["lit", "photos", "--labels", "cat", "--precision", "int3"], "unknown precision 'int3'"),
        (["lit", "photos", "--labels", "cat", "--vocabulary", "v.txt"], "vocabulary is for LiT checkpoints"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], problem: str, place: Path) -> None:
    result = run("zeroshot", *arguments)
    assert isinstance(result.exception, InputError) and problem in str(result.exception)


def test_predict_sends_lit_models_to_zeroshot(place: Path) -> None:
    told = str(run("predict", "lit", "photos").exception)
    assert "use  vitsmith zeroshot" in told and "vitsmith evaluate --zeroshot  on labelled images" in told


def test_recording_adds_scores_and_changes_nothing_else(place: Path) -> None:
    (place / "names.txt").write_text("a\nb\nc\nd\ne\n")
    (place / "others.txt").write_text("e\nd\nc\nb\na\n")
    (place / "letters" / "a").mkdir(parents=True)
    (place / "letters" / "b").mkdir()
    for index, pixels in enumerate(PICTURES):
        Image.fromarray(pixels).save(place / "letters" / "ab"[index % 2] / f"{index}.png")
    assert run("evaluate", "vit", "--data", "letters", "--labels-file", "names.txt", "--record").exception is None
    assert load("vit").labels.names == tuple("abcde") and load("vit").measurements
    before = Path("vit", "bundle.json").read_bytes()
    refused = run("evaluate", "vit", "--data", "letters", "--labels-file", "others.txt", "--record")
    assert "the measurements do not hold for vit: other labels were used" in str(refused.exception)
    assert Path("vit", "bundle.json").read_bytes() == before
    for arguments in ([], ["--templates", "simple"], ["--precision", "bf16"]):
        assert run("evaluate", "lit", "--data", "photos", "--zeroshot", "--record", *arguments).exception is None
    data = {(one.data, one.precision) for one in load("lit").measurements if one.metric == "zero_shot_top1"}
    assert data == {("photos", "fp32"), ("photos, templates simple", "fp32"), ("photos", "bf16")}
    refused = run("evaluate", "somewhere.npz", "--data", "photos", "--record")
    assert "--record writes into a bundle, and somewhere.npz is not a bundle" in str(refused.exception)


def test_evaluate_zeroshot_matches_labels_by_name(place: Path) -> None:
    scores = json.loads(run("evaluate", "lit", "--data", "photos", "--zeroshot", "--json").stdout)
    classifier = ZeroShotClassifier("lit", words_of(["cat", "red_circle"]))
    paths = sorted(Path("photos").rglob("*.png"))
    right = [path.parent.name == one.label for path, one in zip(paths, classifier(paths), strict=True)]
    assert scores["top1"] == sum(right) / 5 and len(scores["top1_interval"]) == 2 and scores["num_images"] == 5
    assert scores["data"] == "photos, zero-shot" and scores["templates"] == list(named_templates("lit"))
    (place / "names.txt").write_text("dog\nred_circle\tred circle\ncat\tcat\n")
    listed = run("evaluate", "lit", "--data", "photos", "--zeroshot", "--labels-file", "names.txt", "--json")
    assert json.loads(listed.stdout)["classes"] == ["dog", "red_circle", "cat"]
    (place / "names.txt").write_text("dog\ncat\n")
    refused = run("evaluate", "lit", "--data", "photos", "--zeroshot", "--labels-file", "names.txt")
    assert "the model does not know 1 of the data's 2 classes, the first is 'red_circle'" in str(refused.exception)
    assert "templates are for --zeroshot: give that too" in str(
        run("evaluate", "lit", "--data", "photos", "--templates", "clip").exception
    )

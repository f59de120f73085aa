"""Words that the vocabulary lacks all look the same to a model: it must not answer for them as for words it knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vitsmith as vs
from tests.command_line import call
from tests.tiny import pictures, tiny_clip, tiny_lit
from vitsmith.errors import InputError
from vitsmith.retrieval.build import write_index
from vitsmith.retrieval.index import open_index

UNKNOWN = ["zebra", "猫", "🐱", "Ünder", "x y z", "\u200b"]


@pytest.fixture(scope="module")
def encoder() -> vs.Encoder:
    return vs.Encoder(tiny_lit())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A LiT model, three photos, and a folder to work in."""
    vs.save(tiny_lit(), tmp_path / "lit")
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pictures(3)):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("text", UNKNOWN)
def test_a_text_of_unknown_words_is_refused(encoder: vs.Encoder, text: str) -> None:
    with pytest.raises(
        InputError, match=r"text 2: .*(no word that this model's vocabulary knows|is empty|punctuation)"
    ):
        encoder.texts(["a cat", text])
    with pytest.raises(InputError, match=r"the label .*(no word that this model's vocabulary knows|punctuation)"):
        vs.ZeroShotClassifier(encoder, ["cat", text], templates="a photo of the {}", cache=False)


def test_all_unknown_texts_would_have_one_vector(encoder: vs.Encoder) -> None:
    """Why they are refused."""
    tokens = encoder.bundle.tokenizer(["zebra", "猫", "🐱"])
    vectors = encoder.tokens(tokens)
    assert np.array_equal(vectors[0], vectors[1]) and np.array_equal(vectors[0], vectors[2])


@pytest.mark.parametrize("text", ["", "  ", "\n\t"])
def test_an_empty_text_is_refused(encoder: vs.Encoder, text: str) -> None:
    with pytest.raises(InputError, match=r"text 1: .* is empty"):
        encoder.texts([text])


@pytest.mark.parametrize(("name", "text", "words"), [
    ("lit-bert", "the Zebra and a cat!", ["zebra", "and"]),
    ("lit-bert", "the cat", []),
    ("lit-transformer", "the 猫 cat", ["猫"]),
])  # fmt: skip
def test_what_is_unknown_of_a_text_is_told(name: str, text: str, words: list[str]) -> None:
    encoder = vs.Encoder(tiny_lit(name))
    assert encoder.unknown([text, "cat"]) == [words, []]
    assert encoder.texts([text]).shape == (1, encoder.width)


def test_sentencepiece_knows_its_own_unknown(encoder: vs.Encoder) -> None:
    """Its tokens of '猫' are a space and the unknown piece."""
    other = vs.Encoder(tiny_lit("lit-transformer"))
    for text in ("猫", "🐱 猫"):
        with pytest.raises(InputError, match="no word that this model's vocabulary knows"):
            other.texts([text])
    with pytest.raises(InputError, match="'!!!' has only punctuation"):
        other.texts(["!!!"])


def test_what_lies_beyond_the_context_does_not_count(encoder: vs.Encoder) -> None:
    """Of six tokens five are words."""
    with pytest.raises(InputError, match="no word that this model's vocabulary knows"):
        encoder.texts(["u v w x y cat"])


def test_what_is_read_byte_by_byte_is_told(place: Path, capsys: Any) -> None:
    """CLIP's vocabulary knows every byte, and no piece of another script: nothing is unknown to it."""
    vs.save(tiny_clip(), "clip")
    encoder = vs.Encoder("clip")
    assert encoder.bytewise(["a photo of a 猫犬", "a cat", "naïve ñ"]) == [["猫犬"], [], ["ï", "ñ"]]
    assert encoder.unknown(["a 猫"]) == [[]]
    classifier = vs.ZeroShotClassifier(encoder, {"猫": ["a 猫", "the 猫 and 犬"], "dog": "a dog"}, cache=False)
    assert classifier.bytewise == {"猫": ["猫", "犬"]} and classifier.unknown == {}
    told = "without a piece in the model's vocabulary, and read byte by byte, as text that it has hardly seen: "
    Path("texts.txt").write_text("a cat\na 猫\n", encoding="utf-8")
    for command, shown in (
        (["zeroshot", "clip", "photos", "--labels", "cat, a 猫", "--templates", "the {}"], "'猫' of 'a 猫'"),
        (["embed", "clip", "--texts-file", "texts.txt", "--out", "texts"], "'猫'"),
        (["embed", "clip", "photos", "--out", "photos-index"], ""),
        (["retrieve", "ein Käfer", "--index", "photos-index"], "'ä'"),
    ):
        code, _, err = call(capsys, *command)
        assert code == 0 and (not shown or f"{told}{shown}\n" in err), err


def test_the_unknown_pieces_are_named(encoder: vs.Encoder) -> None:
    with pytest.raises(InputError, match=r"'zebra 猫' has no word .* \(no known piece in: zebra, 猫\), so the model"):
        encoder.texts(["zebra 猫"])


def test_texts_of_every_kind_of_list(encoder: vs.Encoder) -> None:
    texts = ["a cat", "a dog"]
    given: list[Any] = [iter(texts), (text for text in texts), map(str, texts), tuple(texts), np.array(texts)]
    for one in [*given, dict.fromkeys(texts).keys()]:
        assert np.array_equal(encoder.texts(one), encoder.texts(texts))


WRONG: list[Any] = [b"a cat", None, 3, {"a cat": 1}, {"a cat"}, [1], [None], [b"a cat"], [["a cat"]], [np.nan]]


@pytest.mark.parametrize("given", WRONG, ids=repr)
def test_what_is_no_list_of_texts_is_refused(encoder: vs.Encoder, given: Any) -> None:
    for call_it in (encoder.texts, encoder.cut, encoder.unknown, encoder.bundle.tokenizer):
        with pytest.raises(InputError, match=r"^texts (must be|are) "):
            call_it(given)
    with pytest.raises(InputError, match=r"^(labels|the prompts of the label 'a cat') (must be|are) "):
        vs.ZeroShotClassifier(encoder, given, cache=False)
    if given is not None:  # one template, and the model's own
        with pytest.raises(InputError, match=r"^templates (must be|are) "):
            vs.ZeroShotClassifier(encoder, ["cat"], templates=given, cache=False)


def test_one_text_is_no_list_of_labels(encoder: vs.Encoder) -> None:
    with pytest.raises(InputError, match=r"^(labels|the prompts of the label 'a cat') (must be|are) "):
        vs.ZeroShotClassifier(encoder, "a cat", cache=False)  # type: ignore[arg-type]


def test_labels_and_templates_may_come_from_generators(encoder: vs.Encoder) -> None:
    labels, templates = ["cat", "dog"], ["a {}", "the {}"]
    expected = vs.ZeroShotClassifier(encoder, labels, templates=templates, cache=False)
    found = vs.ZeroShotClassifier(encoder, iter(labels), templates=(one for one in templates), cache=False)
    assert found.words == expected.words and found.templates == expected.templates
    assert np.array_equal(found.embeddings, expected.embeddings)


def test_an_index_of_texts_passes_over_unknown_ones(encoder: vs.Encoder, tmp_path: Path) -> None:
    index = write_index(encoder, ["a cat", "zebra", "a dog", ""], tmp_path / "index", kind="texts")
    assert index.ids([0, 1]) == ["a cat", "a dog"]
    assert [(one["id"], one["error"][:20]) for one in index.failed()] == [
        ("zebra", "'zebra' has no word "), ("", "'' is empty: write w"),
    ]  # fmt: skip
    np.testing.assert_allclose(index.rows([0, 1]), encoder.texts(["a cat", "a dog"]), atol=1e-3)


def test_the_verbs_say_so(place: Path, capsys: Any) -> None:
    assert call(capsys, "embed", "lit", "photos", "--out", "index")[0] == 0
    for query in ("zebra", "猫", "🐱"):
        code, out, err = call(capsys, "retrieve", query, "--index", "index")
        assert (code, out) == (2, "") and f"{query!r} has no word that this model's vocabulary knows" in err
        code, out, err = call(capsys, "zeroshot", "lit", "photos", "--labels", f"cat, {query}")
        assert (code, out) == (2, "") and f"the label {query!r} has no word that" in err
    code, out, err = call(capsys, "retrieve", "the zebra", "--index", "index", "--top", "1")
    assert code == 0 and out and "not in the model's vocabulary, and read as the unknown word: 'zebra'" in err
    code, out, err = call(capsys, "zeroshot", "lit", "photos", "--labels", "cat, red zebra")
    assert code == 0 and out and "read as the unknown word: 'zebra' of 'red zebra'" in err
    Path("texts.txt").write_text("a cat\nzebra\nthe zebra\n", encoding="utf-8")
    code, out, err = call(capsys, "embed", "lit", "--texts-file", "texts.txt", "--out", "captions", "--json")
    assert code == 2 and json.loads(out)["num_texts"] == 2 and json.loads(out)["failures"] == 1
    assert "skipped: 'zebra' has no word" in err and "1 of 3 texts has no word that the model knows" in err
    assert len(open_index("captions")) == 2


@pytest.mark.parametrize(
    "query", ["photos/0.png", "gone.JPG", "./photos", "photos/../photos", "https://x.org/cat", "~/x"]
)
def test_a_path_is_not_read_as_words(place: Path, capsys: Any, query: str) -> None:
    assert call(capsys, "embed", "lit", "photos", "--out", "index")[0] == 0
    code, out, err = call(capsys, "retrieve", query, "--index", "index")
    assert (code, out) == (2, "") and f"{query!r} is a path, not words" in err and "--images" in err


def test_words_with_a_slash_are_words(place: Path, capsys: Any) -> None:
    assert call(capsys, "embed", "lit", "photos", "--out", "index")[0] == 0
    for query in ("red/blue", "a cat and/or a dog", "photos of a cat"):
        code, out, _ = call(capsys, "retrieve", query, "--index", "index")
        assert code == 0 and len(out.splitlines()) == 3

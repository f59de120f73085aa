"""Recall: beside a search for each query written out by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.tiny import VIT, pictures, tiny_lit, tiny_model
from vitsmith import Bundle
from vitsmith.data.sets.samples import Samples
from vitsmith.encode import Encoder
from vitsmith.errors import InputError
from vitsmith.evaluation.accuracy import wilson_interval
from vitsmith.evaluation.retrieval import evaluate_retrieval
from vitsmith.retrieval import recall
from vitsmith.retrieval.recall import KS, recalls, recalls_of_pairs


def unit(generator: np.random.Generator, count: int, width: int = 8) -> np.ndarray:
    vectors = generator.normal(size=(count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_hand(queries: np.ndarray, candidates: np.ndarray, answers: dict[int, set[int]]) -> tuple[int, dict[int, int]]:
    """Queries asked and hits at each k: sort everything for each query, look whether a right answer is among the k."""
    hits = dict.fromkeys(KS, 0)
    for query, right in answers.items():
        scores = [(-float(np.dot(queries[query], candidate)), index) for index, candidate in enumerate(candidates)]
        order = [index for _, index in sorted(scores)]
        for k in KS:
            hits[k] += bool(right & set(order[:k]))
    return len(answers), hits


def answers_of(pairs: list[tuple[int, int]]) -> dict[int, set[int]]:
    answers: dict[int, set[int]] = {}
    for query, candidate in pairs:
        answers.setdefault(query, set()).add(candidate)
    return answers


@pytest.mark.parametrize("similarities", [1, 130, 4_194_304])
def test_pairs_are_as_by_hand_in_any_blocks(similarities: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five captions an image, captions shared by images, images and captions that belong to nothing."""
    monkeypatch.setattr(recall, "_SIMILARITIES", similarities)
    generator = np.random.default_rng(3)
    images, texts = unit(generator, 40), unit(generator, 60)
    pairs = [(image, int(text)) for image in range(35) for text in generator.choice(50, 5, replace=False)]
    found = recalls_of_pairs(images, texts, np.array(pairs))
    assert (found.image_to_text.queries, found.image_to_text.hits) == by_hand(images, texts, answers_of(pairs))
    swapped = [(text, image) for image, text in pairs]
    assert (found.text_to_image.queries, found.text_to_image.hits) == by_hand(texts, images, answers_of(swapped))
    assert found.image_to_text.queries == 35 and 0 < found.image_to_text.hits[1] < found.image_to_text.hits[10]
    assert found.image_to_text.at(5) == found.image_to_text.hits[5] / 35


@pytest.mark.parametrize("similarities", [1, 100, 4_194_304])
def test_labels_are_as_by_hand(similarities: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "_SIMILARITIES", similarities)
    generator = np.random.default_rng(4)
    images, texts = unit(generator, 50), unit(generator, 30)
    image_labels, text_labels = generator.integers(0, 20, 50), generator.integers(0, 20, 30)
    pairs = [(i, t) for i in range(50) for t in range(30) if image_labels[i] == text_labels[t]]
    found = recalls(images, texts, image_labels, text_labels)
    assert (found.image_to_text.queries, found.image_to_text.hits) == by_hand(images, texts, answers_of(pairs))
    swapped = [(text, image) for image, text in pairs]
    assert (found.text_to_image.queries, found.text_to_image.hits) == by_hand(texts, images, answers_of(swapped))
    assert found == recalls_of_pairs(images, texts, np.array(pairs))


def test_a_model_that_knows_everything_and_one_that_knows_nothing() -> None:
    images = unit(np.random.default_rng(5), 100)
    perfect = recalls(images, images, np.arange(100), np.arange(100))
    assert perfect.image_to_text.at(1) == perfect.text_to_image.at(1) == 1
    blind = recalls(np.ones_like(images), images * 0 + 1, np.arange(100), np.arange(100))
    assert blind.text_to_image.hits == {1: 1, 5: 5, 10: 10}, "of equals the first, so chance"


def test_what_cannot_be_scored_is_refused() -> None:
    vectors = unit(np.random.default_rng(6), 4)
    numbers = np.arange(4)
    spoiled = vectors.copy()
    spoiled[2, 1] = np.nan
    with pytest.raises(InputError, match="hold NaN or infinity"):
        recalls(vectors, spoiled, numbers, numbers)
    with pytest.raises(InputError, match=r"neither empty, got \(4, 8\) and \(4, 7\)"):
        recalls(vectors, vectors[:, 1:], numbers, numbers)
    with pytest.raises(InputError, match=r"neither empty, got \(4, 8\) and \(0, 8\)"):
        recalls(vectors, vectors[:0], numbers, numbers[:0])
    with pytest.raises(InputError, match="a label for each of 4 images and 4 texts"):
        recalls(vectors, vectors, numbers[1:], numbers)
    with pytest.raises(InputError, match="no image and text belong together"):
        recalls(vectors, vectors, numbers, numbers + 4)
    with pytest.raises(InputError, match="each at least 1"):
        recalls(vectors, vectors, numbers, numbers, ks=(0, 1))
    with pytest.raises(InputError, match="pairs name positions beyond the 4 images and 4 texts"):
        recalls_of_pairs(vectors, vectors, np.array([[0, 4]]))
    with pytest.raises(InputError, match=r"pairs must be integers of shape \(pairs, 2\)"):
        recalls_of_pairs(vectors, vectors, np.zeros((0, 2), np.int64))


# --- a model on captioned images --------------------------------------------------------------------------------------

CAPTIONS = ("a red circle", "a blue square", "the small dog", "a cat", "a photo of a large red dog in the blue square")


def captioned(pairs: list[tuple[int, int]]) -> Samples:
    """Rows of (picture, caption)."""
    shown = pictures(1 + max(image for image, _ in pairs))
    return Samples(
        classes=CAPTIONS,
        sources=[shown[image] for image, _ in pairs],
        names=[f"photos/{image}.jpg" for image, _ in pairs],
        labels=np.array([text for _, text in pairs], np.int64),
    )


def test_a_model_on_captioned_images_is_as_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures with several captions, and captions of several pictures; each is embedded once. One is of no row."""
    pairs = [(0, 0), (1, 1), (0, 2), (2, 0), (3, 4), (4, 1), (0, 4), (5, 2), (6, 2), (7, 0), (8, 1), (9, 4), (10, 4)]
    encoder = Encoder(tiny_lit(), batch_size=3)
    seen: list[None] = []
    found = evaluate_retrieval(encoder, captioned(pairs), on_image=lambda: seen.append(None))
    images, texts = encoder.images(pictures(11)), encoder.texts([CAPTIONS[text] for text in (0, 1, 2, 4)])
    renumbered = [(image, (0, 1, 2, 4).index(text)) for image, text in pairs]
    expected = by_hand(images, texts, answers_of(renumbered))
    assert (found.recalls.image_to_text.queries, found.recalls.image_to_text.hits) == expected
    expected = by_hand(texts, images, answers_of([(text, image) for image, text in renumbered]))
    assert (found.recalls.text_to_image.queries, found.recalls.text_to_image.hits) == expected
    assert (found.num_images, found.num_texts, found.num_pairs, found.cut, len(seen)) == (11, 4, 13, 1, 13)

    said = found.to_dict()
    json.dumps(said)
    one = said["recall"]["image_to_text"]["1"]
    assert one["value"] == found.recalls.image_to_text.at(1) and said["recall"]["text_to_image"]["queries"] == 4
    assert one["interval"] == list(wilson_interval(found.recalls.image_to_text.hits[1], 11))
    names = [measurement.metric for measurement in found.measurements("pairs.csv")]
    assert names[:2] == ["text_to_image_recall@1", "text_to_image_recall@5"] and len(names) == 6
    rows = found.rows()
    assert [row[:2] for row in rows] == [("text to image", "4"), ("image to text", "11")]
    low, high = one["interval"]
    assert rows[1][2] == f"{one['value']:.1%} ({low:.1%} to {high:.1%})" and len(rows[1]) == 5


def test_models_that_read_no_captions_are_refused() -> None:
    encoder = Encoder(Bundle.of(tiny_model(VIT)))
    with pytest.raises(
        InputError, match="is a model of images alone: it cannot read captions; use CLIP, SigLIP or LiT"
    ):
        evaluate_retrieval(encoder, captioned([(0, 0)]))

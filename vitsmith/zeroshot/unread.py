"""Sentences on what a model does not read as it is meant: texts that are cut, words without a piece of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from vitsmith.encode import Encoder
from vitsmith.zeroshot.classifier import ZeroShotClassifier

_UNKNOWN = "not in the model's vocabulary, and read as the unknown word"
_BYTEWISE = "without a piece in the model's vocabulary, and read byte by byte, as text that it has hardly seen"
_TEXTS = 3  # that are named, or words of texts
_LABELS = 5


def unread_of_labels(classifier: ZeroShotClassifier) -> Iterator[str]:
    """A sentence for each kind of label: cut in some prompt, with unknown words, with words read byte by byte."""
    if cut := classifier.cut:
        yield f"{_longer(classifier.encoder)} in some prompt: {_named(cut, _LABELS)}"
    for words, told in ((classifier.unknown, _UNKNOWN), (classifier.bytewise, _BYTEWISE)):
        if words:
            yield f"{told}: {_of_labels(words)}"


def cut_of_texts(encoder: Encoder, texts: Sequence[str], cut: Sequence[int]) -> str:
    """The sentence on texts that are longer than the model reads, which stand at the places `cut`."""
    return f"{_longer(encoder)}: {_named([texts[at] for at in cut], _TEXTS)}"


def unread_of_texts(encoder: Encoder, texts: Sequence[str]) -> Iterator[str]:
    """Sentences on words that the model cannot tell from each other, and on those that it reads byte by byte."""
    for found, told in ((encoder.unknown(texts), _UNKNOWN), (encoder.bytewise(texts), _BYTEWISE)):
        if counts := Counter(word for words in found for word in words):
            yield f"{told}: {_named([word for word, _ in counts.most_common()], _TEXTS)}"


def _longer(encoder: Encoder) -> str:
    return f"longer than the {encoder.bundle.tokenizer.spec.length} tokens that the model reads, and cut"


def _named(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(map(repr, names[:most]))}{more}"


def _of_labels(words: Mapping[str, Sequence[str]]) -> str:
    listed = [f"{' '.join(map(repr, some))} of {name!r}" for name, some in list(words.items())[:_LABELS]]
    more = f", and in {len(words) - _LABELS:,} more labels" if len(words) > _LABELS else ""
    return f"{', '.join(listed)}{more}"

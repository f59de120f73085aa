"""The vocabulary that captions are read with: that of a file, or one learnt from the captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vitsmith.data.text.pieces import END, START, UNKNOWN, check_lines, fold_case
from vitsmith.errors import ConfigError, InputError, MissingPackageError
from vitsmith.files.contents import read_words
from vitsmith.training.recipes.lit import LEARNT, TextTowerSpec

VocabularyKind = Literal["wordpiece", "sentencepiece"]

PADDING = "[PAD]"
"""Piece 0 of a learnt vocabulary: BERT does not look at token 0."""

_USUAL_PIECES = 8000
_KINDS: dict[str, VocabularyKind] = {".txt": "wordpiece", ".model": "sentencepiece"}


def learn_wordpiece(captions: Sequence[str], pieces: int, *, lower_case: bool) -> bytes:
    """A WordPiece vocabulary file of at most `pieces` pieces, one a line, for captions read as `Tokenizer` reads them.

    The same captions give the same file. Raises MissingPackageError without the tokenizers library.
    """
    try:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    except ImportError:
        raise MissingPackageError("tokenizers", "text") from None
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    folded = [fold_case(caption) if lower_case else caption for caption in captions]
    inner: set[str] = set()
    for caption in folded:
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(caption)):
            inner.update(word[1:])
    # Listed here because the trainer would number them in the order of its hash table. Of equally frequent pairs it
    # joins the one with the lower numbers, so the same captions would give other pieces each time.
    known = [PADDING, UNKNOWN, START, END, *(f"##{letter}" for letter in sorted(inner))]
    trainer = trainers.WordPieceTrainer(vocab_size=pieces, special_tokens=known, show_progress=False)
    tokenizer.train_from_iterator(folded, trainer)
    numbered = sorted(tokenizer.get_vocab().items(), key=lambda piece: piece[1])
    return "".join(f"{piece}\n" for piece, _ in numbered).encode()


def find_vocabulary(spec: TextTowerSpec, captions: Sequence[str]) -> tuple[VocabularyKind, bytes] | None:
    """The tokenizer's kind and its file for a fresh tower: what `spec.vocabulary` names, or learnt from `captions`.

    None for a tower that is not fresh and has its own.

    Raises InputError for a file that is not there or of another kind than .txt and .model, ConfigError for a learnt
    one with fewer pieces than the captions have characters.
    """
    if spec.init:
        return None
    if spec.vocabulary not in ("", LEARNT):
        vocabulary = read_vocabulary(spec.vocabulary)
        return _KINDS[Path(spec.vocabulary).suffix.lower()], vocabulary
    most = spec.pieces or _USUAL_PIECES
    vocabulary = learn_wordpiece(captions, most, lower_case=spec.lower_case is not False)
    learnt = vocabulary.count(b"\n")
    if learnt > most:
        raise ConfigError(
            f"text.pieces = {most} is too small: the captions' single characters alone are {learnt} pieces; set it to "
            f"at least {2 * learnt}"
        )
    return "wordpiece", vocabulary


def read_vocabulary(name: str) -> bytes:
    """The bytes of a vocabulary file. Raises InputError."""
    path = Path(name)
    if path.suffix.lower() not in _KINDS:
        raise InputError(
            f"the vocabulary {name!r} is neither a WordPiece .txt, nor a SentencePiece .model, nor {LEARNT!r}"
        )
    if not path.exists():
        raise InputError(f"cannot read the vocabulary {name}: No such file; check text.vocabulary")
    vocabulary = read_words(path, "a vocabulary")
    check_lines(_KINDS[path.suffix.lower()], vocabulary)
    return vocabulary

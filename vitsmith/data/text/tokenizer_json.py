"""Vocabularies in a tokenizer.json of Hugging Face's tokenizers library, which holds its own rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from vitsmith.errors import InputError, MissingPackageError

_SPACE = "\u2581"  # SentencePiece's mark for the beginning of a word
_UNKNOWN = ("<unk>", "[UNK]")


class TokenizerJson:
    """See `pieces.Vocabulary`. Start and end token are those that the file itself adds to a text."""

    spare = 0

    def __init__(self, vocabulary: bytes) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise MissingPackageError("tokenizers", "text") from None
        try:
            self._tokenizer: Any = Tokenizer.from_str(vocabulary.decode("utf-8"))
        except Exception as error:  # the foreign parser raises Exception itself
            raise InputError(f"the vocabulary is not a tokenizer.json: give the file as published ({error})") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.count = int(self._tokenizer.get_vocab_size(with_added_tokens=True))
        self.start, self.end = self._added()
        self.special_tokens = _SPECIAL[self.start is not None, self.end is not None]
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        self.unknown = self._first_of([unknown, *_UNKNOWN] if unknown else _UNKNOWN)
        self.empty = frozenset({self.unknown, self._first_of([_SPACE])} - {-1})

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [one.ids for one in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def unknown_words(self, text: str) -> list[str]:
        found = self._tokenizer.encode(text, add_special_tokens=False)
        places = [place for one, place in zip(found.ids, found.offsets, strict=True) if one == self.unknown]
        return [text[begin:end] for begin, end in places]

    def _first_of(self, names: Sequence[str]) -> int:
        """The id of the first of these pieces that there is; -1 for none."""
        found = (self._tokenizer.token_to_id(name) for name in names)
        return next((int(one) for one in found if one is not None), -1)

    def _added(self) -> tuple[int | None, int | None]:
        """The ids that the file adds before and after a text; None for none."""
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        whole = self._tokenizer.encode("a", add_special_tokens=True).ids
        for before in range(len(whole) - len(bare) + 1):
            start, end = whole[:before], whole[before + len(bare) :]
            if whole[before : before + len(bare)] == bare and max(len(start), len(end)) <= 1:
                return next(iter(start), None), next(iter(end), None)
        raise InputError(f"tokenizer.json adds {len(whole) - len(bare)} tokens to a text, more than a start and an end")


_SPECIAL: dict[tuple[bool, bool], Literal["start", "end", "both"] | None] = {
    (True, False): "start",
    (False, True): "end",
    (True, True): "both",
    (False, False): None,
}

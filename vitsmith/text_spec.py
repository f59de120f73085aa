"""The rules that turn texts into token ids, as a description that travels with a model. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from vitsmith.fields import Frozen, Number, PositiveInt

Token = Annotated[int, Field(ge=0), Number]
Cleaning = Literal["ftfy", "html", "spaces", "lower", "ascii_lower", "punctuation", "canonical"]
"""A step that changes a text before it is cut into pieces; see `data/text/cleaning.py`."""

OPENAI_CLEANING: tuple[Cleaning, ...] = ("ftfy", "html", "spaces", "lower")
"""The steps of OpenAI's CLIP and of OpenCLIP (clip/simple_tokenizer.py)."""

_USUAL: dict[str, dict[str, Any]] = {
    "wordpiece": {"lower_case": True, "padding": "zero"},
    "sentencepiece": {"lower_case": False, "padding": "end"},
    "bpe": {"length": 77, "lower_case": False, "cleaning": OPENAI_CLEANING, "padding": "zero", "pooling": "end"},
    "tokenizers": {"lower_case": False},
}
"""Kind of tokenizer -> the values of fields that are omitted."""


class TextSpec(Frozen):
    """The rules that turn a text into token ids of shape (length,), int32.

    A row holds a start token, the text's pieces, an end token, and padding. Models differ in which of the special
    tokens there are. A text that is too long loses its last pieces, never a special token. Omitted fields get the
    values of the tokenizer's kind: 'wordpiece' and 'sentencepiece' as in LiT (vit_jax/preprocess.py), 'bpe' as in
    OpenAI's CLIP (clip/clip.py); 'tokenizers', a tokenizer.json, has no usual values.
    """

    tokenizer: Literal["wordpiece", "sentencepiece", "bpe", "tokenizers"]
    length: PositiveInt = Field(16, description="tokens per text, after padding or clipping")
    vocabulary: PositiveInt = Field(description="number of token ids the text tower knows")
    cleaning: tuple[Cleaning, ...] = Field((), description="what is done to a text first, in this order")
    lower_case: bool = Field(description="fold case (with WordPiece also accents, as BERT uncased) before tokenizing")
    canonicalize: bool = Field(
        False, description="first of all: '_' to a space, no ASCII punctuation, lower case, single spaces"
    )
    special_tokens: Literal["start", "end", "both"] | None = Field(
        None,
        description="special tokens around the text; None: both for CLIP's BPE, those that a tokenizer.json adds, "
        "elsewhere the start token if the first token is pooled and the end token if not",
    )
    start_token: Token | None = Field(None, description="id of the start token; None: the vocabulary's own")
    end_token: Token | None = Field(None, description="id of the end token; None: the vocabulary's own")
    padding: Literal["zero", "end"] = Field(description="what follows the text: token 0, or the end token")
    padding_token: Token | None = Field(None, description="id of what follows the text, if it is neither")
    pooling: Literal["first", "last", "end"] = Field(
        description="the token whose output is the text's embedding; 'end' is the end token, wherever it stands"
    )
    pieces: PositiveInt | None = Field(
        None, description="number of pieces in the vocabulary, where the text tower knows many more (CLIPA)"
    )
    reserved: tuple[str, ...] = Field(
        (), description="words of which the model's authors make one token, and we none: texts with them are refused"
    )
    templates: tuple[str, ...] = Field((), description="prompts for labels, with {} in place of the label")

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        usual = _USUAL.get(str(fields.get("tokenizer")), {})
        if "padding" in usual:
            pooling = "first" if fields.get("padding", usual["padding"]) == "zero" else "last"
            usual = {"pooling": pooling} | usual
        return usual | fields

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        mistakes = []
        if self.pooling == "first" and self.padding == "end":
            mistakes.append("padding 'end' does not go with pooling 'first': zero needs first, end needs last")
        if self.pooling == "first" and self.tokenizer == "sentencepiece":
            mistakes.append("SentencePiece has no start token to pool: pooling must be 'last'")
        if self.lower_case and self.tokenizer in ("bpe", "tokenizers"):
            mistakes.append(f"lower_case is not for {self.tokenizer!r}: use cleaning=['lower']")
        if (self.pooling, self.special_tokens) in (("first", "end"), ("end", "start")):
            mistakes.append(f"pooling {self.pooling!r} does not go with special_tokens {self.special_tokens!r}")
        ids = {name: getattr(self, name) for name in ("start_token", "end_token", "padding_token")}
        mistakes += [
            f"{name} {one} is not below vocabulary {self.vocabulary}"
            for name, one in ids.items()
            if one is not None and one >= self.vocabulary
        ]
        if self.pieces is not None and self.pieces > self.vocabulary:
            mistakes.append(f"pieces {self.pieces} is more than vocabulary {self.vocabulary}")
        if reason := wrong_templates(self.templates):
            mistakes.append(reason)
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self


PLACE = "{}"
"""The place of the label in a template."""


def wrong_templates(templates: Sequence[str]) -> str:
    """A message when some templates are wrong; '' when all are right."""
    wrong = [template for template in templates if template.count(PLACE) != 1]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        return f"template {wrong[0]!r}{more} must have exactly one place for the label, {PLACE}"
    return ""

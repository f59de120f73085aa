"""HF's `tokenizer_config.json`: the class of a tokenizer, and its special tokens.

Source: transformers 5.24, `_from_pretrained` of tokenization_utils_base.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, field_validator, model_validator

from vitsmith.weights.metadata import Metadata, read_metadata

CONFIG = "tokenizer_config.json"
_NAMES = tuple(f"{kind}_token" for kind in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))


class AddedToken(Metadata):
    """A piece of which one token is made wherever a text has it."""

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = False
    special: bool = True

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, token: Any) -> Any:
        """Tokens are text, or objects with it."""
        return {"content": token} if isinstance(token, str) else token


class HFTokenizer(Metadata):
    """The fields of `tokenizer_config.json`, and those of `special_tokens_map.json`, where older files have them."""

    model_config = ConfigDict(extra="allow")

    tokenizer_class: str = ""
    padding_side: str = ""
    truncation_side: str = ""
    do_lower_case: bool = True
    split_special_tokens: bool = False
    legacy: bool = True
    sp_model_kwargs: dict[str, Any] = {}
    model_input_names: tuple[str, ...] = ()
    bos_token: AddedToken | None = None
    eos_token: AddedToken | None = None
    unk_token: AddedToken | None = None
    pad_token: AddedToken | None = None
    additional_special_tokens: tuple[AddedToken, ...] = ()
    extra_special_tokens: tuple[AddedToken, ...] = ()
    added_tokens_decoder: dict[int, AddedToken] = {}
    added_tokens_json: tuple[AddedToken, ...] = ()
    """Those of `added_tokens.json`, which counts where no `added_tokens_decoder` is told."""

    @model_validator(mode="before")
    @classmethod
    def _with_names(cls, fields: Any) -> Any:
        """Extra tokens in an object are tokens with names, as a model's own class has."""
        extra = fields.get("extra_special_tokens") if isinstance(fields, dict) else None
        if not isinstance(extra, dict):
            return fields
        own = {name if name.endswith("_token") else f"{name}_token": one for name, one in extra.items()}
        return own | {name: value for name, value in fields.items() if name != "extra_special_tokens"}

    @field_validator("added_tokens_decoder", mode="before")
    @classmethod
    def _special_if_told(cls, tokens: Any) -> Any:
        """Here a token is special only where the file says so."""
        if not isinstance(tokens, dict):
            return tokens
        return {at: {"special": False} | one if isinstance(one, dict) else one for at, one in tokens.items()}

    @property
    def nameless(self) -> tuple[AddedToken, ...]:
        """The special tokens without a name; those of the older field count where the newer one is empty."""
        return self.extra_special_tokens or self.additional_special_tokens

    @property
    def named(self) -> dict[str, AddedToken]:
        """The special tokens by the names of their fields, also of those that only a model's own class has."""
        found = {name: getattr(self, name) for name in type(self).model_fields if name.endswith("_token")}
        more = {name: one for name, one in (self.model_extra or {}).items() if name.endswith("_token")}
        found |= {name: AddedToken.model_validate(one) for name, one in more.items() if _is_token(one)}
        return {name: one for name, one in found.items() if one is not None and one.content}

    def all_tokens(self, named: Mapping[str, AddedToken]) -> tuple[AddedToken, ...]:
        """Those that a file numbers, those that it or its class names, and those without a name; the first counts."""
        found: dict[str, AddedToken] = {}
        numbered = self.added_tokens_decoder.values() or self.added_tokens_json
        for token in (*numbered, *named.values(), *self.nameless):
            found.setdefault(token.content, token)
        return tuple(token for content, token in found.items() if content)


def read_tokenizer_config(folder: Path) -> HFTokenizer:
    """The tokenizer of a folder. Older files, of special tokens and of others that were added, count where no
    `added_tokens_decoder` is told.

    Raises WeightsError.
    """
    told = read_metadata(folder / CONFIG, HFTokenizer) or HFTokenizer()
    older = read_metadata(folder / "special_tokens_map.json", HFTokenizer)
    added = read_metadata(folder / "added_tokens.json", _AddedTokens)
    if "added_tokens_decoder" in told.model_fields_set:
        return told
    if older is not None:
        nameless = (*told.nameless, *older.extra_special_tokens) if told.nameless else older.nameless
        fields = told.model_dump(exclude_unset=True) | older.model_dump(exclude_unset=True)
        told = HFTokenizer.model_validate(fields).model_copy(update={"extra_special_tokens": nameless})
    if added is None:
        return told
    special = {told.named[name].content for name in _NAMES if name in told.named}
    special |= {token.content for token in told.nameless}
    tokens = [AddedToken(content=one, normalized=one not in special, special=one in special) for one in added.numbers]
    return told.model_copy(update={"added_tokens_json": tuple(tokens)})


class _AddedTokens(Metadata):
    """`added_tokens.json`: tokens and their numbers."""

    numbers: dict[str, int]

    @model_validator(mode="before")
    @classmethod
    def _all(cls, found: Any) -> Any:
        return {"numbers": found}


def _is_token(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("content"), str))

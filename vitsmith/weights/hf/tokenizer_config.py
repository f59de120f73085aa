"""HF's `tokenizer_config.json`: the class of a tokenizer, and its special tokens.

Source: transformers 5.24, `_from_pretrained` of tokenization_utils_base.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, field_validator, model_validator

from vitsmith.weights.metadata import Metadata, read_metadata


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

    @field_validator("additional_special_tokens", "extra_special_tokens", mode="before")
    @classmethod
    def _listed(cls, tokens: Any) -> Any:
        return list(tokens.values()) if isinstance(tokens, dict) else tokens

    @field_validator("added_tokens_decoder", mode="before")
    @classmethod
    def _special_if_told(cls, tokens: Any) -> Any:
        """Here a token is special only where the file says so."""
        if not isinstance(tokens, dict):
            return tokens
        return {at: {"special": False} | one if isinstance(one, dict) else one for at, one in tokens.items()}

    @property
    def named(self) -> dict[str, AddedToken]:
        """The special tokens by the names of their fields, also of those that only a model's own class has."""
        found = {name: getattr(self, name) for name in type(self).model_fields if name.endswith("_token")}
        more = {name: one for name, one in (self.model_extra or {}).items() if name.endswith("_token")}
        found |= {name: AddedToken.model_validate(one) for name, one in more.items() if _is_token(one)}
        return {name: one for name, one in found.items() if one is not None and one.content}

    def all_tokens(self, named: Mapping[str, AddedToken]) -> tuple[AddedToken, ...]:
        """Those that the file numbers, those that it or its class names, and those without a name; the first counts."""
        more = self.extra_special_tokens or self.additional_special_tokens
        found: dict[str, AddedToken] = {}
        for token in (*self.added_tokens_decoder.values(), *named.values(), *more):
            found.setdefault(token.content, token)
        return tuple(token for content, token in found.items() if content)


def read_tokenizer_config(folder: Path) -> HFTokenizer:
    """The tokenizer of a folder. `special_tokens_map.json` counts where no `added_tokens_decoder` is told.

    Raises WeightsError.
    """
    told = read_metadata(folder / "tokenizer_config.json", HFTokenizer) or HFTokenizer()
    older = read_metadata(folder / "special_tokens_map.json", HFTokenizer)
    if older is None or told.added_tokens_decoder:
        return told
    return HFTokenizer.model_validate(told.model_dump(exclude_unset=True) | older.model_dump(exclude_unset=True))


def _is_token(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("content"), str))

"""The text side of a model, as the files beside its weights have it: the same for every distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vitsmith.data.text.prompts import named_templates
from vitsmith.errors import InputError, MissingPackageError
from vitsmith.models.text_config import TextTransformerConfig
from vitsmith.text_spec import TextSpec


@dataclass(frozen=True)
class Texts:
    """The rules by which texts become tokens, and the vocabulary, as far as they are there and can be followed."""

    spec: TextSpec
    vocabulary: bytes | None
    """None where there is no vocabulary, or where texts are refused: images can be embedded without."""
    notes: tuple[str, ...] = ()
    refused: str = ""
    """Why texts are refused: the tokenizer's file, and what in it is not followed."""


def or_refused(tower: TextTransformerConfig, read: Callable[[], Texts]) -> Texts:
    """What `read` gives; texts that are refused where it raises InputError, with its message as the reason.

    So a tokenizer that does what ours do not refuses texts, and not the model. Raises MissingPackageError.
    """
    try:
        return read()
    except MissingPackageError:
        raise
    except InputError as error:
        spec = TextSpec(  # type: ignore[call-arg]  # what is left out follows from the kind
            tokenizer="tokenizers",
            length=tower.length,
            vocabulary=tower.vocabulary,
            padding="zero",
            pooling=tower.pooling,
            templates=named_templates("lit"),
        )
        return Texts(spec, None, refused=str(error))

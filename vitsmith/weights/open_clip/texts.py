"""How texts become tokens in open_clip, and the tokenizer's file, which may lie beside the weights.

Source: `get_tokenizer` in factory.py, SimpleTokenizer and HFTokenizer in tokenizer.py of open_clip 3.3.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vitsmith.data.text.byte_pairs import merges_in
from vitsmith.data.text.cleaning import clean
from vitsmith.data.text.prompts import named_templates
from vitsmith.data.text.tokenizer import UNUSED, count_pieces, why_unreadable
from vitsmith.data.text.tokenizer_json import Described, describe_tokenizer
from vitsmith.errors import InputError
from vitsmith.files.contents import read_words
from vitsmith.models.text_config import TextTransformerConfig
from vitsmith.text_spec import OPENAI_CLEANING, Cleaning, TextSpec
from vitsmith.weights.hf.texts import read_texts
from vitsmith.weights.open_clip.model_cfg import TextCfg
from vitsmith.weights.texts import Texts, or_refused

_CLEANING: dict[str, tuple[Cleaning, ...]] = {
    "lower": OPENAI_CLEANING,
    "whitespace": ("ftfy", "html", "spaces"),
    "canonicalize": ("ftfy", "html", "canonical"),
}
MERGES = ("bpe_simple_vocab_16e6.txt.gz", "merges.txt")
"""Files with CLIP's merges, which a tokenizer.json of CLIP holds too; open_clip itself has the first in its package."""
TOKENIZER = "tokenizer.json"


def open_clip_text(text: TextCfg, tower: TextTransformerConfig, folder: Path) -> Texts:
    """The rules by which open_clip reads texts for a tower, and the tokenizer in the folder of the weights.

    A tokenizer that does what ours do not refuses texts, and not the model. Raises InputError for damaged files.
    """
    told = text.tokenizer_kwargs
    if text.hf_tokenizer_name:
        found = read_texts(folder, tower, usual="")
        if found.refused:
            return found
        cleaning = _CLEANING[told.clean or "whitespace"]
        return or_refused(tower, lambda: _of_transformers(found, tower, cleaning, blank_end=told.strip_sep_token))
    spec = TextSpec(  # type: ignore[call-arg]  # what is left out follows from the kind
        tokenizer="bpe",
        length=tower.length,
        vocabulary=tower.vocabulary,
        cleaning=_CLEANING[told.clean or "lower"],
        pooling=tower.pooling,
        templates=named_templates("lit"),
    )
    for name in MERGES:
        if (folder / name).exists():
            return Texts(spec, read_words(folder / name, "a vocabulary", also=("gzip",)))
    place = folder / TOKENIZER
    if not place.exists():
        return Texts(spec, None)
    described = describe_tokenizer(read_words(place, "a tokenizer", also=("json",)), str(place))
    return or_refused(tower, lambda: Texts(spec, _merges(described)))


def _merges(described: Described) -> bytes:
    try:
        return merges_in(described)
    except InputError as error:
        raise InputError(
            f"{error}; open_clip reads these texts with {MERGES[0]}: put that beside the weights"
        ) from None


def _of_transformers(
    found: Texts, tower: TextTransformerConfig, cleaning: tuple[Cleaning, ...], *, blank_end: bool
) -> Texts:
    """What was found for a tokenizer of transformers, which gets texts that open_clip has cleaned.

    `blank_end`: the end token, BERT's [SEP], becomes token 0. The rules, and so the identity of the model, are the same
    whether or not the library is there that reads the vocabulary, and whether or not it can. Raises InputError.
    """
    # Without ftfy, which need not be there: it may change a word that is not ASCII, which is then refused as it stands.
    own = found.spec.model_copy(update={"cleaning": tuple(step for step in cleaning if step != "ftfy"), "reserved": ()})
    changes = {
        "cleaning": (*cleaning, *found.spec.cleaning),
        "end_token": 0 if blank_end else None,
        "reserved": tuple(word for word in found.spec.reserved if clean(word, own) == word),
    }
    notes = found.notes
    pieces = tower.vocabulary if found.vocabulary is None else count_pieces(found.spec, found.vocabulary)
    if pieces + UNUSED < tower.vocabulary:  # CLIPA has more embeddings than BERT has pieces
        changes["pieces"] = pieces
        notes += (f"the text tower knows {tower.vocabulary:,} tokens, and its tokenizer has {pieces:,}",)
    spec = found.spec.model_copy(update=changes)
    if found.vocabulary is not None and (refused := why_unreadable(found.spec, found.vocabulary)):
        return Texts(spec, None, notes, refused)
    return replace(found, spec=spec, notes=notes)

"""How the files of a distribution become a model of ours with its preprocessing and labels: what every reader finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vitsmith.models.config import ModelConfig
from vitsmith.records import NOT_KNOWN, Publication
from vitsmith.specs import Head, ImageSpec, Labels
from vitsmith.text_spec import TextSpec
from vitsmith.weights.containers.divided import Piece
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.layouts import Slot


@dataclass(frozen=True)
class Conversion:
    """What files of weights say, in our words. It is made from names, shapes and JSON: no array was read yet."""

    config: ModelConfig
    slots: Mapping[str, Slot]
    """Where each array of the file goes, by its name there."""
    classifier: tuple[str, ...]
    """Names that the arrays of a classifier have in such files: they are left out for `headless`."""
    zeros: tuple[Slot, ...] = ()
    """Parts of parameters that the files do not have and that are zero, as biases of keys in EVA-02 and DINOv3."""
    unused: frozenset[str] = frozenset()
    """Names of arrays that no answer depends on, as `mask_token` of masked pre-training."""
    pieces: Mapping[str, Piece] = field(default_factory=dict)
    """Arrays that `slots` names and that lie in others: blocks in one stack, query, key and value in one matrix."""
    beside: ArrayFile | None = None
    """Another open file with arrays of the model, as DINO's heads are published."""
    images: ImageSpec | None = None
    """How images become the model's input; None: as the original does it for that family."""
    missing: str = ""
    """The file that should lie beside the weights and say how images are preprocessed, where it does not: `images` is
    assumed then, and nothing may be answered by it unless the user says so."""
    images_refused: str = ""
    """Why images are refused: the file of preprocessing, and what in it is not followed. `images` is assumed then."""
    labels: Labels | None = None
    head: Head | None = None
    """What the outputs mean; None if the files do not say it: see `heads.assumed_head`."""
    text: TextSpec | None = None
    """How texts become tokens, for a model with a text tower; None: as the original does it for that tower."""
    vocabulary: bytes | None = None
    """The tokenizer's file of a model with a text tower."""
    texts_refused: str = ""
    """Why texts are refused: the tokenizer's file, and what in it is not followed. There is no `vocabulary` then."""
    notes: tuple[str, ...] = ()
    """What had to be assumed, for the user to check."""
    choices: tuple[str, ...] = ()
    """What the caller chose in the place of the file's own answer: see `choices.as_chosen`."""
    publication: Publication = NOT_KNOWN
    """Publisher and licence, as far as the files have them."""

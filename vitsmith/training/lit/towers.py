"""Makes the towers that a run starts from: the locked image tower, and a text tower with its embedding width."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from vitsmith.data.text.prompts import named_templates, read_templates
from vitsmith.data.text.tokenizer import Tokenizer, count_pieces
from vitsmith.errors import ConfigError, InputError
from vitsmith.models.build import build
from vitsmith.models.config import LiTConfig, ViTConfig
from vitsmith.models.lit import LiT
from vitsmith.models.text_config import BertConfig, TextConfig, TextTransformerConfig
from vitsmith.models.vit import VisionTransformer
from vitsmith.records import NOT_KNOWN, Provenance, Publication
from vitsmith.specs import ImageSpec
from vitsmith.text_spec import TextSpec
from vitsmith.training.lit.vocabulary import VocabularyKind, read_vocabulary
from vitsmith.training.recipes.lit import ContrastSpec, LitRecipe, TextTowerSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.identity import name_space
from vitsmith.weights.load import assumed, load
from vitsmith.weights.torch_model import hash_weights

_LENGTH = 16  # tokens of each caption, as the released models
_SEGMENTS = 2


@dataclass(eq=False)
class ImageTower:
    """The locked image tower."""

    model: VisionTransformer
    images: ImageSpec
    identity: str
    """The identity of the space that its embeddings lie in."""
    notes: tuple[str, ...] = ()
    """What had to be assumed about its checkpoint."""
    origin: Provenance | None = None
    """Where its checkpoint came from."""


@dataclass(eq=False)
class Towers:
    """A LiT model ready for its text side to be trained, and how its texts are read."""

    lit: LiT
    images: ImageSpec
    text: TextSpec
    vocabulary: bytes
    identity: str
    """The image tower's identity."""
    told: str = ""
    """How given weights were used; empty for a fresh text tower."""
    notes: tuple[str, ...] = ()
    """What had to be assumed about the image tower's checkpoint."""
    origin: Provenance | None = None
    """Where the image tower's checkpoint came from."""
    text_origin: Publication = NOT_KNOWN
    """Who published the text tower that training goes on with."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the finished model."""
        return Tokenizer(self.text, self.vocabulary)


class TextSide(nn.Module):
    """The part of a LiT model that is trained: text tower, temperature and bias, under the same parameter names."""

    def __init__(self, lit: LiT) -> None:
        super().__init__()
        self.text = lit.text
        self.log_temperature = lit.log_temperature
        self.logit_bias = lit.logit_bias


def open_image_tower(name: str, image_size: tuple[int, int] | None = None, **chosen: Any) -> ImageTower:
    """The image tower in a bundle, a checkpoint or a published model, in eval mode, without a classifier.

    `chosen` are the arguments of `load` that say how its arrays are read.

    Raises what `load` raises, and ConfigError for models other than vision transformers with one feature per image.
    """
    bundle = load(name, image_size=image_size, headless=True, **chosen)
    bundle.check_preprocessing()
    model, config = bundle.model, bundle.config
    if isinstance(model, LiT) and isinstance(config, LiTConfig):
        model, config = model.image, config.image
    if not isinstance(model, VisionTransformer) or not isinstance(config, ViTConfig):
        raise ConfigError(
            f"{name} is a {config.family} model: the image tower of a LiT model is a ViT or a hybrid; give one of those"
        )
    if config.pooling.endswith("unpooled"):
        raise ConfigError(f"{name} gives a feature for each patch, not one for an image: give a tower that pools")
    return ImageTower(
        model.eval(),
        bundle.preprocessing,
        name_space(hash_weights(model), config, bundle.preprocessing, None),
        assumed(bundle),
        bundle.provenance,
    )


def start(recipe: LitRecipe, found: tuple[VocabularyKind, bytes] | None) -> Towers:
    """The recipe's towers; the image tower's parameters need no gradient.

    `found` is the vocabulary of a fresh text tower, see `find_vocabulary`. Fresh weights depend on the recipe's
    seed. Raises what `open_image_tower` raises, InputError for a vocabulary that is missing or does not fit,
    ConfigError for an impossible text tower.
    """
    tower = open_image_tower(recipe.image.init, recipe.image.init_size, **recipe.image.read_as)
    width = tower.model.config.classes or tower.model.config.feature_width
    bias = recipe.loss.kind == "sigmoid"
    if found is None:
        return _continued(recipe, tower, width, bias)
    text, vocabulary, config = _fresh_text(recipe.text, found, width)
    lit = _build(LiTConfig(image=tower.model.config, text=config, bias=bias), recipe.run.seed)
    lit.image.load_state_dict(tower.model.state_dict())
    _set_numbers(lit, recipe.loss)
    return Towers(lit, tower.images, text, vocabulary, tower.identity, notes=tower.notes, origin=tower.origin)


def rebuild(recipe: LitRecipe, config: LiTConfig, text: TextSpec, vocabulary: bytes, identity: str) -> Towers:
    """The towers of a run that is resumed; the text side is not loaded yet.

    Raises ConfigError when the image tower is no longer the one that the run began with.
    """
    tower = open_image_tower(recipe.image.init, recipe.image.init_size, **recipe.image.read_as)
    if tower.identity != identity:
        raise ConfigError(
            f"{recipe.image.init} is not the image tower that the run began with: restore it, or start a new run"
        )
    lit = _build(config, recipe.run.seed)
    lit.image.load_state_dict(tower.model.state_dict())
    return Towers(lit, tower.images, text, vocabulary, identity, origin=tower.origin)


def _build(config: LiTConfig, seed: int) -> LiT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lit = build(config)
    assert isinstance(lit, LiT)
    lit.requires_grad_(False)
    lit.text.requires_grad_()
    lit.log_temperature.requires_grad_()
    if lit.logit_bias is not None:
        lit.logit_bias.requires_grad_()
    return lit.eval()


@torch.no_grad()
def _set_numbers(lit: LiT, loss: ContrastSpec) -> None:
    lit.log_temperature.fill_(math.log(loss.temperature))
    if lit.logit_bias is not None:
        lit.logit_bias.fill_(loss.bias)


def _fresh_text(
    spec: TextTowerSpec, found: tuple[VocabularyKind, bytes], width: int
) -> tuple[TextSpec, bytes, TextConfig]:
    kind, vocabulary = found
    bert = spec.kind != "transformer"
    if bert and kind == "sentencepiece":
        raise ConfigError(
            f"{spec.vocabulary} has no start token, which BERT pools: set text.kind=transformer, or give a WordPiece "
            ".txt"
        )
    length = spec.length or _LENGTH
    padding: Literal["zero", "end"] = "zero" if bert else "end"
    fields = {"tokenizer": kind, "length": length, "padding": padding, "templates": _templates(spec, None)}
    if spec.lower_case is not None:
        fields["lower_case"] = spec.lower_case
    count = count_pieces(TextSpec.model_validate(fields | {"vocabulary": 1}), vocabulary)
    own, depth, heads, mlp_width = spec.shape
    shape = {"width": own, "depth": depth, "heads": heads, "mlp_width": mlp_width}
    config: TextConfig
    if bert:
        config = BertConfig(
            **shape, vocabulary=count, positions=length, segments=_SEGMENTS, length=length, classes=width
        )
    else:
        config = TextTransformerConfig(**shape, vocabulary=count, length=length, classes=width)
    return TextSpec.model_validate(fields | {"vocabulary": count}), vocabulary, config


def _continued(recipe: LitRecipe, tower: ImageTower, width: int, bias: bool) -> Towers:
    """The text tower of a LiT model, with its temperature; its projection only where the widths are the same."""
    chosen: dict[str, Any] = {**recipe.text.read_as}
    bundle = load(recipe.text.init, **chosen)
    source = bundle.model
    if not isinstance(source, LiT) or not isinstance(bundle.config, LiTConfig) or bundle.text is None:
        raise ConfigError(f"{recipe.text.init} has no text tower: give a LiT model in text.init, or leave it out")
    vocabulary = _vocabulary_of(bundle, recipe.text)
    text = bundle.text.model_copy(update={"templates": _templates(recipe.text, bundle.text.templates)})
    before = bundle.config.embedding_width
    same = before == width
    config = bundle.config.text if same else bundle.config.text.model_copy(update={"classes": width})
    lit = _build(LiTConfig(image=tower.model.config, text=config, bias=bias), recipe.run.seed)
    lit.image.load_state_dict(tower.model.state_dict())
    arrays = source.text.state_dict()
    if not same:
        arrays = {
            **lit.text.state_dict(),
            **{name: each for name, each in arrays.items() if not name.startswith("head.")},
        }
    lit.text.load_state_dict(arrays)
    _set_numbers(lit, recipe.loss)
    told = f"text tower from {recipe.text.init}"
    if not same:
        told += f"; its projection is fresh, because it had a width of {before} and this image tower has {width}"
    elif name_space(hash_weights(source.image), source.image.config, bundle.preprocessing, None) == tower.identity:
        told += ", trained for this same image tower; its temperature is kept"
        with torch.no_grad():
            lit.log_temperature.copy_(source.log_temperature)
            if lit.logit_bias is not None and source.logit_bias is not None:
                lit.logit_bias.copy_(source.logit_bias)
    published = bundle.provenance.text_publication
    return Towers(lit, tower.images, text, vocabulary, tower.identity, told, tower.notes, tower.origin, published)


def _vocabulary_of(bundle: Bundle, spec: TextTowerSpec) -> bytes:
    assert bundle.text is not None
    if bundle.provenance.texts_refused:
        bundle.check_texts()
    if spec.vocabulary:
        given = read_vocabulary(spec.vocabulary)
        try:
            Tokenizer(bundle.text, given)
        except InputError as error:
            raise InputError(f"text.vocabulary {spec.vocabulary} does not fit {spec.init}: {error}") from None
        return given
    if bundle.vocabulary is None:
        raise InputError(f"{spec.init} has no vocabulary: give the file published with it in text.vocabulary")
    return bundle.vocabulary


def _templates(spec: TextTowerSpec, own: tuple[str, ...] | None) -> tuple[str, ...]:
    if spec.templates:
        return read_templates(spec.templates)
    return own if own else named_templates("lit")

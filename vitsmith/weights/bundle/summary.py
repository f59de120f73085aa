"""The parts of a bundle in words, a line for each, as `inspect` and the model card show them."""

from __future__ import annotations

from collections.abc import Callable

from vitsmith.models.config import ImageModelConfig, LiTConfig, ModelConfig, ViTConfig, show_size
from vitsmith.models.presets import kind_of_towers, name_of
from vitsmith.records import NOT_KNOWN, Provenance, Publication
from vitsmith.specs import Calibration, Head, ImageSpec, Similarity
from vitsmith.text_spec import TextSpec
from vitsmith.weights.bundle.agreements import LICENSE, agreement_of, describe_duty


def describe_origin(provenance: Provenance) -> str:
    """'hf:timm/vit_tiny@4b0f1c2', the repository and commit it came from; '' if they are not known.

    For a LiT from two places 'hf:timm/vit_tiny (image tower); hf:google/lit (text tower)'.
    """
    return _of_towers(provenance, lambda one: one.origin + (f"@{one.revision}" if one.revision else ""))


def describe_license(provenance: Provenance) -> str:
    """'apache-2.0'; '' if it is not known. For a LiT from two places 'apache-2.0 (image tower); mit (text tower)'.

    Of a licence whose words must be passed on it says where they are, also where it is only that of a teacher.
    """

    def described(one: Publication) -> str:
        there = bool(one.license_text or provenance.license_text)  # those of both towers are in one file
        return one.license + describe_duty(one.license, there=there)

    told = _of_towers(provenance, described)
    if not provenance.license_text or agreement_of(provenance.license) or agreement_of(_text_terms(provenance)):
        return told
    taught = f"that of a model it learnt from is to be passed on with it ({LICENSE})"
    return f"{told}; {taught}" if told else taught


def _text_terms(provenance: Provenance) -> str:
    return provenance.text.license if provenance.text is not None else ""


def _of_towers(provenance: Provenance, shown: Callable[[Publication], str]) -> str:
    image = shown(Publication(**provenance.publication))
    if provenance.text is None:
        return image
    towers = {"image tower": image}
    if provenance.text != NOT_KNOWN:  # else nobody published it: it was trained here
        towers["text tower"] = shown(provenance.text)
    told = [f"{value or 'not known'} ({tower})" for tower, value in towers.items()]
    return "; ".join(told) if any(towers.values()) else ""


def describe_head(head: Head, classes: int) -> str:
    """What the outputs mean: '5 classes', '5 classes, each scored by itself (sigmoid)', '1 value (regression)'."""
    if not classes:
        return "none: gives features or embeddings"
    more = {"sigmoid": ", each scored by itself (sigmoid)", "regression": " (regression)"}
    return describe_outputs(head, classes) + more.get(head, "")


def describe_outputs(head: Head, classes: int) -> str:
    """'5 classes', '1 value', 'no classes'."""
    if not classes:
        return "no classes"
    if head == "regression":
        return f"{classes:,} value{'s' * (classes != 1)}"
    return f"{classes:,} class{'es' * (classes != 1)}"


def title(config: ModelConfig, provenance: Provenance) -> str:
    """'ViT-B_16 at 224x224', or a description by numbers for an architecture without a name."""
    name = name_of(config) or (_towers(config, provenance) if isinstance(config, LiTConfig) else _tower(config))
    return f"{name} at {show_size(config.image_size)}"


def _tower(config: ImageModelConfig) -> str:
    """'ViT of width 48, depth 3, patch 16x16'."""
    hybrid = isinstance(config, ViTConfig) and config.resnet
    kind = "hybrid" if hybrid else {"vit": "ViT", "mixer": "Mixer"}[config.family]
    return f"{kind} of width {config.width}, depth {config.depth}, patch {show_size(config.patch)}"


def _towers(config: LiTConfig, provenance: Provenance) -> str:
    """'CLIP of image width 48, depth 3, patch 16x16 and text width 32, depth 2'.

    What `lit` trained is a LiT, whatever its image tower; towers that no known family has are 'two towers'.
    """
    image, text = config.image, config.text
    kind = "LiT" if provenance.kind == "trained" else kind_of_towers(config) or "two towers"
    return (
        f"{kind} of image width {image.width}, depth {image.depth}, patch {show_size(image.patch)} "
        f"and text width {text.width}, depth {text.depth}"
    )


_TOKENIZERS = {
    "wordpiece": "WordPiece",
    "sentencepiece": "SentencePiece",
    "bpe": "byte-level BPE",
    "tokenizers": "tokenizer",
}


def describe_text(text: TextSpec, *, vocabulary: bool, refused: str = "") -> str:
    """One line that says how a text becomes a vector.

    `vocabulary` says whether the vocabulary is there, `refused` why texts are refused.
    """
    if refused and not vocabulary:
        return f"refused: {refused}"
    case = "lower case" if text.lower_case else "case kept" if text.tokenizer != "tokenizers" else "its own rules"
    rules = [*(text.cleaning or [case]), *["no punctuation"] * text.canonicalize]
    pads = "zeros" if text.padding == "zero" else "the end token"
    pads = pads if text.padding_token is None else f"token {text.padding_token}"
    there = "" if vocabulary else " (the vocabulary is missing)"
    return (
        f"{_TOKENIZERS[text.tokenizer]} of {text.vocabulary:,} pieces{there}, {', '.join(rules)}, "
        f"{text.length} tokens, padded with {pads}, the {text.pooling} token pooled"
    )


def describe_similarity(similarity: Similarity) -> str:
    """One line that says how a cosine becomes a score."""
    if similarity.bias is None:
        return f"softmax of {similarity.temperature:.4g} x cosine over the labels"
    return f"sigmoid of {similarity.temperature:.4g} x cosine {similarity.bias:+.4g}, for each label"


def describe_calibration(calibration: Calibration) -> str:
    """'logits divided by 1.3 (found on pets)'."""
    told = [f"logits divided by {calibration.temperature:.4g}"]
    told += [f"{len(calibration.thresholds)} thresholds"] if calibration.thresholds else []
    return ", ".join(told) + (f" (found on {calibration.data})" if calibration.data else "")


def describe_input(spec: ImageSpec, provenance: Provenance) -> str:
    """`describe_images`; where it is not known, that, and what is usual for such models."""
    told = describe_images(spec)
    why = provenance.images_refused or (provenance.missing and f"there is no {provenance.missing}")
    return f"not known ({why}), so images are refused; usual for such models is {told}" if why else told


def describe_images(spec: ImageSpec) -> str:
    """One line that says how pixels become a tensor."""
    how = "squashed" if spec.resize == "squash" else f"{spec.resize} side resized"
    how += f", centre crop of {spec.crop:g}" if spec.resize == "shorter" or spec.crop != 1 else ""
    how += f", filled with {spec.fill}" if spec.resize == "longer" else ""
    kind = f"{spec.interpolation}{', antialiased' if spec.antialias else ''}"
    kind += " in float" if spec.antialias and spec.quantize == "none" else ""
    return f"RGB, {show_size(spec.size)}, {how} ({kind}), mean {spec.mean}, std {spec.std}"

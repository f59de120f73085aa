"""The model card: a bundle's README, written from bundle.json."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vitsmith.escapes import markdown
from vitsmith.models.config import LiTConfig, ModelConfig, ViTConfig, show_size
from vitsmith.models.presets import name_of
from vitsmith.records import NOT_KNOWN, Provenance, Publication
from vitsmith.specs import Calibration, Head, ImageSpec

if TYPE_CHECKING:
    from vitsmith.weights.bundle.bundle import Bundle


def model_card(bundle: Bundle) -> str:
    """Returns the model card as Markdown."""
    provenance = bundle.provenance
    lines = [f"# {title(bundle.config)}", "", "Written by vitsmith from `bundle.json`.", ""]
    lines += ["## Use", "", "```python", "import vitsmith as vs", ""]
    lines += [*_usage(bundle), "```"]
    lines += [
        "",
        "## Model",
        "",
        f"- Program: {describe_program(bundle)}",
        f"- Input: {describe_images(bundle.preprocessing)}",
    ]
    if bundle.text is not None:
        lines.append(f"- Text: {describe_text(bundle)}")
        lines.append(f"- Scores: {describe_similarity(bundle)}")
        if bundle.text.templates:
            lines.append(f"- Prompts for labels: {', '.join(markdown(repr(one)) for one in bundle.text.templates)}")
    if bundle.head in ("sigmoid", "regression"):
        lines.append(f"- Outputs: {describe_head(bundle)}")
    if bundle.calibration is not None:
        lines.append(f"- Calibration: {markdown(describe_calibration(bundle.calibration))}")
    if len(bundle.programs) > 1:
        lines.append(f"- Programs: {'; '.join(one.title for one in bundle.programs)}")
    if bundle.labels:
        shown = ", ".join(markdown(name) for name in bundle.labels.shown[:10])
        what = "Values" if bundle.head == "regression" else "Classes"
        lines.append(f"- {what}: {len(bundle.labels)} ({shown}{', ...' if len(bundle.labels) > 10 else ''})")
    elif bundle.classes and bundle.head != "regression":
        lines.append(f"- Classes: {bundle.classes}, without names")
    lines += ["", "## Origin", "", f"- Source: {markdown(provenance.source)}"]
    facts = {"Kind": provenance.kind, "Made from": provenance.parent, "Date": provenance.date}
    facts |= {"Published as": describe_origin(provenance), "Licence": describe_license(provenance)}
    lines += [f"- {what}: {markdown(value)}" for what, value in facts.items() if value]
    lines += [f"- Note: {markdown(note)}" for note in provenance.notes]
    lines += ["", "## Measurements", ""]
    if not bundle.measurements:
        lines.append("None yet: `vitsmith evaluate --record` writes them.")
    several = len(bundle.programs) > 1
    for one in bundle.measurements:
        interval = f" [{one.low:.4g}, {one.high:.4g}]" if one.low is not None and one.high is not None else ""
        parts = (f"of {one.program}" if several else "", one.data, one.machine, one.date)
        context = ", ".join(markdown(part) for part in parts if part)
        value = f"{one.value:.4g} {markdown(one.unit)}" if one.unit else f"{one.value:.4g}"
        lines.append(f"- {markdown(one.title)}: {value}{interval}{context and f' ({context})'}")
    return "\n".join(lines) + "\n"


def describe_origin(provenance: Provenance) -> str:
    """'hf:timm/vit_tiny@4b0f1c2', the repository and commit it came from; '' if they are not known.

    For a LiT from two places 'hf:timm/vit_tiny (image tower); hf:google/lit (text tower)'.
    """
    return _of_towers(provenance, lambda one: one.origin + (f"@{one.revision}" if one.revision else ""))


def describe_license(provenance: Provenance) -> str:
    """'apache-2.0'; '' if it is not known. For a LiT from two places 'apache-2.0 (image tower); mit (text tower)'."""
    return _of_towers(provenance, lambda one: one.license)


def _of_towers(provenance: Provenance, shown: Callable[[Publication], str]) -> str:
    image = shown(Publication(**provenance.publication))
    if provenance.text is None:
        return image
    towers = {"image tower": image}
    if provenance.text != NOT_KNOWN:  # else nobody published it: it was trained here
        towers["text tower"] = shown(provenance.text)
    told = [f"{value or 'not known'} ({tower})" for tower, value in towers.items()]
    return "; ".join(told) if any(towers.values()) else ""


def describe_head(bundle: Bundle) -> str:
    """What the outputs mean: '5 classes', '5 classes, each scored by itself (sigmoid)', '1 value (regression)'."""
    if not bundle.classes:
        return "none: gives features or embeddings"
    more = {"sigmoid": ", each scored by itself (sigmoid)", "regression": " (regression)"}
    return describe_outputs(bundle.head, bundle.classes) + more.get(bundle.head, "")


def describe_outputs(head: Head, classes: int) -> str:
    """'5 classes', '1 value', 'no classes'."""
    if not classes:
        return "no classes"
    if head == "regression":
        return f"{classes:,} value{'s' * (classes != 1)}"
    return f"{classes:,} class{'es' * (classes != 1)}"


def describe_program(bundle: Bundle) -> str:
    """'torch', or 'openvino, int8, rest bf16, batches of 1, uint8 pixels in'."""
    return bundle.stored.title


def _usage(bundle: Bundle) -> list[str]:
    """What to write in Python: a Predictor for classifiers, the model itself for the others."""
    if isinstance(bundle.config, LiTConfig):
        labels = '["a cat", "a dog"]'
        return [
            f'classifier = vs.ZeroShotClassifier("path/to/this/folder", {labels})',
            'print(classifier(["image.jpg"])[0].top(2))',
        ]
    if not bundle.classes or getattr(bundle.config, "pooling", "") in ("unpooled", "token_unpooled"):
        use = "outputs = model(images)"
    else:
        return ['predictor = vs.Predictor("path/to/this/folder")', 'print(predictor(["image.jpg"])[0].top(5))']
    return ['model = vs.load("path/to/this/folder").model', use]


def title(config: ModelConfig) -> str:
    """'ViT-B_16 at 224x224', or a description by numbers for an architecture without a name."""
    name = name_of(config)
    if name is None and not isinstance(config, LiTConfig):
        hybrid = isinstance(config, ViTConfig) and config.resnet
        kind = "hybrid" if hybrid else {"vit": "ViT", "mixer": "Mixer"}.get(config.family, config.family)
        name = f"{kind} of width {config.width}, depth {config.depth}, patch {show_size(config.patch)}"
    return f"{name or 'LiT'} at {show_size(config.image_size)}"


def describe_text(bundle: Bundle) -> str:
    """One line that says how a text becomes a vector."""
    text = bundle.text
    assert text is not None
    kind = "WordPiece" if text.tokenizer == "wordpiece" else "SentencePiece"
    rules = ["lower case" if text.lower_case else "case kept"] + ["no punctuation"] * text.canonicalize
    pads = "zeros" if text.padding == "zero" else "the end token"
    there = "" if bundle.vocabulary is not None else " (the vocabulary is missing)"
    return (
        f"{kind} of {text.vocabulary:,} pieces{there}, {', '.join(rules)}, {text.length} tokens, padded with {pads}, "
        f"the {text.pooling} token pooled"
    )


def describe_similarity(bundle: Bundle) -> str:
    """One line that says how a cosine becomes a score."""
    similarity = bundle.similarity
    if similarity.bias is None:
        return f"softmax of {similarity.temperature:.4g} x cosine over the labels"
    return f"sigmoid of {similarity.temperature:.4g} x cosine {similarity.bias:+.4g}, for each label"


def describe_calibration(calibration: Calibration) -> str:
    """'logits divided by 1.3 (found on pets)'."""
    told = [f"logits divided by {calibration.temperature:.4g}"]
    told += [f"{len(calibration.thresholds)} thresholds"] if calibration.thresholds else []
    return ", ".join(told) + (f" (found on {calibration.data})" if calibration.data else "")


def describe_images(spec: ImageSpec) -> str:
    """One line that says how pixels become a tensor."""
    how = "squashed" if spec.resize == "squash" else f"shorter side resized, centre crop of {spec.crop:g}"
    kind = f"{spec.interpolation}{', antialiased' if spec.antialias else ''}"
    return f"RGB, {show_size(spec.size)}, {how} ({kind}), mean {spec.mean}, std {spec.std}"

"""The model card: a bundle's README, written from bundle.json."""

from __future__ import annotations

from vitsmith.escapes import markdown
from vitsmith.models.config import LiTConfig
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.summary import (
    describe_calibration,
    describe_head,
    describe_input,
    describe_license,
    describe_origin,
    describe_similarity,
    describe_text,
    title,
)


def model_card(bundle: Bundle) -> str:
    """Returns the model card as Markdown."""
    lines = [f"# {title(bundle.config, bundle.provenance)}", "", "Written by vitsmith from `bundle.json`.", ""]
    lines += ["## Use", "", "```python", "import vitsmith as vs", "", *_usage(bundle), "```", ""]
    lines += ["## Model", "", *_model(bundle), *_classes(bundle), ""]
    lines += ["## Origin", "", *_origin(bundle), ""]
    lines += ["## Measurements", "", *_measurements(bundle)]
    return "\n".join(lines) + "\n"


def _usage(bundle: Bundle) -> list[str]:
    """What to write in Python: a Predictor for classifiers, the model itself for the others."""
    if isinstance(bundle.config, LiTConfig) and bundle.vocabulary is None:
        return ['encoder = vs.Encoder("path/to/this/folder")', 'print(encoder.images(["image.jpg"]).shape)']
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


def _model(bundle: Bundle) -> list[str]:
    """What it takes and gives."""
    lines = [f"- Program: {bundle.stored.title}", f"- Input: {describe_input(bundle.preprocessing, bundle.provenance)}"]
    if bundle.text is not None:
        refused = markdown(bundle.provenance.texts_refused)
        lines.append(f"- Text: {describe_text(bundle.text, vocabulary=bundle.vocabulary is not None, refused=refused)}")
        if bundle.scripts:
            lines.append(f"- Scripts of its vocabulary: {bundle.scripts}")
        lines.append(f"- Scores: {describe_similarity(bundle.similarity)}")
        if bundle.text.templates:
            lines.append(f"- Prompts for labels: {', '.join(markdown(repr(one)) for one in bundle.text.templates)}")
    if bundle.head in ("sigmoid", "regression"):
        lines.append(f"- Outputs: {describe_head(bundle.head, bundle.classes)}")
    if bundle.calibration is not None:
        lines.append(f"- Calibration: {markdown(describe_calibration(bundle.calibration))}")
    if len(bundle.programs) > 1:
        lines.append(f"- Programs: {'; '.join(one.title for one in bundle.programs)}")
    return lines


def _classes(bundle: Bundle) -> list[str]:
    """The first names of its classes or values, in one line; none for a model of features."""
    if bundle.labels:
        shown = ", ".join(markdown(name) for name in bundle.labels.shown[:10])
        what = "Values" if bundle.head == "regression" else "Classes"
        return [f"- {what}: {len(bundle.labels)} ({shown}{', ...' if len(bundle.labels) > 10 else ''})"]
    if bundle.classes and bundle.head != "regression":
        return [f"- Classes: {bundle.classes}, without names"]
    return []


def _origin(bundle: Bundle) -> list[str]:
    """Where it comes from, under which licence, and what was noted on the way."""
    provenance = bundle.provenance
    facts = {"Kind": provenance.kind, "Made from": provenance.parent, "Date": provenance.date}
    facts |= {"Published as": describe_origin(provenance), "Licence": describe_license(provenance)}
    lines = [f"- Source: {markdown(provenance.source)}"]
    lines += [f"- {what}: {markdown(value)}" for what, value in facts.items() if value]
    return lines + [f"- Note: {markdown(note)}" for note in provenance.notes]


def _measurements(bundle: Bundle) -> list[str]:
    """What was measured, on which data, where and when."""
    if not bundle.measurements:
        return ["None yet: `vitsmith evaluate --record` writes them."]
    lines, several = [], len(bundle.programs) > 1
    for one in bundle.measurements:
        interval = f" [{one.low:.4g}, {one.high:.4g}]" if one.low is not None and one.high is not None else ""
        parts = (f"of {one.program}" if several else "", one.data, one.machine, one.date)
        context = ", ".join(markdown(part) for part in parts if part)
        value = f"{one.value:.4g} {markdown(one.unit)}" if one.unit else f"{one.value:.4g}"
        lines.append(f"- {markdown(one.title)}: {value}{interval}{context and f' ({context})'}")
    return lines

"""The gate of an export: the images that both programs are compared on, what is required, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vitsmith.arrays import Array
from vitsmith.data.sets.samples import Samples
from vitsmith.engines.protocol import Engine
from vitsmith.engines.sample_inputs import gate_images
from vitsmith.errors import InputError
from vitsmith.evaluation.evaluation import compare_accuracy, evaluate, match_classes
from vitsmith.exporters.exporter import Exporter, LayerOutputs
from vitsmith.exporters.parts import Part
from vitsmith.gate import SAME_ANSWERS, Measured, Requirements, Verdict, compare, doubts, failures, refusing, require
from vitsmith.models.config import LiTConfig, merges
from vitsmith.predict import Predictor
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.golden import Golden
from vitsmith.weights.bundle.paths import program_file

REQUIRED: dict[str, Requirements] = {
    "fp32": SAME_ANSWERS,
    "fp16": Requirements(relative=0.02, agreement=1.0, cosine=0.9995),
    "bf16": Requirements(relative=0.1, agreement=1.0, cosine=0.995),
    "int8": Requirements(cosine=0.5, tie=0.0),
}
"""Requirements of the gate by precision. Rounded arithmetic may move single outputs, but must keep their direction. The
answers of int8 on real images are what counts: see `vitsmith.compress.quantize.run`."""


REQUIRED_MERGING = {
    "fp32": Requirements(relative=0.01, agreement=1.0, cosine=0.999),
    "fp16": Requirements(relative=0.5, agreement=0.9, cosine=0.97),
    "bf16": Requirements(relative=0.5, agreement=0.9, cosine=0.97),
}
"""What models that merge tokens must meet in place of that, with every exporter. If two pairs of tokens are almost
equally similar, another order of summation merges the other pair, and an output moves a little: between torch and
onnxruntime by 1.4e-3 for 2 of 128 images (fresh Ti/16), between float32 and bfloat16 by 0.14 for 1 image in 100 (a
trained tower; tests/compress/merge_tokens/ has both)."""

GOLDEN_IMAGES = 2

ACCURACY_DROP = 0.5
"""Percentage points of top-1 that may be lost on labelled images."""


@dataclass(frozen=True, eq=False)
class Gate:
    """The images that a new program is compared on, and what is required of it."""

    images: Sequence[Array] | None = None
    """uint8 RGB images, at best the user's own; default the bundle's golden images and sample photographs."""
    samples: Samples | None = None
    """Labelled images: on them both models are scored, and accuracy is compared."""
    requirements: Requirements | None = None
    """Requirements in place of the usual ones: the bounds of the precision, and ACCURACY_DROP."""

    def check(self, bundle: Bundle, required: Requirements) -> None:
        """Raises InputError, before any work, for bounds that an export does not measure and for images without use."""
        if self.requirements is not None:
            self.requirements.check_measured("export", "relative", "agreement", "cosine", "accuracy_drop")
        required.check_labels(self.samples is not None)
        if self.samples is None:
            return
        required.check_tells(len(self.samples))
        if _gives_embeddings(bundle):
            raise InputError(f"{bundle.where} has no classes, so labelled images cannot evaluate it: give `images`")
        match_classes(bundle, self.samples)

    def images_for(self, bundle: Bundle) -> Sequence[Array]:
        """The images to compare outputs on."""
        return self.images if self.images is not None and len(self.images) else gate_images(bundle)


def required_of(
    bundle: Bundle, exporter: Exporter, spec: ProgramSpec, gate: Gate, *, text: bool = False
) -> Requirements:
    """What is required of a program's image part, or of its text part."""
    usual = replace(REQUIRED[spec.precision], accuracy_drop=ACCURACY_DROP)
    own = exporter.requirements.get(spec.precision)
    merging = REQUIRED_MERGING.get(spec.precision) if merges(bundle.config) and not text else None
    return usual.with_changes(own).with_changes(merging).with_changes(gate.requirements)


def compare_parts(
    bundle: Bundle,
    candidate: Bundle,
    engine: Engine,
    exporter: Exporter,
    gate: Gate,
    parts: Sequence[Part],
    tensors: Array,
) -> Verdict:
    """The verdict on all parts of a candidate, which `engine` runs: the worst of each number. Raises GateError.

    `tensors` are the preprocessed images of the gate, (n, 3, height, width).
    """
    verdicts = {}
    spec = candidate.program_spec
    for part in parts:
        text = part.name == "text"
        inputs = part.inputs if text else tensors
        run = engine.run_texts if text else engine.run
        reference = bundle.run_texts_torch if text else bundle.run_torch

        def layers(batch: Array, part: Part = part) -> LayerOutputs:
            assert exporter.layers is not None
            path = candidate.place / program_file(part.name, candidate.program)
            inputs = batch if part.name == "text" else part.inputs[: len(batch)]
            return exporter.layers(part, path, inputs, spec)

        required = required_of(bundle, exporter, spec, gate, text=text)
        of = ("texts" if text else "images") if _gives_embeddings(bundle) else ""
        verdict = compare(reference, run, inputs, required, layers=layers if exporter.layers else None, embeddings=of)
        verdict.require(f"{exported(candidate, bundle)} ({part.name})")
        verdicts[part.name] = verdict
    return _worst(verdicts["model"], verdicts.get("text"))


def _worst(images: Verdict, texts: Verdict | None) -> Verdict:
    if texts is None:
        return images
    return replace(
        images,
        relative=max(images.relative, texts.relative),
        agreement=min(images.agreement, texts.agreement),
        cosine=min(images.cosine, texts.cosine),
        num_texts=texts.num_images,
    )


def with_accuracy(
    verdict: Verdict, bundle: Bundle, candidate: Bundle, engine: Engine, samples: Samples, required: Requirements
) -> Verdict:
    """The verdict with the accuracy of both on labelled images. Raises GateError if it drops by more than allowed."""
    what = exported(candidate, bundle)
    before = evaluate(Predictor(bundle, "torch"), samples)
    with refusing(what):
        after = evaluate(Predictor(candidate, engine), samples)
    measured = Measured(accuracy=compare_accuracy(before, after))
    require(what, failures(measured, required))
    return replace(verdict, accuracy=measured.accuracy, doubts=doubts(measured, required))


def golden_of(bundle: Bundle, candidate: Bundle, engine: Engine) -> Golden:
    """Golden answers: the float model's in fp32, else the program's own, which it must give on other machines too."""
    golden = bundle.golden
    assert golden is not None
    if candidate.program_spec.precision == "fp32":
        return golden
    with refusing(exported(candidate, bundle)):
        golden = replace(golden, outputs=engine.run(golden.tensors))
        if golden.texts is not None:
            golden = replace(golden, texts=replace(golden.texts, embeddings=engine.run_texts(golden.texts.tokens)))
    return golden


def exported(candidate: Bundle, bundle: Bundle) -> str:
    """What messages call a candidate."""
    return f"the {candidate.program} export of {bundle.where}"


def _gives_embeddings(bundle: Bundle) -> bool:
    return isinstance(bundle.config, LiTConfig) or not bundle.classes

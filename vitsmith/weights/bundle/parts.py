"""What a bundle is made of, and what must be true of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from vitsmith.arguments import instance, known_name
from vitsmith.errors import BundleError, InputError
from vitsmith.models.config import LiTConfig, MixerConfig, ModelConfig, ViTConfig
from vitsmith.models.text_config import BertConfig
from vitsmith.records import Measurement, Provenance
from vitsmith.specs import Calibration, Head, ImageSpec, Labels, Program, ProgramSpec, StoredProgram
from vitsmith.text_spec import TextSpec
from vitsmith.weights.bundle.golden import Golden
from vitsmith.weights.bundle.lit_text import missing_vocabulary, refused_texts
from vitsmith.weights.bundle.manifest import MANIFEST
from vitsmith.weights.bundle.summary import describe_outputs, title

if TYPE_CHECKING:
    from vitsmith.gate import Verdict

CONFIGS = ViTConfig | MixerConfig | LiTConfig


@dataclass(eq=False, repr=False)
class BundleParts:
    """The parts of a bundle, checked when they are put together; `Bundle` says what can be done with them."""

    config: ModelConfig
    preprocessing: ImageSpec
    """How images become the model's input."""
    provenance: Provenance
    labels: Labels | None = None
    text: TextSpec | None = None
    vocabulary: bytes | None = field(default=None, repr=False)
    measurements: tuple[Measurement, ...] = ()
    program: Program = "torch"
    program_spec: ProgramSpec = field(default_factory=ProgramSpec)
    folder: Path | None = None
    """The folder with its files; None while it is only in memory."""
    golden: Golden | None = field(default=None, repr=False)
    head: Head = "softmax"
    """What the outputs mean; for a model without classes 'softmax' becomes 'none'. A head with 'none' is a projection
    to an embedding, as that of CLIP's image tower."""
    calibration: Calibration | None = None
    """Temperature and thresholds of its probabilities; None: they are as the model gives them."""
    programs: tuple[StoredProgram, ...] = field(default=(), repr=False)
    """All programs in its folder, the usual one first; () while it is only in memory."""
    verdict: Verdict | None = field(default=None, init=False, repr=False)
    """The verdict of the gate, if this process made the program; None for a bundle that was read from disk."""
    verified: bool = field(default=False, repr=False)
    """Whether its files were compared with their hashes when it was loaded."""

    def __post_init__(self) -> None:
        _check_kinds(self)
        if self.head == "softmax" and not self.classes:
            self.head = "none"
        self.measurements = tuple(self.as_measured(one) for one in self.measurements)
        _check_parts(self)

    def __repr__(self) -> str:
        """'<Bundle ViT-B_16 at 224x224, onnx, int8, 37 classes, runs/export/pets>'."""
        outputs = describe_outputs(self.head, self.classes)
        return f"<Bundle {title(self.config, self.provenance)}, {self.stored.title}, {outputs}, {self.where}>"

    @property
    def where(self) -> str:
        """Its name in messages: its folder, or its source."""
        return str(self.folder or self.provenance.source)

    @property
    def classes(self) -> int:
        """Number of logits; 0 for LiT, for models without a head, and where the head projects to an embedding."""
        return 0 if isinstance(self.config, LiTConfig) or self.head == "none" else self.config.classes

    @property
    def stored(self) -> StoredProgram:
        """Its own program; for a bundle on disk, one of `programs`."""
        mine = (one for one in self.programs if one.is_(self.program, self.program_spec))
        return next(mine, StoredProgram(program=self.program, spec=self.program_spec))

    @property
    def place(self) -> Path:
        """The folder of its program: `folder`, or one inside it. Raises BundleError if `folder` no longer exists."""
        if self.folder is None:
            raise InputError(f"{self.where}: an exported bundle lives in a folder; load it from there")
        if not self.folder.is_dir():
            how = "it was moved or deleted"
            if not self.folder.is_absolute():
                how += ", or the working folder was changed (the path is relative)"
            raise BundleError(f"{self.folder} no longer exists: {how}; load the bundle from its new place")
        return self.folder / self.stored.folder

    @property
    def trained_here(self) -> bool:
        """Whether vitsmith trained it: then only a record can say on which images, no publication does."""
        return self.provenance.kind in ("trained", "pruned", "merged")

    @property
    def refuses_images(self) -> bool:
        """Whether its preprocessing is only assumed, so that its model is given no images."""
        return bool(self.provenance.missing or self.provenance.images_refused)

    def check_preprocessing(self, option: str = "--read-as") -> None:
        """Raises InputError where the file that says how images are preprocessed was not beside the weights, or says
        what cannot be reproduced. `option` is that of the command which reads the model in another way."""
        missing, refused = self.provenance.missing, self.provenance.images_refused
        if not self.refuses_images:
            return
        usual = f"take what is usual for such models, by preprocessing='usual' or {option} preprocessing=usual"
        other = "" if self._of_bundle else ", or your own, by load(..., preprocessing=ImageSpec(...))"
        if refused:
            raise InputError(f"{self.where}: {refused}, so it is given no images: {usual}{other}")
        again = f"{self._made_from}, and make the bundle again; or" if self._of_bundle else "and load them again, or"
        raise InputError(
            f"{self.where} has no {missing}, so how its images are preprocessed is not known: put the file beside the "
            f"weights {again} {usual}{other}"
        )

    @property
    def _of_bundle(self) -> bool:
        """Whether it is a bundle on disk or was made from one in memory: such weights are not read again."""
        return self.folder is not None or _is_bundle(self.provenance.parent)

    @property
    def _made_from(self) -> str:
        """How a message goes on about the weights of a bundle on disk, which may be made from another bundle."""
        source = self.provenance.parent or self.provenance.source
        return f"that {source} was made from" if _is_bundle(source) else f"it was made from ({source})"

    def check_texts(self) -> None:
        """Raises InputError for a model that reads no texts: without a text tower, or without a tokenizer of ours."""
        if self.text is None:
            raise InputError(f"{self.where} is a model of images alone: it cannot read text; use CLIP, SigLIP or LiT")
        if self.vocabulary is not None:
            return
        if self.provenance.texts_refused:
            raise InputError(f"{self.where} {refused_texts(self.provenance.texts_refused)}")
        made_from = self._made_from if self._of_bundle else ""
        raise InputError(f"{self.where} {missing_vocabulary(self.text, self.provenance.kind, made_from=made_from)}")

    def as_measured(self, one: Measurement) -> Measurement:
        """Returns the measurement with program and precision filled in: by default those of this bundle."""
        own = {"program": self.stored.title, "precision": self.program_spec.arithmetic}
        return one.model_copy(update={name: value for name, value in own.items() if not getattr(one, name)})


def _check_kinds(bundle: BundleParts) -> None:
    """Raises InputError for fields of the wrong type."""
    instance(bundle.config, CONFIGS, "config", "the configuration of a model")
    instance(bundle.preprocessing, ImageSpec, "preprocessing", "an ImageSpec")
    instance(bundle.provenance, Provenance, "provenance", "a Provenance")
    instance(bundle.labels, (Labels, type(None)), "labels", "Labels(names=...), or None")
    instance(bundle.text, (TextSpec, type(None)), "text", "a TextSpec, or None")
    instance(bundle.vocabulary, (bytes, type(None)), "vocabulary", "the bytes of a tokenizer's file, or None")
    instance(bundle.program_spec, ProgramSpec, "program_spec", "a ProgramSpec")
    instance(bundle.calibration, (Calibration, type(None)), "calibration", "a Calibration, or None")
    for one in instance(bundle.programs, tuple, "programs", "a tuple of StoredProgram"):
        instance(one, StoredProgram, "a program", "a StoredProgram")
    instance(bundle.folder, (Path, type(None)), "folder", "a pathlib.Path, or None")
    instance(bundle.golden, (Golden, type(None)), "golden", "golden examples (see with_golden), or None")
    known_name(bundle.program, "program", get_args(Program))
    known_name(bundle.head, "head", get_args(Head))
    for one in instance(bundle.measurements, tuple, "measurements", "a tuple of Measurement"):
        instance(one, Measurement, "a measurement", "a Measurement")


def _check_parts(bundle: BundleParts) -> None:
    """Raises BundleError for parts that do not fit each other."""
    classes, where = bundle.classes, bundle.where
    if bundle.labels is not None and classes and len(bundle.labels) != classes:
        raise BundleError(f"{where}: {len(bundle.labels)} label names for {classes} classes")
    if bundle.preprocessing.size != bundle.config.image_size:
        raise BundleError(
            f"{where}: preprocessing gives {bundle.preprocessing.size} images, "
            f"the model takes {bundle.config.image_size}"
        )
    if bundle.head != "none" and not classes:
        raise BundleError(f"{where}: the head is {bundle.head!r}, but the model has no classes")
    if bundle.calibration is not None:
        bundle.calibration.check(bundle.head, classes, where)
    _check_text(bundle)


def _check_text(bundle: BundleParts) -> None:
    if not isinstance(bundle.config, LiTConfig):
        if bundle.text is not None:
            raise BundleError(f"{bundle.where}: a text specification, but the model has no text tower")
        return
    if bundle.text is None:
        raise BundleError(f"{bundle.where}: a LiT model needs a text specification: how its texts become tokens")
    tower = bundle.config.text
    pooling = "first" if isinstance(tower, BertConfig) else tower.pooling
    ours = {"length": bundle.text.length, "vocabulary": bundle.text.vocabulary, "pooling": bundle.text.pooling}
    its = {"length": tower.length, "vocabulary": tower.vocabulary, "pooling": pooling}
    if wrong := [f"{name} {ours[name]}, the text tower has {its[name]}" for name in its if ours[name] != its[name]]:
        raise BundleError(f"{bundle.where}: the text specification says {'; '.join(wrong)}")


def _is_bundle(place: str) -> bool:
    return bool(place) and os.path.isfile(os.path.join(place, MANIFEST))  # noqa: PTH113, PTH118 - of any text

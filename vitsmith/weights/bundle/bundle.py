"""A bundle: a model together with everything needed to use it correctly."""

from __future__ import annotations

import datetime
import hashlib
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vitsmith import needs_torch
from vitsmith.arguments import function, instance
from vitsmith.arrays import Array
from vitsmith.data.images.sources import several
from vitsmith.data.sets.split_record import SplitRecord, read_split
from vitsmith.data.text.tokenize import Tokenizer
from vitsmith.errors import BundleError, InputError
from vitsmith.models.config import LiTConfig, ModelConfig
from vitsmith.records import Measurement, Provenance
from vitsmith.specs import (
    Calibration,
    Head,
    ImageSpec,
    Labels,
    Program,
    ProgramSpec,
    Similarity,
    StoredProgram,
    TextSpec,
)
from vitsmith.version import __version__
from vitsmith.weights.bundle.card import describe_outputs, title
from vitsmith.weights.bundle.checks import CONFIGS, check_kinds, check_parts
from vitsmith.weights.bundle.golden import OUTPUT_TOLERANCE, Golden, Run, make_golden, read_golden
from vitsmith.weights.bundle.identity import name_space, state_of
from vitsmith.weights.bundle.measurements import still_true, with_newer
from vitsmith.weights.bundle.text_side import original_text, vocabulary_suffix

if TYPE_CHECKING:
    from vitsmith.gate import Verdict
    from vitsmith.models.build import Model


@dataclass(eq=False, repr=False)
class Bundle:
    """A model with its preprocessing, label names, origin and measurements.

    `program` is 'torch' for weights of a torch model, else the format of an exported program; `program_spec` says which
    precision, batch and input that has. A folder may hold several programs of the same model: see `programs`. Only LiT
    models have `text`, the rules by which texts become tokens, and `vocabulary`, the bytes of the tokenizer's file.
    """

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
    """What the outputs mean; for a model without classes 'softmax' becomes 'none'."""
    calibration: Calibration | None = None
    """Temperature and thresholds of its probabilities; None: they are as the model gives them."""
    programs: tuple[StoredProgram, ...] = field(default=(), repr=False)
    """All programs in its folder, the usual one first; () while it is only in memory."""
    verdict: Verdict | None = field(default=None, init=False, repr=False)
    """The verdict of the gate, if this process made the program; None for a bundle that was read from disk."""
    verified: bool = field(default=False, repr=False)
    """Whether its files were compared with their hashes when it was loaded."""
    _model: Model | None = field(default=None, repr=False)
    _weights_hash: str = field(default="", repr=False)
    _hashed: tuple[int, int] | None = field(default=None, repr=False)
    """The state of the model when its hash was computed; see `identity.state_of`."""
    _as_read: tuple[dict[str, Any], tuple[Measurement, ...]] | None = field(default=None, repr=False)
    """The parts that decide its answers, and its measurements, as they were read from disk."""
    _similarity: Similarity | None = field(default=None, repr=False)
    _tokenizer: Tokenizer | None = field(default=None, repr=False)
    _split: SplitRecord | Path | None = field(default=None, repr=False)
    """The record of training and held-out images, or the file to read it from."""
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        check_kinds(self)
        if self.head == "softmax" and not self.classes:
            self.head = "none"
        self.measurements = tuple(self.as_measured(one) for one in self.measurements)
        check_parts(self)

    def __repr__(self) -> str:
        """'<Bundle ViT-B_16 at 224x224, onnx, int8, 37 classes, runs/export/pets>'."""
        outputs = describe_outputs(self.head, self.classes)
        return f"<Bundle {title(self.config)}, {self.stored.title}, {outputs}, {self.where}>"

    @classmethod
    def of(cls, model: Model, *, preprocessing: ImageSpec | None = None, **fields: Any) -> Self:
        """A bundle in memory; preprocessing defaults to the original's for that family."""
        if not isinstance(getattr(model, "config", None), CONFIGS):
            instance(model, CONFIGS, "what a bundle is made of", "a model of vitsmith")
        config = model.config
        lit = isinstance(config, LiTConfig)
        if preprocessing is None:
            preprocessing = (ImageSpec.lit if lit else ImageSpec.original)(config.image_size)
        if isinstance(config, LiTConfig) and "text" not in fields:
            fields["text"] = original_text(config)
        fields.setdefault("provenance", Provenance(source="created in memory"))
        return cls(config=config, preprocessing=preprocessing, _model=model.eval(), **fields)

    def as_measured(self, one: Measurement) -> Measurement:
        """Returns the measurement with program and precision filled in: by default those of this bundle."""
        own = {"program": self.stored.title, "precision": self.program_spec.arithmetic}
        return one.model_copy(update={name: value for name, value in own.items() if not getattr(one, name)})

    @property
    def images(self) -> ImageSpec:
        """The name of `preprocessing` in version 0.1. Reading and setting it raise AttributeError."""
        raise AttributeError("Bundle.images is called Bundle.preprocessing now")

    @classmethod
    def from_disk(
        cls,
        folder: Path,
        *,
        weights_hash: str,
        similarity: Similarity | None,
        split: Path | None,
        verified: bool,
        **fields: Any,
    ) -> Self:
        """Returns a bundle whose files are in `folder`; its weights are read when they are first needed.

        `weights_hash` and `similarity` come from bundle.json, `split` is the file of its record of images. The bundle
        remembers how it was read: see `still_measured`.
        """
        bundle = cls(folder=folder, _weights_hash=weights_hash, _similarity=similarity, _split=split, **fields)
        bundle.verified = verified
        bundle._as_read = bundle._decisive(), bundle.measurements
        return bundle

    def derive(
        self,
        model: Model,
        note: str = "",
        *,
        by: str,
        kind: str = "",
        preprocessing: ImageSpec | None = None,
        headless: bool = False,
    ) -> Self:
        """Returns a bundle of `model`, which was made from this bundle's weights and has the same inputs and classes.

        Licence, origin, notes and the record of images are kept. Measurements and golden examples are left out: they
        are true of the old model only. So is the calibration, whose temperature and thresholds fit the old logits; a
        note says so. `by` is the command, `note` what was done, `kind` the new kind (default: the same); `headless`
        leaves out the classes. Raises BundleError for a model that does not fit.
        """
        uncalibrated = "" if self.calibration is None or headless else f"{_UNCALIBRATED} of {self.where}"
        return type(self).of(
            model,
            preprocessing=preprocessing or self.preprocessing,
            labels=None if headless else self.labels,
            head="none" if headless else self.head,
            text=self.text,
            vocabulary=self.vocabulary,
            provenance=self._successor(by, kind or self.provenance.kind, uncalibrated, note),
            _split=self._split,
        )

    def as_program(self, program: Program, spec: ProgramSpec, *notes: str, by: str) -> Self:
        """Returns this bundle as an exported program whose files are not written yet, without its torch model.

        Embeddings keep their identity. Measurements are left out: they are true of the weights only. The calibration is
        kept, because the gate makes sure that fp32, fp16 and bf16 programs give the same logits. int8 moves logits by
        more, but an old calibration is still better than none, and all programs in a folder share one: it is kept, and
        a note says that it was found before int8. `by` is the command that makes the program.
        """
        moved = self.calibration is not None and spec.precision == "int8"
        notes = (*notes, _CALIBRATED_BEFORE) if moved else notes
        return replace(
            self,
            program=program,
            program_spec=spec,
            folder=None,
            programs=(),
            provenance=self._successor(by, self.provenance.kind, *notes),
            measurements=(),
            _model=None,
            _weights_hash=self.weights_hash,
            _hashed=None,
            _as_read=None,
            _similarity=self.similarity if isinstance(self.config, LiTConfig) else None,
        )

    def using(self, stored: StoredProgram) -> Self:
        """Returns the bundle with another of its `programs`, and the golden answers of that program.

        Raises BundleError for a program that is not in its folder, and if the weights were changed after reading.
        """
        if stored.is_(self.program, self.program_spec):
            return self
        if self.weights_changed:
            raise BundleError(
                f"the weights of {self.where} were changed in memory, and its program {stored.title} has the old ones"
            )
        if self.folder is None or stored not in self.programs:
            raise BundleError(f"{self.where} holds no program {stored.title}")
        golden = self.folder / stored.folder / GOLDEN
        return replace(
            self,
            program=stored.program,
            program_spec=stored.spec,
            golden=read_golden(golden) if golden.is_file() else None,
            _model=None,
            _hashed=None,
        )

    def _successor(self, by: str, kind: str, *notes: str) -> Provenance:
        """The provenance of what is made from this bundle."""
        return self.provenance.model_copy(
            update={
                "source": by,
                "kind": kind,
                "sha256": "",  # that of the file which this bundle was read from
                "parent": self.where,
                "date": datetime.date.today().isoformat(),
                "vitsmith": __version__,
                "notes": (*self.provenance.notes, *(note for note in notes if note)),
            }
        )

    def with_calibration(self, temperature: float = 1.0, thresholds: Iterable[float] = (), *, data: str = "") -> Self:
        """The same bundle with calibrated probabilities; `vitsmith.save` writes it, an exported one too.

        Logits are divided by `temperature` before softmax or sigmoid. `thresholds` are for a sigmoid head: a class is
        present if its probability is at least its threshold; () means 0.5 for all classes. `data` names the images that
        the calibration was found on, which should not be training images. Raises ConfigError for a temperature that is
        not above 0 and for thresholds that are not probabilities, BundleError if head or classes do not fit.
        """
        found = Calibration(temperature=temperature, thresholds=tuple(thresholds), data=data)
        return replace(self, calibration=found)

    def with_provenance(self, **changes: Any) -> Self:
        """The same bundle with other fields of its provenance."""
        return replace(self, provenance=Provenance(**(self.provenance.model_dump() | changes)))

    def noted(self, *notes: str) -> Self:
        """The same bundle with more notes."""
        return self.with_provenance(notes=(*self.provenance.notes, *notes))

    @property
    def stored(self) -> StoredProgram:
        """Its own program; for a bundle on disk, one of `programs`."""
        mine = (one for one in self.programs if one.is_(self.program, self.program_spec))
        return next(mine, StoredProgram(program=self.program, spec=self.program_spec))

    @property
    def where(self) -> str:
        """Its name in messages: its folder, or its source."""
        return str(self.folder or self.provenance.source)

    @property
    def classes(self) -> int:
        """Number of logits; 0 for LiT and for models without a head."""
        return 0 if isinstance(self.config, LiTConfig) else self.config.classes

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the lock, which belongs to this process, and marks the files as not verified."""
        return {name: value for name, value in vars(self).items() if name != "_lock"} | {"verified": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    @property
    def model(self) -> Model:
        """The torch module in eval mode: (batch, 3, height, width) float32 in the range of `preprocessing` -> logits.

        It is read on first use, and its golden examples are checked then. One thread reads, others wait for it.
        Raises BundleError for an exported bundle, NotFiniteError for weights or answers that are NaN or infinite.
        """
        if self._model is None:
            with self._lock:
                if self._model is None:
                    model = self._read_model()
                    self._hashed = state_of(model) if self._weights_hash else None
                    self._model = model  # only now: nobody may see it unchecked
        return self._model

    def _read_model(self) -> Model:
        """The torch model from disk, its golden answers checked."""
        if self.program != "torch" or self.folder is None:
            raise BundleError(
                f"{self.where} holds an exported program (model.{self.program}), not torch weights: "
                "use vitsmith.Predictor(bundle)"
            )
        model = needs_torch.read_weights(self.place / WEIGHTS, self.config)
        self.check_golden(lambda tensors: needs_torch.run_images(model, tensors, self.where))
        self.check_golden_texts(lambda tokens: needs_torch.run_texts(model, tokens, self.where))
        return model

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
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of this model. Raises InputError without a text tower or a vocabulary."""
        if self.text is None:
            raise InputError(f"{self.where} is a model of images alone: it cannot read text; use a LiT model")
        if self.vocabulary is None:
            suffix = vocabulary_suffix(self.text)
            raise InputError(
                f"{self.where} has no vocabulary, so texts cannot be read: put the {suffix} file published with the "
                f"checkpoint beside it under the same name, or call load(..., vocabulary='FILE{suffix}')"
            )
        kept = self._tokenizer
        if kept is None or kept.spec is not self.text or kept.vocabulary is not self.vocabulary:
            try:
                kept = self._tokenizer = Tokenizer(self.text, self.vocabulary)
            except InputError as error:
                raise type(error)(f"{self.where}: {error}") from None
        return kept

    @property
    def split(self) -> SplitRecord | None:
        """The record of training images and held-out images; None if it is not known.

        It is read on first use. `derive` keeps it. Raises BundleError for a damaged file.
        """
        if isinstance(self._split, Path):
            try:
                self._split = read_split(self._split)
            except FileNotFoundError:  # deleted, which does no harm
                self._split = None
        return self._split

    def check_split(self) -> None:
        """Raises BundleError for a damaged record. Call it before long work, at whose end the record is written."""
        _ = self.split

    def with_split(self, record: SplitRecord | None) -> Self:
        """The same bundle with another record of its images, or without one."""
        return replace(self, _split=record)

    @property
    def trained_here(self) -> bool:
        """Whether vitsmith trained it: then only a record can say on which images, no publication does."""
        return self.provenance.kind in ("trained", "pruned", "merged")

    @property
    def similarity(self) -> Similarity:
        """Temperature and bias of a LiT model. Raises InputError for others, and for temperatures of 0 or infinity."""
        if not isinstance(self.config, LiTConfig):
            raise InputError(f"{self.where} is a model of images alone: it matches no texts; use a LiT model")
        if self._model is None and self._similarity is not None:
            return self._similarity
        return needs_torch.similarity_of(self.model, self.where)

    @property
    def weights_hash(self) -> str:
        """SHA-256 over the names and values of all weights; for an exported program, of the weights it was made from.

        Raises BundleError for an old export whose bundle does not have it.
        """
        if self.program != "torch":
            if not self._weights_hash:
                raise BundleError(f"{self.where} does not say which weights it was made from: export it again")
            return self._weights_hash
        if self._weights_hash and self._model is None:
            return self._weights_hash  # as it was written
        state = state_of(self.model)
        if not self._weights_hash or state is None or self._hashed != state:
            self._weights_hash, self._hashed = needs_torch.hash_weights(self.model), state
        return self._weights_hash

    @property
    def weights_changed(self) -> bool:
        """Whether its torch weights were changed after reading: then the programs in its folder have the old ones."""
        if self._as_read is None or self._model is None:
            return False
        return self.weights_hash != self._as_read[0]["weights"] != ""

    @property
    def recorded_hash(self) -> str:
        """The hash of the weights as it was written or last computed, without reading them; '' if it is not known."""
        return self._weights_hash

    @property
    def identity(self) -> str:
        """A hash that is equal for equal models, in whatever file or program they are stored.

        Image embeddings may be compared only between bundles with the same identity.
        """
        return name_space(self.weights_hash, self.config, self.preprocessing, self.text)

    @property
    def text_identity(self) -> str:
        """The same for text embeddings, which also depend on the vocabulary. Raises InputError without a vocabulary."""
        vocabulary = hashlib.sha256(self.tokenizer.vocabulary).hexdigest()
        return hashlib.sha256(f"{self.identity} {vocabulary}".encode()).hexdigest()[:32]

    def run_torch(self, tensors: Array) -> Array:
        """float32 (batch, 3, height, width) -> logits, or image embeddings for LiT, as NumPy arrays.

        Raises NotFiniteError for answers that are NaN or infinite.
        """
        instance(tensors, np.ndarray, "tensors", "a NumPy array")
        return needs_torch.run_images(self.model, tensors, self.where)

    def run_texts_torch(self, tokens: Array) -> Array:
        """Token ids (texts, length) -> float32 (texts, E), unit vectors. Raises InputError without a text tower."""
        instance(tokens, np.ndarray, "tokens", "a NumPy array")
        return needs_torch.run_texts(self.model, tokens, self.where)

    def with_golden(self, images: Sequence[Array]) -> Self:
        """The same bundle with golden examples made from uint8 RGB images, and texts, by its torch model."""
        listed = [
            instance(image, np.ndarray, "a golden image", "an array of uint8, as read_image gives it")
            for image in several(images)
        ]
        if not listed:
            raise InputError("golden examples need at least one image")
        golden = make_golden(listed, self.preprocessing, self.run_torch)
        if self.text is not None and self.vocabulary is not None:
            golden = golden.with_texts(self.tokenizer, self.run_texts_torch)
        return replace(self, golden=golden)

    def with_true_golden(self, images: Sequence[Array]) -> Self:
        """Returns the bundle with golden examples that its torch model gives.

        They are made from `images` if it has none, and made again if its weights or preprocessing were changed: a
        bundle that is written must pass its own check.
        """
        if self.golden is None:
            return self.with_golden(images)
        try:
            self.check_golden(self.run_torch)
            self.check_golden_texts(self.run_texts_torch)
        except BundleError:
            return self.with_golden(self.golden.images)
        return self

    def check_golden(self, run: Run, *, tolerance: float = OUTPUT_TOLERANCE) -> None:
        """Raises BundleError unless preprocessing and `run` give the golden tensors and outputs."""
        function(run, "run")
        if self.golden is not None:
            self.golden.check_inputs(self.preprocessing, self.where)
            self.golden.check_outputs(run(self.golden.tensors), self.where, tolerance)

    def check_golden_texts(self, run: Run, *, tolerance: float = OUTPUT_TOLERANCE) -> None:
        """Raises BundleError unless tokenizer and `run`, (texts, length) -> (texts, E), give the golden answers."""
        function(run, "run")
        if self.golden is not None and self.golden.texts is not None and self.vocabulary is not None:
            self.golden.texts.check(self.tokenizer, run, self.where, tolerance)

    def still_measured(self) -> tuple[Measurement, ...]:
        """Its measurements, without those that no longer hold because a part was changed after reading.

        Weights, preprocessing, labels and head decide the answers; configuration and program also decide the costs.
        """
        if self._as_read is None:
            return self.measurements
        then, old = self._as_read
        now = self._decisive() | {"weights": self.weights_hash if then["weights"] else ""}  # old bundles do not have it
        changed = {name for name in then if then[name] != now[name]}
        return still_true(self.measurements, old, changed)

    def differences_from(self, other: Bundle) -> list[str]:
        """Its parts that give other answers than those of `other`, whichever program runs: 'labels', 'weights' ..."""
        mine, its = self._decisive(), other._decisive()
        mine["weights"] = self.weights_hash if self._model is not None else self._weights_hash
        return [name for name in mine if name not in ("program", "program_spec") and mine[name] != its[name]]

    def _decisive(self) -> dict[str, Any]:
        names = ("config", "preprocessing", "text", "labels", "head", "calibration", "program", "program_spec")
        return {name: getattr(self, name) for name in names} | {"weights": self._weights_hash}

    def measured(self, *measurements: Measurement) -> Self:
        """The same bundle with more measurements; a newer one replaces an older one of the same thing."""
        for one in measurements:
            instance(one, Measurement, "a measurement", "a Measurement")
        newer = [self.as_measured(one) for one in measurements]
        return replace(self, measurements=with_newer(self.measurements, newer))


_UNCALIBRATED = "not calibrated: temperature and thresholds were found for the logits"
_CALIBRATED_BEFORE = "the calibration was found before int8: vitsmith evaluate measures how well it fits"

GOLDEN, WEIGHTS = "golden.safetensors", "model.safetensors"
"""The files of golden examples and of torch weights in a bundle's folder."""

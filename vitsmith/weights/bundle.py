"""A bundle: a model together with everything needed to use it rightly."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import numpy as np

from vitsmith.arguments import function, instance, known_name
from vitsmith.data.image_sources import several
from vitsmith.data.prompts import named_templates
from vitsmith.data.split_record import SplitRecord, read_split
from vitsmith.data.tokenize import Tokenizer
from vitsmith.errors import BundleError, InputError, NotFiniteError
from vitsmith.finite import require_finite_outputs
from vitsmith.models.config import BertConfig, LiTConfig, MixerConfig, ModelConfig, ViTConfig
from vitsmith.models.inputs import check_images
from vitsmith.specs import Head, ImageSpec, Labels, Measurement, ProgramSpec, Provenance, Similarity, TextSpec
from vitsmith.weights.golden import OUTPUT_TOLERANCE, Golden, Run, make_golden
from vitsmith.weights.identity import hash_weights, name_space, state_of
from vitsmith.weights.measurements import is_cost, with_newer

if TYPE_CHECKING:
    from vitsmith.models.build import Model

Array = np.ndarray[Any, Any]
Program = Literal["torch", "onnx", "openvino", "executorch"]

_CONFIGS = ViTConfig | MixerConfig | LiTConfig


@dataclass(eq=False)
class Bundle:
    """A model with its preprocessing, label names, origin and measurements.

    `program` says what its file is for: 'torch' for weights of our own models, else the format of an exported program,
    and `program_spec` what that computes in. Of LiT, `text` and `vocabulary` are the text side: how texts become
    tokens, and the bytes of the tokenizer's file.
    """

    config: ModelConfig
    preprocessing: ImageSpec
    provenance: Provenance
    labels: Labels | None = None
    text: TextSpec | None = None
    vocabulary: bytes | None = field(default=None, repr=False)
    measurements: tuple[Measurement, ...] = ()
    program: Program = "torch"
    program_spec: ProgramSpec = field(default_factory=ProgramSpec)
    folder: Path | None = None
    """Where its files are; None while it is only in memory."""
    golden: Golden | None = field(default=None, repr=False)
    head: Head = "softmax"
    """What its outputs mean; of models without a head, 'softmax'."""
    _model: Model | None = field(default=None, repr=False)
    _weights_hash: str = field(default="", repr=False)
    _hashed: tuple[int, int] | None = field(default=None, repr=False)
    """What the model was when its hash was known; see `identity.state_of`."""
    _as_read: tuple[dict[str, Any], tuple[Measurement, ...]] | None = field(default=None, repr=False)
    """What decided its answers when it was read, and what had been measured of those."""
    _similarity: Similarity | None = field(default=None, repr=False)
    _tokenizer: Tokenizer | None = field(default=None, repr=False)
    _split: SplitRecord | Path | None = field(default=None, repr=False)
    """The record of its images, or the file to read it from."""
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self._check_kinds()
        classes = self.classes
        if self.labels is not None and classes and len(self.labels) != classes:
            raise BundleError(f"{self.where}: {len(self.labels)} label names for {classes} classes")
        if self.preprocessing.size != self.config.image_size:
            raise BundleError(
                f"{self.where}: preprocessing gives {self.preprocessing.size} images, "
                f"the model takes {self.config.image_size}"
            )
        if self.head != "softmax" and not classes:
            raise BundleError(f"{self.where}: the outputs of a model without a head are no {self.head} of anything")
        self._check_text()

    def _check_kinds(self) -> None:
        """Raises InputError for fields that hold something else than they are for."""
        instance(self.config, _CONFIGS, "config", "the configuration of a model")
        instance(self.preprocessing, ImageSpec, "preprocessing", "an ImageSpec")
        instance(self.provenance, Provenance, "provenance", "a Provenance")
        instance(self.labels, (Labels, type(None)), "labels", "Labels(names=...), or None")
        instance(self.text, (TextSpec, type(None)), "text", "a TextSpec, or None")
        instance(self.vocabulary, (bytes, type(None)), "vocabulary", "the bytes of a tokenizer's file, or None")
        instance(self.program_spec, ProgramSpec, "program_spec", "a ProgramSpec")
        instance(self.folder, (Path, type(None)), "folder", "a pathlib.Path, or None")
        instance(self.golden, (Golden, type(None)), "golden", "golden examples (see with_golden), or None")
        known_name(self.program, "program", get_args(Program))
        known_name(self.head, "head", get_args(Head))
        for one in instance(self.measurements, tuple, "measurements", "a tuple of Measurement"):
            instance(one, Measurement, "a measurement", "a Measurement")

    def _check_text(self) -> None:
        if not isinstance(self.config, LiTConfig):
            if self.text is not None:
                raise BundleError(f"{self.where}: a text specification beside a model without a text tower")
            return
        if self.text is None:
            raise BundleError(f"{self.where}: a LiT model needs a text specification: how its texts become tokens")
        tower = self.config.text
        pooling = "first" if isinstance(tower, BertConfig) else "last"
        ours = {"length": self.text.length, "vocabulary": self.text.vocabulary, "pooling": self.text.pooling}
        its = {"length": tower.length, "vocabulary": tower.vocabulary, "pooling": pooling}
        if wrong := [f"{name} {ours[name]}, the text tower has {its[name]}" for name in its if ours[name] != its[name]]:
            raise BundleError(f"{self.where}: the text specification says {'; '.join(wrong)}")

    @classmethod
    def of(cls, model: Model, *, preprocessing: ImageSpec | None = None, **fields: Any) -> Self:
        """A bundle in memory; preprocessing defaults to the original's for that family."""
        if not isinstance(getattr(model, "config", None), _CONFIGS):
            instance(model, _CONFIGS, "what a bundle is made of", "a model of vitsmith")
        config = model.config
        lit = isinstance(config, LiTConfig)
        if preprocessing is None:
            preprocessing = (ImageSpec.lit if lit else ImageSpec.original)(config.image_size)
        if isinstance(config, LiTConfig) and "text" not in fields:
            fields["text"] = original_text(config)
        fields.setdefault("provenance", Provenance(source="created in memory"))
        return cls(config=config, preprocessing=preprocessing, _model=model.eval(), **fields)

    @property
    def images(self) -> ImageSpec:
        """What `preprocessing` was called in version 0.1. Raises AttributeError, also where it is set."""
        raise AttributeError("Bundle.images is called Bundle.preprocessing now")

    @property
    def where(self) -> str:
        """What messages call it: its folder, or its source."""
        return str(self.folder or self.provenance.source)

    @property
    def classes(self) -> int:
        """Number of logits; 0 for LiT and for models without a head."""
        return 0 if isinstance(self.config, LiTConfig) else self.config.classes

    def __getstate__(self) -> dict[str, Any]:
        """Without the lock, which belongs to this process."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    @property
    def model(self) -> Model:
        """The torch module in eval mode: (batch, 3, height, width) float32 in the range of `preprocessing` -> logits.

        Read on first use, when the golden examples are also checked; threads that ask at once wait for one of them.
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
        from vitsmith.weights.bundle_folder import read_weights

        model = read_weights(self)
        self.check_golden(lambda tensors: self._run_images(model, tensors))
        self.check_golden_texts(lambda tokens: self._run_texts(model, tokens))
        return model

    @property
    def tokenizer(self) -> Tokenizer:
        """Texts to tokens as this model reads them. Raises InputError without a text tower or a vocabulary."""
        if self.text is None:
            raise InputError(f"{self.where} is a model of images alone: it cannot read text; use a LiT model")
        if self.vocabulary is None:
            suffix = vocabulary_suffix(self.text)
            raise InputError(
                f"{self.where} has no vocabulary, so texts cannot be read: put the {suffix} file published with the "
                f"checkpoint beside it under the same name, or say load(..., vocabulary='FILE{suffix}')"
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
        """Which images it was trained on and which were held out; None where that is not known.

        Read on first use. What is made from a bundle with other weights for the same classes has its record too.
        Raises BundleError for a damaged file.
        """
        if isinstance(self._split, Path):
            try:
                self._split = read_split(self._split)
            except FileNotFoundError:  # deleted, which does no harm
                self._split = None
        return self._split

    def check_split(self) -> None:
        """Raises BundleError for a damaged record: before work, where writing it would come at the end of hours."""
        _ = self.split

    def with_split(self, record: SplitRecord | None) -> Self:
        """The same bundle with another record of its images, or without one."""
        return replace(self, _split=record)

    @property
    def trained_here(self) -> bool:
        """Whether vitsmith trained it, so that only a record, and no paper, could say on which images."""
        return self.provenance.format in ("trained", "pruned", "merged")

    @property
    def similarity(self) -> Similarity:
        """Temperature and bias of a LiT model. Raises InputError for others, and for 0 and infinity."""
        from vitsmith.models.lit import LiT

        if not isinstance(self.config, LiTConfig):
            raise InputError(f"{self.where} is a model of images alone: it matches no texts; use a LiT model")
        if self._model is None and self._similarity is not None:
            return self._similarity
        assert isinstance(self.model, LiT)
        bias = self.model.logit_bias
        temperature = self.model.temperature.item()
        if not 0 < temperature < math.inf:
            raise NotFiniteError(
                f"{self.where}: its temperature, e to the {self.model.log_temperature.item():.4g}, is {temperature}, "
                "so its scores mean nothing: take another checkpoint"
            )
        return Similarity(temperature=temperature, bias=None if bias is None else bias.item())

    @property
    def weights_hash(self) -> str:
        """SHA-256 over the names and values of all weights; an exported program has that of what it came from.

        Raises BundleError for a program that was exported before bundles had it.
        """
        if self.program != "torch":
            if not self._weights_hash:
                raise BundleError(f"{self.where} does not say which weights it was made from: export it again")
            return self._weights_hash
        if self._weights_hash and self._model is None:
            return self._weights_hash  # as it was written
        state = state_of(self.model)
        if not self._weights_hash or state is None or self._hashed != state:
            self._weights_hash, self._hashed = hash_weights(self.model), state
        return self._weights_hash

    @property
    def identity(self) -> str:
        """A name for what its embeddings of images mean: equal for equal models, in whatever file or program they are.

        Embeddings of bundles with the same identity may be compared, others may not.
        """
        return name_space(self.weights_hash, self.config, self.preprocessing, self.text)

    @property
    def text_identity(self) -> str:
        """The same for its embeddings of texts, which the vocabulary decides too. Raises InputError without one."""
        vocabulary = hashlib.sha256(self.tokenizer.vocabulary).hexdigest()
        return hashlib.sha256(f"{self.identity} {vocabulary}".encode()).hexdigest()[:32]

    def run_torch(self, tensors: Array) -> Array:
        """float32 (batch, 3, height, width) -> logits, or image embeddings for LiT, as NumPy arrays.

        Raises NotFiniteError for answers that are NaN or infinite.
        """
        return self._run_images(self.model, tensors)

    def run_texts_torch(self, tokens: Array) -> Array:
        """Token ids (texts, length) -> float32 (texts, E), unit vectors. Raises InputError without a text tower."""
        return self._run_texts(self.model, tokens)

    def _run_images(self, model: Model, tensors: Array) -> Array:
        import torch

        from vitsmith.models.isolation import isolated
        from vitsmith.models.lit import LiT
        from vitsmith.weights.fill import require_float32

        instance(tensors, np.ndarray, "tensors", "a NumPy array")
        require_float32(model, self.where)
        check_images(tensors, self.config.image_size)
        with isolated(inference=True):
            images = torch.from_numpy(tensors).to(next(model.parameters()).device, torch.float32)
            outputs = model.encode_image(images) if isinstance(model, LiT) else model(images)
        return require_finite_outputs(outputs.float().cpu().numpy(), tensors, self.where)

    def _run_texts(self, model: Model, tokens: Array) -> Array:
        import torch

        from vitsmith.models.isolation import isolated
        from vitsmith.models.lit import LiT
        from vitsmith.weights.fill import require_float32

        if not isinstance(model, LiT):
            raise InputError(f"{self.where} is a model of images alone: it cannot read text; use a LiT model")
        instance(tokens, np.ndarray, "tokens", "a NumPy array")
        require_float32(model, self.where)
        with isolated(inference=True):
            outputs = model.encode_text(torch.from_numpy(tokens).to(next(model.parameters()).device))
        return require_finite_outputs(outputs.float().cpu().numpy(), tokens, self.where, what="text")

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
        """The same bundle with golden examples that are its torch model's.

        They are made from `images` where it has none, and anew where its weights or preprocessing were changed since:
        what is written must not refuse itself.
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

    def as_read(self) -> Self:
        """The same bundle, just read from disk, which remembers how it was: see `still_measured`."""
        return replace(self, _as_read=(self._decisive(), self.measurements))

    def still_measured(self) -> tuple[Measurement, ...]:
        """Its measurements, without those that were true of what was read from disk and are not any more.

        Other weights, preprocessing, labels or another head give other answers; another configuration or program costs
        something else.
        """
        if self._as_read is None:
            return self.measurements
        then, old = self._as_read
        now = self._decisive()
        if then["weights"]:  # old bundles do not say it
            now["weights"] = self.weights_hash
        changed = {name for name in then if then[name] != now[name]}
        return tuple(
            one for one in self.measurements if one not in old or not changed & (_COSTLY if is_cost(one) else set(then))
        )

    def _decisive(self) -> dict[str, Any]:
        names = ("config", "preprocessing", "text", "labels", "head", "program", "program_spec")
        return {name: getattr(self, name) for name in names} | {"weights": self._weights_hash}

    def measured(self, *measurements: Measurement) -> Self:
        """The same bundle with more measurements; a newer one of the same thing takes the older one's place."""
        for one in measurements:
            instance(one, Measurement, "a measurement", "a Measurement")
        return replace(self, measurements=with_newer(self.measurements, measurements))


_COSTLY = {"config", "program", "program_spec"}
"""What decides what a program costs; all else changes answers alone."""


def original_text(config: LiTConfig) -> TextSpec:
    """How the original reads text for such a tower (get_tokenizer in vit_jax/preprocess.py), with its prompts."""
    kind: Literal["wordpiece", "sentencepiece"] = (
        "wordpiece" if isinstance(config.text, BertConfig) else "sentencepiece"
    )
    return TextSpec(  # type: ignore[call-arg]  # what is left out follows from the kind
        tokenizer=kind,
        length=config.text.length,
        vocabulary=config.text.vocabulary,
        templates=named_templates("lit"),
    )


def vocabulary_suffix(text: TextSpec) -> str:
    """What the tokenizer's file ends with, as published: '.txt' or '.model'."""
    return ".txt" if text.tokenizer == "wordpiece" else ".model"

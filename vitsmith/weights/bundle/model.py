"""The model of a bundle: read when it is first needed, checked by golden answers, run, and named by a hash."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from vitsmith import needs_torch
from vitsmith.arguments import function, instance
from vitsmith.arrays import Array, Run
from vitsmith.data.images.sources import several
from vitsmith.data.text.tokenizer import Tokenizer
from vitsmith.errors import BundleError, InputError, MissingPackageError
from vitsmith.models.config import LiTConfig
from vitsmith.specs import Similarity
from vitsmith.weights.bundle.golden import OUTPUT_TOLERANCE, make_golden
from vitsmith.weights.bundle.identity import name_space, state_of
from vitsmith.weights.bundle.parts import BundleParts

if TYPE_CHECKING:
    from vitsmith.models.build import Model

WEIGHTS = "model.safetensors"
"""The file of torch weights in a bundle's folder."""


@dataclass(eq=False, repr=False)
class BundleModel(BundleParts):
    """The parts of a bundle with its model: what it answers, and the hash of what decides its answers."""

    _model: Model | None = field(default=None, repr=False)
    _weights_hash: str = field(default="", repr=False)
    _hashed: tuple[int, int] | None = field(default=None, repr=False)
    """The state of the model when its hash was computed; see `identity.state_of`."""
    _similarity: Similarity | None = field(default=None, repr=False)
    _tokenizer: Tokenizer | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

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
        model = _torch_model().read_weights(self.place / WEIGHTS, self.config)
        self.check_golden(lambda tensors: _torch_model().run_images(model, tensors, self.where))
        self.check_golden_texts(lambda tokens: _torch_model().run_texts(model, tokens, self.where))
        return model

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of this model. Raises InputError as `check_texts`, MissingPackageError without its library."""
        self.check_texts()
        assert self.text is not None and self.vocabulary is not None
        kept = self._tokenizer
        if kept is None or kept.spec is not self.text or kept.vocabulary is not self.vocabulary:
            try:
                kept = self._tokenizer = Tokenizer(self.text, self.vocabulary)
            except MissingPackageError:
                raise
            except InputError as error:
                raise type(error)(f"{self.where}: {error}") from None
        return kept

    @property
    def similarity(self) -> Similarity:
        """Temperature and bias of a LiT model. Raises InputError for others, and for temperatures of 0 or infinity."""
        if not isinstance(self.config, LiTConfig):
            raise InputError(f"{self.where} is a model of images alone: it matches no texts; use CLIP, SigLIP or LiT")
        if self._model is None and self._similarity is not None:
            return self._similarity
        return _torch_model().similarity_of(self.model, self.where)

    @property
    def scripts(self) -> str:
        """The scripts that its vocabulary covers, in one line; '' without a vocabulary that can be read here."""
        if self.text is None or self.vocabulary is None:
            return ""
        try:
            return self.tokenizer.describe_scripts()
        except InputError:  # also for a library that is missing
            return ""

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
            self._weights_hash, self._hashed = _torch_model().hash_weights(self.model), state
        return self._weights_hash

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
        return _torch_model().run_images(self.model, tensors, self.where)

    def run_texts_torch(self, tokens: Array) -> Array:
        """Token ids (texts, length) -> float32 (texts, E), unit vectors. Raises InputError without a text tower."""
        instance(tokens, np.ndarray, "tokens", "a NumPy array")
        return _torch_model().run_texts(self.model, tokens, self.where)

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
        """Raises BundleError unless tokenizer and `run`, (texts, length) -> (texts, E), give the golden answers.

        Where the library of the tokenizer is missing, which is told by what needs it, only `run` is checked.
        """
        function(run, "run")
        if self.golden is not None and self.golden.texts is not None and self.vocabulary is not None:
            with suppress(MissingPackageError):
                self.golden.texts.check_tokens(self.tokenizer, self.where)
            self.golden.texts.check_embeddings(run, self.where, tolerance)


def _torch_model() -> Any:
    """What reads and runs torch weights. Raises MissingPackageError without torch."""
    return needs_torch.part("vitsmith.weights.torch_model")

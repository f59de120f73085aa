"""A bundle: a model together with everything needed to use it rightly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from vitsmith.errors import BundleError
from vitsmith.models.config import LiTConfig, ModelConfig
from vitsmith.specs import ImageSpec, Labels, Measurement, Provenance, TextSpec
from vitsmith.weights.golden import Golden, make_golden

if TYPE_CHECKING:
    from vitsmith.models.build import Model

Array = np.ndarray[Any, Any]
Program = Literal["torch", "onnx"]


@dataclass(eq=False)
class Bundle:
    """A model with its preprocessing, label names, origin and measurements.

    `program` says what runs it: 'torch' for weights of our own models, 'onnx' for an exported graph.
    """

    config: ModelConfig
    images: ImageSpec
    provenance: Provenance
    labels: Labels | None = None
    text: TextSpec | None = None
    measurements: tuple[Measurement, ...] = ()
    program: Program = "torch"
    folder: Path | None = None
    """Where its files are; None while it is only in memory."""
    golden: Golden | None = field(default=None, repr=False)
    _model: Model | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        classes = self.classes
        if self.labels is not None and classes and len(self.labels) != classes:
            raise BundleError(f"{self.where}: {len(self.labels)} label names for {classes} classes")
        if self.images.size != self.config.image_size:
            raise BundleError(
                f"{self.where}: preprocessing gives {self.images.size} images, the model takes {self.config.image_size}"
            )

    @classmethod
    def of(cls, model: Model, *, images: ImageSpec | None = None, **fields: Any) -> Self:
        """A bundle in memory; preprocessing defaults to the original's for that family."""
        config = model.config
        lit = isinstance(config, LiTConfig)
        images = images or (ImageSpec.lit if lit else ImageSpec.original)(config.image_size)
        if isinstance(config, LiTConfig) and "text" not in fields:
            tokenizer: Any = "wordpiece" if config.text.kind == "bert" else "sentencepiece"
            fields["text"] = TextSpec(tokenizer=tokenizer, length=config.text.length, vocabulary=config.text.vocabulary)
        fields.setdefault("provenance", Provenance(source="created in memory"))
        return cls(config=config, images=images, _model=model.eval(), **fields)

    @property
    def where(self) -> str:
        """What messages call it: its folder, or its source."""
        return str(self.folder or self.provenance.source)

    @property
    def classes(self) -> int:
        """Number of logits; 0 for LiT and for models without a head."""
        return 0 if isinstance(self.config, LiTConfig) else self.config.classes

    @property
    def model(self) -> Model:
        """The torch module in eval mode: (batch, 3, height, width) float32 in the range of `images` -> logits.

        Read on first use, when the golden examples are also checked. Raises BundleError for an exported bundle.
        """
        if self._model is None:
            if self.program != "torch" or self.folder is None:
                raise BundleError(
                    f"{self.where} holds an exported program (model.{self.program}), not torch weights: "
                    "use vitsmith.Predictor(bundle)"
                )
            from vitsmith.weights.bundle_folder import read_weights

            self._model = read_weights(self)
            try:
                self.check_golden(self.run_torch)
            except BaseException:
                self._model = None  # or the next access would give it unchecked
                raise
        return self._model

    def run_torch(self, tensors: Array) -> Array:
        """float32 (batch, 3, height, width) -> logits, or image embeddings for LiT, as NumPy arrays."""
        import torch

        from vitsmith.models.lit import LiT

        model = self.model
        with torch.inference_mode():
            images = torch.from_numpy(tensors).to(next(model.parameters()).device)
            outputs = model.encode_image(images) if isinstance(model, LiT) else model(images)
        array: Array = outputs.float().cpu().numpy()
        return array

    def with_golden(self, images: Sequence[Array]) -> Self:
        """The same bundle with golden examples made from uint8 RGB images by its torch model."""
        return replace(self, golden=make_golden(images, self.images, self.run_torch))

    def check_golden(self, run: Any) -> None:
        """Raises BundleError unless preprocessing and `run` give the golden tensors and outputs."""
        if self.golden is not None:
            self.golden.check_inputs(self.images, self.where)
            self.golden.check_outputs(run(self.golden.tensors), self.where)

    def measured(self, *measurements: Measurement) -> Self:
        """The same bundle with more measurements; a newer one of the same name and data takes the older one's place."""
        new = {(one.name, one.data, one.machine) for one in measurements}
        kept = [one for one in self.measurements if (one.name, one.data, one.machine) not in new]
        return replace(self, measurements=(*kept, *measurements))

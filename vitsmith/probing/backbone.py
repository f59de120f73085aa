"""A model as a source of frozen features: what it gives for an image, the engine that computes it, and its identity.

N images, D features, E width of embeddings, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn

from vitsmith.arguments import known_name
from vitsmith.arrays import Array
from vitsmith.engines.open import open_program
from vitsmith.engines.protocol import Engine
from vitsmith.engines.registry import ENGINES, precisions_of
from vitsmith.engines.tuning_cache import code_state, installed_version, program_hash
from vitsmith.errors import InputError
from vitsmith.json_text import to_json
from vitsmith.layers.unit import normalize
from vitsmith.models.build import ImageModel
from vitsmith.models.config import LiTConfig
from vitsmith.models.isolation import isolated
from vitsmith.models.lit import LiT
from vitsmith.probing.kinds import BOTH, FeatureChoice, Kind, kinds_of, kinds_of_program, tower_of, with_program
from vitsmith.specs import ImageSpec
from vitsmith.version import __version__
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.finetune import adapt
from vitsmith.weights.load import without_head as headless
from vitsmith.weights.torch_model import without_head

_COMPUTING = ("data", "engines", "layers", "models", "probing", "weights")
"""The folders whose code decides what a feature is."""


@dataclass(frozen=True, eq=False)
class Backbone:
    """A model without its head. Weights are read, and the engine is opened, when the first image needs them.

    Torch weights give features for which `classifier` makes a model with a head. An exported program gives what it was
    exported with, and no model: `torch` is False.
    """

    name: str
    """The model as the user named it."""
    bundle: Bundle
    """The model as it was loaded, with any head of its own."""
    kinds: tuple[Kind, ...]
    """The kinds of features that one pass over the images gives: the last one holds the others."""
    engine_name: str
    precision: str
    torch: bool

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        name: str = "",
        *,
        features: FeatureChoice = "auto",
        engine: str = "auto",
        precision: str = "auto",
    ) -> Backbone:
        """The backbone of a model. Raises InputError for one that has no feature for a whole image, and for an engine
        that does not give what was asked for."""
        known_name(features, "kind of features", get_args(FeatureChoice))
        known_name(engine, "engine", ("auto", *ENGINES))
        bundle.check_preprocessing()
        bundle, is_torch = with_program(bundle, engine)
        bundle = bundle if is_torch or bundle.program == "torch" else headless(bundle)
        kinds = kinds_of(bundle, features) if is_torch else kinds_of_program(bundle, features)
        return cls(name or bundle.where, bundle, kinds, engine, precision, is_torch)

    @property
    def spec(self) -> ImageSpec:
        """The preprocessing of its images."""
        return self.bundle.preprocessing

    @property
    def kind(self) -> Kind:
        """What one pass over the images gives."""
        return self.kinds[-1]

    @property
    def reads_text(self) -> bool:
        """Whether it has a text tower and the vocabulary of one."""
        return isinstance(self.bundle.config, LiTConfig) and self.bundle.vocabulary is not None

    @property
    def rounded(self) -> bool:
        """Whether its features are computed in another precision than float32."""
        return self.torch_precision != "fp32"

    def open(self) -> Engine:
        """The engine that gives the features of `kind`. Raises as `open_engine`."""
        bundle = self._torch_bundle() if self.torch else self.bundle
        return open_program(bundle, self.engine_name, precision=self.precision)[1]

    def opener(self) -> LazyEngine:
        """The engine, which is opened when the first image needs it.

        For an exported program it is opened now: which engine runs decides its features' name in the cache.
        """
        opened = LazyEngine(self.open)
        if not self.torch:
            _ = opened.engine
        return opened

    def arithmetic(self, opener: LazyEngine) -> str:
        """What computes the features: 'torch fp32'."""
        if not self.torch:
            return f"{opener.engine.name} {opener.engine.precision}"
        name = "torch" if self.engine_name == "auto" else self.engine_name
        return f"{name} {self.torch_precision}"

    def cache_name(self, opener: LazyEngine) -> str:
        """A name that is equal for equal features of equal images: model, preprocessing, kind, arithmetic, device and
        code.

        Another version of vitsmith, of the libraries that decode images, of the engine, or a GPU computes them anew.
        """
        arithmetic = self.arithmetic(opener)
        packages = ("pillow", "simplejpeg", "numpy", ENGINES[arithmetic.split()[0]].package)
        described = {
            "model": self.bundle.identity if self.torch else program_hash(self.bundle),
            "preprocessing": self.spec.model_dump(mode="json"),  # some of it is not in an identity: scaled decoding
            "kind": self.kind,
            "arithmetic": arithmetic,
            "vitsmith": __version__,
            "device": _device(),
            "code": code_state(folders=_COMPUTING),
            "packages": {package: installed_version(package) for package in packages},
        }
        return hashlib.sha256(to_json(described, sort_keys=True, ascii_only=True).encode()).hexdigest()[:40]

    def part(self, features: Tensor, kind: Kind) -> Tensor:
        """(N, D) features of one of `kinds`, of those that the pass gave."""
        pooling = getattr(tower_of(self.bundle), "pooling", "")
        if kind == self.kind or pooling == BOTH:
            return features
        half = features.shape[1] // 2
        return features[:, half:] if pooling == "gap" else features[:, :half]

    def embeddings(self, features: Tensor) -> Tensor:
        """(N, E) unit vectors that compare with those of texts, from the features of the pass. For models that read
        texts. Raises InputError for a tower of two heads, whose answers cannot be had from the mean of their inputs."""
        pooled = self.part(features, "pooled")
        if not self.torch:  # a program gives them as they are
            return normalize(pooled)
        model = self.bundle.model
        assert isinstance(model, LiT)
        tower = model.image
        if tower.distillation_head is not None:
            raise InputError(
                f"{self.bundle.where} has a distillation token: its features are the mean of two tokens, and its "
                "embeddings cannot be had from it: `vitsmith zeroshot` runs the whole model"
            )
        with isolated(inference=True):
            device = next(tower.parameters()).device
            return normalize(tower.answer(pooled.to(device))).cpu().clone()

    def classifier(self, kind: Kind, weight: Tensor, bias: Tensor) -> ImageModel:
        """The model with a linear head, weight (K, D) and bias (K,), on features of `kind`, in eval mode.

        Its arrays are those of `bundle.model`, not copies. A model with two heads gets the same twice: their mean is
        then the answer for the mean of their inputs, which is the pooled feature.
        """
        model, _ = adapt(self.bundle.model, classes=len(weight), **self._pooling(kind))
        for head in (model.head, getattr(model, "distillation_head", None)):
            if isinstance(head, nn.Linear):
                head.weight = nn.Parameter(weight.detach().clone().float())
                head.bias = nn.Parameter(bias.detach().clone().float())
        return model.requires_grad_(False).eval()

    def _torch_bundle(self) -> Bundle:
        """The image tower without its head, whose output is the features of `kind`."""
        model, _ = adapt(self.bundle.model, classes=1, **self._pooling(self.kind))
        bare = without_head(model).eval()
        provenance = self.bundle.provenance.model_copy(update={"source": self.name})  # its name in messages
        return Bundle.of(bare, preprocessing=self.spec, provenance=provenance)

    def _pooling(self, kind: Kind) -> dict[str, Any]:
        config = tower_of(self.bundle)
        return {"pooling": BOTH} if kind == "class_and_mean" and config.pooling != BOTH else {}

    @property
    def torch_precision(self) -> str:
        """The precision in which torch computes the features: 'fp32'."""
        return precisions_of(self.bundle, "torch")[0] if self.precision == "auto" else self.precision


class LazyEngine:
    """An engine that is opened when it is first run."""

    def __init__(self, opening: Callable[[], Engine]) -> None:
        self._opening = opening
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The open engine."""
        if self._engine is None:
            self._engine = self._opening()
        return self._engine

    @property
    def opened(self) -> bool:
        return self._engine is not None

    def run(self, images: Array) -> Array:
        """As `Engine.run`."""
        return self.engine.run(images)


def _device() -> str:
    """What torch, and the programs of engines that can, compute on: 'cpu', or the name of the GPU."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"

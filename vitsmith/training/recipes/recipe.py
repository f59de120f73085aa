"""A training run as one frozen description. The defaults are the original's fine-tuning of small data sets.

Each section is a table of a recipe file (`vitsmith/recipes/*.toml`), each field can be set on the command line as
`--set section.field=value`. The whole recipe is checked here, before anything is read or computed.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator

from vitsmith.data.augment.settings import AugmentSpec
from vitsmith.data.sets.datasets import DataSpec
from vitsmith.errors import ConfigError, InputError, suggestion
from vitsmith.fields import Finite, Frozen, Number, Pixels, mistakes_in
from vitsmith.models.config import MixerConfig, ViTConfig
from vitsmith.models.configure import configure
from vitsmith.training.schedule import Decay
from vitsmith.weights.options import check_choices

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), Number]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), Number]
Share = Annotated[float, Field(ge=0, lt=1), Number]
Steps = Annotated[int, Field(gt=0, le=1_000_000_000), Number]
Count = Annotated[int, Field(ge=0, le=1_000_000_000), Number]
Batch = Annotated[int, Field(gt=0, le=1_048_576), Number]
Seed = Annotated[int, Field(ge=0, lt=2**63), Number]
"""The range that torch takes."""
Threads = Annotated[int, Field(gt=0, le=1_024), Number]
Passes = Annotated[float, Field(gt=0, le=1_000_000), Number]


def _known_choices(given: dict[str, str]) -> dict[str, str]:
    try:
        check_choices(given, "choice")
    except InputError as error:
        raise ValueError(str(error)) from None
    return given


ReadAs = Annotated[dict[str, str], AfterValidator(_known_choices)]
"""Arguments of `load` for a checkpoint that others read in another way."""

_ELSEWHERE = {
    "image_size": "set model.image_size",
    "classes": "the data decide",
    "family": "model.name or model.init decides",
    "name": "set model.name",
    "device": "the launcher decides",
}
"""Fields that must not be in `model.config`, and where they belong."""
_ADAPTING = ("positions", "keep_representation")
"""Arguments of `init_for_finetune` beside the fields of a configuration."""

_TWO_CLASSES = 2  # the least any data set has; how many there really are does not change whether a model is possible


class ModelSpec(Frozen):
    """What is trained, and where its weights come from."""

    init: str = Field("", description="checkpoint, bundle or published name to start from; empty: fresh weights")
    name: str = Field("", description="architecture; with init it may be empty, else init must be of this one")
    init_size: tuple[Pixels, Pixels] | None = Field(
        None, description="(height, width) of the images that init was trained on, where its arrays do not show them"
    )
    read_as: ReadAs = Field(
        {}, description="how to read init where others read its arrays in another way: gelu='quick'"
    )
    image_size: Pixels | None = Field(None, description="pixels a side; default: the model's own")
    config: dict[str, Any] = Field({}, description="fields of the model's configuration to change, such as dropout=0.1")
    freeze: tuple[str, ...] = Field(
        (), description="patterns of parameters that are not trained: 'patches.*', or '*' for all but the head"
    )
    head_bias: Finite = Field(0.0, description="bias of a fresh head; about -10 for sigmoid and thousands of classes")
    head_std: NotNegative = Field(
        0.0,
        description="deviation of a fresh head's weights; 0 is the original's, for trained encoders and long "
        "pre-training; a small model that starts from nothing learns sooner with 0.1",
    )
    position_std: Positive = Field(
        0.02,
        description="deviation of fresh position embeddings; 0.02 is the original's, for long pre-training; "
        "a small model on little data learns positions far sooner with 1",
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not self.name and not self.init:
            raise ValueError(
                "give `model`, weights to fine-tune, or `arch`, an architecture to train from random weights (in a "
                "recipe: model.init or model.name)"
            )
        if reason := self._wrong_fields():
            raise ValueError(reason)
        if self.name and not self.init:
            try:
                configure(self.name, classes=_TWO_CLASSES, image_size=self.image_size, **self.config)
            except InputError as error:
                raise ValueError(str(error)) from error
        return self

    def _wrong_fields(self) -> str:
        """The fields of `config` that do not belong there. The family of a checkpoint is not known yet."""
        told = [f"config.{field}: {where}" for field, where in _ELSEWHERE.items() if field in self.config]
        if self.init:
            known = (*ViTConfig.model_fields, *MixerConfig.model_fields, *_ADAPTING)
            unknown = [field for field in self.config if field not in (*known, *_ELSEWHERE)]
            told += [f"config: unknown field {field!r}: {suggestion(field, known)}" for field in unknown]
        return "; ".join(told)


class OptimizerSpec(Frozen):
    """How gradients become updates."""

    name: Literal["sgd", "adamw"] = Field("sgd", description="SGD with momentum as the original's, or AdamW")
    lr: Positive = Field(0.03, description="highest learning rate, reached after the warm-up")
    momentum: Share = Field(0.9, description="sgd: share of the last update that is carried on")
    momentum_dtype: Literal["bfloat16", "float32"] = Field(
        "bfloat16", description="sgd: how the momentum is kept; bfloat16 takes half the memory"
    )
    betas: tuple[Share, Share] = Field((0.9, 0.999), description="adamw: decay of the two running means")
    eps: Positive = Field(1e-8, description="adamw: added to the divisor")
    weight_decay: NotNegative = Field(
        0.0, description="decoupled, a share of the learning rate; never on biases, norms, class token or positions"
    )
    layer_decay: Finite = Field(
        1.0, gt=0, le=1, description="learning rate of each block as a share of the next one's; 0.65 to 0.75 after MAE"
    )
    clip: NotNegative = Field(
        1.0, description="largest global norm of the gradients, scaled down to it if larger; 0: none"
    )
    sharpness: Literal["none", "sam", "gsam"] = Field(
        "none", description="seek flat minima (two gradients an update): SAM arXiv 2010.01412, GSAM arXiv 2203.08065"
    )
    rho: Positive = Field(0.05, description="sam, gsam: length of the step uphill; gsam's highest")
    rho_min: NotNegative = Field(0.0, description="gsam: length of the step uphill where the learning rate is 0")
    alpha: NotNegative = Field(0.4, description="gsam: weight of the surrogate gap")
    ema: Share = Field(
        0.0, description="decay of a running mean of the weights, which is then evaluated and kept; 0: none"
    )


class ScheduleSpec(Frozen):
    """The length of a run, and its learning rates."""

    steps: Steps = Field(500, description="number of updates")
    epochs: Passes | None = Field(None, description="passes over the training images, in place of steps")
    warmup: Count = Field(100, description="updates over which the learning rate rises from 0")
    warmup_epochs: Passes | None = Field(None, description="passes over the training images, in place of warmup")
    decay: Decay = Field("cosine", description="how the learning rate falls: 'cosine' to 0, 'linear' to 1e-5")

    @model_validator(mode="after")
    def _warm_up_is_shorter(self) -> Self:
        if self.epochs is None and self.warmup_epochs is None and self.warmup >= self.steps:
            raise ValueError(
                f"warmup of {self.warmup} must be shorter than the run of {self.steps} steps: shorten it "
                f"too, with schedule.warmup={self.steps // 10} (--set on the command line) or schedule.warmup_epochs"
            )
        return self

    def in_updates(self, images: int, batch: int) -> Self:
        """The same schedule with passes over `images` training images turned into updates of `batch` images.

        Raises ConfigError when the warm-up turns out longer than the run.
        """
        changes: dict[str, Any] = {"epochs": None, "warmup_epochs": None}
        for field, epochs in (("steps", self.epochs), ("warmup", self.warmup_epochs)):
            if epochs is not None:
                changes[field] = max(math.ceil(epochs * images / batch), 1)
        try:
            return type(self).model_validate(self.model_dump() | changes)
        except ValidationError as error:
            counted = (
                f"; {self.epochs:g} x {images:,} training images in batches of {batch:,} make no more updates: "
                "a smaller `batch_size` makes more"
            )
            told = counted if "warmup" in str(error) and "steps" in changes else ""
            raise ConfigError(f"schedule: {mistakes_in(error)}{told}") from None


class BatchSpec(Frozen):
    """The images of an update, on any number of devices."""

    size: Batch = Field(512, description="images an update, over all devices together")
    micro: Batch | None = Field(
        None, description="images computed at once on one device; default: as many as fit into memory"
    )
    checkpointing: Literal["auto", "on", "off"] = Field(
        "auto", description="compute activations again for the backward pass: less memory, a third more time"
    )

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.micro and self.size % self.micro:
            raise ValueError(f"a batch of {self.size} is no multiple of micro = {self.micro}: change one of them")
        return self


class LossSpec(Frozen):
    """The loss that is minimised."""

    kind: Literal["softmax", "sigmoid"] = Field(
        "softmax", description="cross-entropy over classes that exclude each other, or for each class by itself"
    )
    smoothing: Share = Field(0.0, description="label smoothing: share of the target spread over all classes")


class DistillSpec(Frozen):
    """A teacher, and how the student learns from its answers."""

    teacher: str = Field(description="bundle, checkpoint or published name with the same classes")
    teacher_size: tuple[Pixels, Pixels] | None = Field(
        None, description="(height, width) of the teacher's images, where the arrays of a checkpoint do not show them"
    )
    teacher_read_as: ReadAs = Field({}, description="how to read the teacher, as model.read_as")
    kind: Literal["soft", "deit-soft", "deit-hard"] = Field(
        "soft",
        description="'soft': the head learns the teacher's probabilities (arXiv 2106.05237); 'deit-soft', 'deit-hard': "
        "a second token and head do, from its probabilities or its answer (arXiv 2012.12877)",
    )
    temperature: Positive = Field(1.0, description="softens both sides of the comparison")
    weight: Finite | None = Field(
        None, ge=0, le=1, description="share of the teacher in the loss, the labels have the rest; default 1, deit: 0.5"
    )


class CourseSpec(Frozen):
    """How any run is carried out. Except for the seed, it changes only rounding and what dropout draws."""

    seed: Seed = Field(0, description="decides fresh weights, split, order, crops and dropout")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="arithmetic of the model; weights stay float32")
    workers: Threads | None = Field(None, description="threads that read images; default: one a core, at most 16")
    eval_every: Count = Field(100, description="updates between evaluations; 0: only after the last")
    checkpoint_every: Count = Field(200, description="updates between checkpoints; 0: only when interrupted")
    keep_checkpoints: Steps = Field(2, description="checkpoints kept; older ones are deleted")


class RunSpec(CourseSpec):
    """How a run of `train` is carried out."""

    parallel: Literal["auto", "ddp", "fsdp"] = Field(
        "auto", description="several processes: whole copies (ddp) or weights in shards (FSDP2); auto: as launched"
    )
    compile: bool = Field(False, description="torch.compile: slower to start, faster on GPUs")
    baseline: bool = Field(True, description="first score a linear probe and k-NN on the features that init gives")
    tensorboard: bool = Field(False, description="also write events for TensorBoard into the run's folder")


class AnyBatch(Protocol):
    """What the recipes of all kinds of training say of a batch."""

    @property
    def size(self) -> int: ...


class AnyRecipe(Protocol):
    """The sections that the recipes of all kinds of training have."""

    @property
    def batch(self) -> AnyBatch: ...
    @property
    def optimizer(self) -> OptimizerSpec: ...
    @property
    def schedule(self) -> ScheduleSpec: ...
    @property
    def run(self) -> CourseSpec: ...


class TrainRecipe(Frozen):
    """Everything that decides a training run, except the images themselves."""

    data: DataSpec
    model: ModelSpec
    augment: AugmentSpec = AugmentSpec()
    batch: BatchSpec = BatchSpec()
    loss: LossSpec = LossSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    distill: DistillSpec | None = None
    run: RunSpec = RunSpec()

    @field_validator("distill")
    @classmethod
    def _heads_that_teach(cls, distill: DistillSpec | None, info: ValidationInfo) -> DistillSpec | None:
        loss = info.data.get("loss")
        if distill is not None and loss is not None and loss.kind == "sigmoid" and distill.kind != "soft":
            raise ValueError(
                f"{distill.kind} is for classes that exclude each other: with loss.kind = sigmoid take soft"
            )
        return distill

    @field_validator("batch")
    @classmethod
    def _pairs_stay_together(cls, batch: BatchSpec, info: ValidationInfo) -> BatchSpec:
        augment = info.data.get("augment")
        if augment is not None and augment.mixup_alpha and (batch.size % 2 or (batch.micro or 2) % 2):
            raise ValueError("mixup mixes pairs of neighbours: size and micro must be even")
        return batch

"""A training run as one frozen description. The defaults are the original's fine-tuning of small data sets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from vitsmith.data.augment import AugmentSpec
from vitsmith.errors import ConfigError, InputError
from vitsmith.models.configure import configure
from vitsmith.specs import Frozen, PositiveInt
from vitsmith.train.schedule import Decay

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]

_TWO_CLASSES = 2  # the least any data set has; how many there really are does not change whether a model is possible


class TrainRecipe(Frozen):
    """Everything that decides a training run, but for the images themselves."""

    # The order matters: a field is checked against those above it.
    data: str = Field(description="the data set: a folder with one sub-folder a class, or 'digits'")
    init_from: str = Field("", description="checkpoint, bundle or published name to start from; empty: fresh weights")
    model: str = Field("", description="architecture; with init_from it may be left empty, or is what must be found")
    image_size: PositiveInt | None = Field(None, description="pixels a side; None: the model's own")
    overrides: dict[str, Any] = Field({}, description="fields of the model's configuration to change, as dropout=0.1")
    steps: PositiveInt = Field(500, description="number of updates")
    warmup_steps: Count = Field(100, description="updates over which the learning rate rises from 0")
    batch: PositiveInt = Field(512, description="images an update")
    accumulate: PositiveInt = Field(8, description="equal slices a batch is computed in, to save memory")
    learning_rate: Positive = Field(0.03, description="highest learning rate, reached after the warm-up")
    decay: Decay = Field("cosine", description="how the learning rate falls: 'cosine' to 0, 'linear' to 1e-5")
    position_std: Positive = Field(
        0.02,
        description="deviation of fresh position embeddings; 0.02 is the original's, for long pre-training; "
        "a small model on little data learns where things are far sooner with 1",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="share of the last update that is carried on")
    momentum_dtype: Literal["bfloat16", "float32"] = Field(
        "bfloat16", description="how the momentum is kept: bfloat16 takes half the memory"
    )
    clip: Positive = Field(1.0, description="longest joint gradient; longer ones are scaled down to it")
    augmentation: AugmentSpec = Field(AugmentSpec(), description="random crop and mirroring of training images")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="arithmetic of the model; weights stay float32")
    eval_every: Count = Field(100, description="updates between evaluations; 0: only after the last")
    val_fraction: float = Field(
        0.2, gt=0, lt=1, description="share of each class to hold out when the data set has no split of its own"
    )
    seed: Count = Field(0, description="decides fresh weights, split, order, crops and dropout")

    @field_validator("model")
    @classmethod
    def _model_or_checkpoint(cls, model: str, info: ValidationInfo) -> str:
        if not model and not info.data.get("init_from"):
            raise ValueError("name an architecture, or a checkpoint in init_from")
        return model

    @field_validator("overrides")
    @classmethod
    def _possible_model(cls, overrides: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        model, size = info.data.get("model"), info.data.get("image_size")
        if model and not info.data.get("init_from"):
            try:
                configure(model, classes=_TWO_CLASSES, image_size=size, **overrides)
            except InputError as error:
                raise ValueError(str(error)) from error
        return overrides

    @field_validator("warmup_steps")
    @classmethod
    def _shorter_than_run(cls, warmup: int, info: ValidationInfo) -> int:
        steps = info.data.get("steps")
        if steps is not None and warmup >= steps:
            raise ValueError(f"the warm-up must be shorter than the run of {steps} steps")
        return warmup

    @field_validator("accumulate")
    @classmethod
    def _equal_slices(cls, accumulate: int, info: ValidationInfo) -> int:
        batch = info.data.get("batch")
        if batch is not None and batch % accumulate:
            raise ValueError(f"a batch of {batch} cannot be cut into {accumulate} equal slices: change one of them")
        return accumulate


def parse_recipe(fields: dict[str, Any]) -> TrainRecipe:
    """A checked recipe from plain data, such as a TOML file. Raises ConfigError with every mistake in one line."""
    try:
        return TrainRecipe.model_validate(fields)
    except ValidationError as error:
        mistakes = [
            f"{'.'.join(str(part) for part in mistake['loc'])}: {mistake['msg'].removeprefix('Value error, ')}"
            for mistake in error.errors()
        ]
        raise ConfigError("recipe: " + "; ".join(mistakes)) from None

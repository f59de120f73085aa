"""A run of `vitsmith lit` as one frozen description. The defaults are those of the original's lit_coco.py.

Source: big_vision/configs/proj/image_text/lit_coco.py of google-research/big_vision, beside arXiv 2111.07991.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from vitsmith.data.augment.settings import AugmentSpec
from vitsmith.data.sets.pairs import PairSpec
from vitsmith.fields import Finite, Frozen, Pixels
from vitsmith.models.parts import Depth, Hidden, Length, Pieces, Width, indivisible_heads
from vitsmith.models.presets import VIT_SIZES
from vitsmith.training.recipes.recipe import Batch, CourseSpec, OptimizerSpec, Positive, ReadAs, ScheduleSpec, Steps

LEARNT = "learnt"
"""The value of `text.vocabulary` when the pieces are learnt from the captions."""

_OWN = ("kind", "size", "width", "depth", "heads", "mlp_width", "length", "lower_case", "pieces")


class ImageTowerSpec(Frozen):
    """The image tower, which is not trained."""

    init: str = Field(
        description="--model on the command line: a ViT or hybrid (a bundle, a checkpoint or a published name), or a "
        "LiT model, whose image tower is taken"
    )
    init_size: tuple[Pixels, Pixels] | None = Field(
        None, description="(height, width) of its images, where the arrays of a checkpoint do not show them"
    )
    read_as: ReadAs = Field(
        {}, description="how to read init where others read its arrays in another way: gelu='quick'"
    )
    batch: Batch = Field(64, description="images embedded at once")
    kept: Literal["float32", "float16"] = Field("float32", description="how embeddings are kept on disk")
    store: str = Field(
        "", description="folder that keeps the embeddings for other runs; default: the run's, until it is done"
    )


class TextTowerSpec(Frozen):
    """The text tower, its vocabulary, and where its weights come from."""

    init: str = Field("", description="LiT model whose text tower to start from; empty: fresh weights")
    read_as: ReadAs = Field({}, description="how to read init, as image.read_as")
    kind: Literal["bert", "transformer"] | None = Field(
        None, description="BERT (first token pooled), the default, or a plain transformer (last token pooled)"
    )
    size: str = Field("", description="a released size: " + ", ".join(VIT_SIZES))
    width: Width | None = Field(None, description="in place of the size's")
    depth: Depth | None = Field(None, description="blocks, in place of the size's")
    heads: Width | None = Field(None, description="attention heads, in place of the size's")
    mlp_width: Hidden | None = Field(None, description="in place of the size's; without a size 4 times the width")
    length: Length | None = Field(None, description="tokens read of each caption; default 16")
    vocabulary: str = Field(
        "",
        description="a WordPiece .txt, a SentencePiece .model, or 'learnt' from the captions; default: that of init, "
        "else learnt",
    )
    pieces: Pieces | None = Field(None, description="most pieces of a learnt vocabulary; default 8000")
    lower_case: bool | None = Field(None, description="default: yes for WordPiece, no for SentencePiece")
    templates: str = Field(
        "",
        description="prompts for labels: clip, lit, simple, a file, or one with {}; default: those of init, else lit",
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.init:
            own = [name for name in _OWN if getattr(self, name) not in (None, "")]
            if own:
                raise ValueError(f"the tower of init is complete: leave {', '.join(own)} out")
            if self.vocabulary == LEARNT:
                raise ValueError("a tower from init knows its own pieces: leave vocabulary out, or give its file")
            return self
        if self.size and self.size not in VIT_SIZES:
            raise ValueError(f"unknown size {self.size!r}: {', '.join(VIT_SIZES)}")
        if not self.size and not (self.width and self.depth and self.heads):
            raise ValueError("give init, or size, or width, depth and heads")
        width, _, heads, _ = self.shape
        if reason := indivisible_heads(width, heads):
            raise ValueError(reason)
        return self

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Width, depth, heads and MLP width of a fresh tower."""
        width, depth, heads, mlp_width = VIT_SIZES.get(self.size, (0, 0, 0, 0))
        own = self.width or width
        usual = mlp_width if own == width else 4 * own
        return own, self.depth or depth, self.heads or heads, self.mlp_width or usual


class ContrastSpec(Frozen):
    """The loss that is minimised."""

    kind: Literal["softmax", "sigmoid"] = Field(
        "softmax", description="each pair against all others of the batch (CLIP), or each by itself (SigLIP)"
    )
    temperature: Positive = Field(10.0, description="factor of the cosines at the start; it is learnt")
    max_temperature: Positive = Field(100.0, description="highest temperature (CLIP, arXiv 2103.00020 section 2.5)")
    bias: Finite = Field(-10.0, description="sigmoid: added to the logits at the start; it is learnt")
    skip_equal: bool = Field(
        True, description="two images whose captions have the same tokens are not negatives of each other"
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.temperature > self.max_temperature:
            raise ValueError(f"temperature {self.temperature:g} is above max_temperature {self.max_temperature:g}")
        return self


class PairBatchSpec(Frozen):
    """The pairs of an update, on any number of devices."""

    size: Batch = Field(4096, description="pairs an update, over all devices together")
    micro: Batch | None = Field(
        None, description="captions computed at once on one device, the result is the same; default: what fits"
    )
    block: Batch = Field(1024, description="rows and columns of logits computed at once")


class LitRunSpec(CourseSpec):
    """How a run of `lit` is carried out."""

    judged_pairs: Steps = Field(
        5000, description="most held-out pairs to measure recall among; of more, so many are chosen evenly"
    )


class LitRecipe(Frozen):
    """Everything that decides a run, except the images and captions themselves."""

    data: PairSpec
    image: ImageTowerSpec
    text: TextTowerSpec
    loss: ContrastSpec = ContrastSpec()
    augment: AugmentSpec | None = None
    batch: PairBatchSpec = PairBatchSpec()
    optimizer: OptimizerSpec = OptimizerSpec(name="adamw", lr=0.001)
    schedule: ScheduleSpec = ScheduleSpec(steps=5000, warmup=150)
    run: LitRunSpec = LitRunSpec()

    @field_validator("augment")
    @classmethod
    def _one_caption_an_image(cls, augment: AugmentSpec | None) -> AugmentSpec | None:
        if augment is not None and augment.mixup_alpha:
            raise ValueError("a mixture of two images has no caption: set augment.mixup=0")
        return augment

    @field_validator("optimizer")
    @classmethod
    def _one_gradient(cls, optimizer: OptimizerSpec, info: ValidationInfo) -> OptimizerSpec:
        for field, usual in (("sharpness", "none"), ("layer_decay", 1.0)):
            if getattr(optimizer, field) != usual:
                raise ValueError(f"{field} is for image models: leave it at {usual}")
        return optimizer


def without_fresh(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A recipe's fields without those of a fresh text tower, if the changes name a tower to start from."""
    text = base.get("text")
    if not isinstance(text, dict) or not changes.get("text", {}).get("init"):
        return base
    kept = {name: value for name, value in text.items() if name not in (*_OWN, "vocabulary")}
    return base | {"text": kept}

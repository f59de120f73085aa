"""What happened in a run of `lit`."""

from __future__ import annotations

from dataclasses import dataclass

from vitsmith.training.monitor.events import LitEvaluation, StepDone, Warned


@dataclass(frozen=True, repr=False)
class LitResult:
    """All that happened in a run. The model holds the weights of the last update, or their running mean."""

    history: tuple[StepDone, ...]
    evaluations: tuple[LitEvaluation, ...]
    warnings: tuple[Warned, ...]

    def __str__(self) -> str:
        final, updates = self.final, f"{len(self.history):,} updates"
        recall = f"image to text {final.image_to_text[1]:.2%}, text to image {final.text_to_image[1]:.2%}"
        return f"{updates}, held-out recall@1: {recall}, on {final.num_images:,} images"

    def __repr__(self) -> str:
        return f"<LitResult {self}>"

    @property
    def final(self) -> LitEvaluation:
        return self.evaluations[-1]

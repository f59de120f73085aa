"""Warns about a run that goes wrong without an error, with the setting to change and its present value.

Only events are looked at, so a finished run can be checked again from its metrics. Needless warnings are soon ignored:
each limit is far from what two healthy runs on digits reach, which are recorded in the tests.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from vitsmith.data.augment.settings import GRADES
from vitsmith.errors import NOT_FINITE
from vitsmith.training.monitor.events import Evaluated, StepDone
from vitsmith.training.recipes.recipe import AnyRecipe, TrainRecipe

RECENT = 50
"""Updates that a new one is compared with."""
AGAIN = 200
"""Updates before the same warning is repeated."""

_ENOUGH = 20  # updates before a median means anything
_SPIKE = 5  # deviations above the median. Digits, batches of 8 and 64: 3.4 at most where the loss rises by a third
_DEVIATION = 1.4826  # of a normal distribution, in median absolute deviations
_ONE_IMAGE = 16.0  # nats: what one wrongly labelled image costs, a probability of 1e-7; in a small batch it is no spike
_HUGE = 5  # times the largest recent gradient. Digits: 2 at most, 30 just before a run broke down
_STILL = 0.98  # of the first loss: above it nothing was learnt
_PATIENCE = 100  # updates after the warm-up, or a tenth of the run, before a loss must have fallen
_ZEROS = 5  # updates in a row without a learning rate; a warm-up begins with one
_TWICE = 2  # evaluations in a row
_END = 0.99  # of the run: float32 rounds the last rates of a long cosine to 0
_WAITING = 0.3  # share of the time

_Finding = tuple[str, str]  # its kind, and the message


def diverged(step: int, loss: float, norm: float, recipe: AnyRecipe) -> str:
    """The message when the loss or the gradients of update number `step` (1 is the first) are not finite."""
    return f"training diverged at step {step} (loss {loss:g}, gradient norm {norm:g}): {_remedy(recipe)}"


def answers_diverged(step: int, recipe: AnyRecipe) -> str:
    """The message when the model's answers on held-out data are not finite after `step` updates."""
    return f"training diverged by step {step} (the model's answers are {NOT_FINITE}): {_remedy(recipe)}"


def _remedy(recipe: AnyRecipe) -> str:
    advice = [f"lower optimizer.lr (now {recipe.optimizer.lr:g})", f"raise schedule.warmup ({_warmup(recipe)})"]
    if not recipe.optimizer.clip:
        advice.append("set optimizer.clip to 1 (now 0: gradients are not clipped)")
    if recipe.run.precision == "bf16":
        advice.append("set run.precision to 'fp32' (now 'bf16')")
    return _either(advice)


class Watches:
    """Takes the events of one run in order, and returns warnings.

    Args:
        recipe: the run's; `schedule.steps` is the number of updates, also where epochs are counted.
        classes: their names, in the order of the logits; without them a class is called by its number.

    For a resumed run, give it the earlier events first and drop their messages. A warning is given once, and again
    after 200 updates if it still holds.
    """

    def __init__(self, recipe: TrainRecipe, *, classes: Sequence[str] = ()) -> None:
        self._recipe = recipe
        self._steps = recipe.schedule.steps
        self._classes = classes
        self._recent: deque[StepDone] = deque(maxlen=RECENT)  # without the update that is looked at
        self._first_loss: float | None = None
        self._largest_norm = 0.0
        self._zeros = 0
        self._lower = 0
        self._best: tuple[Evaluated, float] | None = None  # with the training loss of its time
        self._told: dict[str, int] = {}

    def on_event(self, event: StepDone | Evaluated) -> list[str]:
        """Messages about this event, most often none."""
        found = list(self._look_at_scores(event) if isinstance(event, Evaluated) else self._look_at_step(event))
        new = [(kind, message) for kind, message in found if event.step - self._told.get(kind, -AGAIN) >= AGAIN]
        self._told.update((kind, event.step) for kind, _ in new)
        return [message for _, message in new]

    def _look_at_step(self, done: StepDone) -> Iterator[_Finding]:
        if not (math.isfinite(done.loss) and math.isfinite(done.gradient_norm)):
            yield "diverged", diverged(done.step, done.loss, done.gradient_norm, self._recipe)
            return  # it must not enter the medians
        if done.step == 1:
            self._first_loss = done.loss
        yield from self._loss_spike(done)
        yield from self._huge_gradient(done)
        self._recent.append(done)
        self._largest_norm = max(self._largest_norm, done.gradient_norm)
        yield from self._not_learning(done)
        yield from self._no_rate(done)
        yield from self._waiting(done)

    def _look_at_scores(self, evaluated: Evaluated) -> Iterator[_Finding]:
        yield from self._one_class(evaluated)
        yield from self._overfitting(evaluated)

    def _loss_spike(self, done: StepDone) -> Iterator[_Finding]:
        """A loss far above the recent ones: by more than half of the first loss, and more than one image explains."""
        if len(self._recent) < _ENOUGH:
            return
        losses = [each.loss for each in self._recent]
        usual = statistics.median(losses)
        spread = _DEVIATION * statistics.median(abs(loss - usual) for loss in losses)
        rise = done.loss - usual
        least = max((self._first_loss or 0.0) / 2, _ONE_IMAGE / self._recipe.batch.size)
        if rise > _SPIKE * spread and rise > least:
            yield (
                "spike",
                f"the loss jumped to {done.loss:.3g} at step {done.step}, from {usual:.3g} before: if it stays there, "
                f"{_either(self._calmer())}",
            )

    def _huge_gradient(self, done: StepDone) -> Iterator[_Finding]:
        if len(self._recent) < _ENOUGH:
            return
        largest = max(each.gradient_norm for each in self._recent)
        if done.gradient_norm > max(_HUGE * largest, self._largest_norm):
            clip = self._recipe.optimizer.clip
            limited = f"clipped to {clip:g} (optimizer.clip)" if clip else "not clipped"
            yield (
                "gradient",
                f"the gradient norm was {done.gradient_norm:.3g} at step {done.step}, at most {largest:.3g} before, "
                f"and {limited}: if it happens again, {_either(self._calmer())}",
            )

    def _not_learning(self, done: StepDone) -> Iterator[_Finding]:
        first, recipe = self._first_loss, self._recipe
        patience = max(_PATIENCE, self._steps // 10)
        if first is None or len(self._recent) < RECENT or done.step < recipe.schedule.warmup + patience:
            return
        now = statistics.median(each.loss for each in self._recent)
        if now < _STILL * first:
            return
        lr = recipe.optimizer.lr
        if now > 1.1 * first:
            advice = [f"lower optimizer.lr (now {lr:g})"]
        else:
            advice = [f"try optimizer.lr (now {lr:g}) 3 times higher or lower", "check the labels of the images"]
            if recipe.model.freeze:
                advice.append(f"train more than model.freeze leaves (now {', '.join(recipe.model.freeze)})")
        yield (
            "not learning",
            f"nothing was learnt in {done.step} steps: the loss is {now:.3g} and was {first:.3g} at first; "
            f"{_either(advice)}",
        )

    def _no_rate(self, done: StepDone) -> Iterator[_Finding]:
        self._zeros = 0 if done.learning_rate else self._zeros + 1
        ending = _END * self._steps < done.step <= self._steps
        if self._zeros >= _ZEROS and not ending:
            yield (
                "rate",
                f"the learning rate has been 0 for {self._zeros} steps, up to step {done.step}: nothing changes any "
                f"more; raise {_length(self._recipe)}, or stop the run here (optimizer.lr is "
                f"{self._recipe.optimizer.lr:g}, schedule.decay '{self._recipe.schedule.decay}')",
            )

    def _waiting(self, done: StepDone) -> Iterator[_Finding]:
        if len(self._recent) < RECENT:
            return
        share = statistics.median(each.waiting for each in self._recent)
        if share <= _WAITING:
            return
        recipe = self._recipe
        advice = [f"raise run.workers (now {recipe.run.workers or 'one a core, at most 16'})"]
        if recipe.augment.decoding == "exact":
            advice.append("set augment.decoding to 'scaled' (now 'exact')")
        advice.append("store the images smaller, no larger than the crops need")
        if not recipe.data.path.endswith(".tar"):
            advice.append("pack them into tar shards (data.path)")
        yield (
            "waiting",
            f"{share:.0%} of the time of the last {RECENT} steps was spent waiting for images: {_either(advice)}",
        )

    def _one_class(self, evaluated: Evaluated) -> Iterator[_Finding]:
        counts = evaluated.scores.confusion
        if not counts.size:  # an evaluation from before a run was resumed
            return
        answered, present = np.flatnonzero(counts.sum(axis=0)), np.flatnonzero(counts.sum(axis=1))
        if len(answered) != 1 or len(present) < 2 or evaluated.step <= self._recipe.schedule.warmup:
            return
        only = int(answered[0])
        name = repr(self._classes[only]) if self._classes else f"number {only}"
        share = counts[only].sum() / counts.sum()
        yield (
            "one class",
            f"at step {evaluated.step} all {evaluated.scores.num_images} held-out images are predicted as class "
            f"{name}, which {share:.1%} of them are: try optimizer.lr (now {self._recipe.optimizer.lr:g}) 3 times "
            "higher or lower, or check the labels and how many images a class has",
        )

    def _overfitting(self, evaluated: Evaluated) -> Iterator[_Finding]:
        """Held-out accuracy below the interval of its best, twice in a row, while the training loss went on falling.

        Once is no sign: at the height of the learning rate a small model on digits fell from 96.1% to 92.5%, and was
        at 96.4% a hundred updates later.
        """
        loss = statistics.median(each.loss for each in self._recent) if self._recent else math.inf
        if self._best is None or evaluated.scores.top1 > self._best[0].scores.top1:
            self._best, self._lower = (evaluated, loss), 0
            return
        best, its_loss = self._best
        if evaluated.scores.top1 >= best.scores.top1_interval[0] or loss >= its_loss:
            self._lower = 0
            return
        self._lower += 1
        if self._lower < _TWICE:
            return
        recipe = self._recipe
        grades = list(GRADES)
        stronger = grades[grades.index(recipe.augment.grade) + 1 :]
        advice = [f"raise augment.grade to '{stronger[0]}' (now '{recipe.augment.grade}')"] if stronger else []
        advice.append(f"lower {_length(recipe)}")
        yield (
            "overfitting",
            f"held-out accuracy fell from {best.scores.top1:.1%} at step {best.step} to {evaluated.scores.top1:.1%} at "
            f"step {evaluated.step} while the training loss fell from {its_loss:.3g} to {loss:.3g}, which is "
            f"overfitting: {_either(advice)}",
        )

    def _calmer(self) -> list[str]:
        """Advice that makes updates smaller."""
        optimizer = self._recipe.optimizer
        advice = [f"lower optimizer.lr (now {optimizer.lr:g})", f"raise schedule.warmup ({_warmup(self._recipe)})"]
        if not optimizer.clip:
            advice.append("set optimizer.clip to 1 (now 0)")
        return advice


def _warmup(recipe: AnyRecipe) -> str:
    return f"now {recipe.schedule.warmup}"


def _length(recipe: TrainRecipe) -> str:
    schedule = recipe.schedule
    return f"schedule.epochs (now {schedule.epochs:g})" if schedule.epochs else f"schedule.steps (now {schedule.steps})"


def _either(advice: Sequence[str]) -> str:
    """'a', 'a or b', 'a, b or c'."""
    *others, last = advice
    return f"{', '.join(others)} or {last}" if others else last

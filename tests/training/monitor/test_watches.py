"""Watches: each fires on what it is for, names the setting to change, and is silent on recorded healthy runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

import numpy as np
import pytest

from tests import REFERENCE
from vitsmith.evaluation.scores import Scores, score_logits
from vitsmith.training.monitor.events import Evaluated, StepDone
from vitsmith.training.monitor.watches import Watches, diverged
from vitsmith.training.recipes.file import merge
from vitsmith.training.recipes.recipe import TrainRecipe

RUNS = json.loads((REFERENCE / "digits_runs.json").read_text())["runs"]


def recipe(**sections: object) -> TrainRecipe:
    fields = {"data": {"path": "pets"}, "model": {"name": "ViT-Ti_16"}, "batch": {"size": 64}}
    return TrainRecipe.model_validate(merge(fields, {"schedule": {"steps": 600, "warmup": 60}}, sections))


def step(number: int, loss: float = 1.0, **changes: float) -> StepDone:
    fields = {"learning_rate": 0.1, "gradient_norm": 1.0, "images_per_second": 100.0} | changes
    return StepDone(number, loss, **fields)


def scores(confusion: Iterable[Iterable[int]]) -> Scores:
    """The scores of answers with these counts: row, the true class; column, the predicted one."""
    counts = np.array(confusion)
    pairs = [(row, column) for row, column in np.ndindex(counts.shape) for _ in range(counts[row, column])]
    logits = np.eye(len(counts), dtype=np.float32)[[column for _, column in pairs]]
    return score_logits(logits, np.array([row for row, _ in pairs]))


def accuracy(right: int, of: int = 100) -> Scores:
    return scores([[right, of - right], [of - right, right]])


def watch(events: Iterable[StepDone | Evaluated], watches: Watches | None = None) -> list[str]:
    watches = watches or Watches(recipe())
    return [message for event in events for message in watches.on_event(event)]


def recorded(name: str) -> tuple[TrainRecipe, list[StepDone | Evaluated]]:
    run = RUNS[name]
    series = zip(run["loss"], run["norm"], run["rate"], strict=True)
    events: list[StepDone | Evaluated] = [
        step(at, loss, gradient_norm=norm, learning_rate=rate) for at, (loss, norm, rate) in enumerate(series, 1)
    ]
    events += [Evaluated(each["step"], scores(each["confusion"]), 1.0) for each in run["evaluations"]]
    events.sort(key=lambda event: event.step)
    return recipe(batch={"size": run["batch"]}, optimizer={"lr": run["lr"]}), events


@pytest.mark.parametrize("name", ["healthy", "small batch"])
def test_recorded_healthy_runs_are_left_in_peace(name: str) -> None:
    run, events = recorded(name)
    assert len(events) == 606
    assert watch(events, Watches(run)) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("too fast", ["the loss jumped to 5.24 at step 61", "lower optimizer.lr (now 2)"]),
        ("broken", ["the loss jumped", "the gradient norm was 2.23e+04 at step 46", "lower optimizer.lr (now 1)"]),
        ("too slow", ["all 359 held-out images are predicted as class", "try optimizer.lr (now 1e-05) 3 times higher"]),
    ],
)
def test_recorded_sick_runs_are_told(name: str, expected: list[str]) -> None:
    run, events = recorded(name)
    said = "\n".join(watch(events, Watches(run)))
    for part in expected:
        assert part in said


def noisy(count: int, level: float = 1.0) -> list[StepDone]:
    losses = np.random.default_rng(0).normal(level, 0.05, count)
    return [step(at, float(loss)) for at, loss in enumerate(losses, 1)]


def test_a_spike_is_told_with_the_settings_and_not_again_at_once() -> None:
    watches = Watches(recipe(optimizer={"lr": 0.25, "clip": 0}))
    (said,) = watch([*noisy(60), step(61, 9.0), step(62, 9.0), step(63, 9.0)], watches)
    assert said.startswith("the loss jumped to 9 at step 61")
    for setting in ("optimizer.lr (now 0.25)", "schedule.warmup (now 60)", "optimizer.clip to 1 (now 0)"):
        assert setting in said
    calm = [step(at, 0.9 + 0.01 * (at % 5)) for at in range(64, 261)]
    assert watch(calm, watches) == []
    assert len(watch([step(261, 9.0)], watches)) == 1


def test_one_wrong_label_in_a_small_batch_is_no_spike() -> None:
    """It costs 16 nats at most: 2 in a batch of 8, a quarter in one of 64, where the loss may then rise by half."""
    history = [step(1, 2.3), *(step(at, 0.05) for at in range(2, 60))]
    assert watch([*history, step(60, 1.9)], Watches(recipe(batch={"size": 8}))) == []
    assert len(watch([*history, step(60, 1.9)], Watches(recipe(batch={"size": 64})))) == 1


def test_a_gradient_far_above_the_recent_ones_is_told() -> None:
    (said,) = watch([*noisy(60), step(61, gradient_norm=20.0)], Watches(recipe(optimizer={"clip": 0.5})))
    assert "norm was 20 at step 61" in said and "clipped to 0.5 (optimizer.clip)" in said
    assert watch([*noisy(60), step(61, gradient_norm=4.0)]) == []


def test_a_loss_that_stays_where_it_began_is_told_after_the_warm_up() -> None:
    flat = [step(at, math.log(10) + 0.02 * math.sin(at)) for at in range(1, 400)]
    watches = Watches(recipe(model={"freeze": ["blocks.*"]}, optimizer={"lr": 1e-6}))
    assert watch(flat[:159], watches) == []
    (said,) = watch(flat[159:200], watches)
    for part in ("nothing was learnt in 160 steps", "optimizer.lr (now 1e-06)", "model.freeze leaves (now blocks.*)"):
        assert part in said
    falling = [step(at, math.log(10) * 0.997**at) for at in range(1, 400)]
    assert watch(falling) == []


def test_a_resumed_run_does_not_take_its_first_loss_for_the_beginning() -> None:
    assert watch([step(at, 0.02) for at in range(300, 500)]) == []


def test_all_answers_alike_are_told_by_name() -> None:
    watches = Watches(recipe(), classes=("cat", "dog"))
    sick = scores([[0, 30], [0, 10]])
    assert watches.on_event(Evaluated(50, sick, 1.0)) == []  # still warming up
    (said,) = watches.on_event(Evaluated(100, sick, 1.0))
    assert "all 40 held-out images are predicted as class 'dog', which 25.0% of them are" in said
    assert "optimizer.lr (now 0.03)" in said
    assert watch([Evaluated(100, scores([[1, 29], [0, 10]]), 1.0)]) == []


def test_no_learning_rate_is_told_but_not_at_the_end() -> None:
    (said,) = watch([step(at, 1 / at, learning_rate=0.0 if at > 200 else 0.1) for at in range(1, 260)])
    assert "0 for 5 steps, up to step 205" in said and "schedule.steps (now 600)" in said
    assert watch([step(1, learning_rate=0.0), *(step(at) for at in range(2, 60))]) == []
    long = Watches(recipe(schedule={"steps": 2000}))
    assert watch([step(at, learning_rate=0.0) for at in range(1981, 2001)], long) == []


@pytest.mark.parametrize(("decoding", "named"), [("exact", True), ("scaled", False)])
def test_waiting_for_images_is_told_with_what_can_still_be_changed(decoding: str, named: bool) -> None:
    watches = Watches(recipe(augment={"decoding": decoding}, run={"workers": 2}))
    (said,) = watch([step(at, 1 / at, waiting=0.45) for at in range(1, 100)], watches)
    assert "45% of the time of the last 50 steps" in said and "run.workers (now 2)" in said and "tar shards" in said
    assert ("augment.decoding to 'scaled'" in said) is named
    one_pause = [step(at, 1 / at, waiting=0.9 if at % 3 == 0 else 0.1) for at in range(1, 100)]
    assert watch(one_pause) == []


def test_learning_by_heart_is_told_with_the_next_grade() -> None:
    def run(loss_at_the_end: float, right_at_the_end: int) -> list[StepDone | Evaluated]:
        first = [step(at, 1.0) for at in range(1, 101)]
        second = [step(at, loss_at_the_end) for at in range(101, 201)]
        low = [Evaluated(at, accuracy(right_at_the_end), 1.0) for at in (150, 200)]
        return [*first, Evaluated(100, accuracy(90), 1.0), *second[:50], low[0], *second[50:], low[1]]

    (said,) = watch(run(0.2, 80), Watches(recipe(augment={"grade": "medium2"})))
    for part in ("fell from 90.0% at step 100 to 80.0% at step 200", "from 1 to 0.2", "to 'strong1' (now 'medium2')"):
        assert part in said
    assert "lower schedule.steps (now 600)" in said
    once = [event for event in run(0.2, 80) if not (isinstance(event, Evaluated) and event.step == 150)]
    assert watch(once) == []  # at the height of the learning rate a single evaluation may fall
    assert watch(run(0.2, 88)) == []  # inside the interval of the best: 85.1% to 93.4% of 200
    assert watch([event for event in run(1.2, 80) if isinstance(event, Evaluated) or event.step != 1]) == []


def test_divergence_names_what_makes_updates_smaller() -> None:
    said = diverged(7, math.nan, math.inf, recipe(optimizer={"lr": 0.5, "clip": 0}, run={"precision": "bf16"}))
    assert said.startswith("training diverged at step 7 (loss nan, gradient norm inf): lower optimizer.lr (now 0.5)")
    for setting in ("schedule.warmup (now 60)", "optimizer.clip to 1", "run.precision to 'fp32'"):
        assert setting in said
    assert "clip" not in diverged(7, math.nan, 1.0, recipe())
    assert watch([*noisy(30), step(31, math.nan)]) == [diverged(31, math.nan, 1.0, recipe())]

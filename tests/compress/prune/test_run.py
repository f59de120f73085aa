"""Distillation of a pruned model, and the gate."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vitsmith as vs
from tests.compress.prune.models import (
    FASTER,
    SLOWER,
    preprocessed,
)
from tests.training.small_runs import coloured, splits
from vitsmith.compress.images import TaskImages
from vitsmith.compress.prune.distill import recover, recovery_recipe
from vitsmith.compress.prune.result import REQUIRED, write_pruned
from vitsmith.compress.prune.run import prune, prune_bundle
from vitsmith.compress.prune.sizes import Pruning
from vitsmith.compress.result import Advance, Working
from vitsmith.errors import ConfigError, GateError, InputError, OutputError
from vitsmith.evaluation.speed import Speedup
from vitsmith.gate import Requirements
from vitsmith.models.build import count_parameters
from vitsmith.models.cost import parameters
from vitsmith.predict import Predictor
from vitsmith.runs.place import check_place
from vitsmith.weights.bundle.bundle import Bundle


def short(bundle: Bundle, **changes: dict[str, Any]) -> Any:
    return recovery_recipe(bundle, "colours", {"batch": {"size": 12, "micro": 12}, **changes})


def test_a_pruned_model_learns_from_the_original(taught: Bundle, colours: TaskImages) -> None:
    original = vs.load(taught.where)
    weights = copy.deepcopy(original.model.state_dict())
    pruned, _ = prune_bundle(original, colours.calibration, Pruning(heads=1, mlp_width=16, depth=1))
    tensors = np.stack([preprocessed(image, original) for image in coloured(30).sources])
    wanted = torch.from_numpy(original.run_torch(tensors)).softmax(dim=1)

    def distance(run: Callable[[np.ndarray], np.ndarray]) -> float:
        return float(F.kl_div(torch.from_numpy(run(tensors)).log_softmax(dim=1), wanted, reduction="batchmean"))

    before = distance(pruned.run_torch)
    model = recover(pruned.model, original, colours, short(original, schedule={"steps": 40}))
    after = distance(Bundle.of(model, preprocessing=original.preprocessing).run_torch)
    assert after < before / 3
    for name, weight in original.model.state_dict().items():
        assert torch.equal(weight, weights[name])


def test_labels_are_not_looked_at_in_distillation(taught: Bundle, colours: TaskImages) -> None:
    wrong = TaskImages(splits().train, splits().val, True, "wrong labels")
    wrong.calibration.labels[:] = 0
    results = []
    for material in (colours, wrong):
        pruned, _ = prune_bundle(taught, colours.calibration, Pruning(heads=2))
        results.append(recover(pruned.model, taught, material, short(taught, schedule={"steps": 3})).state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_recipes_of_recovery(taught: Bundle) -> None:
    made = recovery_recipe(taught, "pets", {"schedule": {"steps": 50}})
    assert (made.schedule.steps, made.schedule.warmup, made.optimizer.lr) == (50, 5, 0.002)
    assert made.distill is not None and made.distill.teacher == taught.where
    wide = Bundle.of(vs.create_model("mu/16", classes=3, image_size=32, width=128, heads=2))
    assert recovery_recipe(wide, "pets").optimizer.lr == pytest.approx(0.001)
    assert recovery_recipe(wide, "pets", {"schedule": {"steps": 5, "warmup": 1}}).schedule.warmup == 1
    with pytest.raises(ConfigError, match="is distilled with 'soft'"):
        recovery_recipe(wide, "pets", {"distill": {"kind": "deit-hard"}})
    assert recovery_recipe(wide, "pets", {"model": {"freeze": ["head.*"]}}).model.freeze == ("head.*",)
    for section, field in (("model", "image_size"), ("model", "head_bias"), ("data", "path"), ("distill", "teacher")):
        with pytest.raises(ConfigError, match=r"are set by prune"):
            recovery_recipe(wide, "pets", {section: {field: "7" if section != "model" else 7}})
    with pytest.raises(ConfigError, match=r"optimizer\.lrr"):
        recovery_recipe(wide, "pets", {"optimizer": {"lrr": 1}})


def measured(speedup: Speedup, asked: list[Any] | None = None) -> Any:
    def measure(before: Any, after: Any, images: np.ndarray) -> Speedup:
        if asked is not None:
            asked.append((images.shape, [one.throughput.run(images).shape for one in (before, after)]))
        return speedup

    return measure


def test_a_pruned_model_that_is_good_enough_is_written(taught: Bundle, colours: TaskImages, tmp_path: Path) -> None:
    asked: list[Any] = []
    heard: list[Any] = []
    events: list[Any] = []
    done = prune(
        taught,
        colours,
        Pruning(heads=2, depth=1),
        short(taught, schedule={"steps": 25}),
        race=measured(FASTER, asked),
        listener=heard.append,
        on_event=events.append,
    )
    assert asked == [((16, 3, 16, 16), [(16, 3), (16, 3)])]
    assert [stage.name for stage in done.stages] == ["original", "pruned", "distilled"]
    assert (done.failures, done.speedup, done.accuracy.drop) == ((), FASTER, 0)
    assert re.fullmatch(r"<Pruned .*; top-1 .* -> .* \(drop .*\) on colours, .* times as fast .*>", repr(done))
    written = write_pruned(done, tmp_path / "run", events=events)
    assert [event.steps for event in heard if isinstance(event, Working)] == [36 * 3]
    assert sum(event.steps for event in heard if isinstance(event, Advance)) == 36 * 3
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {"command.txt", "metrics.jsonl", "model", "prune.json", "recipe.json"}
    again = vs.load(written.where)
    assert again.config.heads == 2 and again.config.head_width == 8 and again.golden is not None
    images = list(colours.evaluation.sources)
    answers = [Predictor(one, "torch").logits(images).argmax(axis=1) for one in (again, taught)]
    assert np.array_equal(*answers)
    told = json.loads((tmp_path / "run" / "prune.json").read_text())
    assert told["changed"] == "depth 2 -> 1, heads 4 -> 2" and told["speedups"] == [2.0, 2.5]
    assert told["stages"][2]["parameters"] == parameters(again.config) == count_parameters(again.model)
    assert (
        again.provenance.parent == taught.where
        and "heads 4 -> 2; distilled from it for 25" in again.provenance.notes[-1]
    )
    kept = {one.metric: one.value for one in again.measurements}
    assert kept["top1"] == done.stages[-1].scores.top1 == 1 and kept["latency_p50"] == 1.0
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 25 + 1


@pytest.mark.parametrize(
    ("pruning", "speedup", "required", "told"),
    [
        (
            Pruning(mlp_width=48),
            SLOWER,
            REQUIRED,
            r"1\.01 times as fast in batches of 16 \(required 1\.05\); prune more, or keep the model as it is$",
        ),
        (
            Pruning(heads=1, mlp_width=16, depth=1),
            FASTER,
            replace(REQUIRED, accuracy_drop=0.0),
            r"top-1 drops by \d+\.\d\d points, 95% interval .* \(allowed 0\); prune less, or distil longer",
        ),
    ],
)
def test_what_falls_short_is_refused_and_not_written(
    taught: Bundle, tmp_path: Path, pruning: Pruning, speedup: Speedup, required: Requirements, told: str
) -> None:
    noisy = TaskImages(splits().train, splits().val, True, "colours")
    done = prune(taught, noisy, pruning, None, required, race=measured(speedup))
    assert [stage.name for stage in done.stages] == ["original", "pruned"]
    with pytest.raises(GateError, match=f"was refused, nothing was written: .*{told}"):
        write_pruned(done, tmp_path / "run")
    assert not (tmp_path / "run").exists() and done.to_dict()["failures"]


def test_few_images_tell_little_and_a_strict_gate_says_no(taught: Bundle, colours: TaskImages) -> None:
    done = prune(taught, colours, Pruning(mlp_width=48), None, race=measured(FASTER))
    count = len(colours.evaluation)
    assert not done.failures and done.accuracy.num_images == count == done.to_dict()["num_labelled_images"]
    assert done.doubts[0].startswith(f"{count} images are too few to tell whether top-1 drops by more than 1 point")
    strict = replace(done, required=replace(REQUIRED, strict=True))
    told = f"refused, nothing was written: {count} images are too few to tell .* would be enough$"
    with pytest.raises(GateError, match=told):
        strict.require()
    with pytest.raises(InputError, match=f"{count} evaluation images cannot tell .* at least 381 are needed"):
        prune(taught, colours, Pruning(mlp_width=48), None, strict.required, race=measured(FASTER))
    with pytest.raises(InputError, match="prune does not measure cosine"):
        prune(taught, colours, Pruning(mlp_width=48), None, replace(REQUIRED, cosine=1), race=measured(FASTER))
    with pytest.raises(InputError, match="compared by accuracy_drop, and it has no bound"):
        prune(taught, colours, Pruning(mlp_width=48), None, Requirements(speedup=1), race=measured(FASTER))


def test_without_labels_the_answers_of_the_original_decide(taught: Bundle, colours: TaskImages) -> None:
    without = replace(colours, labelled=False)
    done = prune(taught, without, Pruning(mlp_width=48), None, race=measured(FASTER))
    assert done.agreement == done.stages[-1].scores.top1 == done.to_dict()["agreement"]
    right = done.stages[-1].right.copy()
    right[:2] = False
    done = replace(done, stages=(done.stages[0], replace(done.stages[-1], right=right)))
    share = float(right.mean())
    assert (done.accuracy, done.doubts) == (None, ())
    assert not replace(done, required=replace(REQUIRED, agreement=share)).failures
    told = replace(done, required=replace(REQUIRED, agreement=share + 0.001, accuracy_drop=100)).failures
    assert len(told) == 1 and told[0].startswith(f"top-1 agrees on {share:.1%} of the images")
    strict = replace(REQUIRED, strict=True)
    with pytest.raises(InputError, match="a strict gate counts right answers: give it labelled images"):
        prune(taught, without, Pruning(mlp_width=48), None, strict, race=measured(FASTER))


def test_nothing_is_left_of_a_run_that_cannot_be_written(
    taught: Bundle, colours: TaskImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = prune(taught, colours, Pruning(mlp_width=48), None, race=measured(FASTER))

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vitsmith.compress.result.write_bundle", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_pruned(done, Path("runs/prune/colours"))
    assert list(tmp_path.rglob("*")) == []


def test_only_runs_of_prune_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    check_place("prune", tmp_path / "new", force=False)
    for force in (False, True):
        with pytest.raises(OutputError, match="mine exists, a folder that prune did not write: choose another `out`"):
            check_place("prune", tmp_path / "mine", force=force)
    (tmp_path / "mine" / "prune.json").write_text("{}")
    with pytest.raises(OutputError, match="choose another `out`, or replace it with `force`"):
        check_place("prune", tmp_path / "mine", force=False)
    check_place("prune", tmp_path / "mine", force=True)

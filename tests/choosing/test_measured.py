"""`recommend --measure`: built by the real writers, measured in turns, and the ranking corrected by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitsmith as vs
from tests.choosing.made import MadeCosts, checkpoint, machine, vit
from vitsmith.benchmark.memory import Memory, Task, measure_memory
from vitsmith.choosing.candidates import candidates
from vitsmith.choosing.catalogue import Checkpoint
from vitsmith.choosing.figures import Mark, MarkedFigure, Standing
from vitsmith.choosing.measured import stage as stage_module
from vitsmith.choosing.measured import times as times_module
from vitsmith.choosing.measured.build import build_to_time
from vitsmith.choosing.measured.correct import corrected, name_of
from vitsmith.choosing.measured.stage import MeasureStage
from vitsmith.choosing.measured.times import MeasuredRow, jpeg_bytes, measure_built
from vitsmith.choosing.rank import rank
from vitsmith.choosing.recommendation import Recommendation, Setup
from vitsmith.choosing.request import RequestOptions, make_request
from vitsmith.choosing.run import Stages, recommend
from vitsmith.data.images.read import read_image
from vitsmith.errors import InputError, MissingPackageError
from vitsmith.evaluation.timing import Pace
from vitsmith.models.config import LiTConfig

Times = Callable[[Recommendation], float | str]
QUICK = Pace(seconds=0.02, turns=2, warm=0.0)
SMALL = vit(width=64, depth=2, side=32)
SETUPS = [Setup("torch"), Setup("onnx"), Setup("onnx", "int8")]


def rows_of(*checkpoints: Checkpoint, setups: Sequence[Setup] = SETUPS[1:2]) -> list[Recommendation]:
    asked = make_request(RequestOptions(latency="1s"))
    return [row for row in candidates(checkpoints, asked, machine(setups=setups)) if row.setup.keep == 1]


def measured(value: float) -> MarkedFigure:
    return MarkedFigure(value, 0.9 * value, 1.1 * value, Mark.measured, "here")


def found(latency: float, **more: Any) -> MeasuredRow:
    one = measured(latency)
    return replace(MeasuredRow(one, one, measured(1 / latency), measured(5e7), measured(1e6)), **more)


def test_every_setup_is_built_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def light(task: Task) -> Any:  # a process that imports torch takes seconds
        return measure_memory(task) if task.precision == "int8" else {batch: Memory(9) for batch in task.batches}

    monkeypatch.setattr(times_module, "measure_memory", light)
    rows = [replace(row, threads=1) for row in rows_of(checkpoint("one", config=SMALL), setups=SETUPS)]
    rows[1] = replace(rows[1], batch=3)
    built = [
        (row, build_to_time(row.checkpoint, row.setup, tmp_path / str(at), local=False)) for at, row in enumerate(rows)
    ]
    assert [bundle.program_spec.precision for _, bundle in built] == ["fp32", "fp32", "int8"]
    assert [bundle.program for _, bundle in built] == ["torch", "onnx", "onnx"]
    answers = vs.open_engine(built[1][1], "onnx").run(np.zeros((1, 3, 32, 32), np.float32))
    expected = vs.open_engine(built[0][1], "torch").run(np.zeros((1, 3, 32, 32), np.float32))
    assert np.abs(answers - expected).max() < 1e-4 and np.ptp(expected) > 0  # the same weights, and a head that answers
    figures, reasons = measure_built(built, (48, 64), pace=QUICK)
    assert not any(reasons)
    for row, one in zip(rows, figures, strict=True):
        assert one is not None and one.memory is not None and not one.remarks
        assert one.latency.value > one.median.low > 0 and one.median.low <= one.median.value <= one.median.high
        if row.batch == 1:
            assert one.throughput.value == pytest.approx(1 / one.median.value)
        assert all(each.mark == Mark.measured for each in (one.latency, one.median, one.memory, one.size))
    assert figures[2] and figures[2].memory and figures[2].memory.value > 2e7  # the libraries alone
    sizes = [one.size.value for one in figures if one]
    weights = sum(parameter.numel() for parameter in built[0][1].model.parameters())
    assert sizes[0] == pytest.approx(4 * weights, rel=0.1) and sizes[2] < 0.6 * sizes[1]


def test_a_merged_setup_and_two_towers_are_built_of_the_image_tower(tmp_path: Path) -> None:
    from tests.tiny import CONFIGS

    lit = CONFIGS["lit-bert"]
    assert isinstance(lit, LiTConfig)
    made = build_to_time(checkpoint("two", config=lit), Setup("torch"), tmp_path / "lit", local=False)
    assert made.config == lit.image
    merged = build_to_time(checkpoint("one", config=SMALL), Setup("torch", keep=0.7), tmp_path / "merged", local=False)
    assert any(merged.config.merge) and merged.config.width == 64  # type: ignore[union-attr]


def test_the_photo_is_a_jpeg_of_that_size() -> None:
    photo = jpeg_bytes((30, 70))
    assert photo[:2] == b"\xff\xd8" and read_image(photo).shape == (30, 70, 3)


def test_predictions_of_the_same_engine_and_precision_are_scaled_by_the_median() -> None:
    names = [checkpoint(name, config=vit(width)) for name, width in (("a", 64), ("b", 128), ("c", 192), ("d", 256))]
    rows = rows_of(*names, setups=[Setup("onnx"), Setup("onnx", "int8")])
    floats, coarse = ([row for row in rows if row.setup.precision == name] for name in ("fp32", "int8"))
    factors = {"a": 2.0, "b": 1.2, "c": 1.5}
    fresh = {
        name_of(row): found(row.median.value * factors[row.checkpoint.name])  # type: ignore[union-attr]
        for row in floats[:3]
    }
    after = {name_of(row): row for row in corrected(rows, fresh)}
    for row in floats[:3]:
        one = after[name_of(row)]
        assert one.median == fresh[name_of(row)].median and one.memory == measured(5e7)
    before, scaled = floats[3], after[name_of(floats[3])]
    assert before.median and scaled.median and before.latency and scaled.latency
    assert scaled.median.value == pytest.approx(1.5 * before.median.value) and scaled.median.mark == Mark.predicted
    assert scaled.median.high / scaled.median.value == pytest.approx(before.median.high / before.median.value)
    assert "times 1.50, as 3 measured here" in scaled.median.source
    assert [after[name_of(row)] for row in coarse] == coarse  # nothing of int8 was measured


def _stage(
    monkeypatch: pytest.MonkeyPatch, times: Callable[[Recommendation], float | str], **more: Any
) -> MeasureStage:
    def pretended(built: Any, photo: Any, **_: Any) -> Any:
        said = [times(row) for row, _ in built]
        return [found(one) if isinstance(one, float) else None for one in said], [
            "" if isinstance(one, float) else one for one in said
        ]

    monkeypatch.setattr(stage_module, "measure_built", pretended)
    return MeasureStage(**({"count": 2, "photo": (10, 10), "build": lambda *_, **__: None, "is_local": bool} | more))


def test_what_comes_first_was_measured_and_keeps_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Predictions are ten times too fast for all but the smallest: no row is first by a prediction."""
    zoo = [checkpoint(f"m{at}", 80.0 + at, vit(64 * (at + 1))) for at in range(6)]
    asked = make_request(RequestOptions(latency="20ms"))
    costs = MadeCosts(spread=0.05)
    here = machine(costs, setups=[Setup("onnx")])
    predicted = recommend(asked, zoo, here)
    asked_for: list[str] = []

    def true_time(row: Recommendation) -> float:
        asked_for.append(row.checkpoint.name)
        return 0.001 if row.checkpoint.name == "m0" else 0.05

    stage = _stage(monkeypatch, true_time, budgets=asked.budgets)
    result = recommend(asked, zoo, here, Stages(cost=stage))
    assert predicted.best and predicted.best.checkpoint.name != "m0"
    best = result.best
    assert best is None or (best.latency and best.latency.mark == Mark.measured) or len(set(asked_for)) > 3
    for row in result.ranking.within:
        if row.standing == Standing.kept:
            assert row.latency and row.latency.mark == Mark.measured and row.latency.high <= 0.02
    assert len(asked_for) == len(set(asked_for))  # none is measured twice


def test_what_cannot_be_built_or_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(checkpoint("a", 90.0), checkpoint("b", 80.0), checkpoint("c", 70.0))
    budgets = {"latency": 1.0}

    def build(one: Checkpoint, *_: Any, **__: Any) -> None:
        if one.name == "a":
            raise InputError("no writer")

    stage = _stage(monkeypatch, lambda row: "it crashed", budgets=budgets, build=build, is_local=lambda _: False)
    after = {row.checkpoint.name: row for row in stage(rank(rows, budgets), rows)}
    assert after["a"].remarks[-1] == "could not be measured here: no writer"
    assert after["b"].remarks[-1] == "could not be measured here: it crashed"
    assert after["b"].median and after["b"].median.mark == Mark.predicted


def test_random_weights_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(checkpoint("here", 90.0), checkpoint("elsewhere", 80.0))
    stage = _stage(monkeypatch, lambda _: 0.1, budgets={}, is_local=lambda one: one.name == "here")
    after = {row.checkpoint.name: row for row in stage(rank(rows, {}), rows)}
    assert not after["here"].remarks and "random weights" in after["elsewhere"].remarks[-1]


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitsmith.needs_torch.find_spec", lambda _: None)
    rows = rows_of(checkpoint("a"))
    with pytest.raises(MissingPackageError, match=r"pip install 'vitsmith\[torch\]'"):
        MeasureStage(1, {}, (10, 10))(rank(rows, {}), rows)

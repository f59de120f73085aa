"""A shortlist of rows of `recommend`, each measured twice by the machinery of `--measure`, and replayed from there.

For benchmarks/choice_budgets.py, which says what is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from vitsmith.choosing.figures import Budgets
from vitsmith.choosing.measured.build import build_to_time
from vitsmith.choosing.measured.stage import MeasureStage
from vitsmith.choosing.measured.times import MeasuredRow, measure_built
from vitsmith.choosing.rank import TIE, Ranking, rank
from vitsmith.choosing.recommendation import Recommendation, Setup
from vitsmith.errors import VitsmithError
from vitsmith.evaluation.timing import Pace
from vitsmith.models.config import ModelConfig
from vitsmith.weights.bundle.bundle import Bundle

Key = tuple[ModelConfig, Setup]
"""What decides what a row costs: checkpoints of one architecture share it."""
Found = tuple[list[MeasuredRow | None], list[str]]
TOGETHER = 6
"""Rows that are open at once and take turns."""
MARGIN = 1.1
FIGURES = ("latency", "median", "throughput", "memory", "size")


class Twice(NamedTuple):
    """The figures of one row by two measurements, some time apart."""

    first: MeasuredRow
    """What `--measure` is given."""
    second: MeasuredRow
    """What the choice is judged by."""


def key_of(row: Recommendation) -> Key:
    return row.checkpoint.config, row.setup


def shortlist(rows: Sequence[Recommendation], latency: float, most: int, seed: int) -> list[Recommendation]:
    """Rows predicted to answer within `latency` seconds, of architectures in all their setups: at most `most` of these.

    Without those that another row beats in everything: by 0.3 points, and by a tenth in time, throughput and memory.
    """
    able = [row for row in rows if row.latency is not None and row.latency.value <= latency]
    kept = [row for row in able if not any(_beats(other, row) for other in able)]
    setups: dict[ModelConfig, set[Setup]] = {}
    for row in kept:
        setups.setdefault(row.checkpoint.config, set()).add(row.setup)
    configs, chosen = list(setups), set[ModelConfig]()
    for place in np.random.default_rng(seed).permutation(len(configs)):
        if sum(len(setups[one]) for one in {*chosen, configs[place]}) <= most:
            chosen.add(configs[place])
    return [row for row in kept if row.checkpoint.config in chosen]


def _beats(one: Recommendation, other: Recommendation) -> bool:
    values = [(getattr(one, name).value, getattr(other, name).value) for name in FIGURES]
    (latency, latency2), (median, median2), (rate, rate2), (memory, memory2), (size, size2) = values
    faster = latency * MARGIN <= latency2 and median * MARGIN <= median2 and rate >= MARGIN * rate2
    return one.counted >= other.counted + TIE and faster and memory * MARGIN <= memory2 and size <= size2


def measure_all(
    rows: Sequence[Recommendation], place: Path, photo: tuple[int, int], pace: Pace, tell: Callable[[str], None]
) -> tuple[dict[Key, Twice], list[str]]:
    """Every architecture and setup of the rows, measured twice, and what could not be, with the reason."""
    distinct = list({key_of(row): row for row in rows}.values())
    built, failed = _build_all(distinct, place, tell)
    passes: list[dict[Key, MeasuredRow]] = [{}, {}]
    for turn, known in enumerate(passes):
        for begin in range(0, len(built), TOGETHER):
            group = built[begin : begin + TOGETHER]
            tell(f"measurement {turn + 1} of 2: rows {begin + 1} to {begin + len(group)} of {len(built)}")
            found, reasons = measure_built(group, photo, pace=pace)
            for (row, _), one, reason in zip(group, found, reasons, strict=True):
                if one is None:
                    failed.append(f"{row}: {reason}")
                else:
                    known[key_of(row)] = one
    both = passes[0].keys() & passes[1].keys()
    return {key: Twice(passes[0][key], passes[1][key]) for key in both}, failed


def _build_all(
    rows: Sequence[Recommendation], place: Path, tell: Callable[[str], None]
) -> tuple[list[tuple[Recommendation, Bundle]], list[str]]:
    """The rows with their bundles, and what could not be built. fp32 and bf16 are computed from the same files."""
    built, failed, known = [], [], dict[Key, Bundle]()
    for number, row in enumerate(rows):
        setup = row.setup if row.setup.precision == "int8" else replace(row.setup, precision="fp32")
        key = (row.checkpoint.config, setup)
        try:
            if key not in known:
                tell(f"building {number + 1} of {len(rows)}: {row}")
                known[key] = build_to_time(row.checkpoint, setup, place / str(number), local=False)
            built.append((row, known[key]))
        except (VitsmithError, MemoryError, RuntimeError) as error:
            failed.append(f"{row}: {error}")
    return built, failed


def judged(rows: Sequence[Recommendation], measured: dict[Key, Twice]) -> list[Recommendation]:
    """The rows with the figures of the second measurement."""
    changed = []
    for row in rows:
        second = measured[key_of(row)].second
        changed.append(replace(row, **{name: getattr(second, name) or getattr(row, name) for name in FIGURES}))
    return changed


def best_measured(rows: Sequence[Recommendation], budgets: Budgets) -> Ranking:
    """The ranking of `recommend` where every row was measured; only what is kept with its whole interval passes."""
    return rank(rows, budgets)


class Fresh:
    """`--measure` with random weights; it counts the rows that are measured."""

    def __init__(self) -> None:
        self.asked = 0

    def stage(self, count: int, budgets: Budgets, photo: tuple[int, int]) -> MeasureStage:
        return MeasureStage(count, budgets, photo, is_local=lambda _: False)

    def patched(self) -> Any:
        """While it holds, `measure` measures for the stages."""
        return mock.patch("vitsmith.choosing.measured.stage.measure_built", self.measure)

    def measure(self, built: Sequence[tuple[Recommendation, Bundle]], photo: tuple[int, int], **more: Any) -> Found:
        self.asked += len(built)
        return measure_built(built, photo, **more)


class Replay(Fresh):
    """`--measure` that is given the first measurements in place of building and timing."""

    def __init__(self, measured: dict[Key, Twice]) -> None:
        super().__init__()
        self._measured = measured

    def stage(self, count: int, budgets: Budgets, photo: tuple[int, int]) -> MeasureStage:
        built: Any = None
        return MeasureStage(count, budgets, photo, build=lambda *_, **__: built, is_local=lambda _: False)

    def measure(self, built: Sequence[tuple[Recommendation, Bundle]], photo: tuple[int, int], **more: Any) -> Found:
        self.asked += len(built)
        return [self._measured[key_of(row)].first for row, _ in built], [""] * len(built)

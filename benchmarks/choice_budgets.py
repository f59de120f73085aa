"""Whether `recommend --measure 3` chooses well: random budgets, beside the exhaustive measurement of a shortlist.

    pip install 'vitsmith[all]'
    python benchmarks/choice_budgets.py [--budgets 48] [--most 40] [--fresh 4] [--out benchmarks/results/FILE.md]
    python benchmarks/choice_budgets.py --tiny      to see that the script works

On a quiet machine. The shortlist: checkpoints of the catalogue that classify, on the engines and in the precisions that
the scenario `cpu-server` considers and this machine has, predicted to answer within --latency; without rows that
another beats in everything (0.3 points of accuracy, and a tenth in time, throughput and memory); of these some
architectures in all their setups, at most --most, drawn by the seed. Each is built with random weights and measured
twice by the machinery of `--measure` (engine alone, from JPEG bytes to the answer, batches of 8, memory), six at a time
in turns, all of them once before any of them again.

Budgets: latency, throughput, memory and size, each alone, in pairs, in threes and all four, in turns. Limits are drawn
by the seed, uniform in the logarithm between the 10th and the 90th percentile of what is predicted for the shortlist.
For each `recommend` ranks the shortlist's rows with `--measure 3`, which is *given the first measurement* of the rows
it asks for, as a measurement of its own would have found them; then its choice is judged by the second one, which it
has not seen. For --fresh budgets it builds and measures itself, and that choice is judged in the same way.

- kept: the choice is said to keep every budget. broken: a figure of the second measurement is beyond the budget.
- best: what `recommend` would rank first with the second measurement of all rows (whole intervals within the budgets).
- points: how much more accurate than the choice the most accurate row is that the second measurement says is kept;
  accuracy is counted as `recommend` does, less what the gates of bf16, int8 and merging let pass. 0.3 points are a tie.
- time: how much longer the engine's median of the choice is than that of the best, where they are not 0.3 points apart.

At the end the whole command `vitsmith recommend --latency 30ms --json` from the cached calibration is timed, started
anew each time.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from choice_measured import FIGURES, Fresh, Key, Replay, Twice, best_measured, judged, key_of, measure_all, shortlist

from vitsmith.choosing.candidates import Machine, candidates
from vitsmith.choosing.catalogue import catalogue
from vitsmith.choosing.figures import Standing, keeps
from vitsmith.choosing.machines import machine_of
from vitsmith.choosing.rank import TIE
from vitsmith.choosing.recommendation import Recommendation
from vitsmith.choosing.request import Request, RequestOptions, make_request
from vitsmith.choosing.run import Stages, recommend
from vitsmith.choosing.words import amount
from vitsmith.evaluation.timing import Pace
from vitsmith.machine import describe_machine

MEASURED = 3
NAMES = ("latency", "throughput", "memory", "size")
KINDS = [kinds for count in (1, 2, 3, 4) for kinds in itertools.combinations(NAMES, count)]
STARTS = 7


class Case(NamedTuple):
    """One choice beside the best."""

    request: Request
    choice: Recommendation | None
    """With the figures of the second measurement."""
    standing: Standing | None
    """What `recommend` said of the choice."""
    best: Recommendation | None
    most_accurate: float
    """Counted accuracy of the most accurate that is kept; minus infinity where none is."""
    asked: int
    """Rows that were measured for it."""

    @property
    def kept(self) -> bool:
        return self.standing == Standing.kept

    @property
    def broken(self) -> list[str]:
        """Budgets that the choice is beyond, though it was said to keep them."""
        if not self.kept or self.choice is None:
            return []
        figures = {name: self.choice.figure(name) for name in self.request.budgets}
        limits = self.request.budgets
        return [name for name, one in figures.items() if one is not None and not keeps(name, limits[name], one.value)]

    @property
    def points(self) -> float | None:
        """None where nothing is kept, so that there is nothing to lose."""
        if self.best is None or self.choice is None:
            return None
        return max(self.most_accurate - self.choice.counted, 0.0)

    @property
    def time(self) -> float | None:
        """A share; negative where the choice is faster."""
        if self.best is None or self.choice is None or (self.points or 0) > TIE + 1e-9:
            return None
        return self.choice.pace / self.best.pace - 1

    def line(self) -> str:
        budgets = ", ".join(f"{name} {amount(name, limit)}" for name, limit in self.request.budgets.items())
        chosen, best = (_named(row) for row in (self.choice, self.best))
        points = "" if self.points is None else f"{self.points:.2f}"
        time = "" if self.time is None else f"{self.time:+.1%}"
        said = "nothing" if self.standing is None else self.standing.value
        cells = (budgets, chosen, said, ", ".join(self.broken), best, points, time, str(self.asked))
        return f"| {' | '.join(cells)} |"


def _named(row: Recommendation | None) -> str:
    if row is None:
        return ""
    return f"{row} ({row.counted:.2f}, {1e3 * row.pace:.1f} ms)"


class Bench:
    """The shortlist, what was measured of it, and choices among it."""

    def __init__(self, machine: Machine, rows: Sequence[Recommendation], measured: dict[Key, Twice], seed: int) -> None:
        self.machine, self.measured, self._seed = machine, measured, seed
        self.rows = [row for row in rows if key_of(row) in measured]

    def requests(self, count: int) -> Iterator[Request]:
        """Random budgets, the kinds in turns."""
        random = np.random.default_rng(self._seed)
        ends = {
            name: np.log(np.percentile([getattr(row, name).value for row in self.rows], (10, 90))) for name in NAMES
        }
        for number in range(count):
            limits = {name: float(np.exp(random.uniform(*ends[name]))) for name in KINDS[number % len(KINDS)]}
            yield make_request(
                RequestOptions(
                    latency=f"{1e3 * limits['latency']:.3g}ms" if "latency" in limits else "",
                    throughput=float(f"{limits['throughput']:.3g}") if "throughput" in limits else None,
                    memory=f"{limits['memory'] / 1e6:.0f}MB" if "memory" in limits else "",
                    size=f"{limits['size'] / 1e6:.3g}MB" if "size" in limits else "",
                )
            )

    def replayed(self, request: Request) -> Case:
        """The choice by the first measurement."""
        return self._case(request, Replay(self.measured))

    def fresh(self, request: Request) -> Case:
        """The choice by a measurement of its own."""
        return self._case(request, Fresh())

    def _case(self, request: Request, measuring: Fresh) -> Case:
        there = {(row.source, row.setup) for row in self.rows}
        stage = measuring.stage(MEASURED, request.budgets, request.scenario.photo)
        stages = Stages(lambda _, rows: [row for row in rows if (row.source, row.setup) in there], stage)
        with measuring.patched():
            best = recommend(request, catalogue(), self.machine, stages).best
        truth = judged(self.rows, self.measured)
        ranking = best_measured(truth, request.budgets)
        kept = [row.judged(request.budgets) for row in truth]
        choice = next((row for row in truth if best and (row.source, row.setup) == (best.source, best.setup)), None)
        return Case(
            request=request,
            choice=choice,
            standing=best.standing if best else None,
            best=ranking.within[0] if ranking.within else None,
            most_accurate=max((row.counted for row in kept if row.standing == Standing.kept), default=-np.inf),
            asked=measuring.asked,
        )


def summary(cases: Sequence[Case]) -> list[str]:
    """What the issue asks: none broken, and the regret."""
    kept = [case for case in cases if case.kept]
    points = [case.points for case in cases if case.points is not None]
    times = [case.time for case in cases if case.time is not None]
    if not points or not times:
        return [f"{len(cases)} budgets, and none that a row of the shortlist is known to keep."]
    within = sum(one <= TIE + 1e-9 for one in points), sum(one <= 0.05 for one in times)
    broken = sum(bool(case.broken) for case in kept)
    hopeless = sum(case.best is None for case in cases)
    lost = sum(case.best is not None and case.choice is None for case in cases)
    return [
        f"{len(cases)} budgets: in {len(kept)} the choice is said to keep them, **{broken} of these are broken**; in "
        f"{hopeless} no row of the shortlist is kept; in {lost} nothing was chosen though a row is kept.",
        f"Points of accuracy lost: median {statistics.median(points):.2f}, most {max(points):.2f}; at most {TIE} in "
        f"{within[0]} of {len(points)}. Time lost: median {statistics.median(times):+.1%}, most {max(times):+.1%}; at "
        f"most 5 % in {within[1]} of {len(times)}.",
    ]


def retest(measured: dict[Key, Twice]) -> str:
    """How far two measurements of the same row are apart."""
    told = []
    for name in FIGURES[:-1]:
        pairs = [(getattr(one.first, name), getattr(one.second, name)) for one in measured.values()]
        apart = [abs(np.log(second.value / first.value)) for first, second in pairs if first and second]
        told.append(f"{name} {statistics.median(apart):.1%} (90th percentile {np.percentile(apart, 90):.1%})")
    return f"Between the two measurements of a row, median: {', '.join(told)}."


def starts(count: int) -> str:
    """Times of the whole command from a cached calibration."""
    command = [sys.executable, "-m", "vitsmith", "recommend", "--latency", "30ms", "--json", "--out"]
    seconds = []
    with tempfile.TemporaryDirectory() as place:
        fields = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        fields |= {"PYTHONPYCACHEPREFIX": f"{place}/compiled", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        for number in range(count + 1):
            began = time.perf_counter()
            subprocess.run([*command, f"{place}/{number}"], env=fields, check=True, capture_output=True)
            seconds.append(time.perf_counter() - began)
    rest = seconds[1:]  # the first one compiles the modules
    return (
        f"`vitsmith recommend --latency 30ms --json` from a cached calibration: {statistics.median(rest):.2f} s "
        f"({min(rest):.2f} to {max(rest):.2f}, {count} starts; {seconds[0]:.2f} the first time)."
    )


def options_of_command() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--budgets", type=int, default=48)
    parser.add_argument("--latency", type=float, default=60.0, help="milliseconds")
    parser.add_argument("--most", type=int, default=40, help="architectures in a setup that are measured")
    parser.add_argument("--fresh", type=int, default=4, help="budgets for which `--measure 3` measures itself")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each timing of a row, all turns together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="a few rows for a moment; its numbers mean nothing")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.tiny:
        options.budgets, options.most, options.fresh, options.seconds, options.latency = 15, 4, 1, 0.1, 30.0
    return options


def tell(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


def main() -> None:
    options = options_of_command()
    began, load = time.perf_counter(), os.getloadavg()[0]
    request = make_request(RequestOptions(latency=f"{options.latency}ms"))
    machine = machine_of(request, tell=tell)
    rows = shortlist(candidates(catalogue(), request, machine), options.latency / 1e3, options.most, options.seed)
    tell(
        f"{len(rows)} rows of {len({row.source for row in rows})} checkpoints; {len(set(map(key_of, rows)))} to measure"
    )
    with tempfile.TemporaryDirectory() as place:
        pace = Pace(seconds=options.seconds)
        measured, failed = measure_all(rows, Path(place), request.scenario.photo, pace, tell)
    spent = time.perf_counter() - began
    bench = Bench(machine, rows, measured, options.seed)
    asked = list(bench.requests(options.budgets))
    cases = [bench.replayed(one) for one in asked]
    able = [case.request for case in cases if case.choice is not None]
    tell(f"{options.fresh} budgets with measurements of their own")
    fresh = [bench.fresh(able[number]) for number in range(0, len(able), max(len(able) // max(options.fresh, 1), 1))]
    fresh = fresh[: options.fresh]
    head = ("budgets", "choice", "said", "broken", "best", "points", "time", "measured")
    columns = [f"| {' | '.join(head)} |", "|---|---|---|---|---|---:|---:|---:|"]
    command = f"python benchmarks/choice_budgets.py{' --tiny' if options.tiny else ''} --budgets {options.budgets}"
    report = [
        "# Choices after `recommend --measure 3` beside exhaustive measurement",
        "",
        f"`{command} --latency {options.latency:g} --most {options.most} --fresh {options.fresh} --seconds "
        f"{options.seconds:g} --seed {options.seed}`, {datetime.date.today()}, {describe_machine()}, Python "
        f"{platform.python_version()}; load at the start: {load:.1f}; the shortlist took {spent:.0f} s, all "
        f"{time.perf_counter() - began:.0f} s. Setups: {', '.join(map(str, machine.setups))}, and merged.",
        "",
        f"{len(bench.rows)} rows of {len({row.source for row in bench.rows})} checkpoints, {len(measured)} "
        f"architectures in a setup, each measured twice. {retest(bench.measured)}",
        *[f"Not measured: {one}" for one in failed],
        "",
        *summary(cases),
        "",
        starts(2 if options.tiny else STARTS),
        "",
        *columns,
        *(case.line() for case in cases),
        "",
        "With measurements of their own:",
        "",
        *columns,
        *(case.line() for case in fresh),
        "",
        *["    " + line if line else "" for line in __doc__.splitlines()[6:]],
    ]
    text = "\n".join(report) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

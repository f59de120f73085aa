"""How near predicted times come to measured ones, on models that no calibration timed.

    python benchmarks/latency_prediction.py [--out FILE.md] [--rows FILE.json] [--machine PROFILE.json] [--models 36]
    python benchmarks/latency_prediction.py --read FILE.json --machine PROFILE.json     # the same rows, another profile

The machine is calibrated anew (or read from --machine), then the models are drawn: the seed is the commit of the
predictor, so nothing could be tuned on them. Each model meets three engines in a precision, of all that are calibrated
(a fractional design). Its program is written as `export` and `quantize` write it, with random weights, and opened as
users open it; each time is the median of calls in a process of its own. Every program is timed twice, at least one
other model apart: the difference is the machine's own, which no prediction can go below. Measured is the mean of both.

Beside the prediction stand times from operations alone, `a + b * FLOPs`, fitted to the short models of the
calibration, as the prediction is; and fitted to the measured rows themselves, which no prediction could.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from latency_design import Case, cases, fraction, predictor_commit
from latency_rows import Judged, Row, flops_errors, judge

from vitsmith.cost.calibrate import calibrate
from vitsmith.cost.predict import other_machine
from vitsmith.cost.profile import EngineProfile, Profile, read_profile, write_profile
from vitsmith.machine import describe_machine

SECONDS, CALLS, MOST = 2.5, 7, 20.0
"""A process times calls for so long, and at least so many of them, but no longer than MOST."""
TARGETS = {50: (0.05, 1.5), 90: (0.12, 3.0)}
"""Percentile of the errors: at most the larger of a share, and so often the machine's own difference."""


# ---------------------------------------------------------------- measuring


def measure(drawn: Sequence[Case], met: Sequence[Sequence[EngineProfile]]) -> Iterator[Row]:
    """Writes and times the programs; a model's second times come after the next model's first."""
    waiting: Callable[[], list[Row]] | None = None
    with tempfile.TemporaryDirectory() as place:
        for number, (case, profiles) in enumerate(zip(drawn, met, strict=True)):
            written = _written(case, profiles, Path(place) / str(number))
            first = [_timed(folder, one, case.batch) for one, folder in written]
            if waiting:
                yield from waiting()

            def again(case: Case = case, written: Any = written, first: list[float] = first) -> list[Row]:
                rows = []
                for (one, folder), seconds in zip(written, first, strict=True):
                    second = _timed(folder, one, case.batch)
                    config = case.config.model_dump(mode="json")
                    rows.append(
                        Row(case.kind, case.title, config, case.batch, one.engine, one.precision, seconds, second)
                    )
                return rows

            waiting = again
        if waiting:
            yield from waiting()


def _written(case: Case, profiles: Sequence[EngineProfile], place: Path) -> list[tuple[EngineProfile, Path]]:
    from vitsmith.choosing.measured.build import random_bundle, write_to_time
    from vitsmith.choosing.recommendation import Setup

    place.mkdir()
    bundle, found = random_bundle(case.config), []
    for one in profiles:
        folder = place / f"{one.engine}-{one.precision}"
        write_to_time(bundle, Setup(one.engine, one.precision), folder)
        found.append((one, folder))
    return found


def _timed(folder: Path, one: EngineProfile, batch: int) -> float:
    """The median seconds of a call, in a process of its own."""
    command = [sys.executable, __file__, "--time", str(folder), one.engine, one.precision, str(one.threads), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def time_here(folder: str, engine: str, precision: str, threads: str, batch: str) -> float:
    """The median seconds of a call in this process."""
    from vitsmith.engines.open import open_engine
    from vitsmith.engines.sample_inputs import sample_inputs
    from vitsmith.weights.load import load

    bundle, count = load(folder), int(batch)
    goal = "latency" if count == 1 else "throughput"
    program = open_engine(bundle, engine, precision=precision, threads=int(threads), goal=goal)  # type: ignore[arg-type]
    images = sample_inputs(bundle, count)
    began = time.perf_counter()
    while time.perf_counter() - began < 0.3:
        program.run(images)
    seconds: list[float] = []
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < MOST and (spent < SECONDS or len(seconds) < CALLS):
        started = time.perf_counter()
        program.run(images)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


# ---------------------------------------------------------------- telling


def report(rows: Sequence[Row], profile: Profile, title: str, script: str, about: str) -> str:
    """The page of results of `script`, whose docstring is `about`."""
    judged, refused = judge(rows, profile)
    parts = [f"# {title}", "", *_head(profile, rows, script), "", *_summary(judged, profile), ""]
    parts += ["| | rows | median error | 90th | test-retest | inside 90 % |", "|---|---:|---:|---:|---:|---:|"]
    groups: dict[str, list[Judged]] = {"all": list(judged)}
    for key in ("way", "kind"):
        for one in judged:
            groups.setdefault(getattr(one.row, key), []).append(one)
    parts += [_line(name, group) for name, group in groups.items()]
    parts += [f"| calls of one image | {_cells([one for one in judged if one.row.batch == 1])}"]
    parts += [f"| calls of several | {_cells([one for one in judged if one.row.batch > 1])}", ""]
    parts += ["| model | pixels | batch | engine | predicted ms (90 %) | measured ms, twice | error | |"]
    parts += ["|---|---|---:|---|---|---|---:|---|"]
    parts += [_row(one) for one in sorted(judged, key=lambda one: -abs(one.error))]
    if refused:
        parts += ["", "Refused:", "", *(f"- {one}" for one in refused)]
    parts += ["", *(f"    {line}".rstrip() for line in about.strip().splitlines())]
    return "\n".join(parts) + "\n"


def _head(profile: Profile, rows: Sequence[Row], script: str) -> list[str]:
    versions = ", ".join(
        f"{name} {version}" for name, version in sorted({(e.engine, e.version) for e in profile.engines})
    )
    made = ", ".join(sorted({one.made for one in profile.engines}))
    lines = [
        f"`python benchmarks/{script}`, {datetime.date.today()}, {describe_machine()}; {versions}.",
        f"Predictor: commit {predictor_commit()[:12]}, of which the seed is made. Profile of {made}. {len(rows)} rows.",
    ]
    for one in profile.engines:
        told = f"{one.engine} {one.precision}: {len(one.timed)} short models, unsteady {one.spread:.1%}"
        lines.append(f"- {told}, others {one.others:.0%}" + "".join(f"; {remark}" for remark in one.remarks))
    lines += [f"- {remark}" for remark in other_machine(profile, profile.engines[0].engine)]
    return lines


def _summary(judged: Sequence[Judged], profile: Profile) -> list[str]:
    errors, retest = _errors(judged), [one.row.retest for one in judged]
    lines = []
    for percentile, (share, factor) in TARGETS.items():
        reached, own = np.percentile(errors, percentile), np.percentile(retest, percentile)
        allowed = max(share, factor * float(np.median(retest)))
        word = "median" if percentile == 50 else f"{percentile}th percentile"
        verdict = "kept" if reached <= allowed else "NOT KEPT"
        lines.append(
            f"- {word} error **{reached:.1%}**; at most {allowed:.1%} asked ({verdict}); the machine's own {own:.1%}"
        )
    inside = statistics.mean(one.inside for one in judged)
    verdict = "kept" if 0.85 <= inside <= 0.97 else "NOT KEPT"
    lines.append(f"- inside their 90 % interval **{inside:.0%}**; 85 to 97 % asked ({verdict})")
    on_probes, on_rows = flops_errors(judged, profile)
    for errors, fitted in ((on_probes, "the same short models"), (on_rows, "these rows themselves")):
        if not errors:  # too few rows of every engine
            continue
        lines.append(
            f"- operations alone, fitted to {fitted}: median {np.percentile(errors, 50):.1%}, 90th percentile "
            f"{np.percentile(errors, 90):.1%}"
        )
    return lines


def _errors(judged: Sequence[Judged]) -> list[float]:
    return [abs(one.error) for one in judged]


def _line(name: str, group: Sequence[Judged]) -> str:
    return f"| {name} | {_cells(group)}"


def _cells(group: Sequence[Judged]) -> str:
    if not group:
        return "0 | | | | |"
    errors = _errors(group)
    retest = statistics.median(one.row.retest for one in group)
    inside = statistics.mean(one.inside for one in group)
    return f"{len(group)} | {np.median(errors):.1%} | {np.percentile(errors, 90):.1%} | {retest:.1%} | {inside:.0%} |"


def _row(one: Judged) -> str:
    row, ms = one.row, 1000.0
    height, width = row.config["image_size"]
    return (
        f"| {row.title} | {height}x{width} | {row.batch} | {row.way} | {ms * one.predicted:.1f} ({ms * one.low:.1f} to "
        f"{ms * one.high:.1f}) | {ms * row.first:.1f}, {ms * row.second:.1f} | {one.error:+.1%} | "
        f"{'' if one.inside else 'outside'} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rows", type=Path, help="keep the measured rows, for --read")
    parser.add_argument("--read", type=Path, help="rows that were measured before")
    parser.add_argument("--machine", type=Path, help="a profile; default: this machine is calibrated anew")
    parser.add_argument("--keep-machine", type=Path, help="a file for the new profile")
    parser.add_argument("--models", type=int, default=36, help="how many of the drawn models")
    parser.add_argument("--seed", type=int, default=int(predictor_commit()[:8], 16))
    parser.add_argument("--time", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.time:
        print(time_here(*options.time))
        return
    profile = read_profile(options.machine) if options.machine else calibrate(again=True)
    if options.keep_machine:
        write_profile(profile, options.keep_machine)
    if options.read:
        rows = [Row(**fields) for fields in json.loads(options.read.read_text())]
    else:
        rows = []
        drawn = cases(options.seed)[: options.models]
        for row in measure(drawn, fraction(len(drawn), profile.engines, options.seed)):
            rows.append(row)
            for one in judge([row], profile)[0]:
                print(_row(one), flush=True)
            if options.rows:
                options.rows.write_text(json.dumps([asdict(one) for one in rows]))
    title = "Predicted and measured times of models that were not calibrated"
    text = report(rows, profile, title, "latency_prediction.py", __doc__ or "")
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()

"""How near predicted times come to measured ones on one GPU, on models that its calibration did not time.

    python benchmarks/gpu_cost.py [--minutes 8] [--out FILE.md]
    python benchmarks/gpu_cost.py --device cpu --tiny      to see that the script works

The GPU is calibrated by `vitsmith.calibrate`, torch in fp32 and bf16, and predicted by the same predictor as processors
are: nothing in it is changed for GPUs. The models are those of benchmarks/latency_design.py, whose seed is the commit
of the predictor, with random weights, opened as the torch engine opens them; each in both precisions. A call begins and
ends with an array of numpy on the processor, so that copies are in it and the GPU has finished. The time is the median
of calls in this process; each model is timed twice, another model in between. Measured is the mean of both. No model
begins after --minutes less a half.

Beside the prediction stand times from operations alone, `a + b * FLOPs`, fitted to the short models of the calibration.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from latency_design import Case, cases, predictor_commit
from latency_prediction import report
from latency_rows import Row

from vitsmith.cost.calibrate import calibrate
from vitsmith.cost.profile import EngineProfile
from vitsmith.cost.torch_programs import open_torch
from vitsmith.engines.settings import Settings
from vitsmith.models.cost import flops

PRECISIONS = ("fp32", "bf16")
SECONDS, CALLS = 0.7, 7
"""Calls of a model are timed for so long, and at least so many of them."""
WARM = 0.3

Timed = Callable[[], float]


def opened(case: Case, profile: EngineProfile) -> Timed:
    """What times the model once more: the median seconds of a call."""
    goal = "latency" if case.batch == 1 else "throughput"
    settings = Settings(threads=profile.threads, precision=profile.precision, goal=goal)
    engine = open_torch(case.config, "torch", settings)
    images = np.random.default_rng(0).standard_normal((case.batch, 3, *case.config.image_size), np.float32)

    def once() -> float:
        began = time.perf_counter()
        engine.run(images)
        return time.perf_counter() - began

    def median() -> float:
        for least, calls in ((WARM, 2), (SECONDS, CALLS)):
            seconds = []
            while len(seconds) < calls or sum(seconds) < least:
                seconds.append(once())
        return statistics.median(seconds)

    return median


def measure(drawn: Sequence[Case], profiles: Sequence[EngineProfile], until: float) -> Iterator[Row]:
    """Times the models until the clock says `until`; a model's second times come after the next model's first."""
    waiting: list[tuple[Case, EngineProfile, Timed, float]] = []
    for case in drawn:
        if time.perf_counter() > until:
            break
        now = [(case, one, timed := opened(case, one), timed()) for one in profiles]
        yield from map(_again, waiting)
        waiting = now
        gc.collect()
    yield from map(_again, waiting)


def _again(known: tuple[Case, EngineProfile, Timed, float]) -> Row:
    case, one, timed, first = known
    config = case.config.model_dump(mode="json")
    return Row(case.kind, case.title, config, case.batch, one.engine, one.precision, first, timed())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=0, help="default: of the predictor's commit")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the smallest models in fp32: only to try the script")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "this needs a CUDA device and a torch built for it; --device cpu --tiny tries the script", file=sys.stderr
        )
        return 2
    until = time.perf_counter() + 60 * (options.minutes - 0.5)
    profile = calibrate("torch", precisions=PRECISIONS[: 1 if options.tiny else 2], again=not options.tiny)
    drawn = cases(options.seed or int(predictor_commit()[:8], 16))
    if options.tiny:
        drawn = sorted(drawn, key=lambda case: case.batch * flops(case.config))[:3]
    rows = list(measure(drawn, profile.engines, until))
    title = f"Predicted and measured times on {profile.engines[0].gpu or 'the processor'}"
    text = report(rows, profile, title, "gpu_cost.py", __doc__ or "")
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Times of built programs, in turns: the engine's median, and the 95th percentile from JPEG bytes to the answer."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vitsmith.benchmark.memory import Died, Memory, Task, measure_memory
from vitsmith.choosing.figures import Mark, MarkedFigure
from vitsmith.choosing.recommendation import Recommendation
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.engines.open import open_engine
from vitsmith.engines.protocol import Engine
from vitsmith.engines.sample_inputs import sample_inputs
from vitsmith.evaluation.timing import Pace, Timing, time_in_turns
from vitsmith.stream import ImageStream
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import program_mib

MIB = 2**20
PACE = Pace(seconds=3.0)
SOURCE = "measured here, just now"


@dataclass(frozen=True)
class MeasuredRow:
    """What was measured of one row; None where it could not be."""

    latency: MarkedFigure
    median: MarkedFigure
    throughput: MarkedFigure
    memory: MarkedFigure | None
    size: MarkedFigure
    remarks: tuple[str, ...] = ()


def measure_built(
    built: Sequence[tuple[Recommendation, Bundle]],
    photo: tuple[int, int],
    *,
    pace: Pace = PACE,
    on_turn: Callable[[str], None] = lambda _: None,
) -> tuple[list[MeasuredRow | None], list[str]]:
    """The figures of each row, and why a row has none ('' where it has them); `photo` is (height, width) of a JPEG.

    All engines are open at once and take turns, so that a busy moment slows all alike. The ends of an interval are the
    lowest and the highest of the turns. Memory is measured in a process of its own.
    """
    jpeg = jpeg_bytes(photo)
    runs: dict[tuple[int, str], Callable[[], object]] = {}
    reasons = [""] * len(built)
    for at, (row, bundle) in enumerate(built):
        try:
            runs |= {(at, what): run for what, run in _runs(row, bundle, jpeg).items()}
        except Exception as error:  # whatever a foreign runtime throws
            reasons[at] = _first_line(error)
    timings, failed = time_in_turns(runs, 1, pace, lambda key: on_turn(f"{built[key[0]][0]}: {key[1]}"))
    for (at, _), fault in failed.items():
        reasons[at] = reasons[at] or _first_line(fault)
    found: list[MeasuredRow | None] = []
    for at, (row, bundle) in enumerate(built):
        own = {what: timing for (place, what), timing in timings.items() if place == at}
        found.append(None if reasons[at] else _measured(row, bundle, own))
    return found, reasons


def jpeg_bytes(size: tuple[int, int]) -> bytes:
    """A photo of (height, width) pixels as JPEG, quality 90."""
    from PIL import Image

    height, width = size
    image = Image.fromarray(np.asarray(sample_images(1)[0])).resize((width, height), Image.Resampling.BICUBIC)
    kept = io.BytesIO()
    image.save(kept, "JPEG", quality=90)
    return kept.getvalue()


def _runs(row: Recommendation, bundle: Bundle, jpeg: bytes) -> dict[str, Callable[[], object]]:
    """What is timed of a row: the engine alone, from bytes to the answer, and batches where they are asked for."""
    setup = row.setup

    def opened(goal: str) -> Engine:
        return open_engine(bundle, setup.engine, precision=setup.precision, threads=row.threads, goal=goal)  # type: ignore[arg-type]

    engine = opened("latency")
    stream = ImageStream(bundle.preprocessing, engine, batch_size=1)
    inputs = sample_inputs(bundle, 1)
    runs: dict[str, Callable[[], object]] = {
        "engine": lambda: engine.run(inputs),
        "answer": lambda: stream.rows([jpeg]),
    }
    if row.batch > 1:
        several, batches = opened("throughput"), sample_inputs(bundle, row.batch)
        runs["batch"] = lambda: several.run(batches)
    return runs


def _measured(row: Recommendation, bundle: Bundle, timings: Mapping[str, Timing]) -> MeasuredRow:
    median = _over_turns(timings["engine"], statistics.median)
    batch = timings.get("batch")
    call = median if batch is None else _over_turns(batch, statistics.median)
    memory, told = _memory(row, bundle)
    return MeasuredRow(
        latency=_over_turns(timings["answer"], lambda seconds: float(np.percentile(seconds, 95))),
        median=median,
        throughput=_figure(row.batch / call.value, row.batch / call.high, row.batch / call.low),
        memory=memory,
        size=_figure(program_mib(bundle.place) * MIB),
        remarks=told,
    )


def _over_turns(timing: Timing, of: Callable[[Sequence[float]], float]) -> MarkedFigure:
    """A figure of all calls, and its lowest and highest value in a turn."""
    turns, whole = [of(turn) for turn in timing.turns], of(timing.seconds)
    return _figure(whole, min(*turns, whole), max(*turns, whole))


def _memory(row: Recommendation, bundle: Bundle) -> tuple[MarkedFigure | None, tuple[str, ...]]:
    batches = (1,) if row.batch == 1 else (1, row.batch)
    task = Task(str(bundle.place), row.setup.engine, row.setup.precision, row.threads, "throughput", batches)
    if row.batch == 1:
        task = Task(task.model, task.engine, task.precision, task.threads, "latency", batches)
    found = measure_memory(task)
    died = [one.reason for one in found.values() if isinstance(one, Died)]
    if died:
        return None, (f"memory could not be measured: {died[0]}",)
    return _figure(max(one.bytes for one in found.values() if isinstance(one, Memory))), ()


def _figure(value: float, low: float | None = None, high: float | None = None) -> MarkedFigure:
    return MarkedFigure(value, value if low is None else low, value if high is None else high, Mark.measured, SOURCE)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

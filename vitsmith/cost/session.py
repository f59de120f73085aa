"""The measuring process of a calibration: opens short models with one engine and times them in turns.

    python -m vitsmith.cost.session '{"engine": "onnx", "precision": "fp32", "threads": 2, "seconds": 17.0, ...}'

answers {"opened": number} for each model, {"spent": share of the time} after each round, and in the end for each model
{"probe": number, "seconds": [...], "reference": [...]}, then {"reference": [...], "others": 0.01}; or {"error": "..."}.
{"peak": bytes} comes first: the memory of a process with one small model, above that of a bare Python interpreter; with
{"gpu": name} where the engine runs on one. A call returns an array of numpy, so the GPU has finished by then.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any, Protocol

import numpy as np

from vitsmith.arrays import Array
from vitsmith.cost.cost import UnpredictedError
from vitsmith.cost.probes import REFERENCE, ShortModel, probes
from vitsmith.engines.settings import Settings
from vitsmith.errors import InputError
from vitsmith.machine import free_memory, peak_memory
from vitsmith.models.cost import parameters
from vitsmith.process.child import answer_parent, try_in_child

COMMAND = (sys.executable, "-m", "vitsmith.cost.session")

OPENERS = {
    "torch": "vitsmith.cost.torch_programs:open_torch",
    "onnx": "vitsmith.cost.graphs.program:open_program",
    "openvino": "vitsmith.cost.graphs.program:open_program",
}
"""How each engine opens a short model of a configuration: parts that need its package, and so are named only."""

SHORT = 0.02
"""Seconds that short calls are repeated for in each turn, so that one late moment does not decide."""
LONG = 0.05
"""Seconds of a call from which its own start does not matter: caches are filled early in it."""
OPENING = 0.6
"""Share of the time that may go by before the first turn; models that are not open then are left out."""

Answer = Callable[[Mapping[str, Any]], None]


class Runs(Protocol):
    """An open model."""

    def run(self, images: Array) -> Array: ...


@dataclass
class OpenModel:
    """An open model, its input, and its times."""

    number: int
    """Its place among all short models."""
    program: Runs
    images: Array
    turns: list[tuple[float, float]] = field(default_factory=list)
    """(start, seconds) of each call."""


@dataclass(frozen=True)
class SessionTask:
    """What a measuring process does."""

    engine: str
    precision: str
    threads: int
    seconds: float
    """After this time no further turn begins."""


def measure(
    task: SessionTask,
    chosen: Sequence[ShortModel],
    answer: Answer,
    *,
    bare: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Times `chosen`, the most important first, and reports by `answer`. Raises what engines raise.

    `bare` are the bytes of a bare Python interpreter.
    """
    began, before = clock(), _busy()
    (reference,) = _open(task, [REFERENCE], answer, clock, began)
    _turn(reference, clock)
    answer({"peak": peak_memory() - bare, "gpu": getattr(reference.program, "gpu", "")})
    others = _open(task, chosen, answer, clock, clock())
    _turn(reference, clock)
    reference.turns.clear()
    beside: list[tuple[float, float]] = []
    while True:
        for number, one in enumerate(others):
            if clock() - began > task.seconds and all(each.turns for each in others[:MINIMUM]):
                break
            if number % EVERY == 0:
                beside.append(_turn(reference, clock))
            _turn(one, clock)
        else:
            answer({"spent": (clock() - began) / task.seconds})
            if clock() - began < task.seconds:
                continue
        break
    beside.append(_turn(reference, clock))
    for one in others:
        if one.turns:
            near = [_nearest(beside, at) for at, _ in one.turns]
            answer({"probe": one.number, "seconds": [seconds for _, seconds in one.turns], "reference": near})
    answer({"reference": [seconds for _, seconds in reference.turns], "others": _others(before)})


MINIMUM = 8
"""The first probes are measured in any case: without them nothing can be predicted."""
EVERY = 6
"""The reference model is timed after so many others."""


def _open(
    task: SessionTask, chosen: Sequence[ShortModel], answer: Answer, clock: Callable[[], float], began: float
) -> list[OpenModel]:
    """Open models, as many as time and memory allow."""
    opener: Callable[..., Runs] = resolve_name(OPENERS[task.engine])
    opened: list[OpenModel] = []
    room = free_memory() // 2
    for number, probe in enumerate(chosen):
        enough = number >= MINIMUM
        room -= 8 * parameters(probe.config)
        if enough and (room < 0 or clock() - began > OPENING * task.seconds):
            break
        settings = Settings(threads=task.threads, precision=task.precision, goal=probe.goal)
        try:
            program = opener(probe.config, task.engine, settings)
        except UnpredictedError:  # what is not timed is not predicted: see `predictor.py`
            continue
        generator = np.random.default_rng(0)
        images = generator.standard_normal((probe.batch, 3, *probe.config.image_size), np.float32)
        opened.append(OpenModel(number, program, images))
        answer({"opened": number})
    return opened


def _turn(one: OpenModel, clock: Callable[[], float]) -> tuple[float, float]:
    """One turn: a first call that is not counted where calls are short, then at least one that is.

    Returns when it began, and the median of its calls.
    """
    if not one.turns:  # engines get memory and pack weights in the first call, onnxruntime in the second as well
        one.program.run(one.images)
    turn, began = [], clock()
    one.program.run(one.images)
    first = clock() - began
    if first > LONG and one.turns:
        turn.append((began, first))
    else:
        began = clock()
        while not turn or clock() - began <= SHORT:
            started = clock()
            one.program.run(one.images)
            turn.append((started, clock() - started))
    one.turns += turn
    return turn[0][0], statistics.median(seconds for _, seconds in turn)


def _nearest(beside: Sequence[tuple[float, float]], at: float) -> float:
    """Seconds of the reference model around the moment `at`: the median of its five turns nearest in time."""
    near = sorted(beside, key=lambda turn: abs(turn[0] - at))[:5]
    return statistics.median(seconds for _, seconds in near)


def _busy() -> tuple[float, float, float]:
    """(now, seconds that the cores of this process were busy, seconds of this process)."""
    import psutil

    per_core = psutil.cpu_times(percpu=True)
    own = psutil.Process()
    cores = own.cpu_affinity() if hasattr(own, "cpu_affinity") else range(len(per_core))
    busy = sum(sum(per_core[core]) - per_core[core].idle - getattr(per_core[core], "iowait", 0.0) for core in cores)
    mine = own.cpu_times()
    return time.perf_counter(), busy, mine.user + mine.system


def _others(before: tuple[float, float, float]) -> float:
    """The share of the cores that other processes used since `before`, 0 to 1."""
    import psutil

    now, busy, own = _busy()
    process = psutil.Process()
    cores = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else len(psutil.cpu_times(percpu=True))
    used = (busy - before[1]) - (own - before[2])
    return min(max(used / max((now - before[0]) * cores, 1e-9), 0.0), 1.0)


BARE = (
    sys.executable,
    "-c",
    "import vitsmith.process.child as child, vitsmith.machine as machine; "
    "child.answer_parent()({'bare': machine.peak_memory()})",
)


def _bare_memory() -> int:
    """Bytes of a Python interpreter that has not imported what measures, as this one has already.

    So `vitsmith benchmark` counts them. Raises InputError.
    """
    done = try_in_child(BARE, {}, seconds=60)
    if not done.answers:
        raise InputError(f"the memory of a bare Python interpreter is not known: its process {done.how}")
    return int(done.answers[-1]["bare"])


def main(text: str) -> None:
    """Runs the task in `text`, JSON."""
    answer = answer_parent()
    task = SessionTask(**json.loads(text))
    from vitsmith.errors import VitsmithError

    try:
        measure(task, probes(), answer, bare=_bare_memory())
    except VitsmithError as error:
        answer({"error": str(error)})
    except Exception as error:  # whatever a foreign runtime throws
        answer({"error": f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"})


if __name__ == "__main__":
    main(sys.argv[1])

"""One benchmark from end to end: memory first, each engine in a child process; then time in turns; then answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vitsmith import needs_torch
from vitsmith.benchmark.answers import Parity, Reference, compare_with, evaluate_engine
from vitsmith.benchmark.contenders import MIB, Contender
from vitsmith.benchmark.memory import Died, Memory, Task, described, measure_memory
from vitsmith.benchmark.rows import Benchmark, BenchmarkRow, with_rates, with_ratios
from vitsmith.data.sets.samples import Samples
from vitsmith.engines.golden_answers import open_checked
from vitsmith.engines.protocol import Engine
from vitsmith.engines.sample_inputs import sample_inputs
from vitsmith.engines.settings import Goal, Settings
from vitsmith.errors import ImageError
from vitsmith.evaluation.evaluation import Evaluation
from vitsmith.evaluation.peak_rates import Peak, highest, numpy_peaks
from vitsmith.evaluation.timing import Pace, Timing, time_in_turns
from vitsmith.machine import available_cores, free_memory, load_average

_TAKEN = 0.9
"""Share of the free memory that may be used; the rest is for other processes."""

Step = Callable[[str], None]


@dataclass(frozen=True)
class BenchmarkSettings:
    """What to measure, and how long."""

    batches: tuple[int, ...] = (1, 8)
    """Batch sizes, ascending."""
    threads: int | None = None
    pace: Pace = field(default_factory=Pace)


@dataclass(frozen=True, eq=False)
class AnswerData:
    """What answers are compared with, and labelled images for accuracy."""

    reference: Reference | None = None
    samples: Samples | None = None
    data: str = ""
    """Name of the samples."""
    split: Mapping[str, int] | None = None
    """Counts of the samples, as `EvaluationSet.counts`; None where the models have no split record."""


@dataclass(frozen=True, eq=False)
class Opening:
    """A contender opened for some of the batches."""

    contender: Contender
    goal: Goal
    batches: tuple[int, ...]


@dataclass
class _Found:
    """The results so far."""

    memory: dict[tuple[Contender, int], Memory] = field(default_factory=dict)
    reasons: dict[tuple[Contender, int], str] = field(default_factory=dict)
    timings: dict[tuple[Contender, int], Timing] = field(default_factory=dict)
    parities: dict[Contender, Parity | None] = field(default_factory=dict)
    evaluations: dict[Contender, Evaluation] = field(default_factory=dict)
    reports: dict[Contender, dict[str, Any]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def fails(self, contender: Contender, batches: Sequence[int], reason: str) -> None:
        for batch in batches:
            self.reasons.setdefault((contender, batch), reason)


def openings_of(contenders: Sequence[Contender], batches: Sequence[int]) -> list[Opening]:
    """Each contender that is not refused, once for each goal that its batches are measured for."""
    openings = []
    for contender in contenders:
        goals = dict.fromkeys(contender.goal(batch) for batch in batches)
        for goal in goals if not contender.refused else ():
            its = tuple(batch for batch in batches if contender.goal(batch) == goal)
            openings.append(Opening(contender, goal, its))
    return openings


def steps_of(contenders: Sequence[Contender], settings: BenchmarkSettings) -> int:
    """Number of calls of `step` when nothing fails."""
    openings = openings_of(contenders, settings.batches)
    turns = settings.pace.turns * sum(len(one.batches) for one in openings)
    return 2 * len(openings) + turns + len({one.contender for one in openings}) + 2


def run_benchmark(
    contenders: Sequence[Contender], settings: BenchmarkSettings, answer_data: AnswerData, step: Step = lambda _: None
) -> Benchmark:
    """Measures memory, speed and answers of all contenders; one that fails becomes a row with the reason.

    Each contender is first loaded, opened and run in a child process, which gives its peak memory. A contender whose
    process fails is not opened here. Then, batch by batch, all are timed in turns. `step` gets the name of each step.
    """
    found, load = _Found(), load_average()
    step("peak of the machine")
    peaks = _peaks(settings.threads)
    openings = openings_of(contenders, settings.batches)
    for opening in openings:
        step(f"{opening.contender.title}: memory")
        _measure_memory(opening, settings, found)
    engines: dict[Opening, Engine] = {}
    for batch in settings.batches:
        _open(openings, batch, engines, settings, found, step)
        _time(batch, engines, settings, found, step)
        _compare(engines, answer_data, found, step)
        for opening in [one for one in engines if batch >= one.batches[-1]]:
            del engines[opening]
    step("peak of the machine")
    peaks = highest(peaks, _peaks(settings.threads))
    return replace(_benchmark(contenders, settings, answer_data, found, peaks), load=load)


def _peaks(threads: int | None) -> dict[str, Peak]:
    """Peaks of the processor, and of a GPU where torch weights run; without torch, only that of float32, by NumPy."""
    if not needs_torch.has_torch():
        return numpy_peaks(threads)
    measure: Callable[[int | None], dict[str, Peak]] = needs_torch.part(
        "vitsmith.evaluation.torch_peak_rates:measure_machine"
    )
    return measure(threads)


def _measure_memory(opening: Opening, settings: BenchmarkSettings, found: _Found) -> None:
    one = opening.contender
    model, size, read_as = one.subject.model, one.subject.bundle.config.image_size, one.subject.read_as
    task = Task(model, one.engine, one.precision, settings.threads, opening.goal, opening.batches, size, read_as)
    for batch, memory in measure_memory(task).items():
        if isinstance(memory, Died):
            found.fails(one, [batch], memory.reason)
        else:
            found.memory[one, batch] = memory


def _open(
    openings: Sequence[Opening],
    batch: int,
    engines: dict[Opening, Engine],
    settings: BenchmarkSettings,
    found: _Found,
    step: Step,
) -> None:
    """Opens the engines that this batch needs and that are not open yet."""
    for opening in openings:
        one = opening.contender
        if batch not in opening.batches or opening in engines or (one, batch) in found.reasons:
            continue
        step(f"{one.title}: opening")
        needed, there = found.memory[one, batch].bytes, _TAKEN * free_memory()
        if needed > there:
            how = f"--engine {one.engine} --precision {one.precision}"
            reason = f"needs {needed / MIB:.0f} MiB, but only {there / MIB:.0f} are free: measure it alone, with {how}"
            found.fails(one, opening.batches, reason)
            continue
        engine_settings = Settings(threads=settings.threads, precision=one.precision, goal=opening.goal, measure=True)
        try:
            engines[opening] = open_checked(one.subject.bundle, one.engine, engine_settings)
        except Exception as error:  # whatever a foreign runtime throws
            found.fails(one, opening.batches, described(error))


def _time(batch: int, engines: dict[Opening, Engine], settings: BenchmarkSettings, found: _Found, step: Step) -> None:
    runs = {
        opening.contender: _call(opening.contender, engine, batch)
        for opening, engine in engines.items()
        if batch in opening.batches and (opening.contender, batch) not in found.reasons
    }

    def tell(contender: Contender) -> None:
        step(f"{contender.title}: batches of {batch}")

    timings, failed = time_in_turns(runs, batch, settings.pace, tell)
    found.timings |= {(contender, batch): timing for contender, timing in timings.items()}
    for contender, error in failed.items():
        found.fails(contender, [batch], described(error))


def _call(contender: Contender, engine: Engine, batch: int) -> Callable[[], object]:
    """A function that runs one batch; its inputs are made here, before timing. Pixels where the program takes them."""
    bundle = contender.subject.bundle
    inputs = sample_inputs(bundle, batch)
    return (lambda: engine.run_pixels(inputs)) if bundle.program_spec.pixels else (lambda: engine.run(inputs))


def _compare(engines: dict[Opening, Engine], answer_data: AnswerData, found: _Found, step: Step) -> None:
    """Compares the answers and reports the graph of each contender, once."""
    for opening, engine in engines.items():
        one = opening.contender
        timed = [batch for batch in opening.batches if (one, batch) in found.timings]
        if one in found.parities or all((one, batch) in found.reasons for batch in timed):
            continue
        step(f"{one.title}: answers")
        bundle = one.subject.bundle
        found.parities[one] = None
        try:
            if answer_data.reference is not None:
                found.parities[one] = compare_with(answer_data.reference, engine, bundle)
            if answer_data.samples is not None:
                found.evaluations[one] = evaluate_engine(bundle, engine, answer_data.samples)
        except ImageError as error:  # a fault of the data: keep what was measured
            found.remarks.append(f"no accuracy of {one.title}: {error}")
        except Exception as error:  # a program that runs, but not on these images
            found.fails(one, opening.batches, described(error))
            del found.parities[one]  # an engine opened for other batches is compared by itself
        found.reports[one] = _report(engine)


def _report(engine: Engine) -> dict[str, Any]:
    try:
        return engine.report().to_dict()
    except Exception as error:  # a failed report must not lose the measurements
        return {"remarks": [f"no report on the graph: {described(error)}"]}


def _benchmark(
    contenders: Sequence[Contender],
    settings: BenchmarkSettings,
    answer_data: AnswerData,
    found: _Found,
    peaks: dict[str, Peak],
) -> Benchmark:
    reference = answer_data.reference
    rows = list(_rows(contenders, settings.batches, found))
    peaks = with_rates(peaks, rows)
    low = [
        f"the peak of {precision} was measured too low: it is {peak.how}"
        for precision, peak in peaks.items()
        if peak.seen
    ]
    return Benchmark(
        rows=with_ratios(rows, peaks),
        reports=tuple(found.reports.items()),
        peaks=peaks,
        reference=reference.name if reference is not None else "",
        num_images=len(reference.images) if reference is not None else 0,
        threads=settings.threads or available_cores(),
        data=answer_data.data,
        split=answer_data.split,
        remarks=(*found.remarks, *low),
    )


def _rows(contenders: Sequence[Contender], batches: Sequence[int], found: _Found) -> Iterator[BenchmarkRow]:
    for batch in batches:
        for one in contenders:
            reason = one.refused or found.reasons.get((one, batch), "")
            if reason:
                yield BenchmarkRow(one, batch, reason)
                continue
            yield BenchmarkRow(
                one,
                batch,
                timing=found.timings[one, batch],
                memory=found.memory[one, batch],
                parity=found.parities.get(one),
                evaluation=found.evaluations.get(one),
            )

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from tests.exporting import export_onnx
from tests.tiny import CONFIGS, VIT, pictures, tiny_lit, tiny_model
from vitsmith.benchmark import session
from vitsmith.benchmark.answers import reference_of
from vitsmith.benchmark.contenders import Contender, Subject, contenders_of
from vitsmith.benchmark.memory import Died, Memory, Task, measure_memory
from vitsmith.benchmark.rows import NUMBERS
from vitsmith.benchmark.session import AnswerData, BenchmarkSettings, openings_of, run_benchmark, steps_of
from vitsmith.cli.arguments.inputs import labelled
from vitsmith.cli.benchmark import benchmark
from vitsmith.cli.main import INTERRUPTED
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.sets.samples import Samples
from vitsmith.engines.registry import ENGINES
from vitsmith.errors import BundleError, DatasetError, InputError, OutputError, UnknownNameError
from vitsmith.evaluation import torch_peak_rates as torch_peaks
from vitsmith.evaluation.peak_rates import Peak, highest, numpy_peaks, raised, share_of_peak
from vitsmith.evaluation.timing import Pace, Timing, time_in_turns
from vitsmith.evaluation.torch_peak_rates import measure_peaks
from vitsmith.models.cost import flops, parameters
from vitsmith.report.benchmark import draw_benchmark
from vitsmith.report.figure import png
from vitsmith.specs import Labels, ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import read_bundle, write_bundle
from vitsmith.weights.save import save

CLASSES = Labels(names=("a", "b", "c", "d", "e"))
PACE = Pace(seconds=1.0, turns=4, warm=0.0)


class Clock:
    """Time that passes only when something says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    perf_counter = __call__


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ViT as a bundle of torch weights and as an ONNX program."""
    place = tmp_path_factory.mktemp("bundles")
    bundle = Bundle.of(tiny_model(VIT), labels=CLASSES).with_golden(pictures(2))
    export_onnx(save(bundle, place / "pets"), place / "pets-onnx")
    return place


def _subject(name: str = "pets", *, seed: int = 0, **fields: Any) -> Subject:
    bundle = Bundle.of(tiny_model(VIT, seed=seed), labels=CLASSES).with_golden(pictures(2))
    return Subject(name, name, replace(bundle, **fields))


# --- timing ---------------------------------------------------------------------------------------------------------


def test_everybody_is_timed_in_turns_after_a_warm_up() -> None:
    clock, log = Clock(), []

    def run(name: str, seconds: float) -> None:
        log.append(name)
        clock.now += seconds

    runs = {"a": lambda: run("a", 0.125), "b": lambda: run("b", 0.25)}
    pace = Pace(seconds=1.5, turns=3, warm=0.25, clock=clock)
    timings, failed = time_in_turns(runs, 4, pace)
    assert not failed
    assert "".join(log) == ("aa" + "aaaa" + "b" + "bb") * 3  # a quarter of a second warm, then half a second a turn
    assert (timings["a"].calls, timings["b"].calls) == (12, 6)
    assert timings["a"].images_per_second == pytest.approx(32)
    assert timings["a"].times_as_fast_as(timings["b"]) == pytest.approx(2)


def test_who_raises_is_out_and_the_others_go_on() -> None:
    clock, calls = Clock(), []

    def good() -> None:
        clock.now += 0.5

    def bad() -> None:
        calls.append(None)
        clock.now += 0.1
        if len(calls) == 5:
            raise RuntimeError("no more memory")

    timings, failed = time_in_turns({"good": good, "bad": bad}, 1, Pace(1.0, 4, 0.0, clock))
    assert list(timings) == ["good"] and timings["good"].calls == 4
    assert str(failed["bad"]) == "no more memory" and len(calls) == 5


def test_percentiles_are_of_all_calls_and_ratios_within_turns() -> None:
    random = np.random.default_rng(0)
    turns = random.exponential(size=(5, 40))
    timing = Timing(8, tuple(map(tuple, turns.tolist())))
    assert timing.percentile_ms(50) == pytest.approx(1000 * np.sort(turns.ravel())[99:101].mean())
    assert timing.percentile_ms(95) == pytest.approx(1000 * np.percentile(turns, 95))
    assert timing.images_per_second == pytest.approx(8 / np.median(turns))
    busy = np.array([1.0, 1, 9, 1, 1])[:, None]  # a busy turn slows both and changes no ratio
    twice = Timing(8, tuple(map(tuple, (2 * busy * turns).tolist())))
    same = Timing(8, tuple(map(tuple, (busy * turns).tolist())))
    assert same.times_as_fast_as(twice) == pytest.approx(2)


# --- what is compared -----------------------------------------------------------------------------------------------


def _ways(contenders: list[Contender]) -> list[tuple[str, str, bool]]:
    return [(one.engine, one.precision, bool(one.refused)) for one in contenders]


def test_all_engines_of_a_program_in_all_their_precisions() -> None:
    torch_ways = _ways(contenders_of(_subject()))
    assert torch_ways == [(name, p, False) for name in ("torch", "torch-compiled") for p in ("fp32", "bf16")]
    int8 = _subject(program="onnx", program_spec=ProgramSpec(precision="int8"))
    assert _ways(contenders_of(int8)) == [("onnx", "int8", False), ("openvino", "int8", False)]
    assert _ways(contenders_of(int8, ["torch"])) == []
    assert _ways(contenders_of(_subject(), ["torch"], ["bf16"])) == [("torch", "bf16", False)]


def test_a_precision_that_an_engine_has_not_is_a_reason() -> None:
    found = contenders_of(_subject(program="onnx"), ["onnx"], ["bf16", "fp32"])
    assert [one.refused for one in found] == ["onnx runs this program in fp32, not in bf16", ""]


def test_a_missing_package_is_a_reason_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnx", "openvino"):
        monkeypatch.setitem(ENGINES, name, replace(ENGINES[name], package="no_such_package"))
    subject = _subject(program="onnx")
    (own,) = contenders_of(subject)  # what the program was made for; OpenVINO is only another way
    assert own.engine == "onnx" and "pip install 'vitsmith[onnx]'" in own.refused
    (asked, *_) = contenders_of(subject, ["openvino"])
    assert "pip install 'vitsmith[openvino]'" in asked.refused


def test_unknown_names_are_told() -> None:
    with pytest.raises(UnknownNameError, match="unknown engine 'onx': did you mean onnx"):
        contenders_of(_subject(), ["onx"])
    with pytest.raises(UnknownNameError, match="unknown precision 'auto'"):
        contenders_of(_subject(), [], ["auto"])


def test_an_exported_program_is_opened_for_single_images_and_for_batches() -> None:
    contenders = [*contenders_of(_subject(), ["torch"], ["fp32"]), *contenders_of(_subject(program="onnx"), ["onnx"])]
    found = [(one.contender.engine, one.goal, one.batches) for one in openings_of(contenders, (1, 4, 8))]
    assert found == [
        ("torch", "throughput", (1, 4, 8)),
        ("onnx", "latency", (1,)),
        ("onnx", "throughput", (4, 8)),
    ]


def test_size_and_arithmetic_are_of_the_program(folder: Path) -> None:
    exported = Subject("x", "", read_bundle(folder / "pets-onnx"))
    assert exported.size_mib == (folder / "pets-onnx" / "model.onnx").stat().st_size / 2**20
    in_memory = _subject()
    assert in_memory.size_mib == 4 * parameters(VIT) / 2**20
    lit = Subject("lit", "", tiny_lit())
    assert lit.gflops == flops(CONFIGS["lit-bert"].image) / 1e9  # type: ignore[union-attr]


# --- the machine's peak ---------------------------------------------------------------------------------------------


def test_the_peak_is_the_fastest_product(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    seconds = {("fp32", 100): 0.02, ("fp32", 200): 0.1, ("bf16", 100): 0.01, ("bf16", 200): 0.2}

    def products(side: int, device: str) -> Any:
        for precision in ("fp32", "bf16"):
            yield precision, "kernel", lambda p=precision: setattr(clock, "now", clock.now + seconds[p, side])
        yield "int8", "none", _refuse

    def _refuse() -> None:
        raise RuntimeError("not implemented")

    monkeypatch.setattr(torch_peaks, "_products", products)
    monkeypatch.setattr(torch_peaks, "time", clock)
    monkeypatch.setattr(torch_peaks, "ENOUGH", 1.0)
    peaks = measure_peaks(sides=(100, 200))
    assert peaks["fp32"].gflops == pytest.approx(2 * 200**3 / 0.1 / 1e9)
    assert peaks["bf16"].gflops == pytest.approx(2 * 100**3 / 0.01 / 1e9)
    assert peaks["int8"] == peaks["fp32"] and peaks["int8"].how == "fp32 products of side 200, kernel"
    monkeypatch.setattr(torch_peaks, "ENOUGH", 0.015)
    assert measure_peaks(sides=(100, 200))["fp32"].how == "fp32 products of side 100, kernel"


def test_without_torch_numpy_measures_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitsmith.needs_torch.has_torch", lambda: False)
    monkeypatch.setattr(session, "numpy_peaks", lambda threads: numpy_peaks(threads, seconds=0.0, sides=(64, 32)))
    peaks = session._peaks(1)
    assert set(peaks) == {"fp32"} and peaks["fp32"].gflops > 0
    assert re.fullmatch(r"fp32 products of side (64|32), NumPy", peaks["fp32"].how)
    assert share_of_peak(1.0, "int8", peaks) is None


def test_real_products_have_peaks() -> None:
    peaks = measure_peaks(sides=(64,), seconds=0.0)
    assert set(peaks) == {"fp32", "bf16", "int8"} and not any(peak.seen for peak in peaks.values())
    assert all(peak.gflops >= peaks["fp32"].gflops > 0 for peak in peaks.values())


def test_a_share_is_of_the_same_precision() -> None:
    peaks = {"fp32": Peak(200, ""), "bf16": Peak(800, "")}
    assert share_of_peak(100, "fp32", peaks) == share_of_peak(100, "fp16", peaks) == 0.5
    assert share_of_peak(100, "bf16", peaks) == 0.125
    assert share_of_peak(100, "int8", peaks) is None
    assert highest({"fp32": Peak(300, "first")}, peaks)["fp32"].how == "first"


def test_a_model_that_is_faster_than_every_product_raises_the_peak() -> None:
    peaks = {"fp32": Peak(100, "slow"), "bf16": Peak(100, "slow"), "int8": Peak(300, "x"), "cuda fp32": Peak(9, "g")}
    same = raised(peaks, "fp32", 100, "a model")
    assert same == peaks and raised(peaks, "int4", 1e6, "a model") == peaks
    found = raised(peaks, "fp16", 239, "a model")  # on a CPU computed in float32
    assert share_of_peak(239, "fp16", found) == 1 and share_of_peak(100, "fp32", found) == pytest.approx(100 / 239)
    assert found["fp32"].seen and "faster than every product that was measured (slow: 100 GFLOP/s)" in found["fp32"].how
    assert found["bf16"] == found["fp32"]  # what is narrower is at least as fast
    assert found["int8"] == peaks["int8"] and found["cuda fp32"] == peaks["cuda fp32"]
    assert raised(peaks, "cuda fp32", 50, "x")["fp32"] == peaks["fp32"]


# --- memory ---------------------------------------------------------------------------------------------------------


def test_the_peak_of_a_process_stays_when_the_memory_is_given_back() -> None:
    program = (
        "import numpy as np\nfrom vitsmith.machine import peak_memory\nbefore = peak_memory()\n"
        "array = np.ones(20_000_000)\ndel array\nprint(peak_memory() - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 155e6 < int(done.stdout) < 180e6  # 8 bytes each


TASK = Task("pets", "torch", "fp32", 1, "throughput", (1, 8))


def _child(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", f"import os, signal, sys, json; task = json.loads(sys.argv[1])\n{program}")


def test_a_child_that_dies_leaves_the_memory_of_smaller_batches() -> None:
    program = (
        """print(json.dumps({"batch": 1, "peak": 5, "device_peak": 0}), flush=True); os.kill(os.getpid(), signal.{})"""
    )
    found = measure_memory(TASK, _child(program.replace("{}", "SIGSEGV")))
    assert found == {1: Memory(5), 8: Died("its process died with SIGSEGV")}
    killed = measure_memory(TASK, _child(program.replace("{}", "SIGKILL")))[8]
    assert isinstance(killed, Died) and "memory runs out" in killed.reason


def test_a_child_that_ends_otherwise_has_a_reason() -> None:
    told = measure_memory(TASK, _child("print(json.dumps({'error': task['engine'] + ' will not'}))"))
    assert told == {1: Died("torch will not"), 8: Died("torch will not")}
    ended = measure_memory(TASK, _child("sys.exit('no idea')"))
    assert ended[1] == Died("its process ended with exit code 1 (no idea)")


def test_a_real_engine_takes_memory_and_a_wrong_one_is_refused(folder: Path, tmp_path: Path) -> None:
    one, eight = measure_memory(replace(TASK, model=str(folder / "pets"), batches=(1, 4096))).values()
    assert isinstance(one, Memory) and isinstance(eight, Memory)
    images = 4096 * 3 * 16 * 24 * 4
    assert 20e6 < one.bytes < eight.bytes - images  # inputs alone take as much
    bundle = _subject().bundle
    assert bundle.golden is not None
    wrong = replace(bundle.golden, outputs=bundle.golden.outputs + 1)
    write_bundle(replace(bundle, golden=wrong), tmp_path / "wrong")
    refused = measure_memory(replace(TASK, model=str(tmp_path / "wrong"), batches=(1,)))[1]
    assert isinstance(refused, Died) and "other answers here than when the bundle was made" in refused.reason


# --- a whole run with engines that only pretend ----------------------------------------------------------------------


class Pretender:
    """Answers as its bundle's model, off by `error`, and takes `seconds` an image."""

    why = ""

    def __init__(self, bundle: Bundle, name: str, clock: Clock, seconds: float, error: float, most: int) -> None:
        self.name, self.precision = name, "float32"
        self._bundle, self._clock, self._seconds, self._error, self._most = bundle, clock, seconds, error, most

    def run(self, images: np.ndarray) -> np.ndarray:
        if len(images) > self._most:
            raise RuntimeError(f"{len(images)} images are too many\nand more")
        self._clock.now += self._seconds * len(images)
        return self._bundle.run_torch(images) + np.float32(self._error)

    def report(self) -> Any:
        raise NotImplementedError("nothing to see")


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A machine on which torch takes 10 ms an image, compiled torch 4 and half a unit off, and 8 images are too many
    for the latter; bf16 dies while memory is measured, or is refused."""
    clock = Clock()

    def memory(task: Task) -> dict[int, Any]:
        if task.precision == "bf16" and task.engine == "torch":
            return {batch: Died("its process died with SIGFPE") for batch in task.batches}
        size = 2**60 if task.precision == "bf16" else 2**20
        return {batch: Memory(batch * size) for batch in task.batches}

    def open_one(bundle: Bundle, name: str, settings: Any) -> Pretender:
        if bundle.provenance.source == "broken":
            raise BundleError("broken: wrong answers")
        compiled = name == "torch-compiled"
        return Pretender(bundle, name, clock, *((0.004, 0.5, 7) if compiled else (0.010, 0.0, 99)))

    monkeypatch.setattr(session, "measure_memory", memory)
    monkeypatch.setattr(session, "open_checked", open_one)
    monkeypatch.setattr(session, "_peaks", lambda threads: {"fp32": Peak(10.0, "pretended")})
    return clock


def test_what_works_has_numbers_and_what_fails_its_reason(pretended: Clock) -> None:
    subject = _subject()
    contenders = contenders_of(subject)
    settings = BenchmarkSettings((1, 4, 8), None, replace(PACE, clock=pretended))
    answer_data = AnswerData(reference_of([subject], pictures(3)))
    told: list[str] = []
    result = run_benchmark(contenders, settings, answer_data, told.append)
    rows = {(row.contender.engine, row.contender.precision, row.batch): row.to_dict() for row in result.rows}
    assert list(rows) == [(one.engine, one.precision, batch) for batch in (1, 4, 8) for one in contenders]

    slow, fast = rows["torch", "fp32", 4], rows["torch-compiled", "fp32", 4]
    assert slow["p50_ms"] == pytest.approx(40) and slow["images_per_second"] == pytest.approx(100)
    assert fast["images_per_second"] == pytest.approx(250)
    assert (slow["times_as_fast"], fast["times_as_fast"]) == (1, pytest.approx(2.5))
    assert slow["share_of_peak"] == pytest.approx(100 * flops(VIT) / 1e9 / 10)
    assert slow["memory_mib"] == 4 and slow["size_mib"] == subject.size_mib
    outputs = subject.bundle.run_torch(np.stack([preprocess(one, subject.bundle.preprocessing) for one in pictures(3)]))
    assert slow["difference"] == 0 and slow["agreement"] == 1
    assert fast["difference"] == pytest.approx(0.5 / np.abs(outputs).max(), rel=1e-4)

    assert rows["torch-compiled", "fp32", 8]["reason"] == "RuntimeError: 8 images are too many"
    assert rows["torch-compiled", "fp32", 8]["p50_ms"] is None and not fast["reason"]
    assert rows["torch", "bf16", 1]["reason"] == "its process died with SIGFPE"
    reason = rows["torch-compiled", "bf16", 1]["reason"]
    assert reason.startswith(f"needs {2**40} MiB, but only ") and "--engine torch-compiled --precision bf16" in reason
    assert result.reports[0][1]["remarks"] == ["no report on the graph: NotImplementedError: nothing to see"]
    assert len(told) <= steps_of(contenders, settings)


def test_a_model_with_other_labels_or_wrong_answers(pretended: Clock) -> None:
    first, second = _subject("first"), _subject("second", seed=1)
    renamed = Labels(names=("v", "w", "x", "y", "z"))
    third = _subject("third", labels=renamed)
    broken = _subject("broken", provenance=first.bundle.provenance.model_copy(update={"source": "broken"}))
    subjects = [first, second, third, broken]
    contenders = [one for subject in subjects for one in contenders_of(subject, ["torch"], ["fp32"])]
    answer_data = AnswerData(reference_of(subjects, pictures(5)))
    result = run_benchmark(contenders, BenchmarkSettings((2,), None, replace(PACE, clock=pretended)), answer_data)
    rows = {row.contender.subject.name: row for row in result.rows}
    tensors = np.stack([preprocess(one, first.bundle.preprocessing) for one in pictures(5)])
    expected, found = first.bundle.run_torch(tensors), second.bundle.run_torch(tensors)
    parity = rows["second"].parity
    assert parity is not None
    assert parity.difference == pytest.approx(np.abs(found - expected).max() / np.abs(expected).max(), rel=1e-3)
    assert parity.agreement == np.mean(found.argmax(1) == expected.argmax(1))
    assert rows["third"].parity is None and rows["third"].timing is not None
    assert rows["broken"].reason == "broken: wrong answers" and rows["broken"].timing is None


def test_outputs_that_are_no_numbers_are_a_reason_with_every_batch(
    pretended: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, subject = _subject(), _subject("exported", program="onnx")
    broken = Pretender(plain.bundle, "onnx", pretended, 0.01, float("nan"), 99)
    monkeypatch.setattr(session, "open_checked", lambda *_: broken)
    answer_data = AnswerData(reference_of([plain], pictures(3)))
    settings = BenchmarkSettings(
        (1, 4), None, replace(PACE, clock=pretended)
    )  # opened for single images, and for batches
    result = run_benchmark(contenders_of(subject, ["onnx"], ["fp32"]), settings, answer_data)
    assert [row.batch for row in result.rows] == [1, 4]
    assert all("not finite numbers" in row.reason for row in result.rows)
    json.dumps(result.to_dict(), allow_nan=False)


def test_images_that_cannot_be_used_are_told_of(tmp_path: Path, capsys: Any) -> None:
    from vitsmith.cli.benchmark import _answer_data

    Image.fromarray(pictures(1)[0]).save(tmp_path / "one.png")
    _answer_data([_subject(program="onnx")], [str(tmp_path / "one.png")], labelled(""), "")
    assert "--images are not used" in capsys.readouterr().err
    _answer_data([_subject()], [str(tmp_path / "one.png")], labelled(""), "")
    assert "not used" not in capsys.readouterr().err


def test_accuracy_is_that_of_the_answers(pretended: Clock) -> None:
    subject = _subject()
    images = pictures(10, seed=3)
    answers = subject.bundle.run_torch(
        np.stack([preprocess(one, subject.bundle.preprocessing) for one in images])
    ).argmax(1)
    labels = answers.copy()
    labels[:3] = (labels[:3] + 1) % 5
    samples = Samples(CLASSES.names, images, [str(index) for index in range(10)], labels)
    answer_data = AnswerData(None, samples, "made up")
    contenders = contenders_of(subject, ["torch"], ["fp32"])
    result = run_benchmark(contenders, BenchmarkSettings((1,), None, replace(PACE, clock=pretended)), answer_data)
    assert result.rows[0].to_dict()["top1"] == pytest.approx(0.7)
    assert repr(result).startswith("<Benchmark 1 rows; most images/s: ") and "in batches of 1>" in repr(result)
    recorded = {one.metric: one for one in result.measurements(subject)}
    assert recorded["top1"].value == pytest.approx(0.7) and recorded["top1"].data == "made up"
    assert recorded["latency_p50"].value == pytest.approx(10)
    assert recorded["peak_memory"].value == 1


def test_embeddings_have_a_distance_and_name_no_class(pretended: Clock) -> None:
    subject = Subject("lit", "lit", tiny_lit())
    contenders = contenders_of(subject, ["torch", "torch-compiled"], ["fp32"])
    answer_data = AnswerData(reference_of([subject], pictures(3)))
    rows = run_benchmark(contenders, BenchmarkSettings((2,), None, replace(PACE, clock=pretended)), answer_data).rows
    parities = [row.parity for row in rows]
    assert parities[0] is not None and (parities[0].difference, parities[0].agreement) == (0, None)
    assert parities[1] is not None and parities[1].difference > 0.1 and parities[1].agreement is None


def test_a_program_that_takes_pixels_is_timed_with_pixels(pretended: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class OfPixels(Pretender):
        def run_pixels(self, pixels: np.ndarray) -> np.ndarray:
            seen.append((pixels.dtype, pixels.shape))
            self._clock.now += 0.5
            return np.zeros((len(pixels), 5), np.float32)

    subject = _subject(program="onnx", program_spec=ProgramSpec(pixels=True))
    opened = OfPixels(_subject().bundle, "onnx", pretended, 0.01, 0.0, 99)
    monkeypatch.setattr(session, "open_checked", lambda *_: opened)
    result = run_benchmark(
        contenders_of(subject, ["onnx"]), BenchmarkSettings((3,), None, replace(PACE, clock=pretended)), AnswerData()
    )
    assert set(seen) == {(np.dtype(np.uint8), (3, 16, 24, 3))}
    assert result.rows[0].to_dict()["images_per_second"] == pytest.approx(6)


def test_golden_answers_are_the_reference_where_there_are_no_torch_weights() -> None:
    subject = _subject(program="onnx")
    reference = reference_of([subject], pictures(3))
    assert reference is not None and subject.bundle.golden is not None
    assert reference.outputs is subject.bundle.golden.outputs and len(reference.images) == 2
    rounded = _subject(program="onnx", program_spec=ProgramSpec(precision="int8"))
    assert reference_of([rounded], pictures(3)) is None  # its golden answers are its own


def test_the_json_has_its_fields_and_the_table_the_same_rows(pretended: Clock) -> None:
    contenders = contenders_of(_subject(), ["torch"])
    result = run_benchmark(contenders, BenchmarkSettings((1,), 1, replace(PACE, clock=pretended)), AnswerData())
    document = json.loads(json.dumps(result.to_dict()))
    assert set(document) == {
        *("machine", "threads", "load_before", "date", "versions", "reference", "num_images", "data", "split", "peaks"),
        *("remarks", "rows", "engines"),
    }
    what = {"model", "program", "arithmetic", "fixed_batch", "pixels", "engine", "precision"}
    what |= {"batch", "reason", "size_mib", "gflops"}
    assert all(set(row) == what | set(NUMBERS) for row in document["rows"])
    assert document["threads"] == 1 and document["versions"]["torch"] and document["peaks"]["fp32"]["gflops"] == 10
    rows = list(csv.DictReader(io.StringIO(result.to_csv())))
    assert [row["precision"] for row in rows] == ["fp32", "bf16"]
    assert float(rows[0]["p50_ms"]) == pytest.approx(document["rows"][0]["p50_ms"])
    assert rows[1]["reason"] == "its process died with SIGFPE" and rows[1]["p50_ms"] == ""
    figure = draw_benchmark(result)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["torch · fp32", "torch · bf16"]
    assert figure.axes[0].patches[0].get_width() == pytest.approx(10)
    assert any("SIGFPE" in text.get_text() for text in figure.axes[0].texts)
    assert png(figure).startswith(b"\x89PNG")


# --- the command line -----------------------------------------------------------------------------------------------

app = typer.Typer()
app.command()(benchmark)


def _invoke(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)), standalone_mode=False, catch_exceptions=False)


def test_a_bundle_and_its_export_side_by_side(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    models = (folder / "pets", folder / "pets-onnx")
    how = ("--engine", "torch", "--engine", "onnx", "--precision", "fp32", "--batch-size", 2, "--threads", 1)
    done = _invoke(*models, *how, "--seconds", 0.05, "--record", "--json", "--out", tmp_path / "out")
    document = json.loads(done.stdout)
    assert json.loads((tmp_path / "out" / "benchmark.json").read_text()) == {
        name: value for name, value in document.items() if name != "folder"
    }
    assert [(row["model"], row["engine"], row["reason"]) for row in document["rows"]] == [
        ("pets", "torch", ""),
        ("pets-onnx", "onnx", ""),
    ]
    for row in document["rows"]:
        assert row["calls"] >= 5 and row["p95_ms"] >= row["p50_ms"] > 0 and row["memory_mib"] > 20
        assert row["images_per_second"] == pytest.approx(2000 / row["p50_ms"])
        assert row["difference"] < 1e-4 and row["agreement"] == 1 and 0 < row["share_of_peak"] < 1
    assert document["reference"] == "pets, torch, fp32" and document["num_images"] == 14
    assert [one["engine"] for one in document["engines"]] == ["torch", "onnx"]
    assert {"benchmark.csv", "benchmark.png", "command.txt"} <= {path.name for path in (tmp_path / "out").iterdir()}
    recorded = {one.title: one.value for one in read_bundle(folder / "pets-onnx").measurements}
    assert recorded["latency_p50 (onnx fp32, batches of 2)"] == document["rows"][1]["p50_ms"]


def test_the_table_says_what_failed_and_what_engines_did(
    folder: Path, pretended: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitsmith.evaluation.timing.Pace", lambda seconds: replace(PACE, clock=pretended))
    done = _invoke(folder / "pets", "--engine", "torch", "--engine", "onnx", "--out", tmp_path / "out")
    assert "no model here runs in onnx, so it has no row" in done.stderr
    assert "measuring 4 rows, 1 s each" in done.stderr
    header, _, first, *_ = (line for line in done.stdout.splitlines() if line.strip())
    columns = ["engine", "precision", "batch", "p50 ms", "p95 ms", "calls", "images/s", "times", "memory MiB"]
    assert [name for name in columns if name in header] == columns
    assert "top-1" not in header and "model" not in header  # nothing to say in these
    assert first.split()[:4] == ["torch", "fp32", "1", "10"]
    failed = [line.split() for line in done.stdout.splitlines() if line.rstrip().endswith(" (1)")]
    assert [line[:3] for line in failed] == [["torch", "bf16", "1"], ["torch", "bf16", "8"]]
    assert "\n(1) its process died with SIGFPE\n" in done.stdout and "no report on the graph" in done.stdout


def test_when_everything_failed_the_command_fails_too(folder: Path, pretended: Clock, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing could be measured: its process died with SIGFPE"):
        _invoke(folder / "pets", "--engine", "torch", "--precision", "bf16", "--out", tmp_path / "out")
    assert json.loads((tmp_path / "out" / "benchmark.json").read_text())["rows"][0]["reason"]


def test_an_interruption_leaves_nothing(
    folder: Path, pretended: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "time_in_turns", interrupt)
    done = _invoke(folder / "pets", "--engine", "torch", "--out", tmp_path / "out")
    assert done.return_value == INTERRUPTED
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["pets", "--engine", "tensorrt"], UnknownNameError, "unknown engine 'tensorrt': known are"),
        (["pets", "--precision", "int4"], UnknownNameError, "unknown precision 'int4': did you mean int8"),
        (
            ["pets-onnx", "--engine", "torch"],
            InputError,
            "none of the models runs in torch: pets-onnx: onnx runs it in fp32",
        ),
        (["pets", "pets"], InputError, "is given twice"),
        (["nothing-here"], InputError, "nothing-here"),
        (["pets", "--split", "val"], InputError, "--split chooses a part of --data"),
        (["pets", "--data", "digits"], DatasetError, "the model does not know 10 of the data's 10 classes"),
        (["pets", "--images", "empty"], InputError, "no images in this folder"),
        (["pets", "--out", "file/out"], OutputError, "file/out"),
    ],
)
def test_wrong_use_is_told_before_anything_is_measured(
    arguments: list[str],
    error: type[Exception],
    message: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "measure_memory", None)  # nothing gets as far as that
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    given = [str(folder / one) if one.startswith("pets") else one for one in arguments]
    with pytest.raises(error, match=message):
        _invoke(*given)
    assert not (tmp_path / "runs").exists()


def test_a_batch_of_none_is_refused(folder: Path) -> None:
    with pytest.raises(Exception, match=r"(greater than or equal to|range x>=) ?1"):
        _invoke(folder / "pets", "--batch-size", 0)


def test_only_bundles_are_written_into(tmp_path: Path) -> None:
    save(Bundle.of(tiny_model(VIT)), tmp_path / "x.npz", format="npz")
    with pytest.raises(InputError, match=r"--record writes into a bundle, and .*x.npz is not a bundle on disk"):
        _invoke(tmp_path / "x.npz", "--record")


def test_a_file_names_the_classes_of_models_that_have_no_names(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = read_bundle(folder / "pets")
    save(replace(bundle, labels=None), tmp_path / "nameless")
    names = ["cat", "dog", *map(str, range(bundle.classes - 2))]
    (tmp_path / "names.txt").write_text("\n".join(names))
    for at, name in enumerate(("cat", "dog")):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(pictures(2)[at]).save(tmp_path / "data" / name / "0.png")
    with pytest.raises(DatasetError, match="give `labels_file` FILE"):
        _invoke("nameless", "--data", "data")
    with pytest.raises(InputError, match="--labels-file names the classes for --data: give --data too"):
        _invoke("nameless", "--labels-file", "names.txt")
    with pytest.raises(InputError, match="every model here names its classes: leave --labels-file out"):
        _invoke(folder / "pets", "--data", "data", "--labels-file", "names.txt")
    how = ("--engine", "torch", "--precision", "fp32", "--batch-size", 1, "--threads", 1, "--seconds", 0.02, "--json")
    monkeypatch.setattr(session, "measure_memory", lambda task, *_: {batch: Memory(1) for batch in task.batches})
    done = _invoke("nameless", "--data", "data", "--labels-file", "names.txt", *how)
    assert json.loads(done.stdout)["rows"][0]["top1"] is not None


def test_lit_is_measured_by_its_image_tower_and_has_no_accuracy(tmp_path: Path) -> None:
    save(tiny_lit().with_golden(pictures(2)), tmp_path / "lit")
    with pytest.raises(InputError, match=r"matches images with words.*evaluate --zeroshot"):
        _invoke(tmp_path / "lit", "--data", "digits")

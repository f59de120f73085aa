"""Calibration: models are timed in turns, in a process of their own, and what was measured is kept and predicts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitsmith as vs
from tests.command_line import call
from tests.cost.machines import MACHINE, engine, machine, seconds_of, timed
from tests.tiny import VIT
from vitsmith.cost import calibrate as calibration
from vitsmith.cost import session
from vitsmith.cost.calibrate import CalibrationError, EngineWay, profile_of, ways
from vitsmith.cost.cost import UnpredictedError
from vitsmith.cost.probes import REFERENCE, ShortModel, probes
from vitsmith.cost.profile import read_profile, write_profile
from vitsmith.cost.session import SessionTask, measure
from vitsmith.cost.work import work_of
from vitsmith.errors import InputError
from vitsmith.models.config import ViTConfig
from vitsmith.models.configure import change, configure
from vitsmith.process.child import ChildResult

FEW = [ShortModel(change(VIT, depth=depth)) for depth in (2, 3)] + [ShortModel(VIT, "throughput", 4)]


class Clock:
    """Seconds that pass only while a made program runs."""

    def __init__(self) -> None:
        self.now, self.slower = 0.0, lambda now: 1.0

    def __call__(self) -> float:
        return self.now


class Made:
    """A program whose calls take what the made machine takes."""

    def __init__(self, clock: Clock, config: Any) -> None:
        self.clock, self.config = clock, config

    def run(self, images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.float32 and images.shape[1:] == (3, *self.config.image_size)
        self.clock.now += float(work_of(self.config, len(images)).counts @ MACHINE) * self.clock.slower(self.clock.now)
        return images


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(session, "_others", lambda _: 0.0)  # other tests run beside this one
    monkeypatch.setattr(session, "resolve_name", lambda _: lambda config, _engine, _settings: Made(made, config))
    return made


def answers_of(clock: Clock, chosen: list[ShortModel], seconds: float) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    measure(SessionTask("torch", "fp32", 2, seconds), chosen, lambda one: answers.append(dict(one)), clock=clock)
    return answers


def test_each_model_is_timed_in_turns_beside_the_reference(clock: Clock) -> None:
    """The machine becomes half as fast after 5 seconds; beside the reference, all times are as before."""
    clock.slower = lambda now: 2.0 if now > 5 else 1.0
    chosen = probes()[:14]
    answers = answers_of(clock, chosen, 10.0)
    last = answers[-1]
    assert min(last["reference"]) < 0.6 * max(last["reference"]) and last["others"] == 0.0
    told = [one for one in answers if "probe" in one]
    assert [one["probe"] for one in told] == list(range(len(chosen)))
    usual = float(work_of(REFERENCE.config).counts @ MACHINE)
    for one, probe in zip(told, chosen, strict=True):
        true = float(work_of(probe.config, probe.batch).counts @ MACHINE)
        scaled = [s * usual / near for s, near in zip(one["seconds"], one["reference"], strict=True)]
        assert np.median(scaled) == pytest.approx(true, rel=0.02)


def test_a_slow_machine_measures_the_most_important_ones_only(clock: Clock) -> None:
    clock.slower = lambda _: 100.0
    told = [one["probe"] for one in answers_of(clock, probes(), 10.0) if "probe" in one]
    assert told == list(range(session.MINIMUM))


def test_a_machine_is_predicted_from_what_was_measured(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def follow(*_: Any, on_answer: Any, **__: Any) -> ChildResult:
        answers = [{"peak": 200_000_000}, *answers_of(clock, probes(), 16.0)]
        for one in answers:
            on_answer(one)
        return ChildResult(tuple(answers), "ended with exit code 0")

    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path))
    monkeypatch.setattr(calibration, "follow_child", follow)
    with pytest.raises(InputError, match="this machine is not calibrated yet: run  vitsmith calibrate"):
        vs.predict_cost("ViT-B_16")
    steps: list[float] = []
    found = vs.calibrate("torch", precisions="fp32", on_progress=lambda step: steps.append(step.done))
    assert steps == sorted(steps) and 0 < steps[-1] <= 1
    cost = vs.predict_cost("ViT-B_16", engine="torch")
    true = float(work_of(configure("ViT-B_16")).counts @ MACHINE)
    assert cost.latency == pytest.approx(true, rel=0.03) and cost.low < true < cost.high
    assert cost == vs.predict_cost(configure("ViT-B_16"), machine=found)
    monkeypatch.setattr(calibration, "follow_child", None)
    assert vs.calibrate("torch", precisions="fp32") == found  # from the cache


def test_a_real_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, with models so small that nothing can be predicted from them."""
    monkeypatch.setattr(session, "REFERENCE", FEW[0])
    answers: list[dict[str, Any]] = []
    measure(SessionTask("torch", "fp32", 1, 0.3), FEW, lambda one: answers.append(dict(one)))
    told = [one for one in answers if "probe" in one]
    assert len(told) == len(FEW) and all(0 < second < 5 for one in told for second in one["seconds"])
    assert [one for one in answers if "peak" in one] and 0 <= answers[-1]["others"] <= 1


def test_what_fails_in_the_process_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path))
    died = ChildResult(({"opened": 0},), "died with SIGKILL, as happens when memory runs out", "SIGKILL")
    monkeypatch.setattr(calibration, "follow_child", lambda *_, **__: died)
    with pytest.raises(CalibrationError, match="torch fp32 cannot be calibrated: its process died with SIGKILL"):
        vs.calibrate("torch", precisions="fp32")
    failed = ChildResult(({"error": "RuntimeError: no kernel"},), "ended with exit code 0")
    monkeypatch.setattr(calibration, "follow_child", lambda *_, **__: failed)
    with pytest.raises(CalibrationError, match="RuntimeError: no kernel"):
        vs.calibrate("torch", precisions="fp32")


def test_ways_that_there_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert EngineWay("torch", "fp32", 3) in ways(threads=3)
    with pytest.raises(InputError, match="`engine` 'tensorrt' cannot be calibrated: choose from torch, onnx, openvino"):
        ways(["tensorrt"])
    with pytest.raises(InputError, match="`precision` 'fp4' cannot be calibrated"):
        ways(["torch"], ["fp4"])
    with pytest.raises(InputError, match="`threads` must be a whole number"):
        ways(threads=0)
    monkeypatch.setattr("vitsmith.engines.registry.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"torch is not installed here: run  pip install 'vitsmith\[torch\]'"):
        ways(["torch"])
    with pytest.raises(InputError, match="nothing to calibrate"):
        ways()


@pytest.fixture
def pi(tmp_path: Path) -> Iterator[Path]:
    """The profile of another machine."""
    path = tmp_path / "pi.json"
    usual = float(work_of(REFERENCE.config).counts @ MACHINE)
    one = engine(timed=tuple(timed(0.01)), reference=(1.0,) * 6, version="2.9.0")
    assert usual > 0
    write_profile(machine(one), path)
    yield path


def test_another_machine_is_predicted_from_its_file(pi: Path, capsys: Any) -> None:
    cost = vs.predict_cost("ViT-S_16", machine=pi)
    assert cost.remarks[0] == "times are those of Made 1, 2 cores, not of this machine"
    assert cost.remarks[1].startswith("the profile was made with torch 2.9.0, and here is 2.")
    assert (cost.engine, cost.precision, cost.batch, cost.threads) == ("torch", "fp32", 1, 2)
    code, out, err = call(capsys, "models", "ViT-S_16", "--cost", "--machine", pi, "--json")
    (row,) = json.loads(out)["costs"]
    assert code == 0 and row["latency"] == cost.latency and row["remarks"] == list(cost.remarks)
    code, out, err = call(capsys, "models", "ViT-S_16", "--cost", "--machine", pi)
    assert code == 0 and f"{1e3 * cost.latency:.1f}" in out and "Predicted for Made 1, 2 cores" in out
    assert "times are those of Made 1" in err


def test_parts_that_were_not_timed(pi: Path, tmp_path: Path) -> None:
    """A small one is guessed, told, and makes the interval wider; a large one is refused by name."""
    profile = read_profile(pi)
    (one,) = profile.engines
    plain = [each for each in one.timed if isinstance(each.config, ViTConfig) and not each.config.resnet]
    plain = [each for each in plain if not each.config.merge and not each.config.position_embedding.rotary]
    less = profile.model_copy(update={"engines": (one.model_copy(update={"timed": tuple(plain)}),)})
    sure, guessed = (vs.predict_cost("DINOv3-S_16", machine=each) for each in (profile, less))
    assert "the time of rotary positions was not measured on this engine, and is guessed" in guessed.remarks
    assert not [told for told in sure.remarks if "guessed" in told]
    assert guessed.high / guessed.low > sure.high / sure.low
    assert guessed.low < seconds_of(configure("DINOv3-S_16"), 1) < guessed.high
    for name, part in (("Mixer-S_16", "an MLP-Mixer"), ("R26+ViT-S_32", "a ResNet")):
        with pytest.raises(UnpredictedError, match=f"the time of {part} is not known"):
            vs.predict_cost(name, machine=less)
    with pytest.raises(UnpredictedError, match="the time of merged tokens is not known"):
        vs.predict_cost(change(configure("ViT-S_16"), merge=(8,) * 12), machine=less)


def test_a_busy_machine_is_measured_again_the_next_time(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shares = [0.5, 0.05]

    def follow(*_: Any, on_answer: Any, **__: Any) -> ChildResult:
        answers = [{"peak": 200_000_000}, *answers_of(clock, probes()[:8], 1.0)]
        answers[-1]["others"] = shares.pop(0)
        return ChildResult(tuple(answers), "ended with exit code 0")

    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path))
    monkeypatch.setattr(calibration, "follow_child", follow)
    found = [vs.calibrate("torch", precisions="fp32").engines[0].others for _ in range(3)]
    assert found == [0.5, 0.05, 0.05] and not shares


def test_a_gpu_is_told_and_asked_for_in_the_cache(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = []

    def follow(*_: Any, on_answer: Any, **__: Any) -> ChildResult:
        calls.append(len(calls))
        return ChildResult(({"peak": 200_000_000, "gpu": "H200"}, *answers_of(clock, probes()[:8], 1.0)), "ended")

    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path))
    monkeypatch.setattr(calibration, "follow_child", follow)
    monkeypatch.setattr(calibration, "visible_gpus", lambda: "H200")
    found = [vs.calibrate("torch", precisions="fp32") for _ in range(2)][1]
    assert calls == [0] and found.engines[0].gpu == "H200"
    (told,) = [one for one in vs.predict_cost("ViT-S_16", machine=found).remarks if "GPU" in one]
    assert told.startswith("times are those of its GPU, H200")
    monkeypatch.setattr(calibration, "visible_gpus", lambda: "H200 (CUDA_VISIBLE_DEVICES=)")
    vs.calibrate("torch", precisions="fp32")
    assert calls == [0, 1], "the GPU is hidden now"


def test_what_an_engine_has_no_graph_for_is_left_out(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(config: Any, _engine: str, _settings: Any) -> Made:
        if config == probes()[1].config:
            raise UnpredictedError("no graph")
        return Made(clock, config)

    monkeypatch.setattr(session, "resolve_name", lambda _: opened)
    told = [one["probe"] for one in answers_of(clock, probes()[:4], 1.0) if "probe" in one]
    assert told == [0, 2, 3]


def test_larger_models_than_were_timed_are_told(pi: Path) -> None:
    assert not [one for one in vs.predict_cost("ViT-B_16", machine=pi).remarks if "extrapolated" in one]
    told = vs.predict_cost("ViT-H_14", image_size=518, machine=pi).remarks
    assert "extrapolated: tokens of 1,370, and at most 577 were timed" in told
    assert "extrapolated: width of 1,280, and at most 1,024 were timed" in told


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"engine": "onnx"}, "has no onnx fp32"),
        ({"precision": "int8"}, "has no auto int8"),
        ({"threads": 16}, "with 16 threads"),
        ({"batch": 0}, "`batch` must be a whole number"),
        ({"machine": "nowhere.json"}, "nowhere.json does not exist"),
        ({"machine": 3}, "`machine` must be a profile"),
        ({"image_size": 225}, "not a multiple of the patch"),
        ({"model": "ViT-Q_16"}, "unknown model 'ViT-Q_16'"),
        ({"model": 3}, "3 is no model"),
    ],
)
def test_what_cannot_be_predicted(pi: Path, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        vs.predict_cost(**{"model": "ViT-B_16", "machine": pi, **asked})


def test_options_of_costs_go_together(capsys: Any) -> None:
    code, _, err = call(capsys, "models", "ViT-B_16", "--batch-size", "8")
    assert code == 2 and "give --cost too" in err
    code, _, err = call(capsys, "models", "--cost")
    assert code == 2 and "vitsmith models ViT-B_16 --cost" in err


def test_sizes_and_memory_grow_with_the_model(pi: Path) -> None:
    small, large = (vs.predict_cost(name, machine=pi) for name in ("ViT-S_16", "ViT-B_16"))
    more = 4 * (86_567_656 - 22_050_664)
    assert large.size - small.size == pytest.approx(more, rel=0.001)
    assert more < large.peak_memory - small.peak_memory < 1.3 * more
    batch = vs.predict_cost("ViT-B_16", machine=pi, batch=32)
    assert batch.peak_memory > large.peak_memory and math.isclose(batch.images_per_second, 32 / batch.latency)


def test_the_profile_of_this_machine() -> None:
    profile = profile_of([engine()])
    assert profile.memory > 2**28 and "cores" in profile.machine and len(profile.instructions) == 16

"""The arithmetic of training, and the most a device does."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.training.small_runs import recipe, training
from vitsmith.evaluation.torch_peak_rates import measure_peaks
from vitsmith.models.build import build
from vitsmith.models.configure import configure
from vitsmith.report.training import _arithmetic
from vitsmith.training.monitor.events import StepDone
from vitsmith.training.monitor.utilization import measured_peak_flops, training_flops


def test_training_is_what_torch_counts_of_a_step():
    config = configure("ViT-Ti/16", image_size=64, depth=4, classes=10)
    model = build(config).eval()
    model.blocks[-1].register_forward_hook(lambda *_: None)  # or it would leave out what the head does not look at
    counter = FlopCounterMode(display=False)
    with counter:
        model(torch.randn(2, 3, 64, 64)).sum().backward()
    assert abs(2 * training_flops(config) / counter.get_total_flops() - 1) < 0.06  # no gradient of the images


def test_the_peak_is_measured_once_a_process():
    peak = measured_peak_flops(torch.device("cpu"), "fp32")
    assert 1e8 < peak < 1e15
    assert measured_peak_flops(torch.device("cpu"), "fp32") == peak


def test_a_run_that_is_faster_than_the_measured_peak_raises_it(monkeypatch):
    wanted = recipe(schedule={"steps": 6, "warmup": 0})
    run = training(wanted)
    run.task.peak_flops = 1.0  # as if the machine had stood still while products were measured
    history = run.go().history
    shares = [done.peak_share for done in history]
    assert shares[0] == 1 and all(0 < share <= 1 for share in shares)
    fastest = max(done.images_per_second for done in history)
    assert shares[-1] == pytest.approx(history[-1].images_per_second / fastest)
    assert run.task.peak_flops == pytest.approx(fastest * training_flops(run.task.learner.model.config))


def done(rate, share):
    return StepDone(1, 1.0, 0.1, 1.0, rate, peak_share=share)


def test_the_report_compares_all_updates_with_the_highest_peak():
    assert _arithmetic([done(100, 0.25), done(120, 0.3), done(80, 0.2)]) == "25% of the measured peak"
    told = _arithmetic([done(100, 1.0), done(200, 1.0), done(50, 0.25), done(100, 0.5), done(100, 0.5)])
    assert told == "50% of the fastest update: the device's measured peak was too low to compare with"
    assert _arithmetic([done(100, None)]) == _arithmetic([]) == ""


def test_only_the_precision_that_is_asked_for_is_measured():
    assert set(measure_peaks(sides=(64,), seconds=0.0, precisions=("fp32",))) == {"fp32"}
    assert set(measure_peaks(sides=(64,), seconds=0.0, precisions=("bf16",))) == {"fp32", "bf16"}

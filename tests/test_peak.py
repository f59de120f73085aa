"""The arithmetic of training, and the most a device does."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from vitsmith.models.build import build
from vitsmith.models.configure import configure
from vitsmith.train.peak import measured_peak_flops, training_flops


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

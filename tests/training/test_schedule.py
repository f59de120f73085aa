"""The learning rate, against the original's own numbers."""

from __future__ import annotations

import json
import re

import pytest

from tests.tiny import REFERENCE
from vitsmith.training.schedule import learning_rate

RECORDED = json.loads((REFERENCE / "recipes" / "learning_rate.json").read_text())


@pytest.mark.parametrize("case", RECORDED)
def test_learning_rate_is_the_originals(case: str) -> None:
    decay, steps, warmup, base = re.fullmatch(r"(\w+)-total(\d+)-warmup(\d+)-base([\d.]+)", case).groups()
    for step, expected in RECORDED[case].items():
        rate = learning_rate(int(step), base=float(base), steps=int(steps), warmup_steps=int(warmup), decay=decay)
        assert rate == pytest.approx(expected, rel=2e-7, abs=0)  # one unit in the last place of float32

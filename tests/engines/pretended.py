"""Races whose rates are known beforehand, and child processes that die."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from vitsmith.engines.openvino import probe as openvino_probe


def die_with(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(openvino_probe, "COMMAND", (sys.executable, "-S", "-c", f"import os, signal, sys; {code}"))


MANY = 10**9
"""Images for which every measurement is worth it."""


def race_with(monkeypatch: pytest.MonkeyPatch, module: Any, *rates: float) -> None:
    """Lets every engine run once, and says how fast they are."""

    def measured(runs: Sequence[Callable[[], object]], images: int, **_: Any) -> list[float]:
        for run in runs:
            run()
        assert len(runs) in (1, len(rates))
        return list(rates[: len(runs)])

    monkeypatch.setattr(module, "race", measured)

"""Peak arithmetic of the machine by precision, and the share of it that a rate is; NumPy where torch is missing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from vitsmith.machine import available_cores

STANDS_FOR = {"fp16": "fp32"}
"""Precisions that a CPU computes in another precision."""


SIDES = (512, 1024, 2048)
SECONDS = 0.2
"""Time for which products of each side are repeated."""


@dataclass(frozen=True)
class Peak:
    """The highest rate that was measured in one precision."""

    gflops: float
    """10^9 operations a second; a multiply-add counts as two."""
    how: str
    """How it was measured: 'bf16 products of side 1024, torch.mm', or the model that was faster than every product."""
    seen: bool = False
    """Whether a model was faster than every product, so that the products were measured too low."""


def highest(first: Mapping[str, Peak], second: Mapping[str, Peak]) -> dict[str, Peak]:
    """The higher of two measurements, by precision."""
    return {precision: higher(first.get(precision), peak) for precision, peak in second.items()}


def raised(peaks: Mapping[str, Peak], precision: str, gflops_per_second: float, who: str) -> dict[str, Peak]:
    """The same peaks, raised where the model `who` reached `gflops_per_second` in `precision`."""
    name = _known(precision, peaks)
    if name is None or gflops_per_second <= peaks[name].gflops:
        return dict(peaks)
    how = f"{who}, faster than every product that was measured ({peaks[name].how}: {peaks[name].gflops:.3g} GFLOP/s)"
    seen = Peak(gflops_per_second, how, seen=True)
    narrower = [other for other in peaks if name.endswith("fp32") and other.startswith(name.removesuffix("fp32"))]
    narrower = [other for other in narrower if "cuda" in name or "cuda" not in other]
    return {**peaks, **{one: higher(peaks[one], seen) for one in (name, *narrower)}}


def share_of_peak(gflops_per_second: float, precision: str, peaks: Mapping[str, Peak]) -> float | None:
    """Share of the peak in `precision`; fp16 is compared with fp32, in which CPUs compute it. None: no such peak."""
    name = _known(precision, peaks)
    return gflops_per_second / peaks[name].gflops if name is not None else None


def _known(precision: str, peaks: Mapping[str, Peak]) -> str | None:
    """The precision whose peak is used for `precision`; None where there is none."""
    return next((name for name in (precision, STANDS_FOR.get(precision, "")) if name in peaks), None)


def higher(first: Peak | None, second: Peak) -> Peak:
    """Return the higher peak."""
    return second if first is None or second.gflops > first.gflops else first


def numpy_peaks(
    threads: int | None = None, *, seconds: float = SECONDS, sides: tuple[int, ...] = SIDES
) -> dict[str, Peak]:
    """Measures the peak of 'fp32' only, as NumPy has no products of narrower numbers."""
    peaks: dict[str, Peak] = {}
    with threadpool_limits(limits=threads or available_cores(), user_api="blas"):
        for side in sides:
            took = _product_time(side, seconds)
            found = Peak(2 * side**3 / took / 1e9, f"fp32 products of side {side}, NumPy")
            peaks["fp32"] = higher(peaks.get("fp32"), found)
    return peaks


def _product_time(side: int, seconds: float) -> float:
    """Seconds of the fastest product."""
    a, b = (np.full((side, side), number, np.float32) for number in (0.5, 1.5))
    product = np.empty_like(a)
    np.matmul(a, b, out=product)  # starts threads
    best, began = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - began < seconds:
        started = time.perf_counter()
        np.matmul(a, b, out=product)
        best = min(best, time.perf_counter() - started)
    return best

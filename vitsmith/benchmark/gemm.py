"""What the machine can do at most: the fastest square matrix products, by precision."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

SIDES = {"cpu": (512, 1024, 2048, 4096), "cuda": (2048, 4096, 8192)}
ENOUGH = 0.005
"""Seconds of a float32 product above which a larger one shows no more."""
LONGEST = 0.3
"""Seconds above which a kernel is not tried on larger ones: without the instructions int8 is that slow."""
SECONDS = 0.2
"""Repeats of each kernel and side."""

STANDS_FOR = {"fp16": "fp32"}
"""Precisions that a CPU computes in another."""


@dataclass(frozen=True)
class Peak:
    """The most that was seen."""

    gflops: float
    """10^9 operations a second; a multiply-add counts as two."""
    how: str
    """'bf16 products of side 1024, torch.mm'."""


Product = Callable[[], object]


def measure_peaks(*, device: str = "cpu", seconds: float = SECONDS, sides: tuple[int, ...] = ()) -> dict[str, Peak]:
    """The peak of 'fp32', 'bf16' and 'int8', with torch's threads as they are.

    float32: torch.mm, and on CPUs oneDNN's kernel too, which is the faster one on AMD (layers/linear.py); bfloat16:
    torch.mm, summed in float32; int8: torch._int_mm, summed in int32. A processor without the instructions computes a
    narrower type more slowly than float32: then float32's peak stands for it, and `how` says so.
    """
    peaks: dict[str, Peak] = {}
    slow: set[str] = set()
    for side in sides or SIDES[device]:
        fastest = float("inf")
        for precision, name, product in _products(side, device):
            took = None if name in slow else _best(product, device, seconds)
            if took is None:  # slow, or torch has no such kernel here
                continue
            if took > LONGEST:
                slow.add(name)
            if precision == "fp32":
                fastest = min(fastest, took)
            found = Peak(2 * side**3 / took / 1e9, f"{precision} products of side {side}, {name}")
            peaks[precision] = _higher(peaks.get(precision), found)
        if fastest > ENOUGH:
            break
    for narrow in ("bf16", "int8"):
        peaks[narrow] = _higher(peaks.get(narrow), peaks["fp32"])
    return peaks


def highest(first: Mapping[str, Peak], second: Mapping[str, Peak]) -> dict[str, Peak]:
    """Of two measurements the higher one, by precision."""
    return {precision: _higher(first.get(precision), peak) for precision, peak in second.items()}


def share_of_peak(gflops_per_second: float, precision: str, peaks: Mapping[str, Peak]) -> float | None:
    """Which part of the peak of a precision this is; fp16 is computed in float32 on CPUs, and compared with that."""
    peak = peaks.get(precision) or peaks.get(STANDS_FOR.get(precision, ""))
    return gflops_per_second / peak.gflops if peak is not None else None


def _products(side: int, device: str) -> Iterator[tuple[str, str, Product]]:
    """(precision, kernel, one product)."""
    a, b = (torch.rand(side, side, device=device) for _ in range(2))
    yield "fp32", "torch.mm", lambda: torch.mm(a, b)
    if device == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        yield "fp32", "oneDNN", lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    low, other = a.bfloat16(), b.bfloat16()
    yield "bf16", "torch.mm", lambda: torch.mm(low, other)
    small, smaller = (_bytes(side, device) for _ in range(2))
    yield "int8", "torch._int_mm", lambda: torch._int_mm(small, smaller)


def _bytes(side: int, device: str) -> Tensor:
    return torch.randint(-127, 128, (side, side), dtype=torch.int8, device=device)


def _best(product: Product, device: str, seconds: float) -> float | None:
    """Seconds of the fastest run; None where it does not run."""
    try:
        with torch.inference_mode():
            product()  # starts threads and loads the kernel
            best, began = float("inf"), time.perf_counter()
            while best == float("inf") or time.perf_counter() - began < seconds:
                _wait(device)
                started = time.perf_counter()
                product()
                _wait(device)
                best = min(best, time.perf_counter() - started)
    except (RuntimeError, NotImplementedError):
        return None
    return best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _higher(first: Peak | None, second: Peak) -> Peak:
    return second if first is None or second.gflops > first.gflops else first

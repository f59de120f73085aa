"""What the machine can do at most: the fastest square matrix products, by precision."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
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
    """'bf16 products of side 1024, torch.mm'; or what was faster than every product."""
    seen: bool = False
    """Whether a model was faster than every product: then the products were measured too low."""


Product = Callable[[], object]


def measure_peaks(
    *,
    device: str = "cpu",
    seconds: float = SECONDS,
    sides: tuple[int, ...] = (),
    precisions: Collection[str] = ("fp32", "bf16", "int8"),
) -> dict[str, Peak]:
    """The peak of each of `precisions`, and of 'fp32', with torch's threads as they are.

    torch.mm for floats (bfloat16 sums in float32), torch._int_mm for int8; and on CPUs the kernels of oneDNN too, which
    are faster on many processors (layers/linear.py) and which programs use. A processor without the instructions
    computes a narrower type more slowly than float32: then float32's peak stands for it, and `how` says so.

    Other work on the machine makes a peak too low. So whoever compares a rate with it counts that rate too: see
    `raised`.
    """
    peaks: dict[str, Peak] = {}
    slow: set[tuple[str, str]] = set()
    for side in sides or SIDES.get(device, SIDES["cpu"]):
        fastest = float("inf")
        for precision, name, product in _products(side, device):
            wanted = precision == "fp32" or precision in precisions
            took = _best(product, device, seconds) if wanted and (precision, name) not in slow else None
            if took is None:  # slow, or torch has no such kernel here
                continue
            if took > LONGEST:
                slow.add((precision, name))
            if precision == "fp32":
                fastest = min(fastest, took)
            found = Peak(2 * side**3 / took / 1e9, f"{precision} products of side {side}, {name}")
            peaks[precision] = _higher(peaks.get(precision), found)
        if fastest > ENOUGH:
            break
    for narrow in precisions:
        peaks[narrow] = _higher(peaks.get(narrow), peaks["fp32"])
    return peaks


def highest(first: Mapping[str, Peak], second: Mapping[str, Peak]) -> dict[str, Peak]:
    """Of two measurements the higher one, by precision."""
    return {precision: _higher(first.get(precision), peak) for precision, peak in second.items()}


def raised(peaks: Mapping[str, Peak], precision: str, gflops_per_second: float, who: str) -> dict[str, Peak]:
    """The same peaks, of which none is lower than what was seen: `who` computed so much in `precision`."""
    name = _known(precision, peaks)
    if name is None or gflops_per_second <= peaks[name].gflops:
        return dict(peaks)
    how = f"{who}, faster than every product that was measured ({peaks[name].how}: {peaks[name].gflops:.3g} GFLOP/s)"
    seen = Peak(gflops_per_second, how, seen=True)
    narrower = [other for other in peaks if name.endswith("fp32") and other.startswith(name.removesuffix("fp32"))]
    narrower = [other for other in narrower if "cuda" in name or "cuda" not in other]
    return {**peaks, **{one: _higher(peaks[one], seen) for one in (name, *narrower)}}


def share_of_peak(gflops_per_second: float, precision: str, peaks: Mapping[str, Peak]) -> float | None:
    """Which part of the peak of a precision this is; fp16 is computed in float32 on CPUs, and compared with that."""
    name = _known(precision, peaks)
    return gflops_per_second / peaks[name].gflops if name is not None else None


def _known(precision: str, peaks: Mapping[str, Peak]) -> str | None:
    """The precision whose peak counts for `precision`; None where there is none."""
    return next((name for name in (precision, STANDS_FOR.get(precision, "")) if name in peaks), None)


def _products(side: int, device: str) -> Iterator[tuple[str, str, Product]]:
    """(precision, kernel, one product)."""
    a, b = (torch.rand(side, side, device=device) for _ in range(2))
    yield "fp32", "torch.mm", lambda: torch.mm(a, b)
    if device == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        yield "fp32", "oneDNN", lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    low, other = a.bfloat16(), b.bfloat16()
    yield "bf16", "torch.mm", lambda: torch.mm(low, other)
    if device == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        yield "bf16", "oneDNN", lambda: torch.ops.mkldnn._linear_pointwise(low, other, None, "none", [], "")
    small, smaller = (_bytes(side, device) for _ in range(2))
    yield "int8", "torch._int_mm", lambda: torch._int_mm(small, smaller)
    if device == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        yield "int8", "oneDNN", _OneDnnInt8(small)


class _OneDnnInt8:
    """A product of uint8 and int8 by oneDNN, as int8 programs of a CPU have them; packed at the first call."""

    def __init__(self, weights: Tensor) -> None:
        self._weights, self._packed = weights, None
        self._inputs = weights.abs().byte()
        side = len(weights)
        self._scales, self._zeros = torch.full((side,), 0.01), torch.zeros(side, dtype=torch.int64)

    def __call__(self) -> object:
        if self._packed is None:
            self._packed = torch.ops.onednn.qlinear_prepack(self._weights, list(self._inputs.shape))
        return torch.ops.onednn.qlinear_pointwise(
            *(self._inputs, 0.01, 0, self._packed, self._scales, self._zeros, None),
            *(1.0, 0, torch.float32, "none", [], ""),
        )


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
    except (RuntimeError, NotImplementedError, AttributeError, TypeError):  # other versions of torch lack a kernel
        return None
    return best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _higher(first: Peak | None, second: Peak) -> Peak:
    return second if first is None or second.gflops > first.gflops else first

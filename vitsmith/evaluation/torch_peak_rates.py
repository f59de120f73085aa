"""Peak arithmetic of torch by precision: its fastest square matrix products, on the processor and on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator

import torch
from torch import Tensor

from vitsmith.evaluation.peak_rates import Peak, higher

SIDES = {"cpu": (512, 1024, 2048, 4096), "cuda": (2048, 4096, 8192)}
ENOUGH = 0.005
"""Seconds of a float32 product above which no larger one is tried."""
LONGEST = 0.3
"""Seconds of a product above which its kernel is not tried on larger ones: int8 is so slow without its instructions."""
SECONDS = 0.2
"""Seconds of repeats for each kernel and side."""

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

    Other work on the machine makes a peak too low. So a higher rate that is measured later replaces it: see
    `evaluation.peak_rates.raised`.
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
            peaks[precision] = higher(peaks.get(precision), found)
        if fastest > ENOUGH:
            break
    for narrow in precisions:
        peaks[narrow] = higher(peaks.get(narrow), peaks["fp32"])
    return peaks


def measure_machine(threads: int | None = None) -> dict[str, Peak]:
    """Peaks of the processor, and under 'cuda fp32' and so on of a GPU. torch goes on with `threads`."""
    if threads is not None:
        torch.set_num_threads(threads)
    peaks = measure_peaks(device="cpu")
    if torch.cuda.is_available():
        peaks |= {f"cuda {precision}": peak for precision, peak in measure_peaks(device="cuda").items()}
    return peaks


def _products(side: int, device: str) -> Iterator[tuple[str, str, Product]]:
    """Yields precision, kernel and a function that computes one product."""
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

"""The one way from modules that need no torch to those that do: each function imports what it calls, when it is called.

What runs an exported bundle imports nothing of torch. Where it meets torch weights, or is asked for a torch engine, it
comes through here, and is told what to install where torch is missing. The contracts in pyproject.toml list these
imports and no others.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from vitsmith.errors import MissingPackageError

if TYPE_CHECKING:
    from vitsmith.engines.base import Engine
    from vitsmith.engines.registry import Settings
    from vitsmith.evaluate.peaks import Peak
    from vitsmith.weights.bundle import Bundle


def require_torch() -> None:
    """Raises MissingPackageError, which says what to install, where there is no torch."""
    if find_spec("torch") is None:
        raise MissingPackageError("torch", "torch")


def open_torch(bundle: Bundle, settings: Settings) -> Engine:
    """The engine `torch`. See `engines.torch.TorchEngine`."""
    require_torch()
    from vitsmith.engines.torch import TorchEngine

    return TorchEngine(bundle, settings)


def open_torch_compiled(bundle: Bundle, settings: Settings) -> Engine:
    """The engine `torch-compiled`. See `engines.torch_compiled.CompiledTorchEngine`."""
    require_torch()
    from vitsmith.engines.torch_compiled import CompiledTorchEngine

    return CompiledTorchEngine(bundle, settings)


def open_executorch(bundle: Bundle, settings: Settings) -> Engine:
    """The engine `executorch`, whose runtime takes torch's tensors. See `engines.executorch.ExecutorchEngine`."""
    if find_spec("torch") is None:
        raise MissingPackageError("torch", "executorch")
    from vitsmith.engines.executorch import ExecutorchEngine

    return ExecutorchEngine(bundle, settings)


def has_gpu() -> bool:
    """Whether torch has an NVIDIA GPU here; False where there is no torch."""
    if find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def measure_peaks(threads: int | None) -> dict[str, Peak]:
    """The most the processor and the GPU can do, by torch, with so many threads. See `train.gemm.measure_machine`."""
    require_torch()
    from vitsmith.train import gemm

    return gemm.measure_machine(threads)

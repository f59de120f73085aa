"""Keep torch's global settings of a caller away from what vitsmith computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from vitsmith.machine import available_cores
from vitsmith.process.forks import torch_threads

_AUTOCAST = ("cpu", "cuda")


def keep_to_quota() -> None:
    """Limit torch's threads to the cores of this process: torch does not know the quota of a container."""
    cores = available_cores()
    if torch.get_num_threads() > cores:
        torch.set_num_threads(cores)


@contextmanager
def isolated(*, inference: bool = False) -> Iterator[None]:
    """Inside, `inference_mode`, `autocast` and a default device of the caller have no effect.

    Without `inference`, new tensors are ordinary tensors, which count their changes: models are made and filled so,
    even inside a caller's `torch.inference_mode()`. With `inference`, outputs are computed. The default dtype is shared
    by all threads and is not changed: our code names the dtypes it needs.
    """
    torch_threads(torch.get_num_threads())
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(inference))
        for kind in _AUTOCAST:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":  # only if needed: it slows down every call of torch
            stack.enter_context(torch.device("cpu"))
        yield

"""torch as a fresh process has it, whatever a caller has set around us."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from vitsmith.forks import torch_threads
from vitsmith.machine import available_cores

_AUTOCAST = ("cpu", "cuda")


def keep_to_quota() -> None:
    """torch computes with no more threads than this process has cores: it does not know of a container's quota."""
    cores = available_cores()
    if torch.get_num_threads() > cores:
        torch.set_num_threads(cores)


@contextmanager
def isolated(*, inference: bool = False) -> Iterator[None]:
    """Inside, `inference_mode`, `autocast` and a default device of the caller do not reach what is computed.

    Without `inference` new tensors are ordinary ones, which count their changes: so models are made and filled, also
    for somebody who has `torch.inference_mode()` around everything. With it answers are computed. The default dtype is
    one for all threads and is left alone: our code names the dtypes it needs.
    """
    torch_threads(torch.get_num_threads())
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(inference))
        for kind in _AUTOCAST:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":  # only then: it slows down every call of torch
            stack.enter_context(torch.device("cpu"))
        yield

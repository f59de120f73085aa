"""Intermediate results of a model: tokens, the pooled feature, and the outputs of named modules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from torch import Tensor, nn

from vitsmith.errors import InputError, UnknownNameError
from vitsmith.layers.attention import Attention


class Features(NamedTuple):
    """Result of `model.features(images)`."""

    tokens: Tensor
    """(batch, tokens, width) after the last block and its norm; the class token, if any, comes first, the distillation
    token second. Where tokens merge, the remaining tokens, whose patches
    `vitsmith.compress.merge_tokens.patch_groups` tells."""
    pooled: Tensor
    """(batch, feature width): the input of the head, or the mean of the inputs of two heads;
    (batch, tokens, feature width) for unpooled models."""
    grid: tuple[int, int]
    """(rows, columns) of the patches, before any merge."""
    intermediates: dict[str, Tensor]
    """Outputs of the requested modules, by name."""


@contextmanager
def record(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of the submodules whose names match (`fnmatch` patterns) while the context lasts.

    A name ending in 'attention.weights' switches that layer to explicit attention meanwhile.
    Raises UnknownNameError for a pattern that matches nothing, and InputError for a pattern whose modules did not run.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    matched = {pattern: _match(pattern, modules) for pattern in names}
    wanted = set().union(*matched.values())
    seen: dict[str, Tensor] = {}
    handles = [modules[name].register_forward_hook(_keeper(name, seen)) for name in sorted(wanted)]
    owners = [modules[name.removesuffix(".weights")] for name in wanted if name.endswith("attention.weights")]
    before = [(owner, owner.explicit) for owner in owners if isinstance(owner, Attention)]
    for owner, _ in before:
        owner.explicit = True
    try:
        yield seen
        for pattern, matching in matched.items():
            if not seen.keys() & set(matching):
                raise InputError(f"intermediate {pattern!r} has no output: it is a container, or was not run here")
    finally:
        for handle in handles:
            handle.remove()
        for owner, explicit in before:
            owner.explicit = explicit


def _match(pattern: str, modules: dict[str, nn.Module]) -> list[str]:
    matched = [name for name in modules if fnmatchcase(name, pattern)]
    if not matched:
        raise UnknownNameError("intermediate", pattern, modules)
    return matched


def _keeper(name: str, seen: dict[str, Tensor]) -> Any:
    def keep(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        seen[name] = output[0] if isinstance(output, tuple) else output  # blocks that merge also return sizes

    return keep

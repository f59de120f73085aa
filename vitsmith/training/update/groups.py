"""Decides which parameters are trained, and the share of the learning rate and the weight decay of each."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from vitsmith.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from vitsmith.training.recipes.recipe import OptimizerSpec

_INPUTS = frozenset(
    {"patches", "patch_norm", "class_token", "distillation_token", "registers", "positions", "norm_before", "resnet"}
)
"""First parts of the names of the parameters before the blocks."""

_UNDECAYED = frozenset({"class_token", "distillation_token", "registers", "positions", "probe"})
"""Learned vectors, not maps: MAE's and DeiT's `no_weight_decay`."""

_HEADS = ("head", "distillation_head")


def freeze_parameters(model: nn.Module, patterns: Sequence[str]) -> None:
    """Parameters whose names match any of the patterns are not trained: 'patches.*', or '*' for all but the head.

    A head is what a new task needs, so only a pattern that begins with its name freezes it: 'head.*', never '*'.
    Dropout and stochastic depth in frozen parts go on as everywhere.

    Raises:
        ConfigError: patterns that match nothing, which it lists, or nothing left to train.
    """
    parameters = dict(model.named_parameters())
    frozen: set[str] = set()
    mistakes = []
    for pattern in patterns:
        matched = {name for name in parameters if _freezes(pattern, name)}
        frozen |= matched
        if not matched:
            mistakes.append(f"{pattern!r} in model.freeze matches no parameter: {_close(pattern, parameters)}")
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    if frozen.issuperset(parameters):
        raise ConfigError(f"model.freeze = {list(patterns)} leaves nothing to train: drop a pattern")
    for name in frozen:
        parameters[name].requires_grad_(False)


def parameter_groups(model: nn.Module, optimizer: OptimizerSpec) -> list[dict[str, Any]]:
    """Groups for a torch optimizer, of the parameters that are trained.

    Each has `params`, their `names`, `lr_scale` (its share of the learning rate, by layer decay) and `weight_decay`,
    which is 0 for biases, norms, tokens and positions. With no layer decay and no weight decay it is one group.

    Source: util/lr_decay.py of MAE (arXiv 2111.06377), after BEiT: layer 0 is all before the blocks, i + 1 is block i,
    and the last, which learns at the full rate, is all after them; each layer learns at `layer_decay` of the next.

    Raises:
        ConfigError: a layer decay for a model that is not one row of blocks.
    """
    blocks = getattr(model, "blocks", None)
    if optimizer.layer_decay < 1 and not isinstance(blocks, nn.ModuleList):
        raise ConfigError(f"optimizer.layer_decay needs a model that is one row of blocks, not {type(model).__name__}")
    last = len(blocks) + 1 if isinstance(blocks, nn.ModuleList) else 0
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = optimizer.layer_decay ** (last - _layer(name, last)) if optimizer.layer_decay < 1 else 1.0
        undecayed = parameter.ndim <= 1 or not _UNDECAYED.isdisjoint(name.split("."))
        decay = 0.0 if undecayed else optimizer.weight_decay
        new: dict[str, Any] = {"params": [], "names": [], "lr_scale": scale, "weight_decay": decay}
        group = groups.setdefault((scale, decay), new)
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def _layer(name: str, last: int) -> int:
    first, _, rest = name.partition(".")
    if first == "blocks":
        return int(rest.split(".")[0]) + 1
    return 0 if first in _INPUTS else last


def _freezes(pattern: str, name: str) -> bool:
    head = name.split(".")[0]
    if head in _HEADS and not pattern.startswith(head):
        return False
    return fnmatch.fnmatchcase(name, pattern)


def _close(pattern: str, names: Sequence[str] | dict[str, Any]) -> str:
    """Suggests names, and the patterns of whole modules that were perhaps meant."""
    parts = {part for name in names for part in _modules(name)}
    return suggestion(pattern, sorted(parts | set(names)))


def _modules(name: str) -> list[str]:
    """'blocks.0.mlp.widen.bias' -> 'blocks.*', 'blocks.0.*', 'blocks.0.mlp.*', ..."""
    words = name.split(".")
    return [".".join(words[:end]) + ".*" for end in range(1, len(words))]

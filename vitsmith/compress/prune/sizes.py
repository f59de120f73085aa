"""Sizes of a pruned model: fewer blocks, heads and hidden units, the same number in every block.

A pruned model is therefore an ordinary configuration, and every engine and format takes it. No torch here.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import product
from typing import Literal

from vitsmith.errors import InputError
from vitsmith.models.config import ImageModelConfig, MixerConfig, ViTConfig
from vitsmith.models.configure import change
from vitsmith.models.cost import flops

Method = Literal["taylor", "activation"]

_STEPS = (64, 32, 16, 8, 4, 2, 1)
_COARSEST = 4  # fewest steps in a width, so that there is something to choose


@dataclass(frozen=True)
class Pruning:
    """Sizes after pruning; None: unchanged, or chosen so that the model keeps the share `keep` of its FLOPs."""

    heads: int | None = None
    """Heads of each block; transformers only."""
    mlp_width: int | None = None
    """Hidden units of each MLP; Mixer: of each channel-mixing MLP."""
    tokens_mlp_width: int | None = None
    """Mixer only: hidden units of each token-mixing MLP."""
    depth: int | None = None
    """Number of blocks."""
    keep: float | None = None
    """Most FLOPs after pruning, as a share; sizes that are None above are reduced evenly."""
    method: Method = "taylor"
    """How parts are scored, see `importance`."""
    calibration: int = 256
    """Images used for the scores, at most."""


@dataclass(frozen=True)
class PrunedSizes:
    """The smaller configuration, and notes on sizes that differ from the target."""

    config: ImageModelConfig
    notes: tuple[str, ...] = ()


FIELDS: dict[str, tuple[str, ...]] = {
    "vit": ("depth", "heads", "mlp_width"),
    "mixer": ("depth", "tokens_mlp_width", "channels_mlp_width"),
}
"""Fields that can be made smaller, by family; the last one is the finest."""


def plan_sizes(config: ImageModelConfig, pruning: Pruning) -> PrunedSizes:
    """Plans the pruned configuration of `config`.

    Widths of MLPs are rounded up to a multiple that processors like, 64 or less for narrow MLPs; `notes` say so. Raises
    InputError with every mistake at once: sizes larger than the model's, nothing left, nothing to prune, and a share of
    the FLOPs that cannot be reached.
    """
    wanted, mistakes = _wanted(config, pruning)
    for field, size in wanted.items():
        there = getattr(config, field)
        if not 1 <= size <= there:
            mistakes.append(f"{_option(field)} must be from 1 to {there}, the size of the model, got {size}")
    if pruning.keep is not None and not 0 < pruning.keep < 1:
        mistakes.append(f"`keep` is the share of the FLOPs that is left, between 0 and 1, got {pruning.keep:g}")
    if mistakes:
        raise InputError("; ".join(mistakes))
    notes = []
    for field, size in wanted.items():
        if (rounded := _rounded(config, field, size)) != size:
            wanted[field] = rounded
            notes.append(f"{field} {size} rounded up to {rounded}, a multiple of {step_of(getattr(config, field))}")
    if pruning.keep is not None:
        wanted = _within(config, wanted, pruning.keep)
    if all(size == getattr(config, field) for field, size in wanted.items()):
        there = ", ".join(f"{field} {getattr(config, field)}" for field in FIELDS[config.family])
        raise InputError(f"nothing to prune: the model has {there}; make one of them smaller, or give `keep`")
    return PrunedSizes(_resized(config, wanted), tuple(notes))


def step_of(width: int) -> int:
    """Pruned widths are multiples of this: the largest of 64, 32, 16 ... that divides `width` often enough."""
    return next(step for step in _STEPS if width % step == 0 and (step == 1 or width >= _COARSEST * step))


def describe_sizes(before: ImageModelConfig, after: ImageModelConfig) -> str:
    """'depth 12 -> 9, heads 12 -> 8': the sizes that changed."""
    sizes = ((field, getattr(before, field), getattr(after, field)) for field in FIELDS[before.family])
    return ", ".join(f"{field} {old} -> {new}" for field, old, new in sizes if old != new)


def _wanted(config: ImageModelConfig, pruning: Pruning) -> tuple[dict[str, int], list[str]]:
    """Sizes that were asked for, by field of the configuration, and mistakes: fields that this family lacks."""
    channels = "channels_mlp_width" if isinstance(config, MixerConfig) else "mlp_width"
    asked = {
        "depth": pruning.depth,
        "heads": pruning.heads,
        "tokens_mlp_width": pruning.tokens_mlp_width,
        channels: pruning.mlp_width,
    }
    given = {field: size for field, size in asked.items() if size is not None}
    foreign = [field for field in given if field not in FIELDS[config.family]]
    kind = "Mixer" if isinstance(config, MixerConfig) else "transformer"
    mistakes = [f"a {kind} has no {field}: leave {_option(field)} out" for field in foreign]
    return {field: size for field, size in given.items() if field not in foreign}, mistakes


def _option(field: str) -> str:
    return "`mlp_width`" if field == "channels_mlp_width" else f"`{field}`"


def _rounded(config: ImageModelConfig, field: str, size: int) -> int:
    there = getattr(config, field)
    step = step_of(there) if field.endswith("width") else 1
    return min(math.ceil(size / step) * step, there)


def _resized(config: ImageModelConfig, sizes: dict[str, int]) -> ImageModelConfig:
    changes: dict[str, int] = {field: size for field, size in sizes.items() if size != getattr(config, field)}
    if isinstance(config, ViTConfig) and "heads" in changes:
        changes["head_width"] = config.head_width or config.width // config.heads
    changed: ImageModelConfig = change(config, **changes)
    return changed


def _within(config: ImageModelConfig, fixed: dict[str, int], keep: float) -> dict[str, int]:
    """Sizes with at most the share `keep` of the FLOPs: free sizes shrink as evenly as possible, depth is preferred.

    For each choice of the coarse sizes, the finest size is as large as fits.
    """
    fields = FIELDS[config.family]
    free = [field for field in fields if field not in fixed]
    if not free:
        raise InputError(
            f"`keep` chooses the sizes that are not given, and all are given: leave out one of {', '.join(fields)}"
        )
    *coarse, finest = fields
    budget = keep * flops(config)

    def cost(sizes: dict[str, int]) -> int:
        changes: dict[str, int] = dict(sizes)
        if isinstance(config, ViTConfig):
            changes["head_width"] = config.head_width or config.width // config.heads
        return flops(config.model_copy(update=changes))  # not validated, because there are thousands

    best: tuple[tuple[float, int, int], dict[str, int]] | None = None
    least = math.inf
    for chosen in product(*(_candidates(config, field, fixed) for field in coarse)):
        sizes = dict(zip(coarse, chosen, strict=True))
        schemes = _candidates(config, finest, fixed)
        costs = [cost({**sizes, finest: schemes[0]}), cost({**sizes, finest: schemes[-1]})]
        least = min(least, costs[0])
        if costs[0] > budget:
            continue
        fitting = bisect_right(schemes, budget, key=lambda size, sizes=sizes: cost({**sizes, finest: size}))  # type: ignore[misc]
        sizes[finest] = schemes[fitting - 1]
        shares = [math.log(sizes[field] / getattr(config, field)) for field in free]
        left = cost(sizes)
        unused = math.log(budget / left)
        rank = (round(max(shares) - min(shares) + unused, 3), -sizes["depth"], -left)
        if best is None or rank < best[0]:
            best = rank, sizes
    if best is None:
        raise InputError(
            f"`keep` {keep:g} cannot be reached: the smallest that this model can be has "
            f"{least / flops(config):.2f} of its FLOPs; take a smaller model"
        )
    return best[1]


def _candidates(config: ImageModelConfig, field: str, fixed: dict[str, int]) -> list[int]:
    if field in fixed:
        return [fixed[field]]
    there = getattr(config, field)
    step = step_of(there) if field.endswith("width") else 1
    return list(range(step, there + 1, step))

"""How much of a model is to be left: fewer blocks, heads and hidden units, the same number in every block.

So a pruned model is one more row of numbers, and every engine and format takes it. No torch here.
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
_COARSEST = 4  # steps that a width must have at least, so that there is something to choose


@dataclass(frozen=True)
class Pruning:
    """What is to be left; None: as it is, or with `keep` whatever leaves that share of the arithmetic."""

    heads: int | None = None
    """Heads of each block; transformers only."""
    mlp_width: int | None = None
    """Hidden units of each MLP; of a Mixer of those across channels."""
    tokens_mlp_width: int | None = None
    """Hidden units of each MLP across tokens; Mixers only."""
    depth: int | None = None
    """Blocks."""
    keep: float | None = None
    """Share of the FLOPs that may be left; what is not said above is made smaller evenly."""
    method: Method = "taylor"
    """How what is left out is chosen, see `importance`."""
    calibration: int = 256
    """Images that it is chosen by, at most."""


@dataclass(frozen=True)
class Plan:
    """The smaller configuration, and what was changed in the wish for it."""

    config: ImageModelConfig
    notes: tuple[str, ...] = ()


FIELDS: dict[str, tuple[str, ...]] = {
    "vit": ("depth", "heads", "mlp_width"),
    "mixer": ("depth", "tokens_mlp_width", "channels_mlp_width"),
}
"""What can be made smaller, by family; the last one is the finest."""


def plan_sizes(config: ImageModelConfig, pruning: Pruning) -> Plan:
    """The configuration of what is left of `config`.

    Widths of MLPs are rounded up to a multiple that processors like, of 64 or of less for narrow ones; `notes` say so.
    Raises InputError with every mistake at once: more than there is, nothing left, nothing to do, and a share of the
    arithmetic that cannot be reached.
    """
    wanted, mistakes = _wanted(config, pruning)
    for field, size in wanted.items():
        there = getattr(config, field)
        if not 1 <= size <= there:
            mistakes.append(f"{_option(field)} must be from 1 to {there}, what there is, got {size}")
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
        raise InputError(f"nothing is to be pruned: the model has {there}; ask for less of one of them, or say `keep`")
    return Plan(_resized(config, wanted), tuple(notes))


def step_of(width: int) -> int:
    """What pruned widths are multiples of: the largest of 64, 32, 16 ... that goes often enough into `width`."""
    return next(step for step in _STEPS if width % step == 0 and (step == 1 or width >= _COARSEST * step))


def describe_sizes(before: ImageModelConfig, after: ImageModelConfig) -> str:
    """'depth 12 -> 9, heads 12 -> 8': what has changed."""
    sizes = ((field, getattr(before, field), getattr(after, field)) for field in FIELDS[before.family])
    return ", ".join(f"{field} {old} -> {new}" for field, old, new in sizes if old != new)


def _wanted(config: ImageModelConfig, pruning: Pruning) -> tuple[dict[str, int], list[str]]:
    """Sizes that were asked for by the names of the configuration, and why some cannot be."""
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
    mistakes = [f"a {kind} has no {field}: leave {_option(field)} away" for field in foreign]
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
    """Sizes with at most the share `keep` of the FLOPs, the free ones as evenly small as can be, deep before shallow.

    Of every choice of the coarse sizes the finest is made as large as fits.
    """
    fields = FIELDS[config.family]
    free = [field for field in fields if field not in fixed]
    if not free:
        raise InputError(f"`keep` chooses what was not said, and {', '.join(fields)} all were: leave one of them out")
    *coarse, finest = fields
    budget = keep * flops(config)

    def cost(sizes: dict[str, int]) -> int:
        changes: dict[str, int] = dict(sizes)
        if isinstance(config, ViTConfig):
            changes["head_width"] = config.head_width or config.width // config.heads
        return flops(config.model_copy(update=changes))  # unchecked: thousands of them

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
            f"`keep` {keep:g} cannot be reached: the smallest that can be made of the model has "
            f"{least / flops(config):.2f} of its arithmetic; take a smaller model"
        )
    return best[1]


def _candidates(config: ImageModelConfig, field: str, fixed: dict[str, int]) -> list[int]:
    if field in fixed:
        return [fixed[field]]
    there = getattr(config, field)
    step = step_of(there) if field.endswith("width") else 1
    return list(range(step, there + 1, step))

"""The held-out models of `latency_prediction.py`: drawn by a seed, and which engines each of them meets."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitsmith.choosing.candidates import with_merging
from vitsmith.choosing.catalogue import catalogue
from vitsmith.cost.profile import EngineProfile
from vitsmith.errors import ConfigError
from vitsmith.models.config import ImageModelConfig, LiTConfig, ViTConfig
from vitsmith.models.configure import change, configure
from vitsmith.models.cost import flops

MOST_WORK = 300e9
"""Operations of one call, so that a turn ends within seconds; a ViT-L/16 of 224 pixels has 123e9."""
WAYS = 3
"""Engines in a precision that each model meets, of all that are calibrated: the fraction of the design."""


@dataclass(frozen=True)
class Case:
    """A model that no calibration timed, and how it is called."""

    kind: str
    title: str
    config: ImageModelConfig
    batch: int


def predictor_commit() -> str:
    """The last commit that changed what predicts: the seed of a design is later than it."""
    found = subprocess.run(
        ["git", "log", "-1", "--format=%H", "--", "vitsmith/cost"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    return found.stdout.strip()


def cases(seed: int) -> list[Case]:
    """The models of a seed, in random order."""
    chance = random.Random(seed)
    drawn = [
        *_several(chance, 8, "plain", lambda: _sized(chance, chance.choice(["ViT-Ti/16", "ViT-S/16"]))),
        *_several(chance, 5, "plain", lambda: _sized(chance, "ViT-B/16")),
        *_several(chance, 3, "plain L", lambda: _sized(chance, "ViT-L/16", patches=(14, 16, 32))),
        *_several(chance, 4, "other widths", lambda: _other_width(chance)),
        *_several(chance, 3, "Mixer", lambda: _sized(chance, chance.choice(["Mixer-S/16", "Mixer-B/16"]))),
        *_several(chance, 3, "hybrid", lambda: _hybrid(chance)),
        *_several(chance, 4, "rotary, gated or registers", lambda: _published(chance, _modern)),
        *_several(chance, 4, "other heads and norms", lambda: _published(chance, _other_heads)),
        *_several(chance, 2, "merged", lambda: _merged(chance)),
    ]
    chance.shuffle(drawn)
    return drawn


def fraction(count: int, profiles: Sequence[EngineProfile], seed: int) -> list[list[EngineProfile]]:
    """For each of `count` models the engines it meets: each equally often, in random combinations."""
    chance, bag = random.Random(seed), list[EngineProfile]()
    chosen = []
    for _ in range(count):
        if len(bag) < WAYS:
            rest = [one for one in profiles if one not in bag]
            chance.shuffle(rest)
            bag = bag + rest
        chosen.append(bag[:WAYS])
        bag = bag[WAYS:]
    return chosen


Draw = Callable[[], tuple[str, ImageModelConfig]]


def _several(chance: random.Random, count: int, kind: str, draw: Draw) -> Iterator[Case]:
    """`count` different models that are not too large. A draw may raise ConfigError: then it is drawn again."""
    seen: list[ImageModelConfig] = []
    while len(seen) < count:
        try:
            title, config = draw()
        except ConfigError:
            continue
        if config in seen or flops(config) > MOST_WORK:
            continue
        seen.append(config)
        yield Case(kind, title, config, _batch(chance, config))


def _batch(chance: random.Random, config: ImageModelConfig) -> int:
    """Half of the calls have one image, as all of ViT-L."""
    most = 1 if config.width >= 1024 else MOST_WORK // flops(config)
    return max(one for one in (1, chance.choice([1, 1, 1, 4, 8, 16])) if one <= max(most, 1))


def _pixels(chance: random.Random, patch: int) -> tuple[int, int]:
    """96 to 512 pixels, a multiple of the patch; a quarter are not square."""

    def side() -> int:
        return patch * max(round(chance.triangular(96, 512, 224) / patch), 2)

    height = side()
    return (height, side()) if chance.random() < 0.25 else (height, height)


def _sized(chance: random.Random, name: str, patches: Sequence[int] = (8, 14, 16, 32)) -> tuple[str, ImageModelConfig]:
    """An architecture at a random size of patches and of images."""
    patch = chance.choice(patches)
    size = _pixels(chance, patch)
    config = configure(name, image_size=size, patch=(patch, patch))
    return f"{name.split('/')[0]}/{patch}", config  # type: ignore[return-value]


def _other_width(chance: random.Random) -> tuple[str, ImageModelConfig]:
    """A plain ViT of a width that is not calibrated."""
    width, depth = chance.choice([256, 320, 448, 512, 576, 640, 896]), chance.choice([6, 10, 14, 18])
    title, config = _sized(chance, "ViT-B/16")
    config = change(config, width=width, heads=width // 64, mlp_width=4 * width, depth=depth)
    return f"{width} x {depth}/{title.split('/')[1]}", config


def _hybrid(chance: random.Random) -> tuple[str, ImageModelConfig]:
    name = chance.choice(["R+ViT-Ti/16", "R26+ViT-S/32", "R50+ViT-B/16"])
    config = configure(name, image_size=chance.choice([128, 160, 192, 224, 256, 288, 320, 384]))
    return name, config  # type: ignore[return-value]


def _published(chance: random.Random, wanted: Callable[[ViTConfig], bool]) -> tuple[str, ImageModelConfig]:
    """The image tower of a published checkpoint, at its own size."""
    towers = {}
    for one in catalogue():
        tower = one.config.image if isinstance(one.config, LiTConfig) else one.config
        if isinstance(tower, ViTConfig) and wanted(tower) and tower.width <= 1024:
            towers[one.name] = tower
    name = chance.choice(sorted(towers))
    return name, towers[name]


def _modern(config: ViTConfig) -> bool:
    return bool(config.position_embedding.rotary or config.block.gated or config.registers) and not config.resnet


def _other_heads(config: ViTConfig) -> bool:
    parts = config.block.layer_scale or config.block.qk_norm or config.norm_before or config.gelu == "quick"
    return (config.pooling != "token" or parts) and not (_modern(config) or config.resnet)


def _merged(chance: random.Random) -> tuple[str, ImageModelConfig]:
    title, config = _sized(chance, chance.choice(["ViT-S/16", "ViT-B/16"]), patches=(14, 16))
    merged = with_merging(config)
    if merged is None:
        raise ConfigError(f"{title} has too few tokens to merge")
    return f"{title} merged", merged  # type: ignore[return-value]

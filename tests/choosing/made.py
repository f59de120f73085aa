"""Made checkpoints and made costs, so that a ranking can be checked against plain loops."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

import numpy as np

from vitsmith.choosing.candidates import Machine
from vitsmith.choosing.catalogue import Checkpoint
from vitsmith.choosing.overhead import Overhead
from vitsmith.choosing.recommendation import Setup
from vitsmith.cost.cost import Cost
from vitsmith.models.config import LiTConfig, ModelConfig, ViTConfig
from vitsmith.models.cost import parameters

NO_OVERHEAD = Overhead(photo=(0.0, 0.0, 0.0), pixels=(0.0, 0.0, 0.0), spread=(1.0, 1.0, 1.0), source="none")
SETUPS = tuple(Setup(engine, precision) for engine in ("onnx", "openvino") for precision in ("fp32", "int8"))


def vit(width: int = 192, depth: int = 4, side: int = 64, **more: Any) -> ViTConfig:
    """A small ViT with patches of 16 pixels."""
    return ViTConfig(
        width=width, depth=depth, heads=max(width // 64, 1), mlp_width=4 * width, patch=(16, 16),
        image_size=(side, side), classes=10, **more,
    )  # fmt: skip


def checkpoint(name: str, top1: float | None = 80.0, config: ModelConfig | None = None, **more: Any) -> Checkpoint:
    """A checkpoint of the hub that exists nowhere; `top1` is its published figure on ImageNet."""
    made = vit() if config is None else config
    usual: dict[str, Any] = {
        "source": f"hf:made/{name}",
        "name": name,
        "config": made,
        "image_size": made.image_size,
        "accuracy": MappingProxyType({} if top1 is None else {"imagenet": top1}),
        "accuracy_source": "made@0 results.csv",
        "tasks": frozenset({"zeroshot", "embed"} if isinstance(made, LiTConfig) else {"classify", "embed"}),
        "licence": "apache-2.0",
        "commercial": True,
    }
    return Checkpoint(**(usual | more))


def zoo(seed: int, count: int = 24) -> list[Checkpoint]:
    """Checkpoints of random sizes, whose accuracy grows with their size, more or less."""
    random = np.random.default_rng(seed)
    made = []
    for at in range(count):
        config = vit(64 * int(random.integers(1, 9)), int(random.integers(2, 9)), 16 * int(random.integers(2, 9)))
        top1 = 60 + 3 * np.log(parameters(config) / 1e5) + random.normal(0, 2)
        made.append(checkpoint(f"made-{at:02}", round(float(top1), 2), config, commercial=bool(random.random() < 0.7)))
    return made


class MadeCosts:
    """Costs drawn at random for each configuration and setup, always the same; it counts how often it is asked."""

    def __init__(self, seed: int = 0, spread: float = 0.15) -> None:
        self.seed, self.spread, self.calls = seed, spread, 0

    def __call__(self, config: ModelConfig, setup: Setup, batch: int, threads: int | None) -> Cost:
        self.calls += 1
        known = parameters(config) + sum(map(ord, str(setup))) + sum(getattr(config, "merge", ()))
        random = np.random.default_rng([self.seed, known, batch])
        latency = 1e-9 * parameters(config) * batch * float(random.uniform(0.5, 2))
        low, high = latency * (1 - self.spread), latency * (1 + self.spread)
        size = parameters(config) * (1 if setup.precision == "int8" else 4)
        return Cost(latency, low, high, 2 * size + 10**7, size, setup.engine, setup.precision, batch, threads or 2)


def machine(costs: Any = None, setups: Iterable[Setup] = SETUPS, **more: Any) -> Machine:
    """A machine of made costs, without overhead."""
    return Machine(tuple(setups), MadeCosts() if costs is None else costs, **({"overhead": NO_OVERHEAD} | more))


def pairs(values: Iterable[Any]) -> Iterable[tuple[Any, Any]]:
    """All pairs of different places."""
    return itertools.combinations(list(values), 2)

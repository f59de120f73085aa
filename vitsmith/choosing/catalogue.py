"""The published checkpoints that `load` takes: architecture, published accuracy and its source, tasks, licence.

The rows are checkpoints.csv, their architectures configurations.json; `benchmarks/catalogue.py` writes both and says
which published figures it leaves out, and why. Nothing here needs torch or the network.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Literal, get_args

from vitsmith.json_text import parse_json
from vitsmith.models.config import ModelConfig
from vitsmith.models.configure import parse_config

Task = Literal["classify", "zeroshot", "embed"]
TASKS: tuple[str, ...] = get_args(Task)

METRICS: Mapping[str, str] = MappingProxyType(
    {
        "imagenet": "top-1 of the classifier on ImageNet's 50,000 validation images",
        "imagenet-real": "the same with the labels of ReaL (arXiv 2006.07159)",
        "imagenet-v2": "top-1 of the classifier on ImageNet-V2 (arXiv 1902.10811), matched frequency",
        "imagenet-a": "top-1 of the classifier on ImageNet-A (arXiv 1907.07174)",
        "imagenet-r": "top-1 of the classifier on ImageNet-R (arXiv 2006.16241)",
        "imagenet-sketch": "top-1 of the classifier on ImageNet-Sketch (arXiv 1905.13549)",
        "imagenet-zeroshot": "top-1 on ImageNet of classes described in words, with no training image",
        "imagenet-v2-zeroshot": "the same on ImageNet-V2",
        "imagenet-knn": "top-1 on ImageNet by the nearest training images, from frozen features",
        "imagenet-linear": "top-1 on ImageNet of a linear classifier trained on frozen features",
        "imagenet-real-linear": "the same with the labels of ReaL",
        "imagenet-r-linear": "the same on ImageNet-R",
    }
)
"""What `Checkpoint.accuracy` may hold. Figures of two metrics are never compared with each other."""


@dataclass(frozen=True)
class Checkpoint:
    """A published file of weights that `vitsmith.load` takes, and what is published about it."""

    source: str
    """What `vitsmith.load` takes: 'hf:timm/vit_base_patch16_224.augreg_in21k_ft_in1k', 'LiT-B16B_2.lit'."""
    name: str
    """A short name for tables, different for each row."""
    config: ModelConfig
    """As `load` makes it at the published image size, its classes included."""
    image_size: tuple[int, int]
    """(height, width) in pixels."""
    accuracy: Mapping[str, float]
    """Percent by metric, see METRICS; only what is published."""
    accuracy_source: str
    """Repository, commit and file that state the figures."""
    tasks: frozenset[str]
    """What it does as it is loaded: a classifier classifies, two towers are for zero-shot and embeddings, features
    alone for embeddings."""
    licence: str
    """As its publisher calls it, in lower case: 'apache-2.0'; '' where none was found."""
    commercial: bool | None
    """Whether that licence allows commercial use; None where the licence is not known."""
    note: str = ""
    """What else a user should know of the row."""

    @property
    def headless(self) -> bool:
        """Whether `load` must be told `headless=True`: the file holds features alone."""
        return "classify" not in self.tasks and "zeroshot" not in self.tasks


@functools.cache
def catalogue() -> tuple[Checkpoint, ...]:
    """All rows, classifiers first, the most accurate first within a task."""
    configs = {
        name: parse_config(fields)
        for name, fields in parse_json(_text("configurations.json"), "configurations.json").items()
    }
    return tuple(_checkpoint(row, configs) for row in csv.DictReader(_text("checkpoints.csv").splitlines()))


def _checkpoint(row: Mapping[str, str], configs: Mapping[str, ModelConfig]) -> Checkpoint:
    config = configs[row["configuration"]]
    return Checkpoint(
        source=row["source"],
        name=row["name"],
        config=config,
        image_size=config.image_size,
        accuracy=MappingProxyType({metric: float(row[metric]) for metric in METRICS if row[metric]}),
        accuracy_source=row["accuracy_source"],
        tasks=frozenset(row["tasks"].split()),
        licence=row["licence"],
        commercial={"yes": True, "no": False, "": None}[row["commercial"]],
        note=row["note"],
    )


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")

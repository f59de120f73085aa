"""Measures the memory of models that are run as users run them, for `memory_prediction.py`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from vitsmith.benchmark.memory import Memory, Task, measure_memory
from vitsmith.models.config import ImageModelConfig
from vitsmith.weights.bundle.bundle import Bundle

WAYS = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
)
"""Engines and precisions, all of those that are predicted."""


@dataclass(frozen=True)
class MemoryCase:
    """A model, and how many images it is given at once."""

    title: str
    config: ImageModelConfig
    batches: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class MemoryRow:
    """The peak of a process that runs a model, or why it has none."""

    title: str
    config: dict[str, Any]
    engine: str
    precision: str
    batch: int
    bytes: int
    """Above a bare Python interpreter; 0 where it failed."""
    failed: str = ""

    @property
    def way(self) -> str:
        return f"{self.engine} {self.precision}"


def measure(case: MemoryCase, ways: Sequence[tuple[str, str]]) -> Iterator[MemoryRow]:
    """Writes the programs of a model with random weights, runs each in processes of its own, and removes them.

    As in `vitsmith benchmark`, single images have another process than batches, which are run in order of size.
    """
    with tempfile.TemporaryDirectory() as place, _fresh_cache(Path(place) / "cache"):
        described = case.title, case.config.model_dump(mode="json")
        for engine, precision in ways:
            found: dict[int, Any] = {}
            try:
                folder = _written(case.config, engine, precision, Path(place))
            except Exception as error:  # whatever a foreign library throws: a program that cannot be made is told
                reason = f"its program cannot be made: {type(error).__name__}: {error}"[:200]
                yield from (MemoryRow(*described, engine, precision, batch, 0, reason) for batch in case.batches)
                continue
            for goal, batches in _openings(engine, case.batches):
                task = Task(str(folder), engine, precision, None, goal, batches)
                found |= measure_memory(task)
            for batch, one in found.items():
                measured = (one.bytes,) if isinstance(one, Memory) else (0, one.reason)
                yield MemoryRow(*described, engine, precision, batch, *measured)


def _openings(engine: str, batches: Sequence[int]) -> list[tuple[str, tuple[int, ...]]]:
    """(goal, batches) of each process."""
    several = tuple(sorted(one for one in batches if one > 1 or engine == "torch"))
    single = [] if engine == "torch" or 1 not in batches else [("latency", (1,))]
    return single + ([("throughput", several)] if several else [])


@contextmanager
def _fresh_cache(folder: Path) -> Iterator[None]:
    """No result of an earlier start is known: what a user's first start takes is measured too."""
    before = os.environ.get("VITSMITH_CACHE")
    os.environ["VITSMITH_CACHE"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("VITSMITH_CACHE")
        if before is not None:
            os.environ["VITSMITH_CACHE"] = before


def _written(config: ImageModelConfig, engine: str, precision: str, place: Path) -> Path:
    """The folder of a bundle. bf16 is computed from the weights or the program in fp32."""
    from vitsmith.choosing.measured.build import random_bundle, write_to_time
    from vitsmith.choosing.recommendation import Setup
    from vitsmith.data.images.sample_photos import sample_images
    from vitsmith.exporters.gate import GOLDEN_IMAGES

    kind = "int8" if precision == "int8" else "fp32"
    folder = place / f"{engine}-{kind}"
    if not folder.exists():
        bundle = random_bundle(config).with_golden(sample_images(GOLDEN_IMAGES))
        made = write_to_time(bundle, Setup(engine, kind), folder)
        if engine != "torch":
            _add_golden(made, bundle)
        shutil.rmtree(place / f"{folder.name}-float", ignore_errors=True)
    return folder


def _add_golden(made: Bundle, original: Bundle) -> None:
    """Golden answers of its own, as `export` and `quantize` write them."""
    from vitsmith.engines.open import open_engine
    from vitsmith.exporters.gate import golden_of
    from vitsmith.weights.bundle.folder import copy_programs, write_bundle

    golden = golden_of(original, made, open_engine(made))
    folder = made.place
    first = folder.rename(folder.with_name(f"{folder.name}-made"))
    write_bundle(replace(made, golden=golden), folder, write_program=partial(copy_programs, first))
    shutil.rmtree(first)

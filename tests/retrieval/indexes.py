"""Indexes of random unit vectors, and an encoder that needs no model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.retrieval.build import build_index
from vitsmith.retrieval.description import Space
from vitsmith.retrieval.sync.options import IndexOptions
from vitsmith.retrieval.writer import IndexWriter
from vitsmith.stream import Failure

WIDTH = 12
SPACE = Space(kind="images", identity="a" * 32, model="ours", width=WIDTH)


def unit(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write(folder: Path, vectors: np.ndarray, *, space: Space = SPACE, part_rows: int = 16_384) -> None:
    with IndexWriter(folder, space, part_rows=part_rows) as writer:
        for number, vector in enumerate(vectors):
            writer.add((f"{number}.jpg", vector))
        writer.finish()


class Source:
    """An encoder of numbered things: the vector of 'n' is row n, those in `bad` cannot be read."""

    def __init__(self, vectors: np.ndarray, bad: tuple[int, ...] = (), stop: int = -1) -> None:
        self.vectors, self.bad, self.stop = vectors, bad, stop
        self.read: list[str] = []

    def stream(self, names: Iterable[Any]) -> Iterator[tuple[str, np.ndarray] | Failure]:
        for name in map(os.fspath, names):
            if int(name) == self.stop:
                raise KeyboardInterrupt
            self.read.append(name)
            yield Failure(name, f"{name}: no image") if int(name) in self.bad else (name, self.vectors[int(name)])


def build(source: Any, names: list[str], folder: Path, *, part_rows: int = 4, retry: bool = False) -> Any:
    with IndexWriter(folder, SPACE, part_rows=part_rows) as writer:
        return build_index(source, names, writer, IndexOptions(retry=retry))

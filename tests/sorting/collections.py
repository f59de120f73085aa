"""Pictures in folders, and indexes of them with made vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vitsmith.retrieval.description import Space
from vitsmith.retrieval.file_state import look_at
from vitsmith.retrieval.index import Index
from vitsmith.retrieval.writer import IndexWriter

WIDTH = 8


def picture(path: Path, seed: int, size: tuple[int, int] = (8, 6)) -> Path:
    """A picture of noise of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def towards(*angles: float) -> np.ndarray:
    """Unit vectors in a plane, at these degrees: the cosine of two is that of the angle between them."""
    vectors = np.zeros((len(angles), WIDTH), np.float32)
    vectors[:, 0], vectors[:, 1] = np.cos(np.radians(angles)), np.sin(np.radians(angles))
    return vectors


def index_of(
    folder: Path, names: list[str], vectors: np.ndarray, *, kind: str = "images", identity: str = "a"
) -> Index:
    space = Space.model_validate(
        {"kind": kind, "identity": identity * 32, "model": f"model-{identity}", "width": vectors.shape[1]}
    )
    with IndexWriter(folder, space) as writer:
        if kind == "images":
            writer.set_root(names, 0)
        for name, vector in zip(names, vectors, strict=True):
            writer.add((name, vector), look_at(name) if kind == "images" else None)
        return writer.finish()

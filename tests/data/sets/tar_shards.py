"""Shards of small images on disk."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (5, 4, 3), np.uint8)).save(data, "PNG")
    return data.getvalue()


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sample(number: int, label: object, kind: str = "cls") -> dict[str, bytes]:
    text = str(label) if kind == "cls" else json.dumps(label)
    return {f"{number:06d}.png": picture(number), f"{number:06d}.{kind}": text.encode()}


def write_shards(folder: Path, name: str = "pets", shards: int = 3, each: int = 6) -> Path:
    """Shards whose images are numbered through, labels 0 and 1 in turns."""
    for shard in range(shards):
        members: dict[str, bytes] = {}
        for number in range(shard * each, (shard + 1) * each):
            members |= sample(number, number % 2)
        write_tar(folder / f"{name}-{shard:04d}.tar", members)
    return folder

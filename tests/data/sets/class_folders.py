"""Class folders of images in one colour."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def draw(folder: Path, names: dict[str, int]) -> Path:
    """Class folders with so many one-colour PNGs each."""
    for label, (name, count) in enumerate(names.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (4, 3), (40 * label, 10 * index, 7)).save(folder / name / f"{index}.png")
    return folder

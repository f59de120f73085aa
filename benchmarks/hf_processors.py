"""Are the pixels of transformers' image processors followed, or refused by name, whatever their files say?

    pip install transformers==5.24.0 scikit-image
    PYTHONPATH=. python benchmarks/hf_processors.py [--out benchmarks/results/FILE.md]

Every processor that vitsmith follows meets every row of fields, as its preprocessor_config.json would have them, in
transformers' own class (the one that resizes with Pillow) and in `hf_images`, on photographs that are wide, tall, tiny
and of odd sides. `largest` is the largest difference of a value, after mean and standard deviation.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from PIL import Image

from vitsmith.data.images.preprocess import preprocess
from vitsmith.files.atomic import write_text
from vitsmith.machine import describe_machine
from vitsmith.weights.hf.images import HFPreprocessor, hf_images, unfollowed

PROCESSORS = {"ViT": "vit", "DeiT": "deit", "CLIP": "clip", "Bit": "bit", "Siglip": "siglip", "Blip": "blip"}
PROCESSORS["ChineseCLIP"] = "chinese_clip"
OTHERS = ("Levit", "ConvNext", "Perceiver")
"""Three with rules of their own, which must be refused."""

CROP = {"do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
EDGE, SQUARE = {"size": {"shortest_edge": 40}}, {"size": {"height": 40, "width": 40}}
ROWS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a number as size": {"size": 40, **CROP},
    "a list as size": {"size": [40, 56], "do_center_crop": False},
    "squash, not square": {"size": {"height": 40, "width": 56}, "do_center_crop": False},
    "shorter edge, crop": EDGE | CROP,
    "shorter edge, odd margin": EDGE | {"do_center_crop": True, "crop_size": 33},
    "squash, crop": SQUARE | CROP,
    "squash, the same share of both sides": {"size": {"height": 40, "width": 60}}
    | {"do_center_crop": True, "crop_size": {"height": 32, "width": 48}},
    "squash, another share": SQUARE | {"do_center_crop": True, "crop_size": {"height": 32, "width": 40}},
    "shorter edge, crop not square": EDGE | {"do_center_crop": True, "crop_size": {"height": 32, "width": 40}},
    "crop larger than the image": EDGE | {"do_center_crop": True, "crop_size": 48},
    "shorter edge, no crop": EDGE | {"do_center_crop": False},
    "both edges": {"size": {"shortest_edge": 40, "longest_edge": 60}, "do_center_crop": False},
    "longest edge": {"size": {"longest_edge": 40}, "do_center_crop": False},
    "greatest height and width": {"size": {"max_height": 40, "max_width": 40}, "do_center_crop": False},
    "do_resize false": {"do_resize": False, **CROP},
    "do_normalize false": SQUARE | CROP | {"do_normalize": False},
    "do_rescale false": SQUARE | CROP | {"do_rescale": False, "image_mean": [120, 110, 100], "image_std": [60, 61, 62]},
    "rescale_factor": SQUARE | CROP | {"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]},
    "do_convert_rgb false": SQUARE | CROP | {"do_convert_rgb": False},
    "one number as mean": SQUARE | CROP | {"image_mean": 0.25, "image_std": 0.3},
    "do_pad": SQUARE | CROP | {"do_pad": True, "pad_size": {"height": 40, "width": 40}},
    **{f"resample {number}": SQUARE | CROP | {"resample": number} for number in range(6)},
}


def pictures() -> Iterator[np.ndarray]:
    """Photographs, uint8."""
    face = skimage.data.astronaut()
    yield from (
        skimage.data.chelsea(),
        skimage.data.coffee().transpose(1, 0, 2),
        face[:131, :97],
        face[100:111, 200:213],
    )


def told_by(name: str, fields: dict[str, Any]) -> HFPreprocessor:
    """The preprocessor that a file with these fields describes."""
    return HFPreprocessor.model_validate({"image_processor_type": f"{name}ImageProcessor", **fields})


def compared(name: str, fields: dict[str, Any]) -> str:
    """A cell: the largest difference, or that images are refused."""
    told = told_by(name, fields)
    if unfollowed(told):
        return "refused"
    module = importlib.import_module(f"transformers.models.{PROCESSORS[name]}.image_processing_pil_{PROCESSORS[name]}")
    theirs = getattr(module, f"{name}ImageProcessorPil")(**fields)
    sides = told.cut or told.edges
    spec = hf_images(told, (sides["height"], sides["width"]))
    worst = 0.0
    for picture in pictures():
        expected = theirs(Image.fromarray(np.ascontiguousarray(picture)), return_tensors="np").pixel_values[0]
        found = preprocess(np.ascontiguousarray(picture), spec)
        if expected.shape != found.shape:
            return f"WRONG: {found.shape[1:]}, theirs {expected.shape[1:]}"
        worst = max(worst, float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max())))
    return f"{'' if worst < 1e-6 else 'WRONG: '}{worst:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cells = {row: {name: compared(name, fields) for name in PROCESSORS} for row, fields in ROWS.items()}
    for row, fields in ROWS.items():
        cells[row]["why"] = unfollowed(told_by("CLIP", fields)).partition(", in its")[0]
    assert all(compared(name, {}) == "refused" for name in OTHERS)
    lines = [
        "# Pixels by the rules of transformers' image processors",
        "",
        f"`python benchmarks/hf_processors.py`: pixels of transformers {version('transformers')}'s processors, "
        f"{describe_machine()}, {datetime.date.today().isoformat()}. A number: the largest "
        f"difference, as a share of the largest value (at least 1). {', '.join(OTHERS)} have their own rules: refused.",
        "",
        f"| fields | {' | '.join(PROCESSORS)} | what is refused |",
        "|---" * (len(PROCESSORS) + 2) + "|",
        *(f"| {row} | " + " | ".join(found.values()) + " |" for row, found in cells.items()),
    ]
    print("\n".join(lines))
    if arguments.out:
        write_text(arguments.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

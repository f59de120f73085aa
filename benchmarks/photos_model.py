"""A ViT trained on crops of 20 photos: weights that mean something, where none can be downloaded.

    pip install 'vitsmith[torch,digits]' scikit-image
    python benchmarks/photos_model.py --model Ti --out runs/photos-Ti

Data: crops of the photos and textures that ship inside scikit-image and scikit-learn, in grey, 224 pixels; the class is
the photo. Training crops come from the left 60 % of each, held-out ones from the rest (benchmarks/made_here.py
cuts them). They lie in OUT/photos, a class has 100 to train on, 60 to validate and 60 to test; these two come from the
same part of a photo, and may overlap.

Training: the first updates at 96 pixels, where an image has 36 patches, the last at 224 with positions interpolated,
all from scratch, GELU as timm's. The bundle is OUT/bundle; its top-1 on the validation crops is among its measurements.
Of the plans only that of Ti was carried out so far.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from made_here import GROUP_A, GROUP_B, QUIET, train, write_crops

import vitsmith as vs
from vitsmith.training.recipes.file import merge

NAMES = tuple(sorted((*GROUP_A, *GROUP_B)))
SMALL, FULL = 96, 224
PLAN: dict[str, dict[str, Any]] = {
    "Ti": {"small": 1200, "full": 150, "lr": 0.001},
    "S": {"small": 900, "full": 120, "lr": 0.0007},
    "B": {"small": 700, "full": 60, "lr": 0.0005},
}
"""Updates of 32 crops at each size, and the highest learning rate."""


def recipe(steps: int, rate: float) -> dict[str, Any]:
    return merge(
        QUIET,
        {
            "run": {"precision": "bf16", "baseline": False, "eval_every": 100},
            "augment": {"area": [0.5, 1.0]},
            "batch": {"size": 32},
            "schedule": {"steps": steps, "warmup": steps // 10},
            "optimizer": {"name": "adamw", "lr": rate, "weight_decay": 0.05, "clip": 1.0},
        },
    )


def make(size: str, out: Path) -> None:
    """Writes OUT/photos and OUT/bundle; what is there already is taken."""
    if not (out / "photos").exists():
        write_crops(out / "photos", NAMES, 100, 120, size=FULL)
        for crop in sorted((out / "photos" / "val").glob("*/*[13579].png")):
            place = out / "photos" / "test" / crop.parent.name
            place.mkdir(parents=True, exist_ok=True)
            crop.rename(place / crop.name)
    plan = PLAN[size]
    if not (out / "small" / "model").exists():
        fresh = {"model": {"name": f"ViT-{size}_16", "image_size": SMALL, "head_std": 0.1, "config": {"gelu": "erf"}}}
        first = train(out / "photos", out / "small", recipe(plan["small"], plan["lr"]), fresh)
        print(f"{SMALL} pixels: top-1 {first.top1:.2f} %, {first.seconds:.0f} s", file=sys.stderr, flush=True)
    if not (out / "full" / "model").exists():
        init = {"model": {"init": str(out / "small" / "model"), "image_size": FULL}}
        last = train(out / "photos", out / "full", recipe(plan["full"], plan["lr"] / 5), init)
        print(f"{FULL} pixels: top-1 {last.top1:.2f} %, {last.seconds:.0f} s", file=sys.stderr, flush=True)
    if not (out / "bundle").exists():
        vs.save(vs.load(out / "full" / "model"), out / "bundle")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=PLAN, default="B")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    make(options.model, options.out)


if __name__ == "__main__":
    main()

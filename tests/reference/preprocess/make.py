"""Writes `sources.json` and `sources.npz`: small pictures through the preprocessing of the libraries weights come from.

Run once, with timm 1.0.31, transformers 5.24, open_clip 3.3.0, torchvision 0.28 and Pillow 13 beside vitsmith's own
requirements; each case is a library's own code, with the configuration as its files have it. It also prints how far
torchvision's uint8 tensors (fast processors of HF, DINOv3's hub) are from Pillow's pixels, and what converting to RGB
after the resize changes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from PIL import Image

# A torchvision without its compiled operators still resizes, if the names that it registers for are there.
_operators = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _operators.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from open_clip.transform import PreprocessCfg, image_transform_v2  # noqa: E402
from timm.data.transforms_factory import transforms_imagenet_eval  # noqa: E402
from torchvision.transforms import v2  # noqa: E402
from transformers import CLIPImageProcessor, DINOv3ViTImageProcessor  # noqa: E402
from transformers.image_transforms import convert_to_rgb  # noqa: E402
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil  # noqa: E402
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil  # noqa: E402
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil  # noqa: E402
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil  # noqa: E402
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil  # noqa: E402

HERE = Path(__file__).parent
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
SIDE, WIDE = [17, 17], [17, 23]

HF = {
    "clip": (CLIPImageProcessorPil, {"size": {"shortest_edge": 17}, "crop_size": {"height": 17, "width": 17}}),
    "clip-old": (CLIPImageProcessorPil, {"size": 17, "crop_size": 17}),
    "dinov2": (
        BitImageProcessorPil,
        {
            "size": {"shortest_edge": 20},
            "crop_size": {"height": 17, "width": 17},
            "image_mean": IMAGENET["mean"],
            "image_std": IMAGENET["std"],
        },
    ),
    "siglip": (SiglipImageProcessorPil, {"size": {"height": 17, "width": 17}}),
    "siglip2": (SiglipImageProcessorPil, {"size": {"height": 17, "width": 17}, "resample": 2}),
    "deit": (DeiTImageProcessorPil, {"size": {"height": 20, "width": 20}, "crop_size": {"height": 17, "width": 17}}),
    "vit": (ViTImageProcessorPil, {"size": {"height": 17, "width": 17}}),
    "dinov3": (DINOv3ViTImageProcessor, {"size": {"height": 17, "width": 17}}),
    "dinov3-bicubic": (DINOv3ViTImageProcessor, {"size": {"height": 17, "width": 17}, "resample": 3}),
}
OPEN_CLIP: dict[str, tuple[list[int], dict[str, Any]]] = {
    "openai": (SIDE, {}),  # also what clip/clip.py does
    "squash": (SIDE, {"resize_mode": "squash", "mean": [0.5] * 3, "std": [0.5] * 3}),
    "squash-bilinear": (WIDE, {"resize_mode": "squash", "interpolation": "bilinear"}),
    "random": (SIDE, {"interpolation": "random"}),
    "bilinear": (SIDE, {"interpolation": "bilinear"}),
    "bilinear-wide": (WIDE, {"interpolation": "bilinear"}),
    "longest": (SIDE, {"resize_mode": "longest"}),
    "longest-wide": (WIDE, {"resize_mode": "longest", "fill_color": 127, "interpolation": "bilinear"}),
}
TIMM: dict[str, tuple[list[int], dict[str, Any]]] = {
    "center": (SIDE, {"crop_pct": 0.9, "interpolation": "bicubic"}),
    "center-wide": (WIDE, {"crop_pct": 0.875, "interpolation": "bilinear"}),
    "squash": (SIDE, {"crop_pct": 1.0, "interpolation": "bicubic", "crop_mode": "squash"}),
    "squash-cropped": (WIDE, {"crop_pct": 0.8, "interpolation": "bicubic", "crop_mode": "squash"}),
    "border": (SIDE, {"crop_pct": 1.0, "interpolation": "bicubic", "crop_mode": "border"}),
    "border-cropped": (WIDE, {"crop_pct": 0.8, "interpolation": "lanczos", "crop_mode": "border"}),
}


def pictures() -> dict[str, Image.Image]:
    """Real ones: wide, tall, of odd sides, smaller than the model's input, one pixel wide, one pixel high."""
    face, coffee = skimage.data.astronaut(), skimage.data.coffee()
    pixels = {
        "wide": skimage.data.chelsea(),
        "tall": coffee.transpose(1, 0, 2),
        "odd": face[:131, :97],
        "tiny": face[100:111, 200:213],
        "column": face[:90, 200:201],
        "row": coffee[150:151, :60],
    }
    return {name: Image.fromarray(np.ascontiguousarray(one)) for name, one in pixels.items()}


def modes(photo: Image.Image) -> dict[str, Image.Image]:
    """A picture in the modes that files have."""
    small = photo.resize((61, 47))
    seen = Image.fromarray((np.indices((47, 61)).sum(0) * 2).astype(np.uint8))
    clear = small.copy()
    clear.putalpha(seen)
    palette = small.quantize(16)
    see_through = palette.copy()
    see_through.info["transparency"] = 3
    seen_through = {"LA": clear.convert("LA"), "P-transparent": see_through, "RGBA": clear}
    return {"L": small.convert("L"), "P": palette, "CMYK": small.convert("CMYK"), **seen_through}


def cases() -> dict[str, tuple[dict[str, Any], Callable[[Image.Image], Any]]]:
    """For each name what a reader is given, and the source's own function from a picture to (3, h, w)."""
    found: dict[str, tuple[dict[str, Any], Callable[[Image.Image], Any]]] = {}
    for name, (kind, fields) in HF.items():
        file = {"image_processor_type": kind.__name__.removesuffix("Pil"), **fields}
        processor = kind(**fields)
        found[f"hf-{name}"] = (
            {"config": file, "size": SIDE},
            lambda picture, processor=processor: processor(picture, return_tensors="pt").pixel_values[0],
        )
    for name, (size, cfg) in OPEN_CLIP.items():
        transform = image_transform_v2(PreprocessCfg(**{**cfg, "size": tuple(size)}), is_train=False)
        found[f"open_clip-{name}"] = ({"config": cfg, "size": size}, transform)
    for name, (size, cfg) in TIMM.items():
        transform = transforms_imagenet_eval(tuple(size), **cfg, **IMAGENET)
        found[f"timm-{name}"] = ({"config": {**cfg, **IMAGENET}, "size": size}, transform)
    return found


def main() -> None:
    arrays: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for name, (facts, run) in cases().items():
        told[name] = facts
        for key, picture in pictures().items():
            try:
                arrays[f"{name}/{key}"] = np.asarray(run(picture), np.float32)
            except ValueError as error:
                print(f"{name} cannot do {key}: {error}")
    processor = CLIPImageProcessorPil(**HF["clip"][1])
    for key, picture in modes(pictures()["wide"]).items():
        arrays[f"modes/{key}"] = np.asarray(picture)
        if key.startswith("P"):
            arrays[f"palettes/{key}"] = np.asarray(picture.getpalette(), np.uint8)
        arrays[f"hf-clip/{key}"] = np.asarray(processor(picture, return_tensors="np").pixel_values[0], np.float32)
    (HERE / "sources.json").write_text(json.dumps(told, indent=1) + "\n")
    np.savez_compressed(HERE / "sources.npz", **arrays)
    compare_with_tensors()
    compare_orders()


def compare_with_tensors() -> None:
    """torchvision's uint8 tensors beside Pillow."""
    for name, side, mode, resample in (("DINOv3 hub", 256, "BILINEAR", 2), ("HF fast", 224, "BICUBIC", 3)):
        for key in ("chelsea", "coffee", "astronaut"):
            pixels = getattr(skimage.data, key)()
            resize = v2.Resize((side, side), getattr(v2.InterpolationMode, mode), antialias=True)
            found = resize(torch.from_numpy(pixels.copy()).permute(2, 0, 1)).permute(1, 2, 0).numpy()
            expected = np.asarray(Image.fromarray(pixels).resize((side, side), resample))
            apart = np.abs(found.astype(int) - expected)
            print(f"{name}, {key}: {100 * (apart > 0).mean():.2f}% differ, by {apart.max()} at most")
    fast = CLIPImageProcessor()(pictures()["wide"], return_tensors="pt").pixel_values[0].numpy()
    slow = CLIPImageProcessorPil()(pictures()["wide"], return_tensors="np").pixel_values[0]
    print(f"CLIPImageProcessor, fast and slow: {np.abs(fast - slow).max():.4f} apart at most")


def compare_orders() -> None:
    """RGB, transparency over white, before the resize (HF, vitsmith) and plain RGB after it (CLIP, open_clip, PE)."""
    for key, picture in modes(pictures()["wide"]).items():
        after = np.asarray(picture.resize((17, 17), Image.Resampling.BILINEAR).convert("RGB"), int)
        rgb = Image.fromarray(convert_to_rgb(picture, return_numpy=True))
        apart = np.abs(after - np.asarray(rgb.resize((17, 17), Image.Resampling.BILINEAR), int))
        print(f"RGB after the resize, {key}: {apart.mean():.2f} levels on average, {apart.max()} at most")


if __name__ == "__main__":
    main()

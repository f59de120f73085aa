"""Records what timm's vision transformers answer, one or more of each family: writes families.json beside this file.

    pip install timm
    python tests/reference/timm/record.py

Each is an architecture of timm made small, saved as timm saves for the hub. Recorded are the names and shapes of its
arrays, the `config.json`, and the outputs. The values of the arrays and the images are those of `values` and `images`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from tests.reference import fill  # noqa: E402

SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 4, "num_classes": 5}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "vit_base_patch16_224": {},
    "vit_base_patch32_clip_224": {},
    "vit_base_patch32_clip_quickgelu_224": {},
    "vit_base_patch16_siglip_224": {"num_classes": 0},
    "vit_base_patch32_siglip_256": {"num_classes": 0},
    "vit_small_patch14_dinov2": {},
    "vit_small_patch14_reg4_dinov2": {},
    "vit_giant_patch14_reg4_dinov2": {},
    "deit3_small_patch16_224": {},
    "vit_little_patch16_reg4_gap_256": {},
    "vit_so150m2_patch16_reg1_gap_256": {},
    "vit_base_patch16_radio_v3": {"num_classes": 0},
    "beit3_base_patch16_224": {},
    "vit_small_patch16_dinov3": {"num_classes": 0},
    "vit_small_plus_patch16_dinov3_qkvb": {"num_classes": 0},
    "eva_giant_patch14_224": {},
    "eva02_tiny_patch14_224": {},
    "eva02_base_patch14_224": {},
    "eva02_base_patch16_clip_224": {},
    "vit_medium_patch16_rope_reg1_gap_256": {},
    "vit_small_patch16_rope_ape_224": {},
    "vit_pe_core_tiny_patch16_384": {},
    "vit_pe_core_gigantic_patch14_448": {},
    "vit_pe_spatial_tiny_patch16_512": {"num_classes": 0},
    "vit_tiny_r_s16_p8_224": {},
    "aimv2_large_patch14_224": {"num_classes": 0},
}
"""Architectures, and arguments beside those of `SMALL`."""


def values(name: str, shape: tuple[int, ...]) -> Tensor:
    """The array `name`: matrices that keep the size of what they multiply, scales about 1, the rest about 0."""
    noise = torch.from_numpy(fill.uniform(name, shape))
    if name.endswith(".weight") and len(shape) > 1:
        return noise / noise[0].numel() ** 0.5
    if name.endswith((".weight", "gamma", "gamma_1", "gamma_2")):
        return 1 + 0.3 * noise
    return 0.3 * noise


def images(image_size: tuple[int, int]) -> Tensor:
    """Two images, (2, 3, height, width)."""
    return torch.from_numpy(fill.image("timm", 2, image_size)).permute(0, 3, 1, 2).contiguous()


def recorded(architecture: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What is recorded of one architecture."""
    import timm
    from timm.models import save_for_hf

    with torch.device("meta"):
        native = timm.create_model(architecture, depth=1)
    patch = native.patch_embed.patch_size[0] * (4 if "_r_" in architecture else 1)  # after a stem of stride 4
    size = (2 * patch, 3 * patch)
    model = timm.create_model(architecture, img_size=size, **SMALL | arguments).eval()
    state = {name: values(name, tuple(array.shape)) for name, array in model.state_dict().items()}
    model.load_state_dict(state)
    with tempfile.TemporaryDirectory() as folder:
        save_for_hf(model, folder, safe_serialization=True)
        config = json.loads((Path(folder) / "config.json").read_text())
    with torch.no_grad():
        outputs = model(images(size))
    told = ("architecture", "num_classes", "global_pool", "model_args")
    return {
        "config": {name: config[name] for name in told if name in config} | {"pretrained_cfg": {}},
        "shapes": {name: list(array.shape) for name, array in state.items()},
        "outputs": [[round(value, 6) for value in row] for row in outputs.tolist()],
    }


def main() -> None:
    from timm_reads_our_npz import stand_in_for_torchvision

    stand_in_for_torchvision()
    rows = {name: recorded(name, arguments) for name, arguments in ARCHITECTURES.items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    (Path(__file__).parent / "families.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

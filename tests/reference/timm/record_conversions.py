"""Records what timm makes of small `.npz` files of the original: writes conversions.json.

    python tests/reference/timm/record_conversions.py        # needs timm 1.0.31

The files are the recorded small models of `tests/reference/forward`, with the arrays of `fill.py`, read by timm's own
loader; Mixers, for which it has none, are renamed by `benchmarks/timm_reads_our_npz.py`. Kept are shape and SHA-256 of
each array of timm's state dict.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from timm_reads_our_npz import mixer_state, stand_in_for_torchvision  # noqa: E402

from tests.reference import fill  # noqa: E402

stand_in_for_torchvision()
from timm.layers import HybridEmbed, StdConv2dSame  # noqa: E402
from timm.models import mlp_mixer, resnetv2, vision_transformer  # noqa: E402

SMALL: dict[str, Any] = {"num_classes": 10, "embed_dim": 48, "depth": 2, "num_heads": 3, "mlp_ratio": 2}


def vit() -> nn.Module:
    return vision_transformer.VisionTransformer(img_size=32, patch_size=8, **SMALL)


def hybrid(backbone: nn.Module, patch: int) -> nn.Module:
    def embed(**options: Any) -> HybridEmbed:
        return HybridEmbed(backbone=backbone, **options)

    return vision_transformer.VisionTransformer(img_size=64, patch_size=patch, embed_layer=embed, **SMALL)


def stages() -> nn.Module:
    options: dict[str, Any] = {"channels": (128, 256, 512), "stem_chs": 32, "num_classes": 0, "global_pool": ""}
    return resnetv2.ResNetV2((2, 1, 1), preact=False, stem_type="same", conv_layer=StdConv2dSame, **options)


def stem() -> nn.Module:
    return resnetv2.create_resnetv2_stem(3, stem_type="same", preact=False, conv_layer=StdConv2dSame)


def mixer() -> nn.Module:
    sizes: dict[str, Any] = {"num_classes": 10, "num_blocks": 2, "embed_dim": 48, "mlp_ratio": (20 / 48, 2)}
    return mlp_mixer.MlpMixer(img_size=32, patch_size=8, **sizes)


CASES: dict[str, Callable[[], nn.Module]] = {
    "small-vit-token": vit,
    "small-hybrid-stem": lambda: hybrid(stem(), 4),
    "small-hybrid-stages": lambda: hybrid(stages(), 1),
    "small-Mixer": mixer,
}


def converted(case: str, layout: dict[str, list[int]], folder: Path) -> dict[str, torch.Tensor]:
    path, model = folder / f"{case}.npz", CASES[case]()
    np.savez(path, **{name: fill.weight(name, tuple(shape)) for name, shape in layout.items()})  # type: ignore[arg-type]
    with torch.no_grad():
        if isinstance(model, mlp_mixer.MlpMixer):
            model.load_state_dict(mixer_state(path))
        else:
            model.load_pretrained(str(path))
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}


def main() -> None:
    layouts = json.loads((ROOT / "tests/reference/forward/index.json").read_text())
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            arrays = converted(case, layouts[case]["layout"], Path(folder))
            found[case] = {
                name: [list(array.shape), hashlib.sha256(array.numpy().tobytes()).hexdigest()]
                for name, array in arrays.items()
            }
    rows = ",\n".join(f"{json.dumps(case)}: {json.dumps(arrays)}" for case, arrays in found.items())
    (Path(__file__).with_name("conversions.json")).write_text(f"{{\n{rows}\n}}\n")


if __name__ == "__main__":
    main()

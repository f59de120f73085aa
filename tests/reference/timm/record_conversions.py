"""Records what timm makes of small `.npz` files of the original: writes conversions.json.

    python tests/reference/timm/record_conversions.py        # needs timm 1.0.31

The files are the recorded small models of `tests/reference/forward`, with the arrays of `fill.py`, read by timm's own
loader; Mixers, for which it has none, are renamed by `benchmarks/timm_reads_our_npz.py`. Kept are shape and SHA-256 of
each array of timm's state dict, and the logits, of timm's arithmetic, for `fill.image(case, 2, side)`.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
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

CONVOLUTION = partial(StdConv2dSame, eps=1e-8)
"""That of all its hybrids: models/vision_transformer_hybrid.py, `_resnetv2`."""
SMALL: dict[str, Any] = {"num_classes": 10, "embed_dim": 48, "depth": 2, "num_heads": 3, "mlp_ratio": 2}


def vit() -> nn.Module:
    return vision_transformer.VisionTransformer(img_size=32, patch_size=8, **SMALL)


def hybrid(backbone: nn.Module, patch: int) -> nn.Module:
    def embed(**options: Any) -> HybridEmbed:
        return HybridEmbed(backbone=backbone, **options)

    return vision_transformer.VisionTransformer(img_size=64, patch_size=patch, embed_layer=embed, **SMALL)


def stages() -> nn.Module:
    options: dict[str, Any] = {"channels": (128, 256, 512), "stem_chs": 32, "num_classes": 0, "global_pool": ""}
    return resnetv2.ResNetV2((2, 1, 1), preact=False, stem_type="same", conv_layer=CONVOLUTION, **options)


def stem() -> nn.Module:
    return resnetv2.create_resnetv2_stem(3, stem_type="same", preact=False, conv_layer=CONVOLUTION)


def mixer() -> nn.Module:
    sizes: dict[str, Any] = {"num_classes": 10, "num_blocks": 2, "embed_dim": 48, "mlp_ratio": (20 / 48, 2)}
    return mlp_mixer.MlpMixer(img_size=32, patch_size=8, **sizes)


CASES: dict[str, Callable[[], nn.Module]] = {
    "small-vit-token": vit,
    "small-hybrid-stem": lambda: hybrid(stem(), 4),
    "small-hybrid-stages": lambda: hybrid(stages(), 1),
    "small-Mixer": mixer,
}


def converted(case: str, layout: dict[str, list[int]], folder: Path) -> nn.Module:
    path, model = folder / f"{case}.npz", CASES[case]()
    np.savez(path, **{name: fill.weight(name, tuple(shape)) for name, shape in layout.items()})  # type: ignore[arg-type]
    with torch.no_grad():
        if isinstance(model, mlp_mixer.MlpMixer):
            model.load_state_dict(mixer_state(path))
        else:
            model.load_pretrained(str(path))
    return model.eval()


def main() -> None:
    layouts = json.loads((ROOT / "tests/reference/forward/index.json").read_text())
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            model, side = converted(case, layouts[case]["layout"], Path(folder)), layouts[case]["image_size"]
            with torch.no_grad():
                logits = model(torch.from_numpy(fill.image(case, 2, side)).permute(0, 3, 1, 2))
            found[case] = {
                "logits": [[round(value, 6) for value in row] for row in logits.tolist()],
                "arrays": {
                    name: [list(array.shape), hashlib.sha256(array.contiguous().numpy().tobytes()).hexdigest()]
                    for name, array in model.state_dict().items()
                },
            }
    rows = ",\n".join(f"{json.dumps(case)}: {json.dumps(arrays)}" for case, arrays in found.items())
    (Path(__file__).with_name("conversions.json")).write_text(f"{{\n{rows}\n}}\n")


if __name__ == "__main__":
    main()

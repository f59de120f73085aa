"""Records what DINOv2's authors' code and transformers' DINOv3 answer for the authors' arrays: writes models.json.

    python tests/reference/dino/record.py FOLDER      # FOLDER holds facebookresearch/dinov2; needs transformers 5.24

Arrays have the stand-ins of tests/reference/hf/arrays.py. Of DINOv3 transformers is the reference, with the biases
times their mask and the stored periods.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from tests.reference.hf.arrays import images_of, state_of  # noqa: E402
from tests.weights.dino_files import periods_of, without_keys  # noqa: E402

SMALL: dict[str, Any] = {"embed_dim": 128, "depth": 2, "num_heads": 2, "mlp_ratio": 1, "init_values": 1.0}
DINOV2: dict[str, dict[str, Any]] = {
    "dinov2": {"interpolate_offset": 0.1, "interpolate_antialias": False},
    "dinov2-gated": {"interpolate_offset": 0.1, "interpolate_antialias": False, "ffn_layer": "swiglufused"},
    "dinov2-registers": {"num_register_tokens": 4, "interpolate_offset": 0.0, "interpolate_antialias": True},
}
DINOV3: dict[str, dict[str, Any]] = {
    "dinov3": {"bfloat16": True, "gated": False},
    "dinov3-gated": {"bfloat16": False, "gated": True},
}


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    recorded = {name: _dinov2(fields) for name, fields in DINOV2.items()}
    recorded |= {name: _dinov3(**fields) for name, fields in DINOV3.items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in recorded.items())
    (Path(__file__).parent / "models.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


@torch.no_grad()
def _dinov2(fields: dict[str, Any]) -> dict[str, Any]:
    from dinov2.models.vision_transformer import DinoVisionTransformer

    model = DinoVisionTransformer(img_size=56, patch_size=14, block_chunks=0, **SMALL, **fields).eval()
    arrays = {name: list(array.shape) for name, array in model.state_dict().items()}
    model.load_state_dict(state_of(arrays))
    sizes = ((56, 56), (28, 42), (98, 70))
    return {"arrays": arrays, "outputs": {f"{h}x{w}": _rounded(model(images_of(h, w))) for h, w in sizes}}


@torch.no_grad()
def _dinov3(*, bfloat16: bool, gated: bool) -> dict[str, Any]:
    import transformers

    config = transformers.DINOv3ViTConfig(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=96,
        num_register_tokens=4,
        use_gated_mlp=gated,
        hidden_act="silu" if gated else "gelu",
        patch_size=16,
        key_bias=True,
    )
    model = transformers.DINOv3ViTModel(config).eval()
    arrays = _authors_arrays({name: list(array.shape) for name, array in model.state_dict().items()})
    state = state_of(arrays)
    theirs = {}
    for name, array in model.state_dict().items():
        foreign, part = _authors_name(name)
        found = state[_mlp(foreign, gated=gated)]
        if foreign.endswith("qkv.bias"):
            found = without_keys(found)
        theirs[name] = (found if part is None else found.chunk(3)[part]).reshape(array.shape)
    model.load_state_dict(theirs)
    periods = periods_of(64, bfloat16=bfloat16)
    model.rope_embeddings.inv_freq = 1 / periods
    sizes = ((64, 64), (96, 48))
    outputs = {f"{h}x{w}": _rounded(model(images_of(h, w)).pooler_output) for h, w in sizes}
    return {"arrays": arrays, "bfloat16": bfloat16, "outputs": outputs}


def _authors_name(name: str) -> tuple[str, int | None]:
    """The authors' name of an array of transformers, and which third of it it is."""
    part = next((index for index, one in enumerate("qkv") if f".{one}_proj." in name), None)
    for old, new in (
        ("model.layer.", "blocks."),
        ("embeddings.patch_embeddings", "patch_embed.proj"),
        ("embeddings.register_tokens", "storage_tokens"),
        ("embeddings.", ""),
        ("attention.o_proj", "attn.proj"),
        *((f"attention.{one}_proj", "attn.qkv") for one in "qkv"),
        ("layer_scale1.lambda1", "ls1.gamma"),
        ("layer_scale2.lambda1", "ls2.gamma"),
        ("mlp.gate_proj", "mlp.w1"),
    ):
        name = name.replace(old, new)
    return name, part


def _authors_arrays(shapes: dict[str, list[int]]) -> dict[str, list[int]]:
    gated = any("gate_proj" in name for name in shapes)
    arrays = {}
    for name, shape in shapes.items():
        foreign, part = _authors_name(name)
        arrays[foreign] = shape if part is None else [3 * shape[0], *shape[1:]]
    arrays["mask_token"] = arrays["mask_token"][1:]
    return {_mlp(name, gated=gated): shape for name, shape in arrays.items()}


def _mlp(name: str, *, gated: bool) -> str:
    up, down = ("mlp.w2", "mlp.w3") if gated else ("mlp.fc1", "mlp.fc2")
    return name.replace("mlp.up_proj", up).replace("mlp.down_proj", down)


def _rounded(answers: Tensor) -> list[list[float]]:
    return [[round(value, 6) for value in row] for row in answers.tolist()]


if __name__ == "__main__":
    main()

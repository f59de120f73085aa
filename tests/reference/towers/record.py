"""Records what timm's image towers answer, with random values in every array: writes towers.json beside this file.

    python tests/reference/towers/record.py        # needs timm 1.0.31

Each row is one of timm's architectures, made small, and the configuration that describes it here. The arrays are those
of `tests.tiny.tiny_model` of that configuration, under timm's names. Images are `tests.tiny.tiny_inputs`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from timm_reads_our_npz import stand_in_for_torchvision  # noqa: E402

from tests.tiny import drop_key_biases, tiny_inputs, tiny_model  # noqa: E402
from vitsmith.models.config import ViTConfig  # noqa: E402

SMALL: dict[str, Any] = {"width": 48, "depth": 2, "heads": 3, "mlp_width": 192, "gelu": "erf"}
TIMM_SMALL: dict[str, Any] = {"embed_dim": 48, "depth": 2, "num_heads": 3}
CLIP: dict[str, Any] = {"patch_bias": False, "norm_before": True, "norm_eps": 1e-5}
EVA: dict[str, Any] = {"base": 10_000, "places": "index", "reference": (16, 16)}
PE: dict[str, Any] = {"base": 10_000, "places": "index", "start": 1, "first": "columns", "reference": (24, 24)}
DINOV3: dict[str, Any] = {
    "position_embedding": {"learned": "none", "rotary": {}},
    "registers": 4,
    "pooling": "gap",
    "norm_eps": 1e-5,
}

ROWS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "clip": ("vit_base_patch32_clip_224", {"num_classes": 7}, CLIP | {"classes": 7}),
    "clip-quick": (
        "vit_base_patch32_clip_quickgelu_224",
        {"num_classes": 7},
        CLIP | {"classes": 7, "gelu": "quick"},
    ),
    "siglip": (
        "vit_base_patch16_siglip_224",
        {"num_classes": 0},
        {"classes": 0, "class_token": False, "pooling": "attention", "attention_pool": {"heads": 3, "mlp_width": 192}},
    ),
    "dinov2": ("vit_small_patch14_dinov2", {"num_classes": 0}, {"classes": 0, "block": {"layer_scale": True}}),
    "registers": (
        "vit_small_patch14_reg4_dinov2",
        {"num_classes": 0},
        {
            "classes": 0,
            "registers": 4,
            "position_embedding": {"learned": "patches"},
            "block": {"layer_scale": True},
        },
    ),
    "deit3": (
        "deit3_small_patch16_224",
        {"num_classes": 7},
        {"classes": 7, "position_embedding": {"learned": "patches"}, "block": {"layer_scale": True}},
    ),
    "dinov3": (
        "vit_small_patch16_dinov3",
        {"num_classes": 0},
        DINOV3 | {"classes": 0, "block": {"layer_scale": True, "qkv_bias": False}},
    ),
    "dinov3-gated": (
        "vit_small_plus_patch16_dinov3",
        {"num_classes": 0},
        DINOV3 | {"classes": 0, "block": {"layer_scale": True, "qkv_bias": False, "gated": True}},
    ),
    "eva02": (
        "eva02_base_patch14_224",
        {"num_classes": 7},
        {
            "mlp_width": 128,
            "classes": 7,
            "pooling": "gap",
            "norm_after_pooling": True,
            "position_embedding": {"rotary": EVA},
            "block": {"gated": True, "mlp_norm": True},
        },
    ),
    "pe": (
        "vit_pe_core_tiny_patch16_384",
        {"num_classes": 7, "attn_pool_num_heads": 6},
        CLIP
        | {
            "classes": 7,
            "pooling": "attention",
            "attention_pool": {"heads": 6, "mlp_width": 192},
            "position_embedding": {"rotary": PE},
        },
    ),
}
INTERLEAVED = ("eva02", "pe")
"""Models whose pairs of channels are neighbours in timm, and half a head apart here."""

NAMES = (  # ours, timm's; in this order
    ("class_token", "cls_token"),
    ("registers", "reg_token"),
    ("positions.embedding", "pos_embed"),
    ("patches.projection", "patch_embed.proj"),
    ("attention_pool.probe", "attn_pool.latent"),
    ("attention_pool.query", "attn_pool.q"),
    ("attention_pool.key_value", "attn_pool.kv"),
    ("attention_pool.out", "attn_pool.proj"),
    ("attention_pool", "attn_pool"),
    ("attention.out", "attn.proj"),
    ("attention.", "attn."),
    (".widen", ".fc1"),
    (".narrow", ".fc2"),
    ("norm_before", "norm_pre"),
)


def main() -> None:
    stand_in_for_torchvision()
    import timm

    recorded: dict[str, Any] = {}
    for name, (architecture, arguments, parts) in ROWS.items():
        patch = 14 if "patch14" in architecture else 32 if "patch32" in architecture else 16
        config = ViTConfig(**{**SMALL, "patch": (patch, patch), "image_size": (3 * patch, 5 * patch), **parts})
        theirs = timm.create_model(architecture, img_size=config.image_size, **TIMM_SMALL, **arguments).eval()
        ours = tiny_model(config)
        keys_without_bias = any(".q_bias" in key or ".q_proj" in key for key in theirs.state_dict())
        if keys_without_bias:
            drop_key_biases(ours)
        theirs.load_state_dict(dict(_renamed(ours, theirs, interleaved=name in INTERLEAVED)))
        images = tiny_inputs(config, 2)[0]
        with torch.no_grad():
            answers, own = theirs(images), ours(images)
        difference = float((answers - own).abs().max() / answers.abs().max())
        print(f"{name:14} {architecture:40} differs by {difference:.1e} of the largest")
        recorded[name] = {
            "timm": architecture,
            "keys_without_bias": keys_without_bias,
            "config": json.loads(config.model_dump_json()),
            "outputs": [[round(value, 7) for value in row] for row in answers.tolist()],
        }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in recorded.items())
    (Path(__file__).parent / "towers.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def _renamed(ours: nn.Module, theirs: nn.Module, *, interleaved: bool) -> Iterator[tuple[str, Tensor]]:
    """Our arrays by the names that `theirs` has."""
    known = theirs.state_dict()
    scale = "gamma_{}" if any("gamma_1" in name for name in known) else "ls{}.gamma"
    for name, array in ours.state_dict().items():
        foreign = name
        for mine, other in NAMES:
            foreign = foreign.replace(mine, other)
        for number in "12":
            foreign = foreign.replace(f"scale{number}.factors", scale.format(number))
        if foreign.startswith("norm.") and foreign not in known:
            foreign = f"fc_{foreign}"
        turn: Callable[[Tensor], Tensor] = _interleave if interleaved else _same
        if ".attn.qkv" in foreign and "pool" not in foreign:
            heads = ours.get_submodule(name.rsplit(".", 2)[0]).heads
            query, key, value = array.chunk(3)
            query, key = (turn(part.view(heads, -1, *part.shape[1:])).reshape(part.shape) for part in (query, key))
            if foreign in known:
                yield foreign, torch.cat([query, key, value])
                continue
            for kind, part in (("q", query), ("k", key), ("v", value)):
                separate = foreign.replace("qkv", f"{kind}_proj")
                if separate in known:
                    yield separate, part
        elif ".fc1" in foreign and foreign not in known:
            yield from zip(
                (foreign.replace("fc1", "fc1_g"), foreign.replace("fc1", "fc1_x")), array.chunk(2), strict=True
            )
        else:
            yield foreign, array


def _interleave(heads: Tensor) -> Tensor:
    """(heads, d, ...) whose pairs are i and i + d / 2 -> pairs 2i and 2i + 1."""
    return torch.stack(heads.chunk(2, dim=1), dim=2).flatten(1, 2)


def _same(heads: Tensor) -> Tensor:
    return heads


if __name__ == "__main__":
    main()

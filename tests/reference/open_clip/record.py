"""Records what open_clip's models answer, one of each layout: writes models.json, and bert.json with its tokens.

    pip install open_clip_torch
    python tests/reference/open_clip/record.py

Each is a configuration of open_clip made small. Recorded are the configuration, the names and shapes of the arrays, and
the answers. The values of the arrays are those of `values`, images and tokens those of `images` and `tokens`.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from tests.reference import fill  # noqa: E402

HERE = Path(__file__).parent
TEXT = {"context_length": 12, "vocab_size": 814, "width": 32, "heads": 4, "layers": 2}
"""With CLIP's vocabulary of `tests/reference/text`."""
SIGLIP = {
    **TEXT, "hf_tokenizer_name": "timm/ViT-B-16-SigLIP", "tokenizer_kwargs": {"clean": "canonicalize"},
    "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
}  # fmt: skip
VISION = {"image_size": [16, 24], "layers": 2, "width": 64, "patch_size": 8}
TRUNK = {"embed_dim": 192, "depth": 1, "num_heads": 3}
"""Arguments of timm's models."""

MODELS: dict[str, dict[str, Any]] = {
    "clip": {
        "embed_dim": 24,
        "vision_cfg": {**VISION, "head_width": 16, "mlp_ratio": 2.71, "ls_init_value": 1e-4},
        "text_cfg": {**TEXT, "mlp_ratio": 3.05},
        "quick_gelu": True,
    },
    "clipa": {
        "embed_dim": 24,
        "vision_cfg": {**VISION, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": {
            **TEXT, "hf_tokenizer_name": "bert-base-uncased", "tokenizer_kwargs": {"strip_sep_token": True},
            "pool_type": "last", "no_causal_mask": True,
        },
    },
    "worldwide": {
        "embed_dim": 24,
        "vision_cfg": {**VISION, "act_kwargs": {"approximate": "tanh"}, "norm_kwargs": {"eps": 1e-3}},
        "text_cfg": {**TEXT, "hf_tokenizer_name": "facebook/xlm-v-base", "pool_type": "eos", "eos_id": 2},
    },
    "siglip": {
        "embed_dim": 192,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": [16, 48], "timm_model_name": "vit_base_patch16_siglip_224", "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {**SIGLIP, "act_kwargs": {"approximate": "tanh"}},
    },
    "eva02": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {
            "image_size": [32, 48], "timm_model_name": "eva02_base_patch16_clip_224", "timm_pool": "token",
            "timm_proj": None,
        },
        "text_cfg": TEXT,
    },
    "pe-core": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {
            "image_size": [32, 48], "timm_model_name": "vit_pe_core_tiny_patch16_384", "timm_pool": "map",
            "timm_proj": None,
        },
        "text_cfg": TEXT,
    },
    "layer-behind": {
        "embed_dim": 24,
        "vision_cfg": {
            "image_size": [16, 48], "timm_model_name": "vit_medium_patch16_gap_256", "timm_pool": "",
            "timm_proj": "linear", "timm_proj_bias": True,
        },
        "text_cfg": {**TEXT, "proj_bias": True},
    },
}  # fmt: skip
"""What `model_cfg` says of each."""

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "cat", "cafe", "photo", "of", "##s", "##b", ".", "&"]
TEXTS = ["A photo  of cats.", "", "b" * 3 + " unknown", "caf\u00e9 &amp;amp; \u732b", "cat " * 20]


def values(name: str, shape: tuple[int, ...]) -> Tensor:
    """The array `name`: matrices that keep the size of what they multiply, scales about 1, the rest about 0."""
    noise = torch.from_numpy(fill.uniform(name, shape))
    if name in ("logit_scale", "logit_bias"):
        return noise.reshape(shape) / 4 + (2.5 if name == "logit_scale" else -3)
    if len(shape) > 1 and not name.endswith(("embedding", "embedding.weight", "pos_embed", "token", "latent")):
        return noise / noise[0].numel() ** 0.5
    if name.endswith(("weight", "gamma")) and len(shape) == 1:
        return 1 + 0.3 * noise
    return 0.3 * noise


def images(image_size: tuple[int, int]) -> Tensor:
    """Two images, (2, 3, height, width)."""
    return torch.from_numpy(fill.image("open_clip", 2, image_size)).permute(0, 3, 1, 2).contiguous()


def tokens() -> Tensor:
    """Three texts of 4, 8 and 12 tokens, (3, 12): each has token 2, ends with the largest id and is padded with 0."""
    length, pieces = TEXT["context_length"], TEXT["vocab_size"]
    ids = 3 + torch.arange(3 * length).reshape(3, length) * 37 % (pieces - 4)
    for row, used in zip(ids, (4, 8, 12), strict=True):
        row[used // 2], row[used - 1], row[used:] = 2, pieces - 1, 0
    return ids


def another_size(image_size: list[int]) -> tuple[int, int]:
    return 2 * image_size[0], image_size[1]


def built(config: dict[str, Any]) -> nn.Module:
    import timm
    from open_clip import model as models

    create, size = timm.create_model, config["vision_cfg"]["image_size"]
    arguments = {name: value for name, value in config.items() if name != "custom_text"}
    kind = models.CustomTextCLIP if "custom_text" in config else models.CLIP
    with mock.patch("timm.create_model", lambda name, **given: create(name, img_size=size, **given, **TRUNK)):
        model: nn.Module = kind(**arguments).eval()
    model.load_state_dict({name: values(name, tuple(array.shape)) for name, array in model.state_dict().items()})
    return model


@torch.no_grad()
def recorded(config: dict[str, Any]) -> dict[str, Any]:
    """What is recorded of one model."""
    from open_clip.model import resize_pos_embed

    model, size = built(config), config["vision_cfg"]["image_size"]
    image, text = images(size), tokens()
    answers = {
        "image": model.encode_image(image, normalize=True),
        "text": model.encode_text(text, normalize=True),
        "logits": model.get_logits(image, text)[0],
    }
    shapes = {name: list(array.shape) for name, array in model.state_dict().items()}
    larger = another_size(size)
    if hasattr(model.visual, "trunk"):
        model.visual.set_input_size(larger)
    elif config["vision_cfg"].get("layers"):
        # `resize_pos_embed` takes positions of square grids alone: its call, for another grid
        positions = model.visual.positional_embedding
        grid = positions[1:].reshape(*model.visual.grid_size, -1).permute(2, 0, 1)[None]
        moved = torch.nn.functional.interpolate(
            grid, size=(larger[0] // 8, larger[1] // 8), mode="bicubic", antialias=True, align_corners=False
        )
        model.visual.positional_embedding = nn.Parameter(torch.cat([positions[:1], moved[0].flatten(1).T]))
        assert resize_pos_embed.__defaults__ == ("bicubic", True)
    answers["another size"] = model.encode_image(images(larger), normalize=True)
    rounded = {name: [[round(one, 6) for one in row] for row in found.tolist()] for name, found in answers.items()}
    return {"config": config, "shapes": shapes, **rounded}


def bert_tokens() -> list[list[int]]:
    """The tokens of TEXTS for CLIPA, by a BERT tokenizer of WORDS, which becomes bert.json."""
    from open_clip.tokenizer import HFTokenizer
    from transformers import BertTokenizerFast

    with tempfile.TemporaryDirectory() as folder:
        BertTokenizerFast(vocab={word: at for at, word in enumerate(WORDS)}).save_pretrained(folder)
        (HERE / "bert.json").write_bytes((Path(folder) / "tokenizer.json").read_bytes())
        found: list[list[int]] = HFTokenizer(folder, context_length=12, strip_sep_token=True)(TEXTS).tolist()
    return found


def main() -> None:
    import transformers  # noqa: F401 - before the stand-in: it looks for torchvision itself
    from timm_reads_our_npz import stand_in_for_torchvision

    stand_in_for_torchvision()
    rows = {name: recorded(config) for name, config in MODELS.items()} | {"bert tokens": bert_tokens()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    (HERE / "models.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

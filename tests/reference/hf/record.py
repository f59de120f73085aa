"""Records what transformers' models answer, with random values in every array: writes models.json and two_towers.json.

    python tests/reference/hf/record.py        # needs transformers 5.24

Each model is built from a small configuration and saved as transformers saves it; its arrays get the stand-ins of
`arrays.py`, and it is read back. Recorded are its config.json, names and shapes of its arrays, and its
logits, or a bare model's feature, at its own size and at another; of two towers the features of images, those of the
texts of `tokens_of`, and the logits of all pairs.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from safetensors.torch import load_file, save_file  # noqa: E402

from tests.reference.hf.arrays import images_of, state_of, tokens_of  # noqa: E402

SMALL: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
VIT: dict[str, Any] = {**SMALL, "intermediate_size": 40, "image_size": 32, "patch_size": 8}
DINOV2: dict[str, Any] = {**SMALL, "image_size": 56, "patch_size": 14}
CLASSES: dict[str, Any] = {"num_labels": 3}
OTHER: dict[str, Any] = {"interpolate_pos_encoding": True}

# name: class, fields of its configuration, image sizes, arguments at the other size
MODELS: dict[str, tuple[str, dict[str, Any], tuple[tuple[int, int], ...], dict[str, Any]]] = {
    "vit-without-biases": (
        "ViTForImageClassification",
        {**VIT, **CLASSES, "qkv_bias": False},
        ((32, 32), (48, 24)),
        OTHER,
    ),
    "deit": ("DeiTForImageClassification", {**VIT, **CLASSES}, ((32, 32), (48, 24)), OTHER),
    "deit-teacher": ("DeiTForImageClassificationWithTeacher", {**VIT, **CLASSES}, ((32, 32), (48, 24)), OTHER),
    "mae": (
        "ViTMAEForPreTraining",
        {
            **VIT,
            "mask_ratio": 0.0,
            "decoder_hidden_size": 16,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 16,
        },
        ((32, 32), (48, 24)),
        OTHER,
    ),
    "dinov2": ("Dinov2ForImageClassification", {**DINOV2, **CLASSES}, ((56, 56), (84, 42)), {}),
    "dinov2-gated": ("Dinov2Model", {**DINOV2, "use_swiglu_ffn": True}, ((56, 56), (28, 42)), {}),
    "dinov2-registers": (
        "Dinov2WithRegistersForImageClassification",
        {**DINOV2, **CLASSES},
        ((56, 56), (28, 42)),
        {},
    ),
    "dinov3": ("DINOv3ViTModel", {**VIT, "num_register_tokens": 4}, ((32, 32), (48, 24)), {}),
    "dinov3-gated": (
        "DINOv3ViTModel",
        {**VIT, "num_register_tokens": 4, "use_gated_mlp": True, "hidden_act": "silu", "proj_bias": False},
        ((32, 32), (48, 24)),
        {},
    ),
    "clip-image": ("CLIPVisionModel", VIT, ((32, 32), (48, 24)), OTHER),
    "clip-projection": ("CLIPVisionModelWithProjection", {**VIT, "projection_dim": 10}, ((32, 32), (48, 24)), OTHER),
    "clip-classifier": ("CLIPForImageClassification", {"vision_config": VIT, **CLASSES}, ((32, 32), (48, 24)), OTHER),
    "siglip-image": ("SiglipVisionModel", VIT, ((32, 32), (48, 24)), OTHER),
    "siglip-classifier": (
        "SiglipForImageClassification",
        {"vision_config": VIT, **CLASSES},
        ((32, 32), (48, 24)),
        OTHER,
    ),
}

TEXT: dict[str, Any] = {**SMALL, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 28, "vocab_size": 60}
CLIP_TEXT: dict[str, Any] = {**TEXT, "max_position_embeddings": 12, "eos_token_id": 59, "bos_token_id": 58}
ERF: dict[str, Any] = {"hidden_act": "gelu"}

# the same for two towers
TWO_TOWERS: dict[str, tuple[str, dict[str, Any], tuple[tuple[int, int], ...], dict[str, Any]]] = {
    "clip": (
        "CLIPModel",
        {"text_config": {**CLIP_TEXT, "eos_token_id": 7}, "vision_config": VIT, "projection_dim": 10},
        ((32, 32), (48, 24)),
        OTHER,
    ),
    "clip-largest-id": (
        "CLIPModel",
        {
            "text_config": {**CLIP_TEXT, **ERF, "eos_token_id": 2},
            "vision_config": {**VIT, **ERF, "layer_norm_eps": 1e-3},
            "projection_dim": 10,
        },
        ((32, 32),),
        {},
    ),
    "metaclip2": (
        "MetaClip2Model",
        {"text_config": {**CLIP_TEXT, "eos_token_id": 2}, "vision_config": VIT, "projection_dim": 10},
        ((32, 32), (48, 24)),
        OTHER,
    ),
    "siglip": (
        "SiglipModel",
        {
            "text_config": {**TEXT, "max_position_embeddings": 16, "projection_size": 24},
            "vision_config": {**VIT, "image_size": 35},
        },
        ((35, 35), (48, 24)),
        OTHER,
    ),
}
"""SigLIP's images are larger than its patches fill, as those of So400m/14 at 384."""


def main() -> None:
    for file, models in (("models.json", MODELS), ("two_towers.json", TWO_TOWERS)):
        recorded = {name: _recorded(*row) for name, row in models.items()}
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in recorded.items())
        (Path(__file__).parent / file).write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def _recorded(
    kind: str, fields: dict[str, Any], sizes: tuple[tuple[int, int], ...], other: dict[str, Any]
) -> dict[str, Any]:
    import transformers

    built = getattr(transformers, kind)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        built(built.config_class(**fields)).save_pretrained(folder)
        file = folder / "model.safetensors"
        arrays = {name: list(array.shape) for name, array in load_file(file).items()}
        save_file(state_of(arrays), file, metadata={"format": "pt"})
        model = built.from_pretrained(folder).eval()
        config = json.loads((folder / "config.json").read_text())
    outputs = {}
    texts = {}
    for size in sizes:
        answers = _answers if "text_projection.weight" not in arrays and "logit_bias" not in arrays else _pairs
        found = answers(model, images_of(*size), {} if size == sizes[0] else other)
        if isinstance(found, dict):
            texts = {"end": found.pop("end"), "texts": _rounded(found.pop("texts"))}
            outputs["x".join(map(str, size))] = {what: _rounded(rows) for what, rows in found.items()}
        else:
            outputs["x".join(map(str, size))] = _rounded(found)
    return {"model": kind, "config": config, "arrays": arrays, **texts, "outputs": outputs}


def _rounded(rows: torch.Tensor) -> list[list[float]]:
    return [[round(value, 7) for value in row] for row in rows.tolist()]


@torch.no_grad()
def _pairs(model: Any, images: torch.Tensor, arguments: dict[str, Any]) -> dict[str, Any]:
    """Features of images and texts, logits (images, texts), and the end token of the texts."""
    text = model.config.text_config
    largest = text.vocab_size - 1
    named = text.eos_token_id if text.eos_token_id < text.vocab_size else largest
    end = largest if type(model).__name__ == "CLIPModel" and named == 2 else named
    tokens = tokens_of(text.vocab_size, text.max_position_embeddings, end)
    return {
        "end": end,
        "texts": model.get_text_features(tokens).pooler_output,
        "images": model.get_image_features(images, **arguments).pooler_output,
        "logits": model(pixel_values=images, input_ids=tokens, **arguments).logits_per_image,
    }


@torch.no_grad()
def _answers(model: Any, images: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
    kind = type(model).__name__
    if kind.endswith("WithProjection"):
        return model(images, **arguments).image_embeds
    if "Classification" in kind:
        return model(images, **arguments).logits
    if kind.startswith("ViTMAE"):  # noise that rises keeps the order of the patches
        patches = images.shape[2] * images.shape[3] // model.config.patch_size**2
        noise = torch.arange(patches).float().expand(len(images), -1)
        return model.vit(images, noise=noise, **arguments).last_hidden_state[:, 0]
    return model(images, **arguments).pooler_output


if __name__ == "__main__":
    main()

"""Records what transformers' image models answer, with random values in every array: writes models.json beside this.

    python tests/reference/hf/record.py        # needs transformers 5.24

Each model is built from a small configuration and saved as transformers saves it; its arrays get the stand-ins of
`arrays.py`, and it is read back. Recorded are its config.json, names and shapes of its arrays, and its
logits, or a bare model's feature, at its own size and at another.
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

from tests.reference.hf.arrays import images_of, state_of  # noqa: E402

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
}


def main() -> None:
    recorded = {name: _recorded(*row) for name, row in MODELS.items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in recorded.items())
    (Path(__file__).parent / "models.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


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
    for size in sizes:
        answers = _answers(model, images_of(*size), {} if size == sizes[0] else other)
        outputs["x".join(map(str, size))] = [[round(value, 7) for value in row] for row in answers.tolist()]
    return {"model": kind, "config": config, "arrays": arrays, "outputs": outputs}


@torch.no_grad()
def _answers(model: Any, images: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
    kind = type(model).__name__
    if "Classification" in kind:
        return model(images, **arguments).logits
    if kind.startswith("ViTMAE"):  # noise that rises keeps the order of the patches
        patches = images.shape[2] * images.shape[3] // model.config.patch_size**2
        noise = torch.arange(patches).float().expand(len(images), -1)
        return model.vit(images, noise=noise, **arguments).last_hidden_state[:, 0]
    return model(images, **arguments).pooler_output


if __name__ == "__main__":
    main()

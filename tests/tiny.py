"""Small models of every family with seeded weights, none of them zero, and released files in the making."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests import REFERENCE
from tests.reference import fill
from vitsmith.models.build import Model, build
from vitsmith.models.config import LiTConfig, MixerConfig, ModelConfig, ResNetConfig, ViTConfig
from vitsmith.models.configure import change, parse_config
from vitsmith.models.lit import LiT
from vitsmith.models.text import TextTransformer
from vitsmith.models.text_config import BertConfig, TextTransformerConfig
from vitsmith.weights.bundle.bundle import Bundle

VIT = ViTConfig(width=32, depth=2, heads=4, mlp_width=48, patch=(8, 8), image_size=(16, 24), classes=5)
MIXER = MixerConfig(
    width=32, depth=2, tokens_mlp_width=12, channels_mlp_width=40, patch=(8, 8), image_size=(16, 24), classes=5
)
BERT = BertConfig(width=64, depth=2, heads=1, mlp_width=48, vocabulary=50, positions=20, length=6, classes=32)
TEXT = TextTransformerConfig(width=24, depth=2, heads=2, mlp_width=40, vocabulary=50, length=6, classes=32)

CLIP_TEXT = TextTransformerConfig(
    width=24, depth=2, heads=2, mlp_width=96, vocabulary=814, length=12, classes=32,
    gelu="quick", norm_eps=1e-5, mask="causal", pooling="end", head_bias=False,
)  # fmt: skip
"""A text tower as CLIP's, for the recorded vocabulary `clip.bpe`."""

_STEM = ResNetConfig(width_factor=0.5)
_STAGES = ResNetConfig(stages=(2, 1), width_factor=0.5)

CONFIGS: dict[str, ModelConfig] = {
    "vit-token": VIT,
    "vit-gap": change(VIT, pooling="gap"),
    "vit-unpooled": change(VIT, pooling="unpooled"),
    "vit-token-unpooled": change(VIT, pooling="token_unpooled"),
    "vit-representation": change(VIT, representation=20),
    "vit-timm": change(VIT, pooling="gap", class_token=True, norm_after_pooling=True, gelu="erf", norm_eps=1e-5),
    "vit-distilled": change(VIT, distillation_token=True),
    "vit-wide-grid": change(VIT, image_size=(24, 24), patch=(8, 4)),
    "hybrid-stem": change(VIT, resnet=_STEM, patch=(2, 2)),
    "hybrid-stages": change(VIT, resnet=_STAGES, patch=(1, 1), image_size=(25, 30)),
    "mixer": MIXER,
    "lit-bert": LiTConfig(image=change(VIT, classes=0), text=BERT),
    "lit-bert-projected": LiTConfig(image=change(VIT, classes=24), text=BERT.model_copy(update={"classes": 24})),
    "lit-bias": LiTConfig(image=change(VIT, classes=0), text=BERT, bias=True),
    "lit-transformer": LiTConfig(image=change(VIT, classes=0), text=TEXT),
    "lit-transformer-projected": LiTConfig(image=change(VIT, classes=24), text=TEXT.model_copy(update={"classes": 24})),
}


def tiny_model(config: ModelConfig, *, seed: int = 0) -> Model:
    """A model in eval mode whose every weight is drawn anew: fresh heads are zero, and gradients would stop there."""
    model = build(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2 and "embedding" not in name:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            else:
                parameter.copy_(0.2 * noise + ("norm" in name and name.endswith("weight")))
    return model.eval()


def tiny_text_tower(config: TextTransformerConfig) -> TextTransformer:
    """The text tower of a `tiny_model` with an image tower as wide as the texts' embeddings."""
    model = tiny_model(LiTConfig(image=change(VIT, classes=config.classes or config.width), text=config))
    assert isinstance(model, LiT) and isinstance(model.text, TextTransformer)
    return model.text


WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    *["a", "b", "c", "d", "e", "cat", "dog", "photo", "of", "the", "red", "blue", "circle", "square", "small", "large"],
]
"""A WordPiece vocabulary for the towers of `BERT`."""


def drop_key_biases(model: nn.Module) -> None:
    """Sets the biases of keys to zero, as in models that have none."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("attention.qkv.bias"):
                parameter.chunk(3)[1].zero_()


def tiny_lit(name: str = "lit-bert", *, seed: int = 0, released: bool = False) -> Bundle:
    """A LiT bundle with its vocabulary: the words above, or the recorded SentencePiece model.

    `released` gives it what an .npz cannot tell: square images, and for BERT texts of 16 tokens.
    """
    config = CONFIGS[name]
    assert isinstance(config, LiTConfig)
    if released:
        text = config.text.model_copy(update={"length": 16})
        config = config.model_copy(update={"image": change(config.image, image_size=(16, 16)), "text": text})
    if isinstance(config.text, BertConfig):
        vocabulary = "\n".join(WORDS).encode()
    else:
        config = config.model_copy(update={"text": config.text.model_copy(update={"vocabulary": 62})})
        vocabulary = (REFERENCE / "text" / "sentencepiece.model").read_bytes()
    return Bundle.of(tiny_model(config, seed=seed), vocabulary=vocabulary)


def tiny_clip(*, seed: int = 0) -> Bundle:
    """An image tower and the text tower `CLIP_TEXT`, with its vocabulary."""
    model = tiny_model(LiTConfig(image=change(VIT, classes=0), text=CLIP_TEXT), seed=seed)
    return Bundle.of(model, vocabulary=(REFERENCE / "text" / "clip.bpe").read_bytes())


def tiny_inputs(config: ModelConfig, batch: int, *, seed: int = 0) -> tuple[Tensor, ...]:
    """Images of the model's size in [-1, 1], and for LiT one text for each, padding included."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand((batch, 3, *config.image_size), generator=generator) * 2 - 1
    if not isinstance(config, LiTConfig):
        return (images,)
    tokens = torch.randint(1, config.text.vocabulary, (batch, config.text.length), generator=generator)
    tokens[:, -2:] = 0
    return images, tokens


def pictures(count: int, *, side: int = 40, seed: int = 0) -> list[np.ndarray]:
    """Smooth random uint8 RGB pictures, (side, side + 10, 3): unlike noise, they survive a resize."""
    generator = np.random.default_rng(seed)
    coarse = generator.uniform(0, 255, (count, 4, 5, 3))
    return [np.kron(one, np.ones((side // 4, (side + 10) // 5, 1))).astype(np.uint8) for one in coarse]


def layout_of(name: str) -> dict[str, Any]:
    """A published model's recorded layout: its array names and shapes, configuration and number of parameters."""
    return json.loads((REFERENCE / "layouts" / f"{name}.json").read_text())


@functools.cache
def towers() -> dict[str, ViTConfig]:
    """Small image towers of CLIP, SigLIP, DINOv2, DINOv3, DeiT III, EVA-02 ..., whose answers are recorded."""
    recorded = json.loads((REFERENCE / "towers" / "towers.json").read_text(encoding="utf-8"))
    configs = {name: parse_config(one["config"]) for name, one in recorded.items()}
    return {name: config for name, config in configs.items() if isinstance(config, ViTConfig)}


def small_cases() -> dict[str, dict[str, Any]]:
    """The recorded small models: layout, configuration and input of each."""
    return json.loads((REFERENCE / "forward" / "index.json").read_text())


def released_npz(
    path: Path,
    layout: Mapping[str, Sequence[int]],
    changed: Mapping[str, np.ndarray | None] | None = None,
    *,
    rename: Callable[[str], str] = str,
) -> Path:
    """Writes a file as Google released them, with the stand-ins of `fill.py`.

    `changed` replaces arrays, adds some, or drops them where it says None; `rename` gives the names in the file.
    """
    arrays = {name: fill.weight(name, tuple(shape)) for name, shape in layout.items() if name not in (changed or {})}
    arrays |= {name: array for name, array in (changed or {}).items() if array is not None}
    np.savez(path, **{rename(name): array for name, array in arrays.items()})
    return path


def second_naming(name: str) -> str:
    """An array's name inside encoder blocks as newer Flax gives it: each kind of module is numbered for itself."""
    for first, second in (
        ("LayerNorm_2", "LayerNorm_1"),
        ("MultiHeadDotProductAttention_1", "MultiHeadDotProductAttention_0"),
        ("MlpBlock_3", "MlpBlock_0"),
    ):
        name = name.replace(first, second)
    return name

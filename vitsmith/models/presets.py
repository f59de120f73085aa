"""Architectures as rows of data, and all their names."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from vitsmith.arguments import instance
from vitsmith.errors import UnknownNameError, WeightsError
from vitsmith.models.config import LiTConfig, MixerConfig, ModelConfig, ResNetConfig, ViTConfig
from vitsmith.models.text_config import BertConfig, TextTransformerConfig
from vitsmith.models.towers import TOWERS

# width, depth, heads, mlp width. Sources: arXiv 2010.11929 table 1 (B, L, H), 2106.10270 table 2 (Ti, S),
# 2106.04560 table 2 (g, G), 2305.13035 table 1 (So400m), big_vision's models/vit.py (mu, M).
VIT_SIZES = {
    "mu": (32, 1, 2, 128),
    "Ti": (192, 12, 3, 768),
    "S": (384, 12, 6, 1536),
    "M": (512, 12, 8, 2048),
    "B": (768, 12, 12, 3072),
    "L": (1024, 24, 16, 4096),
    "So400m": (1152, 27, 16, 4304),
    "H": (1280, 32, 16, 5120),
    "g": (1408, 40, 16, 6144),
    "G": (1664, 48, 16, 8192),
}

VIT_PATCHES = {
    "mu": (16,),
    "Ti": (16,),
    "S": (16, 32),
    "M": (16, 32),
    "B": (8, 16, 32),
    "L": (16, 32),
    "So400m": (14,),
    "H": (14,),
    "g": (14,),
    "G": (14,),
}

VIT_GAP = (("S", 16), ("S", 32), ("B", 16), ("B", 32))
"""Sizes that were also released with mean pooling ('-gap-norep')."""

# stages, transformer size, patch on the ResNet's output. Source: configs/models.py of the original.
HYBRIDS = {
    "R+ViT-Ti_16": ((), "Ti", 8),
    "R26+ViT-S_32": ((2, 2, 2, 2), "S", 1),
    "R26+ViT-B_32": ((2, 2, 2, 2), "B", 1),
    "R50+ViT-B_16": ((3, 4, 9), "B", 1),
    "R50+ViT-L_32": ((3, 4, 6, 3), "L", 1),
}

# width, depth, tokens mlp width, channels mlp width, patches. Source: arXiv 2105.01601 table 1.
MIXER_SIZES = {
    "S": (512, 8, 256, 2048, (8, 16, 32)),
    "B": (768, 12, 384, 3072, (16, 32)),
    "L": (1024, 24, 512, 4096, (16,)),
    "H": (1280, 32, 640, 5120, (14,)),
}

# image tower, text tower (BERT's size, or a ViT size and a vocabulary), image and text projections.
# Source: configs/models.py of the original.
LITS = {
    "LiT-B16B": ("B", "bert-B", 768, 768),
    "LiT-B16B_2": ("B", "bert-B", 0, 768),
    "LiT-L16L": ("L", "bert-L", 0, 1024),
    "LiT-L16S": ("L", "S", 0, 1024),
    "LiT-L16Ti": ("L", "Ti", 0, 1024),
}
LIT_VOCABULARY = 16_000

# The names of timm and HF for the sizes.
FOREIGN_SIZES = {
    "tiny": "Ti",
    "small": "S",
    "medium": "M",
    "base": "B",
    "large": "L",
    "so400m": "So400m",
    "huge": "H",
    "giant": "g",
    "gigantic": "G",
}
# The names of timm for the hybrids: vit_base_r50_s16_224, vit_tiny_r_s16_p8_224.
FOREIGN_HYBRIDS = {
    "vittinyrs16p8": "R+ViT-Ti_16",
    "vitsmallr26s32": "R26+ViT-S_32",
    "vitbaser26s32": "R26+ViT-B_32",
    "vitbaser50s16": "R50+ViT-B_16",
    "vitlarger50s32": "R50+ViT-L_32",
}


@dataclass(frozen=True)
class Preset:
    """One architecture: its canonical (released) name, and its configuration at 1,000 classes and 224 pixels.

    Those that were published for features alone have no classes; those that were published for another size have it.
    """

    name: str
    config: ModelConfig
    family: str
    license: str = "Apache-2.0"
    """That of the weights published first; each file of weights says its own."""


@functools.cache
def presets() -> dict[str, Preset]:
    """All architectures by canonical name, small ones first within a family."""
    rows: dict[str, Preset] = {}
    for family, configs in (("vit", _vits()), ("hybrid", _hybrids()), ("mixer", _mixers()), ("lit", _lits())):
        rows |= {name: Preset(name, config, family) for name, config in configs.items()}
    for towers in TOWERS:
        rows |= {name: Preset(name, config, towers.family, towers.license) for name, config in towers.configs().items()}
    return rows


def _vits() -> dict[str, ViTConfig]:
    rows = {
        f"ViT-{size}_{patch}": vit_config(size, patch) for size, patches in VIT_PATCHES.items() for patch in patches
    }
    mean = {"pooling": "gap", "class_token": False}
    rows |= {
        f"ViT-{size}_{patch}-gap-norep": vit_config(size, patch).model_copy(update=mean) for size, patch in VIT_GAP
    }
    return rows


def _hybrids() -> dict[str, ViTConfig]:
    return {
        name: vit_config(size, patch, resnet=ResNetConfig(stages=stages))
        for name, (stages, size, patch) in HYBRIDS.items()
    }


def _mixers() -> dict[str, MixerConfig]:
    return {
        f"Mixer-{size}_{patch}": MixerConfig(
            width=width,
            depth=depth,
            tokens_mlp_width=tokens_mlp,
            channels_mlp_width=channels_mlp,
            patch=(patch, patch),
        )
        for size, (width, depth, tokens_mlp, channels_mlp, patches) in MIXER_SIZES.items()
        for patch in patches
    }


def _lits() -> dict[str, LiTConfig]:
    return {name: _lit_config(name) for name in LITS}


def vit_config(size: str, patch: int, resnet: ResNetConfig | None = None) -> ViTConfig:
    """The released configuration of one size, with a class token, 1,000 classes and 224 pixels."""
    width, depth, heads, mlp_width = VIT_SIZES[size]
    return ViTConfig(width=width, depth=depth, heads=heads, mlp_width=mlp_width, patch=(patch, patch), resnet=resnet)


def _lit_config(name: str) -> LiTConfig:
    image_size, text_name, image_classes, text_classes = LITS[name]
    kind, _, bert_size = text_name.partition("-")
    width, depth, heads, mlp_width = VIT_SIZES[bert_size or kind]
    text: BertConfig | TextTransformerConfig
    if bert_size:
        text = BertConfig(width=width, depth=depth, heads=heads, mlp_width=mlp_width, classes=text_classes)
    else:
        text = TextTransformerConfig(
            width=width, depth=depth, heads=heads, mlp_width=mlp_width, vocabulary=LIT_VOCABULARY, classes=text_classes
        )
    return LiTConfig(image=vit_config(image_size, 16).model_copy(update={"classes": image_classes}), text=text)


def find_preset(name: str) -> tuple[Preset, int | None]:
    """The preset that `name` means, and the image size when the name has one ('vit_base_patch16_384').

    'ViT-B_16', 'ViT-B/16', 'B/16', 'vit-b16' and 'vit_base_patch16_224' mean the same. Case only matters for g/14 and
    G/14. Raises UnknownNameError with the closest names.
    """
    instance(name, str, "a model's name", "text such as 'ViT-B_16'")
    bare, size = _split_size(name)
    exact = {_squeeze(alias): preset for preset in presets().values() for alias in _aliases(preset.name)}
    folded: dict[str, set[str]] = {}
    for alias, preset in exact.items():
        folded.setdefault(alias.lower(), set()).add(preset.name)
    for candidate in dict.fromkeys((name, bare)):
        squeezed = _squeeze(candidate)
        image_size = size if candidate == bare != name else None
        if squeezed in exact:
            return exact[squeezed], image_size
        found = folded.get(squeezed.lower(), set())
        if len(found) == 1:
            return presets()[found.pop()], image_size
        if squeezed.lower() in FOREIGN_HYBRIDS:
            return presets()[FOREIGN_HYBRIDS[squeezed.lower()]], image_size
    spellings = {alias: preset.name for preset in presets().values() for alias in _aliases(preset.name)}
    raise UnknownNameError("model", name, presets(), spellings)


def _aliases(name: str) -> list[str]:
    aliases = [name, name.replace("ViT-", "")]
    match = re.fullmatch(r"(ViT|Mixer)-(\w+?)_(\d+)(-gap-norep)?", name)
    if match:
        family, size, patch, gap = match.groups()
        word = {ours: theirs for theirs, ours in FOREIGN_SIZES.items()}.get(size)
        if word and family == "ViT":
            aliases += [f"vit_{word}_patch{patch}{'_gap' if gap else ''}"]
        elif word:
            aliases += [f"mixer_{size}{patch}"]
    return aliases


def _split_size(name: str) -> tuple[str, int | None]:
    """('vit_base_patch16', 384) for 'timm/vit_base_patch16_384.augreg_in21k'; the name itself when it has no size."""
    bare = re.sub(r"^(timm/|google/)", "", name)
    match = re.fullmatch(r"(.+?)[-_](\d{2,4})(?:[-_]in21k)?(?:\.[\w.]+)?", bare)
    if match and re.search(r"patch\d+|[sp]\d+|mixer", match[1]):
        return match[1], int(match[2])
    return bare, None


def _squeeze(name: str) -> str:
    """Remove separators: 'ViT-B_16', 'vit-b/16' and 'ViT B16' then differ only in case; 'R26_S_32' is 'R26+S/32'."""
    return re.sub(r"[^A-Za-z0-9]", "", name)


def name_of(config: ModelConfig) -> str | None:
    """Canonical name of a configuration's architecture, whatever its classes and resolution, or None."""
    return next((name for name, preset in presets().items() if not differences(config, preset.config)), None)


def kind_of_towers(config: LiTConfig) -> str | None:
    """'CLIP', 'SigLIP' or 'LiT': those whose two towers are made of the same parts, whatever their sizes; or None."""
    pairs = (preset for preset in presets().values() if isinstance(preset.config, LiTConfig))
    alike = (pair.name for pair in pairs if _parts(pair.config) == _parts(config))
    return next((name.partition("-")[0] for name in alike), None)


def check_name(config: ModelConfig, name: str, source: str) -> None:
    """Raise WeightsError when the configuration `config` of the arrays of `source` is not the architecture `name`."""
    preset, _ = find_preset(name)
    different = differences(config, preset.config)
    if different:
        actual = name_of(config)
        raise WeightsError(
            f"{source} is not {preset.name}: {', '.join(different)}" + (f"; it looks like {actual}" if actual else "")
        )


def differences(config: ModelConfig, expected: ModelConfig) -> list[str]:
    """Fields of the architecture that differ, as 'width 384 instead of 768'."""
    ours, theirs = _architecture(config), _architecture(expected)
    fields = [field for field in (*ours, *(set(theirs) - set(ours))) if ours.get(field) != theirs.get(field)]
    return [f"{field} {ours.get(field)} instead of {theirs.get(field)}" for field in fields]


def _architecture(config: ModelConfig) -> dict[str, object]:
    if isinstance(config, LiTConfig):
        towers = {
            "image": _architecture(config.image),
            "text": config.text.model_dump(exclude={"gelu", "norm_eps", "length"}),
        }
        sizes = {f"{tower}.{field}": value for tower, fields in towers.items() for field, value in fields.items()}
        return {**sizes, "image.classes": config.image.classes}
    decisive = ("family", "width", "depth", "heads", "mlp_width", "tokens_mlp_width", "channels_mlp_width", "patch")
    parts = ("resnet", "class_token", "registers", "patch_bias", "norm_before", "norm", "patch_norm", "block")
    fields = config.model_dump(exclude={"block": {"qkv_bias"}, "resnet": {"norm_eps", "divisor"}})
    sizes = {field: fields[field] for field in (*decisive, *parts) if field in fields}
    if isinstance(config, ViTConfig):  # which tokens have a position, and how it is rounded, differs between publishers
        sizes["learned positions"] = config.position_embedding.learned != "none"
        rotary = config.position_embedding.rotary
        sizes["rotary positions"] = rotary and rotary.model_dump(exclude={"bfloat16"})
    return {field: value for field, value in sizes.items() if value is not None}


def _parts(config: ModelConfig) -> tuple[object, ...]:
    """What tells apart the ways in which two towers are built and trained, and no size."""
    assert isinstance(config, LiTConfig)
    image, text = config.image, config.text
    reads = (text.mask, text.pooling) if isinstance(text, TextTransformerConfig) else text.kind
    return image.norm_before, image.patch_bias, image.pooling, reads, config.bias

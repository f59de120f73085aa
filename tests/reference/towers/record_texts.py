"""Records what text towers of transformers and open_clip answer, with random values in every array: writes texts.json.

    python tests/reference/towers/record_texts.py        # needs transformers 5.24 and open_clip_torch 3.3.0

Each row is one of their text towers, made small, and the configuration that describes it here. The arrays are those of
`tests.tiny.tiny_model` of a model with this text tower, under their names.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from timm_reads_our_npz import stand_in_for_torchvision  # noqa: E402

from tests.tiny import tiny_text_tower  # noqa: E402
from vitsmith.models.text_config import TextTransformerConfig  # noqa: E402

WIDTH, DEPTH, HEADS, MLP_WIDTH, VOCABULARY, LENGTH, EMBEDDING = 32, 2, 4, 128, 60, 12, 24
START, END, OTHER_END = VOCABULARY - 2, VOCABULARY - 1, 7
SMALL = {"width": WIDTH, "depth": DEPTH, "heads": HEADS, "mlp_width": MLP_WIDTH, "vocabulary": VOCABULARY}
CLIP: dict[str, Any] = {"norm_eps": 1e-5, "mask": "causal", "pooling": "end", "head_bias": False}
OPEN_CLIP: dict[str, Any] = {"norm_eps": 1e-5, "gelu": "erf"}


def hf_clip(activation: str, end: int) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            **_hf_sizes(), projection_dim=EMBEDDING, hidden_act=activation, eos_token_id=end, bos_token_id=START,
            pad_token_id=1,
        )
    )  # fmt: skip


def hf_siglip(projection: int) -> nn.Module:
    from transformers import SiglipTextConfig, SiglipTextModel

    return SiglipTextModel(SiglipTextConfig(**_hf_sizes(), projection_size=projection, bos_token_id=0, eos_token_id=1))


def open_clip(quick: bool) -> nn.Module:
    _without_torchvision()
    from open_clip.model import CLIP as Model  # noqa: N811

    text = {"context_length": LENGTH, "vocab_size": VOCABULARY, "width": WIDTH, "heads": HEADS, "layers": DEPTH}
    image = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}
    return Model(EMBEDDING, vision_cfg=image, text_cfg=text, quick_gelu=quick)


def open_clip_text(**options: Any) -> nn.Module:
    _without_torchvision()
    from open_clip.transformer import TextTransformer

    return TextTransformer(LENGTH, VOCABULARY, WIDTH, HEADS, DEPTH, output_dim=EMBEDDING, **options)


@cache
def _without_torchvision() -> None:
    """Makes open_clip importable; transformers must be imported before."""
    import transformers  # noqa: F401

    stand_in_for_torchvision()


UNMASKED = {"no_causal_mask": True, "pool_type": "last"}
ROWS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "clip-hf": (lambda: hf_clip("quick_gelu", 2), CLIP | {"gelu": "quick"}),
    "clip-hf-erf": (lambda: hf_clip("gelu", END), CLIP | {"gelu": "erf", "end_token": END}),
    "clip-hf-another-end": (
        lambda: hf_clip("quick_gelu", OTHER_END),
        CLIP | {"gelu": "quick", "end_token": OTHER_END},
    ),
    "siglip-hf": (lambda: hf_siglip(EMBEDDING), {}),
    "clip-open-clip-quick": (lambda: open_clip(True), CLIP | {"gelu": "quick"}),
    "clip-open-clip": (lambda: open_clip(False), CLIP | {"gelu": "erf"}),
    "siglip-open-clip": (lambda: open_clip_text(**UNMASKED, proj_bias=True), OPEN_CLIP),
    "siglip-multilingual": (lambda: open_clip_text(**UNMASKED, proj_type="none"), OPEN_CLIP | {"classes": 0}),
    "clipa": (lambda: open_clip_text(**UNMASKED), OPEN_CLIP | {"head_bias": False}),
    "mobileclip2": (lambda: open_clip_text(no_causal_mask=True), CLIP | OPEN_CLIP | {"mask": "none"}),
    "metaclip2": (
        lambda: open_clip_text(pool_type="eos", eos_id=OTHER_END),
        CLIP | OPEN_CLIP | {"end_token": OTHER_END},
    ),
}

HF = (  # ours, theirs; in this order
    ("words.", "embeddings.token_embedding."),
    ("positions.embedding", "embeddings.position_embedding.weight"),
    ("blocks.", "encoder.layers."),
    (".norm", ".layer_norm"),
    ("attention.out", "self_attn.out_proj"),
    ("attention.", "self_attn."),
    ("widen", "fc1"),
    ("narrow", "fc2"),
)
OC = (
    ("words.", "token_embedding."),
    ("positions.embedding", "positional_embedding"),
    ("blocks.", "transformer.resblocks."),
    (".norm", ".ln_"),
    ("attention.out", "attn.out_proj"),
    ("attention.qkv.", "attn.in_proj_"),
    ("widen", "c_fc"),
    ("narrow", "c_proj"),
)


def main() -> None:
    recorded: dict[str, Any] = {"tokens": _tokens().tolist()}
    for name, (make, fields) in ROWS.items():
        config = TextTransformerConfig(**{**SMALL, "length": LENGTH, "classes": EMBEDDING} | fields)
        ours, theirs = tiny_text_tower(config), make().eval()
        rename = _to_hf if type(theirs).__module__.startswith("transformers") else _to_open_clip
        missing = theirs.load_state_dict(dict(rename(ours, theirs)), strict=False)
        assert not missing.unexpected_keys
        assert all(key.startswith(("visual.", "logit_scale")) for key in missing.missing_keys), missing
        with torch.no_grad():
            answers, own = _answers(theirs), ours(_tokens())
        difference = float((answers - own).abs().max() / answers.abs().max())
        print(f"{name:24} differs by {difference:.1e} of the largest")
        recorded[name] = {
            "config": json.loads(config.model_dump_json()),
            "outputs": [[round(value, 7) for value in row] for row in answers.tolist()],
        }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in recorded.items())
    (Path(__file__).parent / "texts.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def _tokens() -> Tensor:
    """Texts of 2 to 12 tokens padded with 0, and two padded with the end token; each has another end token too."""
    tokens = torch.randint(8, START, (6, LENGTH), generator=torch.Generator().manual_seed(0))
    tokens[:, 0] = START
    for row, used, padding in zip(tokens, (3, 5, 9, 12, 4, 8), (0, 0, 0, 0, END, END), strict=True):
        row[used // 2], row[used - 1], row[used:] = OTHER_END, END, padding
    return tokens


def _answers(theirs: nn.Module) -> Tensor:
    if hasattr(theirs, "encode_text"):
        return theirs.encode_text(_tokens())
    found = theirs(_tokens())
    if isinstance(found, Tensor):
        return found
    return found.text_embeds if hasattr(found, "text_embeds") else found.pooler_output


def _hf_sizes() -> dict[str, int]:
    return {
        "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": MLP_WIDTH, "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS, "max_position_embeddings": LENGTH,
    }  # fmt: skip


def _renamed(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for mine, other in pairs:
        name = name.replace(mine, other)
    return name


def _to_hf(ours: nn.Module, theirs: nn.Module) -> Iterator[tuple[str, Tensor]]:
    known = theirs.state_dict()
    root = "text_model." if any(key.startswith("text_model.embeddings") for key in known) else ""
    for name, array in ours.state_dict().items():
        foreign = _renamed(name, HF)
        if ".qkv." in foreign:
            for kind, part in zip("qkv", array.chunk(3), strict=True):
                yield root + foreign.replace("qkv", f"{kind}_proj"), part
        elif name.startswith("head."):
            yield ("text_projection.weight" if "text_projection.weight" in known else root + name), array
        else:
            foreign = f"final_layer_{foreign}" if name.startswith("norm.") else foreign
            yield root + foreign, array[0] if name == "positions.embedding" else array


def _to_open_clip(ours: nn.Module, theirs: nn.Module) -> Iterator[tuple[str, Tensor]]:
    known = theirs.state_dict()
    for name, array in ours.state_dict().items():
        if name == "head.weight" and "text_projection" in known:
            yield "text_projection", array.T
        elif name.startswith("head."):
            yield name.replace("head", "text_projection"), array
        else:
            foreign = name.replace("norm", "ln_final") if name.startswith("norm.") else _renamed(name, OC)
            yield foreign, array[0] if name == "positions.embedding" else array


if __name__ == "__main__":
    main()

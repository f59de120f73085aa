"""Tiny seeded checkpoints as timm and HF save them, and what they compute, written out from the names of their arrays.

Nothing of vitsmith is used. Letters: B batch, N tokens, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]

WIDTH, DEPTH, HEADS, MLP_WIDTH, PATCH, CLASSES = 128, 2, 2, 48, 8, 5  # heads of 64, as timm's own are
TOKENS_MLP_WIDTH = 20


def arrays(shapes: Mapping[str, tuple[int, ...]]) -> State:
    """Random values: weights of deviation 0.1, scales about 1."""
    generator = torch.Generator().manual_seed(len(shapes))
    state = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    for name in state:
        if "norm" in name and name.endswith("weight"):
            state[name] += 1
    return state


def images(height: int, width: int) -> Tensor:
    """Two random images in -1..1, shape (2, 3, height, width)."""
    return torch.rand((2, 3, height, width), generator=torch.Generator().manual_seed(7)) * 2 - 1


def linear_shapes(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm_shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def patch_shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (WIDTH, 3, PATCH, PATCH), f"{name}.bias": (WIDTH,)}


def timm_vit(
    *,
    patches: int = 16,
    class_token: bool = True,
    class_position: bool = True,
    norm: str = "norm",
    representation: int = 0,
    distilled: bool = False,
) -> State:
    shapes: dict[str, tuple[int, ...]] = {"cls_token": (1, 1, WIDTH)} if class_token else {}
    if distilled:
        shapes["dist_token"] = (1, 1, WIDTH)
    shapes["pos_embed"] = (1, patches + (class_token and class_position) + distilled, WIDTH)
    shapes |= patch_shapes("patch_embed.proj")
    for block in (f"blocks.{index}" for index in range(DEPTH)):
        shapes |= norm_shapes(f"{block}.norm1") | norm_shapes(f"{block}.norm2")
        shapes |= linear_shapes(f"{block}.attn.qkv", WIDTH, 3 * WIDTH) | linear_shapes(
            f"{block}.attn.proj", WIDTH, WIDTH
        )
        shapes |= linear_shapes(f"{block}.mlp.fc1", WIDTH, MLP_WIDTH) | linear_shapes(
            f"{block}.mlp.fc2", MLP_WIDTH, WIDTH
        )
    shapes |= norm_shapes(norm)
    if representation:
        shapes |= linear_shapes("pre_logits.fc", WIDTH, representation)
    if distilled:
        shapes |= linear_shapes("head_dist", WIDTH, CLASSES)
    return arrays(shapes | linear_shapes("head", representation or WIDTH, CLASSES))


def timm_mixer(patches: int = 16) -> State:
    shapes = patch_shapes("stem.proj")
    for block in (f"blocks.{index}" for index in range(DEPTH)):
        shapes |= norm_shapes(f"{block}.norm1") | norm_shapes(f"{block}.norm2")
        for mlp, width, hidden in (("mlp_tokens", patches, TOKENS_MLP_WIDTH), ("mlp_channels", WIDTH, MLP_WIDTH)):
            shapes |= linear_shapes(f"{block}.{mlp}.fc1", width, hidden) | linear_shapes(
                f"{block}.{mlp}.fc2", hidden, width
            )
    return arrays(shapes | norm_shapes("norm") | linear_shapes("head", WIDTH, CLASSES))


def hf_vit(*, patches: int = 16, prefix: str = "vit.", pooler: int = 0) -> State:
    """In the names of the released files; `in_new_names` gives those of transformers 5's modules."""
    shapes: dict[str, tuple[int, ...]] = {"embeddings.cls_token": (1, 1, WIDTH)}
    shapes["embeddings.position_embeddings"] = (1, patches + 1, WIDTH)
    shapes |= patch_shapes("embeddings.patch_embeddings.projection")
    for layer in (f"encoder.layer.{index}" for index in range(DEPTH)):
        shapes |= norm_shapes(f"{layer}.layernorm_before") | norm_shapes(f"{layer}.layernorm_after")
        for name in ("attention.attention.query", "attention.attention.key", "attention.attention.value"):
            shapes |= linear_shapes(f"{layer}.{name}", WIDTH, WIDTH)
        shapes |= linear_shapes(f"{layer}.attention.output.dense", WIDTH, WIDTH)
        shapes |= linear_shapes(f"{layer}.intermediate.dense", WIDTH, MLP_WIDTH)
        shapes |= linear_shapes(f"{layer}.output.dense", MLP_WIDTH, WIDTH)
    shapes |= norm_shapes("layernorm")
    if pooler:
        shapes |= linear_shapes("pooler.dense", WIDTH, pooler)
    shapes = {prefix + name: shape for name, shape in shapes.items()}
    return arrays(shapes if pooler else shapes | linear_shapes("classifier", WIDTH, CLASSES))


def in_new_names(state: State) -> State:
    renamed = {}
    for name, array in state.items():
        for old, new in (
            ("encoder.layer.", "layers."),
            ("attention.attention.query", "attention.q_proj"),
            ("attention.attention.key", "attention.k_proj"),
            ("attention.attention.value", "attention.v_proj"),
            ("attention.output.dense", "attention.o_proj"),
            ("intermediate.dense", "mlp.fc1"),
            ("output.dense", "mlp.fc2"),
        ):
            name = name.replace(old, new)
        renamed[name] = array
    return renamed


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def norm(state: State, name: str, x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], eps)


def embed(state: State, name: str, x: Tensor) -> Tensor:
    grid = F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=PATCH)
    return grid.flatten(2).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Head by head, (B, N, D) each."""
    size = query.shape[-1] // heads
    outputs = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = query[..., part] @ key[..., part].transpose(1, 2) / size**0.5
        outputs.append(scores.softmax(dim=-1) @ value[..., part])
    return torch.cat(outputs, dim=-1)


def timm_vit_logits(state: State, x: Tensor, *, heads: int = HEADS, pool: str = "token", gelu: str = "none") -> Tensor:
    x = embed(state, "patch_embed.proj", x)
    if state["pos_embed"].shape[1] == x.shape[1]:
        x = x + state["pos_embed"]
        prefix = state["cls_token"].expand(len(x), -1, -1) if "cls_token" in state else x[:, :0]
        x = torch.cat([prefix, x], dim=1)
    else:
        tokens = [state[name].expand(len(x), -1, -1) for name in ("cls_token", "dist_token") if name in state]
        x = torch.cat([*tokens, x], dim=1) + state["pos_embed"]
    for block in (f"blocks.{index}" for index in range(DEPTH)):
        qkv = linear(state, f"{block}.attn.qkv", norm(state, f"{block}.norm1", x, 1e-6))
        x = x + linear(state, f"{block}.attn.proj", attend(*qkv.chunk(3, dim=-1), heads))
        hidden = linear(state, f"{block}.mlp.fc1", norm(state, f"{block}.norm2", x, 1e-6))
        x = x + linear(state, f"{block}.mlp.fc2", F.gelu(hidden, approximate=gelu))
    if "norm.weight" in state:
        x = norm(state, "norm", x, 1e-6)
    if "dist_token" in state:  # models/deit.py: the mean of both heads
        return (linear(state, "head", x[:, 0]) + linear(state, "head_dist", x[:, 1])) / 2
    x = x[:, 0] if pool == "token" else x[:, int("cls_token" in state) :].mean(dim=1)
    if "fc_norm.weight" in state:
        x = norm(state, "fc_norm", x, 1e-6)
    if "pre_logits.fc.weight" in state:
        x = torch.tanh(linear(state, "pre_logits.fc", x))
    return linear(state, "head", x)


def timm_mixer_logits(state: State, x: Tensor) -> Tensor:
    x = embed(state, "stem.proj", x)
    for block in (f"blocks.{index}" for index in range(DEPTH)):
        hidden = linear(state, f"{block}.mlp_tokens.fc1", norm(state, f"{block}.norm1", x, 1e-6).transpose(1, 2))
        x = x + linear(state, f"{block}.mlp_tokens.fc2", F.gelu(hidden)).transpose(1, 2)
        hidden = linear(state, f"{block}.mlp_channels.fc1", norm(state, f"{block}.norm2", x, 1e-6))
        x = x + linear(state, f"{block}.mlp_channels.fc2", F.gelu(hidden))
    return linear(state, "head", norm(state, "norm", x, 1e-6).mean(dim=1))


def hf_vit_logits(
    state: State, x: Tensor, *, heads: int = HEADS, gelu: str = "none", eps: float = 1e-12, prefix: str = "vit."
) -> Tensor:
    """Logits, or for a bare model with a pooler its `pooler_output`."""
    inner = {name.removeprefix(prefix): array for name, array in state.items()}
    x = embed(inner, "embeddings.patch_embeddings.projection", x)
    x = torch.cat([inner["embeddings.cls_token"].expand(len(x), -1, -1), x], dim=1)
    x = x + inner["embeddings.position_embeddings"]
    for layer in (f"encoder.layer.{index}" for index in range(DEPTH)):
        y = norm(inner, f"{layer}.layernorm_before", x, eps)
        query, key, value = (
            linear(inner, f"{layer}.attention.attention.{name}", y) for name in ("query", "key", "value")
        )
        x = x + linear(inner, f"{layer}.attention.output.dense", attend(query, key, value, heads))
        hidden = linear(inner, f"{layer}.intermediate.dense", norm(inner, f"{layer}.layernorm_after", x, eps))
        x = x + linear(inner, f"{layer}.output.dense", F.gelu(hidden, approximate=gelu))
    first = norm(inner, "layernorm", x, eps)[:, 0]
    return (
        torch.tanh(linear(inner, "pooler.dense", first))
        if "pooler.dense.weight" in inner
        else linear(inner, "classifier", first)
    )

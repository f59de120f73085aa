"""Checkpoints that benchmarks/robustness.py changes: ours, others', and those of a training run."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from robustness_answers import Answer, Change, Subject
from robustness_bundles import CLASSES, model, predictions
from robustness_mutations import Random, change_file, change_folder

import vitsmith as vs


def _npz(folder: Path) -> None:
    vs.save(model(), folder / "model.npz", format="npz")


def _change_npz(folder: Path, random: Random) -> Change:
    return Change(change_file(folder / "model.npz", random)[0], covered=True)


def _predict_npz(folder: Path) -> Answer:
    return predictions(folder / "model.npz")


def _timm_state() -> dict[str, torch.Tensor]:
    """The arrays of a ViT as timm names them: width 64, one head, 2 blocks, 4 x 4 patches of 8 pixels."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, 64), "pos_embed": (1, 17, 64),
        "patch_embed.proj.weight": (64, 3, 8, 8), "patch_embed.proj.bias": (64,),
        "norm.weight": (64,), "norm.bias": (64,), "head.weight": (5, 64), "head.bias": (5,),
    }  # fmt: skip
    for block in range(2):
        for name, shape in {
            "norm1.weight": (64,), "norm1.bias": (64,), "norm2.weight": (64,), "norm2.bias": (64,),
            "attn.qkv.weight": (192, 64), "attn.qkv.bias": (192,),
            "attn.proj.weight": (64, 64), "attn.proj.bias": (64,),
            "mlp.fc1.weight": (96, 64), "mlp.fc1.bias": (96,), "mlp.fc2.weight": (64, 96), "mlp.fc2.bias": (64,),
        }.items():  # fmt: skip
            shapes[f"blocks.{block}.{name}"] = shape
    generator = torch.Generator().manual_seed(2)
    return {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def _pth(folder: Path) -> None:
    torch.save(_timm_state(), folder / "model.pth")


def _change_pth(folder: Path, random: Random) -> Change:
    return Change(change_file(folder / "model.pth", random)[0], covered=True)


def _predict_pth(folder: Path) -> Answer:
    return predictions(folder / "model.pth")


def _timm_folder(folder: Path) -> None:
    from safetensors.torch import save_file as save_tensors

    place = folder / "timm"
    place.mkdir()
    save_tensors(_timm_state(), place / "model.safetensors")
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 5,
        "global_pool": "token",
        "label_names": list(CLASSES),
        "pretrained_cfg": {
            "input_size": [3, 32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "crop_pct": 0.9,
            "interpolation": "bicubic", "num_classes": 5,
        },
    }  # fmt: skip
    (place / "config.json").write_text(json.dumps(config))


def _change_timm(folder: Path, random: Random) -> Change:
    return Change(change_folder(folder / "timm", random)[0], covered=False)


def _predict_timm(folder: Path) -> Answer:
    return predictions(folder / "timm")


def _checkpoints(folder: Path) -> None:
    from vitsmith.training.checkpoint.disk import CheckpointWriter

    writer = CheckpointWriter(folder, keep=2)
    arrays = {f"weights.{name}": torch.zeros_like(array) for name, array in model().named_parameters()}
    for step in (5, 10):
        writer.save(step, {name: array + step for name, array in arrays.items()}, {"data": "abc", "micro": 4})
        writer.wait()
    writer.close()


def _change_checkpoints(folder: Path, random: Random) -> Change:
    return Change(change_folder(folder / "checkpoints" / "step-000010", random)[0], covered=True)


def _read_checkpoint(folder: Path) -> Answer:
    from vitsmith.training.checkpoint.disk import read_latest

    read = read_latest(folder)
    # Going on from the one before gives the same in the end: what counts is that the tensors are those of the step.
    sound = all((array == read.step).all() for array in read.tensors.values())
    shapes = [tuple(array.shape) for _, array in sorted(read.tensors.items())]
    return [sound, read.facts.get("step") == read.step, read.facts.get("data"), read.facts.get("micro"), *shapes]


CHECKPOINTS: dict[str, Subject] = {
    "checkpoint .npz": Subject(90, _npz, _change_npz, _predict_npz),
    "checkpoint .pth": Subject(60, _pth, _change_pth, _predict_pth),
    "checkpoint, folder of timm": Subject(50, _timm_folder, _change_timm, _predict_timm),
    "training checkpoint": Subject(50, _checkpoints, _change_checkpoints, _read_checkpoint),
}

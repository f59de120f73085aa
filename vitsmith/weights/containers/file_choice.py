"""Which library made a folder of weights, and which of its files holds them, by their names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from vitsmith.data.sets.split_record import SPLIT
from vitsmith.errors import WeightsError
from vitsmith.weights.bundle.golden import GOLDEN


@dataclass(frozen=True)
class Maker:
    """What libraries write into a folder: a description of the model, and its weights under one of these names."""

    name: str
    config: str
    weights: tuple[str, ...]
    """The safest first."""


MAKERS = (
    Maker("timm or HF", "config.json", ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")),
    Maker("open_clip", "open_clip_config.json", ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")),
)
"""What timm's `save_for_hf`, HF's `save_pretrained` and open_clip's `push_to_hf_hub` write. The first whose files are
there made the folder: open_clip's also lie beside those of HF, or beside timm's, which hold the image tower alone."""
OPEN_CLIP = MAKERS[1]
FOLDER_FILES = MAKERS[0].weights
READ_SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".bin", ".ckpt")
"""Suffixes of files of weights that are read, the safest first."""
WEIGHTS_SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".bin", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".tar")


def maker_among(names: Collection[str]) -> Maker | None:
    """The library that wrote a folder with files of these names; None if it is none that we know."""
    return next(
        (one for one in MAKERS if one.config in names and any(file in names for file in one.weights)),
        None,
    )


def is_model_folder(folder: Path) -> bool:
    """Whether a folder describes a model as one of MAKERS does."""
    return any((folder / maker.config).is_file() for maker in MAKERS)


def weights_among(folder: Path) -> str:
    """The names of the first few files of a folder that have a suffix of weights, without a bundle's other files."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in WEIGHTS_SUFFIXES)
    names = [name for name in names if name not in (GOLDEN, SPLIT)]
    return f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"


def weights_in(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The file of weights in a folder, and a note on others that are not read. Raises WeightsError."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    maker = maker_among(names) or next((one for one in MAKERS if one.config in names), MAKERS[0])
    there = [name for name in maker.weights if name in names]
    if not there:
        others = weights_among(folder)
        hint = f"it has {others}: give one that holds all weights" if others else "copy the weights there"
        raise WeightsError(f"{folder}: none of {', '.join(maker.weights)} is in this folder; {hint}")
    notes = [f"{there[0]} was read, {', '.join(there[1:])} beside it was not"] if there[1:] else []
    if maker is not OPEN_CLIP and OPEN_CLIP.config in names:
        notes.append(
            f"open_clip's model of both towers, which lies beside it, is read by its file: .../{OPEN_CLIP.weights[0]}"
        )
    return folder / there[0], tuple(notes)

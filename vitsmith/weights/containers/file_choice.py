"""Which file of a folder holds the weights, by their names."""

from __future__ import annotations

from pathlib import Path

from vitsmith.data.sets.split_record import SPLIT
from vitsmith.errors import WeightsError
from vitsmith.weights.bundle.golden import GOLDEN

FOLDER_FILES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
"""What timm's `save_for_hf` and HF's `save_pretrained` write, the safest first."""
WEIGHTS_SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".bin", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".tar")


def weights_among(folder: Path) -> str:
    """The names of the first few files of a folder that have a suffix of weights, without a bundle's other files."""
    names = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in WEIGHTS_SUFFIXES)
    names = [name for name in names if name not in (GOLDEN, SPLIT)]
    return f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"


def weights_in(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The file of weights in a folder, and a note on others that are not read. Raises WeightsError."""
    there = [name for name in FOLDER_FILES if (folder / name).is_file()]
    if not there:
        others = weights_among(folder)
        hint = f"it has {others}: give one that holds all weights" if others else "copy the weights there"
        raise WeightsError(f"{folder}: none of {', '.join(FOLDER_FILES)} is in this folder; {hint}")
    rest = ", ".join(there[1:])
    return folder / there[0], (f"{there[0]} was read, {rest} beside it was not",) if rest else ()

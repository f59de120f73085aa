"""Opens a file of arrays as what its bytes are, whatever its name says."""

from __future__ import annotations

from pathlib import Path

from vitsmith.errors import WeightsError
from vitsmith.files.contents import content_of, not_weights
from vitsmith.weights.containers.npz import NpzFile
from vitsmith.weights.containers.tensors import SafetensorsFile, TorchFile, is_index

Container = NpzFile | SafetensorsFile | TorchFile

_USUAL = {
    "npz": ("an .npz file", (".npz",)),
    "safetensors": ("a .safetensors file", (".safetensors",)),
    "torch": ("a file of torch.save", (".pth", ".pt", ".bin", ".ckpt", ".tar")),
}
"""The kinds of files: name in messages, and usual suffixes."""


def open_arrays(path: Path, *, npz: bool = True) -> Container:
    """The open file. Raises WeightsError for one that is missing, damaged or holds no weights, saying what it is.

    `npz` is whether it may be an `.npz`, which never lies in a model folder of another library.
    """
    if not path.exists():
        raise WeightsError(f"{path}: no such file")
    found = content_of(path)
    if found.kind == "npz" and npz:
        return NpzFile(path)
    if found.kind == "torch":
        return TorchFile(path)
    if found.kind in ("safetensors", "index") or is_index(path):
        return SafetensorsFile(path)
    raise WeightsError(f"{path} {not_weights(found)}")


def misnamed(path: Path) -> tuple[str, ...]:
    """A note on a file whose suffix does not fit its contents."""
    what, suffixes = _USUAL.get(content_of(path).kind, ("", ()))
    if not what or path.suffix.lower() in suffixes:
        return ()
    return (f"{path.name} holds {what}, whatever its name says",)

"""The containers of the PyTorch world, safetensors and `torch.save`, read without running anything they hold."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Collection
from pathlib import Path, PurePath, PureWindowsPath
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitsmith.arrays import Shape
from vitsmith.errors import WeightsError, shown
from vitsmith.files.contents import content_of
from vitsmith.files.regular import utf8_path
from vitsmith.json_text import read_json
from vitsmith.weights.containers.archive import open_archive, verify_stored
from vitsmith.weights.containers.name_prefixes import is_buffer, state_dict_in, without_prefixes

INDEX_SUFFIX = ".safetensors.index.json"
"""The suffix of the list of parts of a model that HF has split into several `.safetensors`."""

_FLOATS = {"F64", "F32", "F16", "BF16"}

_TORCH_FLOATS = {torch.float64, torch.float32, torch.float16, torch.bfloat16}


class SafetensorsFile:
    """A `.safetensors`, or a `.safetensors.index.json` with the parts it lists beside it.

    Files are opened anew for each array. An open one is mapped, and every page that was read stays in this process's
    memory until it is closed: after all arrays the whole file, beside the model. Raises WeightsError for a file that is
    missing, not safetensors, truncated or not of floating-point arrays.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.shapes: dict[str, Shape] = {}
        self._parts: dict[str, Path] = {}
        for part, expected in _parts(self.path).items():
            with _open_safetensors(part) as opened:
                names = opened.keys()
                if expected is not None and set(names) != expected:
                    differing = sorted(set(names) ^ expected)
                    raise WeightsError(
                        f"{part}: holds other arrays than {self.path.name} lists for it ({shown(differing[0])}): "
                        "download the whole folder again"
                    )
                for name in names:
                    entry = opened.get_slice(name)
                    if entry.get_dtype() not in _FLOATS and not is_buffer(name):
                        raise WeightsError(_not_floating(part, name, entry.get_dtype()))
                    self.shapes[name] = tuple(entry.get_shape())
                    self._parts[name] = part

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing stays open."""

    def read(self, name: str) -> Tensor:
        """One array as float32. Raises WeightsError if its file has gone, or is another one now."""
        part = self._parts[name]
        with _open_safetensors(part) as opened:
            names = opened.keys()
            if name not in names or tuple(opened.get_slice(name).get_shape()) != self.shapes[name]:
                raise WeightsError(f"{part}: changed while it was read: load it again")
            array: Tensor = opened.get_tensor(name)
            return array.float()


class TorchFile:
    """A `.pth`, `.pt`, `.bin` or `.ckpt` of `torch.save`: a state dict, alone or in a training script's dictionary.

    Only tensors are ever unpickled (`weights_only=True`), and they stay on disk until they are read. `container` is
    the key the state dict was found under, or ''; `verified` whether the file has checksums, which were compared:
    files older than torch 1.6 have none. Raises WeightsError for a file that is missing, damaged, no state
    dict, or holds other Python objects.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        loaded, self.verified = _load(self.path)
        self.container, state = state_dict_in(loaded, self.path)
        self._arrays: dict[str, Tensor] = {}
        for name, array in state.items():
            _check_tensor(self.path, name, array)
            if without_prefixes(name) in self._arrays:
                raise WeightsError(
                    f"{self.path}: holds {shown(without_prefixes(name))} twice, with and without a wrapper"
                )
            self._arrays[without_prefixes(name)] = array
        _check_total(self.path, self._arrays.values())
        self.shapes: dict[str, Shape] = {name: tuple(array.shape) for name, array in self._arrays.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._arrays.clear()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the container."""
        told = []
        if self.container.endswith("_ema"):
            told.append(f"the file may hold several sets of weights: the averaged ones, {self.container!r}, were read")
        if not self.verified:
            told.append("the file has no checksums, so damage to it would go unnoticed")
        return tuple(told)

    def read(self, name: str) -> Tensor:
        """One array as float32."""
        return self._arrays[name].detach().float()


def _parts(path: Path) -> dict[Path, set[str] | None]:
    """The files that hold the arrays: `path` itself, or the ones that an index lists, with the names it lists."""
    if not is_index(path):
        return {path: None}
    try:
        fields = read_json(path, error=WeightsError)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    listed = fields.get("weight_map") if isinstance(fields, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise WeightsError(f"{path}: not an index of .safetensors files: it has no weight_map with arrays")
    parts: dict[Path, set[str] | None] = {}
    for name, part in listed.items():
        if not isinstance(part, str) or PurePath(part).name != part or PureWindowsPath(part).name != part:
            raise WeightsError(f"{path}: lists {shown(part)}; the parts must lie in the same folder")
        names = parts.setdefault(path.with_name(part), set())
        assert names is not None
        names.add(name)
    return parts


def is_index(path: Path) -> bool:
    """Whether `path` has the name of a list of parts."""
    return path.name.lower().endswith(INDEX_SUFFIX)


def _open_safetensors(path: Path) -> Any:
    if not path.exists():
        raise WeightsError(f"{path}: no such file")
    found = content_of(path)
    if found.kind not in ("safetensors", "text", "unknown", "empty"):
        raise WeightsError(f"{path} {found.told}")
    try:
        with utf8_path(path) as name:
            return safe_open(name, framework="pt")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a complete .safetensors file ({error}); download or copy it again") from None


def _load(path: Path) -> tuple[Any, bool]:
    """The contents of the file, and whether checksums showed that it is whole."""
    if not path.exists():
        raise WeightsError(f"{path}: no such file")
    found = content_of(path)
    if found.kind not in ("torch", "torchscript", "zip", "text", "unknown", "empty"):
        raise WeightsError(f"{path} {found.told}")
    zipped = found.kind == "torch" and _begins_as_zip(path)
    verified = False
    if zipped:  # only the zip format, the default since torch 1.6, has checksums and can stay on disk
        with open_archive(path, "file of torch.save") as archive:
            verified = verify_stored(archive, path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of TorchScript and of plain pickles, then refuses them
            if path.suffix == ".safetensors":  # torch would read it as what its name says
                with path.open("rb") as file:
                    return torch.load(file, map_location="cpu", weights_only=True), verified
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped), verified
    except Exception as error:  # damaged bytes make the unpickler fail in any way it can
        text = str(error)
    # torch's own text is not passed on: it advises weights_only=False.
    if pickled := re.search(r"GLOBAL (\S+)", text):
        raise WeightsError(
            f"{path}: holds pickled Python objects ({pickled[1]}); refused, they can run code: "
            "ask for a .safetensors file, or for a file with nothing but the state dict"
        )
    if "TorchScript" in text:
        raise WeightsError(f"{path}: is a TorchScript program; refused, it can run code: ask for its state dict")
    raise WeightsError(f"{path}: not a complete file of torch.save; download or copy it again")


def _begins_as_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _check_tensor(path: Path, name: str, array: Any) -> None:
    if not isinstance(array, Tensor):
        raise WeightsError(
            f"{path}: {shown(name)} is of type {type(array).__name__}, a state dict holds tensors only: "
            "save model.state_dict() by itself"
        )
    whole = array.dtype == torch.int64 and is_buffer(name)
    if (array.dtype not in _TORCH_FLOATS and not whole) or array.layout != torch.strided:
        raise WeightsError(_not_floating(path, name, str(array.dtype).removeprefix("torch.")))
    if array.device.type != "cpu" or array.numel() * array.element_size() > array.untyped_storage().nbytes():
        raise WeightsError(f"{path}: array {shown(name)} claims {tuple(array.shape)}, more than the file holds")


def _check_total(path: Path, arrays: Collection[Tensor]) -> None:
    """Raises WeightsError where many names stand for the same few bytes: a small file that fills a memory."""
    claimed, size = sum(array.numel() * array.element_size() for array in arrays), path.stat().st_size
    if claimed > 4 * size + (1 << 20):
        raise WeightsError(f"{path}: claims {claimed:,} bytes of arrays in a file of {size:,}; refused")


def _not_floating(path: Path, name: str, dtype: str) -> str:
    return f"{path}: array {shown(name)} has type {dtype}, weights are floating point"

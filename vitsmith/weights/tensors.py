"""The containers of the PyTorch world, safetensors and `torch.save`, read without running anything they hold."""

from __future__ import annotations

import json
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vitsmith.errors import WeightsError
from vitsmith.weights.layouts import Shape

INDEX_SUFFIX = ".safetensors.index.json"
"""How the list of parts ends when HF has split a model into several `.safetensors`."""

_FLOATS = {"F64", "F32", "F16", "BF16"}

_CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Keys under which training scripts keep the weights, in timm's order (models/_helpers.py, `load_state_dict`)."""

_WRAPPERS = ("_orig_mod.", "module.", "_orig_mod.")
"""What torch.compile and DistributedDataParallel put before every name, in either order."""


class SafetensorsFile:
    """An open `.safetensors`, or a `.safetensors.index.json` with the parts it lists beside it.

    Raises WeightsError for a file that is missing, not safetensors, truncated or not of floating-point arrays.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.shapes: dict[str, Shape] = {}
        self._owners: dict[str, Any] = {}
        with ExitStack() as stack:
            for part in _parts(self.path):
                opened = stack.enter_context(_open_safetensors(part))
                names = opened.keys()
                for name in names:
                    entry = opened.get_slice(name)
                    if entry.get_dtype() not in _FLOATS:
                        raise WeightsError(_not_floating(part, name, entry.get_dtype()))
                    self.shapes[name] = tuple(entry.get_shape())
                    self._owners[name] = opened
            self._open = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def read(self, name: str) -> Tensor:
        """One array as float32."""
        array: Tensor = self._owners[name].get_tensor(name)
        return array.float()


class TorchFile:
    """A `.pth`, `.pt`, `.bin` or `.ckpt` of `torch.save`: a state dict, alone or in a training script's dictionary.

    Only tensors are ever unpickled (`weights_only=True`), and they stay on disk until they are read. `container` is
    the key the state dict was found under, or ''. Raises WeightsError for a file that is missing, damaged, no state
    dict, or holds other Python objects.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.container, state = _unwrap(_load(self.path), self.path)
        self._arrays: dict[str, Tensor] = {}
        for name, array in state.items():
            if not isinstance(array, Tensor):
                raise WeightsError(
                    f"{self.path}: {name!r} is of type {type(array).__name__}, a state dict holds tensors only: "
                    "save model.state_dict() by itself"
                )
            if not array.is_floating_point() or array.layout != torch.strided:
                raise WeightsError(_not_floating(self.path, name, str(array.dtype).removeprefix("torch.")))
            self._arrays[_unwrapped(name)] = array
        self.shapes: dict[str, Shape] = {name: tuple(array.shape) for name, array in self._arrays.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._arrays.clear()

    def read(self, name: str) -> Tensor:
        """One array as float32."""
        return self._arrays[name].detach().float()


def _parts(path: Path) -> list[Path]:
    """The files that hold the arrays: `path` itself, or the ones that an index lists."""
    if not path.name.endswith(INDEX_SUFFIX):
        return [path]
    try:
        names = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: not an index of .safetensors files ({error!r})") from None
    outside = [name for name in names if not isinstance(name, str) or Path(name).name != name]
    if outside:
        raise WeightsError(f"{path}: lists {outside[0]!r}; the parts must lie in the same folder")
    return [path.with_name(name) for name in names]


def _open_safetensors(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a complete .safetensors file ({error}); download or copy it again") from None


def _load(path: Path) -> Any:
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of TorchScript and of plain pickles, then refuses them
            # Only the zip format, the default since torch 1.6, can stay on disk.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # damaged bytes make the unpickler fail in any way it can
        text = str(error)
    # torch's own text is not passed on: it advises weights_only=False.
    if found := re.search(r"GLOBAL (\S+)", text):
        raise WeightsError(
            f"{path}: holds pickled Python objects ({found[1]}); refused, they can run code: "
            "ask for a .safetensors file, or for a file with nothing but the state dict"
        )
    if "TorchScript" in text:
        raise WeightsError(f"{path}: is a TorchScript program; refused, it can run code: ask for its state dict")
    raise WeightsError(f"{path}: not a complete file of torch.save; download or copy it again")


def _unwrap(loaded: Any, path: Path) -> tuple[str, Mapping[str, Any]]:
    """(container, state dict) of what the file holds."""
    if not isinstance(loaded, Mapping) or not all(isinstance(key, str) for key in loaded):
        raise WeightsError(f"{path}: holds a {type(loaded).__name__}, not a state dict: save model.state_dict()")
    for key in _CONTAINERS:
        if isinstance(loaded.get(key), Mapping):
            return key, loaded[key]
    return "", loaded


def _unwrapped(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.removeprefix(wrapper)
    return name


def _not_floating(path: Path, name: str, dtype: str) -> str:
    return f"{path}: array {name!r} has type {dtype}, weights are floating point"

"""What a file holds is told by its bytes: what lies in the place of weights or words is called what it is."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vitsmith.contents import content_of
from vitsmith.errors import InputError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 346293852\n"
HTML = b"\n <!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"


def zipped(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return data.getvalue()


def npz() -> bytes:
    data = io.BytesIO()
    np.savez(data, a=np.ones(2))
    return data.getvalue()


def tarred() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.safetensors"))
    return data.getvalue()


FOREIGN: dict[str, tuple[bytes, str]] = {
    "lfs": (LFS, "a Git LFS pointer"),
    "html": (HTML, "an HTML page"),
    "html after a mark": (b"\xef\xbb\xbf" + HTML, "an HTML page"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML document"),
    "json": (b'{"error": "Repository not found"}', "a JSON document"),
    "json list": (b'[{"error": 1}]', "a JSON document"),
    "empty": (b"", "empty"),
    "zeros": (bytes(5000), "full of zeros"),
    "gzip": (b"\x1f\x8b\x08\0abc", "a gzip archive"),
    "tar": (tarred(), "a tar archive"),
    "zip": (zipped("model.safetensors", "config.json"), "a zip archive"),
    "empty zip": (zipped(), "an empty zip archive"),
    "hdf5": (b"\x89HDF\r\n\x1a\n...", "an HDF5 file"),
    "keras": (zipped("config.json", "model.weights.h5"), "a Keras model"),
    "gguf": (b"GGUF\x03\0\0\0", "a GGUF file"),
    "tflite": (b"\x1c\0\0\0TFL3\0\0", "a TensorFlow Lite program"),
    "npy": (b"\x93NUMPY\1\0", "one .npy array"),
    "tensorflow": (b"\0\0\1\2" * 9 + struct.pack("<Q", 0xDB4775248B80FB57), "the index of a TensorFlow checkpoint"),
    "torchscript": (zipped("m/data.pkl", "m/code/__torch__.py", "m/version"), "a TorchScript program"),
    "pt2": (zipped("m/archive_format", "m/models/model.json"), "a program of torch.export"),
    "image": (b"\xff\xd8\xff\xe0....", "a JPEG image"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN)
def test_what_lies_in_the_place_of_weights_is_named(tmp_path: Path, case: str) -> None:
    data, what = FOREIGN[case]
    (tmp_path / "weights").write_bytes(data)
    found = content_of(tmp_path / "weights")
    assert found.what.startswith(what) and found.advice
    assert found.kind not in ("safetensors", "npz", "torch", "index", "text")


def test_formats_without_a_mark_are_known_by_their_suffix(tmp_path: Path) -> None:
    for name, kind in (("a.msgpack", "msgpack"), ("saved_model.PB", "pb"), ("model.onnx", "onnx")):
        (tmp_path / name).write_bytes(b"\x08\x81\xa6\x0b")
        assert content_of(tmp_path / name).kind == kind
    (tmp_path / "noise.bin").write_bytes(b"\x08\x81\xa6\x0b")
    assert content_of(tmp_path / "noise.bin").kind == "unknown"


WRITERS: dict[str, Callable[[Path], object]] = {
    "safetensors": lambda path: save_file({"a": torch.ones(2)}, path),
    "npz": lambda path: path.write_bytes(npz()),
    "torch": lambda path: torch.save({"a": torch.ones(2)}, path),
    "torch, legacy": lambda path: torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False),
    "torch, pickle": lambda path: path.write_bytes(pickle.dumps({"a": 1}, protocol=2)),
    "index": lambda path: path.write_text(json.dumps({"metadata": {}, "weight_map": {"a": "model-1.safetensors"}})),
    "text": lambda path: path.write_text("[PAD]\n[UNK]\ncafé\n", encoding="utf-8"),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("name", ["weights", "weights.npz", "weights.PTH", "Keras.h5"])
def test_the_bytes_decide_and_not_the_name(tmp_path: Path, kind: str, name: str) -> None:
    WRITERS[kind](tmp_path / name)
    assert content_of(tmp_path / name).kind == kind.split(",")[0]


@pytest.mark.parametrize("kind", ["safetensors", "npz", "torch"])
def test_what_is_cut_off_is_still_recognised(tmp_path: Path, kind: str) -> None:
    """Its own reader says what is missing."""
    path = tmp_path / "weights"
    WRITERS[kind](path)
    path.write_bytes(path.read_bytes()[:-40])
    assert content_of(path).kind == kind


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, told in ((tmp_path / "pipe", "named pipe"), (tmp_path, "folder"), (Path("/dev/zero"), "device")):
        with pytest.raises(InputError, match=told):
            content_of(path)
    with pytest.raises(InputError, match="no such file"):
        content_of(tmp_path / "absent")

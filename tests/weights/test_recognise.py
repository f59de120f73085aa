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

from tests.tiny import VIT, layout_of, released_npz, tiny_lit, tiny_model
from tests.weights.foreign_files import TIMM_CONFIG, written
from tests.weights.foreign_reference import timm_vit
from vitsmith import load, save
from vitsmith.errors import InputError, WeightsError
from vitsmith.files.contents import content_of, not_weights
from vitsmith.training.lit.vocabulary import read_vocabulary
from vitsmith.weights.fetch.addresses import cached_path
from vitsmith.weights.fetch.published import find_checkpoint

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
    "lfs of old": (b"version https://hawser.github.com/spec/v1\noid sha256:ab\n", "a Git LFS pointer"),
    "annex": (b"/annex/objects/SHA256E-s34--ab.pth\n", "a git-annex pointer"),
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
    assert found.what.startswith(what) and not_weights(found).startswith(f"is {what}")
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


# --- the doors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", FOREIGN)
@pytest.mark.parametrize("name", ["model.safetensors", "B_16.npz", "weights.pth", "weights"])
def test_load_says_what_it_was_given(tmp_path: Path, case: str, name: str) -> None:
    data, what = FOREIGN[case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(WeightsError) as refused:
        load(tmp_path / name)
    assert str(refused.value).startswith(f"{tmp_path / name} is {what}") and "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["weights.pth.tar", "WEIGHTS.PTH", "weights", "weights.npz", "weights.safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_load_whatever_they_are_called(tmp_path: Path, name: str, zipped: bool) -> None:
    torch.save(timm_vit(), tmp_path / name, _use_new_zipfile_serialization=zipped)
    bundle = load(tmp_path / name)
    assert torch.equal(bundle.model.head.weight, timm_vit()["head.weight"])
    assert ("the file has no checksums" in " ".join(bundle.provenance.notes)) is not zipped
    told = f"{name} holds a file of torch.save, whatever its name says" in bundle.provenance.notes
    assert told is (name in ("weights", "weights.npz", "weights.safetensors"))


@pytest.mark.parametrize("name", ["A.SAFETENSORS", "a", "a.npz", "a.bin"])
def test_safetensors_load_whatever_they_are_called(tmp_path: Path, name: str) -> None:
    save_file(timm_vit(), tmp_path / name)
    bundle = load(tmp_path / name)
    assert torch.equal(bundle.model.head.weight, timm_vit()["head.weight"])
    told = f"{name} holds a .safetensors file, whatever its name says" in bundle.provenance.notes
    assert told is not name.endswith(".SAFETENSORS")


@pytest.mark.parametrize("name", ["A.NPZ", "a", "a.safetensors"])
def test_npz_load_whatever_they_are_called(tmp_path: Path, name: str) -> None:
    model = tiny_model(VIT)
    save(model, tmp_path / "whole.npz", format="npz")
    (tmp_path / "whole.npz").rename(tmp_path / name)
    bundle = load(tmp_path / name)
    assert torch.equal(bundle.model.head.weight, model.head.weight)
    assert any("holds an .npz file" in note for note in bundle.provenance.notes) is (name != "A.NPZ")


def test_an_npz_in_a_model_folder_is_refused(tmp_path: Path) -> None:
    save(tiny_model(VIT), tmp_path / "model.npz", format="npz")
    (tmp_path / "model.npz").rename(tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(TIMM_CONFIG))
    with pytest.raises(WeightsError, match=r"model\.safetensors is an \.npz of NumPy, not weights"):
        load(tmp_path)


def test_what_lies_in_the_place_of_a_published_file_is_that_file_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path))
    place = cached_path(find_checkpoint("ViT-B_16.imagenet21k").url)
    place.parent.mkdir(parents=True)
    save_file(timm_vit(), place)
    with pytest.raises(WeightsError, match=r"not a complete \.npz file"):
        load("ViT-B_16.imagenet21k")


def test_a_published_file_names_its_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path))
    tag = "ViT-Ti_16.augreg-imagenet2012-384"
    place = cached_path(find_checkpoint(tag).url)
    place.parent.mkdir(parents=True)
    released_npz(place, layout_of("ViT-Ti_16-384")["layout"])
    labels = load(tag).labels
    assert labels is not None and len(labels) == 1000 and labels.names[207] == "golden retriever"
    assert load(tag, headless=True).labels is None
    assert load(place).labels is None  # a file of this width might be anybody's


def test_folders_without_a_description_say_what_is_in_them(tmp_path: Path) -> None:
    save_file(timm_vit(), tmp_path / "part-1.safetensors")
    with pytest.raises(WeightsError, match=r"nor config\.json .*; give one of its files: part-1\.safetensors$"):
        load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(TIMM_CONFIG))
    with pytest.raises(WeightsError, match=r"it has part-1\.safetensors: give one that holds all weights"):
        load(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"nor config\.json \(a timm or HF model\)$"):
        load(tmp_path / "empty")


def test_which_of_two_weights_was_read_is_told(tmp_path: Path) -> None:
    written(tmp_path, timm_vit(), TIMM_CONFIG)
    torch.save({}, tmp_path / "pytorch_model.bin")
    notes = load(tmp_path).provenance.notes
    assert "model.safetensors was read, pytorch_model.bin beside it was not" in notes


@pytest.mark.parametrize("part", ["lfs", "html", "gzip"])
def test_a_part_of_an_index_that_is_something_else_is_named(tmp_path: Path, part: str) -> None:
    state = timm_vit()
    (tmp_path / "config.json").write_text(json.dumps(TIMM_CONFIG))
    save_file(state, tmp_path / "model-1.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(state, "model-1.safetensors")}))
    assert torch.equal(load(tmp_path).model.head.weight, state["head.weight"])
    (tmp_path / "model-1.safetensors").write_bytes(FOREIGN[part][0])
    with pytest.raises(WeightsError, match=rf"model-1\.safetensors is {FOREIGN[part][1]}"):
        load(tmp_path)


def test_a_description_beside_weights_is_told_from_a_failed_download(tmp_path: Path) -> None:
    save_file(timm_vit(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(TIMM_CONFIG))
    with pytest.raises(WeightsError, match=r"config\.json is a JSON document beside weights: give their folder, \S+$"):
        load(tmp_path / "config.json")


@pytest.mark.parametrize("case", ["lfs", "html", "json", "empty", "zip", "gzip"])
def test_a_vocabulary_that_is_something_else_is_named(tmp_path: Path, case: str) -> None:
    save(tiny_lit(released=True), tmp_path / "lit.npz", format="npz")
    (tmp_path / "lit.txt").write_bytes(FOREIGN[case][0])
    for read in (lambda: load(tmp_path / "lit.npz"), lambda: read_vocabulary(str(tmp_path / "lit.txt"))):
        with pytest.raises(InputError, match=rf"lit\.txt is not a vocabulary: it is {FOREIGN[case][1]}"):
            read()


@pytest.mark.parametrize("source", ["C:\\models\\B_16.npz", "C:\\models\\B_16", "models\\B_16", "a" * 5000, "a\0b.npz"])
def test_paths_that_are_not_there_are_no_names_of_models(source: str) -> None:
    with pytest.raises(InputError, match=r"no such file or folder|name too long|File name too long"):
        load(source)


@pytest.mark.parametrize(
    "said", ["Entry not found", "404: Not Found", "../../blobs/0a1b2c", "https://example.org/B_16.npz"]
)
@pytest.mark.parametrize("name", ["model.safetensors", "B_16.npz", "weights.pth"])
def test_what_a_server_or_a_copied_link_says_in_the_place_of_weights_is_shown(
    tmp_path: Path, said: str, name: str
) -> None:
    (tmp_path / name).write_text(f"{said}\n")
    with pytest.raises(WeightsError) as refused:
        load(tmp_path / name)
    assert str(refused.value).startswith(f"{tmp_path / name} is text that says {said!r}, not weights")
    assert content_of(tmp_path / name).kind == "text"


def test_an_index_in_the_place_of_a_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(WeightsError, match="is an index, not a model: search in it with  vitsmith retrieve --index"):
        load(tmp_path)


def test_a_folder_of_open_clip_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"none of open_clip_model\.safetensors, .* is in this folder; copy"):
        load(tmp_path)
    save_file(
        {"logit_scale": torch.ones(()), "visual.proj": torch.ones(2, 2)}, tmp_path / "open_clip_model.safetensors"
    )
    with pytest.raises(WeightsError, match=r"open_clip_config\.json: model_cfg: is missing"):
        load(tmp_path)


def test_open_clips_files_wait_behind_those_of_timm_and_transformers(tmp_path: Path) -> None:
    written(tmp_path, timm_vit(), TIMM_CONFIG)
    (tmp_path / "open_clip_config.json").write_text("{}")
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    told = load(tmp_path).provenance
    assert told.kind == "timm" and any("open_clip's model of both towers" in note for note in told.notes)

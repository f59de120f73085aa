"""Containers that are damaged, made to deceive, or claim what they cannot hold: refused at once, in one line."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from tests.tiny import CONFIGS, VIT, tiny_lit, tiny_model
from tests.weights.foreign_files import HF_CONFIG, TIMM_CONFIG, written
from tests.weights.foreign_reference import hf_vit, timm_vit
from vitsmith import load, save
from vitsmith.errors import BundleError, ConfigError, InputError, WeightsError
from vitsmith.models.config import MixerConfig, ViTConfig
from vitsmith.models.configure import configure
from vitsmith.models.text_config import BertConfig
from vitsmith.weights.bundle.manifest import checksum
from vitsmith.weights.containers.npz import NpzFile
from vitsmith.weights.containers.tensors import SafetensorsFile, TorchFile

DEEP = "[" * 100_000 + "]" * 100_000


def refusal(read: Callable[[], object], error: type[InputError] = WeightsError) -> str:
    with pytest.raises(error) as caught:
        read()
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600, message
    return message


def set_checksum(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """bundle.json changed by somebody who knows its checksums."""
    path = folder / "bundle.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    for name in fields["files"]:
        fields["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    change(fields)
    path.write_text(json.dumps(fields | {"checksum": checksum(fields)}), encoding="utf-8")


# --- torch.save ------------------------------------------------------------------------------------------------------


def test_no_flipped_byte_of_a_torch_file_gives_other_weights(tmp_path: Path) -> None:
    state = {"a.weight": torch.arange(300.0), "b.bias": torch.arange(7.0)}
    path = tmp_path / "a.pth"
    torch.save(state, path)
    data = path.read_bytes()
    refused = 0
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        try:
            with TorchFile(path) as file:
                assert {name: file.read(name).tolist() for name in file.shapes} == {
                    name: array.tolist() for name, array in state.items()
                }, place
        except WeightsError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > len(data) / 7 / 3  # the rest is padding, and fields that nothing reads


def test_a_torch_file_written_without_checksums_is_read(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.arange(3.0)}, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(before)
    with TorchFile(tmp_path / "a.pth") as file:
        assert file.read("a").tolist() == [0, 1, 2] and not file.verified
    torch.save({"a": torch.arange(3.0)}, tmp_path / "b.pth")
    with TorchFile(tmp_path / "b.pth") as file:
        assert file.verified


def test_a_torch_file_packed_again_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as whole,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in whole.infolist():
            packed.writestr(member.filename, whole.read(member))
    assert "is compressed, so another program packed it again" in refusal(lambda: TorchFile(tmp_path / "b.pth"))


def test_arrays_that_claim_more_than_is_stored_are_refused(tmp_path: Path) -> None:
    one = torch.zeros(1)
    cases = {
        "a": {"a": one.expand(10**6, 10**6)},
        "b": {f"a{index}": torch.zeros(100_000) for index in range(2)},
        "c": {"a": torch.zeros(2, device="meta")},
        "d": {"a": torch.zeros(2, dtype=torch.float8_e4m3fn)},
        "e": {"model": {1: one}},
        "f": {"module.a": one, "a": one},
    }
    shared = torch.zeros(100_000)
    cases["b"] = {f"a{index}": shared for index in range(9)}
    told = (
        "more than the file holds",
        "claims",
        "more than the file holds",
        "has type float8",
        "no state dict",
        "twice",
    )
    for (name, state), reason in zip(cases.items(), told, strict=True):
        torch.save(state, tmp_path / f"{name}.pth")
        assert reason in refusal(lambda path=tmp_path / f"{name}.pth": TorchFile(path))


# --- npz -------------------------------------------------------------------------------------------------------------


def npz_header(shape: tuple[int, ...], kind: str = "<f4") -> bytes:
    data = io.BytesIO()
    np.lib.format.write_array_header_1_0(data, {"descr": kind, "fortran_order": False, "shape": shape})
    return data.getvalue()


def test_an_npz_that_unpacks_to_far_more_is_refused_unread(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("embedding/kernel.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(npz_header((80 * 2**18,)))
        for _ in range(80):
            stream.write(bytes(2**20))
    assert (tmp_path / "a.npz").stat().st_size < 200_000
    assert "claims to unpack" in refusal(lambda: load(tmp_path / "a.npz"))


@pytest.mark.parametrize("family", ["vit", "mixer", "lit"])
def test_a_hundred_thousand_blocks_are_not_built(tmp_path: Path, family: str) -> None:
    config = {"vit": VIT, "mixer": CONFIGS["mixer"], "lit": CONFIGS["lit-bert"]}[family]
    save(tiny_lit(released=True) if family == "lit" else tiny_model(config), tmp_path / "a.npz", format="npz")
    size = None if family == "lit" else (16, 24)
    last = {"vit": "Transformer/encoderblock_1/", "mixer": "MixerBlock_1/", "lit": "layers_1/"}[family]
    with np.load(tmp_path / "a.npz") as file:
        arrays = {name.replace(last, last.replace("1", "99999")): array for name, array in file.items()}
    np.savez(tmp_path / "b.npz", **arrays)
    assert "99999" in refusal(lambda: load(tmp_path / "b.npz", image_size=size))


def test_arrays_that_imply_a_huge_model_are_refused_before_it_is_made(tmp_path: Path) -> None:
    """Four million weights in the file, and a configuration of 10^12."""
    save(tiny_model(VIT), tmp_path / "a.npz", format="npz")
    with np.load(tmp_path / "a.npz") as file:
        arrays = dict(file)
    arrays["embedding/kernel"] = np.zeros((1, 1, 3, 2**16), np.float32)
    block = "Transformer/encoderblock_1/MlpBlock_3/Dense_0/kernel"
    arrays[block] = np.zeros((1, 2**20), np.float32)
    np.savez(tmp_path / "b.npz", **arrays)
    assert "of wrong shape" in refusal(lambda: load(tmp_path / "b.npz", image_size=(2, 3)))


@pytest.mark.parametrize("kind", ["twice", "encrypted", "overlapping", "bare and suffixed"])
def test_archives_that_contradict_themselves_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.npz"
    array = npz_header((1000,)) + bytes(4000)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", array)
        archive.writestr("a" if kind == "bare and suffixed" else "b.npy", array)
    data = path.read_bytes()
    if kind == "twice":
        data = data.replace(b"b.npy", b"a.npy")
    elif kind == "encrypted":
        at = data.index(b"PK\1\2") + 8
        data = data[:at] + b"\1\0" + data[at + 2 :]
    elif kind == "overlapping":
        first, second = data.index(b"PK\1\2"), data.rindex(b"PK\1\2")
        size = struct.pack("<II", 10**6, 10**6)
        data = data[: first + 20] + size + data[first + 28 : second + 20] + size + data[second + 28 :]
    path.write_bytes(data)
    told = {"twice": "twice", "encrypted": "is encrypted", "overlapping": "in a file of"}.get(kind, "twice")
    assert told in refusal(lambda: NpzFile(path))


# --- safetensors -----------------------------------------------------------------------------------------------------


def safetensors(header: str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


HEADERS = {
    "overlap": safetensors(json.dumps({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}), bytes(4)),
    "hole": safetensors(json.dumps({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}), bytes(12)),
    "overflow": safetensors(json.dumps({"a": entry([2**62, 2**62], 0, 4)}), bytes(4)),
    "too short": safetensors(json.dumps({"a": entry([9], 0, 36)}), bytes(4)),
    "twice": safetensors(f'{{"a":{json.dumps(entry([1], 0, 4))},"a":{json.dumps(entry([1], 4, 8))}}}', bytes(8)),
    "deep": safetensors('{"a":' * 100_000),
    "longer than the file": safetensors("{}", length=2**40),
    "100 MB": safetensors(b"{" + b" " * 100_000_001 + b"}"),
    "no JSON": safetensors("{hello}"),
    "negative": safetensors(json.dumps({"a": entry([-1], 0, 4)}), bytes(4)),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_that_cannot_be_are_refused(tmp_path: Path, case: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(HEADERS[case])
    assert "a.safetensors" in refusal(lambda: SafetensorsFile(tmp_path / "a.safetensors"))
    refusal(lambda: load(tmp_path / "a.safetensors"))


INDEXES = {
    "absolute": ({"a": "/etc/passwd"}, "the same folder"),
    "above": ({"a": "../a.safetensors"}, "the same folder"),
    "of Windows": ({"a": "C:\\a.safetensors"}, "the same folder"),
    "absent": ({"a": "absent.safetensors"}, "absent.safetensors: no such file"),
    "number": ({"a": 1}, "the same folder"),
    "empty": ({}, "not an index"),
    "another array": ({"a": "part.safetensors", "c": "part.safetensors"}, "holds other arrays than"),
    "not listed": ({"a": "part.safetensors"}, "holds other arrays than"),
}


@pytest.mark.parametrize("case", INDEXES)
def test_indexes_that_do_not_fit_their_parts_are_refused(tmp_path: Path, case: str) -> None:
    listed, told = INDEXES[case]
    save_file({"a": np.zeros(1, np.float32), "b": np.zeros(1, np.float32)}, tmp_path / "part.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": listed}))
    assert told in refusal(lambda: SafetensorsFile(index))
    index.write_text('{"weight_map": {"a": "part.safetensors", "a": "part.safetensors"}}')
    assert "twice" in refusal(lambda: SafetensorsFile(index))


# --- JSON ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors.index.json"])
def test_deep_json_beside_weights_is_refused(tmp_path: Path, name: str) -> None:
    written(tmp_path, hf_vit(), HF_CONFIG)
    if "index" in name:
        (tmp_path / "model.safetensors").unlink()
    for text in (DEEP, f'{{"a": {DEEP}}}', "{" * 50_000, '{"a": 1e999}', '{"a": ' + "9" * 10_000 + "}", "\ufffd{"):
        (tmp_path / name).write_text(text)
        assert name in refusal(lambda: load(tmp_path))


def test_deep_json_in_a_bundle_is_refused(tmp_path: Path) -> None:
    save(tiny_lit(), tmp_path / "lit")
    golden = load_file(tmp_path / "lit" / "golden.safetensors")
    save_file({**golden, "texts": np.frombuffer(DEEP.encode(), np.uint8)}, tmp_path / "lit" / "golden.safetensors")
    set_checksum(tmp_path / "lit", lambda fields: None)
    assert "golden.safetensors" in refusal(lambda: load(tmp_path / "lit"), BundleError)
    (tmp_path / "lit" / "bundle.json").write_text(DEEP)
    assert "bundle.json" in refusal(lambda: load(tmp_path / "lit"), BundleError)


# --- golden arrays ---------------------------------------------------------------------------------------------------


Arrays = dict[str, np.ndarray[Any, Any]]
GOLDEN: dict[str, Callable[[Arrays], Any]] = {
    "no outputs": lambda a: a.pop("outputs"),
    "no tensors": lambda a: a.pop("tensors"),
    "no images": lambda a: [a.pop(name) for name in list(a) if name.startswith("image.")],
    "a gap": lambda a: a.pop("image.0"),
    "grey": lambda a: a.update({"image.0": a["image.0"][..., 0].copy()}),
    "four channels": lambda a: a.update({"image.0": np.zeros((4, 4, 4), np.uint8)}),
    "float pixels": lambda a: a.update({"image.0": a["image.0"].astype(np.float32)}),
    "empty image": lambda a: a.update({"image.0": np.zeros((0, 4, 3), np.uint8)}),
    "flat tensors": lambda a: a.update(tensors=a["tensors"].reshape(-1)),
    "one tensor": lambda a: a.update(tensors=a["tensors"][:1].copy()),
    "small tensors": lambda a: a.update(tensors=a["tensors"][..., :-1].copy()),
    "whole tensors": lambda a: a.update(tensors=a["tensors"].astype(np.int32)),
    "NaN tensors": lambda a: a["tensors"].__setitem__(0, np.nan),
    "one output": lambda a: a.update(outputs=a["outputs"][:1].copy()),
    "narrow outputs": lambda a: a.update(outputs=a["outputs"][:, :1].copy()),
    "flat outputs": lambda a: a.update(outputs=a["outputs"].reshape(-1)[:2].copy()),
    "inf outputs": lambda a: a["outputs"].__setitem__(0, np.inf),
    "texts no JSON": lambda a: a.update(texts=np.frombuffer(b"[1", np.uint8)),
    "texts a number": lambda a: a.update(texts=np.frombuffer(b"5", np.uint8)),
    "texts numbers": lambda a: a.update(texts=np.frombuffer(b"[1, 2, 3, 4]", np.uint8)),
    "texts null": lambda a: a.update(texts=np.frombuffer(b"null", np.uint8)),
    "fewer texts": lambda a: a.update(texts=np.frombuffer(b'["a"]', np.uint8)),
    "no tokens": lambda a: a.pop("texts.tokens"),
    "float tokens": lambda a: a.update({"texts.tokens": a["texts.tokens"].astype(np.float32)}),
    "flat tokens": lambda a: a.update({"texts.tokens": a["texts.tokens"].reshape(-1)}),
    "short tokens": lambda a: a.update({"texts.tokens": a["texts.tokens"][:, :2].copy()}),
    "wild tokens": lambda a: a["texts.tokens"].__setitem__((0, 1), 10**6),
    "negative tokens": lambda a: a["texts.tokens"].__setitem__((0, 1), -1),
    "one embedding": lambda a: a.update({"texts.embeddings": a["texts.embeddings"][:1].copy()}),
    "narrow embeddings": lambda a: a.update({"texts.embeddings": a["texts.embeddings"][:, :1].copy()}),
    "NaN embeddings": lambda a: a["texts.embeddings"].__setitem__(0, np.nan),
}  # fmt: skip


@pytest.fixture(scope="module")
def lit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    save(tiny_lit(), tmp_path_factory.mktemp("golden") / "lit")
    return tmp_path_factory.getbasetemp() / "golden0" / "lit"


@pytest.mark.parametrize("case", GOLDEN)
def test_misshapen_golden_arrays_are_refused(lit_folder: Path, tmp_path: Path, case: str) -> None:
    """Their hash is right: whoever made them made bundle.json too."""
    folder = tmp_path / "lit"
    folder.mkdir()
    for path in lit_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    arrays = {name: array.copy() for name, array in load_file(folder / "golden.safetensors").items()}
    GOLDEN[case](arrays)
    save_file(arrays, folder / "golden.safetensors")
    set_checksum(folder, lambda fields: None)
    message = refusal(lambda: load(folder).model, BundleError)
    assert "golden" in message


# --- numbers ---------------------------------------------------------------------------------------------------------


WILD: dict[str, Any] = {
    "width": 10**9, "depth": 10**6, "heads": 0, "mlp_width": 10**12, "classes": 10**20, "image_size": [10**9, 10**9],
    "patch": [0, 8], "norm_eps": -1, "gelu": "relu", "merge": [10**9] * 50, "dropout": 1.0, "representation": 10**9,
    "head_width": 10**9, "class_token": "perhaps", "resnet": {"stages": [10**9], "width_factor": 1},
}  # fmt: skip


@pytest.mark.parametrize("field", WILD)
def test_wild_numbers_of_a_bundle_are_refused(tmp_path: Path, field: str) -> None:
    save(tiny_model(VIT), tmp_path / "a")

    def change(fields: dict[str, Any]) -> None:
        fields["config"][field] = WILD[field]
        if field == "image_size":
            fields["preprocessing"]["size"] = WILD[field]

    set_checksum(tmp_path / "a", change)
    assert "bundle.json is damaged" in refusal(lambda: load(tmp_path / "a"), BundleError)


def test_numbers_within_bounds_that_the_files_do_not_hold_are_refused(tmp_path: Path) -> None:
    """Of 10^13 weights: nothing is allocated before the file's own shapes are compared."""
    save(tiny_model(VIT), tmp_path / "a")
    set_checksum(tmp_path / "a", lambda fields: fields["config"].update(width=65_536, mlp_width=1_048_576))
    assert "class_token is 1x1x32, expected 1x1x65536" in refusal(lambda: load(tmp_path / "a").model, BundleError)
    set_checksum(tmp_path / "a", lambda fields: fields["config"].update(width=65_536, depth=1000, merge=[]))
    assert "arrays do not fit bundle.json" in refusal(lambda: load(tmp_path / "a").model, BundleError)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({**TIMM_CONFIG, "num_classes": "five"}, "num_classes"),
        ({**TIMM_CONFIG, "num_classes": 10**30}, "num_classes"),
        ({**TIMM_CONFIG, "num_classes": True}, "num_classes"),
        ({**TIMM_CONFIG, "pretrained_cfg": {"input_size": [3, 10**9, 10**9]}}, "input_size.1"),
        ({**TIMM_CONFIG, "pretrained_cfg": {"input_size": 224}}, "input_size"),
        ({**TIMM_CONFIG, "pretrained_cfg": {"mean": [1, 2]}}, "mean"),
        ({**TIMM_CONFIG, "pretrained_cfg": {"std": [0, 0, 0]}}, "std must be positive"),
        ({**TIMM_CONFIG, "pretrained_cfg": {"crop_pct": -1}}, "crop"),
        ({**TIMM_CONFIG, "pretrained_cfg": [1]}, "pretrained_cfg"),
        ({**TIMM_CONFIG, "model_args": {"num_heads": 0}}, "num_heads"),
        ({**TIMM_CONFIG, "model_args": {"num_heads": 10**9}}, "num_heads"),
        ({**TIMM_CONFIG, "model_args": {"img_size": [[224]]}}, "img_size"),
        ({**TIMM_CONFIG, "model_args": "none"}, "model_args"),
        ({**TIMM_CONFIG, "architecture": ["a"]}, "architecture"),
        (["a"], "config.json"),
        (5, "config.json"),
    ],
)
def test_wrong_types_in_timms_config_are_named(tmp_path: Path, config: Any, told: str) -> None:
    assert told in refusal(lambda: load(written(tmp_path, timm_vit(), config)), InputError)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"hidden_size": 10**9}, "hidden_size"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"num_attention_heads": 3}, "multiple of heads 3"),
        ({"num_attention_heads": [2]}, "num_attention_heads"),
        ({"num_attention_heads": True}, "num_attention_heads"),
        ({"intermediate_size": "256"}, "intermediate_size"),
        ({"image_size": 10**9}, "image_size"),
        ({"image_size": 31}, "multiple of the patch"),
        ({"patch_size": 0}, "patch_size"),
        ({"patch_size": [8]}, "patch_size"),
        ({"layer_norm_eps": -1e-6}, "layer_norm_eps"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps"),
        ({"num_channels": [3]}, "num_channels"),
        ({"hidden_act": 3}, "hidden_act"),
        ({"model_type": "beit"}, "model_type"),
        ({"model_type": 3}, "model_type"),
        ({"model_type": "dinov2"}, "do not fit the model"),
        ({"architectures": ["BeitForImageClassification"]}, "architecture 'BeitForImageClassification'"),
        ({"architectures": "ViTModel"}, "architectures"),
    ],
)
def test_wrong_types_in_hfs_config_are_named(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    assert told in refusal(lambda: load(written(tmp_path, hf_vit(), {**HF_CONFIG, **fields}).parent), InputError)


@pytest.mark.parametrize(
    "fields",
    [
        {"rescale_factor": 0}, {"rescale_factor": "1/255"}, {"image_mean": [0.5, 0.5]}, {"image_std": [0, 0, 0]},
        {"size": 10**12}, {"size": {"height": 0, "width": 0}}, {"size": {"shortest_edge": 10**12}}, {"resample": [3]},
        {"resample": True}, {"size": "224"}, {"crop_size": {"height": -1}}, {"do_resize": "maybe"},
    ],
)  # fmt: skip
def test_wrong_types_in_preprocessors_are_named(tmp_path: Path, fields: dict[str, Any]) -> None:
    written(tmp_path, hf_vit(), HF_CONFIG)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(fields))
    message = refusal(lambda: load(tmp_path), InputError)
    assert next(iter(fields)) in message or "JSON files beside it do not fit" in message


@pytest.mark.parametrize("value", [True, "12", 12.5, 0, -1, 10**20, float("nan"), float("inf"), None, [1], "a" * 10**6])
def test_every_number_of_a_configuration_is_one(value: Any) -> None:
    message = refusal(lambda: configure("ViT-B_16", depth=value), ConfigError)
    assert message.startswith("depth: ")


@pytest.mark.parametrize("kind", [ViTConfig, MixerConfig, BertConfig])
def test_every_size_has_a_limit(kind: type[ViTConfig | MixerConfig | BertConfig]) -> None:
    for name, field in kind.model_fields.items():
        if field.annotation is int:
            assert any(hasattr(one, "le") for one in field.metadata), name


def test_files_that_are_no_files_are_refused(tmp_path: Path) -> None:
    written(tmp_path, hf_vit(), HF_CONFIG)
    (tmp_path / "config.json").unlink()
    os.mkfifo(tmp_path / "config.json")
    assert "named pipe" in refusal(lambda: load(tmp_path / "model.safetensors"))
    os.mkfifo(tmp_path / "b.npz")
    assert "named pipe" in refusal(lambda: load(tmp_path / "b.npz"), InputError)

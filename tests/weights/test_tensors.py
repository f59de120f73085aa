"""The containers of weights: what is in them comes out, and what could run code or is damaged is refused."""

from __future__ import annotations

import argparse
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vitsmith.errors import WeightsError
from vitsmith.weights.containers.tensors import SafetensorsFile, TorchFile

STATE = {"norm.weight": torch.arange(6.0), "head.weight": torch.arange(12.0).reshape(3, 4) / 7}
SHAPES = {"norm.weight": (6,), "head.weight": (3, 4)}


def refusal(kind: type[SafetensorsFile | TorchFile], path: Path) -> str:
    """The message of the WeightsError, which must be one line, name the file and never advise to unpickle."""
    with pytest.raises(WeightsError) as caught:
        kind(path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(path)) and "weights_only" not in message
    return message


def check_contents(file: SafetensorsFile | TorchFile, tolerance: float = 0.0) -> None:
    assert file.shapes == SHAPES
    for name, array in STATE.items():
        assert file.read(name).dtype == torch.float32
        torch.testing.assert_close(file.read(name), array, rtol=tolerance, atol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 0), (torch.float16, 1e-3), (torch.bfloat16, 1e-2)])
def test_every_float_type_is_read_as_float32(tmp_path: Path, dtype: torch.dtype, tolerance: float) -> None:
    state = {name: array.to(dtype) for name, array in STATE.items()}
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pth")
    with SafetensorsFile(tmp_path / "a.safetensors") as file:
        check_contents(file, tolerance)
    with TorchFile(tmp_path / "a.pth") as file:
        check_contents(file, tolerance)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux lists what a process has mapped")
def test_no_page_of_a_safetensors_stays_in_memory(tmp_path: Path) -> None:
    """Pages of a mapped file count as memory of the process: the whole file, beside the model that is filled."""
    path = tmp_path / "a.safetensors"
    save_file(STATE, path)
    with SafetensorsFile(path) as file:
        assert torch.equal(file.read("norm.weight"), STATE["norm.weight"])
        assert str(path) not in Path("/proc/self/maps").read_text()


def test_a_safetensors_that_is_replaced_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(STATE, path)
    with SafetensorsFile(path) as file:
        save_file({"norm.weight": torch.zeros(6), "head.weight": torch.zeros(4, 3)}, path)
        assert torch.equal(file.read("norm.weight"), torch.zeros(6))
        with pytest.raises(WeightsError, match="changed while it was read"):
            file.read("head.weight")


def test_parts_are_read_as_one(tmp_path: Path) -> None:
    names = {name: f"model-0000{number}-of-00002.safetensors" for number, name in enumerate(STATE, 1)}
    for name, part in names.items():
        save_file({name: STATE[name]}, tmp_path / part)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 72}, "weight_map": names}))
    with SafetensorsFile(index) as file:
        check_contents(file)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"model-00002-of-00002\.safetensors: no such file"):
        SafetensorsFile(index)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"weight_map": {"a": "../secret.safetensors"}}', "the same folder"),
        ('{"weight_map": {"a": 3}}', "the same folder"),
        ('{"weight_map": ["a"]}', "not an index"),
        ("{}", "not an index"),
        ("hello", "no JSON"),
    ],
)
def test_a_wrong_index_is_refused(tmp_path: Path, text: str, told: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(text)
    assert told in refusal(SafetensorsFile, index)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_ema", "state_dict_ema"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_state_dicts_of_training_scripts_are_unwrapped(tmp_path: Path, key: str, prefix: str) -> None:
    wrapped = {prefix + name: torch.nn.Parameter(array) for name, array in STATE.items()}
    torch.save({"epoch": 3, key: wrapped, "optimizer": {"step": torch.tensor(1)}}, tmp_path / "a.pth")
    with TorchFile(tmp_path / "a.pth") as file:
        check_contents(file)
        assert file.container == key


def test_averaged_weights_come_first_and_may_be_absent(tmp_path: Path) -> None:
    zeros = {name: torch.zeros_like(array) for name, array in STATE.items()}
    torch.save({"model": zeros, "model_ema": STATE}, tmp_path / "both.pth")
    torch.save({"model": STATE, "model_ema": None}, tmp_path / "one.pth")
    for name, container in (("both.pth", "model_ema"), ("one.pth", "model")):
        with TorchFile(tmp_path / name) as file:
            check_contents(file)
            assert file.container == container


def test_files_of_before_torch_1_6_are_read(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    with TorchFile(tmp_path / "a.pth") as file:
        check_contents(file)
        assert file.container == ""


class Intruder:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    trace = tmp_path / "trace"
    state = {**STATE, "more": Intruder(trace)}
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert "holds pickled Python objects" in refusal(TorchFile, tmp_path / "a.pth")
    assert not trace.exists()
    (tmp_path / "b.pth").write_bytes(pickle.dumps(state))
    refusal(TorchFile, tmp_path / "b.pth")
    assert not trace.exists()


def test_what_is_pickled_is_named(tmp_path: Path) -> None:
    torch.save({"model": STATE, "args": argparse.Namespace(lr=0.1)}, tmp_path / "args.pth")
    assert "argparse.Namespace" in refusal(TorchFile, tmp_path / "args.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    assert "torch.nn.modules.linear.Linear" in refusal(TorchFile, tmp_path / "module.pth")


def test_torchscript_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "a.pt")
    assert "TorchScript" in refusal(TorchFile, tmp_path / "a.pt")


@pytest.mark.parametrize("length", [0, 1, 100, -200, -1])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_torch_files_are_refused(tmp_path: Path, zipped: bool, length: int) -> None:
    torch.save(STATE, tmp_path / "whole.pth", _use_new_zipfile_serialization=zipped)
    (tmp_path / "a.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:length])
    assert "not a complete file" in refusal(TorchFile, tmp_path / "a.pth")


@pytest.mark.parametrize("length", [0, 1, 30, -200, -1])
def test_truncated_safetensors_are_refused(tmp_path: Path, length: int) -> None:
    save_file(STATE, tmp_path / "whole.safetensors")
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:length])
    assert "not a complete .safetensors file" in refusal(SafetensorsFile, tmp_path / "a.safetensors")


def test_other_files_are_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.pth"
    page.write_text("<html>404 not found</html>")
    assert "is an HTML page" in refusal(TorchFile, page)
    assert "is an HTML page" in refusal(SafetensorsFile, page)
    for kind in (TorchFile, SafetensorsFile):
        assert "no such file" in refusal(kind, tmp_path / "absent")


def test_only_state_dicts_of_floats_are_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    for content, told in (
        ([torch.zeros(2)], "holds a list"),
        ({3: torch.zeros(2)}, "not a state dict"),
        ({"net": STATE}, "'net' is of type dict"),
        ({**STATE, "epoch": 3}, "'epoch' is of type int"),
        ({**STATE, "steps": torch.tensor(3)}, "'steps' has type int64"),
        ({"norm.weight": torch.eye(3).to_sparse()}, "'norm.weight'"),
    ):
        torch.save(content, path)
        assert told in refusal(TorchFile, path)
    save_file({"steps": torch.tensor(3)}, tmp_path / "a.safetensors")
    assert "'steps' has type I64" in refusal(SafetensorsFile, tmp_path / "a.safetensors")

"""A bundle is the same whatever torch has been told around it: inference mode, autocast, default types and devices."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vitsmith as vs
from tests.tiny import CONFIGS, VIT, pictures, tiny_lit, tiny_model
from vitsmith.models.config import LiTConfig
from vitsmith.weights import torch_model
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.torch_model import hash_weights

NAMES = ["vit-token", "hybrid-stages", "mixer", "lit-bert"]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "nothing": nullcontext,
    "inference_mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta": lambda: default_device("meta"),
    "deterministic": deterministic,
}


def bundle_of(name: str) -> Bundle:
    return tiny_lit(name, released=True) if name.startswith("lit") else Bundle.of(tiny_model(CONFIGS[name]))


def answers(bundle: Bundle) -> np.ndarray:
    if isinstance(bundle.config, LiTConfig):
        encoder = vs.Encoder(bundle, "torch")
        return np.concatenate([encoder.images(pictures(2)), encoder.texts(["a cat", "red"])])
    return vs.Predictor(bundle, "torch").logits(pictures(2))


@pytest.fixture(scope="module", params=NAMES)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, str]:
    folder = tmp_path_factory.mktemp("saved") / "model"
    bundle = vs.save(bundle_of(request.param), folder)
    assert bundle is not None
    return folder, answers(bundle), bundle.identity


@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_a_bundle_is_read_run_and_written_as_ever(
    saved: tuple[Path, np.ndarray, str], surrounding: str, tmp_path: Path
) -> None:
    folder, expected, identity = saved
    with SURROUNDINGS[surrounding]():
        bundle = vs.load(folder)
        np.testing.assert_array_equal(answers(bundle), expected)
        assert bundle.identity == identity
        assert hash_weights(bundle.model) == bundle.weights_hash  # of the values, not of what was written
        again = vs.save(bundle, tmp_path / "again")
        assert again is not None
        np.testing.assert_array_equal(answers(again), expected)
        features = vs.Encoder(bundle, "torch").images(pictures(1))
    assert all(p.dtype == torch.float32 and p.device.type == "cpu" for p in bundle.model.parameters())
    assert not any(parameter.is_inference() for parameter in bundle.model.parameters())
    assert not torch.is_inference_mode_enabled()
    np.testing.assert_array_equal(vs.Encoder(vs.load(folder), "torch").images(pictures(1)), features)
    bundle.model.requires_grad_(True)  # and it can be trained afterwards
    tower = bundle.model.image if isinstance(bundle.config, LiTConfig) else bundle.model
    tower(torch.zeros(1, 3, *bundle.preprocessing.size)).sum().backward()


@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_other_formats_are_read_as_ever(surrounding: str, tmp_path: Path) -> None:
    bundle = Bundle.of(tiny_model(CONFIGS["hybrid-stages"]))
    vs.save(bundle, tmp_path / "x.npz", format="npz")
    plain = vs.load(tmp_path / "x.npz", image_size=bundle.config.image_size)
    expected = answers(plain)
    with SURROUNDINGS[surrounding]():
        again = vs.load(tmp_path / "x.npz", image_size=bundle.config.image_size)
        np.testing.assert_array_equal(answers(again), expected)
        assert again.weights_hash == plain.weights_hash
        model, _ = vs.init_for_finetune(again, classes=3, image_size=(50, 60))
    assert all(p.dtype == torch.float32 and not p.is_inference() for p in model.parameters())
    reference, _ = vs.init_for_finetune(plain, classes=3, image_size=(50, 60))
    assert hash_weights(model) == hash_weights(reference)


def test_weights_that_do_not_count_their_changes_are_hashed_anew() -> None:
    model = tiny_model(VIT)
    with torch.inference_mode():
        for module in model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, torch.nn.Parameter(parameter.clone(), requires_grad=False))
        bundle = Bundle.of(model)
        first = bundle.weights_hash
        assert first == Bundle.of(tiny_model(VIT)).weights_hash
        model.head.bias += 1
        assert bundle.weights_hash != first


def test_threads_that_ask_at_once_get_one_checked_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = vs.save(Bundle.of(tiny_model(VIT)), tmp_path / "model")
    assert bundle is not None
    read, reads, together = torch_model.read_weights, [], threading.Barrier(8)

    def counted(*of: Any) -> object:
        reads.append(of)
        return read(*of)

    monkeypatch.setattr(torch_model, "read_weights", counted)

    def ask(_: int) -> object:
        together.wait()
        return bundle.model

    with ThreadPoolExecutor(8) as pool:
        models = list(pool.map(ask, range(8)))
    assert len(reads) == 1 and all(model is bundle.model for model in models)


def test_no_thread_sees_a_model_whose_golden_answers_are_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    vs.save(Bundle.of(tiny_model(VIT)), folder)
    other = vs.save(Bundle.of(tiny_model(VIT, seed=1)), tmp_path / "other")
    assert other is not None
    (folder / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    bundle, together = vs.load(folder, verify=False), threading.Barrier(8)

    def ask(_: int) -> str:
        together.wait()
        try:
            return f"a model: {bundle.model.config.family}"
        except vs.InputError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(ask, range(8)))
    assert all("give other answers here" in one for one in told)


def test_a_bundle_can_be_copied_and_pickled() -> None:
    bundle = Bundle.of(tiny_model(VIT))
    for other in (copy.deepcopy(bundle), copy.copy(bundle), pickle.loads(pickle.dumps(bundle))):
        np.testing.assert_array_equal(answers(other), answers(bundle))
        other._model = None
        with pytest.raises(vs.InputError):
            _ = other.model

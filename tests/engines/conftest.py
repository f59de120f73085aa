"""Programs that are made once for all files of this folder, and caches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.engines.programs import (
    Programs,
    onnx_bundle,
    openvino_bundle,
    torch_bundle,
    written,
)
from tests.tiny import MIXER, pictures, tiny_inputs, tiny_model
from vitsmith import Bundle
from vitsmith.engines import choice
from vitsmith.engines.openvino import engine as openvino
from vitsmith.models.configure import change


@pytest.fixture(scope="package", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for this folder: what was probed once need not be again."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("cache")
        patch.setenv("VITSMITH_CACHE", str(place))
        yield place


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="package")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Programs]:
    """Bundles of a family by their program, made once."""
    made: dict[str, Programs] = {}

    def make(name: str) -> Programs:
        if name not in made:
            place = tmp_path_factory.mktemp(name)
            bundle = torch_bundle(name)
            onnx = onnx_bundle(bundle, place / "onnx")
            made[name] = {"torch": bundle, "onnx": onnx, "openvino": openvino_bundle(bundle, onnx, place / "openvino")}
        return made[name]

    return make


@pytest.fixture(scope="package")
def executorch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    """(torch, executorch) of a Mixer of one block, for up to four images at a time."""
    import warnings

    bundle = Bundle.of(tiny_model(change(MIXER, depth=1, gelu="erf"))).with_golden(pictures(2))

    def write(place: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower

            sizes = ({0: torch.export.Dim("batch", min=1, max=4)},)
            exported = torch.export.export(bundle.model, tiny_inputs(bundle.config, 2), dynamic_shapes=sizes)
            lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
            (place / "model.pte").write_bytes(lowered.to_executorch().buffer)

    return bundle, written(bundle, tmp_path_factory.mktemp("executorch") / "model", "executorch", write)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the tiny model were worth measuring."""
    for module in (choice, openvino):
        monkeypatch.setattr(module, "is_small", lambda bundle: False)

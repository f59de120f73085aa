"""The ONNX export: same answers for any batch, and a graph that differs never leaves the gate."""

from __future__ import annotations

import dataclasses
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import vitsmith
from tests.exporting import export_onnx
from tests.tiny import CONFIGS, pictures, tiny_inputs, tiny_lit, tiny_model
from vitsmith import Bundle, Labels, Measurement, load
from vitsmith.encode import Encoder
from vitsmith.engines.open import open_engine
from vitsmith.errors import BundleError, GateError, InputError, OutputError, UnknownNameError
from vitsmith.exporters import onnx as export_module
from vitsmith.exporters.gate import Gate
from vitsmith.exporters.onnx import layer_outputs, write_graph
from vitsmith.exporters.parts import parts_of
from vitsmith.gate import Requirements, first_difference
from vitsmith.models.configure import change

FAMILIES = ["vit-token", "vit-timm", "hybrid-stages", "mixer"]


def tiny_bundle(name: str) -> Bundle:
    names = Labels(names=("a", "b", "c", "d", "e"))
    measured = (Measurement(metric="top1", value=0.9, data="pets"), Measurement(metric="images_per_second", value=50))
    bundle = Bundle.of(tiny_model(CONFIGS[name]), labels=names, measurements=measured)
    return bundle.with_golden(pictures(2))


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Bundle, Bundle]]:
    """(torch bundle, exported bundle) of a family, made once."""
    made: dict[str, tuple[Bundle, Bundle]] = {}

    def export(name: str) -> tuple[Bundle, Bundle]:
        if name not in made:
            bundle = tiny_bundle(name)
            exported, verdict = export_onnx(bundle, tmp_path_factory.mktemp("exports") / name)
            assert verdict.passed and verdict.num_images == 14 and verdict.agreement == 1.0 and verdict.relative < 1e-5
            made[name] = bundle, exported
        return made[name]

    return export


@pytest.mark.parametrize("name", FAMILIES)
def test_the_exported_program_gives_the_same_logits_for_any_batch(name: str, exports: Any) -> None:
    bundle, exported = exports(name)
    run = open_engine(exported).run
    for batch in (1, 2, 7):
        images = tiny_inputs(bundle.config, batch, seed=batch)[0].numpy()
        expected, found = bundle.run_torch(images), run(images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_of_a_good_graph_agrees(name: str, exports: Any) -> None:
    """Otherwise the gate would name the wrong layer."""
    bundle, exported = exports(name)
    copy = exported.folder.parent / f"{name}.onnx"
    copy.write_bytes((exported.folder / "model.onnx").read_bytes())
    images = tiny_inputs(bundle.config, 2)[0].numpy()
    layers = list(layer_outputs(parts_of(bundle, images)[0], copy, images))
    assert first_difference(layers, 1e-4) == ""
    order = [name for name, _, _ in layers]
    front = "resnet.root" if bundle.config.family == "vit" and bundle.config.resnet else "patches"
    milestones = [front, "blocks.0", "blocks.1", "head"]
    assert [name for name in order if name in milestones] == milestones


def test_the_graph_is_what_engines_want(exports: Any) -> None:
    _, exported = exports("vit-token")
    graph = onnx.load(exported.folder / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    operators = [node.op_type for node in graph.graph.node]
    assert operators.count("LayerNormalization") == 5 and operators.count("Gelu") == 2
    batch = graph.graph.input[0].type.tensor_type.shape.dim[0]
    assert graph.graph.input[0].name == "images" and batch.dim_param and not batch.dim_value
    assert graph.graph.output[0].name == "logits"


def test_the_graph_names_no_place_of_the_machine_that_made_it(exports: Any) -> None:
    data = (exports("vit-token")[1].folder / "model.onnx").read_bytes()
    places = (Path(vitsmith.__file__).parent, Path(torch.__file__).parent, Path.home())
    assert [place for place in places if str(place).encode() in data] == [] and b"stack_trace" not in data


def test_the_exported_bundle_keeps_what_belongs_to_the_model(exports: Any) -> None:
    bundle, exported = exports("vit-token")
    loaded = load(exported.folder)
    assert sorted(path.name for path in exported.folder.iterdir()) == [
        "README.md", "bundle.json", "golden.safetensors", "model.onnx",
    ]  # fmt: skip
    assert loaded.program == "onnx" and loaded.labels == bundle.labels and loaded.preprocessing == bundle.preprocessing
    assert np.array_equal(loaded.golden.outputs, bundle.golden.outputs)
    assert loaded.provenance.parent == bundle.where
    assert loaded.measurements == ()
    assert loaded.provenance.notes[-1] == "measured before export: top1 0.9 (pets)"
    with pytest.raises(BundleError, match="holds an exported program"):
        _ = loaded.model
    with pytest.raises(InputError, match="is a bundle for the 'onnx' engine, not 'torch'"):
        open_engine(loaded, "torch")
    with pytest.raises(InputError, match=r"not 'onnx'; make one with  vitsmith export --to onnx"):
        open_engine(bundle, "onnx")
    with pytest.raises(UnknownNameError, match="unknown engine 'tensorrt'"):
        open_engine(loaded, "tensorrt")
    with pytest.raises(InputError, match=r"already exported \(model\.onnx\)"):
        export_onnx(loaded, exported.folder.parent / "again")


def test_weights_beside_the_graph(exports: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Protobuf ends at 2 GiB; larger models have their weights in a second file, which is hashed too."""
    monkeypatch.setattr(export_module, "LARGEST_SINGLE_FILE", 0)
    bundle, _ = exports("vit-token")
    exported, _ = export_onnx(bundle, tmp_path / "large")
    assert {"model.onnx", "model.onnx.data"} <= {path.name for path in exported.folder.iterdir()}
    images = tiny_inputs(bundle.config, 3)[0].numpy()
    np.testing.assert_allclose(open_engine(exported).run(images), bundle.run_torch(images), atol=1e-5)
    data = exported.folder / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1] + b"\x01")
    with pytest.raises(BundleError, match=r"model\.onnx\.data is not the file"):
        load(exported.folder)


# --- the gate --------------------------------------------------------------------------------------------------------


def sabotage(monkeypatch: pytest.MonkeyPatch, good: Path, change_graph: Callable[[Any], None]) -> None:
    """Lets the exporter write `good` with a change in it."""

    def write_other(_: Any, path: Path, *, batch: int | None) -> None:
        graph = onnx.load(good.with_name(path.name))
        change_graph(graph)
        onnx.save(graph, path)

    monkeypatch.setattr(export_module, "write_graph", write_other)


def shift(name: str) -> Callable[[Any], None]:
    def change_graph(graph: Any) -> None:
        (array,) = [array for array in graph.graph.initializer if array.name == name]
        values = numpy_helper.to_array(array).copy()
        values.reshape(-1)[::2] += 0.5  # not all of them: norms and weight standardisation would take that away
        array.CopyFrom(numpy_helper.from_array(values, name))

    return change_graph


@pytest.mark.parametrize(
    ("name", "weight", "layer"),
    [
        ("vit-token", "patches.projection.bias", "patches.projection"),
        ("vit-token", "blocks.1.mlp.widen.bias", "blocks.1.mlp.widen"),
        ("vit-token", "blocks.0.attention.out.bias", "blocks.0.attention.out"),
        ("hybrid-stages", "resnet.stages.0.1.conv2.weight", "resnet.stages.0.1.conv2"),
        ("mixer", "blocks.1.channel_mixing.narrow.bias", "blocks.1.channel_mixing.narrow"),
    ],
)
def test_a_graph_that_differs_is_refused_and_the_layer_is_named(
    name: str, weight: str, layer: str, exports: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, exported = exports(name)
    sabotage(monkeypatch, exported.folder / "model.onnx", shift(weight))
    with pytest.raises(GateError, match=rf"nothing was written: .*the first layer that differs is {layer} \(relative"):
        export_onnx(bundle, tmp_path / "refused")
    assert not list(tmp_path.iterdir())


def test_a_graph_frozen_at_one_batch_is_refused(exports: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, exported = exports("vit-token")

    def freeze(graph: Any) -> None:
        dimension = graph.graph.input[0].type.tensor_type.shape.dim[0]
        dimension.ClearField("dim_param")
        dimension.dim_value = 1

    sabotage(monkeypatch, exported.folder / "model.onnx", freeze)
    with pytest.raises(GateError, match=r"nothing was written: .* for a batch of exactly 1"):
        export_onnx(bundle, tmp_path / "refused")
    assert not list(tmp_path.iterdir())


def test_the_callers_images_and_thresholds_count(exports: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, exported = exports("vit-token")
    sabotage(monkeypatch, exported.folder / "model.onnx", lambda graph: None)
    _, verdict = export_onnx(bundle, tmp_path / "mine", gate=Gate(images=pictures(3)))
    assert verdict.num_images == 3
    with pytest.raises(GateError, match=r"allowed 1e-12"):
        strict = Gate(images=pictures(3), requirements=Requirements(relative=1e-12))
        export_onnx(bundle, tmp_path / "strict", gate=strict)
    assert not (tmp_path / "strict").exists()
    for asked, problem in (
        (Requirements(speedup=2), "does not measure speedup"),
        (Requirements(strict=True), r"labelled images \(`data`\)"),
    ):
        with pytest.raises(InputError, match=problem):
            export_onnx(bundle, tmp_path / "strict", gate=Gate(requirements=asked))


def test_a_place_that_cannot_be_written_loses_nothing(exports: Any, tmp_path: Path, monkeypatch: Any) -> None:
    bundle, exported = exports("vit-token")
    sabotage(monkeypatch, exported.folder / "model.onnx", lambda graph: None)
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt", tmp_path / "notes.txt" / "model"):
        with pytest.raises(OutputError):
            export_onnx(bundle, place)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_full_temporary_folder_is_told_as_such(exports: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Another --out would not help."""

    def write_nothing(_: Any, path: Path, *, batch: int | None) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(export_module, "write_graph", write_nothing)
    with pytest.raises(OutputError, match=r"in a temporary folder: .*No space left on device.*setting TMPDIR") as told:
        export_onnx(exports("vit-token")[0], tmp_path / "model")
    assert "\n" not in str(told.value) and not list(tmp_path.iterdir())


def test_models_without_a_head_are_exported_as_features(tmp_path: Path) -> None:
    bundle = Bundle.of(tiny_model(change(CONFIGS["vit-token"], classes=0)))
    images = tiny_inputs(bundle.config, 1)[0]
    write_graph(parts_of(bundle, images.numpy())[0], tmp_path / "features.onnx")
    found = export_module.open_session(tmp_path / "features.onnx").run(None, {"images": images.numpy()})[0]
    torch.testing.assert_close(torch.from_numpy(found), bundle.model.features(images).pooled, rtol=0, atol=1e-5)


def test_files_that_are_no_graph_are_refused(exports: Any, tmp_path: Path) -> None:
    _, exported = exports("vit-token")
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"model\.onnx cannot be opened by onnxruntime") as refused:
        open_engine(dataclasses.replace(exported, folder=tmp_path))
    assert "\n" not in str(refused.value)


# --- two towers ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["lit-bert", "lit-transformer", "lit-bias"])
def towers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    bundle = tiny_lit(request.param).with_golden(pictures(2))
    exported, verdict = export_onnx(bundle, tmp_path_factory.mktemp("exports") / request.param)
    assert verdict.num_images > 8 and verdict.num_texts > 0 and verdict.embeddings, "of both towers"
    return bundle, exported


def test_both_towers_are_programs_of_their_own(towers: tuple[Bundle, Bundle]) -> None:
    bundle, exported = towers
    names = {path.name for path in exported.folder.iterdir()}
    assert {"model.onnx", "text.onnx", "bundle.json", "golden.safetensors"} <= names and len(names) == 6
    engine = open_engine(load(exported.folder))
    for batch in (1, 2, 7):
        images, tokens = (inputs.numpy() for inputs in tiny_inputs(bundle.config, batch, seed=batch))
        np.testing.assert_allclose(engine.run(images), bundle.run_torch(images), rtol=0, atol=1e-5)
        tokens = tokens.astype(np.int32)
        np.testing.assert_allclose(engine.run_texts(tokens), bundle.run_texts_torch(tokens), rtol=0, atol=1e-5)


def test_an_exported_lit_keeps_its_text_side_and_its_name(towers: tuple[Bundle, Bundle]) -> None:
    bundle, exported = towers
    loaded = load(exported.folder)
    assert loaded.text == bundle.text and loaded.vocabulary == bundle.vocabulary
    assert loaded.similarity == bundle.similarity and loaded.identity == bundle.identity
    texts = ["a photo of a cat", "b"]
    expected, found = Encoder(bundle).texts(texts), Encoder(loaded).texts(texts)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert loaded.similarity.temperature == pytest.approx(float(np.exp(bundle.model.log_temperature.item())), rel=1e-6)
    bias = bundle.model.logit_bias
    assert loaded.similarity.bias == (None if bias is None else bias.item())


def test_a_text_tower_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_lit("lit-bert").with_golden(pictures(2))
    exported, _ = export_onnx(bundle, tmp_path / "good")

    def spoil(graph: Any) -> None:
        if any(array.name == "tower.words.weight" for array in graph.graph.initializer):
            shift("tower.blocks.1.mlp.widen.bias")(graph)

    sabotage(monkeypatch, exported.folder / "model.onnx", spoil)
    problem = r"\(text\) was refused, nothing was written: .*differs is tower\.blocks\.1\.mlp\.widen"
    with pytest.raises(GateError, match=problem):
        export_onnx(bundle, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()

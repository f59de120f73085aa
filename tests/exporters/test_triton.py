"""Triton repositories: configurations read by Triton's own protocol buffers, held against the programs themselves."""

from __future__ import annotations

import dataclasses
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.exporting import export_triton
from tests.tiny import CONFIGS, pictures, tiny_lit, tiny_model
from vitsmith import Bundle, Labels, Predictor, load, save
from vitsmith.encode import Encoder
from vitsmith.engines.onnx.session import open_session
from vitsmith.errors import GateError, InputError, OutputError
from vitsmith.exporters import onnx as export_module
from vitsmith.exporters.triton import Served, ServedTensor, _model_names, config_text
from vitsmith.models.presets import presets
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.folder import write_bundle

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2
    from tritonclient.utils import np_to_triton_dtype

NAMES = ("a", 'quoted "b"', "two\nlines", "d", "écureuil")


def config_of(folder: Path) -> Any:
    """What Triton reads. Raises ParseError for an unknown field or a wrong type."""
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def run_as_triton(folder: Path, batch: np.ndarray) -> np.ndarray:
    """What the onnxruntime backend would do with a request: names, types and shapes as the configuration says."""
    config = config_of(folder)
    (given,), (wanted,) = config.input, config.output
    assert f"TYPE_{np_to_triton_dtype(batch.dtype)}" == model_config_pb2.DataType.Name(given.data_type)
    shape = batch.shape[1:] if config.max_batch_size else batch.shape
    assert len(batch) <= (config.max_batch_size or len(batch)) and tuple(given.dims) == shape
    session = open_session(folder / "1" / config.default_model_filename)
    (outputs,) = session.run([wanted.name], {given.name: batch})
    assert f"TYPE_{np_to_triton_dtype(outputs.dtype)}" == model_config_pb2.DataType.Name(wanted.data_type)
    assert tuple(wanted.dims) == (outputs.shape[1:] if config.max_batch_size else outputs.shape)
    return outputs


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.of(tiny_model(CONFIGS["vit-token"]), labels=Labels.as_found(NAMES)).with_golden(pictures(2))


@pytest.fixture(scope="module")
def made(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle]:
    """A repository, and the bundle in it."""
    folder = tmp_path_factory.mktemp("triton") / "repository"
    exported, verdict = export_triton(bundle, folder)
    assert verdict is not None and verdict.passed
    return folder, exported


def test_the_repository_is_what_triton_loads(made: tuple[Path, Bundle]) -> None:
    folder, _ = made
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    inside = {"README.md", "bundle.json", "golden.safetensors", "model.onnx"}
    assert names == {"vit/config.pbtxt", "vit/labels.txt"} | {f"vit/1/{name}" for name in inside}
    config = config_of(folder / "vit")
    assert (config.name, config.backend, config.max_batch_size) == ("vit", "onnxruntime", 32)
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 16, 32]
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    (group,) = config.instance_group
    assert group.count == 1 and group.kind == model_config_pb2.ModelInstanceGroup.KIND_AUTO
    assert config.parameters["intra_op_thread_count"].string_value == "0"
    assert (folder / "vit" / config.output[0].label_filename).read_text().splitlines() == [
        "a", 'quoted "b"', "two lines", "d", "écureuil",
    ]  # fmt: skip
    (warmup,) = config.model_warmup
    first = warmup.inputs[config.input[0].name]
    assert warmup.batch_size == 1 and first.zero_data and first.data_type == config.input[0].data_type
    assert list(first.dims) == list(config.input[0].dims) == [3, 16, 24]


def test_the_configuration_is_the_programs(made: tuple[Path, Bundle], bundle: Bundle) -> None:
    folder, _ = made
    tensors = bundle.golden.tensors
    for batch in (tensors[:1], tensors, np.resize(tensors, (7, *tensors.shape[1:]))):
        np.testing.assert_allclose(run_as_triton(folder / "vit", batch), bundle.run_torch(batch), atol=1e-5)
    graph = onnx.load(folder / "vit/1/model.onnx").graph
    config = config_of(folder / "vit")
    assert [one.name for one in graph.input] == [one.name for one in config.input] == ["images"]
    assert [one.name for one in graph.output] == [one.name for one in config.output] == ["logits"]


def test_the_version_folder_is_a_bundle(made: tuple[Path, Bundle], bundle: Bundle) -> None:
    folder, exported = made
    loaded = load(folder / "vit/1")
    assert exported.folder == folder / "vit/1" and loaded.labels == bundle.labels
    assert loaded.provenance.source == "vitsmith export --to triton" and loaded.provenance.parent == bundle.where
    np.testing.assert_allclose(Predictor(loaded).logits(pictures(2)), Predictor(bundle).logits(pictures(2)), atol=1e-5)


def test_a_program_that_is_there_is_taken_as_it_is(made: tuple[Path, Bundle], tmp_path: Path) -> None:
    folder, exported = made
    int8 = dataclasses.replace(exported, program_spec=ProgramSpec(precision="int8"), labels=None, golden=None)
    program = folder / "vit/1/model.onnx"
    source = write_bundle(
        int8, tmp_path / "int8", write_program=lambda place: shutil.copyfile(program, place / "model.onnx") and None
    )
    again, verdict = export_triton(source, tmp_path / "repository", name="pets-1.0")
    assert verdict is None and again.provenance.parent == str(tmp_path / "int8")
    assert (again.folder / "model.onnx").read_bytes() == program.read_bytes()
    config = config_of(tmp_path / "repository/pets-1.0")
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU  # int8 is for processors
    assert not config.output[0].label_filename and not (tmp_path / "repository/pets-1.0/labels.txt").exists()


def test_clients_are_told_what_the_outputs_mean(made: tuple[Path, Bundle], tmp_path: Path) -> None:
    folder, exported = made
    assert config_of(folder / "vit").parameters["head"].string_value == "softmax"
    assert "temperature" not in config_of(folder / "vit").parameters
    calibrated = dataclasses.replace(exported, head="sigmoid").with_calibration(1.7, (0.1, 0.25, 0.5, 0.75, 1))
    again, _ = export_triton(calibrated, tmp_path / "repository")
    assert again.calibration == calibrated.calibration
    told = {key: one.string_value for key, one in config_of(tmp_path / "repository/vit").parameters.items()}
    assert told == {
        "intra_op_thread_count": "0",
        "head": "sigmoid",
        "temperature": "1.7",
        "thresholds": "0.1,0.25,0.5,0.75,1",
    }
    (logits,) = run_as_triton(tmp_path / "repository/vit", exported.golden.tensors[:1])
    probabilities = 1 / (1 + np.exp(-logits / float(told["temperature"])))
    (expected,) = Predictor(again)(exported.golden.images[:1])
    np.testing.assert_allclose(probabilities, expected.probabilities, rtol=1e-4)
    with pytest.raises(InputError, match="save the bundle elsewhere, and export that to triton again"):
        save(again.with_calibration(2.0), again.folder)


@pytest.mark.parametrize("spec", [ProgramSpec(batch=4), ProgramSpec(pixels=True)])
def test_batch_and_pixels_are_said(spec: ProgramSpec, bundle: Bundle, tmp_path: Path) -> None:
    exported, _ = export_triton(bundle, tmp_path / "repository", spec=spec, device="gpu")
    folder = tmp_path / "repository/vit"
    config = config_of(folder)
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    if spec.batch:
        assert config.max_batch_size == 0 and not config.HasField("dynamic_batching")
        assert list(config.input[0].dims) == [4, 3, 16, 24] and list(config.output[0].dims) == [4, 5]
        assert not config.output[0].label_filename  # one list of names for four images would be wrong
        batch = np.resize(bundle.golden.tensors, (4, 3, 16, 24))
        assert list(config.model_warmup[0].inputs["images"].dims) == [4, 3, 16, 24]
    else:
        assert list(config.input[0].dims) == [16, 24, 3]
        assert config.input[0].data_type == model_config_pb2.TYPE_UINT8
        batch = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), np.uint8)
    expected = bundle.run_torch(batch) if spec.batch else Predictor(exported).engine.run_pixels(batch)
    np.testing.assert_allclose(run_as_triton(folder, batch), expected, atol=1e-4 * np.abs(expected).max())


def test_lit_becomes_two_models(tmp_path: Path) -> None:
    lit = tiny_lit().with_golden(pictures(2))
    exported, verdict = export_triton(lit, tmp_path / "repository", name="pair")
    assert verdict is not None and verdict.passed
    assert sorted(path.name for path in (tmp_path / "repository").iterdir()) == ["pair-image", "pair-text"]
    encoder, texts = Encoder(lit), ["a cat", "the red circle"]
    images = run_as_triton(tmp_path / "repository/pair-image", lit.golden.tensors)
    np.testing.assert_allclose(images, encoder.images(pictures(2)), atol=1e-5)
    tokens = lit.tokenizer(texts)
    config = config_of(tmp_path / "repository/pair-text")
    assert config.default_model_filename == "text.onnx" and config.name == "pair-text"
    np.testing.assert_allclose(
        run_as_triton(tmp_path / "repository/pair-text", tokens), encoder.texts(texts), atol=1e-5
    )
    np.testing.assert_allclose(Encoder(load(exported.folder)).texts(texts), encoder.texts(texts), atol=1e-5)


def test_weights_beside_the_graph_come_along(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "LARGEST_SINGLE_FILE", 0)
    export_triton(bundle, tmp_path / "repository")
    assert (tmp_path / "repository/vit/1/model.onnx.data").exists()
    run_as_triton(tmp_path / "repository/vit", bundle.golden.tensors)


def openvino_program(place: Path, source: Path, precision: str, bundle: Bundle) -> Bundle:
    """The same program for OpenVINO, converted by its own tool."""
    openvino = pytest.importorskip("openvino")

    def write(files: Path) -> None:
        openvino.save_model(openvino.convert_model(source), files / "model.xml", compress_to_fp16=False)

    spec = ProgramSpec(precision=precision)  # type: ignore[arg-type]
    other = dataclasses.replace(bundle, program="openvino", program_spec=spec, golden=None)
    return write_bundle(other, place, write_program=write)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_openvino_program_has_its_own_backend(precision: str, made: tuple[Path, Bundle], tmp_path: Path) -> None:
    folder, exported = made
    source = openvino_program(tmp_path / "openvino", folder / "vit/1/model.onnx", precision, exported)
    export_triton(source, tmp_path / "repository")
    config = config_of(tmp_path / "repository/vit")
    assert (config.backend, config.default_model_filename, config.max_batch_size) == ("openvino", "model.xml", 0)
    assert (config.input[0].name, list(config.input[0].dims)) == ("images", [-1, 3, 16, 24])
    assert (config.output[0].name, list(config.output[0].dims)) == ("logits", [-1, 5])
    assert config.parameters["PERFORMANCE_HINT"].string_value == "THROUGHPUT"
    assert ("HINT_BF16" in config.parameters) is (precision == "bf16")
    assert {path.name for path in (tmp_path / "repository/vit/1").iterdir()} >= {"model.xml", "model.bin"}
    assert list(config.model_warmup[0].inputs["images"].dims) == [1, 3, 16, 24]


def test_names_of_published_models_are_names_for_triton(bundle: Bundle) -> None:
    for name, preset in presets().items():
        model = dataclasses.replace(bundle)
        model.config = preset.config
        for served in _model_names(model, ""):
            assert served.isascii() and not set(served) & set('/\\ +"'), (name, served)
            assert served.startswith(name.replace("+", "-"))


def test_what_is_refused_leaves_everything_as_it_was(
    bundle: Bundle, made: tuple[Path, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(path: Path) -> None:
        graph = onnx.load(path)
        (bias,) = [array for array in graph.graph.initializer if array.name == "head.bias"]
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias)[::-1].copy(), "head.bias"))
        onnx.save(graph, path)

    refusals: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: export_triton(dataclasses.replace(bundle, program="executorch"), tmp_path), InputError, "already"),
        (lambda: export_triton(bundle, tmp_path / "new", name="a/b"), InputError, "cannot name a model in Triton"),
        (lambda: export_triton(bundle, made[0], name="other"), OutputError, "holds vit, which would be lost"),
        (lambda: export_triton(bundle, made[0] / "vit/1"), OutputError, "holds README.md, bundle.json, golden"),
    ]
    for export, error, words in refusals:
        with pytest.raises(error, match=words) as told:
            export()
        assert "\n" not in str(told.value)
    good = made[1].folder / "model.onnx"

    def write_spoilt(_: Any, path: Path, *, batch: int | None) -> None:
        shutil.copyfile(good, path)
        spoil(path)

    monkeypatch.setattr(export_module, "write_graph", write_spoilt)
    with pytest.raises(GateError, match="nothing was written"):
        export_triton(bundle, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_an_existing_repository_of_the_same_model_is_replaced(made: tuple[Path, Bundle], tmp_path: Path) -> None:
    copy = shutil.copytree(made[0], tmp_path / "repository")
    (copy / "vit/1/README.md").write_text("old")
    export_triton(load(made[0] / "vit/1"), copy)
    assert (copy / "vit/1/README.md").read_text() != "old"
    shutil.copytree(copy / "vit/1", copy / "vit/2")
    with pytest.raises(OutputError, match="holds vit/2, which would be lost"):
        export_triton(load(made[0] / "vit/1"), copy)
    assert (copy / "vit/2/model.onnx").is_file()


def test_a_processor_can_be_asked_for() -> None:
    tensor = ServedTensor("images", "TYPE_FP32", (-1, 3, 8, 8))
    text = config_text(
        Served("m", "model.onnx", tensor, ServedTensor("logits", "TYPE_FP32", (-1, 2))), ProgramSpec(), "cpu"
    )
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
    assert list(config.input[0].dims) == [3, 8, 8] and list(config.output[0].dims) == [2]

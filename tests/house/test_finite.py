"""NaN and infinity are refused wherever they enter or leave, and named: the array, the image or the number."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import vitsmith as vs
from tests.command_line import call
from tests.exporting import export_onnx
from tests.reference import fill
from tests.tiny import CONFIGS, VIT, pictures, released_npz, small_cases, tiny_lit, tiny_model
from tests.training.small_runs import coloured, recipe, splits, training
from tests.weights.foreign_files import HF_CONFIG, TIMM_CONFIG
from tests.weights.foreign_files import written as foreign_written
from tests.weights.foreign_reference import hf_vit, timm_vit
from vitsmith.compress.images import TaskImages
from vitsmith.compress.prune.run import _stage
from vitsmith.data.sets.samples import Samples
from vitsmith.encode import Encoder
from vitsmith.engines.open import open_engine
from vitsmith.engines.program import ProgramEngine
from vitsmith.errors import ConfigError, GateError, ImageError, InputError, NotFiniteError
from vitsmith.exporters.gate import Gate, with_accuracy
from vitsmith.exporters.run import export
from vitsmith.finite import count_not_finite, require_finite, rows_not_finite
from vitsmith.gate import Requirements, Verdict, compare
from vitsmith.json_text import to_json, with_nulls
from vitsmith.models.config import LiTConfig
from vitsmith.models.configure import change, parse_config
from vitsmith.predict import softmax
from vitsmith.runs.run import Run
from vitsmith.specs import ImageSpec, Labels, ProgramSpec, Similarity
from vitsmith.training.checkpoint.disk import CheckpointWriter
from vitsmith.training.devices import Devices
from vitsmith.training.images.teacher import Teacher
from vitsmith.training.lit.embeddings import EmbeddingStore
from vitsmith.training.monitor.events import StepDone
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.model import WEIGHTS
from vitsmith.weights.containers.tensors import SafetensorsFile, TorchFile

BAD = [math.nan, math.inf, -math.inf]


def damaged(bundle: Bundle, value: float = math.nan, name: str = "head.bias") -> Bundle:
    """The bundle with one value of one parameter changed in memory."""
    with torch.no_grad():
        bundle.model.get_parameter(name).view(-1)[0] = value
    return bundle


def picture_files(folder: Path, count: int = 3) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(count)]
    for path, pixels in zip(paths, pictures(count), strict=True):
        Image.fromarray(pixels).save(path)
    return paths


# counting


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_values_are_counted_in_arrays_and_tensors(kind: Any) -> None:
    largest = np.finfo(kind).max
    for values, expected in [
        ([], 0),
        ([0.0, -0.0, np.finfo(kind).smallest_subnormal], 0),
        ([largest] * 9, 0),  # their sum is infinite, they are not
        ([largest, -largest] * 5, 0),
        ([np.nan, 1, np.inf, -np.inf, 2], 3),
        ([np.inf, -np.inf], 2),
    ]:
        array = np.array(values, kind)
        assert count_not_finite(array) == expected
        assert count_not_finite(torch.from_numpy(array)) == expected
    assert count_not_finite(torch.tensor([3e38, 3e38, math.nan], dtype=torch.bfloat16)) == 1
    assert count_not_finite(np.arange(5)) == 0


def test_rows_and_arrays_are_named() -> None:
    outputs = np.zeros((4, 2, 3), np.float32)
    outputs[1, 0, 2], outputs[3, 1, 0] = np.nan, np.inf
    assert rows_not_finite(outputs) == [1, 3]
    arrays = [(f"array {n}", np.array([1.0, np.nan] if n else [1.0])) for n in range(7)]
    with pytest.raises(NotFiniteError) as refused:
        require_finite(arrays, "x.npz", "take another")
    assert str(refused.value) == (
        "x.npz has weights that are not finite (NaN or infinity): array 1 (1 of 2 values), array 2 (1 of 2 values), "
        "array 3 (1 of 2 values), array 4 (1 of 2 values) and 2 arrays more; take another"
    )


# weights that enter


LAYOUT = small_cases()["small-vit-token"]["layout"]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", ["head/bias", "Transformer/encoder_norm/scale", "embedding/kernel"])
def test_weights_of_an_npz_are_refused_by_name(
    tmp_path: Path, name: str, value: float, capsys: pytest.CaptureFixture[str]
) -> None:
    array = fill.weight(name, tuple(LAYOUT[name]))
    array.reshape(-1)[1] = value
    path = released_npz(tmp_path / "x.npz", LAYOUT, {name: array.astype(np.float16)})
    expected = rf"x\.npz has weights that are not finite \(NaN or infinity\): {name} \(1 of {array.size:,} values\)"
    with pytest.raises(NotFiniteError, match=expected):
        vs.load(path)
    for verb in (["inspect", str(path)], ["predict", str(path), *map(str, picture_files(tmp_path / "images"))]):
        code, out, err = call(capsys, *verb)
        assert (code, out) == (2, "") and f"{name} (1 of" in err and err.count("\n") == 1


def test_what_float32_cannot_hold_is_refused(tmp_path: Path) -> None:
    array = fill.weight("head/bias", tuple(LAYOUT["head/bias"])).astype(np.float64)
    array[0] = 1e300
    with pytest.raises(NotFiniteError, match=r"head/bias \(1 of"):
        vs.load(released_npz(tmp_path / "x.npz", LAYOUT, {"head/bias": array}))


def test_a_head_that_is_left_out_is_not_looked_at(tmp_path: Path) -> None:
    array = np.full(LAYOUT["head/bias"], np.nan, np.float32)
    bundle = vs.load(released_npz(tmp_path / "x.npz", LAYOUT, {"head/bias": array}), headless=True)
    assert bundle.classes == 0


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
def test_weights_of_timm_and_hf_are_refused_by_name(tmp_path: Path, name: str, value: float) -> None:
    state = timm_vit()
    state["blocks.1.mlp.fc1.bias"][3] = value
    with pytest.raises(NotFiniteError, match=rf"{name} has weights .*: blocks\.1\.mlp\.fc1\.bias \(1 of"):
        (tmp_path / "timm").mkdir()
        vs.load(foreign_written(tmp_path / "timm", state, TIMM_CONFIG, name))
    state = hf_vit()
    state["classifier.bias"][:2] = value
    with pytest.raises(NotFiniteError, match=r"classifier.bias \(2 of 5 values\)"):
        (tmp_path / "hf").mkdir()
        vs.load(foreign_written(tmp_path / "hf", state, HF_CONFIG, name))


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (torch.tensor([1.0, math.inf], dtype=torch.float16), 1),
        (torch.tensor([math.nan, 1.0], dtype=torch.bfloat16), 1),
        (torch.tensor([1e300, 2.0], dtype=torch.float64), 1),  # float32 cannot hold it
        (torch.tensor([65504.0, 6e-8], dtype=torch.float16), 0),
    ],
)
def test_every_type_of_number_is_looked_at_as_float32(tmp_path: Path, array: torch.Tensor, found: int) -> None:
    save_file({"a": array}, tmp_path / "x.safetensors")
    torch.save({"a": array}, tmp_path / "x.pth")
    for opened in (SafetensorsFile(tmp_path / "x.safetensors"), TorchFile(tmp_path / "x.pth")):
        with opened as file:
            assert count_not_finite(file.read("a")) == found


def test_a_bundle_with_damaged_weights_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    vs.save(Bundle.of(tiny_model(VIT)), folder)
    arrays = load_file(folder / WEIGHTS)
    arrays["blocks.0.mlp.widen.weight"][2, 3] = math.nan
    save_file(arrays, folder / WEIGHTS)
    with pytest.raises(NotFiniteError, match=r"model\.safetensors has .* blocks\.0\.mlp\.widen\.weight \(1 of 1,536"):
        _ = vs.load(folder, verify=False).model


# weights that leave


@pytest.mark.parametrize("value", BAD)
def test_damaged_weights_are_never_saved(tmp_path: Path, value: float) -> None:
    for golden in (False, True):  # what a bundle has of golden answers does not hide the weights
        bundle = Bundle.of(tiny_model(VIT))
        bundle = damaged(bundle.with_golden(pictures(2)) if golden else bundle, value)
        for action in (
            lambda bundle=bundle: vs.save(bundle, tmp_path / "model"),
            lambda bundle=bundle: vs.save(bundle, tmp_path / "model.npz", format="npz"),
            lambda bundle=bundle: export_onnx(bundle, tmp_path / "onnx"),
            lambda bundle=bundle: vs.init_for_finetune(bundle, classes=3),
        ):
            with pytest.raises(NotFiniteError, match=r"head\.bias|output of"):
                action()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["half", "bfloat16", "double"])
def test_weights_of_another_type_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    bundle, lit = Bundle.of(tiny_model(VIT)), tiny_lit()
    getattr(bundle.model.head, kind)()  # a part is enough
    getattr(lit.model, kind)()
    name = kind if kind == "bfloat16" else {"half": "float16", "double": "float64"}[kind]
    for action in (
        lambda: vs.save(bundle, tmp_path / "model"),
        lambda: vs.Predictor(bundle, "torch"),
        lambda: bundle.run_torch(np.zeros((1, 3, *VIT.image_size), np.float32)),
        lambda: vs.Encoder(lit),
        lambda: lit.run_texts_torch(np.ones((2, 6), np.int32)),
        lambda: vs.save(lit, tmp_path / "lit"),
    ):
        with pytest.raises(InputError, match=rf"^created in memory has weights in {name}, .*\.float\(\)"):
            action()
    assert list(tmp_path.iterdir()) == []
    bundle.model.float()
    doubles = np.zeros((1, 3, *VIT.image_size))
    np.testing.assert_array_equal(bundle.run_torch(doubles), bundle.run_torch(doubles.astype(np.float32)))


# answers


class Broken:
    """A program whose second answer is not finite."""

    def __init__(self, width: int, value: float) -> None:
        self._width, self._value = width, value

    def run(self, inputs: np.ndarray) -> np.ndarray:
        outputs = np.zeros((len(inputs), self._width), np.float32)
        outputs[1:2, -1] = self._value
        return outputs


class BrokenEngine(ProgramEngine):
    name = "onnx"

    def __init__(self, bundle: Bundle, value: float) -> None:
        super().__init__(bundle)
        self._value = value

    @property
    def _program(self) -> Broken:
        return Broken(VIT.classes, self._value)

    def _open_texts(self, path: Path) -> Broken:
        return Broken(VIT.classes, self._value)

    def report(self) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("spec", [ProgramSpec(), ProgramSpec(precision="int8"), ProgramSpec(pixels=True)], ids=str)
def test_an_engine_gives_no_answer_that_is_not_finite(tmp_path: Path, value: float, spec: ProgramSpec) -> None:
    bundle = dataclasses.replace(Bundle.of(tiny_model(VIT)), program="onnx", program_spec=spec, folder=tmp_path)
    engine = BrokenEngine(bundle, value)
    images = np.zeros((3, 3, *VIT.image_size), np.float32)
    with pytest.raises(NotFiniteError, match="the model's output of image 1 of 3 is not finite"):
        engine.run(images)
    assert engine.run(images[:1]).shape == (1, 5) and engine.run(images[:0]).shape == (0, 5)
    images[2, 0, 0, 0] = value
    with pytest.raises(NotFiniteError, match=r"was given values that are not finite .*, in image 2 of 3"):
        engine.run(images[[0, 0, 2]])
    if spec.pixels:
        with pytest.raises(NotFiniteError, match="image 1 of 2"):
            engine.run_pixels(np.zeros((2, *VIT.image_size, 3), np.uint8))
    (tmp_path / "text.onnx").touch()
    with pytest.raises(NotFiniteError, match="text 1 of 2"):
        engine.run_texts(np.zeros((2, 6), np.int32))


def test_torch_gives_no_answer_that_is_not_finite() -> None:
    engine = open_engine(bundle := Bundle.of(tiny_model(VIT)), "torch")
    images = np.zeros((3, 3, *VIT.image_size), np.float32)
    images[1, 0, 0, 0] = math.nan
    with pytest.raises(NotFiniteError, match=r"was given values that are not finite .*, in image 1 of 3"):
        engine.run(images)
    images[1] = 0
    damaged(bundle, 3e38, "head.weight")
    damaged(bundle, 3e38, "head.bias")
    bundle.model.get_parameter("head.weight").data *= 1e38
    for run in (engine.run, bundle.run_torch):
        with pytest.raises(NotFiniteError, match="output of image 0 of 3"):
            run(images)
    lit = tiny_lit()
    texts = open_engine(lit, "torch")
    lit.model.text.head.weight.data.fill_(math.nan)
    for run in (texts.run_texts, lit.run_texts_torch):
        with pytest.raises(NotFiniteError, match="the model's output of text 0 of 2"):
            run(np.ones((2, 6), np.int32))


@pytest.mark.parametrize("program", ["onnx", "openvino", "executorch"])
def test_real_programs_refuse_what_is_not_finite(tmp_path: Path, program: str) -> None:
    bundle, _ = export(Bundle.of(tiny_model(change(VIT, depth=1))), tmp_path / program, program, ProgramSpec(), Gate())
    engine = open_engine(bundle, program)
    images = np.zeros((2, 3, *VIT.image_size), np.float32)
    assert np.isfinite(engine.run(images)).all()
    images[1, 0, 0, 0] = math.inf
    with pytest.raises(NotFiniteError, match="in image 1 of 2"):
        engine.run(images)


class SometimesNaN:
    """An engine of five classes for which bright images are too much."""

    name, precision, why = "torch", "float32", ""

    def run(self, images: np.ndarray) -> np.ndarray:
        bright = images.mean(axis=(1, 2, 3)) > 0.5
        if bright.any():
            raise NotFiniteError("too bright")
        return np.tile(np.arange(5, dtype=np.float32), (len(images), 1))


def test_the_image_is_named_and_the_others_are_answered() -> None:
    images = [np.full((20, 20, 3), value, np.uint8) for value in (0, 255, 100, 250)]
    predictor = vs.Predictor(Bundle.of(tiny_model(VIT)), SometimesNaN(), batch_size=3)  # type: ignore[arg-type]
    found = list(predictor.stream(images))
    assert [type(one).__name__ for one in found] == ["Prediction", "Failure", "Prediction", "Failure"]
    assert found[1].reason == (  # type: ignore[union-attr]
        "image 1: the model's output for it is not finite (NaN or infinity); use fp32, or another checkpoint"
    )
    with pytest.raises(NotFiniteError, match="image 1: the model's output for it is not finite"):
        predictor(images)
    with pytest.raises(NotFiniteError, match="image 1: the model's output for it is not finite"):
        predictor.logits(images)
    assert predictor.logits([images[0], images[2]]).shape == (2, 5)


def test_a_candidate_that_is_not_finite_fails_at_the_gate() -> None:
    images = np.zeros((2, 3, 4, 4), np.float32)
    verdict = compare(lambda x: np.ones((len(x), 3)), lambda x: np.full((len(x), 3), np.nan), images)
    assert not verdict.passed and verdict.relative == math.inf


def test_a_candidate_without_an_answer_to_one_image_fails_at_the_gate_of_export() -> None:
    bundle = Bundle.of(tiny_model(VIT), labels=Labels(names=tuple("abcde")))
    images = [np.full((20, 20, 3), value, np.uint8) for value in (0, 255)]
    samples = Samples(bundle.labels.names, images, ["0", "1"], np.array([0, 1]))  # type: ignore[union-attr]
    passed, required = Verdict(2, 0.0, 1.0, 1.0, ()), Requirements(accuracy_drop=100)
    with pytest.raises(GateError, match=r"export of created in memory was refused, nothing was written: image 1: .*"):
        with_accuracy(passed, bundle, bundle, SometimesNaN(), samples, required)  # type: ignore[arg-type]


def test_pruning_that_leaves_no_answers_is_refused_and_an_original_without_is_bad_input() -> None:
    bundle = damaged(Bundle.of(tiny_model(change(VIT, classes=3)), labels=Labels(names=splits().classes)))
    judged = TaskImages(splits().train, splits().val, True, "drawn")
    with pytest.raises(GateError, match=r"pruning of .* was refused, nothing was written: \d+ of \d+ images"):
        _stage("pruned", bundle, judged)
    with pytest.raises(NotFiniteError, match="images have logits that are not finite"):
        _stage("original", bundle, judged)


# embeddings


def zero_head(bundle: Bundle) -> Bundle:
    with torch.no_grad():
        for name, parameter in bundle.model.named_parameters():
            if name.startswith("norm."):
                parameter.zero_()
    return bundle


def test_an_image_without_a_direction_is_named() -> None:
    encoder = Encoder(zero_head(Bundle.of(tiny_model(change(VIT, classes=0)))))
    with pytest.raises(ImageError, match="image 0: its embedding is zero"):
        encoder.images(pictures(2))
    assert [one.reason.split(":")[0] for one in encoder.stream(pictures(2))] == ["image 0", "image 1"]  # type: ignore


def test_features_of_any_size_become_unit_vectors() -> None:
    bundle = Bundle.of(tiny_model(change(VIT, classes=0)))
    expected = Encoder(bundle).images(pictures(2))
    for factor in (1e30, 1e36, 1e-4):  # squares of the first two are beyond float32
        scaled = Bundle.of(tiny_model(change(VIT, classes=0)))
        scaled.model.norm.weight.data *= factor
        scaled.model.norm.bias.data *= factor
        np.testing.assert_allclose(Encoder(scaled).images(pictures(2)), expected, atol=2e-4)


def test_a_text_without_a_direction_is_named() -> None:
    bundle = tiny_lit()
    bundle.model.text.head.weight.data.zero_()
    bundle.model.text.head.bias.data.zero_()
    encoder = Encoder(bundle)
    with pytest.raises(InputError, match="text 0: its embedding is zero"):
        encoder.texts(["a cat", "a dog"])


@pytest.mark.parametrize(("value", "told"), [(100.0, "e to the 100, is inf"), (-200.0, "is 0.0")])
def test_a_temperature_that_means_nothing_is_refused(value: float, told: str) -> None:
    bundle = tiny_lit()
    bundle.model.log_temperature.data.fill_(value)
    with pytest.raises(NotFiniteError, match=told):
        _ = bundle.similarity


def test_scores_beyond_float32_are_refused() -> None:
    classifier = vs.ZeroShotClassifier(tiny_lit(), ["cat", "dog"], cache=False)
    classifier.similarity = Similarity(temperature=1e300)
    with pytest.raises(NotFiniteError, match="make scores that are not finite"):
        classifier(pictures(1))


# probabilities


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_softmax_of_extremes(kind: Any) -> None:
    largest = np.finfo(kind).max
    assert softmax(np.array([largest, -largest, 0], kind)).tolist() == [1, 0, 0]
    assert softmax(np.array([largest, largest], kind)).tolist() == [0.5, 0.5]
    assert softmax(np.array([-largest, -largest], kind)).tolist() == [0.5, 0.5]
    assert softmax(np.array([[1e38, 1e38, -1e38]], kind)).tolist() == [[0.5, 0.5, 0]]
    assert softmax(np.array([-0.0, 0.0, 5e-324], kind)).tolist() == pytest.approx([1 / 3] * 3)
    many = np.random.default_rng(0).normal(size=21_843).astype(kind)
    assert abs(float(softmax(many).sum(dtype=np.float64)) - 1) < 1e-6


# descriptions


@pytest.mark.parametrize("value", BAD)
def test_no_description_holds_such_a_number(value: float) -> None:
    for make in (
        lambda: vs.ImageSpec(size=(2, 2), mean=(value, 0, 0)),
        lambda: vs.ImageSpec(size=(2, 2), std=(1, value, 1)),
        lambda: vs.ImageSpec(size=(2, 2), resize="shorter", crop=value),
        lambda: Similarity(temperature=value),
        lambda: Similarity(temperature=1, bias=value),
        lambda: vs.Measurement(metric="top1", value=value),
        lambda: vs.Measurement(metric="top1", value=1, low=value),
    ):
        with pytest.raises(ConfigError):
            make()
    for config in (VIT, CONFIGS["mixer"], CONFIGS["lit-bert"]):
        fields = config.model_dump()
        (fields["text"] if isinstance(config, LiTConfig) else fields)["norm_eps"] = value
        with pytest.raises(InputError, match="norm_eps"):
            parse_config(fields)
    with pytest.raises(ConfigError):
        Similarity(temperature=0)


# JSON


def test_json_has_neither_nan_nor_infinity() -> None:
    value = {"rows": [{"name": "a", "ratio": 1.0}, {"name": "b", "ratio": math.inf}], "n": 3}
    with pytest.raises(NotFiniteError, match=r"^rows\.1\.ratio is not finite"):
        to_json(value)
    with pytest.raises(NotFiniteError, match=r"^the result is not finite"):
        to_json(math.nan)
    assert with_nulls(value)["rows"][1] == {"name": "b", "ratio": None}
    plain = {"ä": [1, 2.5, None, True, "x"], "b": (1, 2)}
    assert to_json(plain, indent=2) == json.dumps(plain, indent=2, ensure_ascii=False)
    assert to_json(plain, ascii_only=True, sort_keys=True) == json.dumps(plain, sort_keys=True)
    with pytest.raises(ValueError, match="Circular"):
        plain["b"] = plain
        to_json(plain)


def test_the_package_writes_json_in_one_place() -> None:
    package = Path(vs.__file__).parent
    writers = [path.name for path in package.rglob("*.py") if "json.dump" in path.read_text(encoding="utf-8")]
    assert writers == ["json_text.py"]


def test_the_log_of_a_run_has_nulls(tmp_path: Path) -> None:
    with Run("train", "x", tmp_path / "run") as run:
        run.log(event="step", loss=math.nan, norms=[1.0, math.inf])
        run.write_json("x.json", {"best": -math.inf})
    assert run.rows() == [{"event": "step", "loss": None, "norms": [1.0, None]}]
    assert json.loads((tmp_path / "run" / "x.json").read_text()) == {"best": None}


# training


@pytest.mark.parametrize("part", ["model", "optimizer", "ema"])
def test_a_checkpoint_that_nobody_could_go_on_from_is_not_written(tmp_path: Path, part: str) -> None:
    wanted = recipe(schedule={"steps": 4, "warmup": 0}, optimizer={"name": "adamw", "lr": 1e-3, "ema": 0.9})
    run = training(wanted, checkpoints=(writer := CheckpointWriter(tmp_path, 2)))

    def damage(event: object) -> None:
        if isinstance(event, StepDone) and event.step == 4:
            learner = run.task.state
            moments = next(iter(learner.optimizer.state.values()))
            assert learner.ema is not None
            averaged = [value for value in learner.ema.state_dict().values() if value.is_floating_point()]
            values = {"model": learner.model.head.bias.data, "optimizer": moments["exp_avg"], "ema": averaged[0]}
            values[part].fill_(math.nan)

    run.on_event = damage
    with pytest.raises(NotFiniteError, match=r"the run, after 4 updates, has weights .*; training diverged, .*lower"):
        run.go()
    writer.close()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_run_whose_answers_are_no_numbers_says_that_it_diverged() -> None:
    wanted = recipe(schedule={"steps": 1, "warmup": 0}, optimizer={"lr": 1e38})
    with pytest.raises(InputError, match=r"training diverged by step 1 \(the model's answers are not finite"):
        training(wanted).go()


def test_a_teacher_without_numbers_is_refused() -> None:
    classes = splits().classes
    bundle = Bundle.of(tiny_model(change(VIT, classes=3, image_size=(16, 16))), labels=Labels(names=classes))
    teacher = Teacher(bundle, classes, ImageSpec.original(16))
    images = torch.zeros(2, 3, 16, 16)
    assert teacher(images).isfinite().all()
    images[1] = math.inf
    with pytest.raises(NotFiniteError, match="the teacher created in memory gives answers that are not finite"):
        teacher(images)


def test_images_that_a_locked_tower_cannot_embed_are_named(tmp_path: Path) -> None:
    tower = tiny_model(change(VIT, classes=0, image_size=(16, 16)))
    tower.norm.weight.data.zero_()
    tower.norm.bias.data.zero_()
    store = EmbeddingStore(tmp_path, tower, vs.ImageSpec.original(16), "identity", Devices(torch.device("cpu")))
    with pytest.raises(NotFiniteError, match=r"^0: its embedding by the image tower is zero or not finite"):
        store.open("train", coloured(3))


# demands


def test_a_demand_that_is_no_number_is_met_by_nothing() -> None:
    for demand in (
        lambda: Requirements(relative=math.nan),
        lambda: Requirements(tie=math.nan),
        lambda: Requirements(accuracy_drop=math.nan),
        lambda: Requirements(agreement=math.nan),
        lambda: Requirements(speedup=math.nan),
        lambda: Requirements(latency_ms=math.nan),
    ):
        with pytest.raises(NotFiniteError, match="is not a number"):
            demand()
    assert Requirements(relative=math.inf).relative == math.inf


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "verb",
    [
        ["train", "--data", "x", "--lr"],
        ["prune", "m", "--data", "x", "--keep"],
        ["export", "m", "--to", "onnx", "--max-drop"],
    ],
    ids=lambda verb: verb[0],
)
def test_no_option_is_nan(capsys: pytest.CaptureFixture[str], verb: list[str], value: str) -> None:
    code, out, err = call(capsys, *verb, value)
    assert (code, out) == (2, "") and verb[-1] in err and err.count("\n") == 1

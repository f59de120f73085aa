"""int8 behind its gate: the climb, what is rounded and what is not, and who is refused."""

from __future__ import annotations

import collections
import dataclasses
import errno
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
import typer
from PIL import Image
from typer.testing import CliRunner

from tests.tiny import CONFIGS, pictures, tiny_inputs, tiny_lit, tiny_model
from vitsmith import Bundle, Labels
from vitsmith.cli.quantize import _of_float
from vitsmith.cli.quantize import quantize as verb
from vitsmith.compress.images import Amounts, Photos, labelled_photos, read_tensors, unlabelled_photos
from vitsmith.compress.quantize.layers import describe_sites, nodes_by_site, site_of
from vitsmith.compress.quantize.onnx import OnnxPrograms
from vitsmith.compress.quantize.openvino import OpenVinoPrograms
from vitsmith.compress.quantize.result import Quantized, Settings
from vitsmith.compress.quantize.run import quantize
from vitsmith.compress.quantize.schemes import (
    FIRST_SCHEMES,
    REQUIRED,
    Attempt,
    Fidelity,
    ProgramError,
    Scheme,
    float_choices,
    search_schemes,
)
from vitsmith.compress.quantize.sensitivity import measure_sensitivity, round_inputs, round_weights
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.sets.digits import open_digits
from vitsmith.engines.open import open_engine
from vitsmith.engines.openvino.core import openvino_core
from vitsmith.engines.torch.low_precision import quantized_copy
from vitsmith.errors import (
    DatasetError,
    GateError,
    InputError,
    MissingPackageError,
    OutputError,
    UnknownNameError,
    VitsmithError,
)
from vitsmith.evaluation.evaluation import evaluate
from vitsmith.evaluation.speed import Speed, Speedup
from vitsmith.exporters.onnx import export_onnx
from vitsmith.exporters.parts import parts_of
from vitsmith.finite import require_finite_outputs
from vitsmith.gate import Paired
from vitsmith.machine import bf16_dot_products, processor_flags
from vitsmith.models.build import build
from vitsmith.models.config import ViTConfig
from vitsmith.models.configure import change
from vitsmith.predict import Predictor
from vitsmith.runs import check_place
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.folder import read_bundle, write_bundle
from vitsmith.weights.save import save

PROGRAMS = {"onnx": OnnxPrograms, "openvino": OpenVinoPrograms}
GOOD, BAD = Fidelity(1.0, 0.999), Fidelity(0.5, 0.7)
FAST = Speedup(Speed(20.0, 50.0, 8), Speed(10.0, 100.0, 8), 2.0, 2.0)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITSMITH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small ViT that reads digits, trained here in seconds, on disk."""
    config = ViTConfig(
        width=32,
        depth=2,
        heads=2,
        mlp_width=64,
        patch=(8, 8),
        image_size=(32, 32),
        classes=10,
        pooling="gap",
        class_token=False,
    )
    torch.manual_seed(0)
    model = build(config)
    with torch.no_grad():
        model.positions.embedding.normal_()
    bundle = Bundle.of(model, labels=Labels(names=tuple(map(str, range(10)))))
    train = open_digits().train
    images = torch.from_numpy(np.stack([preprocess(image, bundle.preprocessing) for image in train.sources]))
    labels = torch.from_numpy(train.labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(300):
        chosen = torch.randint(len(images), (64,))
        optimizer.zero_grad()
        F.cross_entropy(model.train()(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    model.eval()
    return write_bundle(bundle.with_golden(list(train.sources[:2])), tmp_path_factory.mktemp("digits") / "model")


@pytest.fixture(scope="module")
def photos(digits: Bundle) -> Photos:
    return labelled_photos(digits, "digits", amounts=Amounts(calibration=24))


class Shelf:
    """A workshop of programs whose answers and speeds are known beforehand."""

    top1 = None
    rests = ("bf16", "fp32")
    sites = ("patches", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4")

    def __init__(self, answers: Any, speeds: Any = lambda scheme: FAST) -> None:
        self.answers, self.speeds, self.ranked = answers, speeds, []
        self.scheme, self.rest = Scheme("dynamic"), ""

    def make(self, scheme: Scheme, rest: str) -> float:
        self.scheme, self.rest = scheme, rest
        return 1.0

    def evaluate(self) -> Fidelity:
        return self.answers(self.scheme, self.rest)

    def race(self) -> Speedup:
        return self.speeds(self.scheme)

    def rank(self, smooth: float | None) -> Sequence[str]:
        self.ranked.append(smooth)
        return ("blocks.3", "blocks.0", "patches", "blocks.4", "blocks.2", "blocks.1")


def slow(batch: float) -> Speedup:
    return dataclasses.replace(FAST, batches=batch)


def test_the_climb_stops_at_the_first_that_meets_the_demands() -> None:
    heard: list[Attempt] = []
    found = search_schemes(
        Shelf(
            lambda scheme, rest: GOOD if scheme.smooth in (None, 0.75) and scheme != Scheme("static") else BAD,
            lambda scheme: slow(1.19 if scheme.kind == "dynamic" else 1.2),
        ),
        REQUIRED,
        heard.append,
    )
    assert [one.name for one in heard] == ["dynamic", "static min-max", "SmoothQuant 0.5", "SmoothQuant 0.75"]
    assert [one.reason for one in heard] == [
        "it runs 1.19 times as fast in batches of 8 (required 1.2)",
        "top-1 agrees on 50.0% of the images (required 99.0%)",
        "top-1 agrees on 50.0% of the images (required 99.0%)",
        "",
    ]
    assert found.chosen is heard[-1] and found.attempts == tuple(heard) and found.ranking == ()
    assert heard[1].speedup is None, "what answers wrongly is not timed"
    assert {one.rest for one in heard} == {"bf16"}


def test_a_static_program_that_is_too_slow_ends_the_climb() -> None:
    found = search_schemes(Shelf(lambda scheme, rest: GOOD, lambda scheme: slow(0.8)), REQUIRED)
    assert [one.name for one in found.attempts] == ["dynamic", "static min-max"] and found.chosen is None


def test_sensitive_places_stay_in_float_step_by_step_and_at_last_the_rest_is_float32() -> None:
    cosines = {None: 0.7, 0.5: 0.8, 0.75: 0.9, 0.95: 0.6}
    shelf = Shelf(lambda scheme, rest: Fidelity(0.9, cosines[scheme.smooth] + 0.01 * len(scheme.float_sites)))
    found = search_schemes(shelf, REQUIRED)
    assert shelf.ranked == [0.75], "ranked under the strength that was most faithful"
    assert [one.scheme for one in found.attempts[:5]] == list(FIRST_SCHEMES)
    assert [(one.name, one.rest) for one in found.attempts[5:]] == [
        ("SmoothQuant 0.75, patches in float", "bf16"),
        ("SmoothQuant 0.75, patches, block 3 in float", "bf16"),
        ("SmoothQuant 0.75, patches, blocks 0, 3 in float", "bf16"),
        ("SmoothQuant 0.75, patches, blocks 0, 3 in float", "fp32"),
    ]
    assert found.chosen is None and found.ranking[0] == "blocks.3"
    good = search_schemes(
        Shelf(lambda scheme, rest: GOOD if "blocks.3" in scheme.float_sites else Fidelity(0.9, cosines[scheme.smooth])),
        REQUIRED,
    )
    assert good.chosen is not None and good.chosen.name == "SmoothQuant 0.75, patches, block 3 in float"


def test_the_fastest_of_all_is_taken_when_asked_for() -> None:
    speeds = {None: 1.5, 0.5: 1.9, 0.75: 2.2, 0.95: 2.1}
    found = search_schemes(
        Shelf(
            lambda scheme, rest: BAD if scheme.smooth == 0.75 else GOOD,
            lambda scheme: slow(3.0 if scheme.kind == "dynamic" else speeds[scheme.smooth]),
        ),
        REQUIRED,
        fastest=True,
    )
    assert len(found.attempts) == len(FIRST_SCHEMES)
    assert found.chosen is not None and found.chosen.name == "dynamic"
    cosines = {None: 0.95, 0.5: 0.97, 0.75: 0.99, 0.95: 0.96}
    as_fast = search_schemes(
        Shelf(
            lambda scheme, rest: Fidelity(1.0, cosines[scheme.smooth]),
            lambda scheme: slow(2 + (scheme.smooth or 0) / 20),
        ),
        REQUIRED,
        fastest=True,
    )
    assert as_fast.chosen is not None and as_fast.chosen.scheme == Scheme("static", 0.75), "as fast, and more faithful"


def test_a_program_that_cannot_be_made_is_a_row_with_its_reason() -> None:
    class Broken(Shelf):
        def make(self, scheme: Scheme, rest: str) -> float:
            if scheme.kind == "dynamic":
                raise ProgramError("cannot be made (no such operator)")
            return super().make(scheme, rest)

    found = search_schemes(Broken(lambda scheme, rest: GOOD), REQUIRED)
    assert [(one.name, one.reason) for one in found.attempts] == [
        ("dynamic", "cannot be made (no such operator)"),
        ("static min-max", ""),
    ]


@pytest.mark.parametrize(
    ("fidelity", "refused"),
    [
        (Fidelity(0.9, 0.9, Paired(1000, 5, 0, 790)), ""),
        (Fidelity(1.0, 1.0, Paired(1000, 6, 0, 790)), "top-1 drops by 0.60 points"),
        (Fidelity(1.0, 1.0, Paired(1000, 0, 10, 790)), ""),
        (Fidelity(0.99, 0.2), ""),
        (Fidelity(0.989, 1.0), "top-1 agrees on 98.9% of the images (required 99.0%)"),
        (Fidelity(0.99, 0.99, embeds=True), ""),
        (Fidelity(0.989, 0.989, embeds=True), "the mean cosine of outputs is 0.9890 (required 0.99)"),
    ],
)
def test_labels_decide_where_there_are_some(fidelity: Fidelity, refused: str) -> None:
    reasons = fidelity.failures(REQUIRED)
    assert len(reasons) == bool(refused) and "".join(reasons).startswith(refused)


def test_few_images_are_told_of_and_refused_when_that_is_asked() -> None:
    """Of what is taken, or of what lost least; each program of a strict gate has it as its reason."""
    unsure, worse = Fidelity(1.0, 1.0, Paired(100, 0, 0, 90)), Fidelity(1.0, 1.0, Paired(100, 5, 4, 80))
    strict = dataclasses.replace(REQUIRED, strict=True)
    for required, answers in ((REQUIRED, unsure), (REQUIRED, worse), (strict, unsure)):
        found = search_schemes(Shelf(lambda scheme, rest, answers=answers: answers), required)
        settings = Settings("onnx", required)
        result = Quantized(None, settings, None, 0.9, (), found, None, ())  # type: ignore[arg-type]
        if required.strict:
            assert found.chosen is None and "100 images are too few to tell" in found.attempts[0].reason
            assert result.doubts == ()
            with pytest.raises(GateError, match=r"\(9 refused for their answers\).*; 100 images are too few to tell"):
                dataclasses.replace(result, original=Bundle.of(tiny_model(CONFIGS["mixer"]))).require()
        else:
            assert (found.chosen is None) is (answers is worse)
            assert result.doubts == answers.doubts(required) != ()


def test_what_could_not_be_made_is_not_counted_as_refused_for_its_answers() -> None:
    class Broken(Shelf):
        def make(self, scheme: Scheme, rest: str) -> float:
            if scheme.kind == "dynamic":
                raise ProgramError("cannot be made")
            return super().make(scheme, rest)

        def race(self) -> Speedup:
            if self.scheme.smooth == 0.5:
                raise ProgramError("does not run")
            return slow(1.0) if self.scheme.smooth else super().race()

    def answers(scheme: Scheme, rest: str) -> Fidelity:
        return GOOD if scheme.smooth else Fidelity(0.5, 0.5)

    found = search_schemes(Broken(answers), REQUIRED)
    assert len(found.attempts) == 4
    original = Bundle.of(tiny_model(CONFIGS["mixer"]))
    result = Quantized(original, Settings("onnx"), None, None, (), found, None, ())  # type: ignore[arg-type]
    with pytest.raises(GateError, match=r"of 4 .*\(1 refused for their answers, 1 too slow, 2 not made or run\)"):
        result.require()


def test_images_that_could_not_satisfy_a_strict_gate_are_told_before_work(tmp_path: Path) -> None:
    bundle = Bundle.of(tiny_model(CONFIGS["vit-token"]))
    photos = Photos([], pictures(9), np.zeros(9, np.int64), "pictures")
    required = dataclasses.replace(REQUIRED, strict=True)
    with pytest.raises(InputError, match=r"9 evaluation images cannot tell .* at least 765 are needed"):
        quantize(bundle, photos, tmp_path / "model", Settings("onnx", required))


def test_at_most_half_of_the_blocks_stay_in_float() -> None:
    assert float_choices(["blocks.1", "blocks.0"]) == [("blocks.1",)]
    assert float_choices(["patches"]) == [("patches",)]
    twelve = [f"blocks.{index}" for index in range(12)]
    assert [len(one) for one in float_choices(twelve)] == [1, 2, 4]


def test_places_are_known_by_the_modules_they_come_from() -> None:
    assert site_of("blocks.11.mlp.widen") == "blocks.11" and site_of("tower.patches.projection") == "patches"
    assert site_of("resnet.stages.0") == "resnet" and site_of("positions") == "" and site_of("header") == ""
    assert describe_sites(("patches", "blocks.10", "blocks.3")) == "patches, blocks 3, 10"


def test_rounding_is_that_of_torch() -> None:
    x = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * 3 + 1
    low, high = torch.tensor(-2.0), torch.tensor(5.0)
    step = (high - low) / 255
    expected = torch.fake_quantize_per_tensor_affine(x, step.item(), round((-low / step).item()), 0, 255)
    torch.testing.assert_close(round_inputs(x, low, high), expected)
    scales = x.abs().amax(dim=1) / 127
    zeros = torch.zeros(50, dtype=torch.int32)
    torch.testing.assert_close(round_weights(x), torch.fake_quantize_per_channel_affine(x, scales, zeros, 0, -127, 127))


@pytest.mark.parametrize("name", ["vit-token", "mixer", "hybrid-stages"])
def test_a_sabotaged_block_is_found_to_be_the_most_sensitive(name: str) -> None:
    model = tiny_model(change(CONFIGS[name], depth=4))
    factor = 300.0
    mlp = model.blocks[2].mlp if name != "mixer" else model.blocks[2].channel_mixing
    with torch.no_grad():  # the same function, but for one channel of activations that dwarfs the others
        model.blocks[2].norm2.weight[5] *= factor
        model.blocks[2].norm2.bias[5] *= factor
        mlp.widen.weight[:, 5] /= factor
    bundle = Bundle.of(model)
    inputs = tiny_inputs(model.config, 8)[0].numpy()
    (part,) = parts_of(bundle, inputs)
    before = part.run_torch(inputs)
    sites = ["patches", *(f"blocks.{index}" for index in range(4))]
    plain = measure_sensitivity(model, part.run_torch, inputs, sites)
    smooth = measure_sensitivity(model, part.run_torch, inputs, sites, smooth=0.5)
    assert plain[0].site == "blocks.2" and plain[0].noise > 10 * plain[1].noise
    assert next(one.noise for one in smooth if one.site == "blocks.2") < plain[0].noise / 10
    assert {one.site for one in plain} == set(sites) and all(one.noise > 0 for one in plain)
    np.testing.assert_array_equal(part.run_torch(inputs), before)


def cosine_of(expected: np.ndarray, found: np.ndarray) -> float:
    lengths = np.linalg.norm(expected, axis=-1) * np.linalg.norm(found, axis=-1)
    return float(((expected * found).sum(axis=-1) / lengths).mean())


def int8_sites(folder: Path, engine: str, graph: Path) -> dict[str, int]:
    """How many products of each place have a rounded input."""
    if engine == "onnx":
        program = onnx.load(folder / "model.onnx").graph
        sites = {node: site for site, nodes in nodes_by_site(onnx.load(graph)).items() for node in nodes}
        rounded = {node.output[0] for node in program.node if node.op_type == "DequantizeLinear"}
        return dict(
            collections.Counter(
                sites[node.name]
                for node in program.node
                if node.op_type in ("MatMul", "Conv", "Gemm") and node.input[0] in rounded
            )
        )

    sites = {node: site for site, nodes in nodes_by_site(onnx.load(graph)).items() for node in nodes}
    counts: collections.Counter[str] = collections.Counter()
    for op in openvino_core().read_model(folder / "model.xml").get_ops():
        if op.get_type_name() in ("MatMul", "Convolution"):
            source = op.input_value(0).get_node()
            while source.get_type_name() in ("Reshape", "Transpose"):
                source = source.input_value(0).get_node()
            if source.get_type_name() == "FakeQuantize":
                counts[sites[op.get_friendly_name().split("/")[0]]] += 1
    return dict(counts)


@pytest.mark.parametrize(
    ("name", "engine"),
    [("vit-token", "onnx"), ("vit-token", "openvino"), ("mixer", "onnx"), ("hybrid-stages", "openvino")],
)
def test_what_is_int8_is_int8_and_what_is_float_is_float(
    name: str, engine: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bundle = Bundle.of(tiny_model(CONFIGS[name]))
    images = read_tensors(bundle, pictures(12))
    floats = tmp_path / "float"
    floats.mkdir()
    programs = PROGRAMS[engine](parts_of(bundle, images), floats)
    graph = tmp_path / "graph.onnx"
    from vitsmith.exporters.onnx import write_graph

    write_graph(parts_of(bundle, images)[0], graph)
    expected = bundle.run_torch(images)
    seen = {}
    schemes = {"static": Scheme("static", 0.5), "half": Scheme("static", None, ("blocks.1",))}
    if name == "vit-token":
        schemes["dynamic"] = Scheme("dynamic")
    for label, scheme in schemes.items():
        described = dataclasses.replace(bundle, program=engine, program_spec=ProgramSpec(precision="int8"), golden=None)
        made = write_bundle(
            dataclasses.replace(described, _weights_hash=bundle.weights_hash, _model=None),
            tmp_path / label,
            write_program=lambda place, scheme=scheme: programs.write(scheme, images, place),
        )
        found = open_engine(made, engine).run(images)
        assert cosine_of(expected, found) > 0.98, label
        assert not np.allclose(found, expected, rtol=0, atol=1e-6), f"{label} rounds nothing"
        seen[label] = int8_sites(made.folder, engine, graph)
    products = 4
    blocks = {"blocks.0": products, "blocks.1": products}
    for count in (seen["static"], seen["half"]):
        assert "head" not in count
    assert {site: seen["static"].get(site) for site in blocks} == blocks
    assert seen["half"].get("blocks.0") == products and "blocks.1" not in seen["half"]
    assert ("patches" in seen["static"]) == (engine == "openvino")
    assert "patches" not in programs.sites or engine == "openvino"
    assert ("resnet" in programs.sites) == (engine == "openvino" and name == "hybrid-stages")
    assert capfd.readouterr().out == "", "NNCF's bars are silenced"


@pytest.fixture(scope="module", params=["openvino", "onnx"])
def quantized(
    request: pytest.FixtureRequest, digits: Bundle, photos: Photos, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    folder = tmp_path_factory.mktemp(request.param) / "model"
    settings = Settings(request.param)
    # The first of three is of float in bfloat16: where that pays, the rest of int8 programs is computed in it. With AMX
    # OpenVINO 2026.4 then answers this model wrongly (44 % as the original), which the gate refuses: float32 there.
    bfloat16 = 0.9 if "amx_int8" in processor_flags() else 1.5
    speeds = iter([bfloat16, 0.9, 2.0] if request.param == "openvino" and bf16_dot_products() else [0.9, 2.0])
    return quantize(digits, photos, folder, settings, race=lambda *_: slow(next(speeds)))


def test_digits_are_read_as_well_in_int8(quantized: Any, digits: Bundle) -> None:
    engine = quantized.settings.engine
    assert [one.name for one in quantized.search.attempts] == ["dynamic", "static min-max"]
    assert quantized.bundle.program == engine and quantized.bundle.program_spec.precision == "int8"
    rest = "bf16" if engine == "openvino" and bf16_dot_products() and "amx_int8" not in processor_flags() else "fp32"
    assert quantized.bundle.program_spec.rest == rest == quantized.base_rest
    evaluation_set = open_digits().val
    before = evaluate(Predictor(digits), evaluation_set).scores.top1
    after = evaluate(Predictor(quantized.bundle), evaluation_set).scores.top1
    assert before > 0.9 and before - after <= 0.005 + 1e-9
    assert quantized.top1 == pytest.approx(before)
    assert quantized.search.chosen.fidelity.top1 == pytest.approx(after)


def test_the_bundle_says_what_it_is(quantized: Any, digits: Bundle) -> None:
    bundle = read_bundle(quantized.bundle.folder)
    assert "int8: static min-max, calibrated on 24 images" in bundle.provenance.notes
    assert bundle.identity == digits.identity and bundle.labels == digits.labels
    (top1,) = [one for one in bundle.measurements if one.metric == "top1"]
    assert top1.value == quantized.search.chosen.fidelity.top1 and top1.low < top1.value < top1.high
    assert any(one.metric == "images_per_second" and one.value == 100 for one in bundle.measurements)
    size = sum(path.stat().st_size for path in bundle.folder.glob("model.*")) / 2**20
    assert size == quantized.search.chosen.mib < quantized.floats[0].mib


def test_golden_answers_are_those_of_the_int8_program(quantized: Any, digits: Bundle) -> None:
    bundle = read_bundle(quantized.bundle.folder)
    golden = bundle.golden
    assert golden is not None and digits.golden is not None
    answers = open_engine(bundle, bundle.program).run(golden.tensors)
    np.testing.assert_allclose(golden.outputs, answers, rtol=0, atol=1e-5 * np.abs(answers).max())
    assert np.abs(golden.outputs - digits.golden.outputs).max() > 1e-4


def test_the_table_tells_all(quantized: Any) -> None:
    facts = json.loads(json.dumps(quantized.to_dict()))
    assert [one["program"] for one in facts["attempts"]][-2:] == ["dynamic", "static min-max"]
    assert facts["chosen"] == "static min-max" and facts["data"] == "digits, 359 held-out images"
    dynamic = facts["attempts"][-2]
    assert (
        dynamic["speedup"] == 0.9 and dynamic["reason"] == "it runs 0.90 times as fast in batches of 8 (required 1.2)"
    )
    assert facts["attempts"][0]["top1"] == pytest.approx(facts["top1_before"]) and facts["labelled"]
    assert facts["attempts"][-1]["num_labelled_images"] == 359 and len(facts["attempts"][-1]["drop_interval"]) == 2
    assert any("only 24 calibration images" in remark for remark in facts["remarks"])
    quantized.require()


def test_a_broken_calibration_is_refused(
    digits: Bundle, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixels that were divided twice: all of the images end beyond the range that was found."""
    monkeypatch.setattr(
        "vitsmith.compress.quantize.schemes.FIRST_SCHEMES", (FIRST_SCHEMES[0], FIRST_SCHEMES[1], FIRST_SCHEMES[3])
    )
    monkeypatch.setattr("vitsmith.compress.quantize.schemes.float_choices", lambda _: [])
    wrong = read_tensors(digits, photos.calibration) * 0.02
    result = quantize(
        digits,
        dataclasses.replace(photos, evaluation=photos.evaluation[:100], labels=photos.labels[:100]),
        tmp_path / "model",
        Settings("openvino"),
        calibration_tensors=wrong[:8],
        race=lambda *_: slow(0.9),  # the dynamic one, which needs no calibration
    )
    dynamic, *broken = result.search.attempts
    assert dynamic.reason.startswith("it runs 0.90 times") and dynamic.fidelity.top1 > 0.9
    assert (
        all(one.reason.startswith("top-1 drops by ") and one.fidelity.top1 < 0.5 for one in broken) and len(broken) >= 2
    )
    assert result.bundle is None and not (tmp_path / "model").exists()
    with pytest.raises(GateError, match=r"keep float: none of \d+ int8 programs .* meets the requirements"):
        result.require()


def test_of_lit_the_image_tower_becomes_int8_and_texts_stay(tmp_path: Path) -> None:
    bundle = tiny_lit("lit-bert").with_golden(pictures(2))
    photos = unlabelled_photos(bundle, pictures(24))
    result = quantize(
        bundle,
        photos,
        tmp_path / "model",
        Settings("onnx", dataclasses.replace(REQUIRED, agreement=0.98)),
        race=lambda *_: FAST,
    )
    assert result.bundle is not None and "the text tower stays in fp32" in result.bundle.provenance.notes
    assert any("embeddings" in remark for remark in result.remarks)
    assert "mean_cosine" in [one.metric for one in read_bundle(tmp_path / "model").measurements]
    engine = open_engine(read_bundle(tmp_path / "model"), "onnx")
    tokens = tiny_inputs(bundle.config, 3)[1].numpy().astype(np.int32)
    np.testing.assert_allclose(engine.run_texts(tokens), bundle.run_texts_torch(tokens), rtol=0, atol=1e-5)
    images = read_tensors(bundle, pictures(4, seed=3))
    found, expected = engine.run(images), bundle.run_torch(images)
    assert cosine_of(expected, found) > 0.98 and np.abs(found - expected).max() > 1e-4


def write_pictures(folder: Path, count: int) -> list[str]:
    for index, pixels in enumerate(pictures(count)):
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return [str(folder / f"{index}.png") for index in range(count)]


def test_images_that_calibrate_do_not_judge(tmp_path: Path) -> None:
    bundle = Bundle.of(tiny_model(CONFIGS["vit-token"]))
    names = write_pictures(tmp_path, 50)
    photos = unlabelled_photos(bundle, names, amounts=Amounts(calibration=20, evaluation=25))
    assert len(photos.calibration) == 20 and len(photos.evaluation) == 25 and photos.labels is None
    assert not set(photos.calibration) & set(photos.evaluation)
    assert photos.remarks[0] == "evaluating on 25 of the 30 evaluation images"
    again = unlabelled_photos(bundle, names[::-1], amounts=Amounts(calibration=20, evaluation=25))
    assert set(again.calibration) == set(photos.calibration), "names decide, not their order"
    other = unlabelled_photos(bundle, names, amounts=Amounts(calibration=20, evaluation=25, seed=1))
    assert set(other.calibration) != set(photos.calibration)
    assert len(unlabelled_photos(bundle, names).calibration) == 25


def test_images_and_labelled_data_go_together(digits: Bundle, tmp_path: Path) -> None:
    own = write_pictures(tmp_path, 40)
    photos = labelled_photos(digits, "digits", images=own, amounts=Amounts(calibration=10))
    assert len(photos.calibration) == 10 and set(photos.calibration) < set(own)
    assert len(photos.evaluation) == 359 and photos.labels is not None
    assert not any("of the" in remark for remark in photos.remarks)
    capped = labelled_photos(digits, "digits", images=own, amounts=Amounts(calibration=10, evaluation=20))
    assert len(capped.evaluation) == 20 and sum("evaluating on" in told for told in capped.remarks) == 1
    assert "evaluating on 20 of the 359 evaluation images" in capped.remarks


def test_too_few_images_are_refused(digits: Bundle) -> None:
    with pytest.raises(DatasetError, match="`images`: 5 calibration images are too few, give at least 8"):
        unlabelled_photos(digits, pictures(10))
    with pytest.raises(DatasetError, match="digits: 7 evaluation images are too few"):
        labelled_photos(digits, "digits", amounts=Amounts(evaluation=7))
    assert unlabelled_photos(digits, pictures(16)).remarks[0].startswith("only 8 calibration images")


def test_images_of_other_classes_are_refused(digits: Bundle) -> None:
    letters = dataclasses.replace(digits, labels=Labels(names=tuple("abcdefghij")))
    for images in ([], pictures(10)):
        with pytest.raises(DatasetError, match="the model does not know 10 of the data's 10 classes, the first is '0'"):
            labelled_photos(letters, "digits", images=images)
    with pytest.raises(DatasetError, match="does not name its classes"):
        labelled_photos(dataclasses.replace(digits, labels=None), "digits")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("lit-bert", "has no classes of its own, and cannot be evaluated on labelled data: give `images`"),
        ("vit-unpooled", "gives logits for each patch, and cannot be evaluated on labels of images: give `images`"),
    ],
)
def test_models_that_labels_cannot_judge_are_refused(name: str, problem: str) -> None:
    bundle = tiny_lit(name) if name.startswith("lit") else Bundle.of(tiny_model(change(CONFIGS[name], classes=10)))
    with pytest.raises(InputError, match=problem):
        labelled_photos(bundle, "digits")


def test_an_exported_bundle_and_an_unknown_engine_are_refused(digits: Bundle, photos: Photos, tmp_path: Path) -> None:
    exported, _ = export_onnx(digits, tmp_path / "exported")
    with pytest.raises(InputError, match=r"is an exported program \(model.onnx, fp32\): quantise the torch bundle"):
        quantize(exported, photos, tmp_path / "model", Settings("onnx"))
    with pytest.raises(UnknownNameError, match="unknown engine 'torch'"):
        quantize(digits, photos, tmp_path / "model", Settings("torch"))
    with pytest.raises(InputError, match="quantize does not measure latency_ms"):
        quantize(digits, photos, tmp_path / "model", Settings("onnx", dataclasses.replace(REQUIRED, latency_ms=1)))


@pytest.mark.parametrize(
    ("engine", "package"), [("openvino", "nncf"), ("openvino", "openvino"), ("onnx", "onnxruntime")]
)
def test_a_missing_package_is_told_with_its_line(
    engine: str, package: str, digits: Bundle, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    extra = "openvino" if package == "openvino" else "export"
    with pytest.raises(MissingPackageError, match=rf"needs {package}, .* pip install 'vitsmith\[{extra}\]'"):
        quantize(digits, photos, tmp_path / "model", Settings(engine))
    assert not (tmp_path / "model").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(
    digits: Bundle, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(OnnxPrograms, "write", full)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        quantize(digits, photos, tmp_path / "model", Settings("onnx"), race=lambda *_: FAST)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_models_that_merge_are_allowed_what_their_export_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another order of adding up may merge another of two equal pairs: 0.4 % of the largest output is no failure."""
    from vitsmith.exporters import onnx as exporter

    whole = exporter.write_graph

    def moved(part: Any, path: Path, **fields: Any) -> None:
        whole(part, path, **fields)
        graph = onnx.load(path)
        (bias,) = [array for array in graph.graph.initializer if array.name.endswith("head.bias")]
        shifted = onnx.numpy_helper.to_array(bias) + np.float32([0.004 * largest, 0, 0, 0, 0])
        bias.CopyFrom(onnx.numpy_helper.from_array(shifted, bias.name))
        onnx.save(graph, path)

    monkeypatch.setattr("vitsmith.compress.quantize.onnx.write_graph", moved)
    config = change(CONFIGS["vit-token"], depth=3, image_size=(40, 48))
    for merge, refused in (((), True), ((5, 4, 0), False)):
        bundle = Bundle.of(tiny_model(change(config, merge=merge)))
        chosen = Photos(pictures(8), pictures(8, seed=1), None, "pictures")
        largest = float(np.abs(bundle.run_torch(read_tensors(bundle, chosen.calibration))).max())
        settings = Settings("onnx", dataclasses.replace(REQUIRED, agreement=0))
        try:
            quantize(bundle, chosen, tmp_path / str(refused), settings, race=lambda *_: FAST)
        except GateError as error:
            assert refused, str(error)
        else:
            assert not refused


def test_images_of_one_class_are_told_of(tmp_path: Path) -> None:
    model = tiny_model(CONFIGS["vit-token"])
    with torch.no_grad():
        model.head.bias[0] += 100
    chosen = Photos(pictures(8), pictures(8, seed=1), None, "pictures")
    result = quantize(Bundle.of(model), chosen, tmp_path / "model", Settings("onnx"), race=lambda *_: FAST)
    assert any("one class for all evaluation images" in remark for remark in result.remarks)


def test_a_float_program_that_differs_is_refused(
    digits: Bundle, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitsmith.exporters import onnx as exporter

    whole = exporter.write_graph

    def spoiled(part: Any, path: Path, **fields: Any) -> None:
        whole(part, path, **fields)
        graph = onnx.load(path)
        for array in graph.graph.initializer:
            if array.name.endswith("norm1.bias"):
                array.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(array) + 1, array.name))
        onnx.save(graph, path)

    monkeypatch.setattr("vitsmith.compress.quantize.onnx.write_graph", spoiled)
    with pytest.raises(GateError, match=r"the float onnx program of .* was refused"):
        quantize(digits, photos, tmp_path / "model", Settings("onnx"), race=lambda *_: FAST)


def test_int8_without_an_answer_to_some_image_is_a_row_with_its_reason(
    digits: Bundle, photos: Photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(bundle: Bundle, *arguments: Any, **settings: Any) -> Any:
        engine = open_engine(bundle, *arguments, **settings)
        if bundle.program_spec.precision == "int8":
            engine.run = lambda images: require_finite_outputs(np.full((len(images), 10), np.nan), images, "it")
        return engine

    monkeypatch.setattr("vitsmith.compress.quantize.measure.open_engine", spoiled)
    result = quantize(digits, photos, tmp_path / "model", Settings("onnx"), race=lambda *_: FAST)
    assert result.bundle is None and not (tmp_path / "model").exists()
    assert all("gives answers that are not finite" in one.reason for one in result.search.attempts)


def cli(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(verb)
    return CliRunner().invoke(app, list(arguments))


def test_the_verb_writes_a_run_and_does_not_replace_one_by_chance(
    digits: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(digits.folder), "--data", "digits", "--engine", "onnx", "--calibration", "8", "--limit", "50"]
    done = cli(*given, "--min-speedup", "0.001", "--json")
    assert done.exit_code == 0, done.exception
    run = next((tmp_path / "runs" / "quantize").iterdir())
    facts = json.loads(done.stdout)
    assert facts["written"] == str(run.relative_to(tmp_path) / "model") and facts["chosen"] == "dynamic"
    assert json.loads((run / "quantize.json").read_text()) == facts
    assert {path.name for path in run.iterdir()} == {"model", "quantize.json", "command.txt", "schemes.png"}
    assert read_bundle(run / "model").program_spec.precision == "int8"
    again = cli(*given, "--out", str(run))
    assert isinstance(again.exception, OutputError) and "replace it with `force`" in str(again.exception)
    drawn = (run / "schemes.png").read_bytes()
    kept = cli(*given, "--out", str(run), "--force", "--min-speedup", "1000")
    assert isinstance(kept.exception, GateError) and kept.exception.exit_code == 3
    assert "keep float" in str(kept.exception) and "required 1000" in kept.stdout
    assert read_bundle(run / "model").program == "onnx", "a refusal replaces nothing"
    assert (run / "schemes.png").read_bytes() == drawn, "the picture is that of the run that stays"


def test_a_refusal_leaves_the_table_behind(digits: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(digits.folder), "--data", "digits", "--engine", "onnx", "--calibration", "8", "--limit", "50"]
    done = cli(*given, "--min-speedup", "1000", "--out", "refused")
    assert isinstance(done.exception, GateError)
    facts = json.loads((tmp_path / "refused" / "quantize.json").read_text())
    assert facts["written"] is None and len(facts["attempts"]) >= 3 and not (tmp_path / "refused" / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "give `images` FOLDER or `data` DATA"),
        (["--images", "."], "no images"),
        (["--images", ".", "--split", "val"], "--split chooses a part of --data"),
        (["--data", "digits", "--split", "train"], "`split` train holds training or calibration images"),
    ],
)
def test_wrong_use_is_told_and_leaves_no_folder(
    arguments: list[str], problem: str, digits: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli(str(digits.folder), *arguments)
    assert isinstance(done.exception, VitsmithError) and done.exception.exit_code == 2
    assert problem in str(done.exception).replace("No images", "no images")
    assert not list(tmp_path.iterdir())


def test_a_place_that_holds_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OutputError, match="a folder that quantize did not write"):
        check_place("quantize", tmp_path, force=True)
    with pytest.raises(OutputError, match="a file that quantize did not write"):
        check_place("quantize", tmp_path / "thesis.tex", force=True)


@pytest.mark.parametrize("name", ["vit-token", "mixer"])
def test_int8_weights_of_torchao_are_rounded_weights(name: str) -> None:
    model = tiny_model(CONFIGS[name])
    copied = quantized_copy(model, "int8-weights")
    images = tiny_inputs(model.config, 3)[0]
    with torch.inference_mode():
        before = model(images)
        found = copied(images)
        for path, layer in model.named_modules():
            if isinstance(layer, torch.nn.Linear) and path.startswith("blocks."):
                weight = copied.get_submodule(path).weight
                assert weight.qdata.dtype == torch.int8
                steps = layer.weight.abs().amax(dim=1, keepdim=True) / 127
                assert ((weight.dequantize() - layer.weight).abs() <= 0.51 * steps).all()
                layer.weight.copy_(weight.dequantize())
        torch.testing.assert_close(found, model(images), rtol=0, atol=1e-5 * before.abs().max().item())
    assert (found - before).abs().max() > 1e-4
    assert not hasattr(copied.head.weight, "qdata"), "the head stays as it is"


def test_fp8_without_a_gpu_and_unknown_schemes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(CONFIGS["vit-token"])
    with pytest.raises(InputError, match="fp8 is for an NVIDIA GPU"):
        quantized_copy(model, "fp8")
    with pytest.raises(UnknownNameError, match="unknown scheme 'int4'"):
        quantized_copy(model, "int4")
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(MissingPackageError, match=r"needs torchao, .* pip install 'vitsmith\[gpu\]'"):
        quantized_copy(model, "int8-weights")


def test_saved_checkpoints_are_quantised_too(digits: Bundle, tmp_path: Path) -> None:
    save(digits, tmp_path / "digits.npz", format="npz")
    (tmp_path / "names.txt").write_text("\n".join(map(str, range(10))))
    done = cli(
        str(tmp_path / "digits.npz"),
        *("--data", "digits", "--labels-file", str(tmp_path / "names.txt"), "--engine", "onnx", "--calibration", "8"),
        *("--limit", "20", "--min-speedup", "0.001", "--out", str(tmp_path / "run")),
    )
    assert done.exit_code == 0, done.exception
    assert read_bundle(tmp_path / "run" / "model").labels == digits.labels


def test_float_in_bf16_is_spoken_of_only_where_it_was_timed() -> None:
    def attempt(rest: str, speedup: Speedup | None) -> Any:
        return SimpleNamespace(name="float", rest=rest, speedup=speedup)

    timed = Speedup(Speed(2, 10, 8), Speed(1, 20, 8), 2, 2)
    both: Any = SimpleNamespace(attempts=[attempt("fp32", None), attempt("bf16", timed)])
    assert _of_float(both) == " (that of float in bf16: beside float in fp32)"
    neither: Any = SimpleNamespace(attempts=[attempt("fp32", None), attempt("bf16", None)])
    assert _of_float(neither) == ""

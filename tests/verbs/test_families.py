"""Verbs on small models of each family, with the answers of their torch models; export meets them in exporters/."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitsmith as vs
from tests.command_line import call
from tests.exporting import export_onnx
from tests.families import CLASSIFIERS, FAMILIES, LABELS, TWO_TOWERS, bundle_of
from tests.tiny import pictures
from tests.training.lit.small_runs import lit_recipe, write_pairs
from tests.training.small_runs import coloured, splits, write_folder
from tests.weights.hf_files import written_model
from vitsmith.benchmark import session
from vitsmith.benchmark.answers import reference_of
from vitsmith.benchmark.contenders import Subject, contenders_of
from vitsmith.benchmark.memory import Memory
from vitsmith.benchmark.session import AnswerData, BenchmarkSettings, run_benchmark
from vitsmith.compress.images import TaskImages
from vitsmith.compress.merge_tokens.patch_groups import groups
from vitsmith.compress.merge_tokens.run import merge_by
from vitsmith.compress.prune.run import prune_bundle
from vitsmith.compress.prune.sizes import Pruning
from vitsmith.compress.quantize.run import PROGRAMS
from vitsmith.compress.quantize.schemes import Scheme
from vitsmith.compress.search.result import ProgramCost
from vitsmith.compress.search.run import SearchSpace, halves
from vitsmith.compress.search.run import search as search_programs
from vitsmith.compress.search.variants import TorchVariantMaker
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.sets.pairs import open_pairs
from vitsmith.data.sets.samples import Samples
from vitsmith.engines.open import open_engine
from vitsmith.errors import InputError
from vitsmith.evaluation.timing import Pace
from vitsmith.exporters.parts import parts_of
from vitsmith.gate import Requirements
from vitsmith.models.configure import change
from vitsmith.models.cost import flops, parameters
from vitsmith.models.lit import LiT
from vitsmith.models.vit import VisionTransformer
from vitsmith.retrieval.search import search
from vitsmith.runs.run import Run
from vitsmith.specs import ProgramSpec
from vitsmith.training.images.run import train_to_bundle
from vitsmith.training.images.teacher import Teacher
from vitsmith.training.lit.run import lit_to_bundle
from vitsmith.training.recipes.file import parse_recipe
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.weights.bundle.card import model_card
from vitsmith.weights.bundle.folder import write_bundle

PICTURES = pictures(4)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every family as a bundle, and photos."""
    folder = tmp_path_factory.mktemp("families")
    (folder / "photos").mkdir()
    for number, picture in enumerate(pictures(20)):
        Image.fromarray(picture).save(folder / "photos" / f"{number}.png")
    for name in FAMILIES:
        vs.save(bundle_of(name), folder / name)
    return folder


def tensors(bundle: vs.Bundle) -> torch.Tensor:
    return torch.from_numpy(np.stack([preprocess(picture, bundle.preprocessing) for picture in PICTURES]))


def unit(vectors: Any) -> np.ndarray:
    array = np.asarray(vectors)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def image_tower(bundle: vs.Bundle) -> VisionTransformer:
    tower = bundle.model.image if isinstance(bundle.model, LiT) else bundle.model
    assert isinstance(tower, VisionTransformer)
    return tower


@pytest.mark.parametrize("name", FAMILIES)
def test_inspect(name: str, place: Path, capsys: Any) -> None:
    code, out, _ = call(capsys, "inspect", place / name, "--json")
    facts = json.loads(out)
    assert code == 0 and facts["parameters"] == f"{parameters(FAMILIES[name]):,}"
    assert (facts["labels"] == list(LABELS)) is (name in CLASSIFIERS)
    assert (facts["text"] is not None) is (name in TWO_TOWERS)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_predict_and_evaluate(name: str) -> None:
    bundle = bundle_of(name)
    with torch.inference_mode():
        logits = bundle.model(tensors(bundle))
    found = vs.Predictor(bundle)(PICTURES)
    np.testing.assert_allclose([one.scores for one in found], logits.softmax(-1), atol=1e-5)
    data = coloured(12)
    told = vs.evaluate(bundle, data).scores
    images = np.stack([preprocess(data.image(at), bundle.preprocessing) for at in range(12)])
    right = bundle.run_torch(images).argmax(axis=1) == data.labels
    assert told.top1 == pytest.approx(right.mean())


@pytest.mark.parametrize("name", FAMILIES)
def test_embed(name: str) -> None:
    bundle = bundle_of(name)
    tower = image_tower(bundle)
    with torch.inference_mode():
        found = tower.features(tensors(bundle))
        pooled = tower.head(found.pooled) if name == "clip" else found.pooled
    np.testing.assert_allclose(vs.Encoder(bundle).images(PICTURES), unit(pooled), atol=1e-5)
    patches = found.tokens[:, tower.config.prefix :].unflatten(1, found.grid)
    np.testing.assert_allclose(vs.Encoder(bundle, what="patches").images(PICTURES), patches, atol=2e-5)


@pytest.mark.parametrize("name", TWO_TOWERS)
def test_zeroshot_and_retrieve(name: str, tmp_path: Path) -> None:
    bundle = bundle_of(name)
    model = bundle.model
    assert isinstance(model, LiT)
    with torch.inference_mode():
        images = model.encode_image(tensors(bundle)).numpy()
        texts = model.encode_text(torch.from_numpy(bundle.tokenizer(list(LABELS)))).numpy()
        temperature = float(model.temperature)
        bias = 0.0 if model.logit_bias is None else float(model.logit_bias)
    cosines = images @ texts.T
    logits = temperature * cosines + bias
    classifier = vs.ZeroShotClassifier(bundle, LABELS, templates="{}", cache=False)
    together = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([one.scores for one in classifier(PICTURES)], together, atol=1e-5)
    alone = vs.ZeroShotClassifier(bundle, LABELS, templates="{}", scores="independent", cache=False)
    expected = 1 / (1 + np.exp(-logits)) if name == "siglip" else cosines
    np.testing.assert_allclose([one.scores for one in alone(PICTURES)], expected, atol=1e-5)
    encoder = vs.Encoder(bundle)
    index = vs.write_index(encoder, PICTURES, tmp_path / "index", dtype="float32")
    found = search(index, encoder.texts(LABELS), 4)
    np.testing.assert_allclose(found.scores, -np.sort(-cosines.T, axis=1), atol=1e-5)


@pytest.mark.parametrize("name", ["clip", "siglip", "registers", "deit3", "mae"])
def test_merge_tokens_leaves_what_stands_before_the_patches(name: str) -> None:
    bundle = bundle_of(name)
    merged = merge_by(bundle, 1.1)
    tower, images = image_tower(merged), tensors(bundle)
    config = tower.config
    count = sum(config.merge)
    assert count > 0 and config.prefix == image_tower(bundle).config.prefix
    with torch.inference_mode():
        tokens = tower.features(images).tokens
    assert tokens.shape[1] == config.tokens - count
    groups_of = groups(merged.model, images).flatten(1)
    assert all(len(set(row.tolist())) == config.tokens - config.prefix - count for row in groups_of)
    still = VisionTransformer(change(config, merge=(0,) * config.depth))  # the same blocks, nothing merged
    still.load_state_dict(tower.state_dict())
    with torch.inference_mode():
        expected = image_tower(bundle)(images)
        torch.testing.assert_close(still.eval()(images), expected, atol=1e-5, rtol=1e-5)


def test_rotary_models_do_not_merge() -> None:
    with pytest.raises(InputError, match=r"merge is not possible with position_embedding\.rotary"):
        merge_by(bundle_of("dinov3"), 1.1)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_prune(name: str) -> None:
    bundle = bundle_of(name)
    smaller, _ = prune_bundle(bundle, coloured(6), Pruning(mlp_width=64, heads=2))
    config = image_tower(smaller).config
    assert (config.mlp_width, config.heads) == (64, 2) and config.registers == image_tower(bundle).config.registers
    assert smaller.provenance.license_text == bundle.provenance.license_text
    assert np.isfinite(vs.Predictor(smaller).logits(PICTURES)).all()


def short(place: Path, name: str, *, freeze: tuple[str, ...] = (), **more: Any) -> TrainRecipe:
    """Two updates on the three colours, from the model of this name."""
    config = {"pooling": more.pop("pooling")} if "pooling" in more else {}
    fields = {
        "data": {"path": "colours"},
        "model": {"init": str(place / name), "freeze": freeze, "config": config},
        "schedule": {"steps": 2, "warmup": 0},
        "batch": {"size": 6},
        "optimizer": {"lr": 0.1},
        "run": {"eval_every": 2, "baseline": False},
    }
    return parse_recipe(fields | more)


@pytest.mark.parametrize("name", ["clip", "siglip", "registers", "dinov3", "mae"])
def test_a_linear_probe_learns_from_the_features_alone(name: str, place: Path) -> None:
    pooling = {"pooling": "token_and_gap"} if image_tower(bundle_of(name)).config.class_token else {}
    wanted = short(place, name, freeze=("*",), **pooling)
    trained = train_to_bundle(wanted, splits(), None).bundle
    before, after = image_tower(bundle_of(name)), image_tower(trained)
    arrays = dict(after.named_parameters())
    kept = {key: value for key, value in before.named_parameters() if not key.startswith("head.")}
    assert kept and all(torch.equal(arrays[key], value) for key, value in kept.items())
    assert after.config.classes == 3 and arrays["head.weight"].any()
    if pooling:
        assert after.head.in_features == 2 * after.config.width
    assert trained.provenance.license_text == bundle_of(name).provenance.license_text


def test_full_training_changes_every_part(place: Path) -> None:
    wanted = short(place, "registers")
    before = dict(image_tower(bundle_of("registers")).named_parameters())
    after = dict(image_tower(train_to_bundle(wanted, splits(), None).bundle).named_parameters())
    assert all(not torch.equal(after[key], value) for key, value in before.items() if not key.startswith("head."))


def test_a_student_carries_the_agreement_of_its_teacher(place: Path, tmp_path: Path) -> None:
    wanted = short(place, "deit3", distill={"teacher": str(place / "dinov3"), "temperature": 1.0, "weight": 1.0})
    student = train_to_bundle(wanted, splits(), None).bundle
    assert student.provenance.license == "" and student.provenance.license_text == "DINOv3 words"
    told = "its teacher is under the DINOv3 License, whose words are in LICENSE.md"
    assert any(told in note for note in student.provenance.notes)
    vs.save(student, tmp_path / "student")
    of_student = train_to_bundle(short(place, str(tmp_path / "student")), splits(), None).bundle
    distill = {"teacher": str(tmp_path / "student"), "temperature": 1.0, "weight": 1.0}
    pupil = train_to_bundle(short(place, "deit3", distill=distill), splits(), None).bundle
    for one in (student, of_student, pupil):
        assert one.provenance.license_text == "DINOv3 words"
        assert "Licence: that of a model it learnt from is to be passed on with it (LICENSE.md)" in model_card(one)
    assert any("its teacher learnt from a model whose licence is in LICENSE.md" in n for n in pupil.provenance.notes)


@pytest.mark.parametrize(
    ("teacher", "student"),
    [("registers", "clip"), ("deit3", "siglip"), ("registers", "dinov3"), ("deit3", "registers"), ("dinov3", "mae")],
)
def test_every_family_learns_from_a_teacher_that_answers_as_its_model(teacher: str, student: str, place: Path) -> None:
    teaching = bundle_of(teacher)
    with torch.inference_mode():
        expected = teaching.model(tensors(teaching))
    found = Teacher(teaching, LABELS[::-1], teaching.preprocessing)(tensors(teaching))
    torch.testing.assert_close(found, expected.flip(-1))
    trained = train_to_bundle(short(place, student, distill={"teacher": str(place / teacher)}), splits(), None).bundle
    before, after = image_tower(bundle_of(student)), image_tower(trained)
    assert after.config.classes == 3 and after.config.registers == before.config.registers
    kept = [name for name, _ in after.named_parameters() if not name.startswith("head.")]
    assert all(not torch.equal(after.get_parameter(name), before.get_parameter(name)) for name in kept)
    assert np.isfinite(vs.Predictor(trained).logits(PICTURES)).all()


def int8_program(bundle: vs.Bundle, engine: str, scheme: Scheme, place: Path) -> vs.Bundle:
    """What `quantize` makes by one of its schemes, without the search."""
    (place / "float").mkdir()
    images = tensors(bundle).numpy()
    programs = PROGRAMS[engine](parts_of(bundle, images), place / "float")

    described = bundle.as_program(programs.program, ProgramSpec(precision="int8"), by="vitsmith quantize")
    return write_bundle(
        replace(described, golden=None),
        place / "int8",
        write_program=lambda files: programs.write(scheme, images, files),
    )


@pytest.mark.parametrize(
    ("name", "engine", "kind"),
    [*((name, "onnx", "dynamic") for name in FAMILIES), ("dinov3", "openvino", "static")],
)
def test_int8_programs_answer_nearly_as_their_models(name: str, engine: str, kind: Any, tmp_path: Path) -> None:
    bundle = vs.Bundle.of(image_tower(bundle_of(name)))
    images = tensors(bundle).numpy()
    made = int8_program(bundle, engine, Scheme(kind), tmp_path)
    expected, found = bundle.run_torch(images), open_engine(made, engine).run(images)
    assert (unit(expected) * unit(found)).sum(axis=1).min() > 0.98
    assert not np.allclose(found, expected, rtol=0, atol=1e-6), "nothing was rounded"


class Uncompiled(TorchVariantMaker):
    """Programs are the torch models themselves, and cost what their arithmetic costs."""

    def compile(self, bundle: vs.Bundle, precision: str, folder: Path, selection: Samples) -> vs.Bundle:
        return bundle

    def measure(self, bundle: vs.Bundle) -> ProgramCost:
        return ProgramCost("torch", *[float(flops(bundle.config))] * 2, 1.0, 1.0)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_compress_finds_a_smaller_image(name: str, tmp_path: Path) -> None:
    bundle = bundle_of(name)
    images = TaskImages(coloured(12), coloured(40), True, "colours")
    maker = Uncompiled(bundle, images, "colours", max_drop=100, steps=0, seed=0)
    space = SearchSpace(resolutions=(0.71,), keeps=(), merges=(), precisions=("fp32",))
    found = search_programs(bundle, images, space, Requirements(accuracy_drop=100), "cheapest", maker, tmp_path)
    assert found.chosen is not None and found.holds and not found.refused
    chosen = found.chosen.bundle
    assert flops(chosen.config) < flops(bundle.config)
    assert chosen.preprocessing.size == chosen.config.image_size < bundle.config.image_size
    right = maker.right_answers(chosen, halves(images.evaluation)[0])
    assert found.chosen.top1 == right.mean()


@pytest.mark.parametrize("name", FAMILIES)
def test_benchmark_tells_arithmetic_and_answers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "measure_memory", lambda task: {batch: Memory(1) for batch in task.batches})
    monkeypatch.setattr(session, "_peaks", lambda _: {})
    subject = Subject(name, name, bundle_of(name))
    settings = BenchmarkSettings((2,), None, Pace(seconds=0.01, turns=1, warm=0.0))
    answers = AnswerData(reference_of([subject], PICTURES))
    (row,) = run_benchmark(contenders_of(subject, ["torch"], ["fp32"]), settings, answers).rows
    told = row.to_dict()
    assert not told["reason"] and told["images_per_second"] > 0
    assert told["gflops"] == flops(image_tower(subject.bundle).config) / 1e9
    assert told["difference"] < 1e-5 and (told["agreement"] == 1) is (name in CLASSIFIERS)


def test_two_programs_give_the_scores_of_two_towers(tmp_path: Path) -> None:
    bundle = bundle_of("siglip")
    export_onnx(bundle, tmp_path / "onnx")
    asked: dict[str, Any] = {"templates": "{}", "scores": "independent", "cache": False}
    expected = vs.ZeroShotClassifier(bundle, LABELS, **asked)(PICTURES)
    found = vs.ZeroShotClassifier(tmp_path / "onnx", LABELS, engine="onnx", **asked)(PICTURES)
    np.testing.assert_allclose([one.scores for one in found], [one.scores for one in expected], atol=1e-5)
    assert found[0].meaning == "probability" and found[0].independent


@pytest.mark.parametrize("name", FAMILIES)
def test_lit_locks_the_image_tower(name: str, place: Path, tmp_path: Path) -> None:
    changes = {"schedule": {"steps": 1, "warmup": 0}, "run": {"eval_every": 1}}
    wanted = lit_recipe(place / name, write_pairs(tmp_path / "pairs", 24), **changes)
    with Run("lit", name, tmp_path / "run") as run:
        trained = lit_to_bundle(wanted, open_pairs(wanted.data), run).bundle
    encoder = vs.Encoder(trained)
    np.testing.assert_allclose(encoder.images(PICTURES), vs.Encoder(bundle_of(name)).images(PICTURES), atol=1e-5)
    assert encoder.texts(["a red picture"]).shape == (1, encoder.width)
    assert trained.provenance.license_text == bundle_of(name).provenance.license_text


def test_what_makes_no_sense_is_said_in_one_line(place: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    Path("t.txt").write_text("a red dog\n")
    write_folder(Path("colours"), 60)
    refused = {
        ("predict", "clip", "photos"): "clip matches images with words: use vitsmith zeroshot with labels",
        ("predict", "mae", "photos"): "mae has no classifier, so it cannot name classes",
        ("zeroshot", "dinov3", "photos", "--labels", "a,b"): "is a model of images alone: it cannot read text",
        ("embed", "registers", "--texts-file", "t.txt", "--out", "x"): "is a model of images alone",
        ("embed", "siglip", "photos", "--what", "class", "--out", "x"): "siglip has no class token: give 'patches'",
        (
            "merge-tokens",
            "dinov3",
            "--keep",
            "0.9",
            "--images",
            "photos",
        ): "not possible with position_embedding.rotary",
        ("evaluate", "mae", "--data", "digits"): "mae has no classifier",
        ("prune", "clip", "--images", "photos", "--keep", "0.7"): "only classifiers can be pruned",
        ("prune", "siglip", "--images", "photos", "--keep", "0.7"): "only classifiers can be pruned",
        ("prune", "mae", "--images", "photos", "--keep", "0.7"): "mae has no classifier",
        ("compress", "clip", "--data", "colours"): "only classifiers can be pruned",
        ("compress", "siglip", "--data", "colours"): "only classifiers can be pruned",
        ("compress", "mae", "--data", "colours"): "mae has no classifier",
        ("predict", "siglip", "photos"): "siglip matches images with words",
        ("predict", "siglip", "photos", "--labels", "a,b"): "siglip has no classes to be named, it matches images with",
        ("evaluate", "clip", "--data", "colours"): "use vitsmith zeroshot with labels",
        ("evaluate", "siglip", "--data", "colours"): "use vitsmith zeroshot with labels",
        ("distill", "colours", "--teacher", "clip", "--model", "mae"): "the teacher clip has no classifier",
        ("distill", "colours", "--teacher", "siglip", "--model", "mae"): "the teacher siglip has no classifier",
        ("distill", "colours", "--teacher", "mae", "--model", "deit3"): "the teacher mae has no classifier",
        ("export", "dinov3", "--to", "npz"): "cannot hold registers",
        ("export", "registers", "--to", "npz"): "cannot hold registers",
        ("export", "clip", "--to", "npz"): "cannot hold a patch embedding without bias",
        ("export", "siglip", "--to", "npz"): "cannot hold the bias of a sigmoid loss",
        ("export", "deit3", "--to", "npz"): "cannot hold positions for some of the tokens",
        ("export", "mae", "--to", "npz"): "cannot hold the erf form of GELU",
    }
    for command, told in refused.items():
        code, out, err = call(capsys, *command)
        lines = [line for line in err.splitlines() if line.startswith("vitsmith: ")]
        assert code == 2 and out == "" and len(lines) == 1 and told in lines[0], (command, err)


def test_words_for_an_image_tower_without_a_head_are_told_that_it_reads_no_text(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_model(tmp_path, "siglip-image")
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PICTURES[0]).save("a.png")
    for verb in (("zeroshot", "a.png", "--labels", "a,b"), ("evaluate", "--data", "digits", "--zeroshot")):
        code, _, err = call(capsys, verb[0], "model.safetensors", *verb[1:])
        assert code == 2 and "is a model of images alone: it cannot read text; use CLIP, SigLIP or LiT" in err

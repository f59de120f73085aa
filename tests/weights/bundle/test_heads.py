"""What outputs mean belongs to the bundle: softmax, sigmoid or values, from the checkpoint to the last answer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitsmith as vs
from tests.command_line import call
from tests.exporting import export_executorch, export_onnx
from tests.tiny import CONFIGS, MIXER, VIT, pictures, tiny_lit, tiny_model
from tests.training.small_runs import recipe, splits, training, write_folder
from tests.weights.foreign_files import HF_CONFIG
from tests.weights.foreign_files import written as foreign_written
from tests.weights.foreign_reference import hf_vit, timm_vit
from vitsmith import Bundle, Labels, Predictor
from vitsmith.benchmark.answers import compare_with, reference_of
from vitsmith.benchmark.contenders import Subject
from vitsmith.compress.merge_tokens.run import check_mergeable, merge_by
from vitsmith.compress.prune.run import check_prunable
from vitsmith.compress.quantize.run import check_quantizable
from vitsmith.compress.search.resize import resize_bundle
from vitsmith.data.batches.loader import Batch
from vitsmith.engines.open import open_engine
from vitsmith.errors import BundleError, ConfigError, InputError, UnknownNameError, WeightsError
from vitsmith.evaluation.calibration import log_probabilities
from vitsmith.evaluation.evaluation import evaluate
from vitsmith.evaluation.scores import score_logits
from vitsmith.models.configure import change
from vitsmith.predict import Prediction, scores_from_logits
from vitsmith.report.sections import most_wrong
from vitsmith.specs import ProgramSpec
from vitsmith.training.images.bundle import make_bundle
from vitsmith.training.images.teacher import open_teacher
from vitsmith.training.recipes.recipe import DistillSpec
from vitsmith.training.update.losses import DistillLoss
from vitsmith.weights.bundle.card import model_card
from vitsmith.weights.bundle.folder import write_bundle
from vitsmith.weights.fetch.augreg import augreg_head
from vitsmith.weights.jax.writer import save_npz
from vitsmith.weights.labels import with_labels

NAMES = ("ant", "bee", "cat", "dog", "eel")
PICTURES = pictures(3)


def bundle_of(head: Any, *, names: tuple[str, ...] | None = NAMES) -> Bundle:
    return Bundle.of(tiny_model(VIT), head=head, labels=Labels(names=names) if names else None)


def described(folder: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((folder / "bundle.json").read_text())
    return fields


# where it is kept


def test_a_bundle_keeps_its_head(tmp_path: Path) -> None:
    for head in ("softmax", "sigmoid", "regression"):
        vs.save(bundle_of(head), tmp_path / head)
        assert vs.load(tmp_path / head).head == head
        assert described(tmp_path / head)["head"] == head
    identities = {vs.load(tmp_path / head).identity for head in ("softmax", "sigmoid", "regression")}
    assert len(identities) == 1  # the weights and what they embed are the same
    assert vs.load(tmp_path / "sigmoid", headless=True).head == "none"


def test_a_head_that_cannot_be_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="sigmoid"):
        bundle_of("sigmoyd")
    for model in (tiny_model(change(VIT, classes=0)), tiny_model(CONFIGS["lit-bert"])):
        with pytest.raises(BundleError, match="the head is 'sigmoid', but the model has no classes"):
            Bundle.of(model, head="sigmoid")


@pytest.mark.parametrize("head", ["sigmoid", "regression"])
def test_what_is_made_from_a_bundle_has_its_head(tmp_path: Path, head: Any) -> None:
    bundle = bundle_of(head, names=None)
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    assert with_labels(bundle, tmp_path / "labels.txt").head == head
    exported, _ = export_onnx(bundle, tmp_path / "onnx")
    assert (exported.head, vs.load(tmp_path / "onnx").head) == (head, head)
    assert resize_bundle(bundle, (24, 32)).head == head
    if head == "sigmoid":
        assert merge_by(bundle, 1.1).head == head
    with pytest.raises(WeightsError, match=rf"\.npz format cannot say what the outputs mean \({head}\)"):
        vs.save(bundle, tmp_path / "x.npz", format="npz")
    assert not (tmp_path / "x.npz").exists()


# where it comes from


@pytest.mark.parametrize(
    ("fields", "head"),
    [
        ({}, "softmax"),
        ({"problem_type": None}, "softmax"),
        ({"problem_type": "single_label_classification"}, "softmax"),
        ({"problem_type": "multi_label_classification"}, "sigmoid"),
        ({"problem_type": "regression"}, "regression"),
    ],
)
def test_the_problem_type_of_hf_is_the_head(tmp_path: Path, fields: dict[str, Any], head: str) -> None:
    path = foreign_written(tmp_path, hf_vit(), HF_CONFIG | fields)
    assert vs.load(path).head == head
    assert vs.load(path, headless=True).head == "none"


def test_one_output_of_hf_is_a_value_unless_it_says_otherwise(tmp_path: Path) -> None:
    state = hf_vit()
    state["classifier.weight"], state["classifier.bias"] = state["classifier.weight"][:1], state["classifier.bias"][:1]
    bundle = vs.load(foreign_written(tmp_path, state, HF_CONFIG))
    assert bundle.head == "regression"
    assert any("no problem_type" in note for note in bundle.provenance.notes)
    path = foreign_written(tmp_path, state, HF_CONFIG | {"problem_type": "multi_label_classification"})
    bundle = vs.load(path, preprocessing="usual")
    assert (bundle.head, bundle.classes) == ("sigmoid", 1)
    expected = 1 / (1 + np.exp(-Predictor(bundle, "torch").logits(PICTURES)))
    found = [one.probabilities for one in Predictor(bundle, "torch")(PICTURES)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["multi_label", 3, ["regression"]])
def test_an_unknown_problem_type_is_refused(tmp_path: Path, kind: Any) -> None:
    path = foreign_written(tmp_path, hf_vit(), HF_CONFIG | {"problem_type": kind})
    with pytest.raises(WeightsError, match=r"problem_type .* is unknown, known are single_label_classification"):
        vs.load(path)
    assert vs.load(path, headless=True).classes == 0


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_training_gives_its_loss_to_the_head(kind: str) -> None:
    wanted = recipe(loss={"kind": kind}, schedule={"steps": 2, "warmup": 0})
    run = training(wanted)
    result = run.go()
    bundle = make_bundle(run.task.state.whole_model(), run.task.images, wanted, splits(), result, {})
    assert bundle.head == kind
    held = result.predicted
    expected = score_logits(held.logits, held.labels, bundle.head)
    assert (
        result.final.scores.nll == expected.nll and result.final.scores.calibration_error == expected.calibration_error
    )


# probabilities


def test_probabilities_of_a_sigmoid_are_of_each_class_alone() -> None:
    bundle = bundle_of("sigmoid")
    predictor = Predictor(bundle, "torch")
    logits = predictor.logits(PICTURES)
    for one, row in zip(predictor(PICTURES), torch.from_numpy(logits).sigmoid().numpy(), strict=True):
        np.testing.assert_allclose(one.probabilities, row, rtol=1e-6)
        assert one.meaning == "probability" and one.independent
        assert one.probability == pytest.approx(row.max()) and one.label == NAMES[row.argmax()]
    alone = Predictor(bundle_of("softmax"), "torch")(PICTURES)[0]
    assert not alone.independent and alone.probabilities.sum() == pytest.approx(1)
    np.testing.assert_allclose(alone.probabilities, torch.from_numpy(logits[0]).softmax(dim=0).numpy(), rtol=1e-5)


def test_values_are_values_and_no_class_is_named() -> None:
    predictor = Predictor(bundle_of("regression"), "torch")
    one, values = predictor(PICTURES)[0], predictor.logits(PICTURES)[0]
    np.testing.assert_array_equal(one.scores, values)
    assert one.meaning == "value" and not one.independent
    assert one.top(1) == list(zip(NAMES, values.tolist(), strict=True))  # all of them, in their order
    for name in ("probability", "probabilities"):
        with pytest.raises(InputError, match=r"values of a regression, not probabilities: use \.scores"):
            getattr(one, name)
    for name in ("index", "label", "score"):
        with pytest.raises(InputError, match="does not name a class"):
            getattr(one, name)
    assert "%" not in str(one) and f"ant {values[0]:.6g}" in str(one)
    unnamed = Predictor(bundle_of("regression", names=None), "torch")(PICTURES)[0]
    assert unnamed.top()[2][0] == "value 2"


@pytest.mark.parametrize("head", ["softmax", "sigmoid"])
def test_classes_whose_probabilities_round_to_the_same_are_in_the_order_of_their_logits(head: Any) -> None:
    bundle = bundle_of(head)
    bundle.model.head.weight.data.zero_()
    bundle.model.head.bias.data[:] = torch.tensor([20.0, -300, 300, 25, -200])
    (answer,) = Predictor(bundle, "torch")(PICTURES[:1])
    assert (answer.label, answer.index, answer.best()) == ("cat", 2, [2, 3, 0, 4, 1])
    assert answer.score == answer.probability == 1
    if head == "sigmoid":
        assert [score for _, score in answer.top(4)] == [1, 1, 1, 0]


def test_a_cosine_is_no_probability() -> None:
    classifier = vs.ZeroShotClassifier(tiny_lit(), ["cat", "dog"], scores="independent", cache=False)
    one = classifier(PICTURES)[0]
    assert (one.meaning, one.independent, classifier.score_meaning) == ("cosine", True, "cosine")
    for name in ("probability", "probabilities"):
        with pytest.raises(InputError, match=r"cosines of an image and words, not probabilities: use \.scores"):
            getattr(one, name)
    assert one.score == one.scores.max() and one.top(1) == [(one.label, one.score)]
    assert str(one) == f"image 0: {one.label} {one.score:.3f} (cosine)"
    single = vs.ZeroShotClassifier(tiny_lit(), ["cat", "dog"], cache=False)(PICTURES)[0]
    assert (single.meaning, single.independent) == ("probability", False)
    biased = vs.ZeroShotClassifier(tiny_lit("lit-bias"), ["cat", "dog"], scores="independent", cache=False)
    assert (biased.head, biased(PICTURES)[0].meaning, biased(PICTURES)[0].independent) == (
        "sigmoid",
        "probability",
        True,
    )
    assert "%" in str(single)


def test_one_label_alone_has_no_probability(tmp_path: Path, capsys: Any, photo: Path) -> None:
    with pytest.raises(InputError, match="one label, 'cat', would get a probability of 1 for every image"):
        vs.ZeroShotClassifier(tiny_lit(), ["cat"], cache=False)
    assert -1 <= vs.ZeroShotClassifier(tiny_lit(), ["cat"], scores="independent", cache=False)(PICTURES)[0].score <= 1
    vs.save(tiny_lit(), tmp_path / "lit")
    code, out, err = call(capsys, "zeroshot", tmp_path / "lit", photo, "--labels", "cat", "--no-cache")
    assert (code, out) == (2, "") and "--scores independent" in err
    code, out, _ = call(
        capsys, "zeroshot", tmp_path / "lit", photo, "--labels", "cat", "--no-cache", "--scores", "independent"
    )
    assert code == 0 and "%" not in out


def test_probabilities_of_one_class_are_refused() -> None:
    one = Bundle.of(tiny_model(change(VIT, classes=1)))
    with pytest.raises(InputError, match=r"has one class, and softmax gives it a probability of 1 for every image"):
        Predictor(one, "torch")
    assert Predictor(dataclasses.replace(one, head="sigmoid"), "torch")(PICTURES)[0].probability < 1


def test_scores_of_extreme_logits() -> None:
    extremes = np.array([3e38, -3e38, 0, -0.0, 88, -104], np.float32)
    np.testing.assert_array_equal(scores_from_logits(extremes, "sigmoid")[:4], np.array([1, 0, 0.5, 0.5], np.float32))
    np.testing.assert_array_equal(scores_from_logits(extremes, "regression"), extremes)
    logs = log_probabilities(extremes[None], "sigmoid")
    assert np.isfinite(logs).all() and logs[0, 2] == pytest.approx(np.log(0.5)) and logs[0, 5] == pytest.approx(-104)
    ties = Prediction("x", np.full(4, 0.25, np.float32))
    assert ties.best(3) == [0, 1, 2] and ties.index == 0


# evaluation


def test_scores_of_a_sigmoid_are_those_of_each_class() -> None:
    random = np.random.default_rng(0)
    logits, labels = random.normal(0, 3, (40, 6)).astype(np.float32), random.integers(0, 6, 40)
    found = score_logits(logits, labels, "sigmoid")
    present = torch.nn.functional.one_hot(torch.from_numpy(labels), 6).double()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.from_numpy(logits).double(), present, reduction="none"
    )
    assert found.nll == pytest.approx(float(loss.sum(dim=1).mean()), rel=1e-9)
    confidence = torch.from_numpy(logits).double().sigmoid().max(dim=1).values.numpy()
    means = [(each.confidence, each.count) for each in found.reliability if each.confidence is not None]
    assert sum(mean * count for mean, count in means) / 40 == pytest.approx(confidence.mean())
    plain = score_logits(logits, labels)
    assert (found.top1, found.top5) == (plain.top1, plain.top5) and found.nll != plain.nll
    with pytest.raises(InputError, match="values of a regression have no first choice"):
        score_logits(logits, labels, "regression")


def test_evaluating_takes_the_head_of_the_model() -> None:
    samples = splits().val
    model = Bundle.of(tiny_model(change(VIT, classes=3)), labels=Labels(names=samples.classes), head="sigmoid")
    found = evaluate(Predictor(model, "torch"), samples)
    assert found.scores.nll == score_logits(found.logits, found.labels, "sigmoid").nll
    values = dataclasses.replace(model, head="regression")
    with pytest.raises(
        InputError, match=r"gives values \(a regression\) and no classes, and cannot be evaluated by top-1 accuracy"
    ):
        evaluate(Predictor(values, "torch"), samples)


def test_the_worst_mistakes_are_by_the_models_own_probability() -> None:
    # by softmax the first is the worse: the true class has less of the sum; by sigmoid the second
    logits = np.array([[9.0, 1.0, 9.0], [1.0, 0.0, -9.0]], np.float32)
    labels = np.array([1, 1])
    assert most_wrong(logits, labels, 2) == [0, 1]
    assert most_wrong(logits, labels, 2, "sigmoid") == [1, 0]


@pytest.mark.parametrize("check", [check_prunable, check_mergeable, lambda bundle: check_quantizable(bundle, "onnx")])
def test_verbs_that_compare_first_choices_refuse_values(check: Any) -> None:
    check(bundle_of("sigmoid"))
    with pytest.raises(InputError, match="cannot be evaluated by agreement of first choices"):
        check(bundle_of("regression"))


def test_int8_of_values_is_refused_and_benchmarks_name_no_class(tmp_path: Path) -> None:
    bundle = bundle_of("regression")
    with pytest.raises(InputError, match="gives values"):
        export_executorch(bundle, tmp_path / "x", spec=ProgramSpec(precision="int8"))
    subject = Subject("x", "x", bundle)
    reference = reference_of([subject], PICTURES)
    assert reference is not None
    parity = compare_with(reference, open_engine(bundle, "torch"), bundle)
    assert parity is not None and parity.agreement is None and parity.difference == 0


# distillation


def test_a_sigmoid_teacher_teaches_each_class() -> None:
    random = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(4, 5, generator=random) * 3, torch.randn(4, 5, generator=random)
    labels, temperature = torch.tensor([0, 1, 4, 2]), 2.0
    spec = DistillSpec(teacher="x", kind="soft", temperature=temperature, weight=0.25)
    found = DistillLoss(lambda _: teacher, spec, "sigmoid")(student, Batch(torch.zeros(4, 3, 2, 2), labels))
    p, q = (teacher / temperature).double().sigmoid(), (student / temperature).double().sigmoid()
    kl = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(dim=1).mean() * temperature**2
    truth = torch.nn.functional.one_hot(labels, 5).double()
    own = student.double().sigmoid()
    by_labels = -(truth * own.log() + (1 - truth) * (1 - own).log()).sum(dim=1).mean()
    assert float(found) == pytest.approx(float(0.75 * by_labels + 0.25 * kl), rel=1e-5)
    alike = DistillLoss(lambda _: teacher, spec.model_copy(update={"weight": 1.0}), "sigmoid")
    assert float(alike(teacher, Batch(torch.zeros(4, 3, 2, 2), labels))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("head", ["softmax", "sigmoid", "regression"])
def test_teacher_and_loss_must_mean_the_same(tmp_path: Path, head: Any) -> None:
    names = splits().classes
    vs.save(Bundle.of(tiny_model(change(VIT, classes=3)), labels=Labels(names=names), head=head), tmp_path / "teacher")
    for kind in ("softmax", "sigmoid"):
        wanted = recipe(loss={"kind": kind}, distill={"teacher": str(tmp_path / "teacher")})
        if head == kind:
            assert open_teacher(wanted, names, vs.ImageSpec.original(16), "cpu")._head == head
            continue
        told = "gives values" if head == "regression" else f"set loss.kind={head}"
        with pytest.raises(ConfigError, match=told):
            open_teacher(wanted, names, vs.ImageSpec.original(16), "cpu")
    with pytest.raises(ConfigError, match="deit-hard is for classes that exclude each other"):
        recipe(loss={"kind": "sigmoid"}, distill={"teacher": "x", "kind": "deit-hard"})


# what people see


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.fromarray(PICTURES[0]).save(tmp_path / "x.png")
    return tmp_path / "x.png"


def test_predict_shows_what_the_head_means(capsys: Any, tmp_path: Path, photo: Path) -> None:
    logits = Predictor(bundle_of("softmax"), "torch").logits([photo])[0]
    for head in ("softmax", "sigmoid", "regression"):
        vs.save(bundle_of(head), tmp_path / head)
    _, out, err = call(capsys, "predict", tmp_path / "sigmoid", photo, "--top", 5)
    assert "scored by itself (sigmoid)" in err and "%" in out
    _, out, _ = call(capsys, "predict", tmp_path / "sigmoid", photo, "--json", "--top", 5)
    row = json.loads(out)
    assert row["head"] == "sigmoid"
    likely = [one["label"] for one in row["predictions"] if logits[one["index"]] >= 0]
    assert row["present"] == likely and 0 < len(likely) < 5
    for one in row["predictions"]:
        expected = 1 / (1 + np.exp(-logits[one["index"]]))
        assert one["probability"] == pytest.approx(expected, abs=2e-6)
    _, out, _ = call(capsys, "predict", tmp_path / "regression", photo)
    assert "%" not in out and all(f"{value:.6g}" in out for value in logits)
    _, out, _ = call(capsys, "predict", tmp_path / "regression", photo, "--json")
    row = json.loads(out)
    assert row["head"] == "regression"
    assert [one["label"] for one in row["predictions"]] == list(NAMES)
    assert [np.float32(one["value"]) for one in row["predictions"]] == [np.float32(f"{v:.9g}") for v in logits]
    _, out, _ = call(capsys, "predict", tmp_path / "regression", photo, "--csv")
    header, cells = (line.split(",") for line in out.splitlines())
    assert header[:3] == ["image", "label1", "value1"] and cells[1:3] == ["ant", f"{logits[0]:.9g}"]
    _, out, _ = call(capsys, "predict", tmp_path / "softmax", photo, "--json")
    assert "head" not in json.loads(out)


def test_inspect_and_card_say_what_the_head_means(capsys: Any, tmp_path: Path) -> None:
    for head, told in (
        ("sigmoid", "5 classes, each scored by itself (sigmoid)"),
        ("regression", "5 values (regression)"),
    ):
        vs.save(bundle_of(head), tmp_path / head)
        _, out, _ = call(capsys, "inspect", tmp_path / head)
        assert told in out
        assert f"- Outputs: {told}" in (tmp_path / head / "README.md").read_text()
    assert "Outputs" not in model_card(bundle_of("softmax"))
    one = Bundle.of(tiny_model(change(VIT, classes=1)), head="regression")
    assert "1 value (regression)" in model_card(one)


def test_evaluate_and_quantize_refuse_values_in_one_line(capsys: Any, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", 12)
    model = Bundle.of(tiny_model(change(VIT, classes=3)), labels=Labels(names=splits().classes), head="regression")
    vs.save(model, tmp_path / "model")
    for verb in (["evaluate"], ["quantize"], ["prune", "--keep", "0.5"]):
        code, out, err = call(capsys, *verb[:1], tmp_path / "model", "--data", data, *verb[1:])
        assert (code, out) == (2, "") and "gives values (a regression)" in err.splitlines()[-1]


def test_a_mixer_has_a_head_too(tmp_path: Path) -> None:
    bundle = write_bundle(Bundle.of(tiny_model(MIXER), head="sigmoid"), tmp_path / "mixer")
    assert Predictor(bundle, "torch")(PICTURES)[0].independent


def many(classes: int, bias: float, *, depth: int = 1) -> Bundle:
    """A head of so many classes whose biases are `bias` on average."""
    bundle = Bundle.of(tiny_model(change(VIT, width=8, heads=1, depth=depth, image_size=(16, 16), classes=classes)))
    bundle.model.head.bias.data += bias
    return bundle


@pytest.mark.parametrize(
    ("name", "classes", "bias", "head", "told"),
    [
        ("B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0.npz", 200, 0, "sigmoid", "AugReg pre-trained it"),
        ("R26_S_32-i1k-300ep-lr_0.001-aug_none-wd_0.1-do_0.0-sd_0.0.npz", 200, 0, "sigmoid", "AugReg pre-trained it"),
        ("B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.01-res_384.npz",
         200, -9, "softmax", ""),
        ("my.npz", 21_843, 0, "sigmoid", "21,843 classes of ImageNet-21k"),
        ("my.npz", 1000, -6.5, "softmax", "biases of its head are -6.5 on average"),
        ("my.npz", 1000, 0, "softmax", ""),
        ("my.npz", 5, -9, "softmax", ""),
    ],
)  # fmt: skip
def test_what_a_checkpoint_does_not_say_is_told(
    capsys: Any, tmp_path: Path, photo: Path, name: str, classes: int, bias: float, head: Any, told: str
) -> None:
    save_npz(many(classes, bias).model, tmp_path / name)
    bundle = vs.load(tmp_path / name)
    assert bundle.head == head
    notes = " ".join(bundle.provenance.notes)
    assert told in notes and ("sigmoid" in notes) == bool(told)
    assert vs.load(tmp_path / name, headless=True).head == "none"
    vs.save(bundle, tmp_path / name, format="npz")  # it is read back as it was
    if told:
        code, _, err = call(capsys, "predict", tmp_path / name, photo)
        assert code == 0 and told in " ".join(err.split())


def test_an_npz_that_would_be_read_as_something_else_is_not_written(tmp_path: Path) -> None:
    for bundle, name, told in (
        (dataclasses.replace(many(300, 0), head="sigmoid"), "x.npz", r"\(sigmoid\): they would be read as softmax"),
        (many(300, 0), "B_16-i21k-30ep-x.npz", r"\(softmax\): they would be read as sigmoid"),
    ):
        with pytest.raises(WeightsError, match=told):
            vs.save(bundle, tmp_path / name, format="npz")
    assert not list(tmp_path.iterdir())


def test_a_timm_model_of_imagenet_21k_is_a_sigmoid(tmp_path: Path) -> None:
    state = timm_vit()
    generator = torch.Generator().manual_seed(0)
    state["head.weight"] = torch.randn((21_843, state["head.weight"].shape[1]), generator=generator)
    state["head.bias"] = torch.zeros(21_843)
    bundle = vs.load(foreign_written(tmp_path, state, None))
    assert bundle.head == "sigmoid" and "21,843 classes" in " ".join(bundle.provenance.notes)


@pytest.mark.parametrize(
    ("url", "head"),
    [
        ("https://storage.googleapis.com/vit_models/augreg/B_16-i21k-300ep-sd_0.0.npz", "sigmoid"),
        ("https://storage.googleapis.com/vit_models/augreg/B_16-i1k-300ep-sd_0.0.npz", "sigmoid"),
        ("https://mirror/augreg/B_16-i21k-300ep-sd_0.0--imagenet2012-res_224.npz", "softmax"),
        ("https://storage.googleapis.com/vit_models/imagenet21k/ViT-B_16.npz", None),
        ("https://storage.googleapis.com/vit_models/sam/ViT-B_16.npz", None),
    ],
)
def test_augreg_was_pretrained_with_sigmoid(url: str, head: str | None) -> None:
    assert augreg_head(url) == head

"""Labels in words as the head of an ordinary classifier: its logits, its parts, what takes it, and what is refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.command_line import call
from tests.contracts import CONTRACTS
from tests.exporting import export_openvino, export_triton
from tests.tiny import CONFIGS, VIT, pictures, tiny_lit, tiny_model
from vitsmith import Bundle, Predictor, load, save
from vitsmith.data.images.preprocess import preprocess
from vitsmith.encode import Encoder
from vitsmith.errors import GateError, InputError, WeightsError
from vitsmith.exporters.parts import parts_of
from vitsmith.models.config import LiTConfig
from vitsmith.models.configure import change
from vitsmith.models.cost import flops, parameters
from vitsmith.weights.finetune import adapt
from vitsmith.zeroshot.classifier import ZeroShotClassifier

LABELS = ("cat, indoors", "red circle", "blue square")
TEMPLATES = ("a photo of the {}", "{}")
PICTURES = pictures(5)


@pytest.fixture(autouse=True)
def cache_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))


def siglip() -> Bundle:
    """Attention pooling, no class token and no projection, and a bias: as SigLIP's."""
    pool = {"pooling": "attention", "attention_pool": {"heads": 4, "mlp_width": 40}, "class_token": False}
    config = LiTConfig(image=change(VIT, classes=0, **pool), text=CONFIGS["lit-bert"].text, bias=True)
    model = tiny_model(config)
    return Bundle.of(model, vocabulary=tiny_lit().vocabulary)


def clip() -> Bundle:
    """A projection without bias and a norm before the blocks, as CLIP's."""
    text = tiny_lit().config.text.model_copy(update={"classes": 24})
    image = change(VIT, classes=24, head_bias=False, norm_before=True, patch_bias=False)
    return Bundle.of(tiny_model(LiTConfig(image=image, text=text)), vocabulary=tiny_lit().vocabulary)


MODELS = {"lit": tiny_lit, "lit with a biased projection": lambda: tiny_lit("lit-bert-projected"), "clip": clip,
          "siglip": siglip}  # fmt: skip


def by_hand(classifier: ZeroShotClassifier, bundle: Bundle) -> np.ndarray:
    """Logits in float64 from what the image tower gives, and nothing else of the classifier but its embeddings."""
    tensors = torch.from_numpy(np.stack([preprocess(one, bundle.preprocessing) for one in PICTURES]))
    with torch.inference_mode():
        raw = bundle.model.image(tensors).double().numpy()
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    similarity = bundle.similarity
    return similarity.temperature * unit @ classifier.embeddings.T.astype(np.float64) + (similarity.bias or 0)


@pytest.mark.parametrize("name", MODELS)
def test_its_logits_are_temperature_times_cosine(name: str, tmp_path: Path) -> None:
    bundle = MODELS[name]()
    scores = "single" if bundle.similarity.bias is None else "independent"
    classifier = ZeroShotClassifier(bundle, LABELS, templates=TEMPLATES, scores=scores)
    made = save(classifier.to_bundle(), tmp_path / "model")
    assert made is not None and made.config.family == "vit" and made.text is None and made.vocabulary is None
    assert made.head == classifier.head == ("softmax" if scores == "single" else "sigmoid")
    assert made.labels is not None and made.labels.names == LABELS
    read = load(tmp_path / "model")  # which compares the golden answers, those of the classifier itself
    expected = by_hand(classifier, bundle)
    found = Predictor(read)
    np.testing.assert_allclose(found.logits(PICTURES), expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(found.logits(PICTURES), classifier.logits(PICTURES), atol=1e-5 * np.abs(expected).max())
    for one, other in zip(found(PICTURES), classifier(PICTURES), strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        assert one.label == other.label and one.independent == other.independent
    np.testing.assert_allclose(Encoder(read).images(PICTURES), classifier.encoder.images(PICTURES), atol=1e-6)
    stored = json.loads((tmp_path / "model" / "bundle.json").read_text())
    assert {"text", "similarity"}.isdisjoint({name for name, value in stored.items() if value is not None})
    assert sorted(one.name for one in (tmp_path / "model").iterdir()) == [
        "README.md", "bundle.json", "golden.safetensors", "model.safetensors"
    ]  # fmt: skip


def test_it_is_exported_as_any_classifier(tmp_path: Path) -> None:
    bundle = clip()
    classifier = ZeroShotClassifier(bundle, LABELS, templates=TEMPLATES)
    made = classifier.to_bundle(PICTURES)
    assert made.verdict is not None and made.verdict.passed and made.verdict.num_images == len(PICTURES)
    expected = by_hand(classifier, bundle)
    export_triton(made, tmp_path / "served", name="words")  # of ONNX
    (names,) = (tmp_path / "served").rglob("labels.txt")
    assert names.read_text(encoding="utf-8").splitlines() == list(LABELS)
    export_openvino(made, tmp_path / "openvino")
    for place in (names.parent / "1", tmp_path / "openvino"):
        found = Predictor(place)
        np.testing.assert_allclose(found.logits(PICTURES), expected, atol=1e-4 * np.abs(expected).max())
        assert found.labels is not None and found.labels.names == LABELS
        assert not [one.name for one in place.iterdir() if one.name.startswith(("text", "tokenizer"))]
    tensors = np.stack([preprocess(one, made.preprocessing) for one in PICTURES])
    (part,) = parts_of(made, tensors, pixels=True)  # whose patches have no bias
    rounded = (tensors * 127.5 + 127.5).round() / 127.5 - 1
    np.testing.assert_allclose(part.run_torch(part.inputs), made.run_torch(rounded), rtol=1e-3, atol=1e-4)


def test_it_is_checked_on_images_of_a_whole_list(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(
        "vitsmith.zeroshot.classifier.classifier_bundle",
        lambda bundle, head, images: seen.extend(int(one[0, 0, 0]) for one in images),
    )
    photos = [np.full((4, 4, 3), at, np.uint8) for at in range(190)]
    classifier = ZeroShotClassifier(tiny_lit(), LABELS, templates=TEMPLATES)
    classifier.to_bundle(photos)
    assert len(seen) == 64 and (seen[0], seen[-1]) == (0, 189) and set(np.diff(seen)) == {3}
    seen.clear()
    classifier.to_bundle(iter(photos))
    assert seen == list(range(64))


def test_where_it_comes_from_is_told(tmp_path: Path) -> None:
    source = save(tiny_lit().with_provenance(license="MIT", origin="hf:some/towers"), tmp_path / "lit")
    assert source is not None
    prompts = {"cat": ["a photo of a cat", "a small cat"], "dog": ["the dog"]}
    made = ZeroShotClassifier(source, prompts).to_bundle()
    provenance = made.provenance
    assert (provenance.source, provenance.parent) == ("vitsmith zeroshot --out", str(tmp_path / "lit"))
    assert (provenance.license, provenance.origin) == ("MIT", "hf:some/towers")
    assert provenance.notes[-2].startswith("the head is made of texts: 2 labels, prompts as they are; logits are ")
    assert provenance.notes[-1] == (
        "words of its labels: 'cat' as 'a photo of a cat', 'a small cat'; 'dog' as 'the dog'"
    )
    plain = ZeroShotClassifier(source, ["cat", "dog"], templates="clip").to_bundle().provenance.notes
    assert "prompts: the 80 of clip" in plain[-1]
    assert made.identity != source.identity and made.config.unit is not None


def test_the_gate_fails_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = ZeroShotClassifier(tiny_lit(), LABELS)
    classifier.embeddings = classifier.embeddings.copy()
    run = classifier._run
    monkeypatch.setattr(classifier, "_run", lambda tensors: run(tensors)[:, ::-1] * np.float32(1.01))
    with pytest.raises(GateError, match="the classifier made of created in memory and 3 labels was refused"):
        classifier.to_bundle()


def test_what_no_head_gives_is_refused() -> None:
    with pytest.raises(InputError, match="have cosines, which no classifier's head gives: use `scores` single"):
        ZeroShotClassifier(tiny_lit(), LABELS, scores="independent").to_bundle()
    with pytest.raises(InputError, match="computes in bfloat16, and a head is made in float32"):
        ZeroShotClassifier(tiny_lit().with_golden(pictures(2)), LABELS, precision="bf16").to_bundle()
    exported = ZeroShotClassifier(tiny_lit(), LABELS)
    exported.encoder.bundle = replace(exported.encoder.bundle, program="onnx")
    with pytest.raises(InputError, match=r"is an exported program .* give the bundle that it was exported from"):
        exported.to_bundle()
    distilled = change(VIT, classes=0, distillation_token=True)
    twice = Bundle.of(
        tiny_model(LiTConfig(image=distilled, text=CONFIGS["lit-bert"].text)), vocabulary=tiny_lit().vocabulary
    )
    with pytest.raises(InputError, match="its image tower has two heads, which a classifier of texts cannot have"):
        ZeroShotClassifier(twice, LABELS).to_bundle()


def test_on_the_command_line(tmp_path: Path, capsys: Any) -> None:
    save(clip(), tmp_path / "clip")
    Image.fromarray(PICTURES[0]).save(tmp_path / "one.png")
    image, place = str(tmp_path / "one.png"), str(tmp_path / "made")
    asked = ["zeroshot", tmp_path / "clip", "--labels", '"cat, indoors", red circle']
    code, out, _ = call(capsys, *asked, "--out", place, "--json")
    facts = json.loads(out)
    assert code == 0 and (facts["written"], facts["classes"], facts["head"]) == (place, 2, "softmax")
    assert facts["gate"]["agreement"] == 1 and facts["gate"]["num_images"] == 14
    told = [call(capsys, *one, image, "--json", "--top", 2)[1] for one in (["predict", place], asked)]
    rows = [json.loads(one)["predictions"] for one in told]
    assert [one["label"] for one in rows[0]] == [one["label"] for one in rows[1]]
    assert {one["label"] for one in rows[0]} == {"cat, indoors", "red circle"}
    np.testing.assert_allclose(*([one["probability"] for one in row] for row in rows), atol=2e-6)
    code, _, said = call(capsys, *asked, "--out", place)
    assert code == 2 and "exists: choose another --out, or replace it with --force" in said
    code, out, said = call(capsys, *asked, "--out", place, "--force", image)
    assert code == 0 and "1 image\n" in out, said
    (tmp_path / "two.png").write_bytes(b"no image")
    code, out, said = call(capsys, *asked, "--out", place, "--force", image, tmp_path / "two.png")
    assert code == 2 and "1 image\n" in out and "left out: " in said, said
    assert "1 of 2 images could not be read, and did not check the classifier, which is written" in said
    code, out, said = call(
        capsys, *asked, "--out", place, "--force", image, tmp_path / "two.png", "--skip-unreadable", "0"
    )
    assert (code, out) == (2, "") and "cannot use the image" in said
    for more, wrong in (
        (["--csv"], "--out writes a classifier and no answers: leave --csv and --top out"),
        (["--scores", "independent"], "use --scores single"),
    ):
        code, _, said = call(capsys, *asked, "--out", place, "--force", *more)
        assert code == 2 and wrong in said, said


def test_an_interruption_after_the_classifier_is_written_says_that_it_is_there(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    save(clip(), tmp_path / "clip")
    asked = ("zeroshot", tmp_path / "clip", "--labels", "cat, dog", "--out", tmp_path / "made")
    with monkeypatch.context() as patch:
        patch.setattr("vitsmith.cli.zeroshot.print_facts", interrupt)
        code, out, err = call(capsys, *asked)
    assert (code, out) == (2, "") and f"interrupted; {tmp_path / 'made'} is written and complete" in err
    load(tmp_path / "made")
    monkeypatch.setattr("vitsmith.zeroshot.classifier.ZeroShotClassifier.to_bundle", interrupt)
    code, _, err = call(capsys, *asked, "--force")
    assert code == 2 and "nothing half-written was left" in err, "what was there before is not this command's"


# --- the part of the model -------------------------------------------------------------------------------------------

UNIT = change(VIT, unit={"width": 20, "bias": False})


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda one: one.__name__)
def test_the_contracts_of_models(contract: Any) -> None:
    contract(UNIT)


def test_its_features_have_length_one_and_its_costs_count() -> None:
    for config in (UNIT, change(VIT, unit={"width": None}), change(UNIT, representation=28)):
        model = tiny_model(config)
        pooled = model.features(torch.randn(2, 3, *config.image_size)).pooled
        torch.testing.assert_close(pooled.norm(dim=-1), torch.ones(2))
        assert parameters(config) == sum(one.numel() for one in model.parameters())
    assert parameters(UNIT) - parameters(change(VIT, classes=0)) == 32 * 20 + 5 * 20 + 5
    assert flops(UNIT) - flops(change(VIT, classes=0)) == 2 * (32 * 20 + 20 * 5)


def test_it_goes_with_the_head_when_another_task_is_learned() -> None:
    model, report = adapt(tiny_model(UNIT), classes=7)
    assert model.config.unit is None and model.head.in_features == 32
    assert report.unused == ["unit.projection.weight"]
    kept, report = adapt(tiny_model(UNIT), classes=7, keep_representation=True)
    assert kept.config.unit == UNIT.unit and "unit.projection.weight" in report.loaded


def test_what_an_npz_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot hold features of length 1 before the head; save a bundle instead"):
        save(ZeroShotClassifier(tiny_lit(), LABELS).to_bundle(), tmp_path / "model.npz", format="npz")


def test_a_label_with_a_comma_goes_everywhere(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an option, repeated, in a file, from Python, as a folder of a data set; in CSV and JSON."""
    monkeypatch.chdir(tmp_path)
    label, labels = "cat, indoors", ("cat, indoors", "dog")
    save(clip(), "clip")
    Path("labels.txt").write_text(f"{label}\ndog\n", encoding="utf-8")
    for number, name in enumerate(labels):
        Path("data", name).mkdir(parents=True)
        Image.fromarray(PICTURES[number]).save(Path("data", name, f"{number}.png"))
    given: list[list[Any]] = [
        ["--labels", f'"{label}", dog'],
        ["--labels", f'"{label}"', "--labels", "dog"],
        ["--labels-file", "labels.txt"],
    ]
    answers = []
    for one in given:
        code, out, err = call(capsys, "zeroshot", "clip", "data", *one, "--csv", "--top", 2)
        assert code == 0, err
        answers.append(list(csv.reader(out.splitlines())))
    assert answers[0] == answers[1] == answers[2] and {*answers[0][1][1::2]} >= {label}
    code, _, err = call(capsys, "evaluate", "clip", "--data", "data", "--zeroshot", "--out", "scores", "--json")
    assert code == 0, err
    assert label in Path("scores", "scores.json").read_text(encoding="utf-8")
    save(ZeroShotClassifier("clip", labels).to_bundle(), "made")
    code, _, err = call(capsys, "evaluate", "made", "--data", "data", "--out", "more", "--json")
    assert code == 0, err

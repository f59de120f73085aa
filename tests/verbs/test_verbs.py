"""The verbs as functions of Python: `vs.export`, `vs.evaluate`, `vs.quantize`, and what opens engines and indexes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vitsmith as vs
from tests.tiny import VIT, pictures, tiny_lit, tiny_model
from vitsmith.compress.quantize.result import Quantized
from vitsmith.compress.quantize.schemes import REQUIRED, SchemeSearch
from vitsmith.exporters import run as exporting

NAMES = ("ant", "bee", "cow", "dog", "eel")


@pytest.fixture(scope="module")
def bundle() -> vs.Bundle:
    return vs.Bundle.of(tiny_model(VIT), labels=vs.Labels(names=NAMES))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def draw(folder: Path, count: int = 2) -> Path:
    for number, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        for at, pixels in enumerate(pictures(count, seed=number)):
            Image.fromarray(pixels).save(folder / name / f"{at}.png")
    return folder


def keep_float(target: Path, bundle: vs.Bundle, photos: Any, settings: Any, **_: Any) -> Quantized:
    """What a climb comes to in which no program is fast enough."""
    assert target == Path("run")
    return Quantized(bundle, settings, photos, None, (), SchemeSearch((), None), None, ())


def test_load_gives_a_bundle_back(bundle: vs.Bundle) -> None:
    assert vs.load(bundle) is bundle
    assert not vs.load(bundle, headless=True).classes
    with pytest.raises(vs.InputError, match="leave out image_size"):
        vs.load(bundle, image_size=512)
    with pytest.raises(vs.InputError, match="leave out gelu and pooling: for checkpoints only"):
        vs.load(bundle, pooling="unpooled", gelu="erf")
    with pytest.raises(vs.InputError, match="instead of"):
        vs.load(bundle, name="ViT-B_16")


def test_an_engine_is_opened_of_what_load_takes(bundle: vs.Bundle, here: Path) -> None:
    vs.save(bundle, "model")
    images = np.stack([np.zeros((3, *bundle.config.image_size), np.float32)])
    found = vs.open_engine("model", engine="torch").run(images)
    assert np.array_equal(found, vs.open_engine(bundle, engine="torch", precision="fp32").run(images))


def test_export_gives_the_bundle_and_its_verdict(bundle: vs.Bundle, here: Path) -> None:
    vs.save(bundle, "pets")
    exported = vs.export("pets", "onnx", images=pictures(3))
    assert exported.program == "onnx" and exported.folder == Path("runs/export/pets-onnx/model")
    verdict = exported.verdict
    assert verdict is not None and verdict.passed and verdict.agreement == 1 and verdict.num_images == 3
    assert vs.load("runs/export/pets-onnx").verdict is None
    pictured = pictures(2)
    ours, theirs = vs.Predictor(bundle)(pictured), vs.Predictor(exported)(pictured)
    assert [one.label for one in ours] == [one.label for one in theirs]


def test_export_refuses_as_the_verb_does(bundle: vs.Bundle, here: Path) -> None:
    with pytest.raises(vs.InputError, match="did you mean onnx"):
        vs.export(bundle, "onxx")
    with pytest.raises(vs.InputError, match="there is no gate"):
        vs.export(bundle, "npz", images=pictures(1))
    with pytest.raises(vs.InputError, match="int8"):
        vs.export(bundle, "onnx", precision="int8")
    (here / "full").mkdir()
    (here / "full" / "mine.txt").write_text("mine")
    with pytest.raises(vs.InputError, match="choose another `out`"):
        vs.export(bundle, "onnx", "full", force=True)
    assert sorted(path.name for path in here.iterdir()) == ["full"]


def test_a_page_has_the_prompts_of_each_label(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lit = tiny_lit()
    asked: list[Any] = []

    def recorded(bundle: vs.Bundle, *given: Any) -> Any:
        asked.append(given[-1])
        return bundle, None

    monkeypatch.setattr(exporting, "export", recorded)
    prompts = {"cat": ["a red cat", "the cat"], "dog": ["a dog"]}
    for labels in (prompts, iter(prompts)):
        vs.export(lit, "web", "page", labels=labels)
    shown = [
        vs.ZeroShotClassifier(lit, extras.labels, templates=extras.templates, cache=False).embeddings
        for extras in asked
    ]
    for one, labels in zip(shown, (prompts, ["cat", "dog"]), strict=True):
        np.testing.assert_array_equal(one, vs.ZeroShotClassifier(lit, labels, cache=False).embeddings)
    assert not np.allclose(*shown, atol=1e-2)
    for wrong, told in (("cat, dog", "labels must be a list, not one text"), ({"cat": ""}, "have an empty one")):
        with pytest.raises(vs.InputError, match=told):
            vs.export(lit, "web", "wrong", labels=wrong)
    assert len(asked) == 2


def test_an_npz_is_a_bundle_again(here: Path) -> None:
    bundle = vs.Bundle.of(tiny_model(VIT.model_copy(update={"image_size": (32, 32)})))
    exported = vs.export(bundle, "npz", "weights")
    assert exported.config == bundle.config and exported.identity == bundle.identity
    assert (here / "weights.npz").is_file()
    known: list[str] = []
    vs.export(bundle, "npz", "weights", force=True, tell=known.append)
    assert known == []
    other = replace(bundle, preprocessing=vs.ImageSpec.pillow((32, 32), crop=0.9))
    bound = bundle.with_provenance(license="DINOv3 License", license_text="words")
    unknown = bundle.with_provenance(missing="preprocessor_config.json")
    for one, told in (
        (other, r"does not say how images are preprocessed.*squashed.*; this model's is .*crop of 0\.9"),
        (unknown, "this model's is not known"),
        (bound, "does not hold LICENSE.md, which must be passed on"),
    ):
        with pytest.warns(UserWarning, match=told):
            vs.export(one, "npz", "weights", force=True)


def test_evaluate_of_a_folder_of_samples_and_of_an_opened_classifier(bundle: vs.Bundle, here: Path) -> None:
    draw(here / "pets")
    found = vs.evaluate(bundle, "pets")
    predictor = vs.Predictor(bundle)
    files = sorted((here / "pets").glob("*/*.png"))
    right = [one.label == path.parent.name for one, path in zip(predictor(files), files, strict=True)]
    assert found.scores.top1 == sum(right) / 10 and found.data == "pets"
    of_pairs = vs.evaluate(predictor, [(path.read_bytes(), path.parent.name) for path in files])
    assert np.array_equal(of_pairs.logits, found.logits) and np.array_equal(of_pairs.labels, found.labels)
    words = vs.evaluate(vs.ZeroShotClassifier(tiny_lit(), ["cat", "dog"]), [(pictures(1)[0], "cat")])
    assert words.scores.top1 in (0, 1)


@pytest.mark.parametrize(
    ("data", "reason"),
    [([], "no images"), ([b"x"], "item 0"), ({"a": 1}, "dict is not a data set"), (3, "int is not a data set"),
     ([(np.zeros((4, 4, 3), np.uint8), "yak")], "'yak'"), ("nowhere", "nowhere")],
)  # fmt: skip
def test_what_cannot_be_evaluated_on(bundle: vs.Bundle, here: Path, data: Any, reason: str) -> None:
    with pytest.raises(vs.InputError, match=reason):
        vs.evaluate(bundle, data)


def test_what_it_was_trained_on_is_a_warning(bundle: vs.Bundle, here: Path) -> None:
    draw(here / "pets", 1)
    trained = vs.Bundle.of(
        bundle.model, labels=bundle.labels, provenance=vs.Provenance(source="vitsmith train", kind="trained")
    )
    heard: list[str] = []
    vs.evaluate(trained, "pets", tell=heard.append)
    (told,) = [one for one in heard if one.startswith("warning: ")]
    with pytest.warns(UserWarning, match="does not say which images"):
        found = vs.evaluate(trained, "pets")
    assert told in found.told


def test_quantize_is_the_run_of_the_verb(bundle: vs.Bundle, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(vs.InputError, match="real images"):
        vs.quantize(bundle)
    with pytest.raises(vs.InputError, match="did you mean onnx"):
        vs.quantize(bundle, images=pictures(20), engine="onxx")
    with pytest.raises(vs.InputError, match="too few"):
        vs.quantize(bundle, images=pictures(4), engine="onnx")
    with pytest.raises(vs.InputError, match="`max_drop` is measured on labelled images"):
        vs.quantize(bundle, images=pictures(20), engine="onnx", max_drop=0.5)
    assert not (here / "runs").exists()
    with monkeypatch.context() as patch:  # the climb itself is tests/compress/quantize/test_schemes.py's
        patch.setattr("vitsmith.compress.quantize.run.quantize_to", keep_float)
        found = vs.quantize(bundle, images=pictures(20), engine="onnx", min_speedup=3, limit=9, out="run")
    assert found.settings.engine == "onnx" and found.settings.required == replace(REQUIRED, speedup=3)
    assert (len(found.images.calibration), len(found.images.evaluation)) == (10, 9)
    assert repr(found) == "<Quantized keep float, evaluated on 9 images without labels>"
    with pytest.raises(vs.GateError, match="keep float"):
        found.require()


def test_an_index_is_opened(here: Path) -> None:
    with pytest.raises(vs.InputError, match="nowhere"):
        vs.open_index("nowhere")


def test_what_is_no_path_is_one_line(bundle: vs.Bundle, here: Path) -> None:
    junk: Any = 3
    for call in (
        lambda: vs.open_index(junk), lambda: vs.write_index(vs.Encoder(bundle), pictures(1), junk),
        lambda: vs.export(junk, "onnx"), lambda: vs.export(bundle, "onnx", junk), lambda: vs.open_engine(junk),
        lambda: vs.quantize(bundle, junk), lambda: vs.evaluate(junk, [(pictures(1)[0], "ant")]),
    ):  # fmt: skip
        with pytest.raises(vs.InputError, match=r"must be a .*path.*, not 3$"):
            call()
    with pytest.raises(vs.InputError, match="'fp32', 'fp16', 'bf16' or 'int8'"):
        vs.export(bundle, "onnx", precision="fp64")


def test_they_are_functions_whatever_was_imported_and_need_no_torch_to_be_named() -> None:
    code = (
        "import sys, vitsmith as vs, vitsmith.verbs.export, vitsmith.evaluation.scores\n"
        "assert all(map(callable, (vs.export, vs.evaluate, vs.quantize, vs.open_engine, vs.open_index)))\n"
        "assert 'torch' not in sys.modules and 'onnx' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_train_is_a_whole_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(here / "pets", 4)
    tiny = {"width": 16, "depth": 1, "heads": 2, "mlp_width": 16, "patch": [8, 8]}
    settings = {"schedule.warmup": 1, "model": {"image_size": 16, "config": tiny}, "run.baseline": False}
    events: list[Any] = []
    trained = vs.train(
        vs.DataSpec(path="pets", val_fraction=0.5), arch="mu/16", steps=2, batch_size=4, lr=0.02, seed=3,
        settings=settings, on_event=events.append,
    )  # fmt: skip
    recipe = trained.recipe
    assert (recipe.schedule.steps, recipe.batch.size, recipe.optimizer.lr, recipe.run.seed) == (2, 4, 0.02, 3)
    assert recipe.data.val_fraction == 0.5 and trained.bundle.config.width == 16 and events
    folder = trained.bundle.folder.parent  # type: ignore[union-attr]
    assert folder.parent == Path("runs/train") and (folder / "report.html").exists()
    assert vs.load(folder).labels == vs.Labels(names=NAMES)
    assert repr(trained).startswith(f"<Trained {trained.bundle.folder}: 2 updates, held-out top-1 ")
    with pytest.raises(vs.InputError, match=r"optimizer\.momentum changes nothing: optimizer\.name = adamw"):
        vs.train("pets", arch="mu/16", settings={"optimizer.name": "adamw", "optimizer.momentum": 0.9})
    with pytest.raises(vs.InputError, match=r"^`model` ViT-B_16 is an architecture without weights: `arch` ViT-B_16"):
        vs.train("pets", "ViT-B_16")
    with pytest.raises(vs.InputError, match="exists: choose another"):
        vs.train("pets", arch="mu/16", out=folder)


def test_lit_is_a_whole_run(here: Path) -> None:
    vs.save(vs.Bundle.of(tiny_model(VIT), labels=vs.Labels(names=NAMES)), "tower")
    files = sorted(draw(here / "pets", 4).rglob("*.png"))
    rows = [f"{file},a {file.parent.name} number {file.stem}" for file in files]
    (here / "captions.csv").write_text("\n".join(["path,caption", *rows]))
    text = {"size": "", "width": 32, "depth": 1, "heads": 2}
    settings = {"data.val_fraction": 0.3, "text": text, "schedule.warmup": 1}
    trained = vs.lit("captions.csv", "tower", steps=2, batch_size=4, settings=settings)
    assert "2 updates, held-out recall@1: image to text " in repr(trained)
    assert trained.bundle.text is not None and trained.bundle.folder == Path("runs/lit/captions-tower/model")
    with pytest.raises(vs.InputError, match=r"^recipe must be a path or a name, not 3"):
        vs.lit("captions.csv", "tower", recipe=3)  # type: ignore[arg-type]


def test_data_are_opened_by_their_name(here: Path) -> None:
    draw(here / "pets")
    samples = vs.open_data("pets")
    assert samples.classes == NAMES and len(samples) == 10 and samples.image(0).shape[-1] == 3
    with pytest.raises(vs.InputError, match="has no split 'test'"):
        vs.open_data(here / "pets", "test")

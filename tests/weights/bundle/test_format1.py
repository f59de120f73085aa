"""What version 0.1.0 wrote is read for ever: bundles of every program, indexes and runs that were interrupted.

The files are in tests/reference/format1, with what they answered when they were written (see its README).
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import vitsmith as vs
from tests.tiny import REFERENCE
from vitsmith.data.sets.datasets import open_dataset
from vitsmith.data.sets.pairs import open_pairs
from vitsmith.data.sets.split_record import digest_of
from vitsmith.machine import int8_dot_products
from vitsmith.retrieval.index import open_index
from vitsmith.retrieval.search import search
from vitsmith.runs.run import Run
from vitsmith.training.images.run import recipe_of, resume_to_bundle
from vitsmith.training.lit.run import lit_recipe_of, resume_lit

FORMAT1 = REFERENCE / "format1"
COMMITS = ("c1ddcc2", "24f72d5")
SAID = {commit: json.loads((FORMAT1 / commit / "answers.json").read_text(encoding="utf-8")) for commit in COMMITS}
BUNDLES = [f"{commit}/{name}" for commit in COMMITS for name in SAID[commit]["bundles"]]
OF_TORCH = [place for place in BUNDLES if SAID[place[:7]]["bundles"][place[8:]]["program"] == "torch"]

IMAGES = [FORMAT1 / f"images/val/{name}/{number:02d}.png" for number in (9, 10) for name in ("red", "green", "blue")]
TEXTS = ["a red photo", "a photo of a blue square", "Something green", "red", "a small cat"]

TOLERANCE = {"torch": 1e-5, "onnx": 1e-4, "openvino": 1e-3, "executorch": 1e-4}
"""Of answers, relative to the largest: another processor sums in another order."""
ROUNDED = {"fp16": 0.01, "int8": 0.05 if int8_dot_products() else 0.15}
"""The same. Processors without int8 dot products multiply in pairs whose sums saturate at 16 bits: on a Zen 3 the
difference was 0.10, with programs that were made on a Zen 4."""
PACKAGES = {"torch": "torch", "onnx": "onnxruntime", "openvino": "openvino", "executorch": "executorch"}


def listed() -> dict[str, str]:
    """Names and SHA-256 of all the files, as they were written."""
    lines = (FORMAT1 / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def found() -> dict[str, str]:
    """The same of what is there now, but for the script that wrote them."""
    files = [path for path in FORMAT1.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    hashed = {path.relative_to(FORMAT1).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    del hashed["SHA256SUMS"]
    return hashed


@pytest.fixture(scope="module", autouse=True)
def untouched() -> Iterator[None]:
    """Records: no test writes there."""
    yield
    assert found() == listed()


@pytest.fixture(scope="module")
def arrays() -> dict[str, dict[str, Any]]:
    return {commit: load_file(FORMAT1 / commit / "answers.safetensors") for commit in COMMITS}


def read(place: str) -> tuple[vs.Bundle, dict[str, Any]]:
    """The bundle at 'commit/name', and what was recorded of it. Skips where its engine is not installed."""
    commit, name = place.split("/")
    said = SAID[commit]["bundles"][name]
    pytest.importorskip(PACKAGES[said["program"]])
    return vs.load(FORMAT1 / place), said


RAN = re.compile(r"(\w+) \((\w+)(?:, (?:(one) image|batches of (\d+)))?\)")
METRICS = {
    "agreement with the float model": "agreement",
    "top-1 agreement": "agreement",
    "training speed": "training_images_per_second",
    "recall@1 image to text": "image_to_text_recall@1",
    "recall@1 text to image": "text_to_image_recall@1",
}
METRICS |= {f"recall@{k} (image to text)": f"image_to_text_recall@{k}" for k in (1, 5, 10)}
METRICS |= {f"recall@{k} (text to image)": f"text_to_image_recall@{k}" for k in (1, 5, 10)}


def as_fields(said: dict[str, Any], own: dict[str, str]) -> dict[str, Any]:
    """A measurement that was written with a name in prose, as it is read now; `own` is its program."""
    name, data, unit = said["name"], said["data"], said["unit"]
    engine, batch = "", None
    if match := RAN.fullmatch(name):
        name, engine = match[1], match[2]
        batch = 1 if match[3] else int(match[4]) if match[4] else None
        if name == "images_per_second" and batch is None:
            name = "end_to_end_images_per_second"
        data = "" if data == "inference alone" else data
    if (name, unit) == ("training speed", "pairs/s"):
        name = "training_pairs_per_second"
    ran = {"program": "torch", "precision": "fp32"} if data.endswith(", before export") else own
    told = {"metric": METRICS.get(name, name), "engine": engine, "batch": batch, "data": data}
    return {key: value for key, value in said.items() if key != "name"} | told | ran


def assert_close(ours: Any, recorded: Any, tolerance: float) -> None:
    assert ours.shape == recorded.shape
    np.testing.assert_allclose(ours, recorded, rtol=0, atol=tolerance * np.abs(recorded).max())


def test_the_files_are_those_that_were_written() -> None:
    assert found() == listed()
    assert len(listed()) > 200


@pytest.mark.parametrize("place", BUNDLES)
def test_a_bundle_says_what_it_said(place: str) -> None:
    bundle, said = read(place)
    assert bundle.program == said["program"]
    assert bundle.program_spec.model_dump(mode="json") == said["program_spec"]
    assert (bundle.weights_hash, bundle.identity) == (said["weights_hash"], said["identity"])
    assert (bundle.classes, bundle.head) == (said["classes"], said["head"] if said["classes"] else "none")
    assert (list(bundle.labels.names) if bundle.labels else None) == said["labels"]
    provenance = bundle.provenance.model_dump(mode="json")
    assert provenance.pop("kind") == said["provenance"]["format"]
    later = ("images_refused", "license", "license_text", "missing", "origin", "revision", "texts_refused")
    assert {provenance.pop(name) for name in later} == {""}
    assert provenance.pop("text") is None
    assert provenance == {name: value for name, value in said["provenance"].items() if name != "format"}
    own = {"program": bundle.stored.title, "precision": bundle.program_spec.arithmetic}
    assert [one.model_dump(mode="json") for one in bundle.measurements] == [
        as_fields(one, own) for one in said["measurements"]
    ]
    assert bundle.golden is not None and len(bundle.golden.images) == said["golden"]
    if bundle.text is not None:
        assert bundle.similarity.model_dump(mode="json") == said["similarity"]
        assert list(bundle.text.templates) == said["templates"]
    if "text_identity" in said:
        assert bundle.text_identity == said["text_identity"]


@pytest.mark.parametrize("place", BUNDLES)
def test_a_bundle_answers_what_it_answered(place: str, arrays: dict[str, dict[str, Any]]) -> None:
    """Engines compare the golden answers before."""
    bundle, said = read(place)
    commit, name = place.split("/")
    then = {key.removeprefix(f"{name}/"): array for key, array in arrays[commit].items() if key.startswith(f"{name}/")}
    tolerance = ROUNDED.get(bundle.program_spec.precision, TOLERANCE[bundle.program])
    assert "logits" in then or "embeddings" in then
    if "logits" in then:
        predictor = vs.Predictor(bundle, bundle.program)
        assert_close(predictor.logits(IMAGES), then["logits"], tolerance)
        if bundle.head != "regression":
            assert [one.label for one in predictor(IMAGES)] == said["top"]
    if "embeddings" in then:
        encoder = vs.Encoder(bundle, bundle.program)
        assert encoder.bundle.identity == said["embedding_identity"]
        assert_close(encoder.images(IMAGES), then["embeddings"], tolerance)
        if "texts" in then:
            np.testing.assert_array_equal(bundle.tokenizer(TEXTS), then["tokens"])
            assert_close(encoder.texts(TEXTS), then["texts"], tolerance)


@pytest.mark.parametrize("place", OF_TORCH)
def test_a_bundle_that_is_written_again_is_the_same(
    place: str, tmp_path: Path, arrays: dict[str, dict[str, Any]]
) -> None:
    bundle, said = read(place)
    vs.save(bundle, tmp_path / "again")
    again = vs.load(tmp_path / "again")
    by_value = vs.Bundle.of(
        again.model, preprocessing=again.preprocessing, **({"text": again.text} if again.text else {})
    )
    for one in (again, by_value):
        assert (one.weights_hash, one.identity) == (said["weights_hash"], said["identity"])
    if "text_identity" in said:
        assert again.text_identity == said["text_identity"]
    assert (again.labels, again.head, again.provenance) == (bundle.labels, bundle.head, bundle.provenance)
    assert again.measurements == bundle.measurements
    assert str(again.split) == str(bundle.split)
    commit, name = place.split("/")
    assert_close(vs.Encoder(again, "torch").images(IMAGES), arrays[commit][f"{name}/embeddings"], 1e-5)


def test_the_record_of_the_split_knows_the_images(arrays: dict[str, dict[str, Any]]) -> None:
    for name in ("trained", "pruned", "trained-int8", "trained-openvino-fp16"):
        split = vs.load(FORMAT1 / "24f72d5" / name).split
        assert split is not None
        for part in ("train", "held_out", "test", "earlier"):
            np.testing.assert_array_equal(getattr(split, part), arrays["24f72d5"][f"{name}/split/{part}"])
        for folder, part in (("train", split.train), ("val", split.held_out)):
            digests = {digest_of(path, split.salt) for path in FORMAT1.glob(f"images/{folder}/*/*.png")}
            assert digests == set(part)
    assert vs.load(FORMAT1 / "c1ddcc2" / "trained").split is None  # bundles had none then


@pytest.mark.parametrize("name", ["index-images", "index-texts"])
@pytest.mark.parametrize("commit", COMMITS)
def test_an_index_answers_what_it_answered(commit: str, name: str, arrays: dict[str, dict[str, Any]]) -> None:
    index, said, then = open_index(FORMAT1 / commit / name), SAID[commit]["indexes"][name], arrays[commit]
    assert index.space.model_dump(mode="json") == said["space"] | {"what": "pooled", "grid": None}
    assert index.ids(list(range(len(index)))) == said["ids"]
    index.check_hashes()
    encoder = vs.Encoder(FORMAT1 / commit / "lit", "torch")
    index.check_model(encoder.bundle)
    nearest = search(index, encoder.texts(TEXTS), 4)
    np.testing.assert_array_equal(nearest.positions, then[f"{name}/positions"])
    np.testing.assert_allclose(nearest.scores, then[f"{name}/scores"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["stopped", "stopped-lit"])
@pytest.mark.parametrize("commit", COMMITS)
def test_an_interrupted_run_goes_on_to_the_same_losses(
    commit: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrays: dict[str, dict[str, Any]]
) -> None:
    for part in ("images", "pairs.csv", f"{commit}/{name}", f"{commit}/vit-headless"):  # as the recipe names them
        copy = shutil.copytree if (FORMAT1 / part).is_dir() else shutil.copyfile
        copy(FORMAT1 / part, tmp_path / part)
    monkeypatch.chdir(tmp_path)
    folder = Path(commit, name)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000008"]
    with Run.reopen(folder) as run:
        if name == "stopped":
            recipe = recipe_of(folder)
            trained: Any = resume_to_bundle(folder, open_dataset(recipe.data, seed=recipe.run.seed), run)
        else:
            wanted = lit_recipe_of(folder)
            trained = resume_lit(folder, open_pairs(wanted.data, seed=wanted.run.seed), run)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = {str(row["step"]): row["loss"] for row in rows if row["event"] == "step"}
    assert losses == pytest.approx(SAID[commit]["resumed"][name], rel=1e-6)
    assert_close(vs.Encoder(trained.bundle, "torch").images(IMAGES), arrays[commit][f"{name}/embeddings"], 1e-5)

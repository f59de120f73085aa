"""Features of frozen models: what a head would read, one pass for each image, and a cache that is never wrong."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import vitsmith as vs
from tests.exporting import export_onnx
from tests.tiny import CONFIGS, VIT, WORDS, pictures, tiny_lit, tiny_model, towers
from vitsmith.data.images.preprocess import load_image
from vitsmith.data.sets.samples import Lazy, Samples, samples_of
from vitsmith.errors import BundleError, DatasetError, InputError, NotFiniteError
from vitsmith.models.config import LiTConfig
from vitsmith.models.configure import change
from vitsmith.probing.backbone import Backbone, LazyEngine
from vitsmith.probing.feature_cache import FOLDER, FeatureCache
from vitsmith.probing.features import FrozenFeatures, PassOptions, extract
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.finetune import init_for_finetune
from vitsmith.weights.load import load

READING = PassOptions(b"salt" * 4, batch_size=3)
MODELS = ("vit-token", "vit-gap", "vit-timm", "vit-representation", "vit-distilled", "hybrid-stages", "mixer")


def files(count: int, *, seed: int = 0) -> list[bytes]:
    """Small pictures as PNG files."""
    found = []
    for pixels in pictures(count, seed=seed):
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        found.append(buffer.getvalue())
    return found


def labelled(images: list[Any]) -> Samples:
    """The images, every other one of class a."""
    return samples_of([(image, "ab"[at % 2]) for at, image in enumerate(images)])


def bundle_of(name: str, *, seed: int = 0) -> Bundle:
    return tiny_lit(name, seed=seed) if name.startswith("lit") else Bundle.of(tiny_model(CONFIGS[name], seed=seed))


def tensors(backbone: Backbone, images: list[bytes]) -> Tensor:
    return torch.from_numpy(np.stack([load_image(image, backbone.spec) for image in images]))


def through(backbone: Backbone, samples: Samples, reading: PassOptions = READING) -> tuple[FrozenFeatures, LazyEngine]:
    """The features with the cache of the tests, and the engine, which was opened if it was needed."""
    engine = backbone.opener()
    cache = FeatureCache(backbone.cache_name(engine), lambda _: None)
    return extract(samples, backbone.spec, engine, reading, cache), engine


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / FOLDER


@pytest.mark.parametrize("name", [*MODELS, "lit-bert-projected"])
def test_features_are_what_a_new_head_reads(name: str) -> None:
    images = files(4)
    backbone = Backbone.of(bundle_of(name))
    found = extract(labelled(images), backbone.spec, backbone.opener(), READING)
    model, _ = init_for_finetune(bundle_of(name), classes=3)
    with torch.no_grad():
        expected = model.eval().features(tensors(backbone, images)).pooled
    torch.testing.assert_close(found.values, expected)
    assert found.labels.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("name", ["dinov2", "registers", "dinov3"])
def test_dino_gives_class_token_and_mean_of_patches_in_one_pass(name: str) -> None:
    config = towers()[name]
    bundle, images = Bundle.of(tiny_model(config)), files(3)
    backbone = Backbone.of(bundle)
    assert backbone.kinds == ("pooled", "class_and_mean")
    found = extract(labelled(images), backbone.spec, backbone.opener(), READING).values
    with torch.no_grad():
        tokens = bundle.model.features(tensors(backbone, images)).tokens.numpy()  # type: ignore[union-attr,operator]
    expected = np.concatenate([tokens[:, 0], tokens[:, config.prefix :].mean(axis=1)], axis=1)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    pooled = expected[:, : config.width] if config.pooling == "token" else expected[:, config.width :]
    np.testing.assert_allclose(backbone.part(found, "pooled").numpy(), pooled, atol=1e-5)


def test_what_is_no_feature_of_an_image_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="gives a feature for each patch"):
        Backbone.of(bundle_of("vit-unpooled"))
    for name, told in (("vit-gap", "no class token"), ("vit-timm", "parts of its own"), ("mixer", "no class token")):
        with pytest.raises(InputError, match=told):
            Backbone.of(bundle_of(name), features="class_and_mean")
    assert Backbone.of(bundle_of("vit-token")).kinds == ("pooled",)


def test_the_head_of_a_classifier_is_put_on_the_same_features() -> None:
    images, generator = files(5), torch.Generator().manual_seed(0)
    for name, kind in (("vit-token", "class_and_mean"), ("vit-distilled", "pooled"), ("lit-bert", "pooled")):
        backbone = Backbone.of(bundle_of(name), features=kind)  # type: ignore[arg-type]
        values = extract(labelled(images), backbone.spec, backbone.opener(), READING).values
        weight, bias = torch.randn(3, values.shape[1], generator=generator), torch.randn(3, generator=generator)
        with torch.no_grad():
            answers = backbone.classifier(kind, weight, bias)(tensors(backbone, images))  # type: ignore[arg-type]
        np.testing.assert_allclose(answers.numpy(), values.numpy() @ weight.numpy().T + bias.numpy(), atol=1e-4)


def test_embeddings_are_those_that_compare_with_texts() -> None:
    images, bert = files(3), CONFIGS["lit-bert"]
    assert isinstance(bert, LiTConfig)
    units: list[dict[str, Any]] = [{"width": 32, "bias": True}, {"width": 32, "bias": False}, {}]
    towers_with_unit = [change(VIT, classes=0, unit=unit) for unit in units]
    projected = change(VIT, classes=32, representation=16, unit={"width": 24, "bias": True})
    for config in (bert, CONFIGS["lit-bert-projected"], *(with_tower(bert, one) for one in towers_with_unit),
                   with_tower(bert, projected)):  # fmt: skip
        backbone = Backbone.of(in_memory(config), features="class_and_mean")
        values = extract(labelled(images), backbone.spec, backbone.opener(), READING).values
        expected = in_memory(config).run_torch(tensors(backbone, images).numpy())
        np.testing.assert_allclose(backbone.embeddings(values).numpy(), expected, atol=1e-6)
    two = Backbone.of(in_memory(with_tower(bert, change(VIT, classes=32, distillation_token=True))))
    with pytest.raises(InputError, match="distillation token"):
        two.embeddings(torch.zeros(1, 32))


def with_tower(config: LiTConfig, image: Any) -> LiTConfig:
    return LiTConfig(image=image, text=config.text)


def in_memory(config: Any) -> Bundle:
    return Bundle.of(tiny_model(config), vocabulary="\n".join(WORDS).encode())


def test_an_image_runs_once_whatever_it_is_called(cache: Path, tmp_path: Path) -> None:
    images = files(7)
    backbone = Backbone.of(bundle_of("vit-token"))
    first, _ = through(backbone, labelled(images))
    paths = []
    for at in (3, 0, 6, 2, 1, 5, 4):
        paths.append(tmp_path / f"renamed-{at}.png")
        paths[-1].write_bytes(images[at])
    again, engine = through(Backbone.of(bundle_of("vit-token")), labelled(paths))
    assert again.cached == 7 and not engine.opened and first.cached == 0
    assert torch.equal(again.values, first.values[[3, 0, 6, 2, 1, 5, 4]])
    more, engine = through(backbone, labelled([*images, *files(2, seed=1)]))
    assert more.cached == 7 and engine.opened and len(more) == 9
    pixels = [np.asarray(Image.open(io.BytesIO(image))) for image in images[:2]]
    assert through(backbone, labelled(pixels))[0].cached == 0  # pixels are another content than files
    assert through(backbone, labelled(pixels))[0].cached == 2


@pytest.mark.parametrize("damage", ["features", "digests", "short", "empty", "other"])
def test_damaged_parts_are_computed_again(damage: str, cache: Path) -> None:
    samples = labelled(files(5))
    backbone = Backbone.of(bundle_of("vit-token"))
    first, _ = through(backbone, samples)
    (part,) = cache.rglob("*.safetensors")
    content = bytearray(part.read_bytes())
    at = content.find(first.values[2].numpy().tobytes() if damage == "features" else first.contents[2])
    assert at > 0
    content[at] ^= 1
    changed = {"features": content, "digests": content, "short": content[:-9], "empty": b"", "other": b"{}" * 50}[
        damage
    ]
    part.write_bytes(bytes(changed))
    again, engine = through(backbone, samples)
    assert engine.opened and torch.equal(again.values, first.values)
    assert through(backbone, samples)[0].cached == 5


def test_what_was_computed_before_an_interruption_is_kept(cache: Path) -> None:
    samples = labelled(files(9))
    backbone, seen = Backbone.of(bundle_of("vit-token")), []

    def interrupt() -> None:
        seen.append(None)
        if len(seen) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        through(backbone, samples, PassOptions(b"s" * 16, batch_size=3, on_image=interrupt))
    assert 4 <= through(backbone, samples)[0].cached < 9
    two = [FeatureCache("two", lambda _: None) for _ in range(2)]  # as two processes
    for at, one in enumerate(two):
        one.add(bytes([at]) * 32, np.full(4, at, np.float32))
        one.write()
    third = FeatureCache("two", lambda _: None)
    assert [third.get(bytes([at]) * 32)[0] for at in range(2)] == [0, 1]  # type: ignore[index]


def test_a_cache_that_cannot_be_written_is_told_and_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "file"))
    told: list[str] = []
    backbone = Backbone.of(bundle_of("mixer"))
    engine = backbone.opener()
    found = extract(labelled(files(3)), backbone.spec, engine, READING, FeatureCache("x", told.append))
    assert len(found) == 3 and len(told) == 1 and "not kept" in told[0]


def test_an_image_that_is_replaced_during_the_pass_has_the_features_of_what_was_hashed(cache: Path) -> None:
    versions: Iterator[bytes] = iter(files(30))
    samples = labelled(files(6))
    changing = Samples(samples.classes, Lazy(6, lambda _: next(versions)), samples.names, samples.labels)
    backbone = Backbone.of(bundle_of("vit-token"))
    found, _ = through(backbone, changing)
    by_content = {hashlib.sha256(image).digest(): image for image in files(30)}
    held = [by_content[key] for key in found.contents]
    expected = extract(labelled(held), backbone.spec, backbone.opener(), READING)
    torch.testing.assert_close(found.values, expected.values)


def test_unreadable_images_are_left_out_up_to_a_share(tmp_path: Path) -> None:
    images: list[Any] = [*files(5), b"no image", tmp_path / "gone.jpg"]
    backbone, told = Backbone.of(bundle_of("vit-token")), list[str]()
    reading = PassOptions(b"s" * 16, skip_unreadable=0.3, tell=told.append)
    found = extract(labelled(images), backbone.spec, backbone.opener(), reading)
    assert found.indices.tolist() == [0, 1, 2, 3, 4] and len(told) == 2
    assert sorted("gone.jpg" in one for one in told) == [False, True] and any("image 5" in one for one in told)
    with pytest.raises(DatasetError, match="skip_unreadable"):
        extract(labelled(images), backbone.spec, backbone.opener(), READING)


def test_features_that_are_not_finite_are_refused_with_the_image(cache: Path) -> None:
    backbone, images = Backbone.of(bundle_of("vit-token")), files(4)
    wrong = tensors(backbone, images)[2].numpy()

    class Broken(LazyEngine):
        def run(self, batch: Any) -> Any:
            rows = self.engine.run(batch)
            for at, image in enumerate(batch):
                if np.array_equal(image, wrong):
                    raise NotFiniteError("broken")
                assert np.isfinite(rows[at]).all()
            return rows

    kept = FeatureCache("broken", lambda _: None)
    with pytest.raises(NotFiniteError, match=r"image 2: .*not finite"):
        extract(labelled(images), backbone.spec, Broken(backbone.open), READING, kept)
    assert kept.get(hashlib.sha256(images[2]).digest()) is None


def test_a_program_gives_its_features_and_has_no_place_for_a_head(tmp_path: Path, cache: Path) -> None:
    images = files(4)
    bare = load(bundle_of("vit-token"), headless=True)
    backbone = Backbone.of(export_onnx(bare, tmp_path / "features")[0])
    found, engine = through(backbone, labelled(images))
    weights = Backbone.of(bundle_of("vit-token"))
    expected = extract(labelled(images), weights.spec, weights.opener(), READING)
    assert not backbone.torch and weights.torch and engine.engine.name == "onnx"
    torch.testing.assert_close(found.values, expected.values, atol=1e-4, rtol=1e-3)
    assert through(backbone, labelled(images))[0].cached == 4
    pairs = tmp_path / "table.csv"
    rows = [f"{at}.png,{'ab'[at % 2]},{('train', 'val')[at > 5]}" for at in range(8)]
    for at, image in enumerate(files(8)):
        (tmp_path / f"{at}.png").write_bytes(image)
    pairs.write_text("\n".join(["path,label,split", *rows]))
    probed = vs.probe(pairs, tmp_path / "features", tmp_path / "run")
    assert (
        probed.bundle is None and "exported program" in probed.no_bundle and not (tmp_path / "run" / "model").exists()
    )
    assert probed.best.score("logistic") is not None and probed.held_out_images == 2
    with pytest.raises(BundleError, match="exported classifier"):
        Backbone.of(bundle_of("vit-token").as_program("onnx", ProgramSpec(), by="a test"))

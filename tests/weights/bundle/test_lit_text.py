"""The text side belongs to the bundle: vocabulary, rules and golden texts travel with the weights, and are checked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.exporting import export_onnx
from tests.tiny import CONFIGS, VIT, WORDS, layout_of, released_npz, small_cases, tiny_lit, tiny_model
from vitsmith import Bundle, ImageSpec, load, save
from vitsmith.errors import BundleError, InputError, WeightsError
from vitsmith.models.build import build
from vitsmith.models.config import LiTConfig
from vitsmith.models.configure import change
from vitsmith.weights.bundle.golden import TEXTS
from vitsmith.weights.fetch.addresses import cached_path
from vitsmith.weights.fetch.published import checkpoints, find_checkpoint

FAMILIES = ["lit-bert", "lit-transformer", "lit-bias"]
VOCABULARY = "\n".join(WORDS).encode()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_bundle_carries_its_text_side(name: str, tmp_path: Path) -> None:
    bundle = tiny_lit(name)
    save(bundle, tmp_path / "model")
    loaded = load(tmp_path / "model")
    suffix = "model" if "transformer" in name else "txt"
    assert (tmp_path / "model" / f"tokenizer.{suffix}").read_bytes() == bundle.vocabulary == loaded.vocabulary
    assert loaded.text == bundle.text and loaded.text.pooling == ("last" if suffix == "model" else "first")
    texts = ["a photo of the cat", "", "A RED circle and more than fits into it"]
    assert np.array_equal(loaded.tokenizer(texts), bundle.tokenizer(texts))
    tokens = loaded.tokenizer(texts)
    np.testing.assert_allclose(loaded.run_texts_torch(tokens), bundle.run_texts_torch(tokens), atol=1e-6)
    assert loaded.similarity == bundle.similarity
    assert (loaded.similarity.bias is not None) == (name == "lit-bias")
    assert loaded.golden.texts.texts == TEXTS and loaded.golden.texts.tokens.shape == (4, loaded.text.length)


def test_a_changed_vocabulary_is_refused(tmp_path: Path) -> None:
    save(tiny_lit(), tmp_path / "model")
    file = tmp_path / "model" / "tokenizer.txt"
    file.write_bytes(file.read_bytes().replace(b"cat", b"cow"))
    with pytest.raises(BundleError, match=r"tokenizer\.txt is not the file this bundle was written with"):
        load(tmp_path / "model")
    file.unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.txt is missing"):
        load(tmp_path / "model")


def test_golden_texts_prove_tokenizer_and_tower(tmp_path: Path) -> None:
    bundle = save(tiny_lit(), tmp_path / "model")
    assert bundle.golden is not None and bundle.golden.texts is not None
    _ = bundle.model
    other = dataclasses.replace(bundle, vocabulary=bundle.vocabulary.replace(b"cat", b"cow"), _model=None)
    with pytest.raises(BundleError, match=r"the golden text 'a photo of a cat\.' becomes other tokens here"):
        _ = other.model
    texts = dataclasses.replace(bundle.golden.texts, embeddings=-bundle.golden.texts.embeddings)
    changed = dataclasses.replace(bundle, golden=dataclasses.replace(bundle.golden, texts=texts), _model=None)
    with pytest.raises(BundleError, match=r"the golden texts give other answers here"):
        _ = changed.model


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"length": 7}, "length 7, the text tower has 6"),
        ({"vocabulary": 51}, "vocabulary 51, the text tower has 50"),
        ({"padding": "end", "pooling": "last"}, "pooling last, the text tower has first"),
    ],
)
def test_a_text_specification_of_another_tower_is_refused(change: dict[str, Any], problem: str) -> None:
    bundle = tiny_lit()
    with pytest.raises(BundleError, match=problem):
        dataclasses.replace(bundle, text=bundle.text.model_copy(update=change))
    with pytest.raises(BundleError, match="but the model has no text tower"):
        Bundle.of(tiny_model(VIT), text=bundle.text)
    with pytest.raises(BundleError, match="a LiT model needs a text specification"):
        dataclasses.replace(bundle, text=None)


# --- identity --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lit-bert", "lit-transformer"])
def test_the_same_model_has_one_identity_in_every_file(name: str, tmp_path: Path) -> None:
    lit = tiny_lit(name, released=True)
    saved = save(lit, tmp_path / "model")
    save(lit, tmp_path / "model.npz", format="npz")
    exported, _ = export_onnx(saved, tmp_path / "onnx")
    same = [lit, saved, load(tmp_path / "model"), exported, load(tmp_path / "onnx"), load(tmp_path / "model.npz")]
    assert len({bundle.identity for bundle in same}) == 1 and len(lit.identity) == 32
    assert len({bundle.text_identity for bundle in same}) == 1 and lit.text_identity != lit.identity


def test_other_weights_or_preprocessing_are_another_identity() -> None:
    lit = tiny_lit()
    spec = ImageSpec.lit(lit.config.image_size, crop=True)
    fast = lit.preprocessing.model_copy(update={"scaled_decoding": True})
    others = [tiny_lit(seed=1), dataclasses.replace(lit, preprocessing=spec), tiny_lit("lit-bias")]
    cased = dataclasses.replace(lit, text=lit.text.model_copy(update={"lower_case": False}))
    assert len({bundle.identity for bundle in [lit, cased, *others]}) == 5
    assert dataclasses.replace(lit, preprocessing=fast).identity == lit.identity
    prompts = lit.text.model_copy(update={"templates": ("{}",)})
    assert dataclasses.replace(lit, text=prompts).identity == lit.identity


def test_other_arithmetic_on_the_same_weights_is_another_identity() -> None:
    model = tiny_model(VIT)
    identities = {Bundle.of(model).identity}
    for fields in ({"heads": 2}, {"gelu": "erf"}, {"norm_eps": 1e-5}):
        other = build(change(VIT, **fields))
        other.load_state_dict(model.state_dict())
        identities.add(Bundle.of(other).identity)
    assert len(identities) == 4
    trained = build(change(VIT, dropout=0.1, stochastic_depth=0.1))
    trained.load_state_dict(model.state_dict())
    assert Bundle.of(trained).identity == Bundle.of(model).identity  # they are gone once it is trained


def test_the_vocabulary_decides_what_texts_mean_and_not_what_images_do() -> None:
    lit = tiny_lit()
    other = dataclasses.replace(lit, vocabulary=lit.vocabulary.replace(b"cat", b"cow"))
    assert other.identity == lit.identity and other.text_identity != lit.text_identity
    with pytest.raises(InputError, match="has no vocabulary"):
        _ = dataclasses.replace(lit, vocabulary=None).text_identity


def test_nothing_stale_survives_a_change() -> None:
    lit = tiny_lit()
    before = lit.identity, lit.similarity, lit.tokenizer(["cat Cat"]).tolist()
    swapped = dataclasses.replace(lit, vocabulary=lit.vocabulary.replace(b"cat\ndog", b"dog\ncat"))
    assert swapped.tokenizer(["cat Cat"]).tolist() != before[2]
    cased = dataclasses.replace(lit, text=lit.text.model_copy(update={"lower_case": False}))
    assert cased.tokenizer(["cat Cat"]).tolist() != before[2]
    with torch.no_grad():
        lit.model.log_temperature.fill_(3.0)
        lit.model.text.words.weight.mul_(2)
    assert lit.identity != before[0] and lit.similarity.temperature == pytest.approx(np.exp(3), rel=1e-6)
    replaced = dataclasses.replace(lit, _model=tiny_lit(seed=1).model)
    assert replaced.identity == tiny_lit(seed=1).identity != lit.identity


def test_a_saved_bundle_knows_its_identity_without_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = save(tiny_lit(), tmp_path / "model").identity
    loaded = load(tmp_path / "model")
    monkeypatch.setattr("vitsmith.weights.torch_model.hash_weights", lambda _: pytest.fail("hashed again"))
    assert loaded.identity == identity
    _ = loaded.model
    assert loaded.identity == identity


def test_an_exported_bundle_without_a_hash_has_no_identity(tmp_path: Path) -> None:
    exported, _ = export_onnx(tiny_lit(), tmp_path / "onnx")
    old = dataclasses.replace(exported, _weights_hash="")
    with pytest.raises(BundleError, match="does not say which weights it was made from: export it again"):
        _ = old.identity
    with pytest.raises(BundleError, match=r"holds an exported program .* an \.npz holds weights"):
        save(exported, tmp_path / "copy.npz", format="npz")
    saved = save(exported.with_provenance(license="mit"), tmp_path / "copy")
    assert saved.provenance.license == "mit" and saved.similarity == exported.similarity
    assert saved.golden.texts.texts == exported.golden.texts.texts and (tmp_path / "copy" / "text.onnx").is_file()
    assert saved.text_identity == exported.text_identity
    with pytest.raises(InputError, match="were made with other vocabulary and cannot change"):
        save(dataclasses.replace(exported, vocabulary=b"x"), tmp_path / "other")


def test_an_export_has_golden_examples_whatever_it_came_from(tmp_path: Path) -> None:
    save(tiny_lit(released=True), tmp_path / "lit.npz", format="npz")
    exported, _ = export_onnx(load(tmp_path / "lit.npz"), tmp_path / "onnx")
    assert exported.golden is not None and len(exported.golden.images) == 2 and exported.golden.texts is not None


# --- released files --------------------------------------------------------------------------------------------------


def released(tmp_path: Path) -> Path:
    """A LiT with a small BERT under the original's names, alone."""
    save(Bundle.of(tiny_lit(released=True).model), tmp_path / "LiT.npz", format="npz")
    return tmp_path / "LiT.npz"


def test_the_vocabulary_is_found_beside_the_checkpoint(tmp_path: Path) -> None:
    path = released(tmp_path)
    alone = load(path)
    assert alone.vocabulary is None
    with pytest.raises(InputError, match=r"LiT\.npz has no vocabulary, .*put the \.txt file published with"):
        _ = alone.tokenizer
    (tmp_path / "LiT.txt").write_bytes(VOCABULARY)
    assert not (tmp_path / "LiT.model").exists()
    (tmp_path / "elsewhere.txt").write_bytes(VOCABULARY + b"more\n")
    assert load(path).vocabulary == VOCABULARY
    assert load(path, vocabulary=tmp_path / "elsewhere.txt").vocabulary == VOCABULARY + b"more\n"
    with pytest.raises(InputError, match=r"none\.txt: no such vocabulary"):
        load(path, vocabulary=tmp_path / "none.txt")
    (tmp_path / "LiT.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"LiT\.npz: the vocabulary is not a text file"):
        _ = load(path).tokenizer


def test_a_vocabulary_where_none_belongs_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_bytes(VOCABULARY)
    vit = released_npz(tmp_path / "ViT.npz", small_cases()["small-vit-token"]["layout"])
    with pytest.raises(InputError, match="is a model of images alone, which takes no vocabulary"):
        load(vit, vocabulary=tmp_path / "v.txt")
    save(tiny_lit(), tmp_path / "model")
    with pytest.raises(InputError, match="vocabulary is for LiT checkpoints"):
        load(tmp_path / "model", vocabulary=tmp_path / "v.txt")


def test_conversion_both_ways_keeps_weights_and_vocabulary(tmp_path: Path) -> None:
    path = released(tmp_path)
    (tmp_path / "LiT.txt").write_bytes(VOCABULARY)
    save(load(path), tmp_path / "bundle")
    save(load(tmp_path / "bundle"), tmp_path / "again", format="npz")
    assert (tmp_path / "again.txt").read_bytes() == VOCABULARY
    with np.load(path) as before, np.load(tmp_path / "again.npz") as after:
        assert set(before) == set(after)
        assert all(np.array_equal(before[name], after[name]) for name in before)
    with pytest.raises(WeightsError, match="cannot hold the bias of a sigmoid loss"):
        save(tiny_lit("lit-bias", released=True), tmp_path / "bias.npz", format="npz")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"lower_case": False}, r"lower_case False \(it would be read as True\)"),
        ({"canonicalize": True}, r"canonicalize True \(it would be read as False\)"),
        ({"cleaning": ("lower",)}, r"cleaning \('lower',\) \(it would be read as \(\)\)"),
        ({"padding_token": 1}, r"padding_token 1 \(it would be read as None\)"),
    ],
)
def test_an_npz_that_would_be_read_otherwise_is_not_written(fields: dict[str, Any], told: str, tmp_path: Path) -> None:
    lit = tiny_lit(released=True)
    other = dataclasses.replace(lit, text=lit.text.model_copy(update=fields))
    with pytest.raises(WeightsError, match=f"cannot hold a text side with {told}"):
        save(other, tmp_path / "lit.npz", format="npz")
    with pytest.raises(WeightsError, match=r"length 6 \(it would be read as 16\)"):
        save(tiny_lit(), tmp_path / "lit.npz", format="npz")
    heads = change(lit.config, text={**lit.config.text.model_dump(), "heads": 2})
    with pytest.raises(WeightsError, match="cannot hold a BERT of width 64 with 2 heads"):
        save(Bundle.of(tiny_model(heads), vocabulary=lit.vocabulary), tmp_path / "lit.npz", format="npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["LiT-B16B", "LiT-B16B_2", "LiT-L16L", "LiT-L16S", "LiT-L16Ti"])
def test_every_published_lit_has_its_vocabulary(name: str) -> None:
    (row,) = [row for row in checkpoints() if row.model == name]
    config = layout_of(name)["config"]
    assert row.vocabulary == row.url.removesuffix("npz") + ("txt" if config["text_model"] == "bert" else "model")


def test_a_published_lit_is_downloaded_with_its_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VITSMITH_MIRROR", "http://127.0.0.1:1")
    monkeypatch.setattr("vitsmith.weights.checkpoint.check_name", lambda *_: None)  # the stand-in is small
    row = find_checkpoint("LiT-B16B.lit")
    path = cached_path(row.url)
    path.parent.mkdir(parents=True)
    released(path.parent).rename(path)
    with pytest.raises(InputError, match=r"LiT-B16B\.txt"):  # there is nothing to download it from
        load("LiT-B16B.lit")
    cached_path(row.vocabulary).write_bytes(VOCABULARY)
    bundle = load("LiT-B16B.lit")
    assert bundle.vocabulary == VOCABULARY
    assert bundle.provenance.publication == {"origin": row.url, "revision": "", "license": ""}


def test_bundles_of_former_versions_are_read(tmp_path: Path) -> None:
    """Descriptions written before the text side was part of them have fewer fields."""
    from vitsmith.weights.bundle.manifest import MANIFEST, checksum

    save(Bundle.of(tiny_model(CONFIGS["lit-transformer"])), tmp_path / "model")
    path = tmp_path / "model" / MANIFEST
    fields = json.loads(path.read_text())
    for name in ("similarity", "weights"):
        del fields[name]
    fields["text"] = {"tokenizer": "sentencepiece", "length": 6, "vocabulary": 50, "lower_case": True}
    del fields["config"]["bias"]
    fields["checksum"] = checksum(fields)
    path.write_text(json.dumps(fields))
    old = load(tmp_path / "model")
    assert isinstance(old.config, LiTConfig) and old.text.pooling == "last" and not old.config.bias
    today = Bundle.of(tiny_model(CONFIGS["lit-transformer"]), text=old.text)
    assert old.identity == today.identity and old.similarity == today.similarity and old.golden.texts is None

"""CLIP, MetaCLIP 2 and SigLIP of transformers give its answers, recorded in tests/reference/hf, and read its tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vitsmith as vs
from tests import REFERENCE
from tests.command_line import call
from tests.reference.hf.arrays import images_of, state_of, tokens_of
from tests.weights.foreign_files import loaded, refusal, texts_refusal
from tests.weights.hf_files import MODELS, TWO_TOWERS, written_arrays, written_model, written_with_texts
from vitsmith.errors import InputError, VitsmithError, WeightsError
from vitsmith.models.config import LiTConfig
from vitsmith.models.lit import LiT
from vitsmith.weights.containers.open import open_arrays
from vitsmith.weights.fill import arrays_of
from vitsmith.weights.hf.reader import read
from vitsmith.weights.layouts import WithoutLeading
from vitsmith.weights.options import LoadOptions

FILES = REFERENCE / "text"
TOKENS = json.loads((FILES / "others.json").read_text())
LENGTH = TOKENS["length"]


def towers(folder: Path, **options: Any) -> LiT:
    model = loaded(folder, **options).model
    assert isinstance(model, LiT)
    return model


@pytest.mark.parametrize("name", TWO_TOWERS)
def test_answers_are_those_of_transformers_at_each_size(tmp_path: Path, name: str) -> None:
    written_model(tmp_path, name)
    recorded, text = TWO_TOWERS[name], TWO_TOWERS[name]["config"]["text_config"]
    tokens = tokens_of(text["vocab_size"], text["max_position_embeddings"], recorded["end"])
    for size, expected in recorded["outputs"].items():
        height, width = map(int, size.split("x"))
        model = towers(tmp_path, image_size=(height, width))
        with torch.no_grad():
            images = images_of(height, width)
            found = {"images": model.image(images), "texts": model.text(tokens), "logits": model(images, tokens)}
        for what, answers in (expected | {"texts": recorded["texts"]}).items():
            torch.testing.assert_close(found[what], torch.tensor(answers), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_names_and_layouts_go_both_ways(tmp_path: Path, name: str) -> None:
    written_model(tmp_path, name)
    model = loaded(tmp_path).model
    with open_arrays(tmp_path / "model.safetensors") as file:
        found = read(file, LoadOptions())
    back = dict(arrays_of(model, found.slots))
    for piece in found.pieces.values():
        thirds = [back.pop(one) for one, other in found.pieces.items() if other.array == piece.array and one in back]
        back |= {piece.array: torch.cat(thirds)} if thirds else {}
    state = load_file(tmp_path / "model.safetensors")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)


def test_axes_that_a_file_does_not_have_are_put_before_and_taken_away() -> None:
    layout, array = WithoutLeading(2), torch.arange(3.0)
    assert layout.foreign_shape((1, 1, 3)) == (3,)
    assert torch.equal(layout.ours_from_foreign(array), array[None, None])
    assert torch.equal(layout.foreign_from_ours(array[None, None]), array)


@pytest.mark.parametrize("name", ["clip-image", "siglip-image"])
def test_older_files_of_a_tower_have_a_prefix_and_the_numbers_of_positions(tmp_path: Path, name: str) -> None:
    written_model(tmp_path, name)
    images = images_of(32, 32)
    expected = torch.tensor(MODELS[name]["outputs"]["32x32"])
    state = {f"vision_model.{key}": array for key, array in state_of(MODELS[name]["arrays"]).items()}
    state = {key: load_file(tmp_path / "model.safetensors")[key.removeprefix("vision_model.")] for key in state}
    numbers = torch.arange(17)[None]
    save_file({**state, "vision_model.embeddings.position_ids": numbers}, tmp_path / "model.safetensors")
    with torch.no_grad():
        found = loaded(tmp_path, headless=True).model(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    save_file({**state, "vision_model.position_ids": numbers}, tmp_path / "model.safetensors")
    assert "1 unexpected: vision_model.position_ids" in refusal(tmp_path, headless=True)


def test_older_files_of_two_towers_too(tmp_path: Path) -> None:
    folder = written_model(tmp_path, "clip")
    state = load_file(folder / "model.safetensors")
    numbers = {f"{one}_model.embeddings.position_ids": torch.arange(9)[None] for one in ("text", "vision")}
    save_file({**state, **numbers}, folder / "model.safetensors")
    assert isinstance(loaded(folder).config, LiTConfig)
    (folder / "model.safetensors").unlink()
    torch.save({**state, **numbers}, folder / "pytorch_model.bin")
    assert isinstance(loaded(folder).config, LiTConfig)


def test_fields_of_the_oldest_files_count(tmp_path: Path) -> None:
    written_model(tmp_path, "clip")
    config = TWO_TOWERS["clip"]["config"]
    towers = {f"{one}_config_dict": config[f"{one}_config"] for one in ("text", "vision")}
    (tmp_path / "config.json").write_text(
        json.dumps({**config, **towers, "text_config": {"hidden_size": 8}, "vision_config": None})
    )
    assert loaded(tmp_path).config.text.width == 16


def test_the_end_token_of_the_largest_id_is_the_largest_id_as_other_publishers_have_it(tmp_path: Path) -> None:
    text = {**TWO_TOWERS["clip"]["config"]["text_config"], "eos_token_id": 59}
    assert loaded(written_model(tmp_path, "clip", text_config=text)).config.text.end_token is None


def test_a_projection_is_no_classifier(tmp_path: Path) -> None:
    bundle = loaded(written_model(tmp_path, "clip-projection"))
    assert (bundle.head, bundle.classes, bundle.config.classes) == ("none", 0, 10)


def test_a_classifier_of_clip_has_no_last_norm_and_names_its_classes(tmp_path: Path) -> None:
    names = {"0": "cat", "1": "dog", "2": "bird"}
    bundle = loaded(written_model(tmp_path, "clip-classifier", id2label=names))
    assert bundle.labels is not None and bundle.labels.names == ("cat", "dog", "bird")
    assert bundle.head == "softmax" and not bundle.config.final_norm


def test_a_tower_without_attention_pooling_gives_its_tokens(tmp_path: Path) -> None:
    arrays = {key: shape for key, shape in MODELS["siglip-image"]["arrays"].items() if not key.startswith("head.")}
    written_arrays(tmp_path, arrays, {**MODELS["siglip-image"]["config"], "vision_use_head": False})
    bundle = loaded(tmp_path, headless=True)
    with torch.no_grad():
        assert bundle.model(images_of(32, 32)).shape == (2, 16, 24)
    fields = {"vision_config": {**TWO_TOWERS["siglip"]["config"]["vision_config"], "vision_use_head": False}}
    assert "vision_use_head false" in refusal(written_model(tmp_path, "siglip", **fields))


@pytest.mark.parametrize(
    ("name", "fields", "told"),
    [
        ("clip", {"model_type": "siglip2"}, "model_type 'siglip2' is not supported: it is SigLIP 2 NaFlex"),
        ("clip", {"model_type": "clip_text_model"}, "is not supported: it is a text tower alone"),
        ("clip", {"model_type": "chinese_clip"}, "model_type 'chinese_clip' is not supported, known are vit"),
        ("clip", {"architectures": ["MyModel"]}, "architecture 'MyModel'"),
        ("clip", {"text_config": None}, "of wrong shape: text_model.embeddings.position_embedding.weight is 12x16"),
        ("clip", {"vision_config": [1]}, "config.json: vision_config"),
        ("clip", {"projection_dim": 11}, "text_projection.weight is 10x16, expected 11x16"),
        ("clip", {"projection_dim": "wide"}, "config.json: projection_dim"),
        ("siglip", {"model_type": "clip"}, "architecture 'SiglipModel'"),
    ],
)
def test_configs_that_we_cannot_follow_are_named(tmp_path: Path, name: str, fields: dict[str, Any], told: str) -> None:
    assert told in refusal(written_model(tmp_path, name, **fields), VitsmithError)


@pytest.mark.parametrize(
    ("name", "tower", "fields", "told"),
    [
        ("clip", "text_config", {"hidden_act": "relu"}, "activation 'relu' of its text tower is not supported"),
        ("clip", "text_config", {"vocab_size": 61}, "token_embedding.weight is 60x16, expected 61x16"),
        ("clip", "text_config", {"eos_token_id": [1, 2]}, "text_config.eos_token_id"),
        ("clip", "text_config", {"eos_token_id": 60}, "end_token 60 is not below vocabulary 60"),
        ("clip", "text_config", {"num_attention_heads": 3}, "width 16 is not a multiple of heads 3"),
        ("clip", "vision_config", {"hidden_act": "relu"}, "activation 'relu' is not supported"),
        ("clip", "vision_config", {"image_size": 0}, "vision_config.image_size"),
        ("siglip", "text_config", {"projection_size": 20}, "must meet in one width: image 24, text 20"),
        ("siglip", "vision_config", {"num_channels": 1}, "num_channels 1"),
        ("siglip", "vision_config", {"image_size": 64}, "vision_model.embeddings.position_embedding.weight is 16x24"),
    ],
)
def test_towers_that_we_cannot_follow_are_named(
    tmp_path: Path, name: str, tower: str, fields: dict[str, Any], told: str
) -> None:
    changed = {tower: {**TWO_TOWERS[name]["config"][tower], **fields}}
    assert told in refusal(written_model(tmp_path, name, **changed), VitsmithError)


@pytest.mark.parametrize("gone", ["vision_model.head.attention.in_proj_weight", "logit_scale", "logit_bias"])
def test_arrays_that_are_missing_are_named(tmp_path: Path, gone: str) -> None:
    arrays = {key: shape for key, shape in TWO_TOWERS["siglip"]["arrays"].items() if key != gone}
    told = "unexpected: logit_bias" if gone == "logit_scale" else f"missing: {gone}"
    assert told in refusal(written_arrays(tmp_path, arrays, TWO_TOWERS["siglip"]["config"]), headless=True)


def test_a_size_that_patches_do_not_fill_is_refused_with_the_nearest(tmp_path: Path) -> None:
    written_model(tmp_path, "siglip")
    assert loaded(tmp_path, image_size=(35, 35)).config.image.unseen_edge
    assert "the nearest multiples are 40x40 and 48x48" in refusal(tmp_path, VitsmithError, image_size=(41, 41))


# --- texts -----------------------------------------------------------------------------------------------------------

GEMMA = {"tokenizer_class": "GemmaTokenizer", "padding_side": "right", "model_input_names": ["input_ids"]}


def described(folder: Path, **fields: Any) -> Path:
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))
    return folder


def copied(folder: Path, source: str, name: str) -> Path:
    (folder / name).write_bytes((FILES / source).read_bytes())
    return folder


def test_tokens_of_clip_are_those_of_transformers_from_one_file_or_two(tmp_path: Path) -> None:
    written_with_texts(tmp_path, "clip", 814, LENGTH)
    words = json.loads((FILES / "clip.json").read_bytes())["model"]["vocab"]
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    copied(tmp_path, "clip.bpe", "merges.txt")
    np.testing.assert_array_equal(loaded(tmp_path).tokenizer(TOKENS["texts"]), TOKENS["hf_clip"])
    described(copied(tmp_path, "clip.json", "tokenizer.json"), tokenizer_class="CLIPTokenizerFast")
    bundle = loaded(tmp_path)
    np.testing.assert_array_equal(bundle.tokenizer(TOKENS["texts"]), TOKENS["hf_clip"])
    assert bundle.text is not None and (bundle.text.padding, bundle.text.pooling) == ("end", "end")
    described(tmp_path, tokenizer_class="CLIPTokenizer", pad_token={"content": "!", "__type": "AddedToken"})
    assert loaded(tmp_path).tokenizer(["a"])[0, -1] == words["!"] == 0
    described(tmp_path, tokenizer_class="CLIPTokenizer", pad_token='"')
    assert loaded(tmp_path).tokenizer(["a"])[0, -1] == words['"'] == 1


CAPITALS, LOWERED, CASE_KEPT = (
    "A photo of a Cat!",
    [812, 320, 79, 606, 531, 539, 320, 66, 536, 256, 813],
    [812, 288, 79, 606, 531, 539, 320, 34, 536, 256, 813],
)
"""A text, and transformers' tokens of it with CLIP's rules and without lower case."""


def first_tokens(folder: Path, text: str = CAPITALS, count: int = 11) -> list[int]:
    found: list[int] = loaded(folder).tokenizer([text])[0].tolist()[:count]
    return found


def changed(folder: Path, source: str = "clip.json", **parts: Any) -> Path:
    rules = json.loads((FILES / source).read_bytes())
    (folder / "tokenizer.json").write_text(json.dumps(rules | parts))
    return folder


def test_the_class_of_clip_has_its_own_rules_and_others_those_of_the_file(tmp_path: Path) -> None:
    written_with_texts(tmp_path, "clip", 814, LENGTH)
    each: tuple[dict[str, Any], ...] = (
        {"normalizer": {"type": "NFC"}},
        {"post_processor": None},
        {"normalizer": None, "pre_tokenizer": None, "added_tokens": []},
    )
    for parts in each:
        described(changed(tmp_path, **parts), tokenizer_class="CLIPTokenizer")
        np.testing.assert_array_equal(loaded(tmp_path).tokenizer(TOKENS["texts"]), TOKENS["hf_clip"])
        assert first_tokens(tmp_path) == LOWERED
    changed(tmp_path, normalizer={"type": "NFC"})
    described(tmp_path, tokenizer_class="PreTrainedTokenizerFast", pad_token="<|endoftext|>")
    assert first_tokens(tmp_path) == CASE_KEPT
    described(changed(tmp_path), tokenizer_class="CLIPTokenizer")
    assert loaded(tmp_path).vocabulary == json.dumps(json.loads((FILES / "clip.json").read_bytes())).encode()


@pytest.mark.parametrize(
    ("fields", "text", "expected"),
    [
        ({"pad_token": "!"}, CAPITALS, [*LOWERED[:9], 0, 813]),
        ({"additional_special_tokens": ["th", "!"]}, "the cat!", [812, 513, 324, 66, 536, 0, 813]),
        ({"some_token": "th"}, "the", [812, 513, 324, 813]),
        ({"extra_special_tokens": {"x_token": "th"}}, "the", [812, 513, 324, 813]),
        ({"added_tokens_decoder": {"0": {"content": "!", "special": False}}}, CAPITALS, [*LOWERED[:9], 0, 813]),
        ({"bos_token": "th"}, "a", [513, 320, 813]),
    ],
)
@pytest.mark.parametrize("files", ["one", "two"])
def test_special_tokens_that_the_config_tells_are_one_token_in_a_text(
    tmp_path: Path, fields: dict[str, Any], text: str, expected: list[int], files: str
) -> None:
    written_with_texts(tmp_path, "clip", 814, LENGTH)
    if files == "one":
        changed(tmp_path)
    else:
        words = json.loads((FILES / "clip.json").read_bytes())["model"]["vocab"]
        (tmp_path / "vocab.json").write_text(json.dumps(words))
        copied(tmp_path, "clip.bpe", "merges.txt")
    described(tmp_path, tokenizer_class="CLIPTokenizer", **fields)
    assert first_tokens(tmp_path, text, len(expected)) == expected


def test_the_map_of_special_tokens_counts_where_no_added_tokens_are_told(tmp_path: Path) -> None:
    changed(written_with_texts(tmp_path, "clip", 814, LENGTH))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": "!"}))
    described(tmp_path, tokenizer_class="CLIPTokenizer", pad_token="<|endoftext|>")
    assert first_tokens(tmp_path) == [*LOWERED[:9], 0, 813]
    added = {"813": {"content": "<|endoftext|>", "special": True}}
    described(tmp_path, tokenizer_class="CLIPTokenizer", pad_token="<|endoftext|>", added_tokens_decoder=added)
    assert first_tokens(tmp_path) == LOWERED


@pytest.mark.parametrize("files", ["one", "two"])
def test_tokens_of_an_older_file_are_one_token_where_no_others_are_told(tmp_path: Path, files: str) -> None:
    """The tokens are transformers' (5.24) of these files: `th` has no word's end, `pizza` no number."""
    written_with_texts(tmp_path, "clip", 814, LENGTH)
    changed(tmp_path)
    if files == "two":
        (tmp_path / "tokenizer.json").unlink()
        words = json.loads((FILES / "clip.json").read_bytes())["model"]["vocab"]
        (tmp_path / "vocab.json").write_text(json.dumps(words))
        copied(tmp_path, "clip.bpe", "merges.txt")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"th": 513, "pizza": 814}))
    described(tmp_path, tokenizer_class="CLIPTokenizer")
    assert first_tokens(tmp_path, "THE", 4) == [812, 513, 324, 813]
    with pytest.raises(InputError, match="'pizza!' has 'pizza', of which"):
        loaded(tmp_path).tokenizer(["pizza!"])
    described(tmp_path, tokenizer_class="CLIPTokenizer", added_tokens_decoder={})
    assert first_tokens(tmp_path, "the", 4) != [812, 513, 324, 813]


def test_texts_with_tokens_that_the_tower_does_not_know_are_refused(tmp_path: Path) -> None:
    changed(written_with_texts(tmp_path, "clip", 814, LENGTH))
    described(tmp_path, tokenizer_class="CLIPTokenizer", additional_special_tokens=["pizza"])
    assert first_tokens(tmp_path) == LOWERED
    with pytest.raises(InputError, match="'a Pizza' has 'pizza', of which this model's own tokenizer makes one token"):
        loaded(tmp_path).tokenizer(["a Pizza"])


def test_special_tokens_of_siglip_in_a_text_are_refused(tmp_path: Path) -> None:
    copied(written_with_texts(tmp_path, "siglip", 430, LENGTH), "siglip.model", "spiece.model")
    described(tmp_path, tokenizer_class="SiglipTokenizer", additional_special_tokens=["[X]"])
    bundle = vs.load(vs.save(loaded(tmp_path), tmp_path / "bundle").folder)
    assert bundle.text is not None and bundle.text.reserved == ("</s>", "<unk>", "[X]")
    for text in ("</s> a", "a </S>", "<unk>", "an [x]"):
        with pytest.raises(InputError, match="of which this model's own tokenizer makes one token"):
            bundle.tokenizer([text])
    np.testing.assert_array_equal(bundle.tokenizer(["a cat"]), loaded(tmp_path).tokenizer(["a cat"]))


def test_gemmas_classes_have_their_own_rules(tmp_path: Path) -> None:
    written_with_texts(tmp_path, "siglip", 500, LENGTH)
    model = json.loads((FILES / "siglip2.json").read_bytes())["model"] | {"byte_fallback": False, "fuse_unk": False}
    described(changed(tmp_path, "siglip2.json", model=model, pre_tokenizer=None), **GEMMA)
    np.testing.assert_array_equal(loaded(tmp_path).tokenizer(TOKENS["texts"]), TOKENS["hf_siglip2"])


@pytest.mark.parametrize(
    ("kind", "special", "expected"),
    [
        ("XLMRobertaTokenizer", ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], [0, 5, 6, 7, 8, 3, 1, 7, 11, 10, 2, 1]),
        ("T5Tokenizer", ["<pad>", "</s>", "<unk>"], [3, 4, 5, 6, 2, 0, 5, 9, 8, 1, 0]),
    ],
)
def test_classes_of_sentencepieces_pieces_have_their_own_rules(
    tmp_path: Path, kind: str, special: list[str], expected: list[int]
) -> None:
    """The tokens are transformers' (5.24) of these files."""
    pieces = {"\u2581a": -2.0, "\u2581cat": -3.0, "\u2581": -4.0, "A": -5.0, "c": -6.0, "a": -6.5, "t": -7.0}
    vocabulary = [[piece, 0.0] for piece in special] + [list(one) for one in pieces.items()]
    model = {"type": "Unigram", "unk_id": 0, "vocab": vocabulary, "byte_fallback": False}
    written_with_texts(tmp_path, "siglip", len(vocabulary), LENGTH)
    rules = {"version": "1.0", "added_tokens": [], "normalizer": {"type": "Lowercase"}, "model": model}
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules))
    described(tmp_path, tokenizer_class=kind)
    assert first_tokens(tmp_path, "a   cat A? <pad>  ta", len(expected)) == expected


def test_a_class_that_is_not_known_refuses_texts(tmp_path: Path) -> None:
    """Its tokens may be others than those of tokenizer.json: of LlamaTokenizer, for instance, they are."""
    path = changed(written_with_texts(tmp_path, "clip", 814, LENGTH))
    described(tmp_path, tokenizer_class="LlamaTokenizerFast", pad_token="<|endoftext|>")
    assert "tokenizer_class 'LlamaTokenizerFast', whose rules are not known here" in texts_refusal(path)


def test_a_token_that_counts_only_as_a_whole_word_refuses_texts(tmp_path: Path) -> None:
    path = changed(written_with_texts(tmp_path, "clip", 814, LENGTH))
    token = {"content": "<x>", "single_word": True}
    described(tmp_path, tokenizer_class="CLIPTokenizer", additional_special_tokens=[token])
    assert "single_word true of '<x>'" in texts_refusal(path)


def test_tokens_of_siglip_are_those_of_transformers(tmp_path: Path) -> None:
    written_with_texts(tmp_path, "siglip", 430, LENGTH)
    copied(tmp_path, "siglip.model", "spiece.model")
    described(tmp_path, tokenizer_class="SiglipTokenizer", model_input_names=["input_ids"])
    bundle = loaded(tmp_path)
    np.testing.assert_array_equal(bundle.tokenizer(TOKENS["texts"]), TOKENS["hf_siglip"])
    assert not any("masked" in note for note in bundle.provenance.notes)
    described(tmp_path, tokenizer_class="SiglipTokenizer", do_lower_case=False)
    bundle = loaded(tmp_path)
    assert any("padding is not masked" in note for note in bundle.provenance.notes)
    assert bundle.tokenizer(["A CAT"]).tolist() != bundle.tokenizer(["a cat"]).tolist()


def test_tokens_of_siglip_2_are_lowered_whatever_class_is_named(tmp_path: Path) -> None:
    written_with_texts(tmp_path, "siglip", 500, LENGTH)
    rules = json.loads((FILES / "siglip2.json").read_bytes())
    assert rules["normalizer"]["normalizers"].pop(0) == {"type": "Lowercase"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules))
    described(tmp_path, **GEMMA)
    bundle = loaded(tmp_path)
    np.testing.assert_array_equal(bundle.tokenizer(TOKENS["texts"]), TOKENS["hf_siglip2"])
    assert any("texts are lower-cased, as SigLIP 2 was trained" in note for note in bundle.provenance.notes)
    copied(tmp_path, "siglip2.json", "tokenizer.json")
    described(tmp_path, tokenizer_class="Siglip2Tokenizer", padding_side="right")
    bundle = loaded(tmp_path)
    np.testing.assert_array_equal(bundle.tokenizer(TOKENS["texts"]), TOKENS["hf_siglip2"])
    assert bundle.vocabulary == (FILES / "siglip2.json").read_bytes()


@pytest.mark.parametrize(
    ("name", "fields", "told"),
    [
        ("siglip", {**GEMMA, "padding_side": "left"}, "padding_side 'left', which moves the token that is pooled"),
        ("siglip", {"tokenizer_class": "Siglip2Tokenizer"}, "padding_side 'left' (the default of Siglip2Tokenizer)"),
        ("clip", {"padding_side": "left"}, "padding_side 'left'"),
        ("clip", {"truncation_side": "left"}, "truncation_side 'left'"),
        ("clip", {"split_special_tokens": True}, "split_special_tokens true"),
        ("clip", {"tokenizer_class": "PreTrainedTokenizer"}, "no pad_token"),
        ("clip", {"pad_token": "<nothing>"}, "pads with '<nothing>', which tokenizer.json lacks"),
        ("clip", {"tokenizer_class": "BertTokenizer", "pad_token": "!"}, "has no WordPiece model, which its class"),
    ],
)
def test_rules_that_we_cannot_follow_refuse_texts_and_are_named(
    tmp_path: Path, name: str, fields: dict[str, Any], told: str
) -> None:
    file, pieces = {"clip": ("clip.json", 814), "siglip": ("siglip2.json", 500)}[name]
    copied(written_with_texts(tmp_path, name, pieces, LENGTH), file, "tokenizer.json")
    assert told in texts_refusal(described(tmp_path, **fields))


@pytest.mark.parametrize(
    ("part", "told"), [("padding", "padding_side 'left', which"), ("truncation", "truncation_side")]
)
def test_sides_that_a_tokenizer_json_tells_are_those_of_its_class(tmp_path: Path, part: str, told: str) -> None:
    changed(written_with_texts(tmp_path, "clip", 814, LENGTH), **{part: {"direction": "Left"}})
    assert told in (reason := texts_refusal(tmp_path)) and reason.endswith(
        "in its tokenizer.json, cannot be reproduced"
    )
    described(tmp_path, padding_side="right", truncation_side="right")
    assert loaded(tmp_path).provenance.texts_refused == ""


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"sp_model_kwargs": {"alpha": 0.1}}, "sp_model_kwargs, in"), ({"legacy": False}, "legacy false")],
)
def test_other_ways_to_make_pieces_of_siglip_are_refused(tmp_path: Path, fields: dict[str, Any], told: str) -> None:
    copied(written_with_texts(tmp_path, "siglip", 430, LENGTH), "siglip.model", "spiece.model")
    assert told in texts_refusal(described(tmp_path, tokenizer_class="SiglipTokenizer", **fields))


def test_padding_with_another_token_than_siglips_end_is_refused(tmp_path: Path) -> None:
    copied(written_with_texts(tmp_path, "siglip", 430, LENGTH), "siglip.model", "spiece.model")
    assert "pad_token '<pad>' beside eos_token '</s>'" in texts_refusal(described(tmp_path, pad_token="<pad>"))


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("tokenizer_config.json", '{"padding_side": ', "tokenizer_config.json is no JSON"),
        ("tokenizer_config.json", '{"pad_token": 7}', "tokenizer_config.json: pad_token"),
        ("added_tokens.json", '["a"]', "added_tokens.json: numbers: Input should be a valid dictionary"),
        ("tokenizer.json", '{"model": {"vocab": {"a": 0', "tokenizer.json is not a tokenizer.json"),
        ("tokenizer.json", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
    ],
)
def test_damaged_files_of_a_tokenizer_are_an_error(tmp_path: Path, file: str, content: str, told: str) -> None:
    changed(written_with_texts(tmp_path, "clip", 814, LENGTH))
    (tmp_path / file).write_text(content)
    assert told in refusal(tmp_path, InputError)


def test_damaged_words_of_an_older_tokenizer_are_an_error_and_those_of_another_refuse_texts(tmp_path: Path) -> None:
    copied(written_with_texts(tmp_path, "clip", 814, LENGTH), "clip.bpe", "merges.txt")
    (tmp_path / "vocab.json").write_text('{"a": 0,')
    assert "vocab.json is no JSON" in refusal(tmp_path, InputError)
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    assert "this vocab.json and merges.txt are not those of a CLIP tokenizer" in texts_refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "file"),
    [("clip", "tokenizer.json"), ("metaclip2", "tokenizer.json"), ("siglip", "spiece.model")],
)
def test_without_a_tokenizer_images_are_read_and_texts_name_the_file(tmp_path: Path, name: str, file: str) -> None:
    bundle = loaded(written_model(tmp_path, name))
    with torch.no_grad():
        assert bundle.model.encode_image(images_of(*bundle.config.image_size)).shape[0] == 2
    with pytest.raises(InputError, match=f"has no vocabulary, so texts cannot be read: put the {file} published with"):
        _ = bundle.tokenizer


def test_a_vocabulary_of_another_size_is_refused_when_texts_are_read_and_inspect_says_so(
    tmp_path: Path, capsys: Any
) -> None:
    bundle = loaded(copied(written_model(tmp_path, "clip"), "clip.json", "tokenizer.json"))
    with pytest.raises(InputError, match="the vocabulary has 814 pieces and the text tower knows 60"):
        _ = bundle.tokenizer
    code, out, _ = call(capsys, "inspect", tmp_path)
    assert code == 0 and "refused: the vocabulary has 814 pieces and the text tower knows 60: give the file" in out


@pytest.mark.parametrize("damaged", ["[]", '{"a":' * 100_000])
def test_a_tokenizer_json_that_is_no_object_is_an_error(tmp_path: Path, damaged: str) -> None:
    (written_model(tmp_path, "clip") / "tokenizer.json").write_text(damaged)
    assert "tokenizer.json is not a tokenizer.json: give the file as published" in refusal(tmp_path, InputError)


@pytest.mark.parametrize("alien", ['{"model": 3}', '{"model": {"vocab": [1]}}', '{"model": {"vocab": {"a": "b"}}}'])
def test_a_tokenizer_json_without_pieces_refuses_texts(tmp_path: Path, alien: str) -> None:
    described(written_model(tmp_path, "clip"), tokenizer_class="CLIPTokenizer", pad_token="!")
    (tmp_path / "tokenizer.json").write_text(alien)
    assert "the vocabulary is not a tokenizer.json" in texts_refusal(tmp_path)


def test_an_lfs_pointer_in_the_place_of_a_tokenizer_is_named(tmp_path: Path) -> None:
    written_model(tmp_path, "siglip")
    (tmp_path / "spiece.model").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert "is not a vocabulary: it is a Git LFS pointer" in refusal(tmp_path, InputError)


# --- pixels ----------------------------------------------------------------------------------------------------------


def test_the_preprocessor_may_be_a_part_of_a_processor(tmp_path: Path) -> None:
    written_model(tmp_path, "siglip")
    part = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 35, "width": 35}, "resample": 2}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": part}))
    bundle = loaded(tmp_path)
    assert (bundle.preprocessing.interpolation, bundle.preprocessing.resize) == ("bilinear", "squash")
    assert not any("the usual preprocessing is" in note for note in bundle.provenance.notes)


@pytest.mark.parametrize(("form", "told"), [("gelu_pytorch_tanh", "gelu='erf'"), ("gelu", "gelu='tanh'")])
def test_siglips_note_says_which_gelu_the_model_has_and_which_it_has_not(tmp_path: Path, form: str, told: str) -> None:
    config = TWO_TOWERS["siglip"]["config"]
    bundle = loaded(written_model(tmp_path, "siglip", vision_config={**config["vision_config"], "hidden_act": form}))
    assert isinstance(bundle.config, LiTConfig)
    (note,) = [note for note in bundle.provenance.notes if "GELU" in note]
    assert note.startswith(f"GELU {bundle.config.image.gelu}, as ") and told in note


def test_without_a_preprocessor_that_of_the_published_models_is_assumed(tmp_path: Path) -> None:
    bundle = loaded(written_model(tmp_path, "clip"))
    assert (bundle.preprocessing.interpolation, bundle.preprocessing.resize) == ("bicubic", "shorter")
    assert any("the usual preprocessing is" in note and "CLIP models" in note for note in bundle.provenance.notes)


def test_a_text_tower_alone_is_no_image_model(tmp_path: Path) -> None:
    arrays = {key: shape for key, shape in TWO_TOWERS["clip"]["arrays"].items() if key.startswith("text_model.")}
    with pytest.raises(WeightsError, match="has no image tower"):
        loaded(written_arrays(tmp_path, arrays, TWO_TOWERS["clip"]["config"]))

"""Folders of open_clip give open_clip's answers and tokens, recorded beside the script that made them."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import vitsmith as vs
from tests import REFERENCE
from tests.reference.open_clip.record import MODELS, TEXTS, another_size, images, tokens
from tests.weights.open_clip_files import RECORDED, folder_of, state_of
from vitsmith.errors import ConfigError, InputError, WeightsError
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.containers.open import open_arrays
from vitsmith.weights.fill import arrays_of
from vitsmith.weights.open_clip.reader import read
from vitsmith.weights.options import LoadOptions

OTHERS: dict[str, Any] = json.loads((REFERENCE / "text" / "others.json").read_text())
FILES = REFERENCE / "text"


def loaded(folder: Path, model: str, **changes: Any) -> Bundle:
    """A recorded model, with other fields of `vision_cfg` or `text_cfg` as 'text_cfg.width'."""
    config = copy.deepcopy(MODELS[model])
    for name, value in changes.items():
        place, _, field = name.rpartition(".")
        (config[place] if place else config)[field] = value
    return vs.load(folder_of(folder, state_of(model), config))


def refusal(folder: Path, model: str, **changes: Any) -> str:
    with pytest.raises((WeightsError, ConfigError)) as refused:
        loaded(folder, model, **changes)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def assert_answers(bundle: Bundle, model: str) -> None:
    recorded, ours = RECORDED[model], bundle.model
    size = ours.config.image_size
    with torch.inference_mode():
        answers = {
            "image": ours.encode_image(images(size)),
            "text": ours.encode_text(tokens()),
            "logits": ours(images(size), tokens()),
        }
    for what, found in answers.items():
        torch.testing.assert_close(found, torch.tensor(recorded[what]), rtol=1e-5, atol=2e-6)


def test_every_model_was_recorded() -> None:
    assert RECORDED.keys() - {"bert tokens"} == MODELS.keys()


@pytest.mark.parametrize("model", MODELS)
def test_open_clips_answers_and_names_both_ways(tmp_path: Path, model: str) -> None:
    bundle, state = loaded(tmp_path, model), state_of(model)
    assert_answers(bundle, model)
    assert (bundle.provenance.kind, bundle.provenance.license, bundle.head) == ("open_clip", "", "none")
    with open_arrays(tmp_path / "open_clip_model.safetensors") as file:
        slots = read(file, LoadOptions()).slots
    back = dict(arrays_of(bundle.model, slots))
    assert back.keys() == state.keys() and all(torch.equal(back[name], state[name]) for name in state)


@pytest.mark.parametrize("model", MODELS)
def test_positions_move_to_another_image_size_as_in_open_clip(tmp_path: Path, model: str) -> None:
    size = another_size(MODELS[model]["vision_cfg"]["image_size"])
    bundle = vs.load(folder_of(tmp_path, state_of(model), MODELS[model]), image_size=size)
    with torch.inference_mode():
        answers = bundle.model.encode_image(images(size))
    torch.testing.assert_close(answers, torch.tensor(RECORDED[model]["another size"]), rtol=1e-5, atol=2e-6)
    assert bundle.preprocessing.size == size
    assert any("were resized to" in note and "bicubic with antialiasing" in note for note in bundle.provenance.notes)


def test_text_under_a_name_of_its_own_and_a_scale_with_an_axis_are_the_same(tmp_path: Path) -> None:
    state = state_of("clip")
    old = ("visual.", "logit_scale")
    state = {name if name.startswith(old) else f"text.{name}": array for name, array in state.items()}
    state["logit_scale"] = state["logit_scale"].reshape(1)
    assert_answers(vs.load(folder_of(tmp_path, state, {**MODELS["clip"], "custom_text": True})), "clip")


def test_the_bin_of_a_folder_is_read_and_the_safer_file_before_it(tmp_path: Path) -> None:
    folder_of(tmp_path, state_of("clip"), MODELS["clip"])
    torch.save(state_of("clip"), tmp_path / "open_clip_pytorch_model.bin")
    bundle = vs.load(tmp_path)
    assert (
        "open_clip_model.safetensors was read, open_clip_pytorch_model.bin beside it was not" in bundle.provenance.notes
    )
    (tmp_path / "open_clip_model.safetensors").unlink()
    assert_answers(vs.load(tmp_path), "clip")


def test_a_bias_that_the_file_lacks_is_zero_as_in_open_clip(tmp_path: Path) -> None:
    bundle = loaded(tmp_path, "clip", init_logit_bias=-10)
    assert bundle.similarity.bias == 0
    assert loaded(tmp_path, "siglip").similarity.bias == pytest.approx(float(state_of("siglip")["logit_bias"]))


@pytest.mark.parametrize(("model", "noted"), [("siglip", True), ("eva02", False), ("clip", False)])
def test_which_of_two_truths_is_given_is_said(tmp_path: Path, model: str, noted: bool) -> None:
    told = [
        note
        for note in loaded(tmp_path, model).provenance.notes
        if "as in open_clip: GELU erf in the image tower (" in note
    ]
    assert bool(told) is noted


def test_heads_that_nothing_tells_are_a_note(tmp_path: Path) -> None:
    notes = loaded(tmp_path, "layer-behind").provenance.notes
    assert not any("heads" in note for note in notes)  # 192 is the width of ViT-Ti
    state = state_of("layer-behind")
    for name in [name for name in state if name.startswith("visual.")]:
        halved = (slice(side // 2) if side % 192 == 0 else slice(None) for side in state[name].shape)
        state[name] = state[name][tuple(halved)].contiguous()
    notes = vs.load(folder_of(tmp_path, state, MODELS["layer-behind"])).provenance.notes
    assert any(note.endswith("arrays do not show it: 1 heads") for note in notes)


def test_pixels_are_those_of_preprocess_cfg_and_of_openai_without_one(tmp_path: Path) -> None:
    told = {"mean": [0.5, 0.4, 0.3], "std": 0.5, "interpolation": "bilinear", "resize_mode": "squash", "size": 77}
    spec = vs.load(folder_of(tmp_path, state_of("clip"), MODELS["clip"], told)).preprocessing
    assert (spec.size, spec.resize, spec.interpolation) == ((16, 24), "squash", "bilinear")
    assert (spec.mean, spec.std, spec.quantize) == ((0.5, 0.4, 0.3), (0.5, 0.5, 0.5), "round")
    usual = loaded(tmp_path, "clip").preprocessing
    assert (usual.resize, usual.interpolation, usual.mean[0]) == ("shorter", "bicubic", 0.48145466)


REFUSED = {
    "coca": ({"multimodal_cfg": {"width": 64}}, "is a CoCa of open_clip, with a decoder that writes captions"),
    "text of transformers": (
        {"text_cfg.hf_model_name": "roberta-base"},
        "whose text tower is 'roberta-base' of transf",
    ),
    "resnet": ({"vision_cfg.layers": [3, 4, 6, 3]}, "whose image tower is a ResNet, a convolutional network"),
    "convnext": ({"vision_cfg.timm_model_name": "convnext_base"}, "is convnext_base of timm, a convolutional network"),
    "mobileclip": ({"vision_cfg.timm_model_name": "fastvit_mci2"}, "is fastvit_mci2 of timm, no plain vision transf"),
    "mobileclip b": ({"vision_cfg.timm_model_name": "vit_base_mci_224"}, "timm, which has a convolutional front"),
    "another trunk": ({"vision_cfg.timm_model_name": "vit_base_patch16_224"}, "'visual.trunk.patch_embed.proj.weight'"),
    "attention": ({"vision_cfg.scale_heads": True}, "vision_cfg.scale_heads True: not supported"),
    "several": (
        {"text_cfg.qk_norm": True, "text_cfg.embed_cls": True},
        "text_cfg.qk_norm True, text_cfg.embed_cls True",
    ),
    "attentional pool": ({"vision_cfg.attentional_pool": "parallel"}, "vision_cfg.attentional_pool 'parallel'"),
    "layer scale": ({"text_cfg.ls_init_value": 0.1}, "text_cfg.ls_init_value (LayerScale in a text tower)"),
    "activation": ({"vision_cfg.act_kwargs": {"approximate": "tanh"}}, "vision_cfg.act_kwargs with quick_gelu"),
    "pooling": ({"text_cfg.pool_type": "first"}, "model_cfg.text_cfg.pool_type: Input should be 'last', 'argmax' or"),
    "mlp behind": ({"vision_cfg.timm_proj": "mlp"}, "model_cfg.vision_cfg.timm_proj: Input should be"),
    "unknown": ({"text_cfg.twist": 1}, "model_cfg.text_cfg.twist: unknown field"),
    "nonsense": ({"embed_dim": "many"}, "model_cfg.embed_dim: must be a number, not 'many'"),
    "negative": ({"vision_cfg.width": -1}, "model_cfg.vision_cfg.width: Input should be greater than 0"),
    "cleaning": ({"text_cfg.tokenizer_kwargs": {"clean": "scrub"}}, "tokenizer_kwargs.clean: Input should be 'lower'"),
    "reduction": (
        {"text_cfg.tokenizer_kwargs": {"reduction_mask": "simple"}},
        "reduction_mask: Input should be '' (got 'simple')",
    ),
    "width": ({"vision_cfg.width": 128}, "of wrong shape: visual.class_embedding is 64, expected 128"),
    "embedding": ({"embed_dim": 32}, "of wrong shape: text_projection is 32x24, expected 32x32"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_our_towers_do_not_have_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    changes, told = REFUSED[kind]
    assert told in refusal(tmp_path, "clip", **changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"vision_cfg.timm_model_name": "eva02_enormous_patch14_clip_224"},
            "norms after attention and MLP in the place",
        ),
        ({"vision_cfg.timm_pool": ""}, "global_pool '' is not supported"),
        ({"embed_dim": 32}, "the towers must meet in one width: image 24, text 32"),
    ],
)
def test_towers_of_timm_are_refused_as_by_themselves(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    assert told in refusal(tmp_path, "eva02", **changes)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no JSON: Expecting property name"),
        ("[]", "must be an object"),
        ('{"model_cfg": 5}', "model_cfg: must be an object"),
        ('{"preprocess_cfg": {}}', "model_cfg: is missing"),
        (
            '{"model_cfg": {"embed_dim": 24, "vision_cfg": [], "text_cfg": null}}',
            "model_cfg.vision_cfg: must be an object",
        ),
    ],
)
def test_a_description_that_says_nothing_is_named(tmp_path: Path, text: str, told: str) -> None:
    folder_of(tmp_path, state_of("clip"), MODELS["clip"])
    (tmp_path / "open_clip_config.json").write_text(text)
    with pytest.raises(WeightsError) as refused:
        vs.load(tmp_path)
    assert str(tmp_path / "open_clip_config.json") in str(refused.value) and told in str(refused.value)


def test_a_file_alone_says_what_it_needs(tmp_path: Path) -> None:
    """OpenAI's own arrays have the same names."""
    save_file(state_of("clip"), tmp_path / "ViT-B-32.safetensors")
    with pytest.raises(WeightsError, match=r"need their open_clip_config\.json beside them: the form of GELU, heads"):
        vs.load(tmp_path / "ViT-B-32.safetensors")


def test_a_file_of_open_clip_by_itself_is_read_with_what_lies_beside_it(tmp_path: Path) -> None:
    folder_of(tmp_path, state_of("clip"), MODELS["clip"])
    assert_answers(vs.load(tmp_path / "open_clip_model.safetensors"), "clip")


def read_texts(folder: Path, model: str, texts: list[str], **changes: Any) -> list[list[int]]:
    found: list[list[int]] = loaded(folder, model, **changes).tokenizer(texts).tolist()
    return found


@pytest.mark.parametrize("name", ["merges.txt", "bpe_simple_vocab_16e6.txt.gz", "tokenizer.json"])
def test_the_merges_of_clip_are_found_in_every_file_that_has_them(tmp_path: Path, name: str) -> None:
    packed = gzip.compress((FILES / "clip.bpe").read_bytes())
    kept = {"tokenizer.json": (FILES / "clip.json").read_bytes(), "bpe_simple_vocab_16e6.txt.gz": packed}
    (tmp_path / name).write_bytes(kept.get(name, (FILES / "clip.bpe").read_bytes()))
    state = state_of("clip") | {"positional_embedding": torch.ones(OTHERS["length"], 32)}
    config = copy.deepcopy(MODELS["clip"])
    config["text_cfg"]["context_length"] = OTHERS["length"]
    bundle = vs.load(folder_of(tmp_path, state, config))
    assert bundle.tokenizer(OTHERS["texts"]).tolist() == OTHERS["open_clip"]
    assert vs.load(vs.save(bundle, tmp_path / "bundle").folder).tokenizer(["a cat"]).tolist()[0][0] == 812


def test_without_its_tokenizer_a_model_embeds_images_and_names_the_file(tmp_path: Path) -> None:
    for model, name in (("clip", "merges.txt"), ("siglip", "tokenizer.json")):
        bundle = loaded(tmp_path, model)
        assert_answers(bundle, model)
        with pytest.raises(InputError, match=f"has no vocabulary, so texts cannot be read: put .*{name}"):
            bundle.tokenizer(["a cat"])


@pytest.mark.parametrize(
    ("tokenizer", "told"),
    [
        ({"model": {"merges": None}}, "has no merges of pieces"),
        ({"model": {"merges": [["a", "b"]], "vocab": {"ab": 7}}}, "numbers its pieces in another way"),
    ],
)
def test_another_tokenizer_in_the_place_of_clips_is_refused(tmp_path: Path, tokenizer: Any, told: str) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    told += ".*open_clip reads these texts with bpe_simple_vocab_16e6.txt.gz: put that beside the weights"
    with pytest.raises(InputError, match=f"reads no texts: tokenizer.json {told}"):
        _ = loaded(tmp_path, "clip").tokenizer
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer\.json is not a tokenizer\.json: give the file as published"):
        loaded(tmp_path, "clip")


def siglip2(folder: Path, **config: Any) -> dict[str, Any]:
    """Puts SigLIP 2's tokenizer into the folder; the fields of a model with it."""
    (folder / "tokenizer.json").write_bytes((FILES / "siglip2.json").read_bytes())
    special = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special | config))
    return {"context_length": OTHERS["length"], "vocab_size": 500}


def test_siglip_reads_texts_with_the_tokenizer_beside_it(tmp_path: Path) -> None:
    text = siglip2(tmp_path)
    state = state_of("siglip") | {
        "text.positional_embedding": torch.ones(text["context_length"], 32),
        "text.token_embedding.weight": torch.ones(text["vocab_size"], 32),
    }
    config = copy.deepcopy(MODELS["siglip"])
    config["text_cfg"] |= text
    bundle = vs.load(folder_of(tmp_path, state, config))
    assert bundle.tokenizer(OTHERS["texts"]).tolist() == OTHERS["open_clip_siglip2"]
    assert (bundle.text.padding, bundle.text.padding_token, bundle.text.pooling) == ("zero", None, "last")


@pytest.mark.parametrize(("pad", "padding"), [("<pad>", 0), ({"content": "<eos>"}, 1), ("<mask>", 4)])
def test_texts_are_padded_with_the_token_that_the_files_name(tmp_path: Path, pad: Any, padding: int) -> None:
    siglip2(tmp_path, pad_token=pad)
    bundle = loaded(tmp_path, "siglip", **{"text_cfg.vocab_size": 814})
    assert bundle.tokenizer(["a"])[0].tolist()[1:] == [1] + [padding] * 10


def test_clipa_reads_with_berts_pieces_and_a_blank_for_the_end(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((REFERENCE / "open_clip" / "bert.json").read_bytes())
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": "[PAD]", "sep_token": "[SEP]"}))
    bundle = loaded(tmp_path, "clipa")
    assert bundle.tokenizer(TEXTS).tolist() == RECORDED["bert tokens"]
    assert "the text tower knows 814 tokens, and its tokenizer has 15" in bundle.provenance.notes
    again = vs.load(vs.save(bundle, tmp_path / "bundle").folder)
    assert again.tokenizer(TEXTS).tolist() == RECORDED["bert tokens"]


def test_texts_that_are_padded_on_the_left_are_refused(tmp_path: Path) -> None:
    siglip2(tmp_path, padding_side="left")
    bundle = loaded(tmp_path, "siglip")
    told = "padding_side 'left', which moves the token that is pooled, in its tokenizer_config.json"
    assert bundle.provenance.texts_refused.startswith(told)


def test_a_tokenizer_that_the_library_cannot_read_refuses_texts(tmp_path: Path) -> None:
    siglip2(tmp_path)
    described = json.loads((tmp_path / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer.json").write_text(json.dumps(described | {"pre_tokenizer": {"type": "Newest"}}))
    bundle = loaded(tmp_path, "siglip")
    with pytest.raises(InputError, match="reads no texts: the vocabulary is not a tokenizer"):
        _ = bundle.tokenizer


@pytest.mark.parametrize(
    ("cleaning", "expected"),
    [("whitespace", [410, 307, 304, 302, 356, 425, 360, 359, 397, 1]), ("lower", [360, 307, 304, 302, 329, 397, 1])],
)
def test_a_gemma_tokenizer_keeps_the_case_that_cleaning_leaves(
    tmp_path: Path, cleaning: str, expected: list[int]
) -> None:
    siglip2(tmp_path, tokenizer_class="GemmaTokenizer", padding_side="right")
    rules = json.loads((tmp_path / "tokenizer.json").read_bytes())
    rules["normalizer"]["normalizers"].pop(0)
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules))
    bundle = loaded(
        tmp_path, "siglip", **{"text_cfg.vocab_size": 814, "text_cfg.tokenizer_kwargs": {"clean": cleaning}}
    )
    assert bundle.tokenizer(["A photo of  a Cat!"])[0].tolist()[: len(expected)] == expected
    assert not any("lower-cased" in note or "masked" in note for note in bundle.provenance.notes)


def test_special_tokens_that_cleaning_takes_away_are_no_matter(tmp_path: Path) -> None:
    siglip2(tmp_path, tokenizer_class="Siglip2Tokenizer", padding_side="right", mask_token="<new>")
    text = {"text_cfg.vocab_size": 814, "text_cfg.tokenizer_kwargs": {"clean": "whitespace"}}
    with pytest.raises(InputError, match="'<new>' has '<new>', of which"):
        loaded(tmp_path, "siglip", **text).tokenizer(["&lt;new&gt;"])
    bundle = loaded(tmp_path, "siglip", **text | {"text_cfg.tokenizer_kwargs": {"clean": "canonicalize"}})
    assert bundle.tokenizer(["<new>"]).tolist() == bundle.tokenizer(["new"]).tolist()


@pytest.mark.parametrize("lower", [True, False])
def test_berts_class_has_its_own_rules(tmp_path: Path, lower: bool) -> None:
    rules = json.loads((REFERENCE / "open_clip" / "bert.json").read_bytes())
    rules["normalizer"]["lowercase"] = not lower
    (tmp_path / "tokenizer.json").write_text(json.dumps(rules | {"post_processor": None}))
    named = {"tokenizer_class": "BertTokenizer", "do_lower_case": lower}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(named))
    tokens = loaded(tmp_path, "clipa").tokenizer(["A photo of a Cat!"])[0].tolist()
    assert tokens[:8] == [2, *([5, 9, 10, 5, 7, 1] if lower else [1, 9, 10, 5, 1, 1]), 0]

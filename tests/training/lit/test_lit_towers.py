"""What a run of `lit` starts from: recipes, vocabularies, both towers, and the locked one's embeddings."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest
import torch

from tests.documentation import ROOT, field_rows, table_after
from tests.tiny import REFERENCE, WORDS, tiny_lit
from tests.training.lit.small_runs import lit_recipe, write_pairs, write_tower
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.sets.pairs import open_pairs
from vitsmith.data.text.tokenizer import Tokenizer
from vitsmith.errors import ConfigError, DatasetError, InputError, UnknownNameError
from vitsmith.models.lit import LiT
from vitsmith.text_spec import TextSpec
from vitsmith.training.devices import Devices
from vitsmith.training.lit import embeddings as embeddings_module
from vitsmith.training.lit.embeddings import EmbeddingStore
from vitsmith.training.lit.towers import Towers, open_image_tower, start
from vitsmith.training.lit.vocabulary import find_vocabulary, learn_wordpiece
from vitsmith.training.recipes.file import merge, parse_fields, read_recipe, recipe_names
from vitsmith.training.recipes.lit import LitRecipe
from vitsmith.weights.load import load
from vitsmith.weights.save import save

CAPTIONS = ["a red bird on a Tree", "Two birds, one blue", "a tree", "the reddest of reds"]
ALONE = Devices(torch.device("cpu"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tower, a table of pairs, a LiT bundle of BERT and the two vocabularies of the tests."""
    folder = tmp_path_factory.mktemp("place")
    write_tower(folder / "tower")
    write_pairs(folder / "data")
    save(tiny_lit(), folder / "words")
    (folder / "words.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "pieces.model").write_bytes((REFERENCE / "text" / "sentencepiece.model").read_bytes())
    return folder


def begin(place, **changes) -> Towers:
    recipe = lit_recipe(place / "tower", place / "data" / "pairs.csv", **changes)
    return start(recipe, find_vocabulary(recipe.text, CAPTIONS))


FRESH = {"width": None, "depth": None, "heads": None, "length": None}
"""What FIELDS say of a fresh tower, taken back."""


def test_recipes_are_complete_and_their_headers_say_what_to_expect() -> None:
    assert recipe_names("lit") == ["lit", "lit-shapes"]
    for name in recipe_names("lit"):
        given = {"data": {"path": "captions.csv"}, "image": {"init": "augreg:B_16"}}
        recipe = parse_fields(merge(given, read_recipe(name, "lit")), LitRecipe)
        assert parse_fields(recipe.model_dump(mode="json"), LitRecipe) == recipe
        header = (resources.files("vitsmith") / "recipes" / "lit" / f"{name}.toml").read_text().split("\n[")[0]
        assert "#   vitsmith lit" in header and "Cost:" in header and "Expected" in header
    with pytest.raises(UnknownNameError, match=r"did you mean lit-shapes\?"):
        read_recipe("lit-shape", "lit")


def test_all_mistakes_of_a_recipe_are_told_at_once() -> None:
    wrong = {
        "data": {"path": "shapes", "caption": "text"},
        "text": {"size": "B", "heads": 7},
        "augment": {"grade": "light2"},
        "optimizer": {"sharpness": "sam"},
        "loss": {"temperature": 200},
    }
    with pytest.raises(ConfigError) as told:
        parse_fields(wrong, LitRecipe)
    for part in (
        "unknown field 'data.caption': did you mean caption_column",
        "image.init is missing: --model on the command line",
        "width 768 is not a multiple of heads 7",
        "a mixture of two images has no caption: set augment.mixup=0",
        "sharpness is for image models",
        "temperature 200 is above max_temperature 100",
    ):
        assert part in str(told.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({}, "give init, or size, or width, depth and heads"),
        ({"size": "XXL"}, "unknown size 'XXL': mu, Ti, S"),
        ({"init": "LiT-B16B", "length": 32, "kind": "bert"}, "complete: leave kind, length out"),
        ({"init": "LiT-B16B", "vocabulary": "learnt"}, "knows its own pieces"),
    ],
)
def test_text_towers_that_cannot_be(text, message) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_fields({"data": {"path": "shapes"}, "image": {"init": "x"}, "text": text}, LitRecipe)


def test_a_released_size_may_be_changed_in_part() -> None:
    text = {"size": "S", "depth": 2}
    recipe = parse_fields({"data": {"path": "shapes"}, "image": {"init": "x"}, "text": text}, LitRecipe)
    assert recipe.text.shape == (384, 2, 6, 1536)
    recipe = parse_fields({"data": {"path": "shapes"}, "image": {"init": "x"}, "text": text | {"width": 96}}, LitRecipe)
    assert recipe.text.shape == (96, 2, 6, 384)


def test_learnt_pieces_are_the_same_each_time_and_read_every_caption() -> None:
    files = {learn_wordpiece(order, 200, lower_case=True) for order in (CAPTIONS, CAPTIONS[::-1]) for _ in range(4)}
    assert len(files) == 1
    pieces = files.pop().decode().split("\n")[:-1]
    assert pieces[:4] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] and len(set(pieces)) == len(pieces)
    assert {"red", "bird", "tree"} <= set(pieces)
    spec = TextSpec(tokenizer="wordpiece", length=32, vocabulary=len(pieces))
    tokens = Tokenizer(spec, "\n".join(pieces).encode())(CAPTIONS)
    assert not (tokens == pieces.index("[UNK]")).any()
    words = ["".join(pieces[token].removeprefix("##") for token in row if token > 3) for row in tokens.tolist()]
    assert words == [caption.lower().replace(" ", "") for caption in CAPTIONS]


def test_capitals_are_kept_when_asked_for() -> None:
    assert "T" in learn_wordpiece(CAPTIONS, 200, lower_case=False).decode().split("\n")
    assert "T" not in learn_wordpiece(CAPTIONS, 200, lower_case=True).decode().split("\n")


def test_a_fresh_tower_is_as_the_recipe_says(place) -> None:
    towers = begin(place)
    config, tower = towers.lit.config, open_image_tower(str(place / "tower"))
    assert (config.text.width, config.text.depth, config.text.length, config.text.classes) == (32, 1, 8, 32)
    assert config.image == tower.model.config and config.image.classes == 0
    assert config.text.vocabulary == towers.text.vocabulary == towers.tokenizer.count
    assert towers.lit.temperature.item() == pytest.approx(10) and towers.lit.logit_bias is None
    trained = [name for name, each in towers.lit.named_parameters() if each.requires_grad]
    assert trained and not any(name.startswith("image.") for name in trained)
    again, other = begin(place), begin(place, run={"seed": 1})
    assert torch.equal(again.lit.text.words.weight, towers.lit.text.words.weight)
    assert not torch.equal(other.lit.text.words.weight, towers.lit.text.words.weight)


def test_vocabularies_from_files(place) -> None:
    wordpiece = {"vocabulary": str(place / "words.txt")}
    assert begin(place, text=wordpiece).text.tokenizer == "wordpiece"
    last = begin(place, text=wordpiece | {"kind": "transformer"})
    assert (last.text.padding, last.text.pooling) == ("end", "last")
    pieces = {"vocabulary": str(place / "pieces.model"), "kind": "transformer"}
    towers = begin(place, text=pieces)
    assert towers.text.tokenizer == "sentencepiece" and towers.lit.config.text.vocabulary == towers.tokenizer.count
    assert towers.lit.encode_text(torch.from_numpy(towers.tokenizer(["red"]))).shape == (1, 32)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"vocabulary": "nowhere.txt"}, "cannot read the vocabulary nowhere.txt: No such file"),
        ({"vocabulary": "words.json"}, "neither a WordPiece .txt, nor a SentencePiece .model, nor 'learnt'"),
        ({"vocabulary": "{place}/pieces.model"}, "no start token, which BERT pools: set text.kind=transformer"),
        ({"vocabulary": "{place}/data/pairs.csv"}, "neither a WordPiece"),
        ({"pieces": 12}, r"text\.pieces = 12 is too small: the captions' single characters alone are \d+ pieces"),
        (FRESH | {"init": "{place}/tower"}, "has no text tower: give a LiT model in text.init"),
        (
            FRESH | {"init": "{place}/words", "vocabulary": "{place}/big.txt"},
            "does not fit .*words: the vocabulary has 60",
        ),
    ],
)
def test_vocabularies_that_do_not_fit(place, text, message) -> None:
    (place / "big.txt").write_text("\n".join([*WORDS, *(f"more{index}" for index in range(40))]))
    filled = {name: value.format(place=place) if isinstance(value, str) else value for name, value in text.items()}
    with pytest.raises(InputError, match=message):
        begin(place, text=filled)


def test_a_text_tower_goes_on_with_its_weights(place) -> None:
    """With its own image tower all of it, with another one of that width all but temperature, else not the head."""
    source = load(place / "words").model
    assert isinstance(source, LiT)
    words = FRESH | {"init": str(place / "words")}
    other = begin(place, text=words)
    assert all(torch.equal(one, source.text.state_dict()[name]) for name, one in other.lit.text.state_dict().items())
    assert other.lit.temperature.item() == pytest.approx(10) and other.told.endswith("/words")
    assert other.text.templates == ("a {} picture",)
    own = begin(place, text=words, image={"init": str(place / "words")})
    assert torch.equal(own.lit.log_temperature, source.log_temperature) and "this same image tower" in own.told
    assert torch.equal(own.lit.image.state_dict()["norm.weight"], source.image.state_dict()["norm.weight"])
    save(tiny_lit("lit-bert-projected"), place / "narrow")
    narrow = begin(place, text=FRESH | {"init": str(place / "narrow")})
    assert "its projection is fresh, because it had a width of 24 and this image tower has 32" in narrow.told
    assert narrow.lit.text.head.weight.shape[0] == 32 and narrow.lit.text.head.weight.any()
    wide = begin(place, text=words, image={"init": str(place / "narrow")})  # an image tower with a projection keeps it
    assert wide.lit.config.image.classes == 24 == wide.lit.config.text.classes


def test_image_towers_that_are_none(tmp_path) -> None:
    write_tower(tmp_path / "mixer", "mixer")
    with pytest.raises(
        ConfigError, match="mixer is a mixer model: the image tower of a LiT model is a ViT or a hybrid"
    ):
        open_image_tower(str(tmp_path / "mixer"))
    write_tower(tmp_path / "patches", "vit-unpooled")
    with pytest.raises(ConfigError, match="gives a feature for each patch"):
        open_image_tower(str(tmp_path / "patches"))
    with pytest.raises(InputError, match=r"nowhere\.npz: no such file"):
        open_image_tower("nowhere.npz")


def test_a_hybrid_will_do(tmp_path) -> None:
    write_tower(tmp_path / "hybrid", "hybrid-stem")
    assert open_image_tower(str(tmp_path / "hybrid")).model.config.resnet is not None


class Counted:
    """A store whose parts are of five images, and how many images its tower has seen."""

    def __init__(self, folder, tower, **options) -> None:
        opened = open_image_tower(str(tower))
        self.tower, self.spec, self.seen = opened.model, opened.images, 0
        self.tower.register_forward_hook(lambda *called: setattr(self, "seen", self.seen + len(called[1][0])))
        self.store = EmbeddingStore(folder, opened.model, opened.images, opened.identity, ALONE, batch=3, **options)


@pytest.fixture
def samples(place, monkeypatch):
    monkeypatch.setattr(embeddings_module, "PART", 5)
    return open_pairs(lit_recipe(place / "tower", place / "data" / "pairs.csv").data).train


def test_embeddings_are_the_towers_and_made_once(place, samples, tmp_path) -> None:
    first = Counted(tmp_path, place / "tower")
    found = first.store.open("train", samples)
    assert isinstance(found, np.memmap) and found.dtype == np.float32 and first.seen == len(samples) == 36
    images = torch.from_numpy(np.stack([preprocess(samples.image(index), first.spec) for index in range(36)]))
    with torch.no_grad():
        features = first.tower(images)
    np.testing.assert_allclose(found, features / features.norm(dim=1, keepdim=True), atol=1e-5)
    again = Counted(tmp_path, place / "tower")
    np.testing.assert_array_equal(again.store.open("train", samples), found)
    assert again.seen == 0
    assert sorted(path.name for path in (tmp_path / "embeddings").iterdir()) == ["train.json", "train.npy"]


def test_embeddings_that_were_interrupted_go_on(place, samples, tmp_path) -> None:
    def stop(which: str, done: int, of: int) -> None:
        if done == 15:
            raise KeyboardInterrupt

    first = Counted(tmp_path, place / "tower")
    with pytest.raises(KeyboardInterrupt):
        first.store.open("train", samples, stop)
    assert first.seen == 15
    second = Counted(tmp_path, place / "tower")
    found = second.store.open("train", samples)
    assert second.seen == 36 - 15
    np.testing.assert_array_equal(found, Counted(tmp_path / "whole", place / "tower").store.open("train", samples))


def test_embeddings_of_something_else_are_made_again(place, samples, tmp_path) -> None:
    def seen(tower=place / "tower", data=samples, **options) -> int:
        counted = Counted(tmp_path, tower, **options)
        counted.store.open("train", data)
        return counted.seen

    assert (seen(), seen()) == (36, 0)
    assert seen(data=samples.select(range(30))) == 30
    assert seen(kept="float16", data=samples.select(range(30))) == 30
    write_tower(tmp_path / "other", seed=1)
    assert seen(tower=tmp_path / "other", kept="float16", data=samples.select(range(30))) == 30


def test_images_that_cannot_be_read_are_rows_of_nan(place, samples, tmp_path) -> None:
    broken = samples.select(range(36))
    sources = [broken.sources[index] for index in range(36)]
    sources[7] = b"no image"
    damaged = type(samples)(broken.classes, sources, broken.names, broken.labels)
    counted = Counted(tmp_path, place / "tower", skip_unreadable=0.1)
    found = counted.store.open("train", damaged)
    assert np.flatnonzero(np.isnan(found).any(axis=1)).tolist() == [7]
    assert len(counted.store.complaints["train"]) == 1 and damaged.names[7] in counted.store.complaints["train"][0]
    for folder in (tmp_path, tmp_path / "fresh"):  # whether they were made before, or are made now
        with pytest.raises(DatasetError, match=r"1 of 36 train images cannot be read, and data\.skip_unreadable = 0 "):
            Counted(folder, place / "tower").store.open("train", damaged)


def test_the_page_lists_every_recipe_with_its_command_and_every_field() -> None:
    page = ROOT / "docs" / "lit.md"
    rows = table_after(page, "| recipe |")
    assert [row[0].strip("`") for row in rows] == sorted(recipe_names("lit"))
    for name, _, command in rows:
        text = (ROOT / "vitsmith" / "recipes" / "lit" / f"{name.strip('`')}.toml").read_text(encoding="utf-8")
        assert f"#   {command.strip('`')}\n" in text
    of_train = ("augment", "optimizer", "schedule")
    expected = [row for row in field_rows(LitRecipe) if row[0].strip("`").split(".")[0] not in of_train]
    assert table_after(page, "| field |") == expected

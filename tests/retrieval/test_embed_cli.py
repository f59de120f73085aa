"""`vitsmith embed` and `vitsmith retrieve` as a user meets them."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vitsmith as vs
from tests.command_line import call
from tests.tiny import VIT, pictures, tiny_lit, tiny_model
from vitsmith.encode import Encoder
from vitsmith.errors import InputError
from vitsmith.retrieval.description import Space, check_same_model, read_description, write_description
from vitsmith.retrieval.index import open_index
from vitsmith.retrieval.writer import IndexWriter

TEXTS = ("a photo of a cat", "a red circle", "the small dog", "a blue square")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """'lit' and another 'lit2', and 'vit' of images alone."""
    folder = tmp_path_factory.mktemp("models")
    vs.save(tiny_lit(), folder / "lit")
    vs.save(tiny_lit(seed=1), folder / "lit2")
    vs.save(vs.Bundle.of(tiny_model(VIT)), folder / "vit")
    return folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with seven photos and a file of texts."""
    (tmp_path / "photos").mkdir()
    for index, picture in enumerate(pictures(7)):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{index}.png")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expected(model: Path, queries: np.ndarray, count: int) -> list[list[str]]:
    """Names of the photos nearest to each query, by hand."""
    vectors = Encoder(model).images(pictures(7)).astype(np.float16).astype(np.float32)
    order = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :count]
    return [[f"photos/{index}.png" for index in row] for row in order.tolist()]


def read_lines(out: str) -> list[Any]:
    return [json.loads(line) for line in out.splitlines()]


def test_embedded_images_are_found_by_words(models: Path, folder: Path, capsys: Any) -> None:
    code, out, _ = call(capsys, "embed", models / "lit", "photos", "--out", "index")
    assert code == 0 and "images      7" in out and "32 numbers, float16" in out
    code, out, err = call(capsys, "retrieve", *TEXTS[:2], "--index", "index", "--top", 3, "--json")
    answers = read_lines(out)
    assert (code, err) == (0, "") and [answer["query"] for answer in answers] == list(TEXTS[:2])
    names = [[result["id"] for result in answer["results"]] for answer in answers]
    assert names == expected(models / "lit", Encoder(models / "lit").texts(TEXTS[:2]), 3)
    _, out, _ = call(capsys, "retrieve", TEXTS[0], "--index", "index", "--top", 2)
    assert [line.split() for line in out.splitlines()] == [
        [f"{result['score']:.4f}", result["id"]] for result in answers[0]["results"][:2]
    ]
    _, out, _ = call(capsys, "retrieve", *TEXTS[:2], "--index", "index", "--top", 1)
    assert [line.split()[-1] for line in out.splitlines() if line] == ["cat:", names[0][0], "circle:", names[1][0]]


def test_an_image_finds_itself_and_texts(models: Path, folder: Path, capsys: Any) -> None:
    call(capsys, "embed", models / "vit", "photos", "--out", "of-vit", "--dtype", "float32")
    code, out, _ = call(capsys, "retrieve", "--images", "photos/3.png", "--index", "of-vit", "--top", 1)
    assert code == 0 and out.split() == ["1.0000", "photos/3.png"]
    _, out, _ = call(capsys, "retrieve", "--images", "photos/[13].png", "--index", "of-vit", "--top", 1, "--json")
    assert [(one["query"], one["results"][0]["id"]) for one in read_lines(out)] == [
        ("photos/1.png",) * 2,
        ("photos/3.png",) * 2,
    ]
    call(capsys, "embed", models / "vit", "photos", "--out", "halved")
    _, out, _ = call(capsys, "retrieve", "--images", "photos", "--index", "halved", "--top", 1, "--json")
    vectors = Encoder(models / "vit").images(pictures(7))
    products = (vectors * vectors.astype(np.float16)).sum(axis=1)
    assert products.max() > 1 + 1e-5, "float16 makes some vectors longer"
    cosines = [one["results"][0]["score"] for one in read_lines(out)]
    np.testing.assert_allclose(cosines, np.minimum(products, 1), rtol=0, atol=1e-6)
    call(capsys, "embed", models / "lit", "--texts-file", "texts.txt", "--out", "captions")
    code, out, _ = call(
        capsys, "retrieve", "a cat", "--images", "photos/3.png", "--index", "captions", "--json", "--top", 4
    )
    answers = read_lines(out)
    assert code == 0 and [answer["query"] for answer in answers] == ["a cat", "photos/3.png"]
    encoder = Encoder(models / "lit")
    scores = (encoder.images("photos/3.png") @ encoder.texts(TEXTS).T)[0]
    assert [result["id"] for result in answers[1]["results"]] == [TEXTS[at] for at in np.argsort(-scores)]


def test_the_images_of_a_data_set_are_embedded_as_those_of_its_folder(models: Path, folder: Path, capsys: Any) -> None:
    for place in ("one", "two"):
        (folder / "pets" / place).mkdir(parents=True)
        shutil.copy(folder / "photos" / "1.png", folder / "pets" / place / "1.png")
    for how, out in ((("pets",), "by-folder"), (("--data", "pets"), "by-data")):
        assert call(capsys, "embed", models / "vit", *how, "--out", out)[0] == 0
    assert list(open_index("by-data").ids([0, 1])) == list(open_index("by-folder").ids([0, 1]))


def test_a_file_that_is_given_again_counts_once(models: Path, folder: Path, capsys: Any) -> None:
    command = ("embed", models / "lit", "photos", "photos/2.png", folder / "photos" / "3.png", "--out", "index")
    code, _, err = call(capsys, *command)
    assert code == 0 and "2 files were given again: each file counts once\n" in err and len(open_index("index")) == 7
    assert call(capsys, "embed", models / "lit", "photos", "--out", "index")[0] == 0  # the same list
    encoder, names = Encoder(models / "lit"), [f"photos/{number}.png" for number in range(7)]
    vs.write_index(encoder, [*names, names[0]], "older")
    code, out, err = call(capsys, "embed", models / "lit", "photos", "photos/0.png", "--out", "older")
    assert code == 0 and "8 (8 were there before)" in out and "1 file was given again, and older has a row for" in err


def test_ids_of_a_table_are_plain_paths_unless_an_index_has_them_otherwise(
    models: Path, folder: Path, capsys: Any
) -> None:
    lines = [f"photos/{number}.png,cat" for number in range(7)]
    Path("table.csv").write_text("\n".join(["path,label", *lines[:2], f"./{lines[2]}", *lines[3:]]) + "\n")
    names = [f"photos/{number}.png" for number in range(7)]
    command = ("embed", models / "lit", "--data", "table.csv", "--columns", "label", "--out")
    for _ in range(2):
        assert call(capsys, *command, "index")[0] == 0 and open_index("index").ids(range(7)) == names
    assert open_index("index").column("label") == ["cat"] * 7
    older = [f"./{name}" if at != 2 else f"././{name}" for at, name in enumerate(names)]
    vs.write_index(Encoder(models / "lit"), older, "older", columns={"label": ["cat"] * 7})
    code, out, err = call(capsys, *command, "older")
    assert code == 0 and "7 (7 were there before)" in out and "columns" not in err
    code, out, _ = call(capsys, *command, "older", "--sync", "--json")
    assert code == 0 and (json.loads(out)["unchanged"], json.loads(out)["embedded"]) == (7, 0)
    assert open_index("older").ids(range(7)) == older


def test_the_first_file_that_differs_is_named(models: Path, folder: Path, capsys: Any) -> None:
    (folder / "photos" / "1.png").write_bytes(b"no image")
    call(capsys, "embed", models / "lit", "photos", "--out", "index")
    names = [f"photos/{number}.png" for number in range(7)]
    for given, told in (
        ([*names[:3], "photos/5.png"], "(the first that differs is 'photos/5.png', where it has 'photos/3.png')"),
        (names[:4], "('photos/4.png' is missing)"),
        ([names[1], names[0], *names[2:]], "(a difference is among 1 to 7)"),
        ([*names[:1], *names[2:], "texts.txt"], "(the first that differs is 'texts.txt', where it has 'photos/1.png')"),
    ):
        code, _, err = call(capsys, "embed", models / "lit", *given, "--out", "index")
        assert code == 2 and told in err


def test_standard_input(models: Path, folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def give(text: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    give("photos/5.png\nphotos/1.png\n")
    assert call(capsys, "embed", models / "lit", "-", "--out", "index")[0] == 0
    assert open_index("index").ids([0, 1]) == ["photos/5.png", "photos/1.png"]
    give("\n".join(TEXTS))
    assert call(capsys, "embed", models / "lit", "--texts-file", "-", "--out", "captions")[0] == 0
    assert open_index("captions").ids(range(4)) == list(TEXTS)
    give("a cat\n\na dog\n")
    _, out, _ = call(capsys, "retrieve", "-", "--index", "index", "--json")
    assert [answer["query"] for answer in read_lines(out)] == ["a cat", "", "a dog"]


def test_unreadable_images_are_skipped_and_make_the_exit_code_2(models: Path, folder: Path, capsys: Any) -> None:
    (folder / "photos" / "2.png").write_bytes(b"no image")
    code, out, err = call(capsys, "embed", models / "lit", "photos", "--out", "index", "--json")
    said = json.loads(out)
    assert code == 2 and (said["num_images"], said["failures"], said["done_before"]) == (6, 1, 0)
    assert "skipped: photos/2.png: is not an image" in err and "1 of 7 images could not be read" in err
    code, out, err = call(capsys, "embed", models / "lit", "photos", "--out", "index", "--json")
    assert (code, json.loads(out)["done_before"]) == (2, 7) and "skipped: photos" not in err
    assert "repair it, and run the same command with --retry" in err
    code, _, err = call(capsys, "embed", models / "lit", "photos", "--out", "vectors.npz")
    assert code == 2 and "1 of 7 images" in err and len(np.load("vectors.npz")["ids"]) == 6
    assert "repair it, and delete vectors.npz and run it again" in err


def test_mended_images_are_added_with_retry(models: Path, folder: Path, capsys: Any) -> None:
    for name in ("2.png", "4.png"):
        (folder / "photos" / name).write_bytes(b"no image")
    command = ("embed", models / "lit", "photos", "--out", "index")
    call(capsys, *command)
    Image.fromarray(pictures(7)[2]).save(folder / "photos" / "2.png")
    code, _, err = call(capsys, *command)
    assert code == 2 and "2 of 7 images could not be read" in err and "trying" not in err
    code, out, err = call(capsys, *command, "--retry", "--json")
    assert code == 2 and "trying 2 images again that could not be read" in err and "skipped: photos/4.png" in err
    said = json.loads(out)
    assert (said["num_images"], said["failures"], said["done_before"]) == (6, 1, 7) and "1 of 7 images" in err
    Image.fromarray(pictures(7)[4]).save(folder / "photos" / "4.png")
    code, out, err = call(capsys, *command, "--retry")
    assert code == 0 and "images      7 (6 were there before)" in out and "skipped" not in out + err
    assert "trying 1 image again that could not be read" in err
    _, out, _ = call(capsys, "retrieve", "a cat", "--index", "index", "--json")
    names = [result["id"] for result in json.loads(out)["results"]]
    assert names == expected(models / "lit", Encoder(models / "lit").texts(["a cat"]), 7)[0]
    code, out, err = call(capsys, *command, "--retry")
    assert code == 0 and "trying" not in err


def test_another_image_on_standard_input_is_another(
    models: Path, folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("embed", models / "lit", "-", "--out", "index")
    for photo, code, said in (
        ("0.png", 0, "images      1\n"),
        ("0.png", 0, "1 (1 was there before)"),
        ("1.png", 2, "not the same in the same order"),
    ):
        data = (folder / "photos" / photo).read_bytes()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        found, out, err = call(capsys, *command)
        assert found == code and said in out + err


def test_a_damaged_index_is_refused(models: Path, folder: Path, capsys: Any) -> None:
    call(capsys, "embed", models / "lit", "photos", "--out", "index")
    code, out, err = call(capsys, "retrieve", "--index", "index", "--check")
    assert (code, out) == (0, "") and "index: 7 vectors and their ids are as they were written" in err
    path = folder / "index" / "part-000000.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x40  # the highest bit of the last exponent
    path.write_bytes(data)
    code, out, err = call(capsys, "retrieve", "a cat", "--index", "index", "--no-verify")
    assert (code, out) == (2, "")
    assert "part-000000.npy is damaged (row 6 is not a unit vector): copy the index again" in err
    data[-1] ^= 0x40
    data[-2] ^= 0x01  # the lowest bit of that number: as good a vector as before
    path.write_bytes(data)
    assert call(capsys, "retrieve", "a cat", "--index", "index", "--no-verify")[0] == 0
    for option in ([], ["--check"], ["--no-verify", "--check"], ["--approximate"], ["--build-approximate"]):
        code, out, err = call(capsys, "retrieve", "a cat", "--index", "index", *option)
        assert (code, out) == (2, "") and "part-000000.npy is damaged (its SHA-256 differs)" in err
    ids = folder / "index" / "part-000000.ids.jsonl"
    ids.write_bytes(ids.read_bytes()[:20])
    code, out, err = call(capsys, "retrieve", "a cat", "--index", "index")
    assert (code, out) == (2, "") and "part-000000.ids.jsonl is damaged" in err


def interrupt_after(monkeypatch: pytest.MonkeyPatch, count: int) -> list[str]:
    """Ctrl-C once so many images are embedded; gives what is embedded from here on."""
    real = Encoder.stream
    seen: list[str] = []

    def stream(self: Encoder, images: Any) -> Iterator[Any]:
        for answer in real(self, images):
            if len(seen) == count:
                raise KeyboardInterrupt
            seen.append(answer[0])
            yield answer

    monkeypatch.setattr(Encoder, "stream", stream)
    return seen


@pytest.mark.parametrize("out", ["index", "vectors.npz", "vectors.npy", "vectors.parquet"])
def test_an_interrupted_command_goes_on(
    models: Path, folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    if out.endswith("parquet"):
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(IndexWriter.__init__, "__kwdefaults__", {"part_rows": 3, "part_seconds": 60, "sync": False})
    command = ("embed", models / "lit", "photos", "--out", out)
    place = "index" if out == "index" else f"{out}.partial"
    interrupt_after(monkeypatch, 4)
    code, printed, err = call(capsys, *command)
    assert (code, printed) == (2, "") and f"interrupted; 4 of 7 images are in {place}" in err
    code, _, err = call(capsys, "retrieve", "a cat", "--index", place)
    assert code == 2 and f"{place} is unfinished (it has 4 vectors)" in err
    code, printed, _ = call(capsys, "retrieve", "a cat", "--index", place, "--unfinished", "--json")
    assert code == 0 and len(json.loads(printed)["results"]) == 4
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    seen = interrupt_after(monkeypatch, -1)
    code, printed, _ = call(capsys, *command)
    assert code == 0 and "7 (4 were there before)" in printed
    assert seen == ["photos/4.png", "photos/5.png", "photos/6.png"]
    left = {path.name for path in folder.iterdir()} - {"photos", "texts.txt"}
    assert left == ({out, "vectors.txt", "vectors.json"} if out.endswith("npy") else {out})
    if out != "index":
        code, _, err = call(capsys, *command)
        assert code == 2 and f"{out} exists: choose another --out, or replace it with --force" in err
        # Killed between the writing of the file and the removal of the folder.
        call(capsys, *command[:-1], place)
        assert call(capsys, *command)[0] == 0 and not (folder / place).exists()


def test_texts_that_are_cut_are_named(models: Path, folder: Path, capsys: Any) -> None:
    long = [f"{word} " * 9 for word in ("cat", "dog", "red", "blue")]
    (folder / "texts.txt").write_text("\n".join([TEXTS[1], *long]))
    code, out, err = call(capsys, "embed", models / "lit", "--texts-file", "texts.txt", "--out", "index", "--json")
    assert code == 0 and json.loads(out)["cut"] == 4
    assert "longer than the 6 tokens that the model reads, and cut: 'cat cat" in err and "and 1 more" in err
    _, _, err = call(capsys, "retrieve", long[0], "--index", "index")
    assert "longer than the 6 tokens" in err


def test_another_model_is_refused(models: Path, folder: Path, capsys: Any) -> None:
    call(capsys, "embed", models / "lit", "photos", "--out", "index")
    for command in (
        ("embed", models / "lit2", "photos", "--out", "index"),
        ("retrieve", "a cat", "--index", "index", "--model", models / "lit2"),
        ("retrieve", "--images", "photos/1.png", "--index", "index", "--model", models / "vit"),
    ):
        code, out, err = call(capsys, *command)
        assert (code, out) == (2, "") and "index was made by another model" in err
        assert str(models / "lit") in err and str(command[1] if command[0] == "embed" else command[-1]) in err
    vs.save(vs.load(models / "lit"), folder / "copy")
    code, _, _ = call(capsys, "retrieve", "a cat", "--index", "index", "--model", "copy")
    assert code == 0, "the same weights in another place are the same model"


def test_the_same_model_at_another_size_is_told_to_be_read_as_before(models: Path, folder: Path, capsys: Any) -> None:
    npz = folder / "tiny.npz"
    vs.save(tiny_lit(released=True), npz)
    call(capsys, "embed", "tiny.npz", "photos", "--out", "index")
    text = (folder / "index" / "index.json").read_text()
    assert str(npz) in text
    found = Space.model_validate(json.loads(text)["space"])
    for given in ("tiny.npz", str(npz)):
        told = (
            r"made by another model that had the same name, .*tiny\.npz, or by this one read in another way .*--image"
        )
        with pytest.raises(InputError, match=told):
            check_same_model(folder / "index", found, "b" * 32, given)


def test_an_unfinished_index_is_gone_on_with_by_an_option_that_embed_has(
    models: Path, folder: Path, capsys: Any
) -> None:
    call(capsys, "embed", models / "lit", "photos", "--out", "index")
    description = read_description(folder / "index")
    write_description(folder / "index", description.model_copy(update={"complete": False}))
    code, _, err = call(capsys, "retrieve", "a cat", "--index", "index")
    assert code == 2 and "(--out index)" in err and "`" not in err


def test_another_vocabulary_is_refused_for_an_index_of_texts(models: Path, folder: Path, capsys: Any) -> None:
    bundle = tiny_lit()
    assert bundle.vocabulary is not None
    words = bundle.vocabulary.replace(b"cat", b"cow")
    vs.save(dataclasses.replace(bundle, vocabulary=words), folder / "other")
    call(capsys, "embed", models / "lit", "photos", "--out", "index")
    call(capsys, "embed", models / "lit", "--texts-file", "texts.txt", "--out", "captions")
    image = ("--images", "photos/1.png")
    for command in (
        ("embed", "other", "--texts-file", "texts.txt", "--out", "captions"),
        ("retrieve", "a cat", "--index", "captions", "--model", "other"),
        ("retrieve", *image, "--index", "captions", "--model", "other"),
    ):
        code, out, err = call(capsys, *command)
        assert (code, out) == (2, "") and "captions was made by another model or vocabulary" in err
    code, _, err = call(capsys, "retrieve", *image, "--index", "captions", "--model", models / "vit")
    assert code == 2 and "cannot read text" in err
    for query in (("a cat",), image):
        assert call(capsys, "retrieve", *query, "--index", "index", "--model", "other")[0] == 0
    assert call(capsys, "embed", "other", "photos", "--out", "index")[0] == 0


def test_vectors_in_one_file_are_no_index_and_the_index_beside_them_is_named(
    models: Path, folder: Path, capsys: Any
) -> None:
    assert call(capsys, "embed", models / "lit", "photos", "--out", "all.npz")[0] == 0
    told = "all.npz is a file, and an index is a folder: "
    code, _, err = call(capsys, "retrieve", "a cat", "--index", "all.npz")
    assert code == 2 and f"{told}make one with vitsmith embed MODEL IMAGES --out all\n" in err
    assert call(capsys, "embed", models / "lit", "photos", "--out", "all")[0] == 0
    code, _, err = call(capsys, "retrieve", "a cat", "--index", "all.npz")
    assert code == 2 and f"{told}there is one in all\n" in err


def test_an_index_of_class_tokens_says_which_one_texts_search(models: Path, folder: Path, capsys: Any) -> None:
    assert call(capsys, "embed", models / "lit", "photos", "--out", "index", "--what", "class")[0] == 0
    code, _, err = call(capsys, "retrieve", "a cat", "--index", "index")
    assert code == 2 and "not class: embed the images as pooled (the default, --what pooled), or search by an" in err
    assert call(capsys, "retrieve", "--images", "photos/0.png", "--index", "index")[0] == 0


def test_a_model_that_was_moved_is_asked_for(models: Path, folder: Path, capsys: Any) -> None:
    vs.save(vs.load(models / "lit"), folder / "copy")
    call(capsys, "embed", "copy", "photos", "--out", "index")
    (folder / "copy").rename(folder / "moved")
    code, _, err = call(capsys, "retrieve", "a cat", "--index", "index")
    assert code == 2 and "the model of index:" in err and "give its place with --model" in err
    assert call(capsys, "retrieve", "a cat", "--index", "index", "--model", "moved")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("embed", "{vit}", "--texts-file", "texts.txt", "--out", "x"),
            "is a model of images alone: it cannot read text",
        ),
        (
            ("embed", "{lit}", "--data", "digits", "--out", "x"),
            "images of digits are not files, and an index names files",
        ),
        (("embed", "{lit}", "--out", "x"), "give images, or texts with --texts-file FILE\n"),
        (("embed", "{lit}", "photos", "--texts-file", "texts.txt", "--out", "x"), "images and texts are given"),
        (("embed", "{lit}", "--texts-file", "none.txt", "--out", "x"), "cannot read none.txt"),
        (("embed", "{lit}", "--texts-file", "empty.txt", "--out", "x"), "empty.txt holds no texts"),
        (("embed", "{lit}", "--texts-file", "photos/1.png", "--out", "x"), "photos/1.png is not UTF-8 text"),
        (("embed", "{lit}", "photos", "--out", "x.csv"), "give a folder, or one of .npz, .npy, .parquet"),
        (("embed", "{lit}", "photos", "--out", "photos"), "photos holds other files than an index"),
        (("retrieve", "--index", "x"), "give a query as text, or images with --images FILE"),
        (("retrieve", " ", "--index", "x"), "a query is empty"),
        (("retrieve", "a cat", "--index", "photos"), "photos is not an index (it has no index.json)"),
        (("retrieve", "a cat", "--index", "photos/0.png"), "is a file, and an index is a folder: make one with"),
        (("retrieve", "a cat", "--index", "photos"), "make one with vitsmith embed MODEL IMAGES --out photos-index\n"),
        (("retrieve", "a cat", "--index", "photos/0.png"), "embed MODEL IMAGES --out photos/0\n"),
        (("retrieve", "a cat", "--index", "of-vit"), "is a model of images alone: it cannot read text"),
        (("retrieve", "--images", "none.png", "--index", "of-vit"), "none.png: no such file"),
    ],
)
def test_wrong_use_is_one_line(
    models: Path, folder: Path, capsys: Any, arguments: tuple[str, ...], message: str
) -> None:
    (folder / "empty.txt").write_text("\n \n")
    if "of-vit" in arguments:
        call(capsys, "embed", models / "vit", "photos", "--out", "of-vit")
    before = set(folder.rglob("*"))
    code, out, err = call(capsys, *(word.format(lit=models / "lit", vit=models / "vit") for word in arguments))
    assert (code, out, len(err.splitlines())) == (2, "", 1) and message in err
    assert set(folder.rglob("*")) == before


def test_approximate(models: Path, folder: Path, capsys: Any) -> None:
    pytest.importorskip("faiss")
    call(capsys, "embed", models / "lit", "photos", "--out", "index")
    code, out, err = call(capsys, "retrieve", "--index", "index", "--build-approximate")
    assert (code, out) == (0, "") and "of the true 10 nearest neighbours" in err
    _, exact, _ = call(capsys, "retrieve", "a cat", "--index", "index", "--top", 1, "--json")
    code, found, err = call(capsys, "retrieve", "a cat", "--index", "index", "--approximate", "--top", 7, "--json")
    known = json.loads(call(capsys, "retrieve", "a cat", "--index", "index", "--top", 7, "--json")[1])["results"]
    assert code == 0 and err == "approximate: compared all 7 vectors\n" and json.loads(exact)["results"] == known[:1]
    assert json.loads(found)["results"] and all(result in known for result in json.loads(found)["results"])
    Image.fromarray(pictures(8)[7]).save(folder / "photos" / "7.png")
    call(capsys, "embed", models / "lit", "photos", "--out", "index")
    _, _, err = call(capsys, "retrieve", "a cat", "--index", "index", "--approximate")
    assert "building the approximate index: there is none that fits" in err

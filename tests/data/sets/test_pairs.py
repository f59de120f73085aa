"""Captioned images: every source gives the pairs that were written, whole images are held out, mistakes are told."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitsmith.data.augment.settings import AugmentSpec
from vitsmith.data.batches.loader import training_batches
from vitsmith.data.sets.datasets import open_labelled
from vitsmith.data.sets.pairs import PairSpec, open_caption_samples, open_pairs
from vitsmith.data.sets.samples import Samples
from vitsmith.data.sets.shapes import HELD_OUT
from vitsmith.errors import DatasetError, InputError
from vitsmith.specs import ImageSpec

PAIRS = [
    ("a.png", "a cat on a mat"),
    ("b.png", "A dog, running"),
    ("a.png", "the cat sleeps"),
    ("deep/c.png", "a cat on a mat"),
]


def png(number: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (3, 2), (number, 50, 7)).save(data, "PNG")
    return data.getvalue()


def write_images(folder: Path, pairs: list[tuple[str, str]]) -> None:
    for number, path in enumerate(dict.fromkeys(path for path, _ in pairs)):
        (folder / path).parent.mkdir(exist_ok=True, parents=True)
        (folder / path).write_bytes(png(number))


def write_csv(path: Path, header: list[str], rows: list[tuple[str, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([header, *rows])
    return path


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def pairs_of(samples: Samples) -> list[tuple[str, str]]:
    return [(name, samples.classes[label]) for name, label in zip(samples.names, samples.labels.tolist(), strict=True)]


def told(path: Path | str, read: Callable[[str], object] = open_caption_samples) -> str:
    with pytest.raises(DatasetError) as error:
        read(str(path))
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("column", ["caption", "text", "title"])
def test_tables_give_the_pairs_as_they_stand(tmp_path, kind, column) -> None:
    write_images(tmp_path, PAIRS)
    table = tmp_path / f"pets.{kind}"
    padded = [(path, f" {caption}\t ") for path, caption in PAIRS] if kind != "tsv" else PAIRS
    if kind == "jsonl":
        table.write_text("".join(json.dumps({"image": path, column: caption}) + "\n" for path, caption in padded))
    else:
        write_csv(table, ["image", column], padded)
    samples, name = open_caption_samples(str(table))
    assert name == "pets"
    assert pairs_of(samples) == PAIRS
    assert samples.classes == ("A dog, running", "a cat on a mat", "the cat sleeps")
    np.testing.assert_array_equal(samples.image(2), samples.image(0))
    assert samples.image(3)[0, 0, 0] == 2


def test_a_list_of_captions_is_a_pair_each(tmp_path) -> None:
    write_images(tmp_path, PAIRS)
    lines = [{"path": "b.png", "caption": ["one", " two "]}, {"path": "a.png", "caption": "two"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    samples, _ = open_caption_samples(str(tmp_path / "p.jsonl"))
    assert pairs_of(samples) == [("b.png", "one"), ("b.png", "two"), ("a.png", "two")]
    wrong = [
        {"path": "a.png", "caption": []},
        {"path": "a.png", "caption": ["x", " "]},
        {"path": "a.png", "caption": [["x"]]},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, wrong)))
    message = told(tmp_path / "p.jsonl")
    assert "line 1: has an empty list in 'caption'" in message
    assert "line 2: has no caption in 'caption'" in message
    assert "line 3: has no caption in 'caption'" in message


def test_shards_give_their_captions(tmp_path) -> None:
    members = {"1.png": png(1), "1.txt": b" a dog\n", "2.png": png(2), "2.json": b'{"text": "a cat", "n": 1}'}
    members |= {"3.png": png(3), "3.json": json.dumps({"caption": ["7", "a dog"]}).encode()}
    (tmp_path / "classes.txt").write_text("of no matter\nfor captions\n")
    shard = write_tar(tmp_path / "a-0.tar", members)
    write_tar(tmp_path / "a-1.tar", {"1.png": png(4), "1.txt": "ein Vögelchen".encode()})
    samples, _ = open_caption_samples(str(tmp_path / "a-{0..1}.tar"))
    expected = [("1", "a dog"), ("2", "a cat"), ("3", "7"), ("3", "a dog")]
    assert pairs_of(samples) == [
        *[(f"a-0.tar/{key}.png", caption) for key, caption in expected],
        ("a-1.tar/1.png", "ein Vögelchen"),
    ]
    assert [int(samples.image(index)[0, 0, 0]) for index in range(5)] == [1, 2, 3, 3, 4]
    assert samples.blocks is not None
    assert samples.blocks.tolist() == [0, 0, 0, 0, 1]
    samples, _ = open_caption_samples(PairSpec(path=str(write_tar(shard, members | {"1.json": b'{"alt": "x"}'}))))
    with pytest.raises(DatasetError, match=r"2 has no 'alt' in its \.json"):
        open_caption_samples(PairSpec(path=str(shard), caption_column="alt"))


def test_shards_without_captions_are_refused(tmp_path) -> None:
    members = {"a.png": png(1), "a.cls": b"1", "b.png": png(2), "b.txt": b" \n", "c.png": png(3), "c.json": b"{}"}
    members |= {"d.png": png(1), "d.json": b'{"caption": 3}', "e.png": png(2), "e.txt": b"\xff", "f.txt": b"x"}
    message = told(write_tar(tmp_path / "a.tar", members))
    for expected in (
        "6 of its 6 samples cannot be used",
        "a has no .txt or .json",
        "b has no caption in its .txt",
        "c has no 'caption' or 'text' in its .json",
        "d has no 'caption' or 'text' in its .json",
        "e has a .txt that cannot be read",
        "an image and a .txt or .json with its caption",
    ):
        assert expected in message
    labelled = write_tar(tmp_path / "b.tar", {"a.png": png(1), "a.txt": b"a cat"})
    assert "a has no .cls or .json" in told(labelled, open_labelled)


def test_whole_images_are_held_out(tmp_path) -> None:
    pairs = [(f"{number}.png", f"caption {number % 7} {turn}") for turn in "abc" for number in range(40)]
    write_images(tmp_path, pairs)
    pairs += [(f"./{number}.png", "the same file by another name") for number in range(40)]
    table = write_csv(tmp_path / "p.csv", ["path", "caption"], pairs)
    splits = open_pairs(PairSpec(path=str(table), val_fraction=0.25), seed=3)
    train, val = pairs_of(splits.train), pairs_of(splits.val)
    assert sorted(train + val) == sorted(pairs)
    images = [{name.removeprefix("./") for name, _ in part} for part in (train, val)]
    assert not images[0] & images[1]
    assert len(images[1]) == 10
    assert splits.unseen is None
    for part in (splits.train, splits.val):
        assert set(part.labels.tolist()) == set(range(len(part.classes)))  # no captions but their own
        for index in (0, len(part) - 1):
            assert part.image(index)[0, 0, 0] == int(part.names[index].removeprefix("./").removesuffix(".png"))
    again = open_pairs(PairSpec(path=str(table), val_fraction=0.25), seed=3)
    assert again.val.fingerprint() == splits.val.fingerprint()
    assert open_pairs(PairSpec(path=str(table), val_fraction=0.25), seed=4).val.names != splits.val.names
    more = [*pairs, ("a.png", "one more")]
    write_images(tmp_path, more)
    wider = open_pairs(PairSpec(path=str(write_csv(table, ["path", "caption"], more)), val_fraction=0.25), seed=3)
    assert len(set(wider.val.names) ^ set(splits.val.names)) <= 4  # who comes in hardly moves the others


def test_splits_that_are_brought_or_given_are_taken(tmp_path) -> None:
    pairs = [(f"{number}.png", f"number {number}") for number in range(6)]
    write_images(tmp_path, pairs)
    rows = [(*pair, split) for pair, split in zip(pairs, ["train"] * 3 + ["test", "val", "val"], strict=True)]
    table = write_csv(tmp_path / "p.csv", ["path", "caption", "split"], rows)
    splits = open_pairs(str(table))
    assert (splits.train.names, splits.val.names) == (["0.png", "1.png", "2.png"], ["4.png", "5.png"])
    assert pairs_of(open_caption_samples(str(table))[0]) == pairs[4:]
    assert pairs_of(open_caption_samples(str(table), "test")[0]) == pairs[3:4]
    assert "unknown split 'held'" in told(table, lambda path: open_caption_samples(path, "held"))
    assert pairs_of(open_caption_samples(str(table), "dev")[0]) == pairs[4:]
    other = write_csv(tmp_path / "v.csv", ["path", "caption"], pairs[:1])
    splits = open_pairs(PairSpec(path=str(table), val=str(other)))
    assert pairs_of(splits.val) == pairs[:1]
    assert pairs_of(open_caption_samples(PairSpec(path=str(table), val=str(other)))[0]) == pairs[:1]
    write_csv(table, ["path", "caption", "split"], [*rows, ("0.png", "once more", "val")])
    assert "0.png (lines 2 and 8 with another split); keep an image in one split" in told(table)
    write_csv(table, ["path", "caption", "split"], rows[3:])
    assert "none called 'train'" in told(table, open_pairs)


def test_files_that_are_missing_are_counted_once(tmp_path) -> None:
    write_images(tmp_path, PAIRS[:1])
    message = told(write_csv(tmp_path / "p.csv", ["path", "caption"], [*PAIRS, ("b.png", "again")]))
    assert "lists 2 of 3 images that do not exist" in message
    assert "b.png (line 3), deep/c.png (line 5)" in message


def test_what_has_no_captions_is_refused(tmp_path) -> None:
    write_images(tmp_path, PAIRS)
    table = write_csv(tmp_path / "p.csv", ["path", "label"], PAIRS)
    message = told(table)
    assert "no column 'caption' or 'text' or 'title' of captions: name it in the header, or give its name" in message
    assert "with caption_column (its columns are 'path', 'label')" in message
    assert len(open_caption_samples(PairSpec(path=str(table), caption_column="label"))[0]) == 4
    write_csv(table, ["path", "caption"], [PAIRS[0], ("b.png", "  ")])
    assert "line 3: has no caption in 'caption'" in told(table)
    write_csv(table, ["path", "caption"], PAIRS[:1])
    assert "has only one image, a.png" in told(table, open_pairs)
    write_csv(table, ["path", "caption"], [(path, "the same") for path, _ in PAIRS])
    assert "has only one caption to learn from, 'the same'" in told(table, open_pairs)
    assert "images twice" in told(write_csv(tmp_path / "l.csv", ["path", "label"], PAIRS), open_labelled)
    assert f"give the table in it, {tmp_path / 'l.csv'}" in told(tmp_path)
    assert "write a .csv with the columns 'path' and 'caption'" in told(tmp_path / "deep")
    assert "is neither a table nor tar shards" in told(tmp_path / "a.png")
    assert "'nowhere' do not exist: check the path; give a table, tar shards or 'shapes'" in told("nowhere")


def test_batches_of_pairs_carry_their_captions(tmp_path) -> None:
    write_images(tmp_path, PAIRS)
    samples, _ = open_caption_samples(str(write_csv(tmp_path / "p.csv", ["path", "caption"], PAIRS)))
    whole = AugmentSpec(area=(1.0, 1.0), aspect=(1.5, 1.5), flip=False)
    batches = training_batches(samples, ImageSpec.original(2), whole, batch=4, seed=0, threads=1)
    crops = next(batches)
    batches.close()
    number = {path: value for value, path in enumerate(dict.fromkeys(path for path, _ in PAIRS))}
    drawn = [
        (int(image[0, 0, 0]), samples.classes[label])
        for image, label in zip(crops.images, crops.labels.tolist(), strict=True)
    ]
    assert Counter(drawn) == Counter((number[path], caption) for path, caption in PAIRS)


def test_shapes_are_pairs_with_unseen_combinations() -> None:
    splits = open_pairs("shapes", seed=5)
    assert (len(splits.train), len(splits.val)) == (8000, 500)
    assert splits.unseen is not None
    assert {tuple(splits.unseen.classes[label].split()) for label in splits.unseen.labels} == set(HELD_OUT)
    assert open_caption_samples("shapes")[0].fingerprint() == splits.val.fingerprint()
    assert open_caption_samples("shapes", "train")[0].fingerprint() == splits.train.fingerprint()
    labelled, name = open_labelled("shapes-unseen")
    assert name == "shapes-unseen"
    assert labelled.fingerprint() == splits.unseen.fingerprint()
    with pytest.raises(InputError, match="no split 'test', only train, val"):
        open_caption_samples("shapes", "test")

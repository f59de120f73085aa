"""Tar shards, read in place: images and labels as tarfile gives them; refused when anything is missing."""

from __future__ import annotations

import gc
import io
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.sets.tar_shards import picture, sample, write_shards, write_tar
from vitsmith.data.sets.datasets import DataSpec, open_dataset, open_labelled
from vitsmith.data.sets.shards.read import expand_braces
from vitsmith.errors import DatasetError, ImageError


def told(path: Path | str) -> str:
    with pytest.raises(DatasetError) as error:
        open_labelled(str(path))
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("given", ["", "pets-{0000..0002}.tar", "*.tar", "pets-000?.tar"])
def test_samples_are_those_that_tarfile_reads(tmp_path, given) -> None:
    write_shards(tmp_path)
    samples, _ = open_labelled(str(tmp_path / given))
    expected = []
    for shard in sorted(tmp_path.glob("*.tar")):
        with tarfile.open(shard) as tar:
            for name in tar.getnames():
                if name.endswith(".png"):
                    label = tar.extractfile(name.replace(".png", ".cls")).read().decode()
                    expected.append((f"{shard.name}/{name}", label, tar.extractfile(name).read()))
    classes = [samples.classes[label] for label in samples.labels]
    assert list(zip(samples.names, classes, samples.sources, strict=True)) == expected
    assert samples.blocks is not None
    assert samples.blocks.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    np.testing.assert_array_equal(samples.image(7), np.asarray(Image.open(io.BytesIO(picture(7)))))


def test_reading_from_many_threads_gives_each_its_own_and_leaves_no_file_open(tmp_path) -> None:
    folder = write_shards(tmp_path / "many", shards=80, each=2)  # more shards than are kept open
    opened = Path("/proc/self/fd")
    before = len(list(opened.iterdir())) if opened.is_dir() else 0
    samples, _ = open_labelled(str(folder))
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(160), 4)).tolist()
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda index: samples.sources[index], order))
    assert read == [picture(index) for index in order]
    if before:
        assert len(list(opened.iterdir())) > before
        del samples
        gc.collect()
        assert len(list(opened.iterdir())) <= before


def test_labels_are_numbers_names_or_json(tmp_path) -> None:
    write_tar(tmp_path / "a.tar", sample(0, 10) | sample(1, "9\n") | sample(2, 2))
    assert open_labelled(str(tmp_path / "a.tar"))[0].classes == ("2", "9", "10")
    write_tar(tmp_path / "b.tar", sample(0, "dog") | sample(1, {"label": "cat", "kind": "x"}, "json"))
    samples, name = open_labelled(str(tmp_path / "b.tar"))
    assert name == "b"
    assert [samples.classes[label] for label in samples.labels] == ["dog", "cat"]
    both = sample(0, 7) | sample(0, {"kind": "x"}, "json") | sample(1, {"kind": "y"}, "json")
    write_tar(tmp_path / "c.tar", both)
    samples, _ = open_labelled(DataSpec(path=str(tmp_path / "c.tar"), label_column="kind"))
    assert samples.classes == ("x", "y")


def test_numbers_are_named_by_the_file_beside_the_shards(tmp_path) -> None:
    write_shards(tmp_path / "train")
    write_tar(tmp_path / "train" / "more.tar", sample(90, "dog"))
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    samples, _ = open_labelled(str(tmp_path), "train")
    assert samples.classes == ("dog", "cat")
    assert samples.labels.tolist() == [0] + [0, 1] * 9  # more.tar comes first
    (tmp_path / "classes.txt").write_text("dog\n")
    with pytest.raises(DatasetError, match=r"names 1 classes, and the shards also have the labels 1: add"):
        open_labelled(str(tmp_path), "train")
    (tmp_path / "classes.txt").write_text("dog\ncat\nfox\n")
    with pytest.raises(DatasetError, match=r"no images to train on for class 'fox'"):
        open_dataset(str(tmp_path))


def test_splits_are_read_from_names_and_folders(tmp_path) -> None:
    write_shards(tmp_path / "flat", "set-train", 2)
    write_shards(tmp_path / "flat", "set-validation", 1)
    write_shards(tmp_path / "deep" / "train", "x", 2)
    write_shards(tmp_path / "deep" / "val", "x", 1)
    for folder in ("flat", "deep"):
        splits = open_dataset(str(tmp_path / folder))
        assert (len(splits.train), len(splits.val), splits.test) == (12, 6, None)
    pattern = str(tmp_path / "flat" / "set-train-{0000..0001}.tar")
    splits = open_dataset(DataSpec(path=pattern, val=str(tmp_path / "flat" / "set-validation-0000.tar")))
    assert (len(splits.train), len(splits.val)) == (12, 6)
    splits = open_dataset(DataSpec(path=pattern, val_fraction=0.34))
    assert np.bincount(splits.val.labels).tolist() == [2, 2]
    assert sorted([*splits.train.names, *splits.val.names]) == sorted(open_labelled(pattern, "train")[0].names)
    assert splits.train.blocks is not None
    shards = [int(name.split(".tar/")[0][-4:]) for name in splits.train.names]
    assert shards == splits.train.blocks.tolist()
    write_tar(tmp_path / "flat" / "other.tar", sample(0, 0))
    assert "but for other.tar" in told(tmp_path / "flat")


def test_every_damaged_shard_is_named_before_training(tmp_path) -> None:
    write_shards(tmp_path, shards=5)
    shards = sorted(tmp_path.glob("*.tar"))
    with tarfile.open(shards[0]) as tar:
        image, last = tar.getmembers()[-2:]
    inside, at_end = image.offset_data + 20, last.offset_data + 512
    os.truncate(shards[0], inside)  # within an image
    os.truncate(shards[1], at_end)  # behind the last member: tarfile sees nothing wrong
    data = bytearray(shards[2].read_bytes())
    data[last.offset : last.offset + 20] = b"x" * 20  # a header: tarfile stops there without a word
    shards[2].write_bytes(data)
    shards[3].write_bytes(b"")
    message = told(tmp_path)
    assert message.startswith("4 of 5 shards cannot be used")
    assert f"{shards[0]} is cut off inside 000005.png" in message
    assert f"{shards[1]} is not a readable tar file (it is cut off: it has no end mark" in message
    assert f"{shards[2]} is not a readable tar file (it is damaged" in message
    assert f"{shards[3]} is empty" in message
    assert shards[4].name not in message


@pytest.mark.parametrize("cut", range(0, 20480, 487))
def test_a_shard_cut_anywhere_is_refused(tmp_path, cut) -> None:
    shard = write_tar(tmp_path / "a.tar", sample(0, 0) | sample(1, 1))
    end = max(number for number, byte in enumerate(shard.read_bytes()) if byte) // 512 * 512 + 1024
    if cut < end:
        os.truncate(shard, cut)
        assert str(shard) in told(shard)
    else:  # only filling behind the end mark is lost
        os.truncate(shard, cut) if cut < shard.stat().st_size else None
        assert len(open_labelled(str(shard))[0]) == 2


def test_samples_that_are_not_whole_are_told(tmp_path) -> None:
    picture_only, label_only = {"lone.png": picture(0)}, {"empty.cls": b"1"}
    odd = {"c.png": b"x", "c.jpg": b"x", "c.cls": b"1", "d.png": b"x", "d.json": b"{}", "e.png": b"x", "e.cls": b" "}
    message = told(write_tar(tmp_path / "a.tar", sample(1, 1) | picture_only | label_only | odd))
    for expected in (
        "lone has no .cls or .json",
        "empty has no image",
        "c has several images",
        "d has no 'label' in its .json",
        "e has no class name in its .cls",
    ):
        assert expected in message
    for kind, name in (("gz", "gzip"), ("bz2", "bzip2"), ("xz", "xz")):
        assert f"is compressed ({name})" in told(write_tar(tmp_path / f"a.tar.{kind}", sample(0, 0), f"w:{kind}"))
    assert "holds no images" in told(write_tar(tmp_path / "b.tar", {"notes": b"x", "._0.png": b"x", "__m__.cls": b"1"}))
    (tmp_path / "c.tar").write_bytes(b"no tar at all" * 100)
    assert "not a readable tar file" in told(tmp_path / "c.tar")


def test_what_macos_and_folders_add_is_passed_over_and_long_names_are_read(tmp_path) -> None:
    long = "very/" * 40 + "long.name"
    members = {"./a/1.x.PNG": b"", "a/._1.png": b"x", "a/2.png": picture(2), "a/2.cls": b"cat"}
    members |= {f"{long[:-5]}.jpg": picture(3), f"{long[:-5]}.cls": b"dog"}
    del members["./a/1.x.PNG"]
    samples, _ = open_labelled(str(write_tar(tmp_path / "a.tar", members)))
    assert samples.names == ["a.tar/a/2.png", f"a.tar/{long[:-5]}.jpg"]
    assert samples.sources[1] == picture(3)


def test_a_shard_that_shrinks_while_training_is_told_by_name(tmp_path) -> None:
    shard = write_tar(tmp_path / "a.tar", sample(0, 0) | sample(1, 1))
    samples, _ = open_labelled(str(shard))
    os.truncate(shard, 600)
    with pytest.raises(ImageError, match=r"^a\.tar/000001\.png: its shard has become shorter"):
        samples.image(1)
    shard.unlink()
    fresh = write_tar(shard, sample(5, 0) | sample(6, 1))
    assert open_labelled(str(fresh))[0].sources[0] == picture(5)  # not what an earlier data set had open


def test_patterns_are_those_of_a_shell(tmp_path) -> None:
    assert expand_braces("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert expand_braces("{a,b}-{0..1}.tar") == ["a-0.tar", "a-1.tar", "b-0.tar", "b-1.tar"]
    assert expand_braces("plain.tar") == ["plain.tar"]
    write_shards(tmp_path)
    message = told(tmp_path / "pets-{0001..0004}.tar")
    assert "there is no shard" in message
    assert "pets-0003.tar" in message
    assert "pets-0004.tar" in message
    assert "pets-0002.tar" not in message
    assert "no shard" in told(tmp_path / "none-*.tar")
    assert "names a shard twice" in told(tmp_path / "pets-{0001,0001}.tar")
    assert "download them first" in told("https://example.org/a-{0..3}.tar")


def test_a_tar_of_class_folders_is_told_to_be_unpacked(tmp_path) -> None:
    write_tar(tmp_path / "pets.tar", {"pets/cat/0.png": picture(0), "pets/dog/0.png": picture(1)})
    assert "if its folders are the classes, unpack it and give the folder" in told(tmp_path / "pets.tar")
    write_tar(tmp_path / "half.tar", {"a/0.png": picture(0), "a/1.png": picture(1), "a/1.cls": b"1"})
    assert "unpack it" not in told(tmp_path / "half.tar")

"""Data sets: class folders, splits, digits, and everything that can be wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.sets.class_folders import draw
from vitsmith.data.batches.order import epoch_order
from vitsmith.data.sets.datasets import DataSpec, open_dataset, open_labelled
from vitsmith.data.sets.folder import read_class_folders
from vitsmith.data.sets.samples import Samples, Splits, sort_classes
from vitsmith.errors import DatasetError, ImageError


def open_folder(folder: Path, *, seed: int = 0) -> Splits:
    return open_dataset(str(folder), seed=seed)


def test_labels_follow_names_and_pixels_follow_labels(tmp_path) -> None:
    samples = read_class_folders(draw(tmp_path / "pets", {"dog": 2, "cat": 3}))
    assert samples.classes == ("cat", "dog")
    assert samples.labels.tolist() == [0, 0, 0, 1, 1]
    assert samples.names[0] == "cat/0.png"
    assert samples.image(3)[0, 0].tolist() == [0, 0, 7]  # dog was drawn first


def test_split_is_stratified_reproducible_and_changes_with_the_seed(tmp_path) -> None:
    folder = draw(tmp_path / "pets", {"cat": 20, "dog": 10})
    first, again, other = (open_folder(folder, seed=seed) for seed in (0, 0, 1))
    assert np.bincount(first.val.labels).tolist() == [4, 2]
    assert set(first.train.names) | set(first.val.names) == set(read_class_folders(folder).names)
    assert not set(first.train.names) & set(first.val.names)
    assert first.val.names == again.val.names
    assert first.val.names != other.val.names


def test_own_splits_are_matched_by_name(tmp_path) -> None:
    draw(tmp_path / "pets" / "train", {"cat": 2, "dog": 2})
    draw(tmp_path / "pets" / "val", {"dog": 1, "cat": 2})
    splits = open_folder(tmp_path / "pets")
    assert splits.classes == splits.val.classes == ("cat", "dog")
    assert splits.val.labels.tolist() == [0, 0, 1]
    assert open_labelled(str(tmp_path / "pets"))[1] == "pets/val"
    assert len(open_labelled(str(tmp_path / "pets"), "train")[0]) == 4


def test_hidden_and_other_files_are_passed_over_and_deep_ones_found(tmp_path) -> None:
    folder = draw(tmp_path / "pets", {"cat": 1, "dog": 1})
    (folder / "cat" / "notes.txt").write_text("x")
    (folder / "cat" / ".hidden.png").write_bytes(b"")
    (folder / ".git").mkdir()
    (folder / "cat" / "more").mkdir()
    Image.new("RGB", (2, 2)).save(folder / "cat" / "more" / "deep.png")
    assert list(read_class_folders(folder).names) == ["cat/0.png", "cat/more/deep.png", "dog/0.png"]


def test_mistakes_are_told_before_any_work(tmp_path) -> None:
    pets = draw(tmp_path / "pets", {"cat": 3, "dog": 3})
    (pets / "empty").mkdir()
    with pytest.raises(DatasetError, match="'empty'"):
        open_folder(pets)
    with pytest.raises(DatasetError, match="only one, 'cat'"):
        open_folder(draw(tmp_path / "one", {"cat": 3}))
    with pytest.raises(DatasetError, match="'cat' has too few"):
        open_folder(draw(tmp_path / "few", {"cat": 1, "dog": 3}))
    with pytest.raises(DatasetError, match="does not exist"):
        open_folder(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"'digit' does not exist.*digits"):
        open_dataset("digit")
    draw(tmp_path / "split" / "train", {"cat": 1, "dog": 1})
    draw(tmp_path / "split" / "val", {"cat": 1, "fox": 1})
    with pytest.raises(
        DatasetError, match=r"split 'val' of .*no images of class 'dog'.*and it has images of class 'fox'"
    ):
        open_folder(tmp_path / "split")


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    splits, original = open_dataset("digits"), load_digits()
    assert (len(splits.train), len(splits.val)) == (1438, 359)
    number = int(splits.val.names[0].split("/")[1])
    image = splits.val.image(0)
    assert image.shape == (32, 32, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image[4:-4:3, 4:-4:3, 0], np.rint(original.images[number] * 255 / 16))
    assert splits.val.classes[splits.val.labels[0]] == str(original.target[number])


def test_a_lone_train_folder_is_split_and_a_lone_val_folder_refused(tmp_path) -> None:
    draw(tmp_path / "pets" / "train", {"cat": 5, "dog": 5})
    splits = open_folder(tmp_path / "pets")
    assert splits.classes == ("cat", "dog")
    assert (len(splits.train), len(splits.val)) == (8, 2)
    draw(tmp_path / "held" / "val", {"cat": 5, "dog": 5})
    with pytest.raises(DatasetError, match="none called 'train'"):
        open_folder(tmp_path / "held")
    vehicles = draw(tmp_path / "vehicles", {"car": 2, "train": 2})  # a class may bear the name
    assert open_folder(vehicles).classes == ("car", "train")


def test_a_class_that_was_not_trained_is_refused(tmp_path) -> None:
    draw(tmp_path / "pets" / "train", {"cat": 1, "dog": 1})
    draw(tmp_path / "pets" / "test", {"cat": 1, "dog": 1, "fox": 1})
    with pytest.raises(DatasetError, match=r"split 'test' of .*has images of class 'fox', not among the 2"):
        open_folder(tmp_path / "pets")


def test_a_file_and_loose_images_are_no_data_set(tmp_path) -> None:
    (tmp_path / "pets.zip").write_bytes(b"PK")
    with pytest.raises(DatasetError, match=r"pets\.zip is an archive: unpack it"):
        open_dataset(str(tmp_path / "pets.zip"))
    (tmp_path / "loose").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "loose" / "cat.png")
    with pytest.raises(DatasetError, match=r"at least 2 classes, and has none"):
        open_folder(tmp_path / "loose")


def test_split_hardly_moves_when_images_are_added(tmp_path) -> None:
    folder = draw(tmp_path / "pets", {"cat": 40, "dog": 40})
    before = set(open_folder(folder).val.names)
    for index in range(40, 45):
        Image.new("RGB", (4, 3)).save(folder / "cat" / f"{index}.png")
    after = set(open_folder(folder).val.names)
    assert len(before) == 16
    assert len(before & after) >= 14  # the dogs' eight, and of the cats' all that five newcomers do not push out
    assert {name for name in before if name.startswith("dog")} <= after


def test_three_splits_of_a_folder_are_three(tmp_path) -> None:
    for split, count in (("train", 3), ("validation", 1), ("test", 2)):
        draw(tmp_path / "pets" / split, {"cat": count, "dog": count})
    splits = open_folder(tmp_path / "pets")
    assert splits.test is not None
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [6, 2, 4]
    assert open_labelled(str(tmp_path / "pets"), "test")[1] == "pets/test"
    assert len(open_labelled(str(tmp_path / "pets"), "val")[0]) == 2
    with pytest.raises(DatasetError, match="unknown split 'tests'"):
        open_labelled(str(tmp_path / "pets"), "tests")


def test_a_second_source_is_matched_by_name_and_takes_the_place_of_the_own_split(tmp_path) -> None:
    draw(tmp_path / "pets" / "train", {"cat": 2, "dog": 2})
    draw(tmp_path / "pets" / "val", {"cat": 1, "dog": 1})
    draw(tmp_path / "pets" / "test", {"cat": 1, "dog": 1})
    other = draw(tmp_path / "other", {"cat": 1, "dog": 4})
    (tmp_path / "list.csv").write_text("path,label\nother/dog/0.png,dog\nother/cat/0.png,cat\nother/dog/1.png,dog\n")
    for val, labels in ((other, [0, 1, 1, 1, 1]), (tmp_path / "list.csv", [1, 0, 1])):
        splits = open_dataset(DataSpec(path=str(tmp_path / "pets"), val=str(val)))
        assert splits.val.classes == ("cat", "dog")
        assert splits.val.labels.tolist() == labels
        assert splits.test is not None
        assert len(splits.test) == 2
    (tmp_path / "fox.csv").write_text("path,label\nother/dog/0.png,dog\nother/cat/0.png,fox\n")
    with pytest.raises(DatasetError, match=r"fox\.csv has no images of class 'cat'.*has images of class 'fox'"):
        open_dataset(DataSpec(path=str(tmp_path / "pets"), val=str(tmp_path / "fox.csv")))


def noted(count: int, read: list[int]) -> Samples:
    """Samples that note which of them are read."""

    class Sources(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    pixels = [np.full((1, 1, 3), index, np.uint8) for index in range(count)]
    labels = np.arange(count, dtype=np.int64) % 2
    return Samples(("a", "b"), Sources(pixels), [str(index) for index in range(count)], labels, labels + 5)


def test_selecting_reads_nothing_and_selects_from_a_selection() -> None:
    read: list[int] = []
    samples = noted(8, read).select([6, 3, 1, 0]).select([2, 0])
    assert read == []
    assert samples.names == ["1", "6"]
    assert samples.labels.tolist() == [1, 0]
    assert samples.blocks is not None
    assert samples.blocks.tolist() == [6, 5]
    assert [int(samples.image(index)[0, 0, 0]) for index in (0, 1)] == [1, 6]
    assert [int(pixels[0, 0, 0]) for pixels in samples.sources] == [1, 6]
    assert int(samples.sources[-1][0, 0, 0]) == 6
    assert len(samples.sources[:5]) == 2
    with pytest.raises(IndexError):
        samples.sources[2]


def test_bytes_that_are_no_image_are_told_by_name() -> None:
    samples = Samples(("a",), [b"", b"GIF"], ["x/1.jpg", "x/2.gif"], np.zeros(2, np.int64))
    with pytest.raises(ImageError, match=r"^x/1\.jpg: is empty"):
        samples.image(0)
    with pytest.raises(ImageError, match=r"^x/2\.gif: "):
        samples.image(1)


def test_fingerprints_differ_with_class_name_and_label_and_with_nothing_else() -> None:
    def samples(classes=("a", "b"), names=("1", "2"), labels=(0, 1), sources=("x", "y")) -> str:
        return Samples(classes, list(sources), list(names), np.array(labels, np.int64)).fingerprint()

    assert samples() == samples(sources=("elsewhere/x", "elsewhere/y"))
    others = [samples(), samples(classes=("a", "c")), samples(names=("1", "3")), samples(labels=(1, 0))]
    others += [samples(names=("12", "")), samples(classes=("ab", ""))]
    assert len(set(others)) == len(others)


def test_classes_that_are_numbers_are_sorted_by_value() -> None:
    assert sort_classes(["10", "9", "2", "9"]) == ("2", "9", "10")
    assert sort_classes(["10", "9", "b"]) == ("10", "9", "b")


def in_shards(*sizes: int) -> Samples:
    blocks = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    names = [str(index) for index in range(len(blocks))]
    return Samples(("a", "b"), names, names, np.zeros(len(blocks), np.int64), blocks)


def test_order_without_shards_is_an_even_shuffle_of_seed_and_pass() -> None:
    samples = Samples(("a", "b"), [""] * 50, [""] * 50, np.zeros(50, np.int64))
    expected = np.random.default_rng([3, 2]).permutation(50)
    np.testing.assert_array_equal(epoch_order(samples, seed=3, epoch=2), expected)


def test_order_of_shards_passes_each_image_once_and_stays_within_the_buffer() -> None:
    samples = in_shards(*[10] * 40)
    order = epoch_order(samples, seed=1, epoch=0, buffer=20)
    assert sorted(order.tolist()) == list(range(400))
    np.testing.assert_array_equal(order, epoch_order(samples, seed=1, epoch=0, buffer=20))
    assert order.tolist() != epoch_order(samples, seed=1, epoch=1, buffer=20).tolist()
    assert order.tolist() != epoch_order(samples, seed=2, epoch=0, buffer=20).tolist()
    # What has been given out, and the 20 images held, are a beginning of the stream: so many shards at the most.
    shards = order // 10
    for given in range(1, 400):
        assert len(set(shards[:given].tolist())) <= -(-(given + 20) // 10)
    first_seen = list(dict.fromkeys(shards.tolist()))
    assert first_seen != sorted(first_seen)
    assert any(shards[at] != shards[at + 1] for at in range(0, 100, 10))


def test_a_buffer_of_one_keeps_each_shard_whole_and_a_large_one_mixes_all() -> None:
    samples = in_shards(3, 5, 0, 4)
    whole = epoch_order(samples, seed=0, epoch=0, buffer=1)
    assert samples.blocks is not None
    runs = [
        block for at, block in enumerate(samples.blocks[whole]) if at == 0 or block != samples.blocks[whole][at - 1]
    ]
    assert sorted(runs) == [0, 1, 3]
    firsts = {int(epoch_order(samples, seed=0, epoch=epoch, buffer=100)[0]) for epoch in range(200)}
    assert firsts == set(range(12))


def test_slices_of_the_order_share_it_out_without_loss_or_repeat() -> None:
    samples = in_shards(7, 11, 5)
    order = epoch_order(samples, seed=4, epoch=9, buffer=6)
    shares = [order[process::3] for process in range(3)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(23))

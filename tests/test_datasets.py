"""Data sets: class folders, splits, digits, and everything that can be wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitsmith.data.datasets import open_dataset, open_labelled
from vitsmith.data.folder import open_folder, read_class_folders
from vitsmith.errors import DatasetError


def draw(folder: Path, names: dict[str, int]) -> Path:
    """Class folders with so many one-colour PNGs each."""
    for label, (name, count) in enumerate(names.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            Image.new("RGB", (4, 3), (40 * label, 10 * index, 7)).save(folder / name / f"{index}.png")
    return folder


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
    with pytest.raises(DatasetError, match=r"neither a folder nor built in.*digits"):
        open_dataset("digit")
    draw(tmp_path / "split" / "train", {"cat": 1, "dog": 1})
    draw(tmp_path / "split" / "val", {"cat": 1, "fox": 1})
    with pytest.raises(DatasetError, match="no folder for class 'dog'"):
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
    with pytest.raises(DatasetError, match=r"test has a folder for class 'fox', not among the 2 known"):
        open_folder(tmp_path / "pets")


def test_a_file_and_loose_images_are_no_data_set(tmp_path) -> None:
    (tmp_path / "pets.zip").write_bytes(b"PK")
    with pytest.raises(DatasetError, match=r"pets\.zip is a file: unpack it"):
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

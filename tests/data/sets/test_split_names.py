"""Splits by whatever name people call them, and classes that bear the name of a split."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.data.sets.class_folders import draw
from vitsmith.data.sets.datasets import DataSpec, find_source, open_dataset, open_labelled
from vitsmith.data.sets.split_names import SPLIT_NAMES, split_of
from vitsmith.errors import DatasetError

TWO = {"cat": 2, "dog": 2}


def parts_of(folder: Path) -> dict[str, int]:
    source = find_source(str(folder), DataSpec(path=str(folder)))
    return {split: len(read()) for split, read in source.parts.items()}


def remarks_of(folder: Path) -> str:
    return "\n".join(find_source(str(folder), DataSpec(path=str(folder))).remarks)


def refusal(folder: Path) -> str:
    with pytest.raises(DatasetError) as error:
        parts_of(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "split"),
    [*SPLIT_NAMES.items(), ("Train", "train"), ("TRAINING_SET", "train"), ("held-out", "val"), ("Held_Out", "val")]
    + [("validation-images", "val"), ("test data", "test"), (" Dev ", "val"), ("trainset", "train")]
    + [(name, "") for name in ("", "set", "images", "cat", "trains", "contest", "latest", "vals", "retrain", "trian")],
)
def test_one_table_says_which_split_a_name_means(name, split) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize("held", ["valid", "Val", "testing", "dev", "eval", "VALIDATION", "held-out", "test_set"])
@pytest.mark.parametrize("train", ["train", "Train", "training"])
def test_folders_of_any_usual_name_are_splits(tmp_path, train, held) -> None:
    draw(tmp_path / train, {"cat": 3, "dog": 2})
    draw(tmp_path / held, TWO)
    assert parts_of(tmp_path) == {"train": 5, split_of(held): 4}
    splits = open_dataset(str(tmp_path))
    assert (splits.classes, len(splits.train), len(splits.val)) == (("cat", "dog"), 5, 4)
    assert len(open_labelled(str(tmp_path), held)[0]) == 4


@pytest.mark.parametrize("names", [("train2017", "val2017"), ("seg_train", "seg_val"), ("my-train-set", "dev_1")])
def test_folders_with_a_split_in_their_names_are_splits_when_all_hold_classes(tmp_path, names) -> None:
    for name in names:
        draw(tmp_path / name, TWO)
    assert parts_of(tmp_path) == {"train": 4, "val": 4}
    draw(tmp_path / "classes", {"bullet train": 2, "test tube": 2, "valid passport": 1})
    assert parts_of(tmp_path / "classes") == {"": 5}
    draw(tmp_path / "mixed" / names[0], TWO)
    draw(tmp_path / "mixed" / names[1], TWO)
    draw(tmp_path / "mixed" / "trian", TWO)
    assert "has 'trian' beside the splits" in refusal(tmp_path / "mixed")


@pytest.mark.parametrize("kind", ["table", "jsonl", "shards", "folders of shards"])
def test_tables_and_shards_know_the_same_names(tmp_path, kind) -> None:
    from tests.data.sets.tar_shards import write_shards

    names = ("Training", "dev", "TST")
    if kind.endswith("shards"):
        for split in names:
            if kind == "shards":
                write_shards(tmp_path, f"pets-{split}", 1)
            else:
                write_shards(tmp_path / split, "pets", 1)
        assert parts_of(tmp_path) == {"train": 6, "val": 6, "test": 6}
        return
    rows = [(f"{split}/{label}/0.png", label, split) for split in names for label in TWO]
    for split in names:
        draw(tmp_path / split, TWO)
    table = tmp_path / ("t.csv" if kind == "table" else "t.jsonl")
    if kind == "table":
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([("Path", "Label", "Split"), *rows])
    else:
        keys = ("path", "label", "split")
        table.write_text("".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows))
    assert parts_of(table) == {"train": 2, "val": 2, "test": 2}


def test_hub_data_sets_know_them_too(tmp_path) -> None:
    datasets = pytest.importorskip("datasets")
    draw(tmp_path / "pets", TWO)
    paths = [str(path) for path in sorted((tmp_path / "pets").rglob("*.png"))]
    rows = datasets.Dataset.from_dict({"image": paths, "label": [0, 0, 1, 1]}).cast_column("image", datasets.Image())
    datasets.DatasetDict({"training": rows, "dev": rows, "unsupervised": rows}).save_to_disk(tmp_path / "hub")
    source = find_source(f"hf:{tmp_path / 'hub'}", DataSpec(path="x"))
    assert set(source.parts) == {"train", "val"}
    assert "'unsupervised', which is none of train, validation and test: it is skipped" in source.remarks[0]
    datasets.DatasetDict({"train": rows, "dev": rows, "validation": rows}).save_to_disk(tmp_path / "two")
    with pytest.raises(DatasetError, match=r"'dev' and 'validation', which are names for one split \(val\)"):
        find_source(f"hf:{tmp_path / 'two'}", DataSpec(path="x"))


def test_a_class_may_be_called_as_a_split(tmp_path) -> None:
    for name in ("train", "test", "Dev"):
        assert parts_of(draw(tmp_path / name / "vehicles", {"bus": 2, name: 3})) == {"": 5}
    draw(tmp_path / "split" / "train", {"bus": 2, "train": 2})
    draw(tmp_path / "split" / "val", {"bus": 1, "train": 1})
    splits = open_dataset(str(tmp_path / "split"))
    assert (splits.classes, len(splits.train), len(splits.val)) == (("bus", "train"), 4, 2)


def test_what_may_be_split_or_class_is_refused_with_both_ways_out(tmp_path) -> None:
    draw(tmp_path / "one", {"bus": 2, "car": 2})
    draw(tmp_path / "one" / "train", {"2019": 2, "2020": 2})
    told = refusal(tmp_path / "one")
    assert "'bus' and 'car' hold images: if 'train' is a split, move the others away or give" in told
    assert "if it is a class, put its images directly into it" in told
    assert "the splits 'test' and 'train' without class folders" in refusal(
        draw(tmp_path / "flat", {"train": 2, "test": 2})
    )
    told = refusal(draw(tmp_path / "three", {"train": 2, "val": 2, "masks": 2}))
    assert "'train' and 'val' without class folders" in told
    assert "or rename what is a class" in told


def test_two_folders_for_one_split_are_refused_by_name(tmp_path) -> None:
    for name in ("train", "val", "valid"):
        draw(tmp_path / "a" / name, TWO)
    assert "has 'val' and 'valid', which are names for one split (val)" in refusal(tmp_path / "a")
    for name in ("Train", "train"):
        draw(tmp_path / "b" / name, TWO)
    assert "has 'Train' and 'train', which are names for one split (train)" in refusal(tmp_path / "b")


def test_folders_beside_splits_never_become_classes(tmp_path) -> None:
    for name in ("train", "val"):
        draw(tmp_path / name, TWO)
        (tmp_path / name / ".ipynb_checkpoints").mkdir()
        (tmp_path / name / "@eaDir").mkdir()
        draw(tmp_path / name / "__MACOSX", {"cat": 1})
    for name in ("annotations", "__MACOSX", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir()
    draw(tmp_path, {"unlabelled": 3})
    assert parts_of(tmp_path) == {"train": 4, "val": 4}
    assert "skipped" in remarks_of(tmp_path)
    assert str(tmp_path / "annotations") in remarks_of(tmp_path)
    assert str(tmp_path / "unlabelled") in remarks_of(tmp_path)
    draw(tmp_path / "vaild", TWO)
    assert "has 'vaild' beside the splits 'train' and 'val', with class folders too" in refusal(tmp_path)


def test_a_test_split_without_labels_is_left_out_and_told(tmp_path) -> None:
    draw(tmp_path / "train", TWO)
    draw(tmp_path, {"test": 3})
    assert parts_of(tmp_path) == {"train": 4}
    assert "its images have no labels: it is skipped" in remarks_of(tmp_path)
    draw(tmp_path, {"val": 3})
    assert "holds images but no class folders, as the other splits do" in refusal(tmp_path)


def test_a_split_that_is_empty_is_refused(tmp_path) -> None:
    draw(tmp_path / "train", TWO)
    (tmp_path / "valid" / "cat").mkdir(parents=True)
    assert f"the split {tmp_path / 'valid'} has no images" in refusal(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "train").mkdir()
    assert "needs one sub-folder" in refusal(tmp_path / "other") or "no images" in refusal(tmp_path / "other")


def test_splits_one_deeper_or_inside_classes_are_told(tmp_path) -> None:
    for name in ("train", "val"):
        draw(tmp_path / "pets" / "images" / name, TWO)
    (tmp_path / "pets" / "annotations").mkdir()
    pets = tmp_path / "pets"
    assert f"the splits 'train' and 'val' are in {pets / 'images'}, not in {pets}: give" in refusal(pets)
    for name in ("cat", "dog"):
        draw(tmp_path / "inside" / name, {"train": 2, "test": 2})
    assert "put the splits above the classes" in refusal(tmp_path / "inside")


def test_one_of_several_splits_given_directly_is_told_of_the_others(tmp_path) -> None:
    for name in ("Training", "valid"):
        draw(tmp_path / name, TWO)
    told: list[str] = []
    splits = open_dataset(str(tmp_path / "Training"), tell=told.append)
    assert len(splits.train) + len(splits.val) == 4
    assert told == [f"{tmp_path / 'Training'} stands beside 'valid', which are not used: give {tmp_path} to use them"]
    assert remarks_of(tmp_path / "valid") == ""
    told.clear()
    given = DataSpec(path=str(tmp_path / "Training"), val=str(tmp_path / "valid"))
    assert (len(open_dataset(given, tell=told.append).val), told) == (4, [])
    other = draw(tmp_path / "elsewhere" / "other", TWO).rename(tmp_path.parent / f"{tmp_path.name}-other")
    (tmp_path / "elsewhere").rmdir()
    open_dataset(DataSpec(path=str(tmp_path), val=str(other)), tell=told.append)
    assert f"the split 'val' of {tmp_path} is not used: the evaluation images are those of {other}" in told


def test_images_beside_class_folders_are_counted_aloud(tmp_path) -> None:
    draw(tmp_path, TWO)
    for name in ("a.png", "b.JPG", ".hidden.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert remarks_of(tmp_path) == f"2 images lie directly in {tmp_path}, in no class folder, and are skipped"


def test_a_class_or_split_whose_link_leads_nowhere_is_not_missed_in_silence(tmp_path) -> None:
    draw(tmp_path, TWO)
    (tmp_path / "fox").symlink_to(tmp_path / "elsewhere")
    assert "fox is a broken link" in refusal(tmp_path)
    (tmp_path / "fox").unlink()
    (tmp_path / "fox").symlink_to(tmp_path / "cat")
    assert parts_of(tmp_path) == {"": 6}


@pytest.mark.parametrize("split", ["trian", "unsup", "", "train2"])
def test_a_split_that_is_none_is_refused_with_its_row(tmp_path, split) -> None:
    draw(tmp_path, TWO)
    (tmp_path / "t.csv").write_text(f"path,label,split\ncat/0.png,cat,train\ndog/0.png,dog,{split}\n")
    assert f"line 3: has the split {split!r}: write train, val or test" in refusal(tmp_path / "t.csv")


def test_a_split_that_only_later_rows_have_is_not_dropped(tmp_path) -> None:
    draw(tmp_path, TWO)
    rows = [{"path": "cat/0.png", "label": "cat"}, {"path": "dog/0.png", "label": "dog", "split": "val"}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "line 2: has 'split', which the first row does not have" in refusal(tmp_path / "t.jsonl")


def test_two_splits_are_not_joined_in_a_table(tmp_path) -> None:
    draw(tmp_path, TWO)
    start = "path,label,subset\ncat/0.png,cat,train\ncat/1.png,cat,"
    (tmp_path / "t.csv").write_text(f"{start}dev\ndog/0.png,dog,eval\n")
    assert "line 4: has the split 'eval', and other rows 'dev': both are names for val" in refusal(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text(f"{start}val\ndog/0.png,dog,Validation\n")
    assert parts_of(tmp_path / "t.csv") == {"train": 1, "val": 2}


def test_shards_of_unknown_or_doubled_splits_are_refused(tmp_path) -> None:
    from tests.data.sets.tar_shards import write_shards

    write_shards(tmp_path / "a" / "train", "x", 1)
    write_shards(tmp_path / "a" / "vaild", "x", 1)
    assert "has shards in 'vaild', which is not the name of a split" in refusal(tmp_path / "a")
    write_shards(tmp_path / "b", "x-dev", 1)
    write_shards(tmp_path / "b", "x-valid", 1)
    assert "'dev' and 'valid' are names for one split (val)" in refusal(tmp_path / "b")
    write_shards(tmp_path / "c", "x-train-test", 1)
    assert "has words for several splits, 'train' and 'test'" in refusal(tmp_path / "c")


def test_names_too_long_and_links_to_themselves_are_one_line(tmp_path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / ("x" * 300), tmp_path / "loop", tmp_path / "a\udce9"):
        with pytest.raises(DatasetError, match="does not exist"):
            open_dataset(str(path))
    draw(tmp_path / "pets", TWO)
    (tmp_path / "pets" / "cat" / "loop.png").symlink_to("loop.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "pets" / "cat" / "\udce9.png")
    assert len(open_labelled(str(tmp_path / "pets"))[0]) == 6


@pytest.mark.parametrize(
    ("train", "others"),
    [
        ("seg_train/seg_train", ("seg_test/seg_test", "seg_pred/seg_pred/1.png")),
        ("training_set/training_set", ("test_set/test_set",)),
        ("train/Train", ("test/test",)),
        ("Final_Training/Images", ("Final_Test/Images",)),
    ],
)
def test_splits_unpacked_into_folders_of_their_own_names_are_splits(tmp_path, train, others) -> None:
    for place in (train, *others):
        if place.endswith(".png"):
            (tmp_path / place).parent.mkdir(parents=True)
            Image.new("RGB", (2, 2)).save(tmp_path / place)
        else:
            draw(tmp_path / place, TWO)
    assert parts_of(tmp_path) == {"train": 4, "test": 4}
    assert f"the classes of {(tmp_path / train).parent} are in {tmp_path / train}" in remarks_of(tmp_path)
    assert ("skipped" in remarks_of(tmp_path)) == (len(others) == 2)
    assert open_dataset(str(tmp_path)).classes == ("cat", "dog")


def test_a_copy_of_the_splits_beside_them_is_passed_over(tmp_path) -> None:
    for name in ("train", "test", "chest/train", "chest/test"):
        draw(tmp_path / name, TWO)
    assert parts_of(tmp_path) == {"train": 4, "test": 4}
    assert f"skipped, because they are not splits: {tmp_path / 'chest'}" in remarks_of(tmp_path)


@pytest.mark.parametrize("train", ["train", "signs_train", "1_train"])
@pytest.mark.parametrize("test", ["", "images", "unknown", "0"])
def test_a_test_split_without_labels_never_becomes_a_class(tmp_path, train, test) -> None:
    held = train.replace("train", "test")
    draw(tmp_path / train, TWO)
    draw(tmp_path / held, {test: 3}) if test else draw(tmp_path, {held: 3})
    assert parts_of(tmp_path) == {"train": 4}
    assert "it is skipped" in remarks_of(tmp_path)
    assert open_dataset(str(tmp_path)).test is None


def test_a_test_split_of_one_known_class_is_kept(tmp_path) -> None:
    draw(tmp_path / "train", TWO)
    draw(tmp_path / "test", {"cat": 2})
    assert parts_of(tmp_path) == {"train": 4, "test": 2}


@pytest.mark.parametrize("names", [("train", "test1"), ("cats_train", "cats_test"), ("train2017", "val2017")])
def test_splits_without_class_folders_never_become_classes(tmp_path, names) -> None:
    draw(tmp_path, dict.fromkeys(names, 3))
    told = refusal(tmp_path)
    assert "without class folders in them" in told
    assert str(tmp_path / names[0] / "cat") in told


def test_folds_are_no_classes_and_a_class_called_as_a_split_is_told(tmp_path) -> None:
    for name in ("fold1", "fold2"):
        draw(tmp_path / "folds" / name, TWO)
    assert "folds are not classes" in refusal(tmp_path / "folds")
    draw(tmp_path / "plain", {"fold 1": 2, "fold 2": 2})
    assert parts_of(tmp_path / "plain") == {"": 4}
    draw(tmp_path / "vehicles", {"bus": 2, "test": 2})
    assert "'test' in" in remarks_of(tmp_path / "vehicles")
    assert "is taken as a class: if it is a split, move it away" in remarks_of(tmp_path / "vehicles")


def test_classes_that_are_divided_further_are_told(tmp_path) -> None:
    for name in ("images", "masks"):
        draw(tmp_path / "two" / name, TWO)
    draw(tmp_path / "one" / "pets", TWO)
    draw(tmp_path / "plain" / "cat", {"2019": 2, "2020": 2})
    draw(tmp_path / "plain", {"dog": 2})
    told: list[str] = []
    open_dataset(str(tmp_path / "two"), tell=told.append)
    way = f"move them up into {tmp_path / 'two'}"
    assert told == [
        f"the classes are 'images' and 'masks': if the folders inside ('cat' and 'dog') are the classes, {way}"
    ]
    with pytest.raises(DatasetError, match=r"has only one, 'pets'; .* give .*/one/pets$"):
        open_dataset(str(tmp_path / "one"))
    told.clear()
    open_dataset(str(tmp_path / "plain"), tell=told.append)
    assert told == []


def test_splits_deeper_down_are_found_beside_a_folder_called_test(tmp_path) -> None:
    for name in ("train", "valid"):
        draw(tmp_path / "plants" / "plants" / name, TWO)
    draw(tmp_path / "test", {"test": 3})
    inner = tmp_path / "plants" / "plants"
    assert f"the splits 'train' and 'valid' are in {inner}, not in {tmp_path}: give {inner}" in refusal(tmp_path)

"""Tables of images: what they list is what is read, and every mistake is told with its line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitsmith.data.sets.datasets import DataSpec, open_dataset, open_labelled
from vitsmith.data.sets.labelling import UNLABELLED
from vitsmith.data.sets.tables.read import find_table
from vitsmith.errors import DatasetError

ROWS = [("a.png", "dog"), ("more/b.png", "cat"), ("c, d.png", "dog"), ("e.png", "cat")]


def write_images(folder: Path, rows: list[tuple[str, str]] = ROWS) -> None:
    for number, (path, _) in enumerate(rows):
        (folder / path).parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (3, 2), (number, 50, 7)).save(folder / path)


def write_csv(path: Path, header: list[str], rows: list[tuple[str, ...]], **options: str) -> Path:
    with path.open("w", newline="", encoding=options.pop("encoding", "utf-8")) as file:
        csv.writer(file, **options).writerows([header, *rows])
    return path


def told(path: Path) -> str:
    with pytest.raises(DatasetError) as error:
        open_labelled(str(path))
    message = str(error.value)
    assert "\n" not in message
    return message


def test_where_labels_are_not_used_an_image_stands_where_it_stands_first(tmp_path) -> None:
    write_images(tmp_path)
    table = write_csv(tmp_path / "pets.csv", ["path"], [("e.png",), ("a.png",), ("e.png",), ("c, d.png",), ("a.png",)])
    (samples,) = (load() for load in find_table(table, labelling=UNLABELLED).parts.values())
    assert [Path(str(name)).name for name in samples.names] == ["e.png", "a.png", "c, d.png"]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "bom"])
def test_every_kind_gives_the_rows_as_they_stand(tmp_path, kind) -> None:
    write_images(tmp_path)
    if kind == "jsonl":
        table = tmp_path / "pets.jsonl"
        table.write_text("".join(json.dumps({"image": path, "class": label}) + "\n\n" for path, label in ROWS))
    else:
        table = write_csv(
            tmp_path / ("pets.tsv" if kind == "tsv" else "pets.csv"),
            ["path", "label"],
            ROWS,
            delimiter="\t" if kind == "tsv" else ",",
            encoding="utf-8-sig" if kind == "bom" else "utf-8",
        )
    samples, name = open_labelled(str(table))
    assert name == "pets"
    assert samples.classes == ("cat", "dog")
    assert [(path, samples.classes[label]) for path, label in zip(samples.names, samples.labels, strict=True)] == ROWS
    for number, (path, _) in enumerate(ROWS):
        np.testing.assert_array_equal(samples.image(number), np.asarray(Image.open(tmp_path / path)))


def test_columns_are_chosen_by_name(tmp_path) -> None:
    write_images(tmp_path)
    rows = [("x", label, path) for path, label in ROWS]
    table = write_csv(tmp_path / "pets.csv", ["label", "animal", "photo"], rows)
    samples, _ = open_labelled(DataSpec(path=str(table), image_column="photo", label_column="animal"))
    assert samples.labels.tolist() == [1, 0, 1, 0]
    assert "no column 'path' or 'image' or 'file' or 'filename'" in told(table)
    with pytest.raises(DatasetError, match=r"no column 'pic'.*no column 'kind'.*'label', 'animal', 'photo'"):
        open_labelled(DataSpec(path=str(table), image_column="pic", label_column="kind"))


def test_a_column_of_splits_is_kept(tmp_path) -> None:
    rows = [(f"{split}-{label}.png", label, split) for split in ("train", "Validation", "test") for label in "ab"]
    write_images(tmp_path, [row[:2] for row in rows])
    table = write_csv(tmp_path / "pets.csv", ["file", "label", "split"], rows)
    splits = open_dataset(str(table))
    assert splits.train.names == ["train-a.png", "train-b.png"]
    assert splits.val.names == ["Validation-a.png", "Validation-b.png"]
    assert splits.test is not None
    assert splits.test.names == ["test-a.png", "test-b.png"]
    write_csv(table, ["file", "label", "split"], [*rows[:3], (rows[3][0], "fox", "val")])
    with pytest.raises(DatasetError, match=r"no images of class 'b'.*images of class 'fox'"):
        open_dataset(str(table))
    write_csv(table, ["file", "label", "split"], [*rows[:3], (rows[3][0], "b", "trian")])
    assert "line 5: has the split 'trian': write train, val or test" in told(table)


def test_a_table_without_splits_is_split_by_class(tmp_path) -> None:
    rows = [(f"{number}.png", str(number % 2)) for number in range(20)]
    write_images(tmp_path, rows)
    splits = open_dataset(DataSpec(path=str(write_csv(tmp_path / "t.csv", ["path", "label"], rows)), val_fraction=0.3))
    assert np.bincount(splits.val.labels).tolist() == [3, 3]
    assert set(splits.train.names) | set(splits.val.names) == {path for path, _ in rows}


def test_missing_files_are_all_counted_and_five_named(tmp_path) -> None:
    write_images(tmp_path, ROWS[:1])
    rows = [*ROWS[:1], *[(f"gone{number}.png", "cat") for number in range(7)]]
    message = told(write_csv(tmp_path / "pets.csv", ["path", "label"], rows))
    assert "lists 7 of 8 images that do not exist" in message
    assert "gone0.png (line 3)" in message
    assert "gone4.png" in message
    assert "gone5.png" not in message
    assert "and 2 more" in message


def test_an_image_listed_twice_is_refused(tmp_path) -> None:
    write_images(tmp_path)
    message = told(write_csv(tmp_path / "pets.csv", ["path", "label"], [*ROWS, ("./more/../a.png", "cat"), ROWS[1]]))
    assert "./more/../a.png (lines 2 and 6 with another label)" in message
    assert "more/b.png (lines 3 and 7)" in message


def test_rows_that_cannot_be_read_are_told_with_their_lines(tmp_path) -> None:
    table = tmp_path / "pets.jsonl"
    lines = ['{"path": "a.png", "label": "x"}', "{oops", "[1]", '{"path": "b", "label": true}', '{"label": "x"}']
    table.write_text("\n".join(lines))
    message = told(table)
    for expected in (
        "line 2: is no JSON",
        "line 3: is not a JSON object",
        "line 4: has no class",
        "line 5: has no path",
    ):
        assert expected in message
    (tmp_path / "short.csv").write_text("path,label\na.png\nb.png, \n")
    message = told(tmp_path / "short.csv")
    assert "line 2: has 1 fields where the header has 2" in message
    assert "line 3: has no class name" in message
    (tmp_path / "latin.csv").write_bytes("path,label\nä.png,x\n".encode("latin-1"))
    assert "is not UTF-8 text" in told(tmp_path / "latin.csv")
    (tmp_path / "quote.csv").write_text('path,label\n"a.png,x\n')
    assert 'a quote (") before it does not close' in told(tmp_path / "quote.csv")
    (tmp_path / "none.csv").write_text("path,label\n")
    assert "lists no images" in told(tmp_path / "none.csv")


@pytest.mark.parametrize("names", [("file_name", "label"), ("filepaths", "labels"), ("Image_Path", "class_name")])
def test_columns_as_published_tables_call_them_are_found(tmp_path, names) -> None:
    write_images(tmp_path)
    samples, _ = open_labelled(str(write_csv(tmp_path / "pets.csv", [*names], ROWS)))
    assert (samples.names, samples.classes) == ([path for path, _ in ROWS], ("cat", "dog"))


@pytest.mark.parametrize("column", ["dataset", "Data Set", "mode"])
def test_a_column_of_splits_is_read_under_its_usual_names(tmp_path, column) -> None:
    write_images(tmp_path)
    rows = [(*row, split) for row, split in zip(ROWS, ("train", "train", "test", "test"), strict=True)]
    splits = open_dataset(str(write_csv(tmp_path / "pets.csv", ["path", "label", column], rows)))
    assert (splits.train.names, splits.val.names) == (["a.png", "more/b.png"], ["c, d.png", "e.png"])


@pytest.mark.parametrize(
    ("column", "values"), [("is_valid", "TFTF"), ("fold", "0101"), ("kfold", "0011"), ("x", ["dev"] * 4)]
)
def test_a_column_that_divides_the_images_and_is_not_read_is_told(tmp_path, column, values) -> None:
    write_images(tmp_path)
    rows = [(*row, value) for row, value in zip(ROWS, values, strict=True)]
    table = write_csv(tmp_path / "pets.csv", ["path", "label", column], rows)
    heard: list[str] = []
    open_labelled(str(table), tell=heard.append)
    assert [f"the column {column!r} of {table} is not read" in remark for remark in heard] == [True]
    heard.clear()
    open_labelled(str(write_csv(table, ["path", "label", "width"], rows)), tell=heard.append)
    assert heard == ([] if column != "x" else [heard[0]])


def test_paths_as_windows_writes_them_are_found_under_the_same_names(tmp_path) -> None:
    write_images(tmp_path)
    rows = [(path.replace("/", "\\"), label) for path, label in ROWS]
    samples, _ = open_labelled(str(write_csv(tmp_path / "pets.csv", ["path", "label"], rows)))
    assert samples.names == [path for path, _ in ROWS]
    write_images(tmp_path, [("more\\b.png", "cat")])  # a file that is really called so
    samples, _ = open_labelled(str(tmp_path / "pets.csv"))
    assert samples.names[1] == "more\\b.png"


def test_columns_of_what_has_none_are_refused(tmp_path) -> None:
    for label, name in (("cat", "a.png"), ("dog", "b.png")):
        write_images(tmp_path / "pets" / label, [(name, label)])
    for path in (str(tmp_path / "pets"), "digits"):
        with pytest.raises(DatasetError, match="is not a table and has no columns"):
            open_labelled(DataSpec(path=path, label_column="breed"))
    write_images(tmp_path)
    table = write_csv(tmp_path / "pets.csv", ["path", "breed"], ROWS)
    given = DataSpec(path=str(table), label_column="breed", val=str(tmp_path / "pets"))
    assert len(open_dataset(given).val) == 2


def test_empty_columns_of_a_spreadsheet_are_passed_over(tmp_path) -> None:
    write_images(tmp_path)
    rows = [(*row, "", "") for row in ROWS]
    assert len(open_labelled(str(write_csv(tmp_path / "pets.csv", ["path", "label", "", ""], rows)))[0]) == 4


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("pets.zip", "an archive: unpack it"),
        ("pets.parquet", "as hf:"),
        ("pets.xlsx", "a table as .csv"),
        ("a.txt", ".csv"),
    ],
)
def test_a_file_of_another_kind_is_told_what_to_do_with(tmp_path, name, way) -> None:
    (tmp_path / name).write_bytes(b"PK")
    assert way in told(tmp_path / name)

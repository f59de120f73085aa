"""Data sets of Hugging Face: the same images and labels as `datasets` itself gives, from the disk."""

from __future__ import annotations

import builtins
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitsmith.data.sets.datasets import DataSpec, open_dataset, open_labelled
from vitsmith.errors import DatasetError, ImageError, MissingPackageError

datasets = pytest.importorskip("datasets")

NAMES = ["dog", "cat"]


def picture(number: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (5, 4, 3), np.uint8)).save(data, "PNG")
    return data.getvalue()


def table(count: int, label: object = None, labels: list | None = None, **columns: list):
    """`count` images; their labels are 0, 1, 0, 1 ... as ClassLabel unless told otherwise."""
    rows = {"image": [{"bytes": picture(number), "path": None} for number in range(count)]}
    rows["label"] = [number % 2 for number in range(count)] if labels is None else labels
    features = {"image": datasets.Image(), "label": label or datasets.ClassLabel(names=NAMES)}
    return datasets.Dataset.from_dict(rows | columns, features=datasets.Features(features))


def saved(folder: Path, **splits: object) -> str:
    datasets.DatasetDict(splits).save_to_disk(str(folder))
    return f"hf:{folder}"


def test_images_and_labels_are_those_of_datasets(tmp_path) -> None:
    spec = saved(tmp_path / "pets", train=table(6), validation=table(4), test=table(2))
    splits = open_dataset(spec)
    assert splits.classes == ("dog", "cat")  # the order of ClassLabel, not of the alphabet
    assert splits.test is not None
    original = datasets.load_from_disk(str(tmp_path / "pets"))
    for samples, split in ((splits.train, "train"), (splits.val, "validation"), (splits.test, "test")):
        assert samples.labels.tolist() == list(original[split]["label"])
        assert len(samples) == len(original[split])
        for index, row in enumerate(original[split]):
            np.testing.assert_array_equal(samples.image(index), np.asarray(row["image"]))
    assert splits.train.sources[3] == picture(3)
    assert open_labelled(spec, "test")[1] == "pets/test"


def test_other_labels_become_sorted_names(tmp_path) -> None:
    numbers = table(3, datasets.Value("int64"), [10, 9, 10])
    words = table(3, datasets.Value("string"), ["dog", "ant", "dog"])
    samples, name = open_labelled(saved(tmp_path / "numbers", train=numbers))
    assert (samples.classes, samples.labels.tolist(), name) == (("9", "10"), [1, 0, 1], "numbers/train")
    samples, _ = open_labelled(saved(tmp_path / "words", train=words))
    assert (samples.classes, samples.labels.tolist()) == (("ant", "dog"), [1, 0, 1])


def test_a_set_without_splits_is_split_and_secret_answers_are_left_out(tmp_path) -> None:
    table(10).save_to_disk(str(tmp_path / "one"))
    splits = open_dataset(f"hf:{tmp_path / 'one'}")
    assert np.bincount(splits.val.labels).tolist() == [1, 1]
    spec = saved(tmp_path / "secret", train=table(4), validation=table(2), test=table(2, labels=[-1, -1]))
    assert open_dataset(spec).test is None
    some = saved(tmp_path / "some", train=table(4, labels=[0, 1, -1, 0]))
    with pytest.raises(DatasetError, match=r"1 of 4 rows without a label in 'label', the first is row 2"):
        open_dataset(some)


def test_columns_are_asked_for_when_there_is_a_choice(tmp_path) -> None:
    images = [{"bytes": picture(number), "path": None} for number in range(4)]
    features = {"left": datasets.Image(), "right": datasets.Image(), "kind": datasets.Value("string")}
    rows = {"left": images, "right": images[::-1], "kind": ["a", "b", "a", "b"]}
    spec = saved(tmp_path / "pairs", train=datasets.Dataset.from_dict(rows, features=datasets.Features(features)))
    with pytest.raises(DatasetError, match=r"2 columns of images.*no columns of labels.*'left', 'right', 'kind'"):
        open_labelled(spec)
    samples, _ = open_labelled(DataSpec(path=spec, image_column="right", label_column="kind"))
    assert samples.classes == ("a", "b")
    assert samples.sources[0] == picture(3)
    with pytest.raises(DatasetError, match="no column 'kind' of images"):
        open_labelled(DataSpec(path=spec, image_column="kind", label_column="kind"))


def test_mistakes_are_one_line(tmp_path) -> None:
    with pytest.raises(DatasetError, match=r"split 'val' of .*no images of class 'cat'"):
        open_dataset(saved(tmp_path / "a", train=table(4), validation=table(2, labels=[0, 0])))
    with pytest.raises(DatasetError, match=r"no images to train on for class 'cat'"):
        open_dataset(saved(tmp_path / "b", train=table(2, labels=[0, 0])))
    with pytest.raises(DatasetError, match="neither text nor whole numbers"):
        open_dataset(saved(tmp_path / "c", train=table(2, datasets.Value("float32"), [0.5, 1.5])))
    with pytest.raises(DatasetError, match="has the splits small, large, and none called train"):
        open_dataset(saved(tmp_path / "d", small=table(2), large=table(2)))
    with pytest.raises(DatasetError, match="names no data set"):
        open_dataset("hf:")
    with pytest.raises(DatasetError, match=r"there is no folder \./nowhere"):
        open_dataset("hf:./nowhere")
    with pytest.raises(DatasetError, match=r"there is no folder \./nowhere"):
        open_dataset("hf-hub:./nowhere")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DatasetError, match="cannot load hf:") as error:
        open_dataset(f"hf:{tmp_path / 'nothing'}")
    assert "\n" not in str(error.value)
    lost = datasets.Dataset.from_dict(
        {"image": [None, {"bytes": b"x", "path": None}], "label": ["a", "b"]},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")}),
    )
    samples, _ = open_labelled(saved(tmp_path / "e", train=lost))
    with pytest.raises(ImageError, match="train/0: has no image in 'image'"):
        samples.image(0)
    with pytest.raises(ImageError, match=r"train/1: is not an image"):
        samples.image(1)


def test_without_the_package_the_install_line_is_told(monkeypatch) -> None:
    def refuse(name, *rest):
        if name == "datasets":
            raise ImportError(name)
        return imported(name, *rest)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingPackageError, match=r"pip install 'vitsmith\[datasets\]'"):
        open_dataset("hf:AI-Lab-Makerere/beans")


@pytest.mark.parametrize("name", ["hf:pets", "hf-hub:pets:small"])
def test_a_name_without_its_owner_is_refused_before_any_import(monkeypatch, name) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        DatasetError, match="lacks the owner of the data set: write hf:OWNER/NAME, or hf:OWNER/NAME:CONFIG"
    ):
        open_dataset(name)


@pytest.mark.parametrize("name", ["pets", "data/pets"])
def test_a_folder_of_that_name_is_not_taken_for_the_hubs(tmp_path, monkeypatch, name) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(DatasetError, match=f"for the folder {name} here write hf:./{name}"):
        open_dataset(f"hf:{name}")


def test_datasets_is_imported_only_when_it_is_used() -> None:
    code = "import sys, vitsmith.data.sets.datasets; sys.exit('datasets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_images_as_parquet_keeps_them_are_read_and_rows_without_one_told(tmp_path) -> None:
    rows = {"image": [{"bytes": picture(number), "path": None} for number in range(4)], "label": [0, 1, 0, 1]}
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "plain"))  # a struct, and no Image
    samples, _ = open_labelled(f"hf:{tmp_path / 'plain'}")
    np.testing.assert_array_equal(samples.image(2), np.asarray(Image.open(io.BytesIO(picture(2)))))
    half = picture(3)
    rows["image"][2:] = [None, {"bytes": half[:60] + bytes(len(half) - 60), "path": None}]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "holes"))
    samples, _ = open_labelled(f"hf:{tmp_path / 'holes'}")
    with pytest.raises(ImageError, match="2: has no image in 'image'"):
        samples.image(2)
    with pytest.raises(ImageError, match="3: is damaged: the checksum of its IDAT chunk"):
        samples.image(3)
    with pytest.raises(DatasetError, match="unknown split"):
        open_labelled(f"hf:{tmp_path / 'plain'}", "validation[:10%]")

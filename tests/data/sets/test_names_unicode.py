"""Unicode writes 'é' in two ways; both are the same class, whoever names it, and no data set of old becomes another."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.text.label_files import listed, shard, told
from tests.tiny import VIT, pictures, tiny_lit, tiny_model
from tests.training import small_runs
from vitsmith.data.sets.datasets import open_dataset, open_labelled
from vitsmith.data.sets.folder import read_class_folders
from vitsmith.data.sets.samples import Samples, Splits, label_positions, place_of, sort_classes
from vitsmith.data.sets.shards.read import read_shards
from vitsmith.errors import DatasetError
from vitsmith.evaluation.evaluation import match_classes
from vitsmith.names import look_alikes, meant_name, normal, wrong_name
from vitsmith.specs import Labels
from vitsmith.training.images.run import train_to_bundle
from vitsmith.training.images.teacher import Teacher
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.labels import with_labels
from vitsmith.zeroshot.labels import read_words, words_of

NFC, NFD = "caf\u00e9", "cafe\u0301"
REST = ("dog", "eel", "fox", "gnu")


def images_in(folder: Path, *names: str, count: int = 2) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pictures(count)):
            Image.fromarray(picture).save(folder / name / f"{name[:1]}{number}.png")
    return folder


@pytest.fixture(params=[(NFC, NFD), (NFD, NFC)], ids=["nfc-nfd", "nfd-nfc"])
def forms(request: pytest.FixtureRequest) -> tuple[str, str]:
    pair: tuple[str, str] = request.param
    return pair


# --- data ------------------------------------------------------------------------------------------------------------


def test_folders_of_train_and_val_are_the_same_class(tmp_path: Path, forms: tuple[str, str]) -> None:
    images_in(tmp_path / "train", forms[0], "dog")
    images_in(tmp_path / "val", forms[1], "dog")
    splits = open_dataset(str(tmp_path))
    assert splits.classes == splits.val.classes == (NFC, "dog")
    assert splits.train.labels.tolist() == splits.val.labels.tolist() == [0, 0, 1, 1]
    # On disk a name is its own bytes.
    assert os.fspath(splits.train.sources[0]) == str(tmp_path / "train" / forms[0] / "c0.png")
    assert splits.val.image(0).shape == (40, 50, 3)


def test_two_folders_of_one_class_are_refused(tmp_path: Path) -> None:
    images_in(tmp_path, NFC, NFD, "dog")
    problem = told(lambda: read_class_folders(tmp_path), DatasetError)
    assert (
        f"has two folders {NFC!r} whose names look the same" in problem and "put the images of both into one" in problem
    )


def test_classes_are_in_one_order_in_either_form(tmp_path: Path) -> None:
    # 'cafe\u0301' comes before 'cafz', 'caf\u00e9' behind it.
    for form in ("NFC", "NFD"):
        names = (NFC if form == "NFC" else NFD, "cafz", "dog")
        assert read_class_folders(images_in(tmp_path / form, *names)).classes == ("cafz", NFC, "dog")
    assert sort_classes([NFD, "cafz", NFC]) == ("cafz", NFC)
    assert label_positions([NFD, "cafz", NFC], ("cafz", NFD)).tolist() == [1, 0, 1]


def test_rows_of_a_table_are_the_same_class(tmp_path: Path) -> None:
    images_in(tmp_path, "a", count=4)
    with (tmp_path / "t.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split"])
        rows.writerows(
            [
                ["a/a0.png", NFC, "train"],
                ["a/a1.png", "dog", "train"],
                ["a/a2.png", NFD, "val"],
                ["a/a3.png", "dog", "val"],
            ]
        )
    splits = open_dataset(str(tmp_path / "t.csv"))
    assert splits.classes == (NFC, "dog") and splits.val.labels.tolist() == [0, 1]


def test_paths_in_another_form_than_on_disk_are_told(tmp_path: Path, forms: tuple[str, str]) -> None:
    images_in(tmp_path, forms[0], count=1)
    listed(tmp_path, f"path,label\n{forms[1]}/c0.png,cat\n", "t.csv")
    form = "NFC" if forms[0] == NFC else "NFD"
    problem = told(lambda: open_labelled(str(tmp_path / "t.csv")), DatasetError)
    assert f"the files exist, with names in Unicode form {form}" in problem


def test_labels_in_shards_are_the_same_class(tmp_path: Path, forms: tuple[str, str]) -> None:
    path = shard(tmp_path, [*forms, "dog"])
    samples = read_shards([path])
    assert samples.classes == (NFC, "dog") and samples.labels.tolist() == [0, 0, 1]
    listed(tmp_path, f"dog\n{forms[0]}\n", "classes.txt")
    samples = read_shards([path])
    assert samples.classes == ("dog", NFC) and samples.labels.tolist() == [1, 1, 0]


def test_names_of_a_hub_data_set(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    files = [str(tmp_path / "a" / f"a{number}.png") for number in range(4)]
    images_in(tmp_path, "a", count=4)
    for names, where in (((NFD, "dog"), "one"), ((NFD, NFC), "two")):
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))})
        made = datasets.Dataset.from_dict({"image": files, "label": [0, 1, 0, 1]}, features=features)
        made.save_to_disk(str(tmp_path / where))
    assert open_labelled(f"hf:{tmp_path / 'one'}")[0].classes == (NFC, "dog")
    assert "has two classes" in told(lambda: open_labelled(f"hf:{tmp_path / 'two'}"), DatasetError)


def test_a_split_is_the_same_in_either_form() -> None:
    assert place_of(f"{NFC}/1.png", 3) == place_of(f"{NFD}/1.png", 3)
    one, other = (Samples((NFC,), [b""], [f"{name}/1.png"], np.zeros(1, np.int64)) for name in (NFC, NFD))
    assert one.fingerprint() == other.fingerprint()


def test_data_sets_of_old_have_the_fingerprints_they_had() -> None:
    """Recorded before names were compared in NFC: runs of that time are resumed."""
    samples = Samples(
        ("ant", NFC, "\u732b"),
        [b""] * 3,
        ["ant/1.png", f"{NFC}/2.png", "\u732b/\udce9.png"],
        np.arange(3, dtype=np.int64),
    )
    assert samples.fingerprint() == "8085c008bae07497ffabb21353824de2"
    assert [place_of(name, 7).hex() for name in samples.names] == [
        "14ce8a7b61bcd707",
        "470c522f8793b8a0",
        "11bdb1ff52e9276b",
    ]


# --- models ----------------------------------------------------------------------------------------------------------


def samples_of(*classes: str) -> Samples:
    return Samples(
        classes, pictures(len(classes)), [str(index) for index in range(len(classes))], np.arange(len(classes))
    )


def test_a_model_knows_a_class_in_either_form(tmp_path: Path, forms: tuple[str, str]) -> None:
    plain = Bundle.of(tiny_model(VIT))
    named = with_labels(plain, listed(tmp_path, "\n".join((*REST, forms[0]))))
    assert named.labels is not None and named.labels.names[4] == forms[0], "the stored name stays as it was"
    assert match_classes(named, samples_of("dog", forms[1])).tolist() == [0, 4]
    classes = [forms[1], *REST]
    assert Teacher(named, classes, named.preprocessing)._columns.tolist() == [4, 0, 1, 2, 3]
    assert named.labels.shown[4] == forms[0]


def test_words_are_the_same_text_in_either_form(forms: tuple[str, str]) -> None:
    words = words_of([forms[0], "dog"])
    assert words.words == (NFC, "dog") and words.names == (forms[0], "dog")
    assert "has the same label twice" in told(lambda: read_words(",".join(forms)))
    tokenizer = tiny_lit().tokenizer
    np.testing.assert_array_equal(tokenizer(words.words), tokenizer(words_of([forms[1], "dog"]).words))


# --- what was meant --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "known", "words"),
    [
        ("Cat", ("cat", "dog"), "did you mean 'cat'? It differs in capitals and small letters"),
        ("cat ", ("cat", "dog"), "did you mean 'cat'? It differs in white space at its ends"),
        ("cat\u200b", ("cat", "dog"), "did you mean 'cat'? It differs in invisible characters"),
        ("cat", ("cat\u200b", "dog"), r"did you mean 'cat\u200b'? It differs in invisible characters"),
        ("red panda", ("red_panda",), "did you mean 'red_panda'? It differs in spaces"),
        ("\uff43at", ("cat",), "did you mean 'cat'? It differs in spaces, capitals or the encoding of letters"),
        ("catt", ("cat", "dog"), "did you mean cat?"),
    ],
)
def test_close_names_are_suggested_with_the_difference(name: str, known: tuple[str, ...], words: str) -> None:
    assert words in meant_name(name, known)


def test_a_split_with_a_name_that_looks_like_another_is_told(tmp_path: Path) -> None:
    images_in(tmp_path / "train", "cat", "dog")
    images_in(tmp_path / "val", "Cat", "dog")
    problem = told(lambda: open_dataset(str(tmp_path)), DatasetError)
    assert "('Cat' differs from 'cat' in capitals and small letters)" in problem
    bundle = Bundle.of(tiny_model(VIT), labels=Labels(names=("cat\u200b", *REST)))
    assert r"did you mean 'cat\u200b'?" in told(lambda: match_classes(bundle, samples_of("cat")), DatasetError)


def test_look_alikes_of_one_data_set_are_found() -> None:
    pairs = look_alikes(["Cat", "cat", "dog", "dog ", "-1", "1", "C", "C++", "0", "00"])
    assert pairs == [
        ("Cat", "cat", "capitals and small letters"),
        ("dog", "dog ", "white space at its ends"),
    ]


def test_training_tells_of_look_alikes() -> None:
    data, said = small_runs.splits(), list[str]()
    renamed = [replace(part, classes=("Cat", "cat", "dog")) for part in (data.train, data.val)]
    train_to_bundle(small_runs.recipe(schedule={"steps": 2, "warmup": 0}), Splits(*renamed), None, on_start=said.append)
    alike = [line for line in said if "differ only in" in line]
    assert len(alike) == 1 and "'Cat' and 'cat' differ only in capitals and small letters" in alike[0]


def test_what_no_class_can_be_called() -> None:
    assert [bool(wrong_name(name)) for name in ("", "  ", "a\nb", "a\rb", "a\0", "\udce9")] == [True] * 6
    assert [wrong_name(name) for name in ("a", "caf\u00e9", "a\u2028b", "a\x0cb", "[/red]", "from_$5_to_$10")] == [
        ""
    ] * 6
    assert normal(NFD) == NFC and normal("\udce9") == "\udce9"

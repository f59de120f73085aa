"""Choosing among the AugReg checkpoints, by an index like the published one and without it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NoReturn

import pytest

from tests.weights.fetch.augreg_index import INDEX
from vitsmith.errors import DownloadError, InputError, UnknownNameError, WeightsError
from vitsmith.weights.fetch import augreg
from vitsmith.weights.fetch.addresses import cached_path
from vitsmith.weights.fetch.augreg import find_augreg, select
from vitsmith.weights.fetch.augreg_index import AugregRow, read_index


@pytest.fixture
def index(tmp_path: Path) -> Path:
    path = tmp_path / "index.csv"
    path.write_text(INDEX, encoding="utf-8")
    return path


@pytest.fixture
def rows(index: Path) -> list[AugregRow]:
    return read_index(index)


def reference_recommended(model: str) -> str:
    """The choice of vit_jax/train.py, on the text of the index: its i21k row with the highest final_val."""
    table = list(csv.DictReader(io.StringIO(INDEX)))
    of_model = [row for row in table if row["filename"].split("-")[0] == model and row["ds"] == "i21k"]
    return sorted(of_model, key=lambda row: float(row["final_val"]))[-1]["filename"]


def test_an_index_is_read_with_types(rows: list[AugregRow]) -> None:
    assert len(rows) == 10
    first, last = rows[0], rows[-1]
    assert (first.name, first.wd, first.adapt_steps, first.adapt_resolution) == ("B/16", 0.1, 20000, 384)
    assert (first.final_val, first.adapt_final_test, first.epochs) == (0.5, 0.85486, 300)
    assert last.infer_samples_per_sec is None


@pytest.mark.parametrize(
    ("name", "model"),
    [("B_16", "B_16"), ("augreg:B/16", "B_16"), ("ViT-B_16", "B_16"), ("R50+L/32", "R50_L_32"), ("augreg:B_8", "B_8")],
)
def test_a_model_means_the_choice_of_the_original(rows: list[AugregRow], name: str, model: str) -> None:
    chosen = select(rows, name)
    assert chosen.filename == reference_recommended(model)
    assert chosen.url == f"https://storage.googleapis.com/vit_models/augreg/{chosen.filename}.npz"
    assert (chosen.resolution, chosen.dataset, chosen.note) == (224, "imagenet21k", "")


def test_a_resolution_means_the_recommended_one_fine_tuned_on_imagenet(rows: list[AugregRow]) -> None:
    chosen = select(rows, "augreg:B_16@384")
    assert chosen.filename == "B_16-i21k-m1--imagenet2012-res_384"
    assert (chosen.model, chosen.resolution, chosen.dataset, chosen.accuracy) == (
        "ViT-B_16",
        384,
        "imagenet2012",
        85.49,
    )
    assert select(rows, "B_16@224").filename == "B_16-i21k-m1--imagenet2012-res_224"
    assert select(rows, "R50_L_32@384").model == "R50+ViT-L_32"


@pytest.mark.parametrize(
    ("query", "filename"),
    [
        ("B_16?aug=light1", "B_16-i21k-l1"),
        ("B_16?ds=i1k", "B_16-i1k-s1"),
        ("B_16?ds=i1k&aug=light1", "B_16-i1k-l1"),
        ("B_16?ds=i1k&final_val<0.8", "B_16-i1k-l1"),
        ("B_16?wd<=0.03", "B_16-i21k-l1"),
        ("B_16? final_val < 0.5 & do >= 0 ", "B_16-i21k-l1"),
        ("B_16?ds!=i1k&do>0.05", "B_16-i21k-30"),
        ("B_16?adapt_resolution=384", "B_16-i21k-l1--imagenet2012-res_384"),
        ("B_16?ds=i1k&aug=light1&adapt_ds=imagenet2012&adapt_resolution=384", "B_16-i1k-l1--imagenet2012-res_384"),
        ("B_16?adapt_ds=cifar100", "B_16-i21k-m1--cifar100-res_384"),
        ("B_16?wd=0.10&adapt_lr==0.01", "B_16-i21k-m1--imagenet2012-slow-res_384"),
    ],
)
def test_a_query_means_the_best_row_that_meets_it(rows: list[AugregRow], query: str, filename: str) -> None:
    assert select(rows, query).filename == filename


def test_a_pretraining_has_its_own_test_accuracy(rows: list[AugregRow]) -> None:
    chosen = select(rows, "B_16?ds=i1k")
    assert (chosen.dataset, chosen.accuracy, chosen.resolution) == ("imagenet2012", 81.0, 224)


def test_a_row_without_a_score_is_not_the_best(rows: list[AugregRow]) -> None:
    unknown = rows[0].model_copy(update={"filename": "B_16-i21k-lost", "final_val": None})
    assert select([unknown, *rows], "B_16").filename == "B_16-i21k-m1"


@pytest.mark.parametrize(
    ("query", "error", "words"),
    [
        ("B_17", UnknownNameError, "unknown model 'B_17'"),
        ("H_14", UnknownNameError, "unknown AugReg model 'H_14': known are B_16"),
        ("B_16?augment=light1", UnknownNameError, "unknown AugReg column 'augment': did you mean aug"),
        ("B_16?aug=light9", InputError, r"of B/16 has aug=light9; its values of aug are .*light1, medium1"),
        ("B_16?ds=i1k&wd=0.03", InputError, r"has wd=0\.03 with ds=i1k; its values of wd are 0\.1$"),
        ("B_8@384", InputError, r"=384 with adapt_ds=imagenet2012; its values of adapt_resolution are 224"),
        ("B_8?infer_samples_per_sec>1", InputError, "its values of infer_samples_per_sec are not known"),
        ("B_16?wd=small", InputError, "wd is a number"),
        ("B_16?aug<light1", InputError, "aug is a word"),
        ("B_16?aug", InputError, r"cannot read the condition 'aug'"),
        ("B_16?wd=<0.03", InputError, r"cannot read the condition"),
        ("B_16@large", InputError, r"cannot read 'B_16@large'"),
        ("B_16?", InputError, r"cannot read 'B_16\?'"),
        ("vit_base_patch16_384", InputError, "write augreg:B_16@384"),
        ("B_16-i21k-m2", UnknownNameError, "unknown AugReg file 'B_16-i21k-m2': did you mean .*B_16-i21k-m1"),
    ],
)
def test_a_query_that_means_nothing_is_refused_with_what_there_is(
    rows: list[AugregRow], query: str, error: type[InputError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        select(rows, query)
    assert "\n" not in str(caught.value)


def test_a_file_is_found_by_its_name(rows: list[AugregRow]) -> None:
    assert select(rows, "augreg:B_16-i1k-l1").dataset == "imagenet2012"
    tuned = select(rows, "B_16-i21k-m1--cifar100-res_384.npz")
    assert (tuned.filename, tuned.dataset, tuned.accuracy) == ("B_16-i21k-m1--cifar100-res_384", "cifar100", 93.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<html>sign in</html>", "is not the AugReg index: it has no column adapt_ds"),
        (INDEX.replace("0.03,20000,224,0.88", "0.03,many,224,0.88"), r"line 4, column adapt_steps: 'many'"),
        (INDEX.rpartition(",")[0], "line 11, column adapt_filename"),
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "index.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WeightsError, match=words):
        read_index(path)


def test_an_index_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    path.write_bytes(b"\x1f\x8b\x08\x00\xff\xfe")
    with pytest.raises(WeightsError, match="is not a CSV file"):
        read_index(path)


def test_the_cached_index_is_used(tmp_path: Path) -> None:
    path = cached_path("https://storage.googleapis.com/vit_models/augreg/index.csv", directory=tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(INDEX, encoding="utf-8")
    assert find_augreg("augreg:B_16", directory=tmp_path).filename == "B_16-i21k-m1"
    assert find_augreg("augreg:B_16?ds=i1k", directory=tmp_path).filename == "B_16-i1k-s1"


def offline(*_: object, **__: object) -> NoReturn:
    raise DownloadError("no network")


@pytest.mark.parametrize(
    ("name", "model", "stem"),
    [
        ("L_16", "ViT-L_16", "L_16-i21k-300ep-lr_0.001-aug_strong1-wd_0.1-do_0.0-sd_0.0"),
        ("B_16", "ViT-B_16", "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0"),
        ("S_16", "ViT-S_16", "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0"),
        ("R50_L_32", "R50+ViT-L_32", "R50_L_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1"),
        ("R26_S_32", "R26+ViT-S_32", "R26_S_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0"),
        ("Ti_16", "ViT-Ti_16", "Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0"),
        ("B_32", "ViT-B_32", "B_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0"),
        ("S_32", "ViT-S_32", "S_32-i21k-300ep-lr_0.001-aug_none-wd_0.1-do_0.0-sd_0.0"),
        ("R_Ti_16", "R+ViT-Ti_16", "R_Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0"),
    ],
)
def test_without_the_index_the_recommended_files_are_those_of_the_readme(
    monkeypatch: pytest.MonkeyPatch, name: str, model: str, stem: str
) -> None:
    monkeypatch.setattr(augreg, "download", offline)
    chosen = find_augreg(f"augreg:{name}")
    assert (chosen.filename, chosen.model, chosen.resolution) == (stem, model, 224)
    assert "index could not be fetched" in chosen.note
    tuned = find_augreg(f"augreg:{name}@384")
    assert tuned.filename.startswith(f"{stem}--imagenet2012-steps_20k-lr_0.0")
    assert (tuned.model, tuned.resolution, tuned.dataset) == (model, 384, "imagenet2012")
    assert tuned.accuracy is not None


def test_without_the_index_a_file_name_is_taken_as_it_is_and_a_query_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(augreg, "download", offline)
    stem = "R26_S_32-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0--oxford_iiit_pet-steps_0k-lr_0.003-res_384"
    chosen = find_augreg(f"augreg:{stem}")
    assert (chosen.filename, chosen.model, chosen.resolution) == (stem, "R26+ViT-S_32", 384)
    assert (chosen.dataset, chosen.accuracy) == ("oxford_iiit_pet", None)
    assert chosen.url == f"https://storage.googleapis.com/vit_models/augreg/{stem}.npz"
    with pytest.raises(InputError, match="ends with -res_224 or -res_384"):
        find_augreg(f"augreg:{stem.removesuffix('-res_384')}")
    for name in ("augreg:B_16?ds=i1k", "augreg:B_16@512", "augreg:R26+B/32"):
        with pytest.raises(DownloadError, match="no network"):
            find_augreg(name)

"""Exact copies and near duplicates: the groups, what is kept, and every place that they may lie in."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitsmith as vs
from tests.sorting.collections import index_of, picture, towards
from tests.tiny import CONFIGS, pictures, tiny_model
from vitsmith.data.images import photo
from vitsmith.data.images.sources import read_path
from vitsmith.errors import DatasetError, InputError
from vitsmith.retrieval.description import copies_name, read_description, write_description
from vitsmith.retrieval.file_state import look_at
from vitsmith.sorting import duplicates as sorting
from vitsmith.sorting.duplicates import Duplicates


def named(found: Duplicates) -> list[list[str]]:
    return [[Path(one.name).name for one in group.members] for group in found.groups]


def touched(path: Path, seconds: int) -> Path:
    os.utime(path, (seconds, seconds))
    return path


def test_copies_are_those_with_one_hash(tmp_path: Path) -> None:
    for seed in range(6):
        picture(tmp_path / f"a/{seed}.png", seed)
    for copy, original in (("b/x.png", "a/1.png"), ("b/y.png", "a/1.png"), ("a/z.png", "a/4.png")):
        (tmp_path / copy).parent.mkdir(exist_ok=True)
        shutil.copy2(tmp_path / original, tmp_path / copy)
    found = vs.duplicates([tmp_path / "b", tmp_path / "a"])
    files = sorted(tmp_path.rglob("*.png"))
    by_hash: dict[str, set[str]] = {}
    for file in files:
        by_hash.setdefault(hashlib.sha256(file.read_bytes()).hexdigest(), set()).add(str(file))
    expected = [names for names in by_hash.values() if len(names) > 1]
    assert sorted({one.name for one in group.members} for group in found.groups) == sorted(expected)
    assert named(found) == [["x.png", "y.png", "1.png"], ["4.png", "z.png"]]  # equally old: in the order of the places
    assert (found.count, found.copies, found.threshold, found.model) == (9, 3, None, "")
    assert found.copied_bytes == 2 * (tmp_path / "a/1.png").stat().st_size + (tmp_path / "a/4.png").stat().st_size
    assert all(one.exact and one.score == 1 and one.pixels == (8, 6) for group in found.groups for one in group.members)
    assert str(found) == "<Duplicates: 2 groups in 9 images, 3 copies>"
    assert sorted(tmp_path.rglob("*.png")) == files  # nothing is deleted


def test_near_ones_join_the_largest_then_oldest_and_do_not_chain(tmp_path: Path) -> None:
    small = touched(picture(tmp_path / "small.png", 0, (4, 4)), 100)
    large = touched(picture(tmp_path / "large.png", 1, (40, 30)), 900)
    old = touched(picture(tmp_path / "old.png", 2, (8, 6)), 200)
    new = touched(picture(tmp_path / "new.png", 3, (8, 6)), 300)
    far = touched(picture(tmp_path / "far.png", 4), 100)
    copy = touched(Path(shutil.copy(old, tmp_path / "copy.png")), 250)
    names = [str(path) for path in (small, new, large, old, far, copy)]
    index = index_of(tmp_path / "index", names, towards(0, 40, 8, 30, 90, 30))
    found = vs.duplicates(index, threshold=float(np.cos(np.radians(11))))
    assert named(found) == [["old.png", "copy.png", "new.png"], ["large.png", "small.png"]]
    first, second = found.groups
    assert [one.exact for one in first.members] == [True, True, False]
    assert second.others[0].score == pytest.approx(np.cos(np.radians(8)), abs=1e-3)
    assert second.keep.pixels == (40, 30) and second.keep.path == str(large)
    assert (found.copies, found.model, found.count) == (1, "model-a", 6)
    # 'large' is near 'small'; at 23 degrees 'old' and 'new' join it too, and 'far' none
    wide = vs.duplicates(tmp_path / "index", threshold=float(np.cos(np.radians(33))))
    assert named(wide) == [["large.png", "small.png", "old.png", "copy.png", "new.png"]]
    assert [round(one.score, 2) for one in wide.groups[0].members] == [1.0, 0.99, 0.93, 0.93, 0.85]


def test_a_file_that_is_given_in_several_ways_is_no_duplicate_of_itself(tmp_path: Path) -> None:
    picture(tmp_path / "photos/a.png", 0)
    picture(tmp_path / "photos/b.png", 1)
    os.link(tmp_path / "photos/a.png", tmp_path / "photos/hard.png")
    (tmp_path / "photos/soft.png").symlink_to("a.png")
    told: list[str] = []
    found = vs.duplicates([tmp_path / "photos", tmp_path / "photos/b.png"], tell=told.append)
    assert found.groups == () and found.count == 2
    assert told == ["3 files were given again, or are links to one that is there: each file counts once"]


def test_an_index_and_a_folder_are_compared_with_each_other(tmp_path: Path) -> None:
    names = [str(picture(tmp_path / f"old/{seed}.png", seed)) for seed in range(3)]
    index_of(tmp_path / "index", names, towards(0, 45, 90))
    touched(picture(tmp_path / "new/9.png", 9), 100)
    shutil.copy(names[1], tmp_path / "new/same.png")
    with pytest.raises(InputError, match=r"the model of the index: .*model-a.* \(or give its place with `model`\)"):
        vs.duplicates([tmp_path / "index", tmp_path / "new"])
    encoder = vs.Encoder(vs.Bundle.of(tiny_model(CONFIGS["vit-token"])), "torch")
    with pytest.raises(InputError, match="index was made by another model: by model-a"):
        vs.duplicates([tmp_path / "index", tmp_path / "new"], model=encoder)
    vs.write_index(encoder, names, tmp_path / "made")
    steps: list[tuple[str, int, int]] = []
    # The folder `old` is that of the index: its files are known, and need not be embedded again.
    places = [tmp_path / "new", tmp_path / "old", tmp_path / "made"]
    found = vs.duplicates(places, model=encoder, threshold=0.01, on_step=lambda *step: steps.append(step))
    assert [step for step in steps if step[0] == "embedding"] == [("embedding", 1, 2), ("embedding", 2, 2)]
    assert found.count == 5 and named(found)[0][0] == "9.png"  # the oldest
    vectors = encoder.images([tmp_path / "new/9.png", *names]).astype(np.float64)
    expected = {f"{at}.png": vectors[0] @ vectors[at + 1] for at in range(3)}
    expected["same.png"] = expected["1.png"]
    for one in found.groups[0].others:
        assert one.score == pytest.approx(expected[Path(one.name).name], abs=2e-3)  # float16


def test_images_that_are_embedded_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        picture(tmp_path / f"{seed}.png", seed, (20 + seed, 9))
    shutil.copy2(tmp_path / "1.png", tmp_path / "copy.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "2.png").read_bytes()[:80])
    read: list[str] = []

    def counted(path: str) -> Any:
        read.append(Path(path).name)
        return read_path(path)

    def again(*_: Any) -> None:
        raise AssertionError("a file is read again")

    monkeypatch.setattr(photo, "read_path", counted)
    for name in ("digest_of", "picture_header"):
        monkeypatch.setattr(sorting, name, again)
    encoder = vs.Encoder(vs.Bundle.of(tiny_model(CONFIGS["vit-token"])), "torch")
    found = vs.duplicates(tmp_path, model=encoder, threshold=1.0)
    assert sorted(read) == ["0.png", "1.png", "2.png", "copy.png", "cut.png"]
    assert named(found) == [["1.png", "copy.png"]] and [name for name, _ in found.unreadable] == [f"{tmp_path}/cut.png"]
    assert [(one.exact, one.pixels) for one in found.groups[0].members] == [(True, (21, 9))] * 2
    assert found.copied_bytes == (tmp_path / "1.png").stat().st_size


def test_what_is_gone_or_changed_is_left_out(tmp_path: Path) -> None:
    names = [str(picture(tmp_path / f"{seed}.png", seed)) for seed in range(5)]
    index_of(tmp_path / "index", names, towards(0, 0, 0, 0, 90))
    (tmp_path / "0.png").unlink()
    picture(tmp_path / "1.png", 77, (30, 30))
    told: list[str] = []
    found = vs.duplicates(tmp_path / "index", tell=told.append)
    assert named(found) == [["2.png", "3.png"]] and found.count == 3
    assert [line.partition("(")[0] for line in told] == [
        f"left out: 1 image of {tmp_path / 'index'} is gone ",
        f"left out: 1 image of {tmp_path / 'index'} changed since it was embedded ",
    ]
    for name in names:
        Path(name).unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"none of the 5 images of .* is where it was"):
        vs.duplicates(tmp_path / "index")


def test_copies_that_an_index_keeps_once_are_copies_unless_they_changed(tmp_path: Path) -> None:
    """As `embed --sync` writes them: one row, and the further files beside it."""
    encoder = vs.Encoder(vs.Bundle.of(tiny_model(CONFIGS["vit-token"])), "torch")
    first = picture(tmp_path / "photos/a.png", 0)
    picture(tmp_path / "photos/b.png", 1)
    vs.write_index(encoder, [str(first), str(tmp_path / "photos/b.png")], tmp_path / "index")
    lines, copies = [], []
    for name in ("c.png", "d.png"):
        copies.append(Path(shutil.copy2(first, tmp_path / "photos" / name)))
        lines.append(json.dumps({"id": str(copies[-1]), "seen": look_at(copies[-1])}) + "\n")
    place = tmp_path / "index" / copies_name(0)
    place.write_text("".join(lines))
    description = read_description(tmp_path / "index")
    files = {**description.parts[0].files, place.name: hashlib.sha256(place.read_bytes()).hexdigest()}
    part = description.parts[0].model_copy(update={"files": files})
    write_description(tmp_path / "index", description.model_copy(update={"parts": (part,)}))
    assert named(vs.duplicates(tmp_path / "index", threshold=1.0)) == [["a.png", "c.png", "d.png"]]
    picture(copies[1], 7)
    told: list[str] = []
    assert named(vs.duplicates(tmp_path / "index", threshold=1.0, tell=told.append)) == [["a.png", "c.png"]]
    assert "1 image of" in told[0] and "d.png" in told[0]


def test_pictures_that_are_in_no_file_are_compared_too(tmp_path: Path) -> None:
    encoder = vs.Encoder(vs.Bundle.of(tiny_model(CONFIGS["vit-token"])), "torch")
    one, other = pictures(2)
    found = vs.duplicates(vs.write_index(encoder, [one, other, one], tmp_path / "index"), threshold=1.0)
    (group,) = found.groups
    assert [one.name.partition(" (")[0] for one in group.members] == ["image 0", "image 2"]


def test_a_threshold_that_many_pairs_reach_is_doubted(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    names = [f"text {at}" for at in range(120)]
    for spread, threshold, told in (
        (0.4, 0.97, ""),
        (
            0.4,
            0.6,
            r"\d\d.\d% of all pairs of texts have a cosine of at least 0.6 .* \(0.9\d* leaves 0.1%\)",
        ),
        (0.01, 0.97, r"100.0% of all pairs of texts .* look at a sheet$"),
    ):
        vectors = np.eye(1, 8) + spread * random.normal(size=(120, 8))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        remarks: list[str] = []
        index = index_of(tmp_path / f"{spread} {threshold}", names, vectors, kind="texts")
        found = vs.duplicates(index, threshold=threshold, tell=remarks.append)
        cosines = (vectors @ vectors.T)[np.triu_indices(120, 1)]
        assert found.random_pairs == pytest.approx(float(np.mean(cosines >= threshold)), abs=0.02)
        assert len(remarks) == bool(told) and all(re.search(told, one) for one in remarks), remarks
    few = index_of(tmp_path / "few", names[:49], vectors[:49], kind="texts")
    assert vs.duplicates(few).random_pairs is None


def test_near_texts_of_an_index_of_texts(tmp_path: Path) -> None:
    texts = ["a cat", "two dogs", "a cat", "the cat"]
    found = vs.duplicates(index_of(tmp_path / "index", texts, towards(0, 90, 0, 10), kind="texts"))
    (group,) = found.groups
    assert [(one.name, one.exact) for one in group.members] == [("a cat", True), ("a cat", True), ("the cat", False)]
    assert found.kind == "texts"


def test_unreadable_files_are_reported_and_too_many_refused(tmp_path: Path) -> None:
    for seed in range(3):
        picture(tmp_path / f"{seed}.png", seed)
    (tmp_path / "empty.png").touch()
    places = [tmp_path, tmp_path / "missing.png"]
    found = vs.duplicates(places)
    assert [Path(name).name for name, _ in found.unreadable] == ["empty.png", "missing.png"]
    assert [reason.partition(": ")[2] for _, reason in found.unreadable] == [
        "is empty (0 bytes); replace the image",
        "no such file",
    ]
    assert vs.duplicates(places, skip_unreadable=0.4).count == 3
    with pytest.raises(DatasetError, match=r"2 of 5 images cannot be read, and `skip_unreadable` 0.2 allows 1"):
        vs.duplicates(places, skip_unreadable=0.2)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    names = [str(picture(tmp_path / f"{seed}.png", seed)) for seed in range(2)]
    images = index_of(tmp_path / "images", names, towards(0, 45))
    texts = index_of(tmp_path / "texts", ["a cat"], towards(0), kind="texts")
    other = index_of(tmp_path / "other", names, towards(0, 45), identity="b")
    (tmp_path / "nothing").mkdir()
    (tmp_path / "vectors.npz").touch()
    for places, words in (
        ([images, texts], "is of images and .* of texts: give one kind"),
        ([images, other], "other was made by another model: by model-b"),
        ([texts, names[0]], "texts cannot be compared with images"),
        ([tmp_path / "nothing"], "no images in this folder, and no index"),
        ([names[0]], "duplicates need at least two images, and 1 can be read: give more"),
        ([], "give an index, an image folder or image files"),
        ([tmp_path / "vectors.npz"], "holds vectors without their files: give the index folder"),
    ):
        with pytest.raises(InputError, match=words):
            vs.duplicates(places)
    for threshold in (0, 1.5, True, "0.9", float("nan")):
        with pytest.raises(InputError, match="`threshold` must be a cosine above 0"):
            vs.duplicates(images, threshold=threshold)  # type: ignore[arg-type]


def test_vectors_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    names = [str(picture(tmp_path / f"{seed}.png", seed)) for seed in range(3)]
    index_of(tmp_path / "index", names, towards(0, 10, 20))
    for factor in (np.nan, np.inf, 2, 0):
        vectors = towards(0, 10, 20)
        vectors[1, :2] *= factor
        np.save(tmp_path / "index" / "part-000000.npy", vectors.astype(np.float16))
        with pytest.raises(InputError, match=r"part-000000\.npy is damaged \(row 1 is not a unit vector\)"):
            vs.duplicates(vs.open_index(tmp_path / "index", verify=False))
        with pytest.raises(InputError, match=r"part-000000\.npy is damaged \(its SHA-256 differs\)"):
            vs.duplicates(tmp_path / "index")

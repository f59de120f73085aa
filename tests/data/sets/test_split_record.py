"""A bundle knows which images it was trained on and which were held out: by what is in them, and without harm."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import VIT, pictures, tiny_model
from tests.training.small_runs import FIELDS, coloured, logged, write_folder
from vitsmith import Bundle, load, save
from vitsmith.data.sets.datasets import open_dataset, open_labelled
from vitsmith.data.sets.samples import Lazy, Samples, Splits
from vitsmith.data.sets.split_record import (
    SPLIT,
    SplitRecord,
    digest_of,
    distinct,
    read_contents,
    read_split,
    write_split,
)
from vitsmith.errors import BundleError, InputError
from vitsmith.runs.run import Run
from vitsmith.training.devices import Devices
from vitsmith.training.images.run import Trained, train_to_bundle
from vitsmith.training.recipes.file import parse_recipe
from vitsmith.training.split import record_split

SALT = bytes(range(16))


def record() -> SplitRecord:
    train, held_out, test, earlier = (np.array(values, np.uint64) for values in ([1, 2**64 - 1], [7], [], [3, 4]))
    return SplitRecord(SALT, train, held_out, test, earlier)


def same(one: SplitRecord | None, other: SplitRecord) -> bool:
    assert one is not None
    names = [field.name for field in dataclasses.fields(SplitRecord)]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = Bundle.of(tiny_model(VIT)).with_golden(pictures(1)).with_split(record())
    save(made, tmp_path / "model")
    return tmp_path / "model"


# --- digests ---------------------------------------------------------------------------------------------------------


def test_a_file_and_its_bytes_have_one_digest_whatever_the_name(tmp_path: Path) -> None:
    Image.fromarray(coloured(1).image(0)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "other.jpg").write_bytes(data)
    expected = int.from_bytes(hashlib.blake2b(data, digest_size=8, key=SALT, person=b"file").digest(), "little")
    for source in (tmp_path / "a.png", str(tmp_path / "moved" / "other.jpg"), data):
        assert digest_of(source, SALT) == expected
    assert digest_of(data + b"\0", SALT) != expected
    assert digest_of(data, SALT[::-1]) != expected


def test_pixels_are_told_apart_by_value_shape_and_kind() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert digest_of(pixels, SALT) == digest_of(np.asfortranarray(pixels), SALT)
    others = (pixels + 1, pixels.reshape(4, 1, 3), pixels.astype(np.int8), pixels.tobytes())
    digests = {int(digest_of(other, SALT)) for other in (pixels, *others)}
    assert len(digests) == 5


def test_the_same_digests_from_a_folder_a_table_and_shards(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "colours", 12)
    files = sorted(folder.rglob("*.png"))
    rows = [f"{file.relative_to(tmp_path).as_posix()},{file.parent.name}\n" for file in files]
    (tmp_path / "table.csv").write_text("path,label\n" + "".join(rows))
    with tarfile.open(tmp_path / "colours.tar", "w") as tar:
        for file in files:
            (tmp_path / "label.cls").write_text(file.parent.name)
            tar.add(file, file.name)
            tar.add(tmp_path / "label.cls", f"{file.stem}.cls")
    found = [
        distinct(read_contents(open_labelled(str(tmp_path / name))[0], SALT)).tolist()
        for name in ("colours", "table.csv", "colours.tar")
    ]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 12
    expected = sorted(int(digest_of(file, SALT)) for file in files)
    assert found[0] == expected


def test_parts_of_a_reading_give_the_whole_and_progress_counts_every_image() -> None:
    samples = coloured(50)
    done: list[int] = []
    whole = read_contents(samples, SALT, on_images=done.append)
    parts = [read_contents(samples, SALT, part=part, parts=3) for part in range(3)]
    assert np.concatenate([one.digests for one in parts]).tolist() == whole.digests.tolist()
    assert sum(done) == 50
    assert whole.readable.all()
    assert len(distinct(whole)) == 50


def test_images_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "colours", 6)
    samples, _ = open_labelled(str(folder))
    Path(samples.sources[2]).unlink()  # type: ignore[arg-type]
    contents = read_contents(samples, SALT)
    assert contents.readable.tolist() == [True, True, False, True, True, True]
    assert len(distinct(contents)) == 5


def test_a_reading_that_is_interrupted_reads_no_further() -> None:
    read: list[int] = []

    def take(index: int) -> bytes:
        read.append(index)
        if index == 100:
            raise KeyboardInterrupt
        return b"%d" % index

    samples = Samples(("a",), Lazy(100_000, take), [""] * 100_000, np.zeros(100_000, np.int64))
    with pytest.raises(KeyboardInterrupt):
        read_contents(samples, SALT)
    assert len(read) < 10_000


# --- the file --------------------------------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_split(record(), tmp_path / SPLIT)
    assert same(read_split(tmp_path / SPLIT), record())
    part = dataclasses.replace(record(), complete=False)
    write_split(part, tmp_path / SPLIT)
    assert not read_split(tmp_path / SPLIT).complete


@pytest.mark.parametrize("at", [0, 1, 20, 200, -1, -40])
def test_a_changed_byte_is_refused_with_what_to_do(tmp_path: Path, at: int) -> None:
    write_split(record(), tmp_path / SPLIT)
    data = bytearray((tmp_path / SPLIT).read_bytes())
    data[at] ^= 4
    (tmp_path / SPLIT).write_bytes(data)
    with pytest.raises(BundleError, match=r"split\.safetensors is damaged .* or delete it: the model works without"):
        read_split(tmp_path / SPLIT)


def test_what_is_no_record_is_refused_in_one_line(tmp_path: Path) -> None:
    place = tmp_path / SPLIT
    for data in (b"", b"<html>", b"\xff" * 8 + b"{}", b"version https://git-lfs.github.com/spec/v1\n"):
        place.write_bytes(data)
        with pytest.raises(BundleError, match="is damaged") as told:
            read_split(place)
        assert "\n" not in str(told.value)
    place.unlink()
    place.mkdir()
    with pytest.raises(BundleError, match="it is a folder"):
        read_split(place)


# --- in a bundle -----------------------------------------------------------------------------------------------------


def test_a_bundle_keeps_its_record_in_a_file_of_its_own(folder: Path) -> None:
    assert (folder / SPLIT).is_file()
    assert SPLIT not in json.loads((folder / "bundle.json").read_text())["files"]
    bundle = load(folder)
    assert same(bundle.split, record())
    save(bundle, folder.with_name("copy"))
    assert same(load(folder.with_name("copy")).split, record())
    save(bundle.with_split(None), folder.with_name("without"))
    assert not (folder.with_name("without") / SPLIT).exists()
    assert load(folder.with_name("without")).split is None


def test_it_may_be_deleted_before_or_after_the_bundle_is_opened(folder: Path) -> None:
    bundle = load(folder)
    (folder / SPLIT).unlink()
    assert bundle.split is None
    assert load(folder).split is None
    assert load(folder).weights_hash == bundle.weights_hash


def test_a_damaged_record_hinders_nobody_who_does_not_need_it(folder: Path) -> None:
    (folder / SPLIT).write_bytes(b"damaged")
    bundle = load(folder)
    assert bundle.run_torch(np.zeros((1, 3, 16, 24), np.float32)).shape == (1, 5)
    with pytest.raises(BundleError, match="delete it"):
        _ = bundle.split
    with pytest.raises(BundleError, match="delete it"):
        save(bundle, folder.with_name("copy"))
    assert not folder.with_name("copy").exists()
    save(bundle.with_split(None), folder.with_name("copy"))


def test_a_bundle_of_which_nothing_is_known_has_no_such_file(tmp_path: Path) -> None:
    save(tiny_model(VIT), tmp_path / "model")
    assert not (tmp_path / "model" / SPLIT).exists()
    assert load(tmp_path / "model").split is None


def test_the_file_can_be_read_by_whoever_reads_the_bundle(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        save(Bundle.of(tiny_model(VIT)).with_split(record()), tmp_path / "model")
    finally:
        os.umask(mask)
    assert (tmp_path / "model" / SPLIT).stat().st_mode & 0o777 == 0o644


def test_records_need_no_torch(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from vitsmith.data.sets.split_record import read_split, read_contents; "
        f"read_split(Path({str(folder / SPLIT)!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_child_begins_with_what_its_parent_learned() -> None:
    parent = record()
    child = parent.as_parent()
    assert child.earlier.tolist() == [1, 3, 4, 2**64 - 1]
    assert child.salt == parent.salt
    assert not len(child.train) and not len(child.held_out)
    grown = child.adding(train=np.array([9, 8], np.uint64), held_out=np.array([5], np.uint64))
    assert grown.train.tolist() == [8, 9]
    assert grown.held_out.tolist() == [5]
    assert SplitRecord.empty().salt != SplitRecord.empty().salt
    assert "2 trained on, 1 held out; 2 trained on by the model it began from" in str(parent)


# --- written by training ---------------------------------------------------------------------------------------------


def folder_splits(folder: Path) -> Splits:
    return open_dataset(str(folder), seed=0, val_fraction=0.25)


def trained_on(folder: Path, place: Path, **changes: dict[str, Any]) -> Trained:
    data = {"path": str(folder), "val_fraction": 0.25}
    wanted = parse_recipe(FIELDS | {"data": data, "schedule": {"steps": 2, "warmup": 1}} | changes)
    with Run("train", "colours", place) as run:
        return train_to_bundle(wanted, open_dataset(wanted.data, seed=wanted.run.seed), run)


def files_of(samples: Samples, salt: bytes) -> set[int]:
    return {int(digest_of(Path(str(source)).read_bytes(), salt)) for source in samples.sources}


def test_a_run_records_what_it_learned_from_and_was_judged_by(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "colours", 24)
    trained = trained_on(folder, tmp_path / "run")
    found = load(tmp_path / "run" / "model").split
    assert found is not None and same(trained.bundle.split, found)
    splits = folder_splits(folder)
    assert set(found.train.tolist()) == files_of(splits.train, found.salt)
    assert set(found.held_out.tolist()) == files_of(splits.val, found.salt)
    assert (len(found.train), len(found.held_out), len(found.test), len(found.earlier)) == (18, 6, 0, 0)
    assert not (tmp_path / "run" / SPLIT).exists()
    assert trained.result.warnings == ()


def test_test_images_are_recorded_by_themselves(tmp_path: Path) -> None:
    for part, count in (("train", 12), ("val", 6), ("test", 3)):
        write_folder(tmp_path / "colours" / part, count)
        for file in (tmp_path / "colours" / part).rglob("*.png"):
            file.write_bytes(file.read_bytes() + part.encode())  # other bytes, the same picture
    found = trained_on(tmp_path / "colours", tmp_path / "run").bundle.split
    assert found is not None
    assert (len(found.train), len(found.held_out), len(found.test)) == (12, 6, 3)


def test_copies_across_the_split_are_told_and_logged(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "colours", 24)
    splits = folder_splits(folder)
    copied = Path(str(splits.val.sources[0]))
    copied.write_bytes(Path(str(splits.train.sources[0])).read_bytes())
    trained = trained_on(folder, tmp_path / "run")
    (warned,) = trained.result.warnings
    assert warned.message.startswith("1 of the 6 held-out images are training images too")
    assert logged(tmp_path / "run", "warning", "message") == [warned.message]
    found = trained.bundle.split
    assert found is not None
    assert len(np.intersect1d(found.train, found.held_out)) == 1
    assert warned.message in trained.bundle.provenance.notes  # it stands beside the score wherever that is shown


def test_a_file_that_cannot_be_read_is_in_no_record(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "colours", 24)
    splits = folder_splits(folder)
    Path(str(splits.train.sources[0])).unlink()
    recorded = record_split(
        {"train": splits.train, "held_out": splits.val}, [""], None, Devices(torch.device("cpu")), print
    )
    assert (len(recorded.record.train), len(recorded.record.held_out)) == (17, 6)


def test_what_the_checkpoint_learned_counts_too(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "colours", 24)
    parent = trained_on(folder, tmp_path / "parent").bundle
    model = {"init": str(parent.folder), "image_size": 16}
    again = trained_on(folder, tmp_path / "again", model=model, run={"baseline": False})
    assert again.result.warnings == ()  # the same seed: the same images are held out
    other = trained_on(folder, tmp_path / "other", model=model, run={"baseline": False, "seed": 5})
    assert parent.split is not None and other.bundle.split is not None
    assert other.bundle.split.earlier.tolist() == parent.split.train.tolist()
    leaked = len(np.intersect1d(other.bundle.split.held_out, parent.split.train))
    assert leaked > 0
    (warned,) = other.result.warnings
    assert warned.message.startswith(f"{leaked} of the 6 held-out images are among those that {parent.folder}")


def test_a_checkpoint_that_was_trained_on_nobody_knows_what_is_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "colours", 24)
    parent = trained_on(folder, tmp_path / "parent").bundle
    assert parent.folder is not None
    (parent.folder / SPLIT).unlink()
    told: list[str] = []
    splits = folder_splits(folder)
    parts = {"train": splits.train, "held_out": splits.val}
    recorded = record_split(parts, [str(parent.folder)], None, Devices(torch.device("cpu")), told.append)
    assert told == [f"{parent.folder} does not record its training images: held-out images may be among them"]
    assert not recorded.record.complete


def test_a_run_that_goes_on_has_the_record_it_began_with(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "colours", 24)
    splits = folder_splits(folder)
    parts = {"train": splits.train, "held_out": splits.val}
    devices = Devices(torch.device("cpu"))
    with Run("train", "colours", tmp_path / "run") as run:
        first = record_split(parts, [""], run, devices, print).record
        Path(str(splits.train.sources[0])).write_bytes(b"another picture by now")
        assert same(record_split(parts, [""], run, devices, print, resumed=True).record, first)
        (run.folder / SPLIT).write_bytes(b"damaged")
        anew = record_split(parts, [""], run, devices, print, resumed=True).record
    assert anew.salt != first.salt
    assert len(anew.train) == 18


def test_a_run_that_is_refused_leaves_no_folder_for_its_record(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "colours", 24)
    splits = folder_splits(folder)
    with pytest.raises(InputError, match="refused"), Run("train", "colours", tmp_path / "run") as run:
        parts = {"train": splits.train, "held_out": splits.val}
        record_split(parts, [""], run, Devices(torch.device("cpu")), print)
        assert (run.folder / SPLIT).exists()
        raise InputError("refused before the first update")
    assert not (tmp_path / "run").exists()


class Together(Devices):
    """Processes that are threads of this one."""

    def gather(self, value: Any) -> list[Any]:
        GATHERED[self.index] = value
        MEET.wait()
        found = list(GATHERED)
        MEET.wait()
        return found


GATHERED: list[Any] = [None, None]
MEET = threading.Barrier(2, timeout=60)


def test_processes_share_the_reading_and_have_one_record(tmp_path: Path) -> None:
    splits = folder_splits(write_folder(tmp_path / "colours", 24))
    parts = {"train": splits.train, "held_out": splits.val}

    def read(index: int) -> SplitRecord:
        return record_split(parts, [""], None, Together(torch.device("cpu"), index, 2), print).record

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(read, range(2))
    assert same(one, other)
    assert set(one.train.tolist()) == files_of(splits.train, one.salt)
    assert set(one.held_out.tolist()) == files_of(splits.val, one.salt)


def test_what_a_teacher_was_trained_on_is_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "colours", 24)
    teacher = trained_on(folder, tmp_path / "teacher").bundle
    assert teacher.folder is not None
    taught = {"distill": {"teacher": str(teacher.folder)}, "model": {"init": str(teacher.folder), "image_size": 16}}
    again = trained_on(folder, tmp_path / "again", **taught, run={"baseline": False})
    assert again.result.warnings == ()  # the same seed: the teacher held out the same images
    alone = {"distill": {"teacher": str(teacher.folder)}}
    other = trained_on(folder, tmp_path / "other", **alone, run={"baseline": False, "seed": 5})
    assert other.bundle.split is not None
    assert not len(other.bundle.split.earlier)  # the student itself has not seen them
    (warned,) = other.result.warnings
    assert f"held-out images are among those that the teacher {teacher.folder} was trained on" in warned.message
    assert warned.message in other.bundle.provenance.notes
    (teacher.folder / SPLIT).unlink()
    told: list[str] = []
    splits = folder_splits(folder)
    parts = {"train": splits.train, "held_out": splits.val}
    record_split(parts, [""], None, Devices(torch.device("cpu")), told.append, teacher=str(teacher.folder))
    assert told == [
        f"the teacher {teacher.folder} does not record its training images: held-out images may be among them"
    ]

"""An index that follows its photos: what changed is embedded, what is gone is removed, and readers see old or new."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import vitsmith as vs
import vitsmith.data.images.photo as photo_file
import vitsmith.data.images.sources as sources_file
import vitsmith.retrieval.part as part_file
from tests import ROOT
from tests.command_line import call
from tests.retrieval.indexes import SPACE, WIDTH
from tests.tiny import pictures, tiny_lit
from vitsmith.data.images.sources import read_bytes
from vitsmith.errors import ImageError, InputError, OutputError
from vitsmith.retrieval.build import build_index
from vitsmith.retrieval.folder import check_only_index, remove_index
from vitsmith.retrieval.index import Index, open_index
from vitsmith.retrieval.part_files import PartReader
from vitsmith.retrieval.search import search
from vitsmith.retrieval.sync.options import ColumnChange, IndexOptions, Synced
from vitsmith.retrieval.sync.parts import TOGETHER
from vitsmith.retrieval.sync.plan import HeldContents, plan
from vitsmith.retrieval.sync.run import sync_index
from vitsmith.retrieval.writer import IndexWriter
from vitsmith.stream import Failure


def vector_of(data: bytes) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
    vector = np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)
    return vector / np.linalg.norm(vector)


class Reading:
    """An encoder whose vectors are functions of the bytes it reads; those that begin with 'bad' cannot be read."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def stream(self, images: Iterable[Any]) -> Iterator[tuple[str, np.ndarray] | Failure]:
        for image in images:
            name = os.fspath(image)
            self.read.append(os.path.basename(name))  # noqa: PTH119
            try:
                data = read_bytes(image)
            except ImageError as error:
                yield Failure(name, f"{name}: {error}")
                continue
            yield Failure(name, f"{name}: no image") if data.startswith(b"bad") else (name, vector_of(data))


def listed(*folders: str) -> list[str]:
    return sorted(str(path) for folder in folders or ("photos",) for path in Path(folder).rglob("*.jpg"))


def sync(
    names: list[str] | None = None,
    *,
    encoder: Any = None,
    out: str = "index",
    part_rows: int = 3,
    columns: Any = None,
    **how: Any,
) -> tuple[Index, Synced]:
    names = listed() if names is None else names
    with IndexWriter(Path(out), SPACE, sync=True, part_rows=part_rows) as writer:
        index, synced = sync_index(encoder or Reading(), names, writer, IndexOptions(**how), columns)
    check(index)
    return index, synced


def check(index: Index) -> None:
    """Every row has the vector of the file that its id leads to, and so has every copy."""
    names = index.ids(range(len(index)))
    for name, copies, vector in zip(names, index.copies(range(len(index))), index.rows(range(len(index))), strict=True):
        for one in (name, *copies):
            expected = vector_of(index.path_of(one).read_bytes()).astype(np.float16)
            np.testing.assert_array_equal(vector, expected, err_msg=one)
    open_index(index.folder).check_hashes()
    parts = {name for part in index.description.parts for name in part.files}
    assert {path.name for path in index.folder.iterdir()} - {".lock"} == parts | {"index.json"}
    assert index.description.complete and index.description.inputs - index.description.failures == len(index)


def tree(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.name != ".lock"}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight files in two folders, one that cannot be read, and states that count however new a file is."""
    monkeypatch.setattr(photo_file, "FRESH", 0)
    monkeypatch.chdir(tmp_path)
    Path("photos/b").mkdir(parents=True)
    for number in range(7):
        Path("photos", "b" if number > 3 else "", f"{number}.jpg").write_bytes(f"photo {number}".encode())
    Path("photos/broken.jpg").write_bytes(b"bad")
    return tmp_path / "photos"


# --- what changed is followed -----------------------------------------------------------------------------------------


def test_added_changed_removed_moved_and_copied_files(photos: Path) -> None:
    sync()
    Path("photos/0.jpg").unlink()
    Path("photos/1.jpg").write_bytes(b"another photo")
    Path("photos/2.jpg").rename("photos/b/22.jpg")
    Path("photos/new.jpg").write_bytes(b"a new photo")
    shutil.copy("photos/3.jpg", "photos/33.jpg")
    encoder = Reading()
    index, synced = sync(encoder=encoder)
    assert sorted(encoder.read) == ["1.jpg", "new.jpg"]
    assert synced.counts == {
        "added": 2, "changed": 1, "removed": 1, "moved": 1, "copies": 1, "unchanged": 4, "unreadable": 1, "embedded": 2,
    }  # fmt: skip
    assert [Path(name).name for name in synced.removed_names] == ["0.jpg"]
    kept = ["photos/b/22.jpg", "photos/3.jpg", "photos/b/4.jpg", "photos/b/5.jpg", "photos/b/6.jpg"]
    assert index.ids(range(7)) == [*kept, "photos/1.jpg", "photos/new.jpg"]  # their order, and new ones after them
    assert index.copies([1]) == [["photos/33.jpg"]] and [one["id"] for one in index.failed()] == ["photos/broken.jpg"]


def test_what_did_not_change_is_neither_read_nor_written(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync()
    before = tree("index")
    monkeypatch.setattr(sources_file, "read_with_state", lambda path, **_: pytest.fail(f"{path} was opened"))
    encoder = Reading()
    _, synced = sync(encoder=encoder)
    assert encoder.read == [] and (synced.unchanged, synced.unreadable) == (7, 1) and tree("index") == before


def test_small_parts_of_many_syncs_become_one(photos: Path) -> None:
    sync(part_rows=100)
    sizes = []
    for night in range(20):
        Path(f"photos/c{night}.jpg").write_bytes(f"night {night}".encode())
        shutil.copy(f"photos/c{night}.jpg", f"photos/c{night}-copy.jpg")
        Path(f"photos/d{night}.jpg").write_bytes(f"bad {night}".encode())
        index, synced = sync(part_rows=100)
        assert (synced.added, synced.embedded, synced.copies) == (2, 1, night + 1)
        sizes.append(len(index.description.parts))
    assert max(sizes) == TOGETHER - 1 and min(sizes) == 1
    assert [Path(name).name for name in index.ids(range(7, 27))] == [f"c{night}-copy.jpg" for night in range(20)]
    assert index.column("bytes")[7:] == [len(f"night {night}") for night in range(20)]
    assert [Path(one["id"]).name for one in index.failed()] == ["broken.jpg", *(f"d{night}.jpg" for night in range(20))]
    assert index.description.failures == 21


def test_a_file_that_was_only_touched_keeps_its_vector(photos: Path) -> None:
    sync()
    os.utime("photos/1.jpg")
    Path("photos/2.jpg").chmod(0o600)
    encoder = Reading()
    index, synced = sync(encoder=encoder)
    assert encoder.read == [] and synced.unchanged == 7
    assert [part.number for part in index.description.parts][1:] == [None, None]  # only the part with them is new
    assert sync()[1].unchanged == 7


def test_an_index_made_without_sync_is_followed_and_its_doubles_become_copies(photos: Path) -> None:
    shutil.copy("photos/b/5.jpg", "photos/twice.jpg")
    with IndexWriter(Path("index"), SPACE, part_rows=3) as writer:
        build_index(Reading(), listed(), writer)  # type: ignore[arg-type]
    assert len(open_index("index")) == 8
    encoder = Reading()
    index, synced = sync(encoder=encoder)
    assert encoder.read == [] and (len(index), synced.copies, synced.unchanged) == (7, 1, 8)
    Path("photos/b/5.jpg").unlink()  # a copy takes its place
    index, synced = sync(encoder=encoder)
    assert encoder.read == [] and "photos/twice.jpg" in index.ids(range(7)) and synced.removed == 1
    assert synced.copies == 0 and index.copies(range(7)) == [[]] * 7


def test_what_cannot_be_read_is_tried_when_it_changed_or_is_asked_for(photos: Path) -> None:
    sync()
    encoder = Reading()
    assert sync(encoder=encoder)[1].unreadable == 1 and encoder.read == []
    assert sync(encoder=encoder, retry=True)[1].unreadable == 1 and encoder.read == ["broken.jpg"]
    Path("photos/broken.jpg").write_bytes(b"repaired")
    index, synced = sync()
    assert (synced.added, synced.unreadable, index.description.failures) == (1, 0, 0)
    for name in ("x", "y", "z"):
        Path(f"photos/{name}.jpg").write_bytes(b"bad and the same")
    index, synced = sync()
    assert synced.unreadable == 3 and {one["id"][7] for one in index.failed()} == {"x", "y", "z"}
    Path("photos/0.jpg").write_bytes(b"bad now")
    index, synced = sync()
    assert synced.unreadable == 4 and "photos/0.jpg" not in index.ids(range(len(index)))


def test_a_photo_that_is_replaced_during_the_pass_gets_the_vector_of_what_was_read(photos: Path) -> None:
    shutil.copy("photos/3.jpg", "photos/33.jpg")

    class Replacing(Reading):
        def stream(self, images: Iterable[Any]) -> Iterator[tuple[str, np.ndarray] | Failure]:
            if not self.read:
                Path("photos/3.jpg").write_bytes(b"replaced after it was compared with its copy")
            yield from super().stream(images)

    index, synced = sync(encoder=Replacing())
    assert {"photos/3.jpg", "photos/33.jpg"} <= set(index.ids(range(len(index)))) and synced.copies == 0


def test_names_of_any_kind(photos: Path) -> None:
    odd = [os.fsdecode(b"photos/\xff.jpg"), "photos/猫.jpg", "photos/two\nlines.jpg"]
    for number, name in enumerate(odd):
        Path(name).write_bytes(b"odd" * (number + 1))
    Path("photos/link.jpg").symlink_to("0.jpg")
    Path("photos/nowhere.jpg").symlink_to("none")
    index, synced = sync()
    assert set(odd) <= set(index.ids(range(len(index)))) and synced.unreadable == 2
    assert synced.copies == 1  # the link and its target have one content


def test_rows_whose_files_an_older_index_did_not_record_are_made_again(photos: Path) -> None:
    names = [name for name in listed() if "broken" not in name]
    with IndexWriter(Path("older"), SPACE) as writer:
        for name in names:
            writer.add((name, vector_of(Path(name).read_bytes())))
        writer.finish()
    Path("photos/other").write_bytes(b"an older photo")
    os.utime("photos/other", (1e9, 1e9))
    Path("photos/other").replace("photos/2.jpg")  # its time is older than the index
    shutil.copytree("older", "index", copy_function=shutil.copyfile)
    encoder = Reading()
    _, synced = sync(names, encoder=encoder)  # `check` compares the vectors
    assert (synced.changed, synced.embedded, len(encoder.read)) == (7, 7, 7)


def test_two_points_after_a_link_lead_to_the_folder_of_its_target(photos: Path) -> None:
    Path("elsewhere/inner").mkdir(parents=True)
    Path("link").symlink_to("elsewhere/inner")
    Path("elsewhere/x.jpg").write_bytes(b"the right one")
    Path("x.jpg").write_bytes(b"another one")
    index, _ = sync(["link/../x.jpg", "x.jpg"])
    assert index.ids([0, 1]) == ["link/../x.jpg", "x.jpg"]
    assert sync(["link/../x.jpg", "photos/../x.jpg"])[1].unchanged == 2


def rated(names: list[str], index: Index) -> dict[str, Any]:
    """The ratings by id, where the rows have the ids `names` in any order."""
    found = dict(zip(index.ids(range(len(index))), index.column("rating"), strict=True))
    assert sorted(found) == sorted(names)
    return found


def test_files_with_one_content_and_other_columns_have_a_row_each(photos: Path) -> None:
    names = ["photos/0.jpg", "photos/1.jpg", "photos/z.jpg"]
    shutil.copy("photos/0.jpg", "photos/z.jpg")
    index, synced = sync(names, columns=[{"rating": 1}, {"rating": 1}, {"rating": 1}])
    assert (len(index), synced.copies) == (2, 1)
    index, synced = sync(names, columns=[{"rating": 1}, {"rating": 2}, {"rating": 3}])
    assert rated(names, index) == {"photos/0.jpg": 1, "photos/1.jpg": 2, "photos/z.jpg": 3}
    assert (synced.embedded, synced.copies, synced.unchanged) == (1, 0, 3)
    before = tree("index")
    assert sync(names)[1].unchanged == 3 and tree("index") == before
    Path("photos/0.jpg").write_bytes(b"edited")  # keeps what is known of it, and takes nothing of its double
    shutil.copy("photos/1.jpg", "photos/y.jpg")
    index, synced = sync([*names, "photos/y.jpg"])
    known = {"photos/0.jpg": 1, "photos/1.jpg": 2, "photos/z.jpg": 3, "photos/y.jpg": None}
    assert rated([*names, "photos/y.jpg"], index) == known and (synced.changed, synced.added) == (1, 1)
    Path("photos/1.jpg").unlink()
    Path("photos/z.jpg").rename("photos/x.jpg")
    index, synced = sync(["photos/0.jpg", "photos/y.jpg", "photos/x.jpg"])
    assert rated(["photos/0.jpg", "photos/y.jpg", "photos/x.jpg"], index)["photos/y.jpg"] is None
    assert index.column("rating").count(3) == 1 and (synced.moved, synced.removed, synced.embedded) == (1, 1, 0)
    index, synced = sync(["photos/0.jpg", "photos/x.jpg"], drop_others=True, columns=[{"rating": 5}, {"rating": 5}])
    assert rated(["photos/0.jpg", "photos/x.jpg"], index) == {"photos/0.jpg": 5, "photos/x.jpg": 5}
    shutil.copy("photos/0.jpg", "photos/w.jpg")
    Path("photos/0.jpg").write_bytes(b"edited again")  # another file has its content now
    index, _ = sync(["photos/0.jpg", "photos/x.jpg", "photos/w.jpg"])
    assert rated(["photos/0.jpg", "photos/x.jpg", "photos/w.jpg"], index)["photos/w.jpg"] is None
    assert index.column("rating").count(5) == 2
    with pytest.raises(InputError, match=r"'photos/0.jpg' is given twice, with other columns"):
        sync(["photos/0.jpg", "photos/0.jpg"], columns=[{"rating": 1}, {"rating": 2}])


def test_a_file_that_lost_its_permissions_keeps_its_vector_and_is_named_each_time(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync()
    real = sources_file.read_with_state

    def forbidden(path: str, **how: Any) -> Any:
        if path.endswith("0.jpg"):
            raise PermissionError(13, "Permission denied")
        return real(path, **how)

    with monkeypatch.context() as patch:
        patch.setattr(sources_file, "read_with_state", forbidden)
        Path("photos/0.jpg").chmod(0o200)
        for _ in range(2):
            index, synced = sync()
            ((name, why),) = synced.kept_unreadable
            assert name == "photos/0.jpg" and why.startswith("photos/0.jpg: cannot be read (Permission denied)")
            assert (synced.unchanged, synced.unreadable, len(index)) == (6, 2, 7)
        Path("photos/0.jpg").write_bytes(b"edited, and not to be read either")
        index, synced = sync()
        assert synced.kept_unreadable == () and (synced.unreadable, len(index)) == (2, 6)
    Path("photos/0.jpg").chmod(0o600)
    index, synced = sync()
    assert (synced.unreadable, len(index)) == (1, 7)


def test_what_becomes_of_columns_is_told(photos: Path) -> None:
    names = ["photos/0.jpg", "photos/1.jpg"]

    def rows(**columns: Any) -> Any:
        return [{name: values[at] for name, values in columns.items()} for at in range(2)]

    told: list[str] = []
    dates = ["2024-05-01", "2024-05-02"]
    _, synced = sync(names, columns=rows(rating=[1, 2], camera="AB", when=["old", "x"]), tell=told.append)
    assert synced.columns == ((), (), ()) and told == []
    _, synced = sync(names, columns=rows(rating=["1", "two"], lens="ab", when=dates), tell=told.append)
    assert synced.columns == (
        ("lens",), ("camera",), (ColumnChange("rating", "numbers", "texts"), ColumnChange("when", "texts", "dates")),
    )  # fmt: skip
    assert told == [
        "the columns of index have changed: 'rating' held numbers and holds texts now; 'when' held texts and holds "
        "dates now, so that conditions on it compare otherwise or are refused; gone: 'camera'; new: 'lens'"
    ]
    assert sync(names, tell=told.append)[1].columns == ((), (), ()) and len(told) == 1  # they are kept
    with pytest.warns(UserWarning, match=r"changed: 'rating' held texts and holds values of several kinds now"):
        sync(names, columns=rows(rating=["1", 2], lens="ab", when=dates))
    with pytest.warns(UserWarning, match=r"index have changed: gone: 'rating', 'when', 'lens'; new: 'other'$"):
        sync(names, columns=rows(other="ab"))
    assert sync(names, columns=[{}, {}])[0].column("other") == ["a", "b"]  # no columns were given


def test_columns_that_only_some_parts_have_stay_with_files_that_move(photos: Path) -> None:
    sync(listed()[:4], part_rows=2, columns=[{"tag": "a"}, {"tag": "b"}, {"x": 5}, {"x": 6}])
    [Path(f"photos/{at}.jpg").rename(f"photos/{at + 6}.jpg") for at in (2, 3)]
    index, _ = sync([f"photos/{at}.jpg" for at in (0, 1, 8, 9)], part_rows=2)
    assert (index.column("tag"), index.column("x")) == (["a", "b", None, None], [None, None, 5, 6])


def test_each_file_of_a_part_is_read_once(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy("photos/3.jpg", "photos/33.jpg")
    sync(columns=[{"rating": at} for at in range(9)])
    reads: list[str] = []
    real_made, real_columns = PartReader.made, part_file.read_columns

    def made(self: PartReader, folder: Path, name: str, *rest: Any, **how: Any) -> Any:
        reads.append(name)
        return real_made(self, folder, name, *rest, **how)

    def columns(folder: Path, name: str, *rest: Any) -> Any:
        reads.append(name)
        return real_columns(folder, name, *rest)

    monkeypatch.setattr(PartReader, "made", made)
    monkeypatch.setattr(part_file, "read_columns", columns)
    with IndexWriter(Path("index"), SPACE, sync=True, part_rows=3) as writer:
        Path("photos/1.jpg").write_bytes(b"another photo")
        Path("photos/new.jpg").write_bytes(b"a new photo")
        sync_index(Reading(), listed(), writer, IndexOptions())  # type: ignore[arg-type]
    assert len(reads) == len(set(reads)) > 9


# --- what is refused --------------------------------------------------------------------------------------------------


def test_files_that_are_still_there_are_not_removed_in_silence(photos: Path) -> None:
    sync()
    before = tree("index")
    with pytest.raises(InputError, match=r"5 files of index are still there, but not among the inputs .*drop_others"):
        sync(listed("photos/b"))
    assert tree("index") == before
    index, synced = sync(listed("photos/b"), drop_others=True)
    assert (len(index), synced.removed) == (3, 4)


def test_a_folder_that_vanished_does_not_empty_the_index(photos: Path) -> None:
    sync()
    before = tree("index")
    shutil.move("photos/b", "elsewhere")
    Path("photos/b").mkdir()  # as an unmounted disk leaves it
    with pytest.raises(InputError, match=r"photos/b' is empty, and index has 3 images from there: mount the disk"):
        sync()
    shutil.rmtree("photos")
    Path("others").mkdir()
    Path("others/x.jpg").write_bytes(b"x")
    for names in (["others/x.jpg"], []):
        with pytest.raises(InputError, match=r"nothing of the 7 images in index is among the inputs: check that"):
            sync(names)
    assert tree("index") == before


def test_a_folder_that_was_emptied_on_purpose_leaves_an_index_without_rows(photos: Path) -> None:
    with pytest.raises(InputError, match="there are no images among the inputs, so there is no index"):
        sync([], drop_others=True)
    assert not Path("index").exists()
    sync()
    before = tree("index")
    shutil.rmtree("photos/b")
    for file in photos.iterdir():
        file.unlink()
    with pytest.raises(InputError, match=r"photos' is empty, and index has 7 images .* or add `drop_others` to remove"):
        sync()
    assert tree("index") == before
    index, synced = sync(drop_others=True)
    assert (len(index), synced.removed, index.description.failures) == (0, 7, 0)
    assert search(index, vector_of(b"photo 3")[None], 3).positions.shape == (1, 0)
    assert sync()[1].counts == dict.fromkeys(synced.counts, 0)
    Path("photos/new.jpg").write_bytes(b"a new photo")
    assert sync()[1].added == 1


def test_a_folder_that_is_an_input_and_is_gone_does_not_take_its_images_along(photos: Path) -> None:
    """As where the place of a disk goes with it. The folder above may hold other things."""
    shutil.move("photos/b", "disk")
    names = [*listed(), *listed("disk")]
    sync(names)
    before = tree("index")
    shutil.move("disk", "elsewhere")
    with pytest.raises(InputError, match=r"disk' is not there, and index has 3 images from there: .* or leave it out"):
        sync([*listed(), "disk"])
    Path("disk").symlink_to("away")
    with pytest.raises(InputError, match=r"disk' is not there, and index has 3 images from there"):
        sync([*listed(), "disk"])
    assert tree("index") == before
    assert sync()[1].removed == 3


def test_a_folder_in_place_of_an_image_that_could_not_be_read_is_none_of_its_files(photos: Path) -> None:
    """As where an older version took a disk that was away for an image."""
    assert sync([*listed(), "disk"])[1].unreadable == 2
    Path("disk").mkdir()
    Path("disk/1.jpg").write_bytes(b"on the disk")
    index, synced = sync([*listed(), *listed("disk")])
    assert (synced.added, synced.removed, synced.unreadable, len(index)) == (1, 0, 1, 8)


def test_a_disk_that_is_not_mounted_is_noticed_by_the_nearest_folder_that_is_there(photos: Path) -> None:
    Path("photos/disk/2020/may").mkdir(parents=True)
    for number in range(3):
        Path(f"photos/disk/2020/may/{number}.jpg").write_bytes(f"on the disk {number}".encode())
    sync()
    before = tree("index")
    shutil.rmtree("photos/disk/2020")
    with pytest.raises(InputError, match=r"photos/disk' is empty, and index has 3 images from there: mount the disk"):
        sync()
    assert tree("index") == before
    Path("photos/disk").rmdir()
    assert sync()[1].removed == 3


def test_files_that_cannot_be_looked_at_may_still_be_there(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync()
    real = os.lstat

    def forbidden(path: Any, **how: Any) -> Any:
        if os.fspath(path).endswith("b/4.jpg"):
            raise PermissionError(13, "Permission denied")
        return real(path, **how)

    names = [name for name in listed() if "b/4" not in name]
    monkeypatch.setattr(os, "lstat", forbidden)
    with pytest.raises(InputError, match=r"b/4.jpg' of index .* may still be there, .*\(Permission denied\): make its"):
        sync(names)
    assert sync(names, drop_others=True)[1].removed == 1


def test_nothing_that_can_be_read_leaves_things_as_they_were(photos: Path) -> None:
    with pytest.raises(InputError, match="the image could not be read, so there is no index"):
        sync(["photos/broken.jpg"])
    assert not Path("index").exists()
    with (
        pytest.raises(InputError, match="the image could not be read"),
        IndexWriter(Path("index"), SPACE) as writer,
    ):
        build_index(Reading(), ["photos/broken.jpg"], writer)  # type: ignore[arg-type]
    assert not Path("index").exists()
    sync()
    before = tree("index")
    with pytest.raises(InputError, match=r"the image cannot be read now .* index stays as it was"):
        sync(["photos/broken.jpg"], drop_others=True)
    with pytest.raises(InputError, match="some of these images are not files"):
        sync([b"bytes"])  # type: ignore[list-item]
    assert tree("index") == before


def test_a_root_that_moved_is_recognised(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync()
    (tmp_path / "new").mkdir()
    shutil.move("photos", "new/photos")
    shutil.move("index", "new/index")
    monkeypatch.chdir(tmp_path / "new")
    encoder = Reading()
    index, synced = sync(encoder=encoder)
    assert encoder.read == ["broken.jpg"] and synced.moved == 7 and index.description.root == str(tmp_path / "new")
    names = [str(tmp_path / "new" / name) for name in index.ids(range(7))]  # the same files by other names
    monkeypatch.chdir("/")
    index, synced = sync([*names, str(tmp_path / "new/photos/broken.jpg")], out=str(tmp_path / "new" / "index"))
    assert synced.unchanged == 7 and index.ids([0]) == ["photos/0.jpg"]
    Path(tmp_path, "new/photos/more.jpg").write_bytes(b"more")
    index, _ = sync(listed(str(tmp_path / "new" / "photos")), out=str(tmp_path / "new" / "index"))
    assert len(index) == 8  # `check` has found its file


def test_what_was_refused_at_once_leaves_no_folder(photos: Path) -> None:
    with pytest.raises(InputError, match="some of these images are not files"):
        sync([b"bytes"])  # type: ignore[list-item]
    assert not Path("index").exists()


def test_old_files_that_cannot_be_removed_are_told_and_the_new_index_is_there(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync()
    Path("photos/0.jpg").unlink()
    real = Path.unlink

    def broken(path: Path, **how: Any) -> None:
        if path.name.startswith("part-"):
            raise OSError(5, "Input/output error")
        real(path, **how)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", broken)
        with (
            pytest.warns(UserWarning, match=r"part-.* cannot be removed \(Input/output error\): the next run"),
            IndexWriter(Path("index"), SPACE, sync=True, part_rows=3) as writer,
        ):
            sync_index(Reading(), listed(), writer, IndexOptions())  # type: ignore[arg-type]
    assert "photos/0.jpg" not in open_index("index").ids(range(6))
    sync()  # `check` finds no other files


def test_removing_an_index_leaves_what_is_not_of_it(photos: Path) -> None:
    sync()
    check_only_index(Path("index"))
    Path("index/notes").mkdir()
    Path("index/notes/mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"index also holds 'notes', which is not of the index: move it elsewhere"):
        check_only_index(Path("index"))
    remove_index(Path("index"))
    assert [path.name for path in Path("index").iterdir() if path.name != ".lock"] == ["notes"]
    assert Path("index/notes/mine.txt").read_text() == "mine"


# --- old or new, never else -------------------------------------------------------------------------------------------

KILLED = """
    import os, signal, sys
    from pathlib import Path
    import vitsmith.data.images.photo as photo_file
    import vitsmith.retrieval.part_files as part_files
    import vitsmith.retrieval.writer as writer_file
    from tests.retrieval.test_sync import sync

    photo_file.FRESH = 0
    left = [0]

    def counted(real):
        def write(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)
        return write

    for name in ("_write_lines", "_write_vectors", "_write_columns", "sha256"):
        setattr(part_files, name, counted(getattr(part_files, name)))
    writer_file.write_description = counted(writer_file.write_description)
    Path.unlink = counted(Path.unlink)
    for moment in map(int, sys.argv[1:]):
        left[0] = moment
        child = os.fork()
        if not child:
            sync(out=f"index{moment}")
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_sync_killed_at_any_moment_leaves_the_old_or_the_new_index(photos: Path) -> None:
    moments = range(0, 124, 6)
    sync()
    for moment in moments:
        shutil.copytree("index", f"index{moment}")
    before = open_index("index").ids(range(7))
    Path("photos/0.jpg").unlink()
    Path("photos/1.jpg").write_bytes(b"another photo")
    for name in "pqrst":
        Path(f"photos/{name}.jpg").write_bytes(f"new {name}".encode())
    script = [sys.executable, "-c", textwrap.dedent(KILLED), *map(str, moments)]
    killed = subprocess.run(script, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    codes = list(map(int, killed.stdout.split()))
    assert set(codes[:15]) == {-signal.SIGKILL} and len(codes) == len(moments), killed.stderr
    whole, _ = sync()
    after = whole.ids(range(len(whole)))
    done, found = [], []
    for moment in moments:
        index = open_index(f"index{moment}")  # readers find one of the two
        index.check_hashes()
        found.append(index.ids(range(len(index))))
        encoder = Reading()
        new, _ = sync(out=f"index{moment}", encoder=encoder)  # the same command ends it
        assert new.ids(range(len(new))) == after
        done.append(6 - len(encoder.read))
    turn = found.index(after)
    assert found == [before] * turn + [after] * (len(moments) - turn) and turn > 3
    assert done == sorted(done) and {0, 3, 6} <= set(done)  # what was done is not done again


class Stopped(Reading):
    """Interrupted after the first image."""

    def stream(self, images: Iterable[Any]) -> Iterator[tuple[str, np.ndarray] | Failure]:
        yield next(iter(super().stream(images)))
        raise KeyboardInterrupt


def test_a_damaged_part_is_told_by_a_sync_that_goes_on(photos: Path) -> None:
    sync()
    Path("photos/0.jpg").unlink()
    for name in "pq":
        Path(f"photos/{name}.jpg").write_bytes(f"new {name}".encode())
    with pytest.raises(KeyboardInterrupt):
        sync(encoder=Stopped())
    part = Path("index/part-000000.npy")
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match=r"part-000000.npy is damaged"):
        sync()


@pytest.mark.parametrize("name", ["part-000001.npy", "part-000001.columns.json"])
def test_a_damaged_part_is_told_by_a_sync_that_has_nothing_to_do(photos: Path, name: str) -> None:
    sync()
    file = Path("index", name)
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(InputError, match=rf"{name} is damaged .*: copy the index again, or make it anew .* --force$"):
        sync()


def test_plain_embed_does_not_touch_an_unfinished_sync(photos: Path) -> None:
    sync()
    for name in "pq":
        Path(f"photos/{name}.jpg").write_bytes(f"new {name}".encode())
    with pytest.raises(KeyboardInterrupt):
        sync(encoder=Stopped())
    with pytest.raises(InputError, match="index has an unfinished sync: run the command that began it again"):
        IndexWriter(Path("index"), SPACE)
    assert len(open_index("index")) == 7
    encoder = Reading()
    assert len(sync(encoder=encoder)[0]) == 9 and encoder.read == ["q.jpg"]


def test_a_reader_that_opened_the_old_index_is_told(photos: Path) -> None:
    old, _ = sync()
    with IndexWriter(Path("index"), SPACE, sync=True), pytest.raises(InputError, match="written by another process"):
        sync()
    old = open_index("index")
    query = vector_of(b"photo 3")[None]
    Path("photos/0.jpg").unlink()
    sync()
    found = search(open_index("index"), query, 1)
    assert open_index("index").ids(found.positions[0]) == ["photos/3.jpg"]
    with pytest.raises(
        InputError, match="index was written anew by another process while it was read: run the command"
    ):
        old.ids(search(old, query, 1).positions[0])
    for number in range(3):  # numbers are not used again
        Path(f"photos/n{number}.jpg").write_bytes(b"n" * (number + 1))
        sync()
        with pytest.raises(InputError, match="written anew"):
            old.ids([0])


# --- the plan ---------------------------------------------------------------------------------------------------------

_KEYS = st.sampled_from("abcdefgh")
_CONTENTS = st.sampled_from("1234")


@settings(max_examples=300, deadline=None)
@given(
    rows=st.dictionaries(_KEYS, _CONTENTS, max_size=6),
    copied=st.dictionaries(_KEYS, _CONTENTS, max_size=4),
    now=st.dictionaries(_KEYS, st.one_of(_CONTENTS, st.just(""), st.none()), max_size=8),
)
def test_a_plan_gives_each_content_one_row_and_each_key_one_place(
    rows: dict[str, str], copied: dict[str, str], now: dict[str, str | None]
) -> None:
    copies: dict[str, list[str]] = {}
    for key, content in copied.items():
        if key not in rows and content in rows.values():
            copies.setdefault(content, []).append(key)
    held = HeldContents(list(rows.items()), len(rows), copies)
    found = plan(held, now)
    kept = [name for name in found.names if name]
    assert all(now[name] == content for name, content in zip(found.names, rows.values(), strict=True) if name)
    contents = [now[name] for name in kept]
    assert len(set(contents)) == len(contents)
    assert {content for content in now.values() if content and content in rows.values()} == set(contents)
    placed = [*kept, *(key for keys in found.copies.values() for key in keys)]
    waiting = {key for key, content in now.items() if content and content not in contents}
    assert sorted(placed) == sorted(key for key, content in now.items() if content and key not in waiting)
    assert set(found.embed) >= {key for key, content in now.items() if content == ""}
    assert {now[key] for key in found.embed} - {""} == {now[key] for key in waiting}
    told = [*found.unchanged, *found.changed, *found.added, *(new for _, new in found.moved), *found.unreadable]
    assert sorted(told) == sorted(now)
    lost = {key for key in (*rows, *(one for keys in copies.values() for one in keys)) if key not in now}
    assert sorted([*found.removed, *(old for old, _ in found.moved)]) == sorted(lost)


def test_the_files_of_a_sync_are_json_that_older_parts_lack(photos: Path) -> None:
    index, _ = sync()
    fields = json.loads(Path("index/index.json").read_text())
    assert fields["format"] == 2  # so that older versions say that they do not read it
    with IndexWriter(Path("plain"), SPACE) as writer:
        writer.add(("a.jpg", vector_of(b"a")))
        writer.finish()
    assert json.loads(Path("plain/index.json").read_text())["format"] == 1
    assert fields["root"] == str(photos.parent) and "number" not in fields["parts"][0]
    assert index.column("bytes")[:2] == [7, 7]


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_follows_photos_and_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    vs.save(tiny_lit(), "lit")
    Path("photos").mkdir()
    for number, picture in enumerate(pictures(4)):
        Image.fromarray(picture).save(f"photos/{number}.png")
    command = ("embed", "lit", "photos", "--out", "index", "--sync")
    code, out, _ = call(capsys, *command)
    assert code == 0 and "images      4" in out and "added       4" in out
    shutil.copy("photos/3.png", "photos/copy.png")
    code, out, _ = call(capsys, *command)
    assert code == 0 and "images      4 for 5 files" in out and "copies      1" in out
    Path("photos/copy.png").unlink()
    Path("photos/0.png").write_bytes(b"no image")
    Path("photos/1.png").rename("photos/9.png")
    code, out, err = call(capsys, *command, "--json")
    said = json.loads(out)
    assert code == 2 and "1 of 4 images could not be read" in err and "skipped: photos/0.png: is not an image" in err
    assert (said["num_images"], said["moved"], said["unreadable"], said["unchanged"]) == (3, 1, 1, 2)
    assert said["failed"] == [{"id": "photos/0.png", "error": err.splitlines()[0].removeprefix("skipped: ")}]
    code, _, err = call(capsys, *command, "--allow-unreadable")
    assert code == 0 and "1 of 4 images could not be read and was skipped ('photos/0.png'): repair it" in err
    code, _, err = call(capsys, "embed", "lit", "photos", "--out", "index")
    assert code == 2 and "or add --sync, which follows every difference" in err
    code, _, err = call(capsys, "embed", "lit", "photos/2.png", "--out", "index", "--sync")
    assert code == 2 and "3 files of index are still there, but not among the inputs" in err and "--drop-others" in err
    assert call(capsys, "embed", "lit", "photos/2.png", "--out", "index", "--sync", "--drop-others")[0] == 0
    assert open_index("index").ids([0]) == ["photos/2.png"]
    for options, told in (
        (("--out", "x.npz", "--sync"), "--sync follows changes in an index, a folder, and x.npz is a single file"),
        (("--out", "x", "--drop-others"), "--drop-others says what --sync removes: give --sync too"),
        (("--out", "index", "--sync", "--force"), "--sync keeps what has not changed, and --force begins anew"),
    ):
        code, _, err = call(capsys, "embed", "lit", "photos/2.png", *options)
        assert code == 2 and told in err
    Path("texts.txt").write_text("a cat\na dog\na cat\n")
    captions = ("embed", "lit", "--texts-file", "texts.txt", "--out", "captions", "--sync")
    assert call(capsys, *captions)[0] == 0 and open_index("captions").ids([0, 1]) == ["a cat", "a dog"]
    Path("texts.txt").write_text("a red circle\na dog\n")
    code, out, _ = call(capsys, *captions, "--json")
    said = json.loads(out)
    assert (said["added"], said["removed"], said["unchanged"], said["embedded"]) == (1, 1, 1, 1)
    assert open_index("captions").ids([0, 1]) == ["a dog", "a red circle"]
    for file in Path("photos").iterdir():
        file.unlink()
    code, _, err = call(capsys, *command)
    assert code == 2 and "photos: no images in this folder" in err
    assert "photos' is empty, and index has 1 image from there: " in err and "or add --drop-others to remove" in err
    code, out, _ = call(capsys, *command, "--drop-others", "--json")
    assert code == 0 and (json.loads(out)["num_images"], json.loads(out)["removed"]) == (0, 1)
    code, out, err = call(capsys, "retrieve", "a cat", "--index", "index")
    assert (code, out) == (0, "") and "index holds no vectors, so nothing is found" in err
    Path("texts.txt").write_text("\n")
    code, _, err = call(capsys, *captions)
    assert code == 2 and "nothing of the 2 texts in captions is among the inputs" in err and "add --drop-others" in err
    assert call(capsys, *captions, "--drop-others")[0] == 0 and len(open_index("captions")) == 0

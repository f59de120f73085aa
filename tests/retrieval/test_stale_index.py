"""An index never answers with what it does not hold: changed files are told, changed bytes refused."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vitsmith as vs
from tests.command_line import call
from tests.tiny import VIT, pictures, tiny_model
from vitsmith.errors import InputError
from vitsmith.retrieval.approximate import build_approximate, open_approximate
from vitsmith.retrieval.build import write_index
from vitsmith.retrieval.changes import file_changes
from vitsmith.retrieval.description import Space, read_description, write_description
from vitsmith.retrieval.index import Index, open_index
from vitsmith.retrieval.search import search
from vitsmith.retrieval.sync.options import IndexOptions
from vitsmith.retrieval.writer import IndexWriter

WIDTH = 16


def unit(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write(folder: Path, vectors: np.ndarray, *, part_rows: int = 20) -> Index:
    space = Space(kind="images", identity="a" * 32, model="ours", width=WIDTH)
    with IndexWriter(folder, space, part_rows=part_rows) as writer:
        for number, vector in enumerate(vectors):
            writer.add((f"{number}.jpg", vector))
        return writer.finish()


# --- files that changed -----------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Seven photos and a model beside them."""
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pictures(7)):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{number}.bmp")
    vs.save(vs.Bundle.of(tiny_model(VIT)), tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return [f"photos/{number}.bmp" for number in range(7)]


def replace(path: str, seed: int, *, keep_time: bool = False) -> None:
    """Another photo under the same name, of the very same size in bytes."""
    before = os.stat(path)  # noqa: PTH116
    Image.fromarray(pictures(1, seed=seed)[0]).save(path)
    assert os.stat(path).st_size == before.st_size  # noqa: PTH116
    later = before.st_mtime_ns + (0 if keep_time else 5_000_000_000)
    os.utime(path, ns=(later, later))


def test_photos_replaced_in_place_are_told(photos: list[str], capsys: Any) -> None:
    assert call(capsys, "embed", "model", "photos", "--out", "index")[0] == 0
    replace(photos[2], 5)
    replace(photos[5], 6)
    code, out, err = call(capsys, "embed", "model", "photos", "--out", "index")
    assert code == 0 and "7 were there before" in out
    assert "2 files of index have changed since they were embedded ('photos/2.bmp', 'photos/5.bmp')" in err
    assert "again with --sync, which embeds those alone" in err
    code, out, _ = call(capsys, "embed", "model", "photos", "--out", "index", "--json")
    assert code == 0 and json.loads(out)["changed"] == 2
    code, _, err = call(capsys, "retrieve", "--images", photos[0], "--index", "index")
    told = "2 files of the answers changed since they were embedded ('photos/2.bmp', 'photos/5.bmp')"
    assert code == 0 and told in err
    shutil.rmtree("index")
    assert "changed" not in call(capsys, "embed", "model", "photos", "--out", "index")[2]
    assert "changed" not in call(capsys, "retrieve", "--images", photos[0], "--index", "index")[2]


def test_python_callers_are_warned(photos: list[str]) -> None:
    encoder = vs.Encoder("model")
    write_index(encoder, photos, "index")
    replace(photos[6], 9)
    with pytest.warns(UserWarning, match=r"1 file of index has changed .* \('photos/6\.bmp'\)"):
        write_index(encoder, photos, "index")
    told: list[str] = []
    write_index(encoder, [*photos, photos[0]], "index", options=IndexOptions(on_changed=told.extend))
    assert told == ["photos/6.bmp"] and len(open_index("index")) == 8


def test_the_content_decides_where_only_the_time_changed(photos: list[str]) -> None:
    index = write_index(vs.Encoder("model"), photos, "index")
    os.utime(photos[0])  # touched
    Path(photos[1]).write_bytes(Path(photos[1]).read_bytes())  # copied over itself
    assert file_changes(index).changed == []
    replace(photos[1], 8)
    assert file_changes(index).changed == [photos[1]] and file_changes(index, [0, 1]).changed == [photos[1]]
    assert file_changes(index, [0, 2]).changed == []
    with Path(photos[3]).open("ab") as file:
        file.write(b"\0")
    Path(photos[4]).unlink()  # gone, or seen from another folder
    assert file_changes(index).changed == [photos[1], photos[3]]


def test_images_in_memory_and_texts_have_no_files(tmp_path: Path) -> None:
    index = write_index(vs.Encoder(vs.Bundle.of(tiny_model(VIT))), pictures(3), tmp_path / "index")
    assert file_changes(index).changed == [] and not list((tmp_path / "index").glob("*.seen.jsonl"))


def test_of_an_index_of_before_it_is_told_that_changes_are_not_known(photos: list[str], capsys: Any) -> None:
    """Older indexes do not say what files were, and times do not tell: the files of a copy are new."""
    index = write_index(vs.Encoder("model"), photos, "index")
    description = read_description(index.folder)
    parts = [
        part.model_copy(update={"files": {name: digest for name, digest in part.files.items() if "seen" not in name}})
        for part in description.parts
    ]
    write_description(index.folder, description.model_copy(update={"parts": tuple(parts)}))
    Path("index/part-000000.seen.jsonl").unlink()
    replace(photos[3], 9)
    os.utime(photos[3], (1e9, 1e9))
    assert file_changes(open_index("index")) == ([], 7) and file_changes(open_index("index"), [3, 3, 5]) == ([], 2)
    told = "were embedded by an older version, which did not record their files: whether"
    code, _, err = call(capsys, "embed", "model", "photos", "--out", "index")
    assert code == 0 and f"7 of the 7 images in index {told} they have changed since is not known" in err
    code, _, err = call(capsys, "retrieve", "--images", photos[0], "--index", "index", "--top", "2")
    assert code == 0 and f"2 of the answers {told} these have changed since is not known" in err
    code, _, err = call(capsys, "duplicates", "index")
    assert code == 0 and f"7 of the 7 images in index {told} they have changed since is not known" in err
    assert call(capsys, "embed", "model", "photos", "--out", "index", "--sync")[0] == 0
    assert file_changes(open_index("index")) == ([], 0)


# --- bytes that changed -----------------------------------------------------------------------------------------------


def test_a_flipped_bit_anywhere_is_refused_before_an_answer(tmp_path: Path) -> None:
    """In vectors, ids, failed lists, what files were, the approximate search and what describes them."""
    pytest.importorskip("faiss")
    space = Space(kind="images", identity="a" * 32, model="ours", width=WIDTH)
    (tmp_path / "1.jpg").write_bytes(b"a picture")
    from vitsmith.retrieval.file_state import look_at
    from vitsmith.stream import Failure

    with IndexWriter(tmp_path / "index", space, part_rows=20) as writer:
        for number, vector in enumerate(unit(60)):
            failed = Failure(f"{number}.jpg", "unreadable")
            writer.add(failed if number == 30 else (f"{number}.jpg", vector), look_at(tmp_path / "1.jpg"))
        index = writer.finish()
    build_approximate(index)
    queries = unit(3, seed=1)
    expected = index.ids(search(index, queries, 5).positions.ravel())
    names = sorted(path.name for path in index.folder.iterdir() if path.name != ".lock")
    assert len(names) == 13  # three parts of three or four files, and the three about all
    generator = np.random.default_rng(0)

    def answer(approximate: bool) -> list[str] | None:
        opened = open_index(index.folder)
        program = open_approximate(opened) if approximate else None
        if approximate and program is None:  # does not fit: built anew
            return None
        found = program.search(queries, 5) if program is not None else search(opened, queries, 5)
        return opened.ids(found.positions.ravel())

    for name in names:
        good = (index.folder / name).read_bytes()
        for at in [0, len(good) - 1, *generator.integers(0, len(good), 6).tolist()]:
            damaged = bytearray(good)
            damaged[at] ^= 1 << int(generator.integers(8))
            (index.folder / name).unlink()  # files are mapped
            (index.folder / name).write_bytes(damaged)
            for approximate in (False, True):
                if name.startswith("approximate") and not approximate:
                    assert answer(False) == expected
                    continue
                try:
                    assert answer(approximate) is None and name == "approximate.json"
                except InputError as error:
                    assert "\n" not in str(error)
        (index.folder / name).unlink()
        (index.folder / name).write_bytes(good)
    assert answer(False) == expected


def test_parts_are_verified_once_and_in_parallel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitsmith.retrieval import part_files

    write(tmp_path / "index", unit(90))
    index = open_index(tmp_path / "index")
    read: list[str] = []
    real = part_files.sha256
    monkeypatch.setattr(part_files, "sha256", lambda path: read.append(Path(path).name) or real(path))
    index.rows([3, 25])
    assert read == ["part-000000.npy", "part-000001.npy"]  # no others
    for _ in range(2):
        search(index, unit(2), 3, threads=3)
    assert sorted(read) == [f"part-00000{part}.npy" for part in range(5)]
    search(open_index(tmp_path / "index", verify=False), unit(2), 3)
    assert sorted(name for name in read if name.endswith(".npy")) == [f"part-00000{part}.npy" for part in range(5)]


def test_an_index_that_is_made_anew_while_it_is_open_is_not_mixed_with_the_new_one(tmp_path: Path) -> None:
    """Part numbers are used again, so the names of files are too."""
    from vitsmith.retrieval.file_state import look_at
    from vitsmith.stream import Failure

    (tmp_path / "1.jpg").write_bytes(b"a picture")
    space = Space(kind="images", identity="a" * 32, model="ours", width=WIDTH)

    def written(first: int) -> Index:
        shutil.rmtree(tmp_path / "index", ignore_errors=True)
        with IndexWriter(tmp_path / "index", space) as writer:
            for number, vector in enumerate(unit(20), first):
                writer.add((f"{number}.jpg", vector), look_at(tmp_path / "1.jpg"))
            writer.add(Failure(f"{first}.png", "no image"))
            writer.finish()
        for file in (tmp_path / "index").iterdir():
            os.utime(file, (1e9, 1e9))  # long ago, so that a file is hashed once
        return open_index(tmp_path / "index")

    reads: list[Any] = [
        lambda index: index.ids([7, 3]),
        lambda index: index.part_ids(0),
        lambda index: list(index.failed()),
        file_changes,
    ]
    first = written(10)
    assert first.ids([7, 3]) == ["17.jpg", "13.jpg"] and list(first.failed()) and first.seen([4])[0] is not None
    fresh = open_index(tmp_path / "index")
    written(30)
    for read in reads:
        for index in (first, fresh):
            with pytest.raises(InputError, match="index was written anew by another process while it was read: run"):
                read(index)
    (tmp_path / "1.jpg").write_bytes(b"another")
    written(50)
    with pytest.raises(InputError, match="index was written anew"):
        first.seen([4])


def test_an_approximate_index_without_a_seal_is_built_anew(tmp_path: Path) -> None:
    """As older versions wrote it."""
    pytest.importorskip("faiss")
    index = write(tmp_path / "index", unit(40))
    build_approximate(index)
    facts = json.loads((index.folder / "approximate.json").read_text())
    assert open_approximate(index) is not None
    del facts["seal"]
    (index.folder / "approximate.json").write_text(json.dumps(facts))
    assert open_approximate(index) is None


def test_an_index_half_copied_is_refused(tmp_path: Path) -> None:
    index = write(tmp_path / "index", unit(60))
    for name in sorted(path.name for path in index.folder.iterdir() if path.name != ".lock"):
        shutil.copytree(index.folder, tmp_path / "copy")
        (tmp_path / "copy" / name).unlink()
        with pytest.raises(InputError, match=r"is missing|is not an index"):
            open_index(tmp_path / "copy")
        shutil.rmtree(tmp_path / "copy")


# --- queries ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0, 0.5, 1.02, 20, -3])
def test_queries_that_are_no_unit_vectors_are_refused(tmp_path: Path, factor: float) -> None:
    index = write(tmp_path / "index", unit(30))
    queries = unit(3)
    queries[1] *= factor
    with pytest.raises(InputError, match=r"query 2 has length .* divide it by its length"):
        search(index, queries)
    assert search(index, unit(3).astype(np.float16)).positions[:, 0].tolist() == [0, 1, 2]


def test_an_empty_index_and_more_answers_than_rows(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty", unit(0))
    assert search(empty, unit(2), 5).positions.shape == (2, 0) and file_changes(empty).changed == []
    index = write(tmp_path / "index", np.repeat(unit(1), 3, axis=0))
    found = search(index, unit(1), 10)
    assert found.positions.tolist() == [[0, 1, 2]]  # equal ones, the first first
    assert search(index, np.zeros((0, WIDTH), np.float32), 10).positions.shape == (0, 3)


def test_no_warning_where_nothing_changed(photos: list[str]) -> None:
    encoder = vs.Encoder("model")
    write_index(encoder, photos[:4], "index")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(write_index(encoder, photos, "index")) == 7

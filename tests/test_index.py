"""Embeddings on disk: written in parts, resumed wherever a process was killed, and refused when they do not fit."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny import VIT, pictures, tiny_lit, tiny_model
from vitsmith import Bundle
from vitsmith.encode import Encoder
from vitsmith.errors import InputError, OutputError
from vitsmith.retrieval.build import build_index, space_of
from vitsmith.retrieval.index import Space, open_index
from vitsmith.retrieval.single_file import write_single_file
from vitsmith.retrieval.writer import IndexWriter
from vitsmith.stream import Failure

WIDTH = 12
SPACE = Space(kind="images", identity="a" * 32, model="ours", width=WIDTH)


def unit(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write(folder: Path, vectors: np.ndarray, *, space: Space = SPACE, part_rows: int = 16_384) -> None:
    with IndexWriter(folder, space, part_rows=part_rows) as writer:
        for number, vector in enumerate(vectors):
            writer.add((f"{number}.jpg", vector))
        writer.finish()


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class Source:
    """An encoder of numbered things: the vector of 'n' is row n, those in `bad` cannot be read."""

    def __init__(self, vectors: np.ndarray, bad: tuple[int, ...] = (), stop: int = -1) -> None:
        self.vectors, self.bad, self.stop = vectors, bad, stop
        self.read: list[str] = []

    def stream(self, names: list[str]) -> Iterator[tuple[str, np.ndarray] | Failure]:
        for name in names:
            if int(name) == self.stop:
                raise KeyboardInterrupt
            self.read.append(name)
            yield Failure(name, f"{name}: no image") if int(name) in self.bad else (name, self.vectors[int(name)])


def build(source: Any, names: list[str], folder: Path, *, part_rows: int = 4, space: Space = SPACE) -> Any:
    with IndexWriter(folder, space, part_rows=part_rows) as writer:
        return build_index(source, names, writer)


# --- what is written is read ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("part_rows", [1, 4, 10, 64])
def test_vectors_and_ids_come_back_from_any_parts(tmp_path: Path, dtype: Any, part_rows: int) -> None:
    vectors = unit(10)
    write(tmp_path / "index", vectors, space=SPACE.model_copy(update={"dtype": dtype}), part_rows=part_rows)
    index = open_index(tmp_path / "index")
    assert len(index) == 10 and len(index.description.parts) == -(-10 // part_rows)
    stored = np.concatenate([index.vectors(part) for part in range(len(index.description.parts))])
    np.testing.assert_array_equal(stored, vectors.astype(dtype))
    wanted = [7, 0, 9, 7]
    np.testing.assert_array_equal(index.rows(wanted), stored[wanted])
    assert index.ids(wanted) == ["7.jpg", "0.jpg", "9.jpg", "7.jpg"]
    index.check_hashes()


def test_ids_may_be_any_text(tmp_path: Path) -> None:
    names = ["two\nlines", "", '"quoted"', "\u2028 ä 猫", "\udc80 not UTF-8", "a,b\tc"]
    with IndexWriter(tmp_path / "index", SPACE, part_rows=4) as writer:
        for name, vector in zip(names, unit(6), strict=True):
            writer.add((name, vector))
        index = writer.finish()
    assert index.ids(range(6)) == names


def test_a_part_is_written_once_it_is_old(tmp_path: Path) -> None:
    with IndexWriter(tmp_path / "index", SPACE, part_seconds=0) as writer:
        for vector in unit(3):
            writer.add(("x", vector))
        assert len(writer.description.parts) == 3


# --- resuming ---------------------------------------------------------------------------------------------------------


def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path: Path) -> None:
    names = [str(number) for number in range(21)]
    vectors = unit(21)
    whole = build(Source(vectors, bad=(2, 12)), names, tmp_path / "whole")
    first, second = Source(vectors, bad=(2, 12), stop=14), Source(vectors, bad=(2, 12))
    with pytest.raises(KeyboardInterrupt):
        build(first, names, tmp_path / "index")
    with pytest.raises(InputError, match=r"is unfinished \(12 vectors are there\): resume with the  vitsmith embed"):
        open_index(tmp_path / "index")
    assert open_index(tmp_path / "index", unfinished=True).ids([11]) == ["13"]
    index = build(second, names, tmp_path / "index")
    assert first.read == names[:14] and second.read == names[14:]
    assert len(index) == len(whole) == 19
    np.testing.assert_array_equal(index.rows(range(19)), whole.rows(range(19)))
    assert index.ids(range(19)) == [name for name in names if name not in ("2", "12")]
    assert list(index.failed()) == [{"id": name, "error": f"{name}: no image"} for name in ("2", "12")]
    nothing = Source(vectors)
    assert len(build(nothing, names, tmp_path / "index")) == 19 and nothing.read == []


def test_a_longer_list_adds_to_a_whole_index(tmp_path: Path) -> None:
    vectors, names = unit(12), [str(number) for number in range(12)]
    build(Source(vectors), names[:7], tmp_path / "index")
    later = Source(vectors, stop=10)
    with pytest.raises(KeyboardInterrupt):
        build(later, names, tmp_path / "index")
    with pytest.raises(InputError, match="unfinished"):
        open_index(tmp_path / "index")
    index = build(Source(vectors), names, tmp_path / "index")
    assert later.read == names[7:10] and index.ids(range(12)) == names
    np.testing.assert_array_equal(index.rows(range(12)), vectors.astype(np.float16))


@pytest.mark.parametrize("change", ["shorter", "reordered", "renamed", "inserted"])
def test_another_list_is_refused_and_nothing_changed(tmp_path: Path, change: str) -> None:
    names = [str(number) for number in range(10)]
    build(Source(unit(20)), names, tmp_path / "index")
    before = tree(tmp_path / "index")
    others = {
        "shorter": names[:9],
        "reordered": [*names[:5], "6", "5", *names[7:]],
        "renamed": [*names[:9], "19"],
        "inserted": ["11", *names],
    }
    with pytest.raises(InputError, match="holds 10 inputs, and these are not the same ones in the same order"):
        build(Source(unit(20)), others[change], tmp_path / "index")
    assert tree(tmp_path / "index") == before


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from tests.test_index import Source, build, unit
    import vitsmith.retrieval.writer as writer_file

    left = [0]

    def counted(real):
        def write(*arguments):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)
        return write

    for name in ("_write_lines", "_write_vectors", "write_description", "sha256", "_flush"):
        setattr(writer_file, name, counted(getattr(writer_file, name)))
    for writes in range(int(sys.argv[2])):
        left[0] = writes
        child = os.fork()
        if not child:
            build(Source(unit(11), bad=(5,)), [str(n) for n in range(11)], Path(sys.argv[1], str(writes)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_build_killed_at_any_moment_is_resumed(tmp_path: Path) -> None:
    """Killed before each of the things that it writes, flushes or hashes."""
    moments = 26
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), str(moments)],
        cwd=Path(__file__).parents[1],
        check=True,
        capture_output=True,
        text=True,
    )
    assert killed.stdout.split() == [str(-signal.SIGKILL)] * moments, killed.stderr
    seen = set()
    for moment in range(moments):
        folder = tmp_path / str(moment)
        names = [str(number) for number in range(11)]
        done = open_index(folder, unfinished=True).description.inputs if (folder / "index.json").exists() else 0
        source = Source(unit(11), bad=(5,))
        index = build(source, names, folder)
        seen.add(done)
        assert source.read == names[done:]
        np.testing.assert_array_equal(index.rows(range(10)), np.delete(unit(11), 5, axis=0).astype(np.float16))
        index.check_hashes()
        assert not list(folder.glob(".*.partial"))
    assert seen == {0, 4, 8, 11}


def test_two_processes_do_not_write_one_index(tmp_path: Path) -> None:
    with (
        IndexWriter(tmp_path / "index", SPACE),
        pytest.raises(InputError, match="being written by another process: wait for it"),
    ):
        IndexWriter(tmp_path / "index", SPACE)
    write(tmp_path / "index", unit(3))  # and afterwards one may


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_was_made_otherwise_is_not_gone_on_with(tmp_path: Path) -> None:
    write(tmp_path / "index", unit(3))
    before = tree(tmp_path / "index")
    other = SPACE.model_copy(update={"identity": "b" * 32, "model": "theirs"})
    told = r"made by another model: by ours \(identity aaaaaaaaaaaa\), and this is theirs \(bbbbbbbbbbbb\)"
    with pytest.raises(InputError, match=told):
        IndexWriter(tmp_path / "index", other)
    with pytest.raises(InputError, match=told):
        open_index(tmp_path / "index").check_model("b" * 32, "theirs")
    for field, value in (("kind", "texts"), ("dtype", "float32"), ("precision", "bf16")):
        with pytest.raises(InputError, match=f"has {field} .*, and it is to go on with {value}"):
            IndexWriter(tmp_path / "index", SPACE.model_copy(update={field: value}))
    assert tree(tmp_path / "index") == before


def test_folders_of_other_things_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds files that are no index \(notes\.txt\)"):
        IndexWriter(tmp_path, SPACE)
    with pytest.raises(OutputError, match=r"notes\.txt is a file"):
        IndexWriter(tmp_path / "notes.txt", SPACE)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(InputError, match=r"is no index \(it has no index\.json\): make one with  vitsmith embed"):
        open_index(tmp_path)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 3.0])
def test_vectors_that_are_no_unit_vectors_are_refused(tmp_path: Path, wrong: float) -> None:
    vectors = unit(6)
    vectors[4, 2] = wrong
    with pytest.raises(InputError, match=r"the model gives '4\.jpg' a vector of length"):
        write(tmp_path / "index", vectors, part_rows=3)
    assert len(open_index(tmp_path / "index", unfinished=True)) == 3


def test_damage_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    write(folder, unit(8), part_rows=4)
    good = tree(folder)

    def damaged(name: str, data: bytes | None, message: str) -> None:
        (folder / name).unlink() if data is None else (folder / name).write_bytes(data)
        with pytest.raises(InputError, match=message):
            open_index(folder).check_hashes()
        (folder / name).write_bytes(good[name])

    text = good["index.json"].decode()
    damaged("index.json", text.replace("ours", "hers").encode(), "was changed after it was written")
    damaged("index.json", text[:100].encode(), "is damaged")
    damaged("index.json", json.dumps(json.loads(text) | {"format": 9}).encode(), "has format 9, this vitsmith reads 1")
    damaged("part-000001.npy", None, r"part-000001\.npy is missing")
    damaged("part-000001.npy", good["part-000001.npy"][:-5], "cannot be read")
    damaged("part-000001.npy", good["part-000001.npy"][:-1] + b"!", "SHA-256 differs")
    damaged("part-000000.ids.jsonl", b'"x"\n' * 4, "SHA-256 differs")
    open_index(folder).check_hashes()


# --- from models ------------------------------------------------------------------------------------------------------


def test_images_and_texts_of_a_model(tmp_path: Path) -> None:
    encoder = Encoder(tiny_lit())
    images, texts = pictures(5), ["a photo of a cat", "a red circle", "the small dog"]
    with IndexWriter(tmp_path / "images", space_of(encoder, "images", "lit", "float32"), part_rows=2) as writer:
        index = build_index(encoder, images, writer)
    np.testing.assert_allclose(index.rows(range(5)), encoder.images(images), atol=1e-6)
    assert index.ids([0, 4]) == ["image 0", "image 4"]
    assert (index.space.identity, index.space.model, index.space.engine) == (encoder.bundle.identity, "lit", "torch")
    with IndexWriter(tmp_path / "texts", space_of(encoder, "texts", "lit", "float32"), part_rows=2) as writer:
        index = build_index(encoder, texts, writer)
    np.testing.assert_allclose(index.rows(range(3)), encoder.texts(texts), atol=1e-6)
    assert index.ids(range(3)) == texts


def test_texts_need_a_text_tower(tmp_path: Path) -> None:
    encoder = Encoder(Bundle.of(tiny_model(VIT)))
    with (
        IndexWriter(tmp_path / "index", space_of(encoder, "texts", "vit", "float16")) as writer,
        pytest.raises(InputError, match="is a model of images alone: it cannot read text"),
    ):
        build_index(encoder, ["a cat"], writer)


# --- single files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet"])
def test_single_files_hold_the_same(tmp_path: Path, suffix: str, dtype: Any) -> None:
    names = ["b/1.jpg", "a much longer name, ä 猫.jpg", "", "c", "d"]
    vectors = unit(5)
    with IndexWriter(tmp_path / "index", SPACE.model_copy(update={"dtype": dtype}), part_rows=2) as writer:
        for name, vector in zip(names, vectors, strict=True):
            writer.add((name, vector))
        index = writer.finish()
    path = tmp_path / f"vectors{suffix}"
    write_single_file(index, path)
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            found, ids = arrays["embeddings"], arrays["ids"].tolist()
    elif suffix == ".npy":
        found, ids = np.load(path, mmap_mode="r"), path.with_suffix(".txt").read_text("utf-8").splitlines()
    else:
        table = pytest.importorskip("pyarrow.parquet").read_table(path)
        found, ids = np.stack(table["embedding"].to_numpy()), table["id"].to_pylist()
        assert table.schema.metadata[b"vitsmith.identity"] == SPACE.identity.encode()
    assert found.dtype == dtype and ids == names
    np.testing.assert_array_equal(found, vectors.astype(dtype))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_single_files_that_cannot_be(tmp_path: Path) -> None:
    with IndexWriter(tmp_path / "index", SPACE) as writer:
        writer.add(("two\nlines", unit(1)[0]))
        index = writer.finish()
    with pytest.raises(InputError, match=re.escape("'two\\nlines' has a line break")):
        write_single_file(index, tmp_path / "vectors.npy")
    with pytest.raises(InputError, match=r"give a folder, or one of \.npz, \.npy, \.parquet"):
        write_single_file(index, tmp_path / "vectors.csv")
    part = tmp_path / "index" / "part-000000.npy"
    part.write_bytes(part.read_bytes()[:-1] + b"!")
    with pytest.raises(InputError, match="SHA-256 differs"):
        write_single_file(index, tmp_path / "vectors.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["index"]

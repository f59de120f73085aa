"""Embeddings on disk: written in parts, resumed wherever a process was killed, and refused when they do not fit."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from tests import ROOT
from tests.retrieval.indexes import SPACE, Source, build, unit, write
from tests.tiny import VIT, pictures, tiny_lit, tiny_model
from vitsmith import Bundle
from vitsmith.encode import Encoder
from vitsmith.errors import InputError, OutputError
from vitsmith.retrieval import single_file
from vitsmith.retrieval.build import build_index, name_of, space_of, write_index
from vitsmith.retrieval.index import open_index
from vitsmith.retrieval.single_file import write_single_file
from vitsmith.retrieval.sync.options import IndexOptions
from vitsmith.retrieval.writer import IndexWriter
from vitsmith.stream import Failure


def tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


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
    with pytest.raises(InputError, match=r"is unfinished \(it has 12 vectors\): resume it with the  vitsmith embed"):
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


def test_what_could_not_be_read_is_tried_again(tmp_path: Path) -> None:
    folder, vectors, names = tmp_path / "index", unit(14), [str(number) for number in range(14)]
    build(Source(vectors, bad=(2, 5, 9)), names[:10], folder)
    nothing = Source(vectors)
    assert len(build(nothing, names[:10], folder)) == 7 and nothing.read == []
    first = Source(vectors, bad=(5,), stop=9)
    with pytest.raises(KeyboardInterrupt):
        build(first, names[:10], folder, retry=True)
    assert first.read == ["2", "5"]
    half = open_index(folder, unfinished=True)
    assert not half.description.complete
    assert (len(half), half.description.failures, half.description.inputs) == (8, 2, 10)
    second = Source(vectors, bad=(5, 11))
    index = build(second, names, folder, retry=True)  # and with more to come
    assert second.read == ["5", "9", *names[10:]]
    assert [one["id"] for one in index.failed()] == ["5", "11"] and index.description.failures == 2
    order = ["0", "1", "3", "4", "6", "7", "8", "2", "9", "10", "12", "13"]
    assert index.ids(range(12)) == order
    np.testing.assert_array_equal(index.rows(range(12)), vectors[[int(name) for name in order]].astype(np.float16))
    index.check_hashes()
    last = Source(vectors)
    index = build(last, names, folder, retry=True)
    assert last.read == ["5", "11"] and sorted(index.ids(range(14)), key=int) == names
    assert (list(index.failed()), index.description.failures, index.description.complete) == ([], 0, True)
    before = tree(folder)
    build(nothing, names, folder, retry=True)
    assert nothing.read == [] and tree(folder) == before


def test_names_that_come_twice_are_tried_as_often_as_they_failed(tmp_path: Path) -> None:
    names = ["0", "1", "1", "2", "1"]
    build(Source(unit(3), bad=(1,)), names, tmp_path / "index", part_rows=2)

    class Once(Source):
        def stream(self, names: list[str]) -> Iterator[tuple[str, np.ndarray] | Failure]:
            for number, answer in enumerate(super().stream(names)):
                yield Failure("1", "1: gone") if number else answer

    index = build(Once(unit(3)), names, tmp_path / "index", part_rows=2, retry=True)
    assert index.ids(range(3)) == ["0", "2", "1"] and [one["id"] for one in index.failed()] == ["1", "1"]
    source = Source(unit(3))
    index = build(source, names, tmp_path / "index", part_rows=2, retry=True)
    assert source.read == ["1"] * 2 and index.ids(range(5)) == ["0", "2", "1", "1", "1"]
    assert list(index.failed()) == []


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
    with pytest.raises(InputError, match="holds 10 inputs, and these are not the same in the same order"):
        build(Source(unit(20)), others[change], tmp_path / "index")
    assert tree(tmp_path / "index") == before


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from tests.retrieval.indexes import Source, build, unit
    import vitsmith.retrieval.part_files as part_files
    import vitsmith.retrieval.writer as writer_file

    left = [0]

    def counted(real):
        def write(*arguments):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)
        return write

    for name in ("_write_lines", "_write_vectors", "sha256"):
        setattr(part_files, name, counted(getattr(part_files, name)))
    writer_file.write_description = counted(writer_file.write_description)
    for writes in range(int(sys.argv[2])):
        left[0] = writes
        child = os.fork()
        if not child:
            build(Source(unit(11), bad=(5,)), [str(n) for n in range(11)], Path(sys.argv[1], str(writes)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_build_killed_at_any_moment_is_resumed(tmp_path: Path) -> None:
    """Killed before each of the things that it writes or hashes."""
    moments = 19
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), str(moments)],
        cwd=ROOT,
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
        open_index(tmp_path / "index").check_model(cast("Bundle", SimpleNamespace(identity="b" * 32)), "theirs")
    for field, value in (("kind", "texts"), ("dtype", "float32"), ("precision", "bf16")):
        with pytest.raises(InputError, match=f"has {field} .* and cannot be continued with {value}"):
            IndexWriter(tmp_path / "index", SPACE.model_copy(update={field: value}))
    captions = SPACE.model_copy(update={"kind": "texts", "identity": "c" * 32})  # as one model has them
    with pytest.raises(InputError, match="has kind images and cannot be continued with texts"):
        IndexWriter(tmp_path / "index", captions)
    assert tree(tmp_path / "index") == before


def test_folders_of_other_things_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds other files than an index \(notes\.txt\)"):
        IndexWriter(tmp_path, SPACE)
    with pytest.raises(OutputError, match=r"notes\.txt is a file"):
        IndexWriter(tmp_path / "notes.txt", SPACE)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(InputError, match=r"is not an index \(it has no index\.json\): make one with  vitsmith embed"):
        open_index(tmp_path)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 3.0, 1e30])
def test_vectors_that_are_no_unit_vectors_are_refused(tmp_path: Path, wrong: float) -> None:
    vectors = unit(6)
    vectors[4, 2] = wrong
    with pytest.raises(InputError, match=r"the model gives '4\.jpg' a vector of length"):
        write(tmp_path / "index", vectors, part_rows=3)
    assert len(open_index(tmp_path / "index", unfinished=True)) == 3


def test_damage_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    build(Source(unit(9), bad=(8,)), [str(number) for number in range(9)], folder)
    good = tree(folder)

    def damaged(name: str, data: bytes | None, message: str, *, opens: bool = False) -> None:
        (folder / name).unlink() if data is None else (folder / name).write_bytes(data)
        index = open_index(folder) if opens else None
        with pytest.raises(InputError, match=message):
            index.check_hashes() if index is not None else open_index(folder)
        (folder / name).write_bytes(good[name])

    text = good["index.json"].decode()
    damaged("index.json", text.replace("ours", "hers").encode(), "was changed after it was written")
    damaged("index.json", text[:100].encode(), "no JSON.*; the index is damaged: copy the index again")
    damaged("index.json", b"[" * 100_000, "nested deeper than 100 levels; the index is damaged")
    damaged("index.json", b"[]", "has format None")
    damaged(
        "index.json",
        json.dumps(json.loads(text) | {"format": 9}).encode(),
        "has format 9, and this vitsmith reads 1 and 2",
    )
    damaged("part-000001.npy", None, r"part-000001\.npy is missing")
    damaged("part-000001.npy", good["part-000001.npy"][:-5], "cannot be read")
    damaged("part-000001.npy", b"", "cannot be read")
    header = good["part-000001.npy"][10:74]
    for text_of_header in (
        "{'descr': (",
        "-" * 8000 + "1",
        "{'descr': '<f2', 'fortran_order': False, 'shape': (10**99, 4)}",
    ):
        written = text_of_header.encode().ljust(len(header))
        data = b"\x93NUMPY\x01\x00" + len(written).to_bytes(2, "little") + written + good["part-000001.npy"][74:]
        damaged("part-000001.npy", data, r"part-000001\.npy (cannot be read|is damaged|holds)")
    damaged("part-000001.npy", good["part-000001.npy"][:-1] + b"!", r"part-000001\.npy is damaged", opens=True)
    for data in (b'"x"\n' * 4, b'"0"\n', b""):
        damaged("part-000000.ids.jsonl", data, r"part-000000\.ids\.jsonl is damaged \(its SHA-256 differs\): copy the")
    damaged("part-000002.failed.jsonl", b"", r"part-000002\.failed\.jsonl is damaged")
    open_index(folder).check_hashes()


# --- from models ------------------------------------------------------------------------------------------------------


def test_images_and_texts_of_a_model(tmp_path: Path) -> None:
    encoder = Encoder(tiny_lit())
    images, texts = pictures(5), ["a photo of a cat", "a red circle", "the small dog"]
    with IndexWriter(tmp_path / "images", space_of(encoder, "images", "lit", "float32"), part_rows=2) as writer:
        index = build_index(encoder, images, writer)
    np.testing.assert_allclose(index.rows(range(5)), encoder.images(images), atol=1e-6)
    assert index.ids([0, 4]) == [name_of(images[0], 0), name_of(images[4], 4)]
    assert (index.space.identity, index.space.model, index.space.engine) == (encoder.bundle.identity, "lit", "torch")
    with IndexWriter(tmp_path / "texts", space_of(encoder, "texts", "lit", "float32"), part_rows=2) as writer:
        index = build_index(encoder, texts, writer)
    np.testing.assert_allclose(index.rows(range(3)), encoder.texts(texts), atol=1e-6)
    assert index.ids(range(3)) == texts and index.space.identity == encoder.bundle.text_identity


def test_texts_need_a_text_tower(tmp_path: Path) -> None:
    encoder = Encoder(Bundle.of(tiny_model(VIT)))
    with pytest.raises(InputError, match="is a model of images alone: it cannot read text"):
        write_index(encoder, ["a cat"], tmp_path / "index", kind="texts")
    assert not (tmp_path / "index").exists()


def test_an_index_of_texts_is_of_the_vocabulary_too(tmp_path: Path) -> None:
    bundle = tiny_lit()
    assert bundle.vocabulary is not None
    ours = Encoder(bundle)
    words = bundle.vocabulary.replace(b"cat", b"new").replace(b"dog", b"cat").replace(b"new", b"dog")
    others = Encoder(dataclasses.replace(bundle, vocabulary=words))
    none = Encoder(dataclasses.replace(bundle, vocabulary=None))
    assert np.abs(ours.texts(["cat"]) - others.texts(["cat"])).max() > 0.01
    index = write_index(ours, ["a cat"], tmp_path / "texts", kind="texts")
    before = tree(tmp_path / "texts")
    index.check_model(Encoder(tiny_lit()).bundle, "a copy")
    refusal = r"was made by another model or vocabulary: by .* \(identity \w+\), and this is theirs"
    with pytest.raises(InputError, match=refusal):
        index.check_model(others.bundle, "theirs")
    with pytest.raises(InputError, match="another model or vocabulary that had the same name, created in memory"):
        write_index(others, ["a cat", "a dog"], tmp_path / "texts", kind="texts")
    with pytest.raises(InputError, match="has no vocabulary, so texts cannot be read"):
        index.check_model(none.bundle, "ours")
    assert tree(tmp_path / "texts") == before
    images = pictures(4)
    write_index(ours, images[:2], tmp_path / "images")
    assert len(write_index(others, images[:3], tmp_path / "images")) == 3
    index = write_index(none, images, tmp_path / "images")
    for encoder in (ours, others, none):
        index.check_model(encoder.bundle)


def test_images_without_a_name_are_known_by_their_content(tmp_path: Path) -> None:
    first, second = pictures(2)
    names = [name_of(source, 7) for source in (first, second, first[:, :20], first[..., 0], b"one", b"other")]
    assert len(set(names)) == 6 and all(re.fullmatch(r"image 7 \(sha256 [0-9a-f]{16}\)", name) for name in names)
    assert name_of(Image.fromarray(first), 7) == name_of(first.copy(), 7) == names[0]
    assert name_of(np.zeros(3), 0).startswith("image 0 (sha256 ")  # no image: recorded as unreadable later
    assert name_of(Path("a", "b.jpg"), 7) == str(Path("a", "b.jpg"))
    encoder = Encoder(Bundle.of(tiny_model(VIT)))
    write_index(encoder, first, tmp_path / "index")  # one is a list of one
    with pytest.raises(InputError, match="holds 1 inputs, and these are not the same in"):
        write_index(encoder, [second], tmp_path / "index")
    told: list[str | None] = []
    options = IndexOptions(on_input=told.append)
    index = write_index(encoder, [first, b"no image", second], tmp_path / "index", options=options)
    assert (
        len(index) == 2 and told[1] is None and str(told[0]).startswith(f"{name_of(b'no image', 1)}: is not an image")
    )
    assert list(index.failed()) == [{"id": name_of(b"no image", 1), "error": told[0]}]


def test_texts_are_strings(tmp_path: Path) -> None:
    encoder = Encoder(tiny_lit())
    with pytest.raises(InputError, match="text 1 is bytes, not a string: give the texts themselves"):
        write_index(encoder, ["a cat", b"a dog"], tmp_path / "index", kind="texts")
    assert write_index(encoder, "a cat", tmp_path / "one", kind="texts").ids([0]) == ["a cat"]


# --- single files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet"])
def test_single_files_hold_the_same(tmp_path: Path, suffix: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_file, "_CHARACTERS", 40)  # one id of the longest at once
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


def test_other_files_in_the_folder_of_an_index_stay(tmp_path: Path) -> None:
    source = Source(unit(5))
    build(source, ["0", "1"], tmp_path / "index")
    kept = ["part-1.jpg", "part-000009.npy.jpg", "party.txt", "sync.md"]
    for name in kept:
        (tmp_path / "index" / name).write_bytes(b"mine")
    (tmp_path / "index" / "part-000009.npy").write_bytes(b"of a killed process")
    build(source, ["0", "1", "2"], tmp_path / "index")
    names = {path.name for path in (tmp_path / "index").iterdir()}
    assert names >= set(kept) and "part-000009.npy" not in names

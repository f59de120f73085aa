"""Queries line by line while another process changes the index, and what is kept from one to the next."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vitsmith as vs
from tests.command_line import call
from tests.retrieval.indexes import SPACE, unit, write
from tests.tiny import VIT, pictures, tiny_model
from vitsmith.encode import Encoder
from vitsmith.errors import InputError
from vitsmith.retrieval import part_files
from vitsmith.retrieval.index import Index, open_index
from vitsmith.retrieval.part_files import PartReader
from vitsmith.retrieval.queries import live
from vitsmith.retrieval.queries.answers import AnswerList
from vitsmith.retrieval.queries.live import LiveSearch
from vitsmith.retrieval.queries.nearest import AnswerSettings, Query
from vitsmith.retrieval.writer import IndexWriter


class Given:
    """Standard input that a program writes: each step is what comes next, or is done before that."""

    closed = False

    def __init__(self, *steps: bytes | Callable[[], Any]) -> None:
        self._steps, self.buffer = list(steps), self

    def isatty(self) -> bool:
        return False

    def read1(self, most: int) -> bytes:
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, bytes):
                return step
            step()
        return b""


def test_a_stream_of_queries_follows_an_index_that_is_changed_or_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    vs.save(vs.Bundle.of(tiny_model(VIT)), "vit")
    Path("photos").mkdir()
    encoder = Encoder("vit")

    def photo(number: int) -> None:
        Image.fromarray(pictures(6)[number]).save(f"photos/{number}.png")

    def sync() -> None:
        vs.write_index(encoder, sorted(Path("photos").iterdir()), "index", sync=True)

    def add() -> None:
        photo(4)
        sync()

    def replace_by_another_model() -> None:
        shutil.rmtree("index")
        vs.write_index(Encoder(vs.Bundle.of(tiny_model(VIT, seed=3))), sorted(Path("photos").iterdir()), "index")

    def remove_the_first() -> None:
        shutil.rmtree("index")
        Path("photos/0.png").unlink()
        sync()

    for number in range(4):
        photo(number)
    sync()
    asked = b"photos/3.png\n"
    steps = (
        *(asked, add, b"photos/4.png\n", lambda: Path("index").rename("away"), asked, asked),
        *(lambda: Path("away").rename("index"), asked, replace_by_another_model, asked, remove_the_first, asked * 2),
    )
    monkeypatch.setattr(sys, "stdin", Given(*steps))
    code, out, err = call(
        capsys, "retrieve", "-", "--index", "index", "--top", 1, "--json", "--where", "id != 'photos/1.png'"
    )
    answers = [json.loads(line) for line in out.splitlines()]
    names = [[one["id"] for one in answer["results"]] if "results" in answer else answer["error"] for answer in answers]
    three = ["photos/3.png"]
    assert names[:2] == [three, ["photos/4.png"]] and names[4] == three and names[6:] == [three, three]
    assert "index is not an index" in names[2] and names[2] == names[3] and "was made by another model" in names[5]
    assert code == 2 and "3 of 8 queries could not be answered" in err
    assert err.count("index was changed by another process: opened again, with 5 entries") == 1
    assert err.count("opened again, with 4 entries") == 1


def ids(found: list[Any]) -> list[Any]:
    return [one[0].id if isinstance(one, AnswerList) else str(one) for one in found]


def test_answers_are_of_one_index_however_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where that happens between the search and the reading of ids."""
    place, vectors, opened = tmp_path / "index", unit(20), []

    def written(version: int) -> None:
        """The same vectors in another order, under other names."""
        shutil.rmtree(place, ignore_errors=True)
        with IndexWriter(place, SPACE, part_rows=7) as writer:
            for number in np.roll(np.arange(20), version).tolist():
                writer.add((f"{version}/{number}.jpg", vectors[number]))
            writer.finish()

    def again() -> tuple[Index, AnswerSettings]:
        opened.append(open_index(place))
        return opened[-1], AnswerSettings(1)

    written(1)
    search = LiveSearch(open_index(place), AnswerSettings(1), again)
    queries = [Query("3", vectors[3]), Query("15", vectors[15])]
    assert ids(search.answer(queries)) == ["1/3.jpg", "1/15.jpg"] and not opened
    written(2)
    assert ids(search.answer(queries)) == ["2/3.jpg", "2/15.jpg"] and len(opened) == 1
    real, left = live.answer, [3, 4]

    def overtaken(index: Index, *rest: Any) -> list[AnswerList]:
        if left:
            written(left.pop(0))
        return real(index, *rest)

    monkeypatch.setattr(live, "answer", overtaken)
    assert ids(search.answer(queries)) == ["4/3.jpg", "4/15.jpg"] and len(opened) == 3

    def partly(index: Index, queries: Any, settings: AnswerSettings) -> list[AnswerList]:
        if any(one.name == "bad" for one in queries):
            raise InputError("a bad query")
        return real(index, queries, settings)

    monkeypatch.setattr(live, "answer", partly)
    asked = [queries[0], Query("bad", vectors[0]), queries[1]]
    assert ids(search.answer(asked)) == [
        "4/3.jpg",
        "a bad query",
        "4/15.jpg",
    ]


def test_what_was_read_is_kept_while_the_file_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "index", unit(9), part_rows=3)
    for file in (tmp_path / "index").iterdir():
        os.utime(file, (1e9, 1e9))
    index, made = open_index(tmp_path / "index"), []
    reader = PartReader()

    def make(data: bytes) -> int:
        made.append(data)
        return len(data)

    def read(number: int) -> int:
        name = f"part-00000{number}.ids.jsonl"
        return reader.made(index.folder, name, index.description, index.description.parts[number].files[name], make)

    size = read(0)
    assert [read(at) for at in (0, 1, 2, 0, 1)] == [size] * 5 and len(made) == 3
    monkeypatch.setattr(part_files, "MOST_KEPT", 2 * size)
    assert [read(0), read(1), read(2)] and len(made) == 3, "a limit holds when the next file is kept"
    reader = PartReader()
    for at, count in ((0, 4), (1, 5), (0, 5), (2, 6), (0, 6), (1, 7)):  # 1 was not asked for longest
        read(at)
        assert len(made) == count
    (index.folder / "part-000000.ids.jsonl").write_bytes(b'"a.jpg"\n' * 3)
    with pytest.raises(InputError, match="is damaged"):
        read(0)
    with pytest.raises(InputError, match="is damaged"):
        index.ids([1])

"""Queries of words, images, both and neither, on the command line and in Python, beside NumPy."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vitsmith as vs
from tests.command_line import call
from tests.tiny import VIT, pictures, tiny_lit, tiny_model
from vitsmith.encode import Encoder
from vitsmith.errors import InputError

COUNT = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models, twelve photos, a copy of photo 4 elsewhere, and an index by each model and of texts."""
    folder = tmp_path_factory.mktemp("made")
    vs.save(tiny_lit(), folder / "lit")
    vs.save(vs.Bundle.of(tiny_model(VIT)), folder / "vit")
    (folder / "photos").mkdir()
    for number, picture in enumerate(pictures(COUNT)):
        Image.fromarray(picture).save(folder / "photos" / f"{number:02}.png")
    shutil.copy(folder / "photos" / "04.png", folder / "copy.png")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for model in ("lit", "vit"):
            vs.write_index(Encoder(model), sorted(Path("photos").iterdir()), f"of-{model}")
        vs.write_index(Encoder("lit"), ["a cat", "a dog", "a red circle"], "captions", kind="texts")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def documents(out: str) -> list[Any]:
    return [json.loads(line) for line in out.splitlines()]


def ranked(query: np.ndarray, model: str = "lit") -> list[tuple[str, float]]:
    """All photos by their cosines with a query, by hand."""
    vectors = Encoder(model).images(pictures(COUNT)).astype(np.float16).astype(np.float64)
    scores = (vectors @ (query / np.linalg.norm(query))).clip(-1, 1)
    return [(f"photos/{at:02}.png", float(scores[at])) for at in np.argsort(-scores, kind="stable")]


def same(found: list[Any], expected: list[tuple[str, float]]) -> None:
    assert [one["id"] for one in found] == [name for name, _ in expected]
    np.testing.assert_allclose([one["score"] for one in found], [score for _, score in expected], atol=2e-6)


def test_parts_are_added_and_others_subtracted(folder: Path, capsys: Any) -> None:
    encoder = Encoder("lit")
    text, less = encoder.texts(["a cat", "a dog"]).astype(np.float64)
    image, other = encoder.images(["photos/03.png", "photos/01.png"]).astype(np.float64)
    asked = ("retrieve", "a cat", "--images", "photos/03.png", "--index", "of-lit", "--top", 5, "--json")
    _, out, _ = call(capsys, *asked, "--combine", "--without", "a dog", "--without-images", "photos/01.png")
    (one,) = documents(out)
    assert one["query"] == "a cat + photos/03.png - a dog - photos/01.png"
    same(one["results"], ranked(text + image - less - other)[:5])
    found = vs.open_index("of-lit").search(["a cat", Path("photos/03.png")], 5, without=["a dog", "photos/01.png"])
    assert [(answer.id, round(answer.score, 6)) for answer in found] == [(a["id"], a["score"]) for a in one["results"]]
    _, out, _ = call(capsys, *asked, "--without", "a dog")
    first, second = documents(out)
    same(first["results"], ranked(text - less)[:5])
    same(second["results"], ranked(image - less)[:5])
    assert (first["query"], second["query"]) == ("a cat - a dog", "photos/03.png - a dog")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("a cat", "--without", "a cat"), "'a cat', 'a cat' cancel each other out, so the query has no direction"),
        (("--without", "a cat"), "--without and --without-images subtract from a query: give one too"),
        (("-", "--combine"), "--combine makes one query of all its parts, and - reads queries one by one"),
        (("a cat", "--without", "photos/01.png"), "write --without-images photos/01.png"),
        (("a cat", "--without-images", "gone.png"), "gone.png: no such file or folder"),
        (("a cat", "--min-score", "2"), "--min-score 2 is out of range"),
        (("a cat", "--min-score", "nan"), "--min-score nan is no finite number"),
        (("a cat", "--where", "widht > 5"), "--where has a mistake at 'widht > 5' (character 1): no column is called"),
        (("a cat", "--where", "width > '5'"), "width holds numbers: write 5 without quotes"),
        (("a cat", "--sheet", "copy.png"), "copy.png is no name for a page: give a file that ends in .html"),
        (("a cat", "--sheet", "photos"), "photos is a folder"),
        (("a cat", "--images", "-", "-"), "standard input is read once"),
    ],
)
def test_mistakes_are_told_before_anything_is_answered(folder: Path, capsys: Any, arguments: Any, told: str) -> None:
    code, out, err = call(capsys, "retrieve", *arguments, "--index", "of-lit")
    assert (code, out) == (2, "") and told in err and len(err.splitlines()) == 1


def test_where_and_the_least_score_leave_fewer_answers(folder: Path, capsys: Any) -> None:
    every = ranked(Encoder("lit").texts(["a cat"])[0])
    asked = ("retrieve", "a cat", "--index", "of-lit", "--json")
    least = (every[2][1] + every[3][1]) / 2
    same(documents(call(capsys, *asked, "--min-score", least)[1])[0]["results"], every[:3])
    some = [one for one in every if one[0] in ("photos/02.png", "photos/07.png", "photos/11.png")]
    where = "id in ['photos/02.png', 'photos/07.png', 'photos/11.png'] and width == 50"
    same(documents(call(capsys, *asked, "--where", where)[1])[0]["results"], some)
    code, out, err = call(capsys, *asked, "--min-score", "0.99")
    assert (code, documents(out)[0]["results"]) == (0, [])
    note = f"no entry has a score of 0.99: the best has {every[0][1]:.4f}"
    assert err == f"no answer to 'a cat': {note}\n" and documents(out)[0]["note"] == note
    which = ("--where", f"id in ['{every[1][0]}', '{every[4][0]}']", "--min-score", "0.99")
    note = f"that fulfils --where has a score of 0.99: the best of them has {every[1][1]:.4f}"
    assert documents(call(capsys, *asked, *which)[1])[0]["note"] == f"no entry {note}"
    (answers,) = documents(call(capsys, *asked, *which, "--exclude-query")[1])
    assert answers["note"] == f"no entry other than the query itself {note}"
    code, out, err = call(capsys, *asked, "--where", "width > 50")
    assert (code, documents(out)[0]["results"]) == (0, [])
    assert err == "none of the 12 entries of of-lit fulfils --where\n" and documents(out)[0]["note"] + "\n" == err
    index = vs.open_index("of-lit")
    assert [one.id for one in index.search("a cat", where=where)] == [name for name, _ in some]
    mask = np.arange(COUNT) < 2
    assert {one.position for one in index.search("a cat", where=mask)} == {0, 1}
    for wrong in (1.5, float("nan"), True, "0.5"):
        with pytest.raises(InputError, match="`min_score` is a cosine, a number from -1 to 1"):
            index.search("a cat", min_score=wrong)


@pytest.mark.parametrize("query", ["photos/04.png", "copy.png", "{}/photos/04.png", "photos/../copy.png"])
def test_the_query_itself_is_left_out_by_path_or_content(folder: Path, capsys: Any, query: str) -> None:
    _, out, _ = call(
        capsys,
        "retrieve",
        "--images",
        query.format(folder),
        "--index",
        "of-vit",
        "--top",
        5,
        "--exclude-query",
        "--json",
    )
    expected = ranked(Encoder("vit").images(["photos/04.png"])[0].astype(np.float64), "vit")
    assert expected[0][0] == "photos/04.png"
    same(documents(out)[0]["results"], expected[1:6])


def test_all_copies_of_the_query_are_left_out_however_many(folder: Path, tmp_path: Path) -> None:
    """Without `--sync` each has an entry; there are more than are looked for at first, and the last are fewer."""
    for number in range(30):
        shutil.copy(folder / "copy.png", tmp_path / f"same{number}.png")
    others = [Path("photos") / f"{number:02}.png" for number in range(3)]
    index = vs.write_index(Encoder("vit"), [*sorted(tmp_path.iterdir()), *others], tmp_path / "index")
    for query in (
        "copy.png",
        (folder / "copy.png").read_bytes(),
        Image.open("copy.png"),
        io.BytesIO(Path("copy.png").read_bytes()),
    ):
        found = index.search(query, 2, exclude_query=True)
        assert len(found) == 2 and not any("same" in one.id for one in found)
    assert len(index.search("copy.png", 10, exclude_query=True)) == 3
    vector = Encoder("vit").images(["copy.png"])[0]
    for query in (vector, ["copy.png", vector]):
        with pytest.raises(
            InputError, match="a vector has neither a path nor a content to find its own entry by: give"
        ):
            index.search(query, exclude_query=True)
    with pytest.raises(InputError, match="image array: pixels have neither a path nor the bytes of a file"):
        index.search(pictures(1)[0], exclude_query=True)
    with pytest.raises(InputError, match=r"copy\.png"):
        index.search("a-copy.png", exclude_query=True)


def test_a_text_is_left_out_of_an_index_of_texts(folder: Path, capsys: Any) -> None:
    index = vs.open_index("captions")
    assert index.search("a dog", 1)[0].id == "a dog"
    found = index.search("a dog", 3, exclude_query=True)
    assert {one.id for one in found} == {"a cat", "a red circle"} and all(one.path is None for one in found)
    code, _, err = call(capsys, "retrieve", "a dog", "--index", "captions", "--sheet", "s.html")
    assert code == 2 and "--sheet shows pictures, and captions is an index of texts" in err


def test_answers_can_be_opened_from_any_folder(folder: Path, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    place = os.path.realpath(folder / "photos" / "03.png")
    asked = ("retrieve", "--images", folder / "photos" / "03.png", "--index", folder / "of-vit", "--top", 1)
    _, out, _ = call(capsys, *asked, "--model", folder / "vit")
    assert out.split() == ["1.0000", place]
    _, out, _ = call(capsys, *asked, "--model", folder / "vit", "--json")
    (one,) = documents(out)[0]["results"]
    assert (one["id"], one["path"], one["copies"]) == ("photos/03.png", place, [])


def test_a_program_gets_the_answer_to_each_line_before_it_writes_the_next(folder: Path) -> None:
    command = [sys.executable, "-m", "vitsmith", "retrieve", "-", "--index", "of-lit", "--top", "2", "--json"]
    encoder = Encoder("lit")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None

        def ask(line: bytes) -> Any:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(line)
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        same(ask(b"a cat\n")["results"], ranked(encoder.texts(["a cat"])[0])[:2])
        same(ask(b"photos/03.png\r\n")["results"], ranked(encoder.images(["photos/03.png"])[0])[:2])
        for line in (b"\n", b" \r\n"):
            assert ask(line) == {"query": "", "results": [], "note": "the line is empty"}
        for line, told in (
            (b"gone.png", "gone.png: cannot be read"),
            (b"qqq", "has no word that this model's vocabulary knows"),
            (b"\xff\xfea", "is not UTF-8"),
        ):
            assert told in ask(line + b"\n")["error"]
        process.stdin.write(b"a red circle")
        process.stdin.close()
        assert json.loads(process.stdout.readline())["query"] == "a red circle"
        told = process.stderr.read().decode()
    assert process.returncode == 2 and "3 of 6 queries could not be answered" in told


def test_a_path_is_never_words(folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("table.csv").write_text("a,b\n1,2\n")
    given = b"photos\ntable.csv\nclip.mp4\nphotos/gone.HEIC\na.cat/the.dog\nan .mp4 clip.mp4\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    code, out, _ = call(capsys, "retrieve", "-", "--index", "of-lit", "--json", "--top", 1)
    told = [one.get("error", "") for one in documents(out)]
    start = "'photos' is a folder, not words: give one image of it; for the word itself"
    assert code == 2 and told[0].startswith(start)
    assert told[1].startswith("table.csv: is not an image") and told[2].startswith("clip.mp4: cannot be read")
    assert told[3].startswith("photos/gone.HEIC: cannot be read") and all("is a path" not in one for one in told[4:])
    for query in ("photos", "table.csv", "clip.mp4", "photos/gone.HEIC"):
        code, out, err = call(capsys, "retrieve", query, "--index", "of-lit")
        assert (code, out) == (2, "") and f"{query!r} is a path, not words" in err
    with pytest.raises(InputError, match="'photos' is a folder, not words"):
        vs.open_index("of-lit").search("photos")
    Path("table.csv").unlink()


def test_one_of_several_queries_that_fails_loses_no_other(folder: Path, tmp_path: Path, capsys: Any) -> None:
    for name, number in (("a.png", 3), ("c.png", 5)):
        shutil.copy(f"photos/{number:02}.png", tmp_path / name)
    (tmp_path / "b.png").write_bytes(b"no image")
    asked = ("retrieve", "a cat", "qqq", "--images", tmp_path, "--index", "of-lit", "--top", 1)
    code, out, err = call(capsys, *asked, "--json")
    found = [one.get("results", one.get("error")) for one in documents(out)]
    assert code == 2 and "2 of 5 queries could not be answered: each says why" in err
    assert [one[0]["id"] for one in (found[2], found[4])] == ["photos/03.png", "photos/05.png"]
    assert "has no word that" in found[1] and found[3].startswith(f"{tmp_path / 'b.png'}: is not an image")
    code, out, err = call(capsys, *asked, "--combine")
    assert (code, out) == (2, "") and "'qqq' has no word" in err


def test_what_finds_nothing_says_why_below_its_heading(folder: Path, capsys: Any) -> None:
    _, out, err = call(capsys, "retrieve", "a cat", "a dog", "--index", "of-lit", "--where", "width > 50")
    why = "no answer: none of the 12 entries of of-lit fulfils --where"
    assert out.splitlines() == ["a cat:", why, "", "a dog:", why] and err.count("fulfils --where") == 1


def test_positions_that_an_index_does_not_have_are_refused(folder: Path) -> None:
    index = vs.open_index("of-lit")
    for wrong in ([99], [-1], [0.5], [True], 3, np.arange(COUNT) < 2):
        for read in (index.ids, index.rows, index.copies):
            with pytest.raises(InputError, match=r"has no entry at the position|positions are a list of whole numbers"):
                read(wrong)  # type: ignore[arg-type]
    assert index.ids([]) == [] and index.ids(range(1)) == ["photos/00.png"]


def test_lines_are_answered_as_text_too(folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfa cat\nqqq\nphotos/03.png")))
    code, out, err = call(capsys, "retrieve", "a dog", "-", "--index", "of-lit", "--top", 1, "--without", "a cat")
    headings = [line for line in out.splitlines() if line.endswith(":")]
    assert headings == ["a dog - a cat:", "a cat:", "qqq:", "photos/03.png - a cat:"] and code == 2
    assert len([line for line in out.splitlines() if line and not line.endswith(":")]) == 2
    assert "no answer to 'a cat': 'a cat', 'a cat' cancel each other out" in err and "no answer to 'qqq'" in err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n \n")))
    code, out, err = call(capsys, "retrieve", "-", "--index", "of-lit")
    assert (code, out) == (2, "(empty line):\n\n(empty line):\n")
    assert "standard input holds no queries: write one a line" in err


def test_the_approximate_search_says_what_it_looked_at(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faiss")
    from vitsmith.retrieval import approximate

    asked = ("retrieve", "a cat", "--index", "of-lit", "--top", 3, "--json")
    exact = documents(call(capsys, *asked)[1])[0]
    assert "searched" not in exact and "recall" not in exact
    call(capsys, "retrieve", "--index", "of-lit", "--build-approximate")
    facts = json.loads((folder / "of-lit" / "approximate.json").read_text())
    code, out, err = call(capsys, *asked, "--approximate")
    (one,) = documents(out)
    assert code == 0 and one["recall"] == round(facts["recall"], 6) and 0 < one["searched"] <= 1
    if one["searched"] < 1:
        compared = round(one["searched"] * COUNT)
        assert (
            f"approximate: compared {compared} of 12 vectors ({facts['probes']} of {facts['centres']} clusters" in err
        )
        assert "for all answers leave out --approximate" in err
    _, out, err = call(capsys, *asked, "--approximate", "--where", "id > 'photos/05.png'")
    (some,) = documents(out)
    assert some["searched"] == 1 and "compared all 6 that fulfil --where, of 12 vectors" in err
    assert some["results"] == documents(call(capsys, *asked, "--where", "id > 'photos/05.png'")[1])[0]["results"]
    index = vs.open_index("of-lit")
    found = index.search("a cat", 3, approximate=True)
    assert [answer.id for answer in found] == [answer["id"] for answer in one["results"]]
    monkeypatch.setattr(approximate, "open_approximate", lambda _: pytest.fail("opened twice"))
    assert index.search("a cat", 3, approximate=True) == found
    assert found.searched == pytest.approx(one["searched"], abs=1e-6)


def test_answers_as_a_sheet(folder: Path, tmp_path: Path, capsys: Any) -> None:
    page = tmp_path / "new" / "sheet.html"
    code, out, err = call(
        capsys, "retrieve", "a <cat>", "--images", "copy.png", "--index", "of-lit", "--top", 4, "--sheet", page
    )
    text = page.read_text(encoding="utf-8")
    assert code == 0 and f"contact sheet: {page}" in err and len(out.splitlines()) == 11
    assert text.count("<img ") == 4 + 1 + 4 and "<h2>a &lt;cat&gt;</h2>" in text and "the query: copy.png" in text
    code, _, _ = call(capsys, "retrieve", "a cat", "--index", "of-lit", "--sheet", page, "--min-score", "0.99")
    text = page.read_text(encoding="utf-8")
    assert code == 0 and "No answer: no entry has a score of 0.99: the best has 0." in text and "None." not in text
    call(capsys, "retrieve", "a cat", "--index", "of-lit", "--sheet", page, "--where", "width > 50")
    assert "No answer: none of the 12 entries of of-lit fulfils --where" in page.read_text(encoding="utf-8")
    more = ("--where", "width < 60", "--min-score", "-0.5", "--exclude-query")
    call(capsys, "retrieve", "a cat", "--index", "of-lit", "--sheet", page, *more)
    told = "answers that fulfil width &lt; 60, with a cosine of at least -0.5, without the query itself</p>"
    assert f"<p>12 images in of-lit; {told}" in page.read_text(encoding="utf-8")


def test_answers_print_and_are_a_sequence(folder: Path) -> None:
    index = vs.open_index("of-lit")
    found = index.search("a cat", 2)
    (first, second), expected = found, ranked(Encoder("lit").texts(["a cat"])[0])
    assert (
        repr(found) == f"<2 answers to 'a cat'>\n{expected[0][1]:7.4f}  {first.id}\n{expected[1][1]:7.4f}  {second.id}"
    )
    assert first.path == folder / first.id and found[1] is second and found[:1] == (first,) and len(found) == 2
    none = f"no entry has a score of 1: the best has {expected[0][1]:.4f}"
    assert repr(index.search("a cat", min_score=1)) == f"<no answer to 'a cat': {none}>"
    assert index.search("a cat", min_score=1).note == none and not found.note
    encoder = Encoder("lit")
    picture = pictures(COUNT)[3]
    for query in (picture, Image.fromarray(picture), Path("photos/03.png").read_bytes(), encoder.images([picture])[0]):
        assert index.search(query, 1)[0].id == "photos/03.png"
    for wrong, told in (
        (encoder.images([picture]), "a query is one vector of 32 numbers"),
        ([], "the query is empty"),
        (encoder.images([picture])[0] * 2, "has length 2"),
        (["a cat", encoder.images([picture])[0] * 2], "query 2 has length 2"),
        (["a cat", 3], "is not an image"),
    ):
        with pytest.raises(InputError, match=told):
            index.search(wrong)


def test_the_model_is_opened_once_and_checked(folder: Path, tmp_path: Path) -> None:
    index = vs.open_index("of-lit")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda at: index.search(f"photos/{at:02}.png", 1)[0].position, range(COUNT)))
    assert answers == list(range(COUNT)) and index.encoder is index.encoder
    other = vs.open_index("of-lit")
    with pytest.raises(InputError, match="was made by another model"):
        other.encoder = Encoder("vit")
    shutil.copytree("lit", tmp_path / "lit")
    vs.write_index(Encoder(tmp_path / "lit"), "photos/03.png", tmp_path / "index")
    shutil.rmtree(tmp_path / "lit")
    moved = vs.open_index(tmp_path / "index")
    with pytest.raises(InputError, match=r"the model of .*index: .*set `index.encoder` to  vitsmith.Encoder\(PATH\)"):
        moved.search("a cat")
    moved.encoder = Encoder("lit")
    assert len(moved.search("a cat")) == 1


def test_class_tokens_and_pooled_vectors_are_not_compared(folder: Path, tmp_path: Path) -> None:
    vs.save(tiny_lit(), tmp_path / "lit")
    index = vs.write_index(Encoder(tmp_path / "lit", what="class"), "photos/03.png", tmp_path / "index")
    index = vs.open_index(tmp_path / "index")
    with pytest.raises(
        InputError, match=r"what='class', and this encoder makes 'pooled'.*Encoder\(PATH, what='class'\)"
    ):
        index.encoder = Encoder("lit")
    shutil.rmtree(tmp_path / "lit")
    with pytest.raises(InputError, match=r"set `index.encoder` to  vitsmith.Encoder\(PATH, what='class'\)\)"):
        index.search("photos/03.png")
    index.encoder = Encoder("lit", what="class")
    assert index.search("photos/03.png")[0].id == "photos/03.png"


def test_an_index_as_a_table(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = vs.open_index("of-lit")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="this needs pandas, which is not installed: run  pip install pandas"):
        index.to_pandas()
    monkeypatch.undo()
    pytest.importorskip("pandas")
    monkeypatch.chdir(folder)
    table = index.to_pandas(vectors=True)
    facts = ["taken", "latitude", "longitude", "width", "height", "bytes"]
    assert list(table.columns) == ["id", "path", "copies", *facts, "vector"]
    assert table["id"].tolist() == index.ids(range(COUNT)) and table["width"].tolist() == [50] * COUNT
    assert table["path"][3] == str(folder / "photos" / "03.png") and table["taken"].isna().all()
    np.testing.assert_array_equal(np.stack(table["vector"]), index.rows(range(COUNT)))
    found = index.search("a cat", 2)
    assert found.to_pandas()["id"].tolist() == [one.id for one in found]
    assert list(index.to_pandas().columns)[-1] == "bytes"


@pytest.mark.parametrize("scores", ["single", "independent"])
def test_the_images_of_an_index_are_classified_by_their_vectors(folder: Path, capsys: Any, scores: str) -> None:
    asked = ("zeroshot", "lit", "--labels", "cat, dog, red circle", "--top", 3, "--scores", scores, "--json")
    of_files = documents(call(capsys, *asked, "photos")[1])
    code, out, _ = call(capsys, *asked, "--index", "of-lit")
    of_index = documents(out)
    assert code == 0 and [one["image"] for one in of_index] == [one["image"] for one in of_files]
    meaning = "cosine" if scores == "independent" else "probability"
    vectors = Encoder("lit").images(pictures(COUNT)).astype(np.float16).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    classifier = vs.ZeroShotClassifier("lit", ["cat", "dog", "red circle"], scores=scores, cache=False)  # type: ignore[arg-type]
    expected = vectors @ classifier.embeddings.T.astype(np.float64)
    if scores == "single":
        powers = np.exp(classifier.similarity.temperature * expected)
        expected = powers / powers.sum(axis=1, keepdims=True)
    for found, filed, row in zip(of_index, of_files, expected, strict=True):
        by_label = {one["label"]: one[meaning] for one in found["predictions"]}
        np.testing.assert_allclose([by_label[name] for name in ("cat", "dog", "red circle")], row, atol=2e-5)
        before = {one["label"]: one[meaning] for one in filed["predictions"]}
        assert all(abs(by_label[name] - before[name]) < 0.01 for name in before), "as far as float16 allows"
    _, out, _ = call(capsys, *asked, "--index", "of-lit", "--where", "id in ['photos/03.png', 'photos/05.png']")
    assert documents(out) == [of_index[3], of_index[5]]
    index = vs.open_index("of-lit")
    firsts = ["photos/00.png", "photos/01.png"]
    assert [one.source for one in index.classify(classifier, where="id < 'photos/02'")] == firsts
    with contextlib.chdir("photos"):
        index = vs.open_index("../of-lit")
        sources = [one.source for one in index.classify(classifier, where="id < 'photos/02'")]
    assert sources == [str(Path(one).absolute()) for one in firsts], "names open from the present folder"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--index", "captions"), "captions is an index of texts, and words classify images"),
        (("--index", "of-vit"), "of-vit was made by another model"),
        (("--index", "of-lit", "photos"), "--index takes the place of images"),
        (("--index", "of-lit", "--out", "new"), "for which no index is needed: leave --index out"),
        (("--index", "of-lit", "--skip-unreadable", "0"), "none is read: leave --skip-unreadable out"),
        (("photos", "--where", "width > 5"), "--where is a condition on columns of an index: give --index too"),
        (("--index", "of-lit", "--where", "w > 5"), "no column is called 'w'"),
        (("--index", "patches"), "patches holds patches, and words compare with the pooled embedding"),
        (("--index", "class"), "class holds class tokens, and words compare with the pooled embedding"),
    ],
)
def test_an_index_that_words_cannot_classify_is_refused(folder: Path, capsys: Any, arguments: Any, told: str) -> None:
    for what in ("patches", "class"):
        if what in arguments and not Path(what).exists():
            vs.write_index(Encoder("lit", what=what), "photos/03.png", what)  # type: ignore[arg-type]
    code, out, err = call(capsys, "zeroshot", "lit", *arguments, "--labels", "cat, dog")
    assert (code, out) == (2, "") and told in err and len(err.splitlines()) == 1


def test_copies_that_sync_stores_once_are_named_and_are_the_query_too(
    folder: Path, tmp_path: Path, capsys: Any
) -> None:
    for name, number in (("a.png", 4), ("b.png", 4), ("c.png", 5)):
        (tmp_path / "all").mkdir(exist_ok=True)
        shutil.copy(folder / "photos" / f"{number:02}.png", tmp_path / "all" / name)
    assert call(capsys, "embed", "vit", tmp_path / "all", "--out", tmp_path / "index", "--sync")[0] == 0
    asked = ("retrieve", "--images", tmp_path / "all" / "b.png", "--index", tmp_path / "index", "--json")
    first, second = documents(call(capsys, *asked)[1])[0]["results"]
    assert {first["id"], *first["copies"]} == {str(tmp_path / "all" / name) for name in ("a.png", "b.png")}
    assert first["copies"] and second["copies"] == []
    (only,) = documents(call(capsys, *asked, "--exclude-query")[1])[0]["results"]
    assert only == second
    index = vs.open_index(tmp_path / "index")
    at = index.ids([0, 1]).index(first["id"])
    for name in ("a.png", "b.png"):  # whichever of the two has the row
        assert index.matching(f"endswith(id, '{name}') and width == 50").nonzero()[0].tolist() == [at]
    assert index.matching("endswith(id, 'c.png')").nonzero()[0].tolist() == [1 - at]
    assert index.matching("not endswith(id, 'a.png')").tolist() == [True, True]  # b.png, and c.png
    assert index.matching("width == 50").tolist() == [True, True]
    table = pytest.importorskip("pandas") and index.to_pandas()
    assert table["copies"].tolist() == index.copies([0, 1]) and len(table["copies"][at]) == 1


def test_each_file_of_an_index_is_classified_and_what_it_was_is_told(
    folder: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "all").mkdir()
    for name, number in (("a.png", 4), ("b.png", 4), ("c.png", 5), ("d.png", 6)):
        shutil.copy(folder / "photos" / f"{number:02}.png", tmp_path / "all" / name)
    monkeypatch.chdir(tmp_path)
    assert call(capsys, "embed", folder / "lit", "all", "--out", "index", "--sync")[0] == 0
    asked = ("zeroshot", folder / "lit", "--labels", "cat, dog", "--json")
    of_files = documents(call(capsys, *asked, "all")[1])
    (code, out, err), elsewhere = call(capsys, *asked, "--index", "index"), tmp_path / "elsewhere"
    assert code == 0 and "answers" not in err
    named = {one["image"]: one["predictions"][0]["label"] for one in documents(out)}
    assert named == {one["image"]: one["predictions"][0]["label"] for one in of_files} and len(named) == 4
    (tmp_path / "all" / "c.png").unlink()
    shutil.copy(folder / "photos" / "07.png", tmp_path / "all" / "d.png")
    (elsewhere / "all").mkdir(parents=True)
    shutil.copy(folder / "photos" / "05.png", elsewhere / "all" / "c.png")  # not the one of the index
    monkeypatch.chdir(elsewhere)
    code, out, err = call(capsys, *asked, "--index", tmp_path / "index")
    places = {os.fspath(tmp_path / "all" / name) for name in ("a.png", "b.png", "c.png", "d.png")}
    assert code == 0 and {one["image"] for one in documents(out)} == places
    assert f"1 file of the answers changed since they were embedded ('{tmp_path / 'all' / 'd.png'}')" in err
    assert f"not there any more, moved or deleted since: 1 ('{tmp_path / 'all' / 'c.png'}')" in err
    (found,) = vs.open_index(tmp_path / "index").search(folder / "photos" / "05.png", 1)
    assert found.path is None and found.shown == os.fspath(tmp_path / "all" / "c.png")
    index = vs.open_index(tmp_path / "index")
    ((row, copy),) = [(one.id, one.copies[0]) for one in index.search(folder / "photos" / "04.png") if one.copies]
    shutil.copy(folder / "photos" / "08.png", tmp_path / copy)
    _, _, err = call(capsys, *asked, "--index", tmp_path / "index", "--where", f"id == '{row}'")
    assert f"1 file of the answers changed since they were embedded ('{tmp_path / copy}') and were classified by" in err
    arguments = ("--index", tmp_path / "index", "--images", folder / "photos" / "04.png", "--top", 1)
    assert f"('{tmp_path / copy}') and were found by" in call(capsys, "retrieve", *arguments)[2]

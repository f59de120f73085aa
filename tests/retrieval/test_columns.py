"""What an index knows of its photos beside their vectors: date, place and size, from the very bytes it embedded."""

from __future__ import annotations

import io
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

import vitsmith as vs
from tests.command_line import call
from tests.retrieval.indexes import SPACE, unit, write
from tests.tiny import VIT, pictures, tiny_model
from vitsmith.data.images import photo as photo_file
from vitsmith.data.images.exif import read_exif
from vitsmith.data.images.photo import FACTS, FileState, Photo, facts_of
from vitsmith.data.images.read import read_image
from vitsmith.data.sets.tables.columns import columns_of_table
from vitsmith.errors import DatasetError, ImageError, InputError
from vitsmith.retrieval.index import Index, open_index
from vitsmith.retrieval.rows import rows_of
from vitsmith.retrieval.single_file import write_single_file
from vitsmith.retrieval.writer import IndexWriter

TAKEN, HERE = "2023:07:09 18:05:00", ((59.0, 20.0, 6.0), (18.0, 3.0, 54.0))


def exif(
    *, taken: str = TAKEN, place: Any = HERE, sides: str = "NE", orientation: int = 1, order: str = "<"
) -> Image.Exif:
    """EXIF as a camera writes it."""
    made = Image.Exif()
    made.endian = order
    made[ExifTags.Base.Orientation] = orientation
    made[ExifTags.IFD.Exif] = {ExifTags.Base.DateTimeOriginal: taken}
    if place:
        made[ExifTags.IFD.GPSInfo] = {1: sides[0], 2: place[0], 3: sides[1], 4: place[1]}
    return made


def encoded(kind: str, size: tuple[int, int] = (40, 30), **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (*size[::-1], 3), np.uint8)).save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_date_place_and_size_in_every_format(kind: str, order: str) -> None:
    data = encoded(kind, exif=exif(order=order, orientation=6, sides="SE").tobytes())
    facts = facts_of(data)
    upright = read_image(data)
    assert (facts["height"], facts["width"]) == upright.shape[:2] == (40, 30)
    assert facts["bytes"] == len(data) and facts["taken"] == "2023-07-09T18:05:00"
    assert (facts["latitude"], facts["longitude"]) == (-59.335, 18.065)


@pytest.mark.parametrize(
    ("wrong", "lacking"),
    [
        ({"taken": "0000:00:00 00:00:00"}, {"taken"}),
        ({"taken": "    :  :     :  :  "}, {"taken"}),
        ({"taken": "2023:02:30 10:00:00"}, {"taken"}),
        ({"taken": "yesterday"}, {"taken"}),
        ({"sides": "??"}, {"latitude", "longitude"}),
        ({"place": ((59.0, 20.0, 6.0), (200.0, 0.0, 0.0))}, {"latitude", "longitude"}),
        ({"place": ((59.0,), (18.0, 3.0, 54.0))}, {"latitude", "longitude"}),
        ({"place": None}, {"latitude", "longitude"}),
    ],
)
def test_what_is_no_date_or_place_is_not_known(wrong: dict[str, Any], lacking: set[str]) -> None:
    facts = facts_of(encoded("JPEG", exif=exif(**wrong)))
    assert {name for name, value in facts.items() if value is None} == lacking


def test_fractions_without_a_denominator_are_no_place() -> None:
    block = exif().tobytes().removeprefix(b"Exif\0\0")
    at = block.index((59).to_bytes(4, "little") + (1).to_bytes(4, "little"))
    broken = block[: at + 4] + bytes(4) + block[at + 8 :]
    assert read_exif(block).latitude == 59.335
    assert read_exif(broken)._replace(taken=None) == (1, None, None, None)


def test_broken_exif_never_fails_an_image() -> None:
    """Any byte of it may be wrong, and any end missing."""
    block = exif(orientation=8).tobytes()
    generator = np.random.default_rng(0)
    good = encoded("JPEG", exif=block)
    at = good.index(b"Exif\0\0")
    for _ in range(300):
        wrong = bytearray(good)
        for place in generator.integers(at + 6, at + len(block), 3).tolist():
            wrong[place] = int(generator.integers(256))
        facts = facts_of(bytes(wrong))
        assert (facts["height"], facts["width"]) == read_image(bytes(wrong)).shape[:2]
    for end in range(len(block)):
        read_exif(block.removeprefix(b"Exif\0\0")[:end])
    assert facts_of(b"no image") == dict.fromkeys(FACTS) | {"bytes": 8}


def test_columns_are_those_of_the_bytes_that_were_embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A photo that is replaced while it is read: its vector, its hash and its columns are of one content."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for number in range(4):
        Path(f"photos/{number}.jpg").write_bytes(encoded("JPEG", (20 + number, 30), exif=exif()))
    names = [f"photos/{number}.jpg" for number in range(4)]
    later = encoded("JPEG", (99, 30))
    real = photo_file.facts_of

    def replacing(data: bytes) -> dict[str, Any]:
        for name in names:  # between reading and decoding
            Path(name).write_bytes(later)
        return real(data)

    monkeypatch.setattr(photo_file, "facts_of", replacing)
    encoder = vs.Encoder(vs.Bundle.of(tiny_model(VIT)), decoders=1)
    index = vs.write_index(encoder, names[:1], "index", dtype="float32")
    assert index.column("width") == [20] and index.column("taken") == ["2023-07-09T18:05:00"]
    assert index.column_names == FACTS
    np.testing.assert_allclose(index.rows([0])[0], encoder.images(encoded("JPEG", (20, 30), exif=exif()))[0], atol=1e-6)
    with pytest.warns(UserWarning, match="1 file of index has changed"):
        vs.write_index(encoder, names[:1], "index", dtype="float32")


def test_a_file_that_has_just_changed_is_not_taken_for_known(tmp_path: Path) -> None:
    """Its next change may have the same time."""
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded("JPEG"))
    photo = Photo(str(path))
    photo.read_all()
    assert photo.state is not None and photo.state.changed == 0 and not photo.state.is_still(path.stat())
    found = path.stat()
    known = photo.state._replace(changed=found.st_ctime_ns)
    assert known.is_still(found) and not known._replace(size=3).is_still(found)
    with pytest.raises(ImageError, match=r"^cannot be read"):
        (gone := Photo(str(tmp_path / "none.jpg"))).read_all()
    assert gone.state is None and gone.facts == {}


def test_columns_of_several_parts_and_of_older_ones(tmp_path: Path) -> None:
    write(tmp_path / "index", unit(3), part_rows=2)
    with IndexWriter(tmp_path / "index", SPACE) as writer:
        writer.add(("new.jpg", unit(1)[0]), FileState(1, 2, "ab", 3), {"width": 7, "name": "猫"})
        writer.add(("no.jpg", unit(1)[0]))
        index = writer.finish()
    assert index.column_names == ("width", "name") and index.column("width") == [None] * 3 + [7, None]
    assert index.columns("name", "width")["name"] == [None] * 3 + ["猫", None] and index.columns() == {}
    with pytest.raises(InputError, match=r"unknown column of .*index 'wide': did you mean width\?"):
        index.column("wide")
    assert index.copies([0, 3]) == [[], []] and index.part(2).seen() == [FileState(1, 2, "ab", 3), None]
    name = tmp_path / "index" / "part-000002.columns.json"
    name.write_text(name.read_text().replace("7", "8"))
    with pytest.raises(InputError, match=r"columns\.json is damaged"):
        open_index(tmp_path / "index").column("width")


def test_relative_ids_lead_to_their_files_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Image.fromarray(pictures(1)[0]).save("photos/ä.png")
    odd = os.fsdecode(b"photos/\xff.png")
    Image.fromarray(pictures(2)[1]).save(odd)
    encoder = vs.Encoder(vs.Bundle.of(tiny_model(VIT)))
    vs.write_index(encoder, ["photos/ä.png", odd], tmp_path / "index")
    vs.write_index(encoder, [tmp_path / "photos" / "ä.png"], tmp_path / "absolute")
    monkeypatch.chdir("/")
    index: Index = open_index(tmp_path / "index")
    assert index.description.root == str(tmp_path)
    assert [index.path_of(name).is_file() for name in index.ids([0, 1])] == [True, True]
    assert open_index(tmp_path / "absolute").description.root == ""
    with pytest.raises(InputError, match=r"names its images by their paths from .*: run the command there, or with"):
        vs.write_index(encoder, ["photos/ä.png", odd], tmp_path / "index")


def with_columns(folder: Path) -> Index:
    with IndexWriter(folder, SPACE, part_rows=2) as writer:
        for number, vector in enumerate(unit(3)):
            known = {"taken": None if number else "2023-07-09T18:05:00", "width": 7, "latitude": [None, 1.5, 2][number]}
            writer.add((f"{number}.jpg", vector), None, known)
        return writer.finish()


def test_a_single_file_has_the_columns_and_the_model(tmp_path: Path) -> None:
    index = with_columns(tmp_path / "index")
    for suffix in (".npz", ".npy"):
        write_single_file(index, tmp_path / f"all{suffix}")
    with np.load(tmp_path / "all.npz", allow_pickle=False) as found:
        assert (found["model"], found["identity"], found["what"]) == ("ours", "a" * 32, "pooled")
        assert found["column.taken"].tolist() == ["2023-07-09T18:05:00", "", ""]
        np.testing.assert_array_equal(found["column.latitude"], [np.nan, 1.5, 2])
        np.testing.assert_array_equal(found["embeddings"], index.rows(range(3)))
    assert json.loads((tmp_path / "all.json").read_text()) == {
        "model": "ours", "identity": "a" * 32, "what": "pooled", "shape": [3, 12],
    }  # fmt: skip
    pq = pytest.importorskip("pyarrow.parquet")
    write_single_file(index, tmp_path / "all.parquet")
    table = pq.read_table(tmp_path / "all.parquet")
    assert table.column_names == ["id", "embedding", "taken", "width", "latitude"]
    assert [str(kind) for kind in table.schema.types[2:]] == ["string", "int64", "double"]
    assert table["latitude"].to_pylist() == [None, 1.5, 2.0] and table["width"].to_pylist() == [7] * 3
    assert table.schema.metadata[b"vitsmith.identity"] == b"a" * 32


@pytest.mark.parametrize("width", [3, 12, 768])
def test_stored_vectors_have_length_1_as_near_as_float16_can(width: int) -> None:
    """The bound of docs/embed.md."""
    vectors = np.random.default_rng(0).normal(size=(2000, width)).astype(np.float32)
    vectors[:500] *= np.random.default_rng(1).random((500, width)) ** 8  # a few large numbers and many tiny ones
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    stored = vectors.astype(np.float16).astype(np.float64)
    assert np.abs(np.sqrt((stored**2).sum(axis=1)) - 1).max() <= 2**-11 + width**0.5 * 2**-25


def test_columns_are_given_by_position_whatever_holds_them() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"camera": list("ABCD"), "k": [1, 2, 3, 4], "r": [0.5, np.nan, 2, 3]}, index=[3, 1, 0, 2])
    for chosen in (frame, frame[frame.k > 2], frame.convert_dtypes()):
        found = rows_of({name: chosen[name] for name in frame}, len(chosen))
        assert found == [
            {"camera": "ABCD"[k - 1], "k": k, "r": None if k == 2 else frame["r"].iloc[k - 1]} for k in chosen["k"]
        ]
        assert found and {type(value) for value in found[0].values()} <= {str, int, float}
    assert rows_of({"k": np.arange(2), "l": [np.int8(5), np.float32(0.5)]}, 2) == [
        {"k": 0, "l": 5}, {"k": 1, "l": 0.5},
    ]  # fmt: skip


def test_a_column_comes_out_everywhere_under_its_name(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    pq = pytest.importorskip("pyarrow.parquet")
    names = ["a b", "and", "Größe", "Rating", "rating", "a/b", "x.npy", "size, mm", "vitsmith.model", "\u00a0", "1"]
    columns = {name: [at, None, at + 0.5] for at, name in enumerate(names)}
    rows = rows_of(columns, 3)
    assert rows is not None
    with IndexWriter(tmp_path / "index", SPACE) as writer:
        for number, vector in enumerate(unit(3)):
            writer.add((f"{number}.jpg", vector), None, rows[number])
        writer.finish()
    index = vs.open_index(tmp_path / "index")
    frame = index.to_pandas(vectors=True)
    assert list(frame.columns) == ["id", "path", "copies", *names, "vector"]
    for suffix in (".npz", ".parquet"):
        write_single_file(index, tmp_path / f"all{suffix}")
    table = pq.read_table(tmp_path / "all.parquet")
    assert table.column_names == ["id", "embedding", *names]
    with np.load(tmp_path / "all.npz", allow_pickle=False) as found:
        for name, values in columns.items():
            expected = [values[0], np.nan, values[2]]
            np.testing.assert_array_equal(found[f"column.{name}"], expected)
            np.testing.assert_array_equal(frame[name], expected)
            assert index.column(name) == table[name].to_pylist() == values
            assert index.matching(f"`{name}` == {values[0]}").tolist() == [True, False, False]
    for wrong in (
        "id",
        "path",
        "embedding",
        "vector",
        "score",
        "copies",
        "",
        "a\nb",
        "\0",
        "\ud800",
        "`",
        "x" * 256,
        7,
    ):
        with pytest.raises(InputError, match=r"rename it, or leave it out"):
            rows_of({wrong: [1]}, 1)  # type: ignore[dict-item]
    with pytest.raises(InputError, match=r"column 'id' .*: rename it"), IndexWriter(tmp_path / "x", SPACE) as writer:
        writer.add(("1.jpg", unit(1)[0]), None, {"id": 7})
        writer.finish()


def test_columns_of_images_that_are_done_stay_and_other_ones_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, picture in enumerate(pictures(3)):
        Image.fromarray(picture).save(f"{number}.png")
    encoder = vs.Encoder(vs.Bundle.of(tiny_model(VIT)))
    vs.write_index(encoder, ["0.png", "1.png"], "index", columns={"rating": [1, None]})
    names = ["0.png", "1.png", "2.png"]
    with pytest.warns(UserWarning, match=r"1 of the 2 images in index keep columns that differ .*: with `sync`"):
        index = vs.write_index(encoder, names, "index", columns={"rating": [1, 5, 7]})
    assert index.column("rating") == [1, None, 7]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vs.write_index(encoder, names, "index", columns={"rating": [1, None, 7]})
        vs.write_index(encoder, names, "index")
    with pytest.raises(InputError, match="`drop_others` says what `sync` removes: give `sync` too"):
        vs.write_index(encoder, names, "index", options=vs.IndexOptions(drop_others=True))


def test_codes_stay_text_and_numbers_stay_whole(tmp_path: Path) -> None:
    codes = {"a": "1e5", "b": "12E3", "c": "+49123", "d": "00123", "e": "1234567890123456789", "f": "1e+999"}
    numbers = {"g": ("123456789012345678", 123456789012345678), "h": ("1e-05", 1e-5), "i": ("-.5", -0.5),
               "j": ("1.5e3", 1500.0), "k": ("-12", -12), "l": ("2e+20", 2e20)}  # fmt: skip
    written = [*codes.values(), *(text for text, _ in numbers.values())]
    table = tmp_path / "t.csv"
    table.write_text(f"image,{','.join([*codes, *numbers])}\n0.png,{','.join(written)}\n1.png,{'7,' * 11}7\n")
    found = columns_of_table(table, ["all"], [str(tmp_path / "0.png"), str(tmp_path / "1.png")])
    assert {name: found[name] for name in codes} == {name: [text, "7"] for name, text in codes.items()}
    assert {name: found[name] for name in numbers} == {name: [value, 7] for name, (_, value) in numbers.items()}
    table.write_text("image,label,n\n0.png,cat,1\n1.png,dog,2\n0.png,dog,1\n")
    assert columns_of_table(table, ["n"], [str(tmp_path / "0.png")]) == {"n": [1]}
    with pytest.raises(DatasetError, match=r"lists '0.png' twice, in lines 2 and 4, with different values of 'label'"):
        columns_of_table(table, ["label"], [str(tmp_path / "0.png")])


def test_single_files_round_no_number(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "big": [2**70, 1, None], "long": [2**53 + 1, 2, None], "flag": [True, False, None], "mixed": [2**60, 0.5, None],
        "both": [True, 3, None], "short": [2, 3, None],
    }  # fmt: skip
    with IndexWriter(tmp_path / "index", SPACE) as writer:
        for number, vector in enumerate(unit(3)):
            writer.add((f"{number}.jpg", vector), None, {name: values[number] for name, values in columns.items()})
        index = writer.finish()
    write_single_file(index, tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz", allow_pickle=False) as found:
        assert found["column.big"].tolist() == [str(2**70), "1", ""]
        assert found["column.long"].tolist() == [str(2**53 + 1), "2", ""]
        assert found["column.mixed"].tolist() == [str(2**60), "0.5", ""]
        np.testing.assert_array_equal(found["column.short"], [2, 3, np.nan])
    pq = pytest.importorskip("pyarrow.parquet")
    write_single_file(index, tmp_path / "all.parquet")
    table = pq.read_table(tmp_path / "all.parquet").to_pydict()
    assert {name: table[name] for name in ("long", "flag", "short")} == {
        name: columns[name] for name in ("long", "flag", "short")
    }
    assert table["big"] == [str(2**70), "1", None] and table["mixed"] == [str(2**60), "0.5", None]
    assert table["both"] == ["True", "3", None]


TABLE = """path,label,camera,rating,code,note
0.png,cat,X100,4.5,007,
1.png,dog,,3,010,two words
2.png,cat,A7,,011,"a, b"
"""


def test_columns_of_a_table_join_those_of_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, picture in enumerate(pictures(3)):
        Image.fromarray(picture).save(f"{number}.png")
    vs.save(vs.Bundle.of(tiny_model(VIT)), "model")
    Path("table.csv").write_text(TABLE)
    command = ("embed", "model", "--data", "table.csv", "--out", "index")
    assert call(capsys, *command, "--columns", "camera,rating,code")[0] == 0
    index = open_index("index")
    order = [index.ids(range(3)).index(f"{number}.png") for number in range(3)]
    values = {name: [index.column(name)[at] for at in order] for name in index.column_names}
    assert (values["camera"], values["rating"]) == (["X100", None, "A7"], [4.5, 3.0, None])
    assert values["code"] == ["007", "010", "011"] and index.column_names[:6] == FACTS
    Path("table.csv").write_text(TABLE.replace("A7", "A9"))
    assert call(capsys, *command, "--columns", "all", "--sync")[0] == 0
    index = open_index("index")
    assert sorted(index.column_names) == sorted([*FACTS, "label", "camera", "rating", "code", "note"])
    assert sorted(map(str, index.column("camera"))) == ["A9", "None", "X100"]
    for columns, told in (
        ("rated", "unknown column of table.csv 'rated': known are camera, code, label, note, rating"),
        ("camera,none", "unknown column of table.csv 'none'"),
    ):
        code, _, err = call(capsys, *command, "--columns", columns)
        assert code == 2 and told in err
    Path("table.csv").write_text(TABLE.replace("camera", "width"))
    code, _, err = call(capsys, *command, "--columns", "width")
    assert code == 2 and "the column 'width' has the name of one that images have themselves" in err
    code, _, err = call(capsys, "embed", "model", "0.png", "--out", "x", "--columns", "all")
    assert code == 2 and "--columns names columns of the table --data" in err
    Path("table.jsonl").write_text(
        json.dumps({"path": "0.png", "label": "a", "n": 3, "f": True, "tags": ["x", "y"]}) + "\n"
    )
    assert columns_of_table("table.jsonl", ["all"], ["./0.png", "./9.png"]) == {
        "label": ["a", None], "n": [3, None], "f": ["true", None], "tags": ['["x", "y"]', None],
    }  # fmt: skip


def test_a_table_whose_labels_are_not_used_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, picture in enumerate(pictures(3)):
        Image.fromarray(picture).save(f"{number}.png")
    vs.save(vs.Bundle.of(tiny_model(VIT)), "model")
    Path("t.csv").write_text('path,split,"size, mm"\n0.png,train,1\n1.png,val,2\n0.png,train,1\n2.png,test,\n')
    code, _, err = call(capsys, "embed", "model", "--data", "t.csv", "--out", "index", "--columns", '"size, mm", split')
    index = open_index("index")
    assert code == 0, err
    assert index.ids(range(3)) == ["0.png", "1.png", "2.png"] and index.column("size, mm") == [1, 2, None]
    code, out, _ = call(capsys, "predict", "model", "--data", "t.csv", "--split", "val", "--json")
    assert code == 0 and out.count("1.png") == 1 and "0.png" not in out
    Path("t.csv").write_text("path,n\n0.png,1\n0.png,2\n")
    code, _, err = call(capsys, "embed", "model", "--data", "t.csv", "--out", "other", "--columns", "n")
    assert code == 2 and "lists '0.png' twice, in lines 2 and 3, with different values of 'n'" in err

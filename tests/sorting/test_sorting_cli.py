"""`vitsmith duplicates` and `vitsmith cluster` as a user meets them."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import vitsmith as vs
from tests.command_line import call
from tests.documentation import ROOT
from tests.sorting.collections import index_of, towards
from tests.tiny import pictures, tiny_lit
from vitsmith.amounts import bytes_text
from vitsmith.sorting import sheets


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a model and seven photos, and a copy of one."""
    vs.save(tiny_lit(), tmp_path / "lit")
    (tmp_path / "photos").mkdir()
    for at, picture in enumerate(pictures(7)):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{at}.png")
    shutil.copy2(tmp_path / "photos/2.png", tmp_path / "photos/copy.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_copies_in_a_folder_are_printed_with_what_they_take(folder: Path, capsys: Any) -> None:
    code, out, err = call(capsys, "duplicates", "photos")
    size = (folder / "photos/2.png").stat().st_size
    assert code == 0
    assert out.splitlines()[:3] == [
        f"keep          50x40 {size:>7} B  photos/2.png",
        f"exact         50x40 {size:>7} B  photos/copy.png",
        "",
    ]
    assert f"exact copies  1, which take {size} B\n" in out and "near from" not in out
    assert "only exact copies were looked for: give --model, or an index" in err
    code, out, err = call(capsys, "duplicates", "photos", "--model", "lit", "--threshold", "0.999", "--json")
    found = json.loads(out)
    assert code == 0 and "only exact" not in err and (found["count"], found["threshold"]) == (8, 0.999)
    assert found["model"] == "lit" and found["groups"][0]["keep"] == "photos/2.png"
    assert [one["name"] for one in found["groups"][0]["members"]] == ["photos/2.png", "photos/copy.png"]


def test_damaged_images_are_named_and_the_rest_is_compared(folder: Path, capsys: Any) -> None:
    (folder / "photos/bad.png").write_bytes((folder / "photos/1.png").read_bytes()[:90])
    code, out, err = call(capsys, "duplicates", "photos", "--model", "lit")
    assert code == 2 and "photos/copy.png" in out and "unreadable    1\n" in out
    assert "skipped: photos/bad.png: " in err and "1 image could not be read or embedded" in err
    code, out, err = call(capsys, "cluster", "photos", "--model", "lit", "--skip-unreadable", "0", "--min-size", "2")
    assert code == 2 and out == "" and "--skip-unreadable 0 allows 0 (photos/bad.png: " in err


def test_a_sheet_shows_the_groups_and_holds_its_pictures(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = call(capsys, "duplicates", "photos", "--sheet", "sheet.html")
    page = (folder / "sheet.html").read_text()
    assert code == 0 and "the sheet is sheet.html" in err
    assert page.count("data:image/jpeg;base64,") == 2 and "exact copy: photos/copy.png" in page
    monkeypatch.setattr(sheets, "MOST", 3)
    shutil.copy2(folder / "photos/3.png", folder / "photos/other copy.png")
    code, _, err = call(capsys, "duplicates", "photos", "--sheet", "sheet.html")
    assert code == 0 and "the sheet is sheet.html, with the largest groups: 1 more have no place on it" in err
    page = (folder / "sheet.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2 and "1 more have no place on this page" in page
    index_of(folder / "texts", ["a", "b"], towards(0, 1), kind="texts")
    for verb in ("duplicates", "cluster"):
        code, out, err = call(capsys, verb, "texts", "--sheet", "sheet.html")
        assert code == 2 and out == "" and "a sheet shows images, and these are texts" in err


def test_groups_are_printed_and_written(folder: Path, capsys: Any) -> None:
    angles = [0, 1, 2, 3, 4, 5, 60, 61, 62, 63, 64, 65, 150, 200]
    names = [f"photos/more {at}.png" for at in range(len(angles))]
    for at, name in enumerate(names):
        Image.new("RGB", (6 + at, 5)).save(name)
    index_of(folder / "index", names, towards(*angles))
    arguments = ("cluster", "index", "--min-size", "4", "--out", "groups.csv", "--sheet", "sheet.html")
    code, out, err = call(capsys, *arguments)
    assert code == 0 and "groups get no names: the model of the index: " in err and "place with --model)" in err
    assert "groups       2\n" in out and "written to   groups.csv\n" in out
    rows = list(csv.DictReader((folder / "groups.csv").read_text().splitlines()))
    of = {row["image"]: row["group"] for row in rows}
    assert [len({of[name] for name in some}) for some in (names[:6], names[6:12])] == [1, 1]
    assert of[names[0]] != of[names[6]] and of[names[12]] == of[names[13]] == ""
    assert (folder / "sheet.html").read_text().count("data:image/jpeg;base64,") == 12
    code, _, err = call(capsys, *arguments)
    assert code == 2 and "groups.csv exists: choose another --out, or replace it with --force" in err
    code, out, _ = call(capsys, *arguments[:4], "--json", "--no-names")
    found = json.loads(out)
    assert [(group["group"], group["size"], group["name"]) for group in found["groups"]] == [(1, 6, None), (2, 6, None)]
    assert [one["name"] for one in found["not_grouped"]] == names[12:] and found["components"] == 8


def test_names_open_from_the_folder_that_one_is_in(folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"photos/{at}.png" for at in range(7)]
    index_of(folder / "index", names, towards(0, 1, 2, 3, 4, 150, 200))
    (folder / "elsewhere/photos").mkdir(parents=True)
    shutil.copy2("photos/6.png", "elsewhere/photos/0.png")  # another file of the same name
    wanted = [str(folder / name) for name in names]
    here = call(capsys, "duplicates", "index", "--json")[1]
    monkeypatch.chdir(folder / "elsewhere")
    there = call(capsys, "duplicates", folder / "index", "--json")[1]
    for out, shown in ((here, names), (there, wanted)):
        members = json.loads(out)["groups"][0]["members"]
        assert sorted(one["name"] for one in members) == shown[:5]
        assert sorted(one["path"] for one in members) == wanted[:5]
    asked = ("cluster", folder / "index", "--min-size", "3", "--no-names", "--out", "c.csv", "--json")
    found = json.loads(call(capsys, *asked)[1])
    every = [one for group in found["groups"] for one in group["members"]] + found["not_grouped"]
    assert sorted((one["name"], one["path"]) for one in every) == [(path, path) for path in wanted]
    rows = list(csv.DictReader(Path("c.csv").read_text().splitlines()))
    assert sorted(row["path"] for row in rows) == sorted(row["image"] for row in rows) == wanted


def fields_of(value: Any, prefix: str = "") -> set[str]:
    """'groups', 'groups[].members', ...: the fields of a JSON document."""
    if isinstance(value, list):
        return set().union(*(fields_of(one, f"{prefix}[]") for one in value))
    if not isinstance(value, dict):
        return set()
    mine = {f"{prefix}.{key}".lstrip(".") for key in value}
    return mine.union(*(fields_of(one, f"{prefix}.{key}".lstrip(".")) for key, one in value.items()))


@pytest.mark.parametrize(("verb", "more"), [("duplicates", ()), ("cluster", ("--no-names", "--min-size", "3"))])
def test_the_page_of_a_verb_has_every_field_of_its_json(
    verb: str, more: tuple[str, ...], folder: Path, capsys: Any
) -> None:
    (folder / "photos/bad.png").write_bytes(b"no image")
    for at in range(10):
        shutil.copy2(folder / f"photos/{at % 2 + 2}.png", folder / f"photos/more {at}.png")
    names = [f"photos/{at}.png" for at in range(7)]
    index_of(folder / "index", names, towards(0, 1, 2, 60, 61, 62, 160))
    code, out, _ = call(capsys, verb, "photos", "--model", "lit", "--json")
    first, second = json.loads(out), json.loads(call(capsys, verb, "index", "--json", *more)[1])
    assert code == 2 and first["groups"] and first["unreadable"]
    told = (ROOT / f"docs/{verb}.md").read_text(encoding="utf-8").split("## The JSON")[1].split("\n## ")[0]
    rows = [line.split(" | ")[0] for line in told.splitlines() if line.startswith("| `")]
    assert sorted(re.findall("`([^`]+)`", " ".join(rows))) == sorted(fields_of(first) | fields_of(second))


def test_only_a_sheet_is_replaced_by_a_sheet_and_before_any_work(folder: Path, capsys: Any) -> None:
    (folder / "mine.html").write_text("<html><p>my page</p></html>")
    (folder / "file").touch()
    for place, told in (
        ("mine.html", "mine.html exists, and is no sheet that vitsmith wrote: choose another name, or remove it"),
        ("file/sheet.html", "cannot write file/sheet.html"),
    ):
        for verb in ("duplicates", "cluster"):
            code, out, err = call(capsys, verb, "photos", "--model", "nowhere", "--sheet", place)
            assert (code, out) == (2, "") and told in err, err
    assert (folder / "mine.html").read_text() == "<html><p>my page</p></html>"


def test_what_cannot_be_a_place_is_told(folder: Path, capsys: Any) -> None:
    for arguments, words in (
        (("duplicates", "nowhere"), "nowhere: no such file or folder"),
        (("duplicates", "photo*/*.gif"), "nothing matches this pattern"),
        (("duplicates", "photos", "--threshold", "0"), "--threshold must be a cosine above 0"),
        (("duplicates", "photos", "--model", "lot"), "lot"),
        (("cluster", "photos"), "give one with --model, or give an index"),
        (
            ("cluster", "photos", "--model", "lit", "--min-size", "50"),
            "8 images with features are too few for groups of 50",
        ),
        (("cluster", "photos", "--model", "lit", "--labels", "cat"), "one label, 'cat'"),
    ):
        code, out, err = call(capsys, *arguments)
        assert code == 2 and out == "" and words in err, arguments


def test_bytes_are_shown_in_units_of_a_thousand() -> None:
    shown = [bytes_text(size) for size in (0, 999, 1000, 999_499, 999_500, 12_345_678, 3 * 10**9, 5 * 10**15)]
    assert shown == ["0 B", "999 B", "1.0 kB", "999.5 kB", "1.0 MB", "12.3 MB", "3.0 GB", "5000.0 TB"]

"""The contact sheet, read as a browser reads it: its pictures, its words, and what it would load."""

from __future__ import annotations

import base64
import io
import threading
import time
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.tiny import pictures
from vitsmith.data.images.read import read_image
from vitsmith.errors import InputError
from vitsmith.retrieval import sheet
from vitsmith.retrieval.sheet import Card, CardGroup, write_sheet

NAME = 'a <b> & "q" é.jpg'


class Page(HTMLParser):
    """The tags of a page with their attributes, and the text of each heading, reason and caption."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}
        self._within: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self._within.append(tag)
            self.words.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._within.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in self._within:
            self.words[tag][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for one, attributes in self.tags if one == tag]

    def pictures(self) -> list[np.ndarray]:
        data = [str(one["src"]).removeprefix("data:image/jpeg;base64,") for one in self.all("img")]
        return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one, validate=True)))) for one in data]


def test_pictures_are_small_upright_and_lead_to_their_files(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    source, turned = Image.fromarray(pictures(1, side=400)[0]), Image.Exif()
    turned[0x112] = 6  # to be turned by 90 degrees
    files = [tmp_path / "photos" / name for name in (NAME, "b.jpg", "c.png")]
    source.save(files[0], quality=95)
    source.save(files[1], quality=95, exif=turned)
    source.resize((60, 30)).save(files[2])
    done: list[int] = []
    cards = [Card(file, file.name, 0.5) for file in files]
    groups = [
        CardGroup("first", cards[:2], "found <here>"),
        CardGroup("second", cards[2:], example=Card(files[0], "by")),
    ]
    assert write_sheet(tmp_path / "out" / "sheet.html", "T", groups, on_picture=lambda: done.append(1)) == 0
    page = Page(tmp_path / "out" / "sheet.html")
    shown, order = page.pictures(), [files[0], files[1], files[0], files[2]]
    assert [one.shape for one in shown] == [(195, 200, 3), (200, 195, 3), (195, 200, 3), (30, 60, 3)]
    for copy, file in zip(shown, order, strict=True):
        wanted = ImageOps.exif_transpose(Image.open(file)).resize(copy.shape[1::-1], Image.Resampling.BOX)
        assert np.abs(copy.astype(float) - np.asarray(wanted)).mean() < 6
    addresses = [str(one["href"]) for one in page.all("a")]
    assert [tmp_path / "out" / urllib.parse.unquote(one) for one in addresses] == [
        tmp_path / "out" / ".." / "photos" / file.name for file in order
    ]
    assert page.words["h2"] == ["first", "second"] and page.words["p"] == ["found <here>"] and len(done) == 4
    assert page.words["span"] == [f"0.5000 {NAME}", "0.5000 b.jpg", "by", "0.5000 c.png"]


def test_the_page_loads_nothing_and_names_cannot_change_it(tmp_path: Path) -> None:
    hostile = "</style><script>alert(1)</script><img src=http://a/b>\x1b[2J\udcff\u202e"
    gone = Card(f"/nowhere/{hostile}", hostile)
    write_sheet(tmp_path / "s.html", hostile, [CardGroup(hostile, [gone], hostile)], note=hostile)
    page = Page(tmp_path / "s.html")
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "section", "ul", "li", "div"),
        *("span", "em"),
    }
    assert "\\x1b[2J\\xff\\u202e" in page.words["h2"][0] and "\x1b" not in page.words["html"][0]
    assert "default-src 'none'" in str(page.all("meta")[2]["content"])


def test_what_cannot_be_read_has_its_place_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    sources = (tmp_path / "gone.jpg", tmp_path / "bad.jpg", pictures(1)[0], tmp_path)
    write_sheet(
        tmp_path / "s.html", "T", [CardGroup("all", [Card(one, "x") for one in sources]), CardGroup("none", [])]
    )
    page = Page(tmp_path / "s.html")
    assert [one.split("(")[0].split(";")[0] for one in page.words["em"]] == [
        *("cannot be read ", "is not an image but text that says 'no image'", "is a folder"),
    ]
    assert len(page.all("li")) == 4 and len(page.all("img")) == 1 and not page.all("a")
    assert page.words["p"] == ["None."]


def test_large_pictures_are_decoded_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PNG of many megapixels takes ten bytes for each pixel."""
    source = Image.fromarray(pictures(1, side=60)[0])
    for name in ("a.png", "b.tif", "c.bmp", "d.webp", "e.jpg"):
        source.save(tmp_path / name)
    source.resize((20, 20)).save(tmp_path / "small.png")
    counting, inside, most = threading.Lock(), 0, 0

    def slow(one: Path, **options: Any) -> Any:
        nonlocal inside, most
        with counting:
            inside += one.suffix != ".jpg" and "small" not in one.name
            most = max(most, inside)
        time.sleep(0.02)
        pixels = read_image(one, **options)
        with counting:
            inside -= one.suffix != ".jpg" and "small" not in one.name
        return pixels

    monkeypatch.setattr(sheet, "_LARGE", 60 * 40)
    monkeypatch.setattr(sheet, "available_cores", lambda: 4)
    monkeypatch.setattr(sheet, "read_image", slow)
    cards = [Card(one, one.name) for one in sorted(tmp_path.iterdir()) * 2]
    write_sheet(tmp_path / "s.html", "T", [CardGroup("all", cards)])
    assert most == 1 and len(Page(tmp_path / "s.html").all("img")) == 12


def test_a_page_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "MOST", 5)
    groups = [CardGroup(str(size), [Card(pictures(1)[0], "x")] * size) for size in (3, 4, 2)]
    assert write_sheet(tmp_path / "s.html", "T", groups) == 4
    page = Page(tmp_path / "s.html")
    assert len(page.all("img")) == 5 and page.words["p"] == ["2 more are not shown.", "2 more are not shown."]


def test_examples_count_too_and_stand_only_with_their_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "MOST", 5)
    card = Card(pictures(1)[0], "x")
    groups = [CardGroup(str(size), [card] * size, example=card) for size in (3, 2, 2, 0)]
    assert write_sheet(tmp_path / "s.html", "T", groups) == 3  # 1 + 3, then one picture without its example
    page = Page(tmp_path / "s.html")
    assert len(page.all("img")) == 5 and [one.get("class") for one in page.all("li")].count("example") == 1
    assert page.words["p"] == ["1 more are not shown.", "2 more are not shown.", "None."]


@pytest.mark.parametrize(("name", "told"), [("cat.jpg", "ends in .html"), ("folder.html", "is a folder")])
def test_only_a_page_is_written_over(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "cat.jpg").write_bytes(b"a photo")
    with pytest.raises(InputError, match=told):
        write_sheet(tmp_path / name, "T", [])
    assert (tmp_path / "cat.jpg").read_bytes() == b"a photo"

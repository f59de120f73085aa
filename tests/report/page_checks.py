"""Reads a page as a strict reader would: every tag closed in order, every picture whole, nothing from elsewhere."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser

from PIL import Image

VOID = {"meta", "img", "source", "br"}


class Page(HTMLParser):
    """What is on a page. Raises AssertionError for a tag that is not closed where it should be."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.cells: list[list[str]] = []
        self.commands: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.cells.append([])
        elif tag in ("td", "th"):
            self.cells[-1].append("")
        elif tag == "code":
            self.commands.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> while open are {self._open}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if {"td", "th"} & set(self._open):
            self.cells[-1][-1] += data
        elif "code" in self._open:
            self.commands[-1] += data

    def pictures(self) -> list[Image.Image]:
        """Every picture, decoded whole. Raises AssertionError for one that is not inside the page."""
        return [decode(uri) for _, attributes in self.tags for uri in _sources(attributes)]


def decode(uri: str) -> Image.Image:
    """A data URI of a PNG file as an image."""
    head, _, data = uri.partition(",")
    assert head == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    image.load()
    assert image.format == "PNG"
    return image


def _sources(attributes: dict[str, str]) -> list[str]:
    return [attributes[name] for name in ("src", "srcset") if name in attributes]

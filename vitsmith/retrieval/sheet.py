"""A contact sheet: groups of pictures with captions as one HTML file that loads nothing, with small copies inside.

It needs neither torch nor a browser to write. A content security policy forbids the page to load or run anything.
"""

from __future__ import annotations

import base64
import html
import os
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO

import numpy as np
import simplejpeg
from PIL import Image

from vitsmith.arguments import path as checked_path
from vitsmith.data.images.header import picture_header
from vitsmith.data.images.read import read_image
from vitsmith.data.images.sources import ImageSource, name_source
from vitsmith.errors import ImageError, InputError, OutputError, bare
from vitsmith.escapes import visible
from vitsmith.files.atomic import check_writable, replacing
from vitsmith.files.failures import explained
from vitsmith.machine import available_cores

SIDE = 200
"""The longest side of a small copy, in pixels."""
MOST = 5_000
"""Pictures on one page: each takes about 10 KB in the file."""
SUFFIXES = (".html", ".htm")
_QUALITY = 82  # of JPEG: about 8 KB for a photo
_READERS = 8  # threads at most: each holds a whole picture
_LARGE = 16_000_000
"""Pixels from which on a picture is decoded while no other large one is: it takes up to ten bytes for each. So all
threads together hold about 1.3 GB and one picture of any size. JPEGs are decoded at an eighth of their size."""


@dataclass(frozen=True)
class Card:
    """A picture on the sheet. `caption` is usually its name, `score` is shown before it."""

    source: ImageSource
    caption: str
    score: float | None = None


@dataclass(frozen=True)
class CardGroup:
    """Pictures under a heading. `note` is a line below the heading, `example` the picture that they were found by."""

    heading: str
    pictures: Sequence[Card]
    note: str = ""
    example: Card | None = None


def check_sheet(path: str | os.PathLike[str]) -> Path:
    """`path`, where a sheet can be written: call it before any work. Nothing but an earlier sheet is replaced.

    Raises InputError for a name that is not a page's, OutputError where another file is there or none can be written.
    """
    place = checked_path(path, "a sheet")
    if place.is_dir():
        raise OutputError(f"{place} is a folder: give a file for the sheet, as {place / 'sheet.html'}")
    if place.suffix.lower() not in SUFFIXES:
        raise InputError(f"{place} is no name for a page: give a file that ends in .html")
    check_writable(place)
    if place.exists() and not _is_sheet(place):
        raise OutputError(f"{place} exists, and is no sheet that vitsmith wrote: choose another name, or remove it")
    return place


def write_sheet(
    path: str | os.PathLike[str],
    title: str,
    groups: Sequence[CardGroup],
    *,
    note: str = "",
    on_picture: Callable[[], None] = lambda: None,
) -> int:
    """Write the pictures of `groups` with their captions as one page, and return how many were left out.

    Pictures are upright and at most `SIDE` pixels wide and high, and each leads to its file. One that is missing or
    cannot be read has its place, with the reason. At most `MOST` are shown; the page says where more were left out.
    `on_picture` is called after each.

    Raises InputError for a name that is not a page's, OutputError when it cannot be written.
    """
    place = check_sheet(path)
    kept, left_out = _first(groups, MOST)
    shown = [one for group in kept for one in ((group.example,) if group.example else ()) + tuple(group.pictures)]
    with (
        replacing(place) as partial,
        partial.open("wb") as file,
        ThreadPoolExecutor(min(available_cores(), _READERS), thread_name_prefix="sheet") as pool,
    ):
        try:
            one_large = Lock()
            copies = _told(pool.map(lambda one: _copy(one.source, one_large), shown), on_picture)
            _write(file, _opening(title, note))
            for group, whole in zip(kept, groups, strict=True):
                _write_group(file, group, len(whole.pictures), copies, place)
            _write(file, "</main>\n</body>\n</html>\n")
        finally:
            pool.shutdown(cancel_futures=True)
    return left_out


def _is_sheet(place: Path) -> bool:
    """Whether a file is a sheet, which may be replaced, or empty."""
    with explained(place), place.open("rb") as file:
        start = file.read(len(_HEAD))
    return not start or _MARK in start


def _first(groups: Sequence[CardGroup], most: int) -> tuple[list[CardGroup], int]:
    """The groups with at most `most` pictures in all, examples too, and how many pictures are left out.

    An example stands where one of its pictures does, or where it has none.
    """
    kept = []
    room = most
    for group in groups:
        example = group.example if room > min(len(group.pictures), 1) else None
        room -= example is not None
        kept.append(CardGroup(group.heading, group.pictures[:room], group.note, example))
        room -= len(kept[-1].pictures)
    return kept, sum(len(whole.pictures) - len(some.pictures) for whole, some in zip(groups, kept, strict=True))


def _told(copies: Iterator[str], on_picture: Callable[[], None]) -> Iterator[str]:
    for one in copies:
        on_picture()
        yield one


def _write_group(file: IO[bytes], group: CardGroup, count: int, copies: Iterator[str], page: Path) -> None:
    note = f"<p>{_text(group.note)}</p>\n" if group.note else ""
    _write(file, f"<section>\n<h2>{_text(group.heading)}</h2>\n{note}<ul>\n")
    if group.example:
        _write(file, _card(group.example, next(copies), page, "example"))
    for picture in group.pictures:
        _write(file, _card(picture, next(copies), page))
    left = count - len(group.pictures)
    more = f"<p>{left:,} more are not shown.</p>\n" if left else "" if count or group.note else "<p>None.</p>\n"
    _write(file, f"</ul>\n{more}</section>\n")


def _card(picture: Card, copy: str, page: Path, kind: str = "") -> str:
    name = _text(picture.caption)
    score = "" if picture.score is None else f"<b>{picture.score:.4f}</b> "
    if copy.startswith("<img") and (address := _address(picture.source, page)):
        copy = f'<a href="{address}">{copy}</a>'
    opened = f'<li class="{kind}">' if kind else "<li>"
    return f'{opened}<div>{copy}</div><span title="{name}">{score}{name}</span></li>\n'


def _copy(source: ImageSource, one_large: Lock) -> str:
    """HTML of a small copy, or of the reason why there is none."""
    alone: AbstractContextManager[object] = one_large if _is_large(source) else nullcontext()
    try:
        with alone:
            pixels = read_image(source, needed=(SIDE, SIDE))
    except ImageError as error:
        return f"<em>{_text(bare(name_source(source), str(error)))}</em>"
    small = Image.fromarray(pixels)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(small), quality=_QUALITY)
    address = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    return f'<img src="{address}" width="{small.width}" height="{small.height}" alt="">'


def _is_large(source: ImageSource) -> bool:
    """Whether a file's picture takes much memory to decode. What is no file is in memory already."""
    header = picture_header(source) if isinstance(source, str | os.PathLike) else None
    return header is not None and header.format not in ("JPEG", "MPO") and header.width * header.height >= _LARGE


def _address(source: ImageSource, page: Path) -> str:
    """The address of a file as seen from the page, so that both may be moved together; '' for what is no file."""
    if not isinstance(source, str | os.PathLike):
        return ""
    try:
        here, there = os.path.realpath(page.parent), os.path.realpath(source)
        address = urllib.parse.quote(os.fsencode(os.path.relpath(there, here)).replace(os.fsencode(os.sep), b"/"))
    except (OSError, ValueError):  # on another drive
        return ""
    return address if "/" in address.partition(":")[0] else f"./{address}"


def _text(text: str) -> str:
    return html.escape(visible(text))


def _write(file: IO[bytes], text: str) -> None:
    file.write(text.encode())


def _opening(title: str, note: str) -> str:
    shown = f"<p>{_text(note)}</p>\n" if note else ""
    return f"{_HEAD}<title>{_text(title)}</title>\n{_STYLE}</head>\n<body>\n<main>\n<h1>{_text(title)}</h1>\n{shown}"


_MARK = b'<meta name="generator" content="vitsmith contact sheet">'
"""By this a sheet is known as one."""
_HEAD = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
{_MARK.decode()}
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
"""
_STYLE = """<style>
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --text: #1c2430; --faint: #5d6878; --line: #d9dee5;
  --mark: #2f6fd6; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14181e; --card: #1d232b; --text: #e6eaf0; --faint: #9aa6b5; --line: #313a46; --mark: #7fb0ff; }
}
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.4 system-ui, sans-serif; }
main { max-width: 1500px; margin: auto; padding: 1.5rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .3rem; overflow-wrap: anywhere; }
p { margin: .2rem 0 .6rem; color: var(--faint); overflow-wrap: anywhere; }
ul { list-style: none; margin: 0; padding: 0; display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(216px, 100%), 1fr)); }
li { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 8px;
  content-visibility: auto; contain-intrinsic-size: auto 270px; }
li.example { border: 2px solid var(--mark); }
li div { height: 200px; display: flex; align-items: center; justify-content: center; }
li img { display: block; max-width: 100%; height: auto; max-height: 200px; border-radius: 3px; }
li em { color: var(--faint); font-size: .85rem; overflow-wrap: anywhere; max-height: 200px; overflow: hidden; }
li a { color: inherit; text-decoration: none; }
li span { font-size: .82rem; margin-top: 6px; color: var(--faint); overflow-wrap: anywhere; display: -webkit-box;
  -webkit-line-clamp: 3; -webkit-box-orient: vertical; overflow: hidden; }
li b { color: var(--text); font-variant-numeric: tabular-nums; }
@media print { li { break-inside: avoid; } }
</style>
"""

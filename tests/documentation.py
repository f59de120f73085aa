"""What the documentation is made of: pages, blocks of code, tables, links, commands, and changes to files."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tests import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")


class Block(NamedTuple):
    """A fenced block of code."""

    language: str
    text: str
    line: int
    """Where its text begins, counted from 0."""


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page, of these languages if any are named."""
    text = page.read_text(encoding="utf-8")
    found = [Block(m[1], m[2], text.count("\n", 0, m.start(2))) for m in _BLOCK.finditer(text)]
    return [block for block in found if not languages or block.language in languages]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    return _LINK.findall(prose(page))


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page ends with, by GitHub's rule."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(page: Path) -> list[list[str]]:
    """Every `vitsmith ...` of a page, in blocks of shell and in the text, as arguments."""
    lines = [line for block in blocks(page, "sh") for line in block.text.replace("\\\n", " ").splitlines()]
    lines += _CODE.findall(prose(page))
    return [words[1:] for line in lines for words in _simple_commands(line) if words[0] == "vitsmith"]


def _simple_commands(line: str) -> Iterator[list[str]]:
    """The commands of a line, without what is piped, redirected or said of them."""
    if "vitsmith" not in line:
        return
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    redirected = False
    for word in lexer:
        if set(word) <= set("|&;"):
            if words:
                yield words
            words, redirected = [], False
        elif set(word) <= set("<>"):
            redirected = True
        elif redirected:
            redirected = False
        else:
            words.append(word)
    if words:
        yield words


def table_after(page: Path, heading: str) -> list[list[str]]:
    """Cells of the first table whose header line contains `heading`, without header and rule."""
    lines = iter(page.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith("|") and heading in line:
            break
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def apply(difference: str, root: Path) -> None:
    """Makes the change of a `diff` block to a file: a line with its path, then hunks parted by '@@'.

    A hunk is lines that are kept, removed and added; what is kept and removed must be in the file exactly once.
    """
    first, _, body = difference.partition("\n")
    path = root / first.removeprefix("+++ b/")
    text = path.read_text(encoding="utf-8")
    for hunk in re.split(r"^@@\n", body, flags=re.MULTILINE):
        lines = hunk.splitlines()
        old = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("+"))
        new = "".join(f"{line[1:]}\n" for line in lines if not line.startswith("-"))
        assert text.count(old) == 1, f"{path.name} has {text.count(old)} places, not one, that read\n{old}"
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def field_rows(model: type[BaseModel], prefix: str = "") -> list[list[str]]:
    """Name, default and description of every field, those of inner tables under 'table.field'."""
    rows = []
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        tables = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if tables:
            rows += field_rows(tables[0], f"{prefix}{name}.")
            continue
        choices = [f"`{choice}`" for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
        described = f"{field.description} ({', '.join(choices)})" if choices else str(field.description)
        rows.append([f"`{prefix}{name}`", _shown_field_default(field), described])
    return rows


def _shown_field_default(field: FieldInfo) -> str:
    """As --set takes it; nothing for no default, or one that is nothing."""
    if field.is_required():
        return "required"
    if field.default in (None, ""):
        return ""
    return f"`{field.default if isinstance(field.default, str) else json.dumps(field.default)}`"

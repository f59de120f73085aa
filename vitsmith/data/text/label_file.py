"""Files that list names, one on each line: class names, labels, templates. All are read by the same rules.

    # a line that begins with '#' is a comment
    tabby cat
    "lynx, bobcat"               quotes as in CSV, for names that begin with '#', a quote or a number
    crane    a crane, the bird   behind a tab: the words that zero-shot prompts use instead of the name
    sofa     a sofa    a couch   behind further tabs: more words for the prompts

A line ends in a line feed, a carriage return or both, and in nothing else: a form feed or U+2028 inside a name shifts
no other name. Where the position of a name in the file is the number of its class, a blank line is refused. JSON,
tables and numbered lines are refused too, because their lines could be taken for names.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from vitsmith.data.text.class_lists import CLASS_LISTS, class_list
from vitsmith.errors import InputError
from vitsmith.files.contents import content_of, mistaken_text
from vitsmith.files.regular import read_regular
from vitsmith.names import wrong_name

LARGEST = 64 << 20
"""The largest file, in bytes; the 21,843 names of ImageNet-21k take 0.5 MB."""

_HEAD = 4096
_ENDS = re.compile(r"\r\n|\r|\n")
_LINE = re.compile(r'("(?:[^"]|"")*"|[^"\t][^\t]*|)[ ]*(?:\t(.*))?', re.DOTALL)
"""A name, with or without quotes, optionally followed by tabs and words."""
_CELL = re.compile(r'(?:^|(?<=\t))[ ]*("(?:[^"]|"")*"[ ]*(?=\t|$)|[^\t]*)')
"""The words between two tabs, with or without quotes, within which a tab is part of the words."""
_QUOTES = 'write  "a, b"  for text in quotes, and "" for each quote within it'
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_INVISIBLE_ENDS = "\ufeff\u200b\u2060"
_UTF_16_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

_NUMBER_FIRST = re.compile(r"[{\[(]?\s*'?(\d{1,9})'?(\s*[:;,=|)\]]|\.\s|\s)\s*\S")
_NUMBER_LAST = re.compile(r".*\S\s*[:;,=|\t]\s*(\d{1,9})")
_WORDNET = re.compile(r"n\d{8}[ ,;:]+\S")
_HEADINGS = {"id", "index", "idx", "name", "names", "label", "labels", "class", "classes", "class_name", "category"}


class LabelEntry(NamedTuple):
    """A name in a file."""

    line: int
    """The number of the line, counted from 1."""
    name: str
    words: str
    """The words behind the first tab; empty when there are none."""
    others: tuple[str, ...] = ()
    """The words behind further tabs."""


class _Line(NamedTuple):
    number: int
    text: str


def read_class_names(path: str | os.PathLike[str], *, error: type[InputError] = InputError) -> tuple[str, ...]:
    """The names of classes in the order of their numbers: the first is that of class 0. Words behind tabs are ignored.

    Where there is no such file, 'imagenet-1k' and the others of `CLASS_LISTS` are the lists that come with vitsmith.
    A name may occur twice, as in ImageNet. Raises `error` with one line for a file that cannot be read, holds no names
    or is another kind of file, for a blank line between the names, and for text that cannot be a name.
    """
    where = os.fsdecode(path)
    if where in CLASS_LISTS and not Path(where).exists():
        return class_list(where)
    text = read_text(path, "class names", error=error)
    entries = parse_entries(text, where, counted=True, error=error)
    return tuple(entry.name for entry in entries)


def read_entries(path: str | os.PathLike[str], *, error: type[InputError] = InputError) -> list[LabelEntry]:
    """Names and words, whose order does not matter: blank lines are skipped. Otherwise as `read_class_names`."""
    return parse_entries(read_text(path, "labels", error=error), os.fsdecode(path), error=error)


def parse_entries(
    text: str, where: str, *, counted: bool = False, error: type[InputError] = InputError
) -> list[LabelEntry]:
    """The names in a text. `counted`: a name's position is its number. Raises `error`, which begins with `where`."""
    lines = _lines(text)
    if told := _another_kind(where, text, lines, counted=counted):
        raise error(f"{where} {told}")
    entries = []
    for line in lines:
        try:
            entries.append(_entry(line))
        except ValueError as problem:
            raise error(f"{where}, line {line.number}: {problem}") from None
    if not entries:
        raise error(f"{where} holds no {'class names' if counted else 'labels'}: write one on each line")
    if counted and (blank := _blank_lines(text, entries)):
        raise error(
            f"{where} has a blank line ({blank}), and the position of a name is the number of its class: delete the "
            "line, or write the missing name"
        )
    return entries


def read_text(path: str | os.PathLike[str], names: str, *, error: type[InputError] = InputError) -> str:
    """The text of a UTF-8 file without its byte order mark; `names` says in messages what the file should list.

    Raises `error` with one line for a file that cannot be read; for a file that is not text, the line says what it is.
    """
    where = os.fsdecode(path)
    try:
        data = read_regular(path, largest=LARGEST)
    except OSError as problem:
        raise error(
            f"cannot read the {names} in {where}: {problem.strerror}; give a text file with one on each line"
        ) from None
    content = mistaken_text(data[:_HEAD]) if data else None
    if content is not None and content.kind != "json":
        raise error(f"{where} {content.told}")
    try:
        return decode_text(data, where, error=error)
    except InputError:
        content = content_of(Path(path))
        if content.kind in ("text", "unknown", "zeros"):
            raise
        raise error(f"{where} is {content.what}: give a text file with {names}, one on each line") from None


def decode_text(data: bytes, where: str, *, error: type[InputError] = InputError) -> str:
    """The text of UTF-8 bytes without a byte order mark. Raises `error`, which begins with `where`, for other bytes."""
    if data.startswith(_UTF_16_32):
        raise error(f"{where} is UTF-16 or UTF-32 text: save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = len(_ENDS.findall(data[: problem.start].decode("latin-1"))) + 1
        raise error(
            f"{where} is not UTF-8 text (byte 0x{data[problem.start]:02x} in line {line}; Latin-1 or Windows text?): "
            "save it as UTF-8"
        ) from None
    if "\0" in text:
        raise error(f"{where} is not a text file, or is UTF-16 text (it has NUL bytes): save it as UTF-8 text")
    return text


def parse_templates(text: str, where: str, *, error: type[InputError] = InputError) -> list[str]:
    """The templates in a text: comments and quotes as for names, but a tab is white space, and braces are allowed."""
    found = []
    for line in _lines(text):
        try:
            found.append(_entry(line._replace(text=line.text.replace("\t", " "))).name)
        except ValueError as problem:
            raise error(f"{where}, line {line.number}: {problem}") from None
    return found


def split_lines(text: str) -> list[str]:
    """The lines of a text, which end in line feed, carriage return or both, and in nothing else."""
    lines = _ENDS.split(text)
    return lines if lines[-1] else lines[:-1]


def _lines(text: str) -> list[_Line]:
    """The lines with a name: blank lines and comments are left out."""
    stripped = (_strip(line) for line in split_lines(text))
    return [
        _Line(number, line) for number, line in enumerate(stripped, 1) if line and not line.lstrip().startswith("#")
    ]


def _strip(line: str) -> str:
    """The line without white space or byte order mark at its ends; joined files have such marks in the middle."""
    shorter = line.strip().strip(_INVISIBLE_ENDS).rstrip()
    return ("\t" if line.startswith("\t") else "") + shorter.lstrip() if shorter else ""


def _entry(line: _Line) -> LabelEntry:
    parts = _LINE.fullmatch(line.text)
    if parts is None:
        raise ValueError(f"its quotes do not match: {_QUOTES}")
    cells = _CELL.findall(parts[2] or "")
    if any(one.startswith('"') and not _QUOTED.fullmatch(one.strip()) for one in cells):
        raise ValueError(f"the quotes of its words do not match: {_QUOTES}")
    quoted, words = parts[1], [_unquoted(one) for one in cells]
    name = quoted[1:-1].replace('""', '"') if quoted.startswith('"') else quoted
    name = name.strip()
    if wrong := wrong_name(name):
        raise ValueError(f"the name {wrong}")
    first, *others = [one for one in words if one] or [""]
    return LabelEntry(line.number, name, first, tuple(dict.fromkeys(one for one in others if one != first)))


def _unquoted(words: str) -> str:
    """Words without white space around them, and without quotes as in CSV."""
    words = words.strip()
    return words[1:-1].replace('""', '"').strip() if _QUOTED.fullmatch(words) else words


def _blank_lines(text: str, entries: Sequence[LabelEntry]) -> str:
    """Numbers of the blank lines before the last name, as 'line 3' or 'line 3 and 4 more'."""
    lines = split_lines(text)[: entries[-1].line]
    blank = [number for number, line in enumerate(lines, 1) if not _strip(line)]
    return f"line {blank[0]}" + (f" and {len(blank) - 1} more" if len(blank) > 1 else "") if blank else ""


def _another_kind(where: str, text: str, lines: Sequence[_Line], *, counted: bool) -> str:
    """A message that says what the file is instead of a list of names, and what to do; '' when it is such a list."""
    texts = [line.text for line in lines]
    names = "give a text file with one name on each line"
    if _is_json(text) or (texts and all(_is_json(one.rstrip(",")) for one in texts)):
        return f"is JSON, not a list of names: {names}, in the order of the classes"
    if texts and re.match(r"\[\s*['\"]", texts[0]) and texts[-1].endswith("]"):
        return f"is a list of Python or JSON, not a list of names: {names}"
    if told := _table(where, texts):
        return f"{told}: {names}"
    if len(texts) < 2:
        return ""
    numbered = texts if counted else [one for one in texts if "\t" not in one]  # name, tab, words: '7<TAB>the digit 7'
    for rows in (texts, texts[1:]):  # perhaps there is a heading
        if len(numbered) == len(texts) and len(rows) > 1 and (told := _numbering(rows)):
            quotes = f"'\"{rows[0][:40]}\"'" if '"' not in rows[0] else "quotes"
            return f"{told} (as {rows[0][:40]!r}): {names} and no numbers; write {quotes} where that is the name"
    if all(_WORDNET.match(one) for one in texts):
        return f"has a WordNet number before each name (as {texts[0][:40]!r}): {names} and nothing else"
    if all(one.startswith(("- ", "* ")) for one in texts):
        return f"has a list mark before each name (as {texts[0][:40]!r}): {names} and nothing else"
    return ""


def _is_json(text: str) -> bool:
    if not text.lstrip("\ufeff \t\r\n").startswith(("{", "[")):
        return False
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False
    except RecursionError:
        return True


def _table(where: str, texts: Sequence[str]) -> str:
    """The sign that a file with the suffix of a table has a heading or several columns; '' when there is none."""
    suffix = os.path.splitext(where)[1].lower()  # noqa: PTH122 - a name, perhaps of no path
    if suffix not in (".csv", ".tsv") or not texts:
        return ""
    if {part.strip().strip('"').lower() for part in re.split("[,;\t]", texts[0])} <= _HEADINGS:
        return f"is a table with a heading, {texts[0][:40]!r}"
    if suffix == ".csv" and (row := next((one for one in texts if not one.startswith('"') and "," in one), "")):
        return f"is a table with several columns (as {row[:40]!r}), or has a name with a comma that is not in quotes"
    return ""


def _numbering(texts: Sequence[str]) -> str:
    """A description of how lines are numbered, as 'has a number before each name'; '' when they are not."""
    first = [_NUMBER_FIRST.match(one) for one in texts]
    if matches := _all(first):
        numbers = [int(one[1]) for one in matches]
        marked = all(one[2].strip() for one in matches)
        # '10 euro' and '20 euro' are names: numbers followed by only a space count as numbering when they have no gaps.
        if len(set(numbers)) == len(numbers) and (marked or _is_count(numbers)):
            return "has a number before each name"
    if (matches := _all([_NUMBER_LAST.fullmatch(one) for one in texts])) and _is_count(
        [int(one[1]) for one in matches]
    ):
        return "has a number behind each name"
    return ""


def _all(matches: Iterable[re.Match[str] | None]) -> list[re.Match[str]]:
    """All matches, or an empty list when one is missing."""
    found = list(matches)
    return [one for one in found if one is not None] if all(found) else []


def _is_count(numbers: Sequence[int]) -> bool:
    return sorted(numbers) in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))

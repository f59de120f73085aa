"""Escape names and messages for output: whatever they contain, they appear as one line of text.

A name comes from a folder, a table or a stranger's checkpoint. It may hold control sequences for a terminal, markup for
a page or card, and bytes that are not UTF-8, which Python keeps as surrogates (PEP 383).
"""

from __future__ import annotations

import itertools
import re
import shlex
import sys
import unicodedata

# Controls (C0, DEL, C1), line and paragraph separators, marks that change the direction of text or are invisible, and
# surrogates. The joiners U+200C and U+200D are allowed: Persian and emoji need them.
UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    """The text with invisible characters, and those that move others, written as escapes: one line in any output.

    A byte that is not UTF-8 becomes `\\xe9`, an ASCII control `\\x1b`, a line break `\\n`, other characters `\\u202e`.
    """
    return text if text.isascii() and text.isprintable() else UNSEEN.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if code < 0x80:
        return f"\\x{code:02x}"
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name, as os.fsdecode keeps it
        return f"\\x{code - 0xDC00:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shortened(text: str, most: int) -> str:
    """The beginning and the end of a text, in at most `most` columns; a Chinese character takes two columns."""
    if columns(text) <= most:
        return text
    end = (most - 1) // 3
    return f"{_fitting(text, most - 1 - end)}…{_fitting(text[::-1], end)[::-1]}"


_LONGEST_NAME, _LONGEST_WORD, _LONGEST_PATH = 160, 300, 1000  # columns; no part of a path has more than 255 bytes
_NAMES = re.compile(r"(?<!\w)(['\"])(?P<name>.*?)\1(?!\w)|(?P<word>\S{1001,}|[^\s/]{301,})", re.DOTALL)


def with_short_names(message: str) -> str:
    """A message whose quoted names, and words such as paths, are shortened in their middle where they are very long."""
    return _NAMES.sub(_short_name, message)


def _short_name(found: re.Match[str]) -> str:
    if found["word"] is not None:
        return shortened(found[0], _LONGEST_PATH if "/" in found[0] else _LONGEST_WORD)
    most = _LONGEST_PATH if "/" in found["name"] else _LONGEST_NAME  # a path stays one that can be typed
    return f"{found[1]}{shortened(found['name'], most)}{found[1]}"


def columns(text: str) -> int:
    """The approximate width of a text in a terminal, in columns."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _fitting(text: str, most: int) -> str:
    ends = itertools.accumulate(map(_width, text[:most]))
    return text[: sum(end <= most for end in ends)]


# Characters with a meaning in CommonMark or GitHub's dialect: emphasis, code, links, HTML, tables, mathematics,
# strikes, entities. An underscore inside a word has none; a colon only has one in an address, which GitHub turns into a
# link.
_MARKUP = re.compile(r"[`*\[\]<>$~&|]|\\(?=[!-/:-@\[-`{-~])|(?<![^\W_])_|_(?![^\W_])|(?<=\w):(?=//)|(?<=www)\.", re.I)


def markdown(text: str) -> str:
    """A line of Markdown that shows exactly these characters."""
    return _MARKUP.sub(r"\\\g<0>", visible(text))


def shell_quoted(argument: str) -> str:
    """One argument quoted for a POSIX shell, in visible characters: `'two words'`, `$'caf\\xe9'` (bash, zsh)."""
    if visible(argument) == argument:
        return shlex.quote(argument)
    data = argument.encode("utf-8", "surrogatepass" if _lone(argument) else "surrogateescape")
    return "$'" + "".join(_typed(byte) for byte in data) + "'"


def typed_command() -> str:
    """The command of this process, in one line, quoted for a shell."""
    return " ".join(["vitsmith", *map(shell_quoted, sys.argv[1:])])


def _lone(text: str) -> bool:
    """Whether a text has surrogates that do not represent a byte."""
    return any(0xD800 <= ord(character) <= 0xDFFF and not 0xDC80 <= ord(character) <= 0xDCFF for character in text)


def _typed(byte: int) -> str:
    character = chr(byte)
    if character in "'\\":
        return f"\\{character}"
    return character if 0x20 <= byte < 0x7F else f"\\{byte:03o}"

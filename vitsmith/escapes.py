"""Names and messages as outputs show them: whatever is in them, they are text, and one line of it.

A name comes from a folder, a table or a stranger's checkpoint. It may hold what a terminal obeys, what a page or card
would read as markup, and bytes that are no UTF-8, which Python keeps as surrogates (PEP 383).
"""

from __future__ import annotations

import itertools
import re
import shlex
import sys
import unicodedata

# Controls (C0, DEL, C1), line and paragraph separators, marks that turn the direction of text or are not seen at all,
# and surrogates. The joiners U+200C and U+200D stay: Persian and emoji are written with them.
UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    """The text with everything that is not seen, or would move what is, written as an escape: one line in any output.

    A byte that is no UTF-8 becomes `\\xe9`, an ASCII control `\\x1b`, a line break `\\n`, other characters `\\u202e`.
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
    """The text in at most `most` columns, of which a Chinese character takes two: its beginning and its end."""
    if columns(text) <= most:
        return text
    end = (most - 1) // 3
    return f"{_fitting(text, most - 1 - end)}…{_fitting(text[::-1], end)[::-1]}"


def columns(text: str) -> int:
    """How wide a terminal shows a text, about."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _fitting(text: str, most: int) -> str:
    ends = itertools.accumulate(map(_width, text[:most]))
    return text[: sum(end <= most for end in ends)]


# What CommonMark and GitHub's dialect of it give a meaning: emphasis, code, links, HTML, tables, mathematics, strikes,
# entities. An underscore inside a word has none, nor has a colon but in an address, which GitHub makes a link of.
_MARKUP = re.compile(r"[`*\[\]<>$~&|]|\\(?=[!-/:-@\[-`{-~])|(?<![^\W_])_|_(?![^\W_])|(?<=\w):(?=//)|(?<=www)\.", re.I)


def markdown(text: str) -> str:
    """The text in a line of Markdown that shows just these characters."""
    return _MARKUP.sub(r"\\\g<0>", visible(text))


def shell_quoted(argument: str) -> str:
    """One argument as it is typed in a POSIX shell, in visible characters: `'two words'`, `$'caf\\xe9'` (bash, zsh)."""
    if visible(argument) == argument:
        return shlex.quote(argument)
    data = argument.encode("utf-8", "surrogatepass" if _lone(argument) else "surrogateescape")
    return "$'" + "".join(_typed(byte) for byte in data) + "'"


def typed_command() -> str:
    """The command that this process carries out, in one line, as a shell takes it."""
    return " ".join(["vitsmith", *map(shell_quoted, sys.argv[1:])])


def _lone(text: str) -> bool:
    """Whether there are surrogates that stand for no byte."""
    return any(0xD800 <= ord(character) <= 0xDFFF and not 0xDC80 <= ord(character) <= 0xDCFF for character in text)


def _typed(byte: int) -> str:
    character = chr(byte)
    if character in "'\\":
        return f"\\{character}"
    return character if 0x20 <= byte < 0x7F else f"\\{byte:03o}"

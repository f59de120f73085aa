"""Read a condition such as  taken >= '2024-05-01' and width > 1000  into a tree; nothing of it is ever run.

The text is cut into words, numbers, texts in quotes and signs. Each but the signs and the few words of the language is
replaced by a name of ours before Python's parser orders them; so no other part of Python can be written.
"""

from __future__ import annotations

import ast
import re
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from vitsmith.errors import InputError, shown

LONGEST = 10_000
"""Characters of a condition."""

TokenKind = Literal["column", "function", "text", "number"]

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
    |(?P<column>`[^`]+`)
    |(?P<date>\d{4}-\d\d-\d\d[\d.:+TZ-]*)
    |(?P<number>(?:(?:0|[1-9]\d*)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<word>[^\W\d]\w*)
    |(?P<other>===|=<|=>)
    |(?P<sign>==|!=|<>|<=|>=|[=<>≤≥≠()\[\],-])""",
    re.VERBOSE,
)
_SIGNS = {"=": "==", "<>": "!=", "≤": "<=", "≥": ">=", "≠": "!="}  # the first two as in SQL
_LANGUAGE = ("and", "or", "not", "in", "is")
_VALUES = {"none": None, "null": None, "true": True, "false": False}
_EXAMPLE = "write it as  taken >= '2024-05-01' and width > 1000"
_HINTS = {
    "+*/%^": "nothing is computed here",
    "&|": "conditions are joined by 'and' and 'or'",
    "!~": "write 'not' before a condition, and '!=' between two values",
    "\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb\u00b4": "a text stands between straight quotes, ' or \"",
    ";#": "there is one condition, and nothing follows it",
}
"""What to write in place of signs of other languages."""
_OTHER_SIGNS = {"===": "==", "=<": "<=", "=>": ">="}
_OTHER_WORDS = {
    "like": "contains(city, 'Par') or startswith(city, 'Par')",
    "ilike": "contains(city, 'Par') or startswith(city, 'Par')",
    "between": "100 <= width <= 200",
}
"""Words of SQL that are none here, and what stands for them."""


class Token(NamedTuple):
    """A column, function, text or number of a condition."""

    kind: TokenKind
    value: Any
    at: int
    """Its first character."""


@dataclass
class Expression:
    """A condition, read. Its names of Python stand for `tokens`."""

    text: str
    example: str = _EXAMPLE
    """What a message says of how one is written."""
    tree: ast.expr = field(default_factory=lambda: ast.Constant(None))
    tokens: dict[str, Token] = field(default_factory=dict)
    _places: list[tuple[int, int]] = field(default_factory=list)
    """(character of the source for Python, character of the text) of each token, in order."""

    @property
    def columns(self) -> frozenset[str]:
        """The columns that it names."""
        return frozenset(token.value for token in self.tokens.values() if token.kind == "column")

    def token(self, node: ast.expr) -> Token | None:
        """What a node stands for; None for what is made of several."""
        return self.tokens[node.id] if isinstance(node, ast.Name) else None

    def mistake(self, reason: str, node: ast.expr | None = None, *, at: int | None = None) -> InputError:
        """The error for a mistake at a node, or at a character of the text."""
        if at is None:
            at = self._place(node.col_offset) if node is not None else 0
        rest = self.text[at:].strip()
        where = f"at {shown(rest, 40)} (character {at + 1})" if rest else "at its end"
        return InputError(f"`where` has a mistake {where}: {reason}")

    def mistaken_comma(self, node: ast.Tuple) -> InputError:
        """The error for a comma that separates no values of a list: the first one, or the last sign."""
        second = self._place(node.elts[1].col_offset) if len(node.elts) > 1 else len(self.text)
        return self.mistake(
            "a comma stands only between the values of a list in brackets: 1,000 is written 1000, and conditions are "
            "joined by 'and' and 'or'",
            at=max(self.text.rfind(",", 0, second), 0),
        )

    def is_in_brackets(self, node: ast.expr) -> bool:
        """Whether ( stands before a single value."""
        return self.text[: self._place(node.col_offset)].rstrip().endswith("(")

    def _check_other_words(self) -> None:
        """Raise InputError for a word of another language, by which the text cannot be read."""
        for token in self.tokens.values():
            if token.kind in ("column", "function") and token.value.lower() in _OTHER_WORDS:
                instead = _OTHER_WORDS[token.value.lower()]
                raise self.mistake(f"there is no {token.value!r} here: write  {instead}", at=token.at)

    def _place(self, offset: int) -> int:
        """The character of the text for one of the source."""
        at = bisect_right(self._places, (offset, len(self.text))) - 1
        return self._places[at][1] if at >= 0 else 0

    def parse(self) -> None:
        """Read the text. Raises InputError, which shows where the mistake is."""
        source = self._source()
        try:
            self.tree = ast.parse(source, mode="eval").body
        except SyntaxError as error:
            if "too many nested" in error.msg:
                raise too_deep(self.text) from None
            self._check_other_words()
            at = (
                len(self.text)
                if not 0 < (error.offset or 0) <= len(source)
                else self._place(int(error.offset or 1) - 1)
            )
            raise self.mistake(f"{_reason(error)}: {self.example}", at=at) from None
        except (RecursionError, MemoryError):
            raise too_deep(self.text) from None

    def _source(self) -> str:
        """The condition in Python, of signs, words of the language and names of ours."""
        if not self.text.strip():
            raise InputError(f"`where` is empty: {self.example}")
        if len(self.text) > LONGEST:
            raise InputError(f"`where` has {len(self.text):,} characters, and at most {LONGEST:,} are read")
        written, at, length = [], 0, 0
        while at < len(self.text):
            found = _TOKEN.match(self.text, at)
            if found is None:
                raise self.mistake(_unknown(self.text[at:], self.example), at=at)
            if found.lastgroup == "date":
                raise self.mistake(f"a date stands in quotes: write '{found[0]}'", at=at)
            if found.lastgroup == "other":
                raise self.mistake(f"write '{_OTHER_SIGNS[found[0]]}'", at=at)
            if found.lastgroup != "space":
                word = self._write(str(found.lastgroup), found[0], at)
                self._places.append((length, at))
                written.append(word)
                length += len(word) + 1
            at = found.end()
        return " ".join(written)

    def _write(self, kind: str, text: str, at: int) -> str:
        if kind == "sign":
            return _SIGNS.get(text, text)
        token: Token
        lower = text.lower()
        if kind == "word" and lower in _LANGUAGE and text in (lower, text.upper()):
            return lower
        if kind == "word" and lower in _VALUES and text in (lower, lower.capitalize(), text.upper()):
            return repr(_VALUES[lower])
        if kind == "number":
            token = Token("number", _number(text), at)
        elif kind == "text":
            token = Token("text", text[1:-1].replace(text[0] * 2, text[0]), at)
        else:
            called = kind == "word" and re.match(r"\s*\(", self.text[at + len(text) :])
            token = Token("function" if called else "column", text.strip("`"), at)
        name = f"_{len(self.tokens)}"
        self.tokens[name] = token
        return name


def _number(text: str) -> int | float:
    return int(text) if text.isdecimal() and len(text) < 400 else float(text)


def _unknown(rest: str, example: str) -> str:
    """Why no token begins here."""
    if rest[0] in "'\"":
        return f"the text has no {rest[0]} at its end (a quote within a text is written twice)"
    if rest[0] == "`":
        return "the name of the column has no ` at its end"
    if rest[0].isdigit() or (rest[0] == "." and rest[1:2].isdigit()):
        return "this is no number: write 1000 for 1,000 or 1_000, and a text or date in quotes, as '2024-05-01'"
    hint = next((told for signs, told in _HINTS.items() if rest[0] in signs), example)
    return f"{shown(rest[0])} has no meaning here: {hint}"


def _reason(error: SyntaxError) -> str:
    """What Python's parser says, in words that are right here too."""
    message = error.msg
    for begins in ("'(' was never closed", "'[' was never closed", "unmatched ", "closing parenthesis"):
        if message.startswith(begins):
            return message
    return "a column, text or number is missing, or there is one too many"


def written_name(column: str) -> str:
    """The name of a column as a condition has it: in backquotes where it is no single word, or one of the language."""
    reserved = column.lower() in (*_LANGUAGE, *_VALUES)
    return column if re.fullmatch(r"[^\W\d]\w*", column) and not reserved else f"`{column}`"


def too_deep(text: str) -> InputError:
    """The error for a condition with too many brackets or `not` within each other."""
    return InputError(f"`where` {shown(text)} is nested too deeply: write it with fewer brackets")


def parsed(text: str, *, example: str = _EXAMPLE) -> Expression:
    """`text`, read; `example` says in messages how a condition is written. Raises InputError."""
    if not isinstance(text, str):
        raise InputError(f"`where` must be a text, not {shown(text)}: {example}")
    expression = Expression(text, example)
    expression.parse()
    return expression

"""The classes of a zero-shot classifier: their names, and the words that prompts are made of."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vitsmith.data.sets.samples import list_some
from vitsmith.data.text.label_file import read_entries
from vitsmith.data.text.prompts import is_file
from vitsmith.data.text.tokenizer import list_texts
from vitsmith.errors import InputError
from vitsmith.names import normal, repeated_names, wrong_name
from vitsmith.specs import Labels

_PATH = re.compile(r"[/\\]|\.\w{1,5}$")
"""Signs of a path, which a label does not have: a slash, or a suffix."""

_CLOSED = re.compile(r'[^\d\s]"\s*$')
"""A quote at the end, and not of inches."""

_IN_QUOTES = re.compile(r'\s*"')

_NUMBERED = re.compile(r"(.+) \((\d+)\)")
"""The form that `tell_apart` gives to a name of several classes."""


@dataclass(frozen=True)
class Words:
    """Classes in order. `names` are used in answers, `words` in prompts."""

    names: tuple[str, ...]
    words: tuple[str, ...]
    others: tuple[tuple[str, ...], ...] = ()
    """Further words of each label, which go into prompts too: 'kitten' beside 'cat'. (): no label has any."""
    whole: bool = False
    """Whether the words are whole prompts, which are used as they are, in place of any template."""

    @property
    def texts(self) -> list[tuple[str, ...]]:
        """All words of each label."""
        others = self.others or ((),) * len(self.words)
        return [(word, *more) for word, more in zip(self.words, others, strict=True)]

    @property
    def labels(self) -> Labels:
        """The names as `Labels`."""
        return Labels(names=self.names)

    def __len__(self) -> int:
        return len(self.names)


def read_words(given: str | Sequence[str]) -> Words:
    """Read labels separated by commas, or a file with one on each line, where words for the prompts may follow tabs.

    Several lists or files are joined in their order. Put a label with a comma in quotes, as in CSV: 'cat, "a cat,
    indoors"'. A text is the name of a file when that file exists, or when it has no comma and no quotes and looks like
    a path ('animals.txt', 'lists/animals'). `vitsmith.data.text.label_file` describes such files.

    Raises InputError for no labels, empty labels, equal labels, a file that cannot be read, and for anything but texts.
    """
    several = [given] if isinstance(given, str) else list_texts(given, "labels")
    rows = [row for one in several for row in _read_rows(one)]
    where = several[0] if len(several) == 1 and is_list_file(several[0]) else "`labels`"
    return _checked(rows, where)


GivenLabels = Words | Mapping[str, str | Iterable[str]] | Iterable[str]
"""Labels as a Python caller gives them: names, or a mapping from each name to prompts of its own."""


def words_from(given: GivenLabels) -> Words:
    """The labels of a Python caller: `Words` as they are, a mapping as `read_prompts_by_label`, or a list of names.

    Each name of a list is one label, commas or not. Raises InputError, as `check_words`, and for one text.
    """
    if isinstance(given, Words):
        return given
    if isinstance(given, Mapping):
        return read_prompts_by_label(given)
    return check_words(list_texts(given, "labels"), where="labels")


def read_word_file(path: str) -> Words:
    """The labels in a file, as `read_words` reads it."""
    return _checked(_file_rows(path), path)


def read_prompts_by_label(prompts: Mapping[str, str | Iterable[str]]) -> Words:
    """Labels with prompts of their own, which are used as they are: {'cat': ['a photo of a cat', 'a kitten'], ...}.

    A prompt that a label has twice counts once. Raises InputError for no labels, labels without prompts, and for
    prompts that are not texts or empty.
    """
    rows = []
    for name, given in prompts.items():
        what = f"the prompts of the label {name!r}"
        listed = [given] if isinstance(given, str) else list_texts(given, what)
        if not listed or not all(one.strip() for one in listed):
            raise InputError(f"{what} {'have an empty one' if listed else 'are none'}: write whole sentences")
        rows.append((name, *dict.fromkeys(normal(one.strip()) for one in listed)))
    return replace(_checked(rows, "labels"), whole=True)


def words_of(classes: Iterable[str]) -> Words:
    """The words for the class names of a data set: '_' becomes a space, 'red_panda' becomes 'red panda'.

    Raises InputError for classes with the same words, such as 'crane (134)' and 'crane (517)'.
    """
    names = list(classes)
    parts = [_NUMBERED.fullmatch(name) for name in names]
    bare = [part[1] for index, part in enumerate(parts) if part is not None and int(part[2]) == index]
    if twins := repeated_names(bare):
        raise InputError(
            f"the data has several classes called {twins[0]!r}, which words cannot tell apart: give "
            "`labels_file` FILE, where each line has the name of a class and, behind a tab, words for it"
        )
    return check_words(names, [name.replace("_", " ") for name in names], where="the data")


def check_words(
    names: Sequence[str],
    words: Sequence[str] | None = None,
    others: Sequence[tuple[str, ...]] | None = None,
    *,
    where: str,
) -> Words:
    """Trimmed labels. Raises InputError, which names `where`, for no labels, wrong ones, or two equal ones.

    Two labels with the same name are allowed when their words differ, the first or `others`, whatever their order:
    their names get a number. Words are in Unicode's
    form NFC: the same text gives the same tokens, whatever machine wrote it.
    """
    if other := next((name for name in names if not isinstance(name, str)), None):
        raise InputError(f"{where} has {other!r} as a label: labels must be texts")
    trimmed = tuple(name.strip() for name in names)
    if not trimmed:
        raise InputError(f"{where} holds no labels: give at least one, as 'red panda, giraffe'")
    for number, name in enumerate(trimmed, 1):
        if not name:
            raise InputError(f"{where} has an empty label (number {number}): give it a name, or leave it out")
        if wrong := wrong_name(name):
            raise InputError(f"{where}: the label {name!r} (number {number}) {wrong}: change it")
    shown = tuple(normal(word.strip()) or normal(name) for word, name in zip(words or trimmed, trimmed, strict=True))
    more = tuple(tuple(normal(word.strip()) for word in row) for row in others or ((),) * len(trimmed))
    asked = [(normal(name), frozenset((one, *row))) for name, one, row in zip(trimmed, shown, more, strict=True)]
    repeated = [name for (name, _), count in Counter(asked).items() if count > 1]
    if repeated:
        raise InputError(f"{where} has the same label twice ({list_some(list(map(repr, repeated)), ', ')}): remove one")
    return Words(trimmed, shown, more if any(more) else ())


def is_list_file(given: str) -> bool:
    """Whether labels are the name of a file: it exists, or the text looks like a path and has no quotes."""
    return is_file(given) or not (_IN_QUOTES.match(given) or "," in given or not _PATH.search(given))


_Row = tuple[str, ...]
"""A name and its words, at least one."""


def _file_rows(path: str) -> list[_Row]:
    return [(entry.name, entry.words or entry.name, *entry.others) for entry in read_entries(path)]


def _checked(rows: Sequence[_Row], where: str) -> Words:
    return check_words([row[0] for row in rows], [row[1] for row in rows], [row[2:] for row in rows], where=where)


def _read_rows(given: str) -> list[_Row]:
    """Names, each with its words."""
    if ("\n" in given or "\r" in given) and not is_file(given):
        raise InputError("`labels` has a line break: separate labels by commas, or write one on each line of a file")
    if is_list_file(given):
        try:
            return _file_rows(given)
        except InputError as error:
            if is_file(given):
                raise
            raise InputError(f"{error}; put a label that looks like a path in quotes, as '\"AC/DC\"'") from None
    try:
        row = next(csv.reader([given], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise InputError(
            f"`labels` {given!r} is not a list ({error}): separate labels by commas, and put a label with a comma "
            "in quotes, as 'cat, \"a cat, indoors\"'"
        ) from None
    # Where a quote does not begin a label, csv takes it as a letter, as in '5" disk'.
    if stray := next((name for name in row if _CLOSED.search(name) and name.count('"') % 2), None):
        raise InputError(
            f"`labels` {given!r} is not a list ({stray!r} ends with a quote and does not begin with one): put a whole "
            "label in quotes, as 'cat, \"a cat, indoors\"'"
        )
    return [(name, name) for name in row if name.strip()]

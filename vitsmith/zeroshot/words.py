"""The classes of a zero-shot classifier: their names, and the words that prompts are made of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitsmith.data.prompts import is_file
from vitsmith.data.samples import list_some
from vitsmith.errors import InputError
from vitsmith.specs import Labels

_PATH = re.compile(r"[/\\]|\.\w{1,5}$")
"""What a path has and a label has not: a slash, or a suffix."""


@dataclass(frozen=True)
class Words:
    """Classes in order. `names` are what answers call them, `words` what stands in the prompts."""

    names: tuple[str, ...]
    words: tuple[str, ...]

    @property
    def labels(self) -> Labels:
        """The names as a description."""
        return Labels(names=self.names)

    def __len__(self) -> int:
        return len(self.names)


def read_words(given: str) -> Words:
    """Labels parted by commas, or a file with one a line; there, words for the prompts may follow behind a tab.

    A file is what has no comma and looks like a path ('animals.txt', 'lists/animals') or is one. Raises InputError for
    no labels, repeated or empty ones, or a file that cannot be read.
    """
    if "," not in given and (_PATH.search(given) or is_file(given)):
        try:
            lines = Path(given).read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise InputError(f"cannot read the labels in {given}: {error.strerror}") from error
        except UnicodeDecodeError:
            raise InputError(f"{given} is not a text file with a label a line: save it as UTF-8") from None
        pairs = [line.split("\t", 1) for line in lines if line.strip()]
        return check_words([pair[0] for pair in pairs], [pair[-1] for pair in pairs], where=given)
    names = given.split(",")
    return check_words([name for name in names if name.strip()], where="--labels")


def words_of(classes: Iterable[str]) -> Words:
    """Classes as data sets name them: in prompts '_' is a space, 'red_panda' is 'red panda'."""
    names = list(classes)
    return check_words(names, [name.replace("_", " ") for name in names], where="the data")


def check_words(names: Sequence[str], words: Sequence[str] | None = None, *, where: str) -> Words:
    """Trimmed labels. Raises InputError that names `where` for none, an empty one, or one that comes twice."""
    trimmed = tuple(name.strip() for name in names)
    if not trimmed:
        raise InputError(f"{where} holds no labels: give at least one, as 'red panda, giraffe'")
    if not all(trimmed):
        raise InputError(
            f"{where} has an empty label (number {trimmed.index('') + 1}): give it a name, or leave it out"
        )
    repeated = sorted(name for name, count in Counter(trimmed).items() if count > 1)
    if repeated:
        raise InputError(f"{where} has labels twice ({list_some([repr(name) for name in repeated], ', ')}): drop one")
    shown = tuple(word.strip() or name for word, name in zip(words or trimmed, trimmed, strict=True))
    return Words(trimmed, shown)

"""Names of classes: equal names, classes that share a name, and the name that was probably meant.

Unicode writes 'é' in two ways, as one character (NFC) and as 'e' with an accent behind it (NFD, as macOS names files);
both are the same name. ImageNet has 'crane' twice, a bird and a machine: those are two classes with one name.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from vitsmith.errors import suggestion

_SURROGATE = re.compile("[\ud800-\udfff]")
"""The characters that Python makes of bytes that are not UTF-8."""
_BREAK = re.compile("[\r\n\0]")
_JOINTS = re.compile(r"(?<=[^\W_])[_-]+(?=[^\W_])")
_MEANT = 4  # names in a 'did you mean'


def normal(name: str) -> str:
    """The name for comparing with others: in Unicode's normal form NFC."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


@lru_cache(32)
def tell_apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names that differ for all classes, for readers who must know which class is meant.

    Names that several classes have get the number of the class: ('crane', 'crab', 'crane') -> ('crane (0)', 'crab',
    'crane (2)'). A class without a name is 'class 1'.
    """
    shown = [name if name.strip() else f"class {index}" for index, name in enumerate(names)]
    while len(counts := Counter(map(normal, shown))) < len(shown):  # again, if a class already has the name 'crane (2)'
        shown = [f"{name} ({index})" if counts[normal(name)] > 1 else name for index, name in enumerate(shown)]
    return tuple(shown)


@lru_cache(32)
def positions_by_name(names: tuple[str, ...]) -> dict[str, list[int]]:
    """Positions of classes by `normal` name: several for a shared name, one for the form that `tell_apart` gives."""
    positions: dict[str, list[int]] = {}
    for index, (name, shown) in enumerate(zip(names, tell_apart(names), strict=True)):
        for key in dict.fromkeys((normal(name), normal(shown))):
            positions.setdefault(key, []).append(index)
    return positions


def ambiguous_name(name: str, names: tuple[str, ...]) -> str:
    """A message for a name that several classes have, with the forms to write; '' when fewer than two have it."""
    found = positions_by_name(names).get(normal(name), [])
    if len(found) < 2:
        return ""
    shown = [repr(tell_apart(names)[index]) for index in found[:_MEANT]]
    numbers = (
        f"{', '.join(map(str, found[:-1]))} and {found[-1]}" if len(found) <= _MEANT else f"{len(found):,} of them"
    )
    return f"{name!r} is the name of several classes ({numbers}): write {' or '.join(shown)}"


def same_names(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether both name the same classes in the same order."""
    return list(map(normal, names)) == list(map(normal, others))


def repeated_names(names: Iterable[str]) -> list[str]:
    """The names that occur more than once, each listed once, in order."""
    counts = Counter(map(normal, names))
    return [name for name, count in counts.items() if count > 1]


def wrong_name(name: str) -> str:
    """The reason why a class cannot have this name, as 'is empty'; '' when it can."""
    if not name.strip():
        return "is empty"
    if not can_be_written(name):
        return "is not Unicode text (bytes of another encoding than UTF-8)"
    if _BREAK.search(name):
        return "has a line break or a NUL in it"
    return ""


def can_be_written(name: str) -> bool:
    """Whether the name is Unicode text, which every file and output can hold."""
    return name.isascii() or not _SURROGATE.search(name)


def meant_name(name: str, names: Sequence[str]) -> str:
    """A hint at a similar name for one that is not among `names`, with the difference, for the end of a message.

    Names are shown as Python writes them, so that invisible characters can be seen: 'cat\\u200b'.
    """
    alike = [known for known in names if _folded(known) == _folded(name)][:_MEANT]
    if not alike:
        return suggestion(name, names)
    return f"did you mean {' or '.join(map(repr, alike))}? It differs in {_difference(name, alike[0])}"


def look_alikes(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Pairs of different names that people or other file systems may take as equal, with their difference."""
    first: dict[str, str] = {}
    pairs = []
    for name in dict.fromkeys(names):
        other = first.setdefault(_folded(name), name)
        if other is not name:
            pairs.append((other, name, _difference(other, name)))
    return pairs


def _difference(one: str, other: str) -> str:
    if one.strip() == other.strip():
        return "white space at its ends"
    if _without_invisible(one) == _without_invisible(other):
        return "invisible characters"
    if normal(one).casefold() == normal(other).casefold():
        return "capitals and small letters"
    return "spaces, capitals or the encoding of letters"


def _folded(name: str) -> str:
    """The name without case, width and invisible characters, '_' as a space: equal for names that look alike."""
    seen = unicodedata.normalize("NFKC", _without_invisible(name)).casefold()
    return " ".join(_JOINTS.sub(" ", seen).split())


def _without_invisible(name: str) -> str:
    if name.isascii() and name.isprintable():
        return name
    return "".join(each for each in name if unicodedata.category(each) not in ("Cf", "Cc", "Cs"))

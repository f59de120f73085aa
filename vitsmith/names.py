"""Names of classes: which of them are the same, how twins are told apart, and which name was probably meant.

Unicode writes 'é' in two ways, as one character (NFC) and as 'e' with an accent behind it (NFD, as macOS names files);
both are the same name. ImageNet has 'crane' twice, a bird and a machine: those are two classes of one name.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from vitsmith.errors import suggestion

_SURROGATE = re.compile("[\ud800-\udfff]")
"""What Python makes of bytes that are not UTF-8."""
_BREAK = re.compile("[\r\n\0]")
_JOINTS = re.compile(r"(?<=[^\W_])[_-]+(?=[^\W_])")
_MEANT = 4  # names in a 'did you mean'


def normal(name: str) -> str:
    """The name as it is compared with others: in Unicode's normal form NFC."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


@lru_cache(32)
def tell_apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """What classes are called where a reader has to know which is meant.

    Names that several classes have get the number of the class: ('crane', 'crab', 'crane') -> ('crane (0)', 'crab',
    'crane (2)'). A class without a name is 'class 1'.
    """
    shown = [name if name.strip() else f"class {index}" for index, name in enumerate(names)]
    while len(counts := Counter(map(normal, shown))) < len(shown):  # again, where one is called 'crane (2)' by itself
        shown = [f"{name} ({index})" if counts[normal(name)] > 1 else name for index, name in enumerate(shown)]
    return tuple(shown)


@lru_cache(32)
def positions_by_name(names: tuple[str, ...]) -> dict[str, list[int]]:
    """Where classes of a name are, by its `normal` form: several for twins, one for what `tell_apart` calls a twin."""
    positions: dict[str, list[int]] = {}
    for index, (name, shown) in enumerate(zip(names, tell_apart(names), strict=True)):
        for key in dict.fromkeys((normal(name), normal(shown))):
            positions.setdefault(key, []).append(index)
    return positions


def ambiguous_name(name: str, names: tuple[str, ...]) -> str:
    """Which classes have this name, and how to say which is meant; '' where fewer than two have it."""
    found = positions_by_name(names).get(normal(name), [])
    if len(found) < 2:
        return ""
    shown = [repr(tell_apart(names)[index]) for index in found[:_MEANT]]
    numbers = (
        f"{', '.join(map(str, found[:-1]))} and {found[-1]}" if len(found) <= _MEANT else f"{len(found):,} of them"
    )
    return f"{name!r} is the name of several classes ({numbers}): say which is meant, {' or '.join(shown)}"


def same_names(names: Sequence[str], others: Sequence[str]) -> bool:
    """Whether both name the same classes in the same order."""
    return list(map(normal, names)) == list(map(normal, others))


def repeated_names(names: Iterable[str]) -> list[str]:
    """Those that come more than once, each told once, in order."""
    counts = Counter(map(normal, names))
    return [name for name, count in counts.items() if count > 1]


def wrong_name(name: str) -> str:
    """Why no class can be called so, as 'is empty'; '' when it can."""
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
    """What may have been meant by a name that is not among `names`, and in what it differs, for the end of a message.

    Names are shown as Python writes them, so that what nobody sees is seen: 'cat\\u200b'.
    """
    alike = [known for known in names if _folded(known) == _folded(name)][:_MEANT]
    if not alike:
        return suggestion(name, names)
    return f"did you mean {' or '.join(map(repr, alike))}? It differs in {_difference(name, alike[0])}"


def look_alikes(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """Pairs of different names that look alike to people or to other file systems, and in what they differ."""
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
        return "characters that nobody sees"
    if normal(one).casefold() == normal(other).casefold():
        return "capitals and small letters"
    return "spaces, capitals or how letters are encoded"


def _folded(name: str) -> str:
    """The same for names that people take for one: without case, width and what nobody sees, '_' as a space."""
    seen = unicodedata.normalize("NFKC", _without_invisible(name)).casefold()
    return " ".join(_JOINTS.sub(" ", seen).split())


def _without_invisible(name: str) -> str:
    if name.isascii() and name.isprintable():
        return name
    return "".join(each for each in name if unicodedata.category(each) not in ("Cf", "Cc", "Cs"))

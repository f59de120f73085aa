"""`vitsmith.duplicates`: images with the same content, and images that look alike. Nothing is ever deleted."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from vitsmith.arguments import MOST_THREADS, Tell, named_arguments, whole_number
from vitsmith.arrays import Array
from vitsmith.data.images.header import picture_header
from vitsmith.errors import InputError, shown
from vitsmith.machine import available_cores
from vitsmith.sorting.items import Item, digest_of
from vitsmith.sorting.leaders import count_steps, lead
from vitsmith.sorting.places import Collection, Gathering, Model, Opener, Place, name_of, open_places
from vitsmith.sorting.random_pairs import doubt, random_cosines
from vitsmith.sorting.vectors import Step

THRESHOLD = 0.97
"""Default least cosine of near images: see docs/duplicates.md for how it was chosen."""
R = TypeVar("R")
_AHEAD = 10_000  # files that wait for a thread, at most
_READERS = 16  # threads that read files, at most


@dataclass(frozen=True)
class Duplicate:
    """A member of a group."""

    name: str
    """A path that opens it from the present folder, as it was given where that does; or the text itself."""
    score: float
    """The cosine with the first of its group: 1 for the first itself, and for exact copies."""
    exact: bool
    """Whether its content is that of the first, byte for byte."""
    size: int
    """Bytes of its file."""
    pixels: tuple[int, int]
    """(width, height) of the picture; (0, 0) for a text, and where it could not be read."""
    path: str = ""
    """Where the file is; empty for a text."""


@dataclass(frozen=True, repr=False)
class DuplicateGroup:
    """Items that are near the first: the one to keep, if one is to be kept."""

    members: tuple[Duplicate, ...]

    @property
    def keep(self) -> Duplicate:
        """The largest picture; among equally large ones the one whose file is oldest, then the first given."""
        return self.members[0]

    @property
    def others(self) -> tuple[Duplicate, ...]:
        """The exact copies, then the near ones, nearest first."""
        return self.members[1:]

    def __repr__(self) -> str:
        copies = sum(one.exact for one in self.others)
        return f"<DuplicateGroup of {self.keep.name!r}, {copies} exact copies, {len(self.others) - copies} near>"


@dataclass(frozen=True, repr=False)
class Duplicates:
    """What was found."""

    groups: tuple[DuplicateGroup, ...]
    """The largest first, then in the order of the places."""
    count: int
    """Images or texts that were compared."""
    kind: str
    """'images' or 'texts'."""
    threshold: float | None
    """The least cosine of near ones; None where only exact copies were looked for."""
    random_pairs: float | None
    """The share of all pairs of different contents that reach the threshold, from a sample: what it means for this
    model and these images. None where only exact copies were looked for, and for few images."""
    model: str
    """The model whose features were compared; empty for none."""
    copies: int
    """Files whose content another one has too, without the one that would be kept."""
    copied_bytes: int
    """The space that they take."""
    unreadable: tuple[tuple[str, str], ...]
    """(name, reason) of each image that could not be read, or has no feature."""

    def __repr__(self) -> str:
        near = "" if self.threshold is None else f", near from a cosine of {self.threshold:g} of {self.model}"
        return f"<Duplicates: {len(self.groups):,} groups in {self.count:,} {self.kind}, {self.copies:,} copies{near}>"


@named_arguments
def duplicates(
    places: Place | Iterable[Place],
    *,
    model: Model = None,
    threshold: float = THRESHOLD,
    threads: int | None = None,
    skip_unreadable: float | None = None,
    tell: Tell = lambda _: None,
    on_step: Step = lambda *_: None,
) -> Duplicates:
    """Find files with the same content, and images that are near by their features, also across folders.

    Args:
        places: index folders or `Index`es of one model, image folders, image files; one or several. An index of texts
            is searched for near texts.
        model: an `Encoder`, a bundle or anything `vitsmith.load` takes: embeds the images that are in no index. By
            default the model of the index; without any index only exact copies are found.
        threshold: least cosine of near images, in (0, 1]; what it means depends on the model.
        threads: by default one for each core.
        skip_unreadable: largest share of images that may be unreadable; by default all are skipped and reported.
        tell: called with remarks, as on files that are left out.
        on_step: called while it works.

    Every member of a group is near its first, which is the one to keep: groups do not chain. Nothing is written or
    deleted. Raises InputError for places without images, indexes that cannot be compared, and a damaged index.
    """
    check_threshold(threshold)
    how = Gathering(Opener(model), name_of(model), skip_unreadable, tell, on_step)
    return find_duplicates(open_places(places, how).embed(), threshold, threads=threads, tell=tell, on_step=on_step)


def check_threshold(threshold: float) -> None:
    """Raises InputError for what can be no threshold."""
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
        raise InputError(f"`threshold` must be a cosine above 0 and at most 1, not {shown(threshold)}")


def find_duplicates(
    collection: Collection,
    threshold: float,
    *,
    threads: int | None = None,
    tell: Tell = lambda _: None,
    on_step: Step = lambda *_: None,
) -> Duplicates:
    """The groups in a collection, as `duplicates`. Raises InputError for fewer than two items."""
    items = collection.items
    if len(items) < 2:
        raise InputError(f"duplicates need at least two {collection.kind}, and {len(items)} can be read: give more")
    workers = available_cores() if threads is None else whole_number(threads, "threads", most=MOST_THREADS)
    keys = _contents(items, workers, on_step)
    pixels = _picture_sizes(items, workers, on_step) if collection.embedded else {}
    order = sorted(range(len(items)), key=lambda at: (-math.prod(pixels.get(at, (0, 0))), items[at].modified, at))
    first: dict[str, int] = {}
    for at in order:
        first.setdefault(keys[at], at)
    same = [first[key] for key in keys]
    led = {at: (at, 1.0) for at in first.values()}
    by_chance = None
    if collection.embedded:
        contents = _contents_with_vectors(collection, same, [at for at in order if same[at] == at])
        by_chance = _by_chance(contents, threshold, collection.kind, tell)
        led |= _near(contents, threshold, workers, on_step)
    copied = [at for at in range(len(items)) if same[at] != at]
    return Duplicates(
        groups=tuple(_groups(items, same, led, pixels)),
        count=len(items),
        kind=collection.kind,
        threshold=threshold if collection.embedded else None,
        random_pairs=by_chance,
        model=collection.model,
        copies=len(copied),
        copied_bytes=sum(items[at].size for at in copied),
        unreadable=collection.unreadable,
    )


def _contents(items: Sequence[Item], threads: int, on_step: Step) -> list[str]:
    """A key for each item, equal where the contents are. Only files that are as large as another one are read."""
    sizes = Counter(item.size for item in items)
    unknown = [at for at, item in enumerate(items) if not item.digest and sizes[item.size] > 1]
    found = _in_threads(_digest, [items[at] for at in unknown], "reading", threads, on_step)
    read = dict(zip(unknown, found, strict=True))
    return [f"{item.size} {read.get(at) or item.digest or f'alone {at}'}" for at, item in enumerate(items)]


def _digest(item: Item) -> str:
    """Empty for a file that can no longer be read: it is like no other."""
    try:
        return digest_of(item.path)
    except OSError:
        return ""


def _picture_sizes(items: Sequence[Item], threads: int, on_step: Step) -> dict[int, tuple[int, int]]:
    """(width, height) of each picture, by position: as its index knows it, or from the header of its file."""
    known = {at: (item.width, item.height) for at, item in enumerate(items) if item.width or not item.path}
    unknown = [at for at in range(len(items)) if at not in known]
    found = _in_threads(_picture_size, [items[at] for at in unknown], "measuring pictures", threads, on_step)
    return known | dict(zip(unknown, found, strict=True))


def _picture_size(item: Item) -> tuple[int, int]:
    if item.width or not item.path:
        return item.width, item.height
    header = picture_header(item.path)
    return (header.width, header.height) if header is not None else (0, 0)


def _in_threads(
    work: Callable[[Item], R], items: Sequence[Item], doing: str, threads: int, on_step: Step
) -> Iterator[R]:
    with ThreadPoolExecutor(max(1, min(threads, _READERS)), thread_name_prefix="sorting") as pool:
        try:
            for at in range(0, len(items), _AHEAD):  # `map` begins with all that it is given
                for done, answer in enumerate(pool.map(work, items[at : at + _AHEAD]), at + 1):
                    on_step(doing, done, len(items))
                    yield answer
        finally:
            pool.shutdown(cancel_futures=True)


class _Contents(NamedTuple):
    """Contents that are compared, best first."""

    items: Array
    """int64 (N,): the first item of each."""
    vectors: Array
    """(N, E), unit vectors."""


def _contents_with_vectors(collection: Collection, same: Sequence[int], order: Sequence[int]) -> _Contents:
    rows = np.full(len(collection.items), -1, np.int64)
    np.maximum.at(rows, np.asarray(same), collection.rows)  # a copy may have the vector
    chosen = np.array([at for at in order if rows[at] >= 0], np.int64)
    return _Contents(chosen, collection.vectors[rows[chosen]])


def _by_chance(contents: _Contents, threshold: float, kind: str, tell: Tell) -> float | None:
    """The share of random pairs that reach the threshold; tells where these are too many."""
    cosines = random_cosines(contents.vectors)
    if cosines is None:
        return None
    if doubted := doubt(cosines, threshold, kind):
        tell(doubted)
    return float(np.mean(cosines >= threshold))


def _near(contents: _Contents, threshold: float, threads: int, on_step: Step) -> dict[int, tuple[int, float]]:
    """The leader of each content, and the cosine with it."""
    steps, done = count_steps(len(contents.items)), 0

    def on_pieces(number: int) -> None:
        nonlocal done
        done += number
        on_step("comparing", done, steps)

    found = lead(contents.vectors, threshold, threads=threads, on_step=on_pieces)
    scores = found.scores.clip(-1, 1).tolist()  # vectors kept in float16 may be a little longer than 1
    leaders = contents.items[found.leaders].tolist()
    return dict(zip(contents.items.tolist(), zip(leaders, scores, strict=True), strict=True))


def _groups(
    items: Sequence[Item],
    same: Sequence[int],
    led: Mapping[int, tuple[int, float]],
    pixels: Mapping[int, tuple[int, int]],
) -> Iterator[DuplicateGroup]:
    """The groups of two and more, the largest first."""
    members = defaultdict[int, list[tuple[float, bool, int]]](list)
    for at, content in enumerate(same):
        leader, score = led[content]
        if at != leader:
            members[leader].append((score, content == leader, at))
    for leader, others in sorted(members.items(), key=lambda one: (-len(one[1]), one[0])):
        others.sort(key=lambda one: (not one[1], -one[0], one[2]))
        yield DuplicateGroup(
            tuple(
                Duplicate(
                    name=items[at].name,
                    score=score,
                    exact=exact,
                    size=items[at].size,
                    pixels=pixels.get(at) or _picture_size(items[at]),
                    path=items[at].path,
                )
                for score, exact, at in [(1.0, True, leader), *others]
            )
        )

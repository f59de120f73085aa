"""`vitsmith.cluster`: groups of images or texts that are alike, with a name where the model reads text.

HDBSCAN (R. Campello, D. Moulavi, J. Sander, PAKDD 2013) of scikit-learn on the principal components of the vectors:
groups are where vectors lie densely, their number is found, and what lies in no dense place stays by itself. Letters:
M vectors, E width.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitsmith.arguments import Tell, flag, named_arguments, whole_number
from vitsmith.arrays import Array
from vitsmith.errors import InputError, MissingPackageError
from vitsmith.machine import available_cores
from vitsmith.sorting.cluster_names import Namer, open_namer
from vitsmith.sorting.places import Collection, Gathering, Model, Opener, Place, Step, gather, name_of

MIN_SIZE = 5
COMPONENTS = 20
"""Principal components that are clustered, at most. On 1,797 digits 10 to 50 agreed with the classes about as well (an
adjusted Rand index of 0.92 to 0.95 among those grouped), and 5 less (benchmarks/sorting.py); distances in more
dimensions take longer."""
_LONG = 10_000  # vectors from which on the time is told before
_SAMPLE = 2_000  # vectors by which it is measured
_ALIKE = 1e-9
"""Variance of vectors that are the same: rounding to float16 alone makes more of any two pictures."""


@dataclass(frozen=True, repr=False)
class Cluster:
    """A group of things that are alike."""

    members: tuple[str, ...]
    """Names, the most central first."""
    scores: tuple[float, ...]
    """The cosine of each with the mean of all."""
    name: str = ""
    """The label that fits the most members; empty where no label does better than the others."""
    share: float = 0.0
    """The share of its members that `name` fits better than every other label."""
    paths: tuple[str, ...] = ()
    """Where the files are; empty texts for texts."""

    def __len__(self) -> int:
        return len(self.members)

    def __repr__(self) -> str:
        named = f" {self.name!r} ({self.share:.0%})" if self.name else ""
        return f"<Cluster{named} of {len(self):,}: {', '.join(self.members[:3])}{', ...' if len(self) > 3 else ''}>"


@dataclass(frozen=True, repr=False)
class Clusters:
    """What was found."""

    groups: tuple[Cluster, ...]
    """The largest first."""
    not_grouped: tuple[str, ...]
    """Names of those that lie in no group, in the order of the places."""
    not_grouped_paths: tuple[str, ...]
    """Where their files are; empty texts for texts."""
    kind: str
    """'images' or 'texts'."""
    model: str
    components: int
    """Principal components that were clustered."""
    variance: float
    """The share of the variance of all vectors that these have."""
    unreadable: tuple[tuple[str, str], ...]
    """(name, reason) of each image that could not be read, or has no feature."""

    @property
    def count(self) -> int:
        """How many images or texts there are, in groups and by themselves."""
        return sum(map(len, self.groups)) + len(self.not_grouped)

    def __repr__(self) -> str:
        return f"<Clusters: {len(self.groups):,} in {self.count:,} {self.kind}, {len(self.not_grouped):,} not grouped>"

    def __iter__(self) -> Iterator[Cluster]:
        return iter(self.groups)


@named_arguments
def cluster(
    places: Place | Iterable[Place],
    *,
    model: Model = None,
    min_size: int = MIN_SIZE,
    labels: Iterable[str] | None = None,
    names: bool = True,
    skip_unreadable: float | None = None,
    tell: Tell = lambda _: None,
    on_step: Step = lambda *_: None,
) -> Clusters:
    """Find groups of images or texts that are alike, by HDBSCAN.

    Args:
        places: index folders or `Index`es of one model, image folders, image files; one or several.
        model: an `Encoder`, a bundle or anything `vitsmith.load` takes; by default the model of the index.
        min_size: the smallest group.
        labels: words from which the groups get their names, where the model reads text; by default the 1,000 classes of
            ImageNet.
        names: whether they get any.
        skip_unreadable: largest share of images that may be unreadable; by default all are skipped and reported.
        tell: called with remarks.
        on_step: called while it works, with what is done, how much of it is done, and how much there is.

    Raises InputError for fewer images than a group has, for features that are all the same, for a damaged index, and
    for `labels` where the model reads no text.
    """
    flag(names, "names")
    whole_number(min_size, "`min_size`", least=2)
    scikit_learn()
    opener = Opener(model)
    how = Gathering(opener, name_of(model), skip_unreadable, tell, on_step)
    collection = gather(places, how)
    namer = open_namer(collection, opener, labels, tell, on_step) if names else None
    return find_clusters(collection, min_size, namer=namer, tell=tell)


def find_clusters(
    collection: Collection, min_size: int, *, namer: Namer | None = None, tell: Tell = lambda _: None
) -> Clusters:
    """The groups in a collection, as `cluster`."""
    if not collection.embedded:
        raise InputError("images are grouped by the features of a model: give one with `model`, or give an index")
    rows, of_row = _used(collection.rows)
    if len(rows) < max(min_size, 3):
        raise InputError(
            f"{len(rows)} {collection.kind} with features are too few for groups of {min_size}: give more"
            + (", or a smaller `min_size`" if len(rows) >= 3 else "")
        )
    vectors = collection.vectors[rows].astype(np.float32, copy=False)
    reduced, variance = principal_components(vectors, collection.kind)
    found = _dense(reduced, min_size, tell)
    inside = [np.flatnonzero(found == one) for one in range(found.max() + 1)]
    groups = [_group(collection, of_row, vectors, some, namer) for some in inside]
    groups.sort(key=len, reverse=True)  # stable: of equal ones the first that was found
    alone = sorted(at for row in np.flatnonzero(found < 0).tolist() for at in of_row[row])
    return Clusters(
        groups=tuple(groups),
        not_grouped=tuple(collection.items[at].name for at in alone),
        not_grouped_paths=tuple(collection.items[at].path for at in alone),
        kind=collection.kind,
        model=collection.model,
        components=reduced.shape[1],
        variance=variance,
        unreadable=collection.unreadable,
    )


def principal_components(vectors: Array, kind: str = "vectors") -> tuple[Array, float]:
    """(M, components) of vectors (M, E), at most `COMPONENTS`, and the share of the variance that they have.

    `kind` names in messages what the vectors are of.

    Raises InputError for vectors that are all the same.
    """
    total = float(vectors.var(axis=0, dtype=np.float64).sum())
    if total < _ALIKE:
        raise InputError(
            f"the features of all {len(vectors):,} {kind} are the same, so that there are no groups: vitsmith "
            "duplicates lists what is alike"
        )
    pca = scikit_learn().decomposition.PCA(min(COMPONENTS, len(vectors) - 1, vectors.shape[1]), svd_solver="full")
    reduced: Array = pca.fit_transform(vectors).astype(np.float64)
    # Equal vectors stay equal: products of many rows differ in the last bits, and HDBSCAN would see groups in that.
    first: dict[bytes, int] = {}
    reduced = reduced[[first.setdefault(vector.tobytes(), at) for at, vector in enumerate(vectors)]]
    return reduced, float(min(reduced.var(axis=0).sum() / total, 1))


def _dense(reduced: Array, min_size: int, tell: Tell) -> Array:
    """The number of the group of each vector, -1 for none."""

    def labels(some: Array) -> Array:
        # Trees, not 'brute', which holds the distances of all pairs in memory. `copy` has no effect on them.
        method = scikit_learn().cluster.HDBSCAN(
            min_cluster_size=min_size, algorithm="kd_tree", n_jobs=available_cores(), copy=True
        )
        return method.fit_predict(some)

    if len(reduced) > _LONG:
        began = time.perf_counter()
        some = reduced[:: len(reduced) // _SAMPLE]
        labels(some)
        minutes = (time.perf_counter() - began) * (len(reduced) / len(some)) ** 2 / 60
        if minutes >= 1:
            tell(f"grouping {len(reduced):,} vectors takes about {minutes:.0f} minutes")
    return labels(reduced)


def _used(rows: Array) -> tuple[Array, list[list[int]]]:
    """The rows that items have, in the order of the items, and the items of each: copies have one row."""
    of_row: dict[int, list[int]] = {}
    for at, row in enumerate(rows.tolist()):
        if row >= 0:
            of_row.setdefault(row, []).append(at)
    return np.array(list(of_row), np.int64), list(of_row.values())


def _group(
    collection: Collection, of_row: list[list[int]], vectors: Array, inside: Array, namer: Namer | None
) -> Cluster:
    """A group of the vectors at `inside`, the most central first."""
    mine = vectors[inside]
    centre = mine.mean(axis=0, dtype=np.float64)
    scores = (mine @ (centre / (np.linalg.norm(centre) + 1e-12))).clip(-1, 1)
    order = np.lexsort((inside, -scores))
    members = [(at, float(scores[one])) for one in order.tolist() for at in of_row[inside[one]]]
    name, share = namer.name(mine) if namer is not None else ("", 0.0)
    return Cluster(
        members=tuple(collection.items[at].name for at, _ in members),
        scores=tuple(score for _, score in members),
        name=name,
        share=share,
        paths=tuple(collection.items[at].path for at, _ in members),
    )


def scikit_learn() -> Any:
    """The package, with what is used of it. Raises MissingPackageError; verbs ask for it before long work."""
    try:
        import sklearn.cluster
        import sklearn.decomposition
    except ModuleNotFoundError as error:
        raise MissingPackageError("scikit-learn", "cluster") from error
    return sklearn

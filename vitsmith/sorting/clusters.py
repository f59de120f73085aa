"""`vitsmith.cluster`: groups of images or texts that are alike, with a name where the model reads text.

HDBSCAN (R. Campello, D. Moulavi, J. Sander, PAKDD 2013) of scikit-learn on the principal components of the vectors:
groups are where vectors lie densely, their number is found, and what lies in no dense place stays by itself. Every
file counts: copies are as many points at one place, whether an index keeps their vector once or for each. Letters: M
images or texts, P vectors that differ, E width.
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
from vitsmith.sorting.places import (
    Collection,
    Gathering,
    Model,
    OpenedPlaces,
    Opener,
    Place,
    name_of,
    open_places,
)
from vitsmith.sorting.vectors import Step
from vitsmith.zeroshot.labels import GivenLabels

MIN_SIZE = 5
COMPONENTS = 20
"""Principal components that are clustered, at most. On 1,797 digits 10 to 50 agreed with the classes about as well (an
adjusted Rand index of 0.92 to 0.95 among those grouped), and 5 less (benchmarks/sorting.py); distances in more
dimensions take longer."""
_LONG = 10_000  # vectors from which on the time is told before
_SAMPLE = 2_000  # vectors by which it is measured
_BLOCK = 4_096  # vectors in float64 at once
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
    labels: GivenLabels | None = None,
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
        labels: words from which the groups get their names, where the model reads text, as for `ZeroShotClassifier`:
            names, or a mapping from each to its own prompts; by default the 1,000 classes of ImageNet.
        names: whether they get any.
        skip_unreadable: largest share of images that may be unreadable; by default all are skipped and reported.
        tell: called with remarks.
        on_step: called while it works, with what is done, how much of it is done, and how much there is.

    Raises InputError for fewer images than a group has, for features that are all the same, for a damaged index, and
    for `labels` where the model reads no text.
    """
    if not flag(names, "names") and labels is not None:
        raise InputError("`names` false leaves groups without names, and `labels` are given: leave one of them out")
    whole_number(min_size, "`min_size`", least=2)
    scikit_learn()
    opener = Opener(model)
    opened = open_places(places, Gathering(opener, name_of(model), skip_unreadable, tell, on_step))
    check_clusterable(opened, min_size)
    namer = open_namer(opened, labels, tell, on_step) if names else None
    return find_clusters(opened.embed(), min_size, namer=namer, tell=tell)


def check_clusterable(opened: OpenedPlaces, min_size: int) -> None:
    """Raises InputError, before any image is embedded, for places without features and for too few images or texts."""
    if not opened.embeds:
        raise InputError("images are grouped by the features of a model: give one with `model`, or give an index")
    _check_count(opened.count, opened.kind, min_size)


def find_clusters(
    collection: Collection, min_size: int, *, namer: Namer | None = None, tell: Tell = lambda _: None
) -> Clusters:
    """The groups in a collection, as `cluster`."""
    used = np.flatnonzero(collection.rows >= 0)
    _check_count(len(used), collection.kind, min_size)
    points = points_of(collection.vectors, collection.rows[used])
    reduced, variance = principal_components(points, collection.kind)
    # In the order of the points, so that the order in which files are given changes nothing: HDBSCAN may put a vector
    # that is equally near to two groups into either.
    order = np.argsort(points.number, kind="stable")
    found = np.empty(len(used), np.int64)
    found[order] = _dense(reduced[points.number[order]], min_size, tell)
    inside = [np.flatnonzero(found == one) for one in range(found.max() + 1)]
    inside.sort(key=lambda some: (-len(some), int(some[0])))  # of equal ones that with the first item
    alone = used[found < 0].tolist()
    return Clusters(
        groups=tuple(_group(collection, used, points, some, namer) for some in inside),
        not_grouped=tuple(collection.items[at].name for at in alone),
        not_grouped_paths=tuple(collection.items[at].path for at in alone),
        kind=collection.kind,
        model=collection.model,
        components=reduced.shape[1],
        variance=variance,
        unreadable=collection.unreadable,
    )


def _check_count(count: int, kind: str, min_size: int) -> None:
    if count < max(min_size, 3):
        raise InputError(
            f"{count} {kind} with features are too few for groups of {min_size}: give more"
            + (", or a smaller `min_size`" if count >= 3 else "")
        )


@dataclass(frozen=True)
class Points:
    """Vectors that differ, P of them in an order of their own, and how M images or texts are among them."""

    vectors: Array
    """(P, E)."""
    number: Array
    """int64 (M,): which of them each image has."""

    @property
    def counts(self) -> Array:
        """int64 (P,): how many have each."""
        return np.bincount(self.number, minlength=len(self.vectors))


def points_of(vectors: Array, rows: Array) -> Points:
    """The points of M images, whose vectors (R, E) stand at `rows`.

    An index that follows its folder keeps copies of a file once, others keep each: here both are the same.
    """
    kept, of_row = np.unique(rows, return_inverse=True)
    whole = np.ascontiguousarray(vectors[kept])
    as_bytes = whole.view(np.dtype((np.void, whole.dtype.itemsize * whole.shape[1]))).ravel()
    _, first, of_vector = np.unique(as_bytes, return_index=True, return_inverse=True)
    return Points(whole[first], of_vector[of_row])


def principal_components(points: Points, kind: str = "vectors") -> tuple[Array, float]:
    """float64 (P, components), at most `COMPONENTS`, and the share of the variance that they have.

    `kind` names in messages what the vectors are of. They are read in blocks, and only the covariance of E numbers is
    kept: scikit-learn's PCA would hold several copies of all of them.

    Raises InputError for vectors that are all the same.
    """
    vectors, counts = points.vectors, points.counts
    blocks = [slice(at, at + _BLOCK) for at in range(0, len(vectors), _BLOCK)]
    total, width = int(counts.sum()), vectors.shape[1]
    mean = sum((counts[some] @ vectors[some].astype(np.float64) for some in blocks), np.zeros(width)) / total
    covariance = np.zeros((width, width))
    for some in blocks:
        centred = vectors[some] - mean
        covariance += centred.T @ (centred * (counts[some] / total)[:, None])
    variance = float(np.trace(covariance))
    if variance < _ALIKE:
        raise InputError(
            f"the features of all {total:,} {kind} are the same, so that there are no groups: vitsmith duplicates "
            "lists what is alike"
        )
    values, axes = np.linalg.eigh(covariance)  # the largest last
    kept = slice(width - min(COMPONENTS, total - 1, width), width)
    reduced = np.concatenate([(vectors[some] - mean) @ axes[:, kept] for some in blocks])
    return reduced, min(float(values[kept].sum()) / variance, 1.0)


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
        some = reduced[:: max(1, len(reduced) // max(_SAMPLE, 2 * min_size))]
        labels(some)
        minutes = (time.perf_counter() - began) * (len(reduced) / len(some)) ** 2 / 60
        if minutes >= 1:
            tell(f"grouping {len(reduced):,} vectors takes about {minutes:.0f} minutes")
    return labels(reduced)


def _group(collection: Collection, used: Array, points: Points, inside: Array, namer: Namer | None) -> Cluster:
    """A group of the items `inside`, which are positions among those `used`, the most central first."""
    mine, number, counts = np.unique(points.number[inside], return_inverse=True, return_counts=True)
    vectors = points.vectors[mine].astype(np.float32, copy=False)
    centre = counts @ vectors.astype(np.float64)
    cosines = (vectors @ (centre / (np.linalg.norm(centre) + 1e-12))).clip(-1, 1)[number]
    order = np.lexsort((inside, -cosines))
    members = [collection.items[at] for at in used[inside[order]].tolist()]
    name, share = namer.name(vectors, counts) if namer is not None else ("", 0.0)
    return Cluster(
        members=tuple(one.name for one in members),
        scores=tuple(cosines[order].tolist()),
        name=name,
        share=share,
        paths=tuple(one.path for one in members),
    )


def scikit_learn() -> Any:
    """The package, with what is used of it. Raises MissingPackageError; verbs ask for it before long work."""
    try:
        import sklearn.cluster
    except ModuleNotFoundError as error:
        raise MissingPackageError("scikit-learn", "cluster") from error
    return sklearn

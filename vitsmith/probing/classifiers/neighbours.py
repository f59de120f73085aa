"""k nearest neighbours by cosine similarity, with k chosen by leaving out each training image in turn.

N training images, M queries, D features, K classes. Source: arXiv 2104.14294 (DINO), appendix F, and its eval_knn.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vitsmith.errors import InputError
from vitsmith.probing.classifiers.choice import UNCHOSEN, Choice, Tried, told_end
from vitsmith.probing.classifiers.folds import has_company
from vitsmith.probing.classifiers.labelled import LabelledFeatures, blocks, require_for_fitting, require_width, unit
from vitsmith.probing.classifiers.steps import OnStep, unwatched

NEIGHBOURS = (1, 5, 10, 20, 50)
"""Numbers of neighbours that are tried."""
TEMPERATURE = 0.07
"""Of the neighbours' votes: a neighbour votes with exp(similarity / 0.07), as in DINO's eval_knn.py."""
MOST_COMPARED = 50_000
"""Up to as many training images, each of them is left out in turn; of more, `SAMPLE`, or it would take hours."""
SAMPLE = 10_000
_AT_ONCE = 2**24  # similarities in memory: 64 MiB


@dataclass(frozen=True, eq=False)
class NeighboursProbe:
    """The nearest `count` training images vote for their class, with exp(similarity / 0.07)."""

    train: Tensor
    """(N, D) features of length 1."""
    labels: Tensor
    """(N,) int64."""
    classes: int
    count: int
    choice: Choice
    method: str = "k-NN"

    def classify(self, queries: Tensor) -> Tensor:
        """(M,) int64 classes of features (M, D); among equal votes the lower class. Raises InputError for another D."""
        require_width(queries, self.train.shape[1])
        answers = []
        for rows in blocks(len(queries), max(1, _AT_ONCE // len(self.train))):
            similarity = unit(queries[rows].to(self.train.device, torch.float32)) @ self.train.T
            answers.append(_votes(*_nearest(similarity, self.count), self.labels, self.classes, [self.count])[0])
        return torch.cat(answers)


def fit_neighbours(
    train: LabelledFeatures, *, counts: Sequence[int] = NEIGHBOURS, on_step: OnStep = unwatched
) -> NeighboursProbe:
    """k-NN with the k of `counts` that answers most training images correctly from the others: leave-one-out.

    Of more than 50,000 training images 10,000 are left out, always the same ones; the choice says so. The neighbours
    are all the others. Neighbours in the image's own group do not vote for it. Images of a class that has no other
    image outside the group are not counted. Among equally good ones the largest k is taken; one k alone is taken as it
    is. A k larger than the number of other images means all of them. Among equally similar images those that come first
    in `train` are taken. `on_step` is called with the number of images that were left out.

    Raises InputError for fewer than 3 images, for one class, and for a k below 1.
    """
    require_for_fitting(train)
    if not counts or min(counts) < 1:
        raise InputError(f"`counts` are {list(counts)}: give numbers of neighbours from 1")
    features = unit(train.features)
    tried: tuple[Tried, ...] = ()
    remarks: tuple[str, ...] = ()
    if len(counts) == 1:
        chosen = counts[0]
    elif not has_company(train).any():
        chosen, remarks = 1, (UNCHOSEN.format(what="k", value=1),)
    else:
        usable = sorted({min(count, len(train) - 1) for count in counts})
        left = _left_out(train)
        tried = _leave_one_out(train, features, left, usable, on_step)
        best = max(tried, key=lambda one: (one.accuracy or 0.0, one.value))
        chosen, remarks = int(best.value), _remarks(tried, len(train) - 1)
        if len(left) == SAMPLE < len(train):
            remarks += (f"k was chosen on {SAMPLE:,} of the {len(train):,} training images, drawn at random",)
    choice = Choice("k", chosen, tried, remarks)
    return NeighboursProbe(features, train.labels, train.classes, min(chosen, len(train)), choice)


def _remarks(tried: tuple[Tried, ...], others: int) -> tuple[str, ...]:
    """Whether a larger k than those `tried`, ascending, may be better; there are `others` neighbours of an image."""
    if len(tried) > 1 and max(one.accuracy or 0.0 for one in tried[:-1]) < (tried[-1].accuracy or 0.0):
        return (told_end("k", tried[-1].value, "largest"),) if tried[-1].value < others else ()
    return ()


def _left_out(train: LabelledFeatures) -> Tensor:
    """(n,) the images that k is chosen on, ascending: those that can be left out, or a sample of them."""
    able = has_company(train).nonzero()[:, 0]
    if len(train) <= MOST_COMPARED or len(able) <= SAMPLE:
        return able
    drawn = torch.randperm(len(able), generator=torch.Generator().manual_seed(0))[:SAMPLE]
    return able[drawn.sort().values.to(able.device)]


def _leave_one_out(
    train: LabelledFeatures, features: Tensor, left: Tensor, counts: list[int], on_step: OnStep
) -> tuple[Tried, ...]:
    """The accuracy of each of `counts`, ascending, on the images `left` (n,), by all features (N, D) of length 1."""
    right = [0] * len(counts)
    for rows in torch.split(left, max(1, _AT_ONCE // len(features))):
        similarity = features[rows] @ features.T
        if train.groups is None:
            similarity.scatter_(1, rows[:, None], -torch.inf)
        else:
            similarity.masked_fill_(train.groups[rows, None] == train.groups, -torch.inf)
        answers = _votes(*_nearest(similarity, counts[-1]), train.labels, train.classes, counts)
        for at, answer in enumerate(answers):
            right[at] += int((answer == train.labels[rows]).sum())
        on_step(len(rows))
    return tuple(Tried(count, hits / len(left), images=len(left)) for count, hits in zip(counts, right, strict=True))


def _nearest(similarity: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(M, count) largest of the similarities (M, N) and where they are; among equals the earlier one is first."""
    values, places = similarity.topk(count, dim=1)
    last = values[:, -1:]
    cut = (similarity == last).sum(dim=1) > (values == last).sum(dim=1)  # equals that were left out, maybe earlier ones
    if cut.any():
        places[cut] = similarity[cut].sort(dim=1, descending=True, stable=True).indices[:, :count]
    places = places.sort(dim=1).values
    values, order = similarity.gather(1, places).sort(dim=1, descending=True, stable=True)
    return values, places.gather(1, order)


def _votes(similarity: Tensor, places: Tensor, labels: Tensor, classes: int, counts: list[int]) -> list[Tensor]:
    """(M,) classes with the most votes for each of `counts`, which ascend, of the neighbours (M, k) in order."""
    weights = ((similarity - 1) / TEMPERATURE).exp()  # shifted: all are below 1, and their order is kept
    votes = torch.zeros(len(places), classes, device=places.device)
    answers, before = [], 0
    for count in counts:
        votes.scatter_add_(1, labels[places[:, before:count]], weights[:, before:count])
        answers.append(votes.argmax(dim=1))
        before = count
    return answers

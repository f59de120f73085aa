"""Probes on frozen features: how long do k-NN, ridge, logistic regression and class means take, beside scikit-learn's?

    python benchmarks/probe.py [--rounds 3] [--threads 2] [--tiny] [--out benchmarks/results/FILE.md]
    python benchmarks/probe.py --optimum [--out benchmarks/results/FILE.md]

10,000 training and 5,000 held-out images of 100 classes, with 768 numbers each: three normal clouds a class, whose
principal axes are turned, so that the numbers correlate, and whose variances fall like a power of their rank, as those
of real features do. They are made so that accuracies are about 70% to 90%. All choices are made on training images.

- vitsmith: `fit_neighbours`, `fit_ridge`, `fit_logistic` and `score_few_shot`, as `vitsmith probe` calls them
- scikit-learn: `KNeighborsClassifier` (cosine, the same votes, features as they are) by `GridSearchCV` over the same k
  in folds, where vitsmith leaves out each image; on standardised features `RidgeClassifierCV`, its own leave-one-out,
  over the same strengths, and `LogisticRegressionCV` (lbfgs, its own warm starts, log-loss, as many jobs as threads)
  over the same folds and exactly the strengths that vitsmith tried, with scikit-learn's usual tolerance.

In each round every method of both runs once, in turns, in one process. Times are of fitting with all choices, without
making the features; those of vitsmith's linear probes include standardising and the principal axes, which ridge and
logistic regression share. Medians and ranges over rounds are shown. The accuracy is on the held-out images, and the
difference of the two is paired.

--optimum: logistic regression at the strength that vitsmith chose, beside `LogisticRegression` in float64 with its
usual tolerance and with one of 1e-9, which ends at the optimum: how often their answers are those of vitsmith.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV, RidgeClassifierCV
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from vitsmith.gate.paired import Paired
from vitsmith.machine import describe_machine
from vitsmith.probing.classifiers.folds import make_folds
from vitsmith.probing.classifiers.labelled import LabelledFeatures
from vitsmith.probing.classifiers.linear import PrincipalAxes, principal_axes
from vitsmith.probing.classifiers.logistic import fit_logistic
from vitsmith.probing.classifiers.neighbours import NEIGHBOURS, TEMPERATURE, fit_neighbours
from vitsmith.probing.classifiers.prototypes import score_few_shot
from vitsmith.probing.classifiers.ridge import STRENGTHS, fit_ridge
from vitsmith.probing.classifiers.scores import MethodScore, score_answers, score_probe

CLOUDS = 3  # of each class
SHARED = 0.03  # of the axes, in which classes differ most
SPREAD = 0.5  # of a class's clouds, as a share of that of the classes


@dataclass(frozen=True)
class Size:
    train: int = 10_000
    held_out: int = 5_000
    width: int = 768
    classes: int = 100
    distance: float = 1.4
    """Of class centres along an axis, in deviations of a cloud."""


TINY = Size(train=400, held_out=200, width=24, classes=5, distance=4.0)


def make_features(size: Size) -> tuple[LabelledFeatures, LabelledFeatures]:
    """Training and held-out images, the same each time."""
    generator = np.random.default_rng(0)
    ranks = np.arange(1, size.width + 1)
    deviations = ranks**-0.75  # of the principal axes, within a class: from 1 to less than 0.01
    rotation = np.linalg.qr(generator.standard_normal((size.width, size.width)))[0]
    turned = (rotation * deviations).astype(np.float32)
    shape = (size.classes, CLOUDS, size.width)
    centres = generator.standard_normal((size.classes, 1, size.width)) + SPREAD * generator.standard_normal(shape)
    centres *= size.distance * np.exp(-ranks / (SHARED * size.width))  # classes differ in the first axes
    offset = generator.standard_normal(size.width)

    def images(count: int) -> LabelledFeatures:
        labels, clouds = generator.integers(0, size.classes, count), generator.integers(0, CLOUDS, count)
        points = (centres[labels, clouds] + generator.standard_normal((count, size.width))).astype(np.float32)
        features = (points @ turned.T + offset).astype(np.float32)
        return LabelledFeatures(torch.from_numpy(features), torch.from_numpy(labels), size.classes)

    return images(size.train), images(size.held_out)


@dataclass
class Rounds:
    """What the rounds found, by method and by who."""

    train: LabelledFeatures
    held_out: LabelledFeatures
    threads: int
    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    scores: dict[tuple[str, str], MethodScore] = field(default_factory=dict)
    few_shot: str = ""
    peers: dict[str, str] = field(default_factory=dict)
    """What scikit-learn chose, by method."""

    def run(self) -> None:
        """One round: each method of vitsmith, then the same of scikit-learn."""
        axes = self.time("principal axes", "vitsmith", lambda: principal_axes(self.train))
        fits: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
            "k-NN": (lambda: fit_neighbours(self.train), lambda _: self.neighbours()),
            "ridge": (lambda: fit_ridge(self.train, axes=axes), lambda _: self.ridge()),
            "logistic": (lambda: self.logistic(axes), self.peer_logistic),
        }
        for method, (own, make_peer) in fits.items():
            probe = self.time(method, "vitsmith", own)
            self.scores[method, "vitsmith"] = score_probe(probe, self.held_out)
            peer = make_peer(probe)
            self.time(method, "scikit-learn", lambda peer=peer: peer.fit(*self.arrays(self.train)))
            self.peers[method] = chosen(peer, len(self.train))
            answers = torch.from_numpy(peer.predict(self.arrays(self.held_out)[0]))
            self.scores[method, "scikit-learn"] = score_answers(method, answers, self.held_out)
        shots = self.time("class means", "vitsmith", lambda: score_few_shot(self.train, self.held_out))
        self.few_shot = ", ".join(f"{one.shots}: {one.accuracy:.1%}" for one in shots)

    def time(self, method: str, who: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = call()
        self.seconds.setdefault((method, who), []).append(time.perf_counter() - began)
        print(f"{method}, {who}: {self.seconds[method, who][-1]:.2f} s", flush=True)
        return result

    def logistic(self, axes: PrincipalAxes) -> Any:
        return fit_logistic(self.train, axes=axes)

    def arrays(self, images: LabelledFeatures) -> tuple[Any, Any]:
        return images.features.numpy(), images.labels.numpy()

    def folds(self) -> PredefinedSplit:
        return PredefinedSplit(make_folds(self.train).numpy())

    def neighbours(self) -> Any:
        votes = KNeighborsClassifier(metric="cosine", algorithm="brute", weights=vote)
        return GridSearchCV(votes, {"n_neighbors": list(NEIGHBOURS)}, cv=self.folds())

    def ridge(self) -> Any:
        alphas = [strength * len(self.train) for strength in STRENGTHS]
        return make_pipeline(StandardScaler(), RidgeClassifierCV(alphas))

    def peer_logistic(self, own: Any) -> Any:
        cs = sorted(1 / (tried.value * len(self.train)) for tried in own.choice.tried)
        sweep = LogisticRegressionCV(
            Cs=cs,
            cv=self.folds(),
            scoring="neg_log_loss",
            max_iter=10_000,
            n_jobs=self.threads,
            use_legacy_attributes=False,
            l1_ratios=(0,),
        )
        return make_pipeline(StandardScaler(), sweep)


def chosen(peer: Any, count: int) -> str:
    """The setting that a fitted search or pipeline of scikit-learn chose for `count` images, in our words."""
    if isinstance(peer, GridSearchCV):
        return f"k {peer.best_params_['n_neighbors']}"
    last = peer[-1]
    strength = last.alpha_ / count if isinstance(last, RidgeClassifierCV) else 1 / (float(np.ravel(last.C_)[0]) * count)
    return f"strength {strength:.3g}"


def vote(distance: Any) -> Any:
    return np.exp((1 - distance) / TEMPERATURE)


def measure(train: LabelledFeatures, held_out: LabelledFeatures, size: Size, options: argparse.Namespace) -> str:
    """Runs all rounds, and describes them."""
    rounds = Rounds(train, held_out, options.threads)
    for _ in range(options.rounds):
        rounds.run()
    return describe(rounds, size, options)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def describe(rounds: Rounds, size: Size, options: argparse.Namespace) -> str:
    taken, scores = rounds.seconds, rounds.scores
    command = f"python benchmarks/probe.py --rounds {options.rounds} --threads {options.threads}"
    lines = [
        f"# Probes on {size.train:,} frozen features of {size.width} numbers, {size.classes} classes",
        "",
        f"`{command}{' --tiny' if options.tiny else ''}`, {datetime.date.today()}, {describe_machine()}, Python "
        f"{platform.python_version()}, torch {torch.__version__}, scikit-learn {sklearn.__version__}, "
        f"{options.threads} threads. Median (lowest to highest) of {options.rounds} rounds in turns.",
        "",
        "| method | vitsmith, s | scikit-learn, s | vitsmith, setting | accuracy | scikit-learn, setting | accuracy | "
        "difference, points (95%) |",
        "|---|---:|---:|---|---:|---|---:|---:|",
        f"| standardising, principal axes | {spread(taken['principal axes', 'vitsmith'])} | in each | | | | | |",
    ]
    for method in ("k-NN", "ridge", "logistic"):
        own, peer = scores[method, "vitsmith"], scores[method, "scikit-learn"]
        paired = Paired.of(peer.right, own.right)
        low, high = paired.interval
        cells = [
            method,
            spread(taken[method, "vitsmith"]),
            spread(taken[method, "scikit-learn"]),
            own.setting,
            f"{own.accuracy:.2%}",
            rounds.peers[method],
            f"{peer.accuracy:.2%}",
            f"{0 - paired.drop:+.2f} ({0 - high:+.2f} to {0 - low:+.2f})",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    totals = [
        [sum(parts) for parts in zip(*(times for (_, by), times in taken.items() if by == who), strict=True)]
        for who in ("vitsmith", "scikit-learn")
    ]
    lines += [
        f"| class means, 1 to 16 shots, 50 draws | {spread(taken['class means', 'vitsmith'])} | | | | | | |",
        f"| **all** | **{spread(totals[0])}** | **{spread(totals[1])}** | | | | | |",
        "",
        f"Class means, mean accuracy by images of each class: {rounds.few_shot}.",
        *(f"Remark of {score.method}: {remark}." for score in scores.values() for remark in score.remarks),
    ]
    return "\n".join([*lines, "", *["    " + line for line in (__doc__ or "").splitlines()[4:]]]) + "\n"


def describe_optimum(train: LabelledFeatures, held_out: LabelledFeatures) -> str:
    """A table of logistic regressions at one strength, the nearer to the optimum the lower."""
    probe = fit_logistic(train, axes=principal_axes(train))
    own = score_probe(probe, held_out)
    strength = probe.choice.value
    scaler = StandardScaler().fit(train.features.double().numpy())
    points, others = (scaler.transform(each.features.double().numpy()) for each in (train, held_out))
    labels = train.labels.numpy()
    lines = [
        f"# Logistic regression at strength {strength:.3g}: how near the optimum",
        "",
        f"`python benchmarks/probe.py --optimum`, {datetime.date.today()}, {describe_machine()}, torch "
        f"{torch.__version__}, scikit-learn {sklearn.__version__}. Objective: mean log-loss of the training images and "
        "half the strength times the squared weights.",
        "",
        "| | iterations | objective | accuracy | answers as vitsmith's |",
        "|---|---:|---:|---:|---:|",
    ]
    for tolerance in (1e-4, 1e-9):
        peer = LogisticRegression(C=1 / (strength * len(labels)), tol=tolerance, max_iter=100_000).fit(points, labels)
        answers = peer.predict(others)
        chances = peer.predict_proba(points)[np.arange(len(labels)), labels]
        objective = -np.log(chances).mean() + strength / 2 * (peer.coef_**2).sum()
        right, same = (answers == held_out.labels.numpy()).mean(), (answers == own.predicted).mean()
        lines.append(
            f"| scikit-learn, tolerance {tolerance:g} | {int(peer.n_iter_[0]):,} | {objective:.5f} | {right:.2%} | "
            f"{same:.2%} |"
        )
        print(lines[-1], flush=True)
    lines.append(f"| vitsmith | | | {own.accuracy:.2%} | |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="seconds instead of minutes, to see that it runs")
    parser.add_argument("--optimum", action="store_true", help="only compare logistic regressions with the optimum")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = TINY if options.tiny else Size()
    train, held_out = make_features(size)
    with threadpool_limits(options.threads):
        report = describe_optimum(train, held_out) if options.optimum else measure(train, held_out, size, options)
    print(report)
    if options.out:
        options.out.write_text(report)


if __name__ == "__main__":
    main()

"""Features for tests of probes: overlapping clouds of points."""

from __future__ import annotations

import numpy as np
import torch

from vitsmith.probing.classifiers.labelled import LabelledFeatures


def clouds(count: int, *, seed: int = 0, classes: int = 4, width: int = 12, spread: float = 1.2) -> LabelledFeatures:
    """`count` points of `width` numbers of very different scales, around a centre for each class."""
    centres = np.random.default_rng(7).normal(size=(classes, width))
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    points = (centres[labels] + spread * random.normal(size=(count, width))) * np.logspace(-1, 1, width) + 3
    return LabelledFeatures(torch.tensor(points, dtype=torch.float32), torch.tensor(labels), classes)


def labelled(features: object, labels: object, classes: int, groups: object = None) -> LabelledFeatures:
    """Labelled features from lists or arrays."""
    return LabelledFeatures(
        torch.as_tensor(features, dtype=torch.float32),
        torch.as_tensor(labels),
        classes,
        None if groups is None else torch.as_tensor(groups),
    )

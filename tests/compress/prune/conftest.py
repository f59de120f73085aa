"""A model that has learnt three colours, and its images."""

from __future__ import annotations

import pytest

from tests.training.small_runs import recipe, splits
from vitsmith.compress.images import TaskImages
from vitsmith.runs.run import Run
from vitsmith.training.images.run import train_to_bundle
from vitsmith.weights.bundle.bundle import Bundle


@pytest.fixture(scope="package")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model that has learnt three colours, on disk."""
    wanted = recipe(model={"config": {"depth": 2, "heads": 4, "mlp_width": 64}}, schedule={"steps": 30})
    with Run("train", "colours", tmp_path_factory.mktemp("runs") / "colours") as run:
        trained = train_to_bundle(wanted, splits(), run)
    assert trained.result.final.scores.top1 == 1
    return trained.bundle


@pytest.fixture
def colours() -> TaskImages:
    return TaskImages(splits().train, splits().val, True, "colours")

"""Twenty updates of the original's fine-tuning, number by number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.reference import fill
from tests.tiny import REFERENCE, released_npz, small_cases
from vitsmith.data.batches.loader import Batch
from vitsmith.models.initializers import reset_head
from vitsmith.training.devices import Devices
from vitsmith.training.learner import Learner
from vitsmith.training.recipes.file import parse_recipe
from vitsmith.training.step import apply_gradients, compute_gradients
from vitsmith.training.update.losses import classification_loss
from vitsmith.weights.jax.writer import save_npz
from vitsmith.weights.load import load

STEPS = 20


def batch_of(step: int) -> Batch:
    labels = (np.arange(16) * 7 + step) % 10
    offsets = (labels / 9 - 0.5).astype(np.float32)[:, None, None, None]
    images = np.clip(fill.image(f"train/{step}", 16, 32) * 0.5 + offsets, -1, 1)
    return Batch(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(labels))


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("bfloat16", 1e-3)])
def test_losses_norms_and_weights_are_the_originals(tmp_path, dtype, tolerance, accumulate) -> None:
    recorded = np.load(REFERENCE / "recipes" / f"finetune_momentum-{dtype}_accumulate{accumulate}.npz")
    model = load(released_npz(tmp_path / "start.npz", small_cases()["small-vit-token"]["layout"])).model
    reset_head(model.head)
    recipe = parse_recipe(
        {
            "data": {"path": "recorded"},
            "model": {"name": "ViT-mu_16"},
            "schedule": {"steps": STEPS, "warmup": 5},
            "batch": {"size": 16, "micro": 16 // accumulate},
            "optimizer": {"lr": 0.1, "momentum_dtype": dtype},
        }
    )
    devices = Devices(torch.device("cpu"))
    learner = Learner.of(model, recipe, classification_loss, devices, checkpointing=False)
    done = []
    for step in range(STEPS):
        images, labels = batch_of(step)
        slices = [Batch(*parts) for parts in zip(images.chunk(accumulate), labels.chunk(accumulate), strict=True)]
        loss = compute_gradients(learner, slices, recipe, step, devices)
        norm, rate = apply_gradients(learner, recipe, step)
        done.append((loss, norm, rate))

    np.testing.assert_allclose([float(loss) for loss, _, _ in done], recorded["losses"], rtol=tolerance)
    np.testing.assert_allclose([float(norm) for _, norm, _ in done], recorded["gradient_norms"], rtol=10 * tolerance)
    save_npz(model, tmp_path / "end.npz")
    with np.load(tmp_path / "end.npz") as end:
        query = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel"
        for name, expected in (("head/kernel", recorded["head_kernel"]), (query, recorded["query_kernel"])):
            largest = np.abs(expected).max()
            assert np.abs(end[name] - expected).max() <= 10 * tolerance * largest

"""Losses against torch's own and against NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vitsmith.data.batches.loader import Batch
from vitsmith.errors import ConfigError
from vitsmith.training.recipes.recipe import DistillSpec
from vitsmith.training.update.losses import DistillLoss, classification_loss, cross_entropy, divergence, teacher_share

GENERATOR = torch.Generator().manual_seed(3)
LOGITS, TEACHER = 4 * torch.randn(2, 6, 5, generator=GENERATOR)
SECOND = torch.randn(6, 5, generator=GENERATOR)
IMAGES = torch.randn(6, 3, 2, 2, generator=GENERATOR)
LABELS = torch.tensor([0, 4, 2, 2, 1, 3])
MIXED = 0.7 * F.one_hot(LABELS, 5).float() + 0.3 * F.one_hot(LABELS.flip(0), 5).float()


def log_softmax(logits: torch.Tensor) -> np.ndarray:
    x = logits.double().numpy()
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def entropy_by_hand(logits: torch.Tensor, shares: torch.Tensor) -> float:
    return float(-(shares.double().numpy() * log_softmax(logits)).sum(axis=1).mean())


def kl_by_hand(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> float:
    ours, theirs = log_softmax(logits / temperature), log_softmax(teacher / temperature)
    return float(temperature**2 * (np.exp(theirs) * (theirs - ours)).sum(axis=1).mean())


def distill(output: torch.Tensor, labels: torch.Tensor = LABELS, **fields: Any) -> float:
    def teacher(images: torch.Tensor) -> torch.Tensor:
        assert images is IMAGES
        return TEACHER

    return float(DistillLoss(teacher, DistillSpec(teacher="x", **fields))(output, Batch(IMAGES, labels)))


def test_cross_entropy_of_classes_and_of_shares() -> None:
    one_hot = F.one_hot(LABELS, 5).float()
    assert float(cross_entropy(LOGITS, LABELS)) == pytest.approx(entropy_by_hand(LOGITS, one_hot), rel=1e-5)
    assert float(cross_entropy(LOGITS, MIXED)) == pytest.approx(entropy_by_hand(LOGITS, MIXED), rel=1e-5)
    halves = cross_entropy(LOGITS.bfloat16(), LABELS)
    assert halves.dtype == torch.float32
    torch.testing.assert_close(halves, F.cross_entropy(LOGITS.bfloat16().float(), LABELS))


def test_two_heads_are_judged_by_what_they_will_answer_together() -> None:
    both = torch.stack([LOGITS, SECOND], dim=1)
    found = float(classification_loss(both, Batch(IMAGES, MIXED)))
    assert found == pytest.approx(entropy_by_hand((LOGITS + SECOND) / 2, MIXED), rel=1e-5)
    assert float(classification_loss(LOGITS, Batch(IMAGES, LABELS))) == float(cross_entropy(LOGITS, LABELS))


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_the_divergence_is_torchs_times_the_squared_temperature(temperature: float) -> None:
    found = float(divergence(LOGITS, TEACHER, temperature))
    ours, theirs = F.log_softmax(LOGITS / temperature, 1), F.softmax(TEACHER / temperature, 1)
    expected = temperature**2 * F.kl_div(ours, theirs, reduction="batchmean")
    assert found == pytest.approx(float(expected), rel=1e-5)
    assert found == pytest.approx(kl_by_hand(LOGITS, TEACHER, temperature), rel=1e-5)
    assert float(divergence(TEACHER + 2, TEACHER, temperature)) == pytest.approx(0, abs=1e-5)


def test_at_high_temperatures_the_gradient_matches_logits() -> None:
    """arXiv 1503.02531 section 2.1: for zero-mean logits it tends to (student - teacher) / K, whatever T is."""
    ours, theirs = (logits - logits.mean(dim=1, keepdim=True) for logits in (LOGITS, TEACHER))
    ours.requires_grad_()
    (gradient,) = torch.autograd.grad(divergence(ours, theirs, 100.0), ours)
    torch.testing.assert_close(gradient, ((ours - theirs) / 5 / len(ours)).detach(), rtol=0.1, atol=0.01)


@pytest.mark.parametrize("labels", [LABELS, MIXED], ids=["classes", "mixed"])
def test_every_kind_of_distillation_is_its_equation(labels: torch.Tensor) -> None:
    shares = F.one_hot(LABELS, 5).float() if labels is LABELS else MIXED
    both = torch.stack([LOGITS, SECOND], dim=1)
    labelled = entropy_by_hand(LOGITS, shares)

    soft = distill(LOGITS, labels, kind="soft", temperature=2.0, weight=0.8)
    assert soft == pytest.approx(0.2 * labelled + 0.8 * kl_by_hand(LOGITS, TEACHER, 2.0), rel=1e-5)
    alone = distill(LOGITS, labels, kind="soft", temperature=2.0, weight=1.0)
    assert alone == pytest.approx(kl_by_hand(LOGITS, TEACHER, 2.0), rel=1e-5)
    answered = distill(both, labels, kind="soft", temperature=2.0, weight=1.0)
    assert answered == pytest.approx(kl_by_hand((LOGITS + SECOND) / 2, TEACHER, 2.0), rel=1e-5)

    deit_soft = distill(both, labels, kind="deit-soft", temperature=3.0, weight=0.1)
    assert deit_soft == pytest.approx(0.9 * labelled + 0.1 * kl_by_hand(SECOND, TEACHER, 3.0), rel=1e-5)
    deit_hard = distill(both, labels, kind="deit-hard", weight=0.5)
    top = F.one_hot(TEACHER.argmax(dim=1), 5).float()
    assert deit_hard == pytest.approx(0.5 * labelled + 0.5 * entropy_by_hand(SECOND, top), rel=1e-5)


def test_shares_that_leave_a_head_idle_are_refused() -> None:
    for kind in ("deit-soft", "deit-hard"):
        for weight, head in ((1.0, "class head"), (0.0, "distillation head")):
            with pytest.raises(ConfigError, match=f"leaves the {head} nothing to learn.* such as 0.5"):
                distill(LOGITS, kind=kind, weight=weight)
        with pytest.raises(ConfigError, match=r"model\.config\.distillation_token=true"):
            distill(LOGITS, kind=kind, weight=0.5)
    assert teacher_share(DistillSpec(teacher="x", kind="soft", weight=0.3)) == 0.3

"""The losses of training: cross-entropy with the labels, or with a teacher's answers for the same images.

B batch, K classes, w the teacher's share, T the temperature. Labels are int64 (B,), or shares of classes (B, K) where
images were mixed or labels smoothed.

| kind      | loss                                                             | source                         |
|-----------|------------------------------------------------------------------|--------------------------------|
| soft      | (1 - w) CE(answer, labels) + w T^2 KL(teacher, answer)           | arXiv 1503.02531, 2106.05237   |
| deit-soft | (1 - w) CE(class head, labels) + w T^2 KL(teacher, second head)  | arXiv 2012.12877, equation 2   |
| deit-hard | (1 - w) CE(class head, labels) + w CE(second head, teacher's top) | arXiv 2012.12877, equation 3   |

Both sides of KL are softened by T, which shrinks its gradients by T^2; the factor T^2 undoes that, so that w and the
learning rate mean the same at every temperature (arXiv 1503.02531 section 2). Where each class is scored by itself
(sigmoid), CE and KL are those of its presence, summed over the classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from vitsmith.data.batches.loader import Batch
from vitsmith.errors import ConfigError
from vitsmith.specs import Head
from vitsmith.training.recipes.recipe import DistillSpec

Loss = Callable[[Tensor, Batch], Tensor]
"""Takes the output of a model in training mode, (B, K) or (B, 2, K), and its batch; returns the loss, shape ()."""

_TWO_HEADS = 3  # axes of the output of a model with a distillation token


def classification_loss(output: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy in float32. For two heads, that of the mean of their logits, which is the model's answer."""
    return cross_entropy(_answer(output), batch.labels)


def sigmoid_loss(output: Tensor, batch: Batch) -> Tensor:
    """Cross-entropy of each class by itself, summed over the classes: mean over the batch, in float32.

    Source: sigmoid_xent in big_vision/utils.py, the loss of AugReg's pre-training.
    """
    logits = _answer(output).float()
    labels = batch.labels if batch.labels.ndim > 1 else F.one_hot(batch.labels, logits.shape[-1])
    return F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="none").sum(dim=-1).mean()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the batch, in float32: logits (B, K), labels int64 (B,) or shares of classes (B, K)."""
    return F.cross_entropy(logits.float(), labels if labels.ndim == 1 else labels.float())


def divergence(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher, student) of logits (B, K), mean over the batch, in float32; both are divided by T before."""
    ours = F.log_softmax(logits.float() / temperature, dim=-1)
    theirs = F.log_softmax(teacher.float() / temperature, dim=-1)
    return temperature**2 * (theirs.exp() * (theirs - ours)).sum(dim=-1).mean()


def independent_divergence(logits: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """`divergence` for classes that are scored each by itself: T^2 KL of their presence, summed over the classes."""
    ours, theirs = logits.float() / temperature, teacher.float() / temperature
    present = theirs.sigmoid()
    kl = present * (F.logsigmoid(theirs) - F.logsigmoid(ours))
    kl = kl + (1 - present) * (F.logsigmoid(-theirs) - F.logsigmoid(-ours))
    return temperature**2 * kl.sum(dim=-1).mean()


class DistillLoss:
    """The loss of a student whose teacher sees the same images: the same crops, mixed alike ("consistent").

    `teacher` gives logits (B, K) for the student's images (B, 3, h, w), without gradients; `head` says what the
    logits of both mean: with sigmoid, kind 'soft' compares each class by itself. Raises ConfigError for a share of the
    teacher that leaves one of two heads nothing to learn, and, when called, for a model without the distillation token
    that the kind needs.
    """

    def __init__(self, teacher: Callable[[Tensor], Tensor], spec: DistillSpec, head: Head = "softmax") -> None:
        self.teacher, self._head = teacher, head
        self._kind, self._temperature, self._share = spec.kind, spec.temperature, teacher_share(spec)

    def __call__(self, output: Tensor, batch: Batch) -> Tensor:
        teacher = self.teacher(batch.images)
        if self._kind == "soft":
            labelled = taught = _answer(output)
        else:
            labelled, taught = _both(output, self._kind)
        if self._kind == "deit-hard":
            lesson = cross_entropy(taught, teacher.argmax(dim=-1))
        else:
            compare = independent_divergence if self._head == "sigmoid" else divergence
            lesson = compare(taught, teacher, self._temperature)
        if self._share == 1:
            return lesson
        by_labels = sigmoid_loss(labelled, batch) if self._head == "sigmoid" else cross_entropy(labelled, batch.labels)
        return (1 - self._share) * by_labels + self._share * lesson


def teacher_share(spec: DistillSpec) -> float:
    """The teacher's share in the loss; by default 1 for 'soft' and a half for two heads.

    Raises ConfigError for 0 and 1 with two heads.
    """
    share: float | None = spec.weight
    if share is None:
        return 1.0 if spec.kind == "soft" else 0.5
    if spec.kind != "soft" and share in (0, 1):
        idle = "class head" if share == 1 else "distillation head"
        raise ConfigError(
            f"distill.weight = {share:g} leaves the {idle} nothing to learn, and the answer is the mean of both heads: "
            f"set distill.weight between 0 and 1 for {spec.kind}, such as 0.5"
        )
    return share


def _answer(output: Tensor) -> Tensor:
    return output.float().mean(dim=1) if output.ndim == _TWO_HEADS else output


def _both(output: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    if output.ndim != _TWO_HEADS:
        raise ConfigError(
            f"distill.kind = {kind} needs a student with a distillation token: "
            "set model.config.distillation_token=true, or distill.kind=soft"
        )
    return output[:, 0], output[:, 1]

"""Contrastive losses against plain implementations with the whole matrix of logits, in one process and in two."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests import ROOT
from tests.tiny import BERT, CONFIGS, tiny_model
from vitsmith.errors import InputError
from vitsmith.models.lit import LiT, normalize
from vitsmith.training.lit.contrastive import backward_in_slices, sigmoid_contrastive, softmax_contrastive

PAIRS, WIDTH = 11, 5


def plain_softmax(images: Tensor, texts: Tensor, log_temperature: Tensor, labels: Tensor | None = None) -> Tensor:
    logits = _apart(log_temperature.exp() * images @ texts.T, labels)
    right = torch.arange(len(images))
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def plain_sigmoid(
    images: Tensor, texts: Tensor, log_temperature: Tensor, bias: Tensor, labels: Tensor | None = None
) -> Tensor:
    logits = log_temperature.exp() * images @ texts.T + bias
    signs = 2 * torch.eye(len(images), dtype=logits.dtype) - 1
    return -F.logsigmoid(_apart(logits, labels) * signs).sum() / len(images)


def _apart(logits: Tensor, labels: Tensor | None) -> Tensor:
    if labels is None:
        return logits
    same = (labels[:, None] == labels) & ~torch.eye(len(labels), dtype=torch.bool)
    return logits.masked_fill(same, -torch.inf)


PLAIN = {softmax_contrastive: plain_softmax, sigmoid_contrastive: plain_sigmoid}


def drawn(loss, pairs: int = PAIRS, width: int = WIDTH, *, kind: torch.dtype = torch.float64) -> list[Tensor]:
    """Unit vectors of images and texts, temperature, and a bias if the loss has one."""
    generator = torch.Generator().manual_seed(0)
    vectors = [F.normalize(torch.randn(pairs, width, generator=generator, dtype=kind)) for _ in range(2)]
    numbers = [torch.tensor([1.7], dtype=kind), torch.tensor([-1.3], dtype=kind)]
    return [each.requires_grad_() for each in [*vectors, *numbers][: 3 if loss is softmax_contrastive else 4]]


@pytest.mark.parametrize("loss", PLAIN)
@pytest.mark.parametrize("block", [1, 4, 11, 1024])
@pytest.mark.parametrize("labelled", [False, True])
def test_value_and_gradients_are_those_of_the_whole_matrix(loss, block, labelled) -> None:
    labels = torch.tensor([0, 1, 2, 0, 3, 4, 0, 5, 2, 6, 7]) if labelled else None
    ours, theirs = drawn(loss), drawn(loss)
    value, expected = loss(*ours, labels=labels, block=block), PLAIN[loss](*theirs, labels)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    (3 * value).backward()
    (3 * expected).backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("loss", PLAIN)
def test_a_locked_side_gets_no_gradient_and_changes_none(loss) -> None:
    locked, free = drawn(loss), drawn(loss)
    locked[0] = locked[0].detach()
    for inputs in (locked, free):
        loss(*inputs, block=4).backward()
    assert locked[0].grad is None
    assert [torch.equal(one.grad, other.grad) for one, other in zip(locked[1:], free[1:], strict=True)] == [True] * (
        len(free) - 1
    )


@pytest.mark.parametrize("loss", PLAIN)
def test_bfloat16_embeddings_are_multiplied_in_float32(loss) -> None:
    inputs = drawn(loss, kind=torch.float32)
    halves = [each.detach().bfloat16().requires_grad_() for each in inputs[:2]]
    value = loss(*halves, *inputs[2:])
    expected = PLAIN[loss](*(each.float() for each in halves), *inputs[2:])
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
    value.backward()
    assert [each.grad.dtype for each in halves] == [torch.bfloat16] * 2


def test_high_temperatures_do_not_overflow() -> None:
    images, texts, _ = drawn(softmax_contrastive, kind=torch.float32)
    hot = torch.tensor([5.5], requires_grad=True)  # 245: exp of that is no float32
    value = softmax_contrastive(images, texts, hot, block=3)
    torch.testing.assert_close(value, plain_softmax(images, texts, hot), rtol=1e-5, atol=0)
    value.backward()
    assert all(torch.isfinite(each.grad).all() for each in (images, texts, hot))


class _Largest(TorchDispatchMode):
    """Looks at every tensor that is made."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for each in tree_leaves(made):
            if isinstance(each, Tensor):
                self.numbers = max(self.numbers, each.numel())
        return made


@pytest.mark.parametrize("loss", PLAIN)
def test_the_matrix_of_all_logits_is_never_made(loss) -> None:
    inputs = drawn(loss, 4096, 8, kind=torch.float32)
    with _Largest() as seen:
        loss(*inputs, labels=torch.arange(4096), block=256).backward()
    assert seen.numbers == 256 * 256  # a block; all logits would be 256 times as many
    with _Largest() as seen:
        PLAIN[loss](*inputs)
    assert seen.numbers == 4096 * 4096


@pytest.mark.parametrize("loss", PLAIN)
def test_slices_of_a_tower_give_the_gradients_of_the_whole(loss) -> None:
    """The tower is BERT of two blocks, the images are locked; micro-batches of 3 of 11 texts."""
    lit = tiny_model(CONFIGS["lit-bert"]).double()
    assert isinstance(lit, LiT)
    images, _, *numbers = drawn(loss, width=BERT.classes)
    tokens = torch.randint(1, BERT.vocabulary, (PAIRS, BERT.length), generator=torch.Generator().manual_seed(1))

    def gradients(slices) -> tuple[Tensor, list[Tensor]]:
        for each in [*lit.text.parameters(), *numbers]:
            each.grad = None
        value = backward_in_slices(
            lambda rows: normalize(lit.text(rows)), slices, lambda texts: loss(images.detach(), texts, *numbers)
        )
        return value, [each.grad.clone() for each in [*lit.text.parameters(), *numbers] if each.grad is not None]

    whole, sliced = gradients([tokens]), gradients(tokens.split(3))
    expected = PLAIN[loss](images.detach(), normalize(lit.text(tokens)), *numbers)
    torch.testing.assert_close(whole[0], expected.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(sliced[0], whole[0], rtol=1e-12, atol=0)
    assert len(whole[1]) == len(list(lit.text.parameters())) + len(numbers)
    torch.testing.assert_close(sliced[1], whole[1], rtol=1e-9, atol=1e-12)


def test_two_processes_compute_what_one_does() -> None:
    script = ROOT / "tests" / "training" / "lit" / "contrastive_processes.py"
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["softmax", "sigmoid"]


def test_shapes_that_do_not_go_together_are_refused() -> None:
    images, texts, temperature = drawn(softmax_contrastive)
    with pytest.raises(InputError, match=r"as many images as texts, .* got \(11, 5\) and \(10, 5\)"):
        softmax_contrastive(images, texts[:10], temperature)
    with pytest.raises(InputError, match=r"a label for each of 11 pairs, got \(3,\)"):
        softmax_contrastive(images, texts, temperature, labels=torch.arange(3))

"""Gradients that lead to flat minima: SAM (arXiv 2010.01412) and GSAM (arXiv 2203.08065).

Both take the gradient, go a step of length rho uphill along it, and take the gradient there. Source: gsam.py of
big_vision's gsam project (with `minimize_fp`, without `adaptive_perturbation`), and algorithm 1 of each paper.

In gsam.py every device goes uphill along the gradient of its own images, "m-sharpness" in the papers. Here the whole
batch has one direction, so that the number of devices and of micro-batches does not change what is learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vitsmith.training.update.optimizer import joint_norm, joint_product, local_shards

if TYPE_CHECKING:
    from vitsmith.training.recipes.recipe import OptimizerSpec

_EPS = 1e-12  # gsam.py; with a gradient of zero the weights do not move


def sharpened_gradients(
    model: nn.Module,
    compute: Callable[[], Tensor],
    optimizer: OptimizerSpec,
    lr_share: float,
) -> Tensor:
    """Fills `.grad` with the gradients to update with, and leaves the weights exactly as they were.

    `compute` runs forward and backward over the whole batch, fills `.grad` and returns the mean loss; it is called
    twice, may or may not clear the gradients first, and should draw the same dropout both times. `lr_share` is the
    learning rate as a share of its highest: GSAM's rho goes with it from `rho_min` to `rho`. Returns the loss at
    the weights, not uphill.
    """
    loss = compute()
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    clean = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if optimizer.sharpness == "gsam":
        rho = optimizer.rho_min + (optimizer.rho - optimizer.rho_min) * lr_share
        clean = [gradient.clone() for gradient in clean]  # DDP may keep gradients in buckets that it fills again
    else:
        rho = optimizer.rho
    with _uphill(parameters, clean, rho):
        for parameter in parameters:
            parameter.grad = None
        compute()
    if optimizer.sharpness == "gsam":
        _subtract_orthogonal(parameters, clean, optimizer.alpha)
    return loss


@contextmanager
def _uphill(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor], rho: float) -> Iterator[None]:
    """Moves the parameters by rho along the joint gradient. Copies restore them afterwards: a sum would round."""
    with torch.no_grad():
        scale = rho / (joint_norm(gradients) + _EPS)
        weights = local_shards(parameters)
        copies = [weight.clone() for weight in weights]
        torch._foreach_add_(weights, torch._foreach_mul(local_shards(gradients), scale))
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(weights, copies)


@torch.no_grad()
def _subtract_orthogonal(parameters: Sequence[nn.Parameter], clean: Sequence[Tensor], alpha: float) -> None:
    """uphill - alpha * (the part of clean at a right angle to uphill), which lowers the gap between the two losses."""
    both = [(p.grad, gradient) for p, gradient in zip(parameters, clean, strict=True) if p.grad is not None]
    uphill, clean = [one for one, _ in both], [other for _, other in both]
    square = joint_norm(uphill).square().clamp_min(torch.finfo(torch.float32).tiny)
    share = joint_product(clean, uphill) / square  # clean's part along uphill is share * uphill
    ours = local_shards(uphill)
    along = torch._foreach_mul(ours, alpha * share)
    torch._foreach_sub_(ours, local_shards(clean), alpha=alpha)
    torch._foreach_add_(ours, along)

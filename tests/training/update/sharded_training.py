"""Two processes with FSDP2 shards against one with whole weights. A program: `test_optimizer.py` runs it, as rank 0, 1.

Each process has half of the batch; the reference sees all of it. Leaves with an AssertionError when they differ.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from vitsmith.training.recipes.recipe import OptimizerSpec
from vitsmith.training.update.ema import Ema
from vitsmith.training.update.groups import freeze_parameters, parameter_groups
from vitsmith.training.update.optimizer import clip_by_global_norm, make_optimizer
from vitsmith.training.update.sharpness import sharpened_gradients

STEPS = 4
CASES = {
    "sgd float32": (OptimizerSpec(momentum_dtype="float32", weight_decay=0.1, layer_decay=0.5), 1e-6),
    # where a sum comes out a last digit differently, a bfloat16 may round the other way: 2^-9 of a velocity times 0.2
    "sgd bfloat16": (OptimizerSpec(momentum_dtype="bfloat16", weight_decay=0.1), 2e-4),
    "adamw": (OptimizerSpec(name="adamw", weight_decay=0.1, layer_decay=0.5, eps=1e-4), 1e-5),
    "sam": (OptimizerSpec(momentum_dtype="float32", sharpness="sam", rho=0.5), 2e-6),
    "gsam": (OptimizerSpec(momentum_dtype="float32", sharpness="gsam", rho=0.5, rho_min=0.1, alpha=0.6), 2e-6),
}


class Tiny(nn.Module):
    """Odd sizes, so that shards are uneven, and one (1, 1, width) array, of which one process has nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.class_token = nn.Parameter(torch.randn(1, 1, 7))
        self.patches = nn.Linear(5, 7)
        self.blocks = nn.ModuleList(nn.Linear(7, 7) for _ in range(2))
        self.head = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x) + self.class_token[0]
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return self.head(x)


def train(model: nn.Module, spec: OptimizerSpec, share: Callable[[Tensor], Tensor]) -> tuple[list[Tensor], Ema]:
    """Some updates on `share` of each batch; returns the norms, and a running mean of the weights."""
    freeze_parameters(model, ["blocks.0.bias"])
    optimizer = make_optimizer(parameter_groups(model, spec), spec)
    ema, norms = Ema(model, 0.5), []
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(step)
        x, y = share(torch.randn(8, 5, generator=generator)), share(torch.randn(8, 3, generator=generator))

        def compute(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = (model(x) - y).square().mean()
            loss.backward()
            return loss.detach()

        sharpened_gradients(model, compute, spec, lr_share=0.5)
        norms.append(clip_by_global_norm(model.parameters(), 1.0))
        for group in optimizer.param_groups:
            group["lr"] = 0.2 * group["lr_scale"]
        optimizer.step()
        ema.update()
    return norms, ema


def check_swap(model: nn.Module, reference: nn.Module, ema: Ema, whole_ema: Ema) -> None:
    """The forward passes around a swap are with the weights they should be with."""
    x = torch.ones(2, 5)
    with torch.no_grad():
        before = model(x)
        with ema.swapped(), whole_ema.swapped():
            torch.testing.assert_close(model(x), reference(x), rtol=0, atol=1e-5)
            assert not torch.equal(model(x), before)
        assert torch.equal(model(x), before)


def main() -> None:
    dist.init_process_group("gloo")
    half = slice(4 * dist.get_rank(), 4 * dist.get_rank() + 4)
    for name, (spec, tolerance) in CASES.items():
        torch.manual_seed(0)
        reference = Tiny()
        model = copy.deepcopy(reference)
        for block in model.blocks:
            fully_shard(block)
        fully_shard(model)
        norms, ema = train(model, spec, lambda batch: batch[half])
        expected, whole_ema = train(reference, spec, lambda batch: batch)
        assert min(expected) > 1.5, f"{name}: nothing was clipped"
        torch.testing.assert_close(norms, expected, rtol=10 * tolerance, atol=0)
        for (key, shard), whole in zip(model.named_parameters(), reference.parameters(), strict=True):
            assert isinstance(shard, DTensor), key
            difference = (shard.full_tensor() - whole).abs().max().item()
            assert difference <= tolerance, f"{name}: {key} differs by {difference}"
        check_swap(model, reference, ema, whole_ema)
    if dist.get_rank() == 0:
        print(", ".join([*CASES, "ema"]))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

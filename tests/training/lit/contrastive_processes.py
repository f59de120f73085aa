"""Contrastive losses of two processes against one with all pairs. A program: `test_contrastive.py` runs it.

Each process has half of the pairs. Leaves with an AssertionError when values or gradients differ.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F

from vitsmith.training.devices import Devices
from vitsmith.training.lit.contrastive import sigmoid_contrastive, softmax_contrastive

PAIRS, WIDTH = 14, 6


def main() -> None:
    dist.init_process_group("gloo")
    two = Devices(torch.device("cpu"), dist.get_rank(), dist.get_world_size())
    half = slice(PAIRS // 2 * two.index, PAIRS // 2 * (two.index + 1))
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(PAIRS, WIDTH, generator=generator, dtype=torch.float64) for _ in range(2)]
    labels = torch.arange(PAIRS) % 9  # equal ones lie in different processes
    for name, loss in (("softmax", softmax_contrastive), ("sigmoid", sigmoid_contrastive)):
        for given in (None, labels):
            numbers = [
                torch.tensor([value], dtype=torch.float64) for value in ((1.5,) if name == "softmax" else (1.5, -2))
            ]
            whole = [each.clone().requires_grad_() for each in (*drawn, *numbers)]
            parts = [each[half].clone().requires_grad_() for each in drawn]
            parts += [each.clone().requires_grad_() for each in numbers]
            found = []
            for (images, texts, *rest), devices in ((whole, Devices(two.device)), (parts, two)):
                mine = None if given is None else given if devices.count == 1 else given[half]
                value = loss(F.normalize(images), F.normalize(texts), *rest, labels=mine, devices=devices, block=4)
                value.backward()
                found.append(value.detach())
            torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=0)
            # What DDP does with the weights behind the embeddings: the mean over processes of all their gradients.
            for part, one in zip(parts[:2], whole[:2], strict=True):
                torch.testing.assert_close(part.grad / two.count, one.grad[half], rtol=1e-9, atol=1e-12)
            for part, one in zip(parts[2:], whole[2:], strict=True):
                torch.testing.assert_close(two.mean(part.grad), one.grad, rtol=1e-9, atol=1e-12)
        if two.main:
            print(name)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

"""Contrastive losses of images and texts, over the batch of all processes.

Pair number i of a batch is image i and text i. Every image is compared with every text, so there are B x B logits:
they are computed in blocks, and again for the backward pass, so that they never lie in memory all at once.

B pairs of all processes together, b pairs of this one, E embedding width. Logits are temperature * cosine (+ bias).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from vitsmith.errors import InputError
from vitsmith.training.devices import Devices

BLOCK = 1024
"""Rows and columns of logits computed at once: 4 MiB in float32."""

_ALONE = Devices(torch.device("cpu"))  # one process; its device is not used
_Side = tuple[Tensor, Tensor, Tensor | None]


def softmax_contrastive(
    images: Tensor,
    texts: Tensor,
    log_temperature: Tensor,
    *,
    labels: Tensor | None = None,
    devices: Devices = _ALONE,
    block: int = BLOCK,
) -> Tensor:
    """The mean cross-entropy of finding the text of each image and the image of each text, shape ().

    Args:
        images: (b, E) unit vectors; no gradient is computed where they need none, as those of a locked tower.
        texts: (b, E) unit vectors.
        log_temperature: one number.
        labels: (b,) integers. Pairs of equal label, such as two images with the same caption, are not negatives of
            each other. Without labels all other pairs are negatives.
        devices: the processes that share the batch, each with as many pairs.
        block: rows and columns of logits computed at once.

    The value is that of the whole batch in every process. The mean of all processes' gradients, which is what
    DistributedDataParallel takes, is the gradient of one process that has the whole batch.

    Sources: CLIP, arXiv 2103.00020 figure 3, and LiT, arXiv 2111.07991 section 3. Raises InputError for shapes that do
    not match.
    """
    batch = _gather(images, texts, labels, devices)
    loss: Tensor = _Softmax.apply(images, texts, log_temperature, batch, block)  # type: ignore[no-untyped-call]
    return loss


def sigmoid_contrastive(
    images: Tensor,
    texts: Tensor,
    log_temperature: Tensor,
    bias: Tensor,
    *,
    labels: Tensor | None = None,
    devices: Devices = _ALONE,
    block: int = BLOCK,
) -> Tensor:
    """The cross-entropy of each image with each text by itself: -sum(log sigmoid(+-logit)) / B, shape ().

    `bias` is one number, about -10 at the start, because nearly all of the B x B are negatives. Otherwise as
    `softmax_contrastive`. Source: SigLIP, arXiv 2303.15343 section 3.2.
    """
    batch = _gather(images, texts, labels, devices)
    loss: Tensor = _Sigmoid.apply(images, texts, log_temperature, bias, batch, block)  # type: ignore[no-untyped-call]
    return loss


def backward_in_slices(
    encode: Callable[[Tensor], Tensor], slices: Sequence[Tensor], loss_of: Callable[[Tensor], Tensor]
) -> Tensor:
    """The gradients of a loss over all slices together, with the activations of one slice in memory at a time.

    `encode` gives a slice's embeddings (rows, E), `loss_of` the loss of those of all slices, (b, E). They are computed
    without a graph first; then the loss gives the gradient at each embedding, and each slice is computed again and
    takes its part back through the tower. The gradients are those of the whole; `encode` must draw no random numbers.
    Returns the loss, shape (). Source: GradCache, arXiv 2101.06983.
    """
    if len(slices) == 1:
        loss = loss_of(encode(slices[0]))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
    with torch.no_grad():
        embeddings = torch.cat([encode(each) for each in slices])
    embeddings.requires_grad_()
    loss = loss_of(embeddings)
    loss.backward()  # type: ignore[no-untyped-call]
    assert embeddings.grad is not None
    gradients = torch.split(embeddings.grad, [len(each) for each in slices])
    for each, gradient in zip(slices, gradients, strict=True):
        encode(each).backward(gradient)  # type: ignore[no-untyped-call]
    return loss.detach()


class _Batch(NamedTuple):
    """The pairs of all processes, and where the pairs of this process lie among them."""

    images: Tensor
    """(B, E)"""
    texts: Tensor
    """(B, E)"""
    labels: Tensor | None
    """(B,)"""
    first: int
    devices: Devices

    @property
    def pairs(self) -> int:
        """B."""
        return len(self.images)

    def own(self, rows: Tensor | None) -> Tensor | None:
        """The rows of this process's pairs."""
        share = self.pairs // self.devices.count
        return None if rows is None else rows[self.first : self.first + share]


def _gather(images: Tensor, texts: Tensor, labels: Tensor | None, devices: Devices) -> _Batch:
    if images.ndim != 2 or images.shape != texts.shape or not len(images):
        raise InputError(
            f"the loss takes as many images as texts, (pairs, width), got {(*images.shape,)} and {(*texts.shape,)}"
        )
    if labels is not None and labels.shape != images.shape[:1]:
        raise InputError(f"the loss takes a label for each of {len(images)} pairs, got {(*labels.shape,)}")
    kind = torch.promote_types(torch.promote_types(images.dtype, texts.dtype), torch.float32)
    return _Batch(
        devices.rows(images.to(kind)),
        devices.rows(texts.to(kind)),
        None if labels is None else devices.rows(labels),
        devices.index * len(images),
        devices,
    )


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, texts: Tensor, log_temperature: Tensor, batch: _Batch, block: int) -> Tensor:
        own, scale = batch.own(batch.images), log_temperature.exp()
        assert own is not None
        rows = own.new_full((len(own),), -math.inf)  # for each image of this process, the log-sum over all texts
        columns = own.new_full((batch.pairs,), -math.inf)  # for each text, the log-sum over its images
        for at, to, logits in _blocks(_images(batch, own=True), _texts(batch, own=False), scale, None, block):
            rows[at] = torch.logaddexp(rows[at], logits.logsumexp(1))
            columns[to] = torch.logaddexp(columns[to], logits.logsumexp(0))
        rows = batch.devices.rows(rows)
        columns = batch.devices.rows(columns[None]).logsumexp(0)
        right = scale * (batch.images * batch.texts).sum(1)
        ctx.save_for_backward(log_temperature, rows, columns)
        ctx.batch, ctx.block, ctx.kinds = batch, block, (images.dtype, texts.dtype)
        loss: Tensor = ((rows + columns) / 2 - right).mean()
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        log_temperature, rows, columns = ctx.saved_tensors
        batch, scale = ctx.batch, log_temperature.exp()

        def weigh(logits: Tensor, at: slice, to: slice) -> Tensor:
            """The predicted probability that each image and text are a pair, the mean of both directions."""
            by_row = (logits - rows[at, None]).exp_()
            return by_row.add_(logits.sub_(columns[to]).exp_()).mul_(0.5)

        of_texts, of_images, at_temperature, _ = _gradients(ctx, batch, scale, None, weigh)
        factor = gradient * batch.devices.count / batch.pairs
        return (
            None if of_images is None else (of_images * factor).to(ctx.kinds[0]),
            (of_texts * factor).to(ctx.kinds[1]),
            (at_temperature * factor).to(log_temperature.dtype).reshape(log_temperature.shape),
            None,
            None,
        )


class _Sigmoid(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, texts: Tensor, log_temperature: Tensor, bias: Tensor, batch: _Batch, block: int
    ) -> Tensor:
        scale = log_temperature.exp()
        apart = batch.images.new_zeros(1)
        for _, _, logits in _blocks(_images(batch, own=True), _texts(batch, own=False), scale, bias, block):
            apart += F.softplus(logits).sum()
        right = scale * (batch.images * batch.texts).sum(1) + bias
        ctx.save_for_backward(log_temperature, bias)
        ctx.batch, ctx.block, ctx.kinds = batch, block, (images.dtype, texts.dtype)
        loss: Tensor = (batch.devices.rows(apart).sum() - right.sum()) / batch.pairs
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        log_temperature, bias = ctx.saved_tensors
        batch, scale = ctx.batch, log_temperature.exp()
        of_texts, of_images, at_temperature, at_bias = _gradients(
            ctx, batch, scale, bias, lambda logits, at, to: logits.sigmoid_()
        )
        factor = gradient * batch.devices.count / batch.pairs
        return (
            None if of_images is None else (of_images * factor).to(ctx.kinds[0]),
            (of_texts * factor).to(ctx.kinds[1]),
            (at_temperature * factor).to(log_temperature.dtype).reshape(log_temperature.shape),
            (at_bias * factor).to(bias.dtype).reshape(bias.shape),
            None,
            None,
        )


def _gradients(
    ctx: Any,
    batch: _Batch,
    scale: Tensor,
    bias: Tensor | None,
    weigh: Callable[[Tensor, slice, slice], Tensor],
) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """B times the loss's gradients at this process's texts and images, and its part of those at temperature and bias.

    `weigh` turns a block of logits, possibly in place, into the loss's derivative at them, without the -1 that the
    derivative has at the pairs themselves. Each process handles its own texts, against the images of all.
    """
    own_images, own_texts = batch.own(batch.images), batch.own(batch.texts)
    assert own_images is not None and own_texts is not None
    of_texts = torch.zeros_like(own_texts)
    weights = scale.new_zeros(1, dtype=own_texts.dtype)
    for at, to, logits in _blocks(_images(batch, own=False), _texts(batch, own=True), scale, bias, ctx.block):
        weight = weigh(logits, at, slice(batch.first + to.start, batch.first + to.stop))
        of_texts[to].addmm_(weight.T, batch.images[at])
        if bias is not None:
            weights += weight.sum()
    of_texts = (of_texts - own_images) * scale
    # A logit is the temperature times a cosine, so the gradient at log(temperature) is the sum of gradient * text.
    at_temperature = (of_texts * own_texts).sum()
    of_images = None
    if ctx.needs_input_grad[0]:
        of_images = torch.zeros_like(own_images)
        for at, to, logits in _blocks(_images(batch, own=True), _texts(batch, own=False), scale, bias, ctx.block):
            weight = weigh(logits, slice(batch.first + at.start, batch.first + at.stop), to)
            of_images[at].addmm_(weight, batch.texts[to])
        of_images = (of_images - own_texts) * scale
    return of_texts, of_images, at_temperature, weights - len(own_texts)


def _images(batch: _Batch, *, own: bool) -> _Side:
    return _side(batch, batch.images, own=own)


def _texts(batch: _Batch, *, own: bool) -> _Side:
    return _side(batch, batch.texts, own=own)


def _side(batch: _Batch, vectors: Tensor, *, own: bool) -> _Side:
    """Vectors, the numbers of their pairs, and their labels."""
    numbers = torch.arange(batch.pairs, device=vectors.device)
    if not own:
        return vectors, numbers, batch.labels
    mine, places = batch.own(vectors), batch.own(numbers)
    assert mine is not None and places is not None
    return mine, places, batch.own(batch.labels)


def _blocks(
    images: _Side, texts: _Side, scale: Tensor, bias: Tensor | None, block: int
) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yields rows, columns and logits, block by block; pairs that are not compared are minus infinity."""
    for first in range(0, len(images[0]), block):
        at = slice(first, min(first + block, len(images[0])))
        for second in range(0, len(texts[0]), block):
            to = slice(second, min(second + block, len(texts[0])))
            logits = (images[0][at] @ texts[0][to].T).mul_(scale)
            if bias is not None:
                logits.add_(bias)
            if images[2] is not None and texts[2] is not None:
                same = images[2][at, None] == texts[2][to]
                same &= images[1][at, None] != texts[1][to]
                logits.masked_fill_(same, -math.inf)
            yield at, to, logits

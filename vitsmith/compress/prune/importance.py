"""Importance scores of the blocks, heads and hidden units of a trained model, from a few hundred images.

Two methods; both ask what happens when a part always gives its mean output, which is how `cut` removes it:

| method     | part of a block                                          | whole block                             |
|------------|----------------------------------------------------------|-----------------------------------------|
| taylor     | first-order change of the loss, |sum g (a - mean a)|       | the same of the block, |sum g (out - in)| |
| activation | deviation of what the part adds to the tokens            | 1 - cosine of tokens before and after   |

`a` are the activations and `g` is the gradient of the loss with respect to them; sums go over tokens and channels
of an image, means over images. Sources: arXiv 1906.10771 (Taylor), arXiv 2403.03853 (cosine of blocks).

B images of a batch, G parts (heads or hidden units) of d channels each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitsmith.compress.prune.sizes import Method
from vitsmith.data.batches.loader import evaluation_batches
from vitsmith.data.images.unreadable import SHARE
from vitsmith.data.sets.samples import Samples
from vitsmith.models.build import ImageModel
from vitsmith.weights.bundle.bundle import Bundle

Batches = Iterable[tuple[Tensor, Tensor]]
"""Images (B, 3, h, w) on the model's device, and labels int64 (B,)."""
_BATCH = 16


class DeviceBatches:
    """Images of a set as batches on a device; can be iterated again. `on_images` is called with each batch's size."""

    def __init__(
        self,
        samples: Samples,
        bundle: Bundle,
        device: torch.device,
        on_images: Callable[[int], None],
        skip_unreadable: float = SHARE,
    ) -> None:
        self._samples, self._images, self._device, self._on_images = samples, bundle.preprocessing, device, on_images
        self._skip = skip_unreadable

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        source = evaluation_batches(self._samples, self._images, batch=_BATCH, skip_unreadable=self._skip)
        with closing(source) as batches:
            for held in batches:
                if len(held.labels):
                    yield held.images.to(self._device), held.labels.to(self._device)
                    self._on_images(len(held.labels))


class Place(NamedTuple):
    """A kind of part of a block: the layer `inward` computes its channels, `outward` adds them to the tokens."""

    field: str
    """Field of the configuration with the number of parts."""
    inward: str
    outward: str


PLACES: dict[str, tuple[Place, ...]] = {
    "vit": (
        Place("heads", "attention.qkv", "attention.out"),
        Place("mlp_width", "mlp.widen", "mlp.narrow"),
    ),
    "mixer": (
        Place("tokens_mlp_width", "token_mixing.widen", "token_mixing.narrow"),
        Place("channels_mlp_width", "channel_mixing.widen", "channel_mixing.narrow"),
    ),
}
"""Kinds of parts by family."""


PASSES: dict[Method, int] = {"taylor": 2, "activation": 1}
"""Number of times that `score_parts` goes through the images."""


@dataclass(eq=False)
class PartScores:
    """Scores and mean activations of one kind of parts of one block."""

    scores: Tensor
    """(G,), larger for more important parts."""
    mean: Tensor
    """(G * d,) mean activation of each channel."""


def score_blocks(model: ImageModel, batches: Batches, method: Method) -> Tensor:
    """(depth,) score of each block. Leaves the model as it was, in eval mode."""
    totals = torch.zeros(len(model.blocks), dtype=torch.float64)

    def watch(index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            given = inputs[0][:, : output.shape[1]].detach()  # a last block may compute the first tokens only
            if method == "activation":
                turned = 1 - F.cosine_similarity(given, output, dim=-1)
                totals[index] += turned.mean(dim=-1).sum().double().cpu()
                return
            change = output.detach() - given

            def score(gradient: Tensor) -> None:
                totals[index] += (change * gradient).flatten(1).sum(dim=1).abs().sum().double().cpu()

            output.register_hook(score)  # type: ignore[no-untyped-call]

        return hook

    handles = [block.register_forward_hook(watch(index)) for index, block in enumerate(model.blocks)]
    try:
        images = _run(model, batches, gradients=method == "taylor")
    finally:
        for handle in handles:
            handle.remove()
    return totals / images


def score_parts(model: ImageModel, batches: Batches, method: Method) -> list[dict[str, PartScores]]:
    """For each block the scores of its parts, by `Place.field`. Goes through the batches PASSES[method] times.

    Leaves the model as it was, in eval mode.
    """
    places = _places(model)
    moments = {key: _Moments(linear, parts) for key, (linear, parts) in places.items()}
    with _hooked({places[key][0]: moment.add for key, moment in moments.items()}):
        _run(model, batches, gradients=False)
    if method == "activation":
        scores = {key: moment.deviation() for key, moment in moments.items()}
    else:
        slopes = {key: _Slopes(moment.mean, moment.parts) for key, moment in moments.items()}
        with _hooked({places[key][0]: slope.add for key, slope in slopes.items()}):
            images = _run(model, batches, gradients=True)
        scores = {key: slope.total / images for key, slope in slopes.items()}
    found: list[dict[str, PartScores]] = [{} for _ in model.blocks]
    for (index, field), moment in moments.items():
        found[index][field] = PartScores(scores[index, field].cpu(), moment.mean.cpu())
    return found


def _places(model: ImageModel) -> dict[tuple[int, str], tuple[nn.Linear, int]]:
    """By block and field: the layer that the parts feed, and the number of parts."""
    found = {}
    for index, block in enumerate(model.blocks):
        for place in PLACES[model.config.family]:
            linear = block.get_submodule(place.outward)
            assert isinstance(linear, nn.Linear)
            found[index, place.field] = linear, int(getattr(model.config, place.field))
    return found


class _Moments:
    """Mean, and covariance within each part, of the inputs of a layer."""

    def __init__(self, linear: nn.Linear, parts: int) -> None:
        self.parts = parts
        self._weight = linear.weight.detach()
        channels = linear.in_features // parts
        self._sum = self._weight.new_zeros(linear.in_features, dtype=torch.float64)
        self._products = self._weight.new_zeros(parts, channels, channels, dtype=torch.float64)
        self._count = 0

    def add(self, x: Tensor) -> None:
        rows = x.detach().reshape(-1, self.parts, self._products.shape[-1])
        self._sum += rows.flatten(1).sum(dim=0)
        self._products += torch.einsum("rgi,rgj->gij", rows, rows)
        self._count += len(rows)

    @property
    def mean(self) -> Tensor:
        return (self._sum / self._count).to(self._weight.dtype)

    def deviation(self) -> Tensor:
        """(G,) standard deviation of what each part adds to the tokens."""
        mean = (self._sum / self._count).view(self.parts, -1)
        covariance = self._products / self._count - mean[:, :, None] * mean[:, None, :]
        weight = self._weight.double().view(len(self._weight), self.parts, -1)
        return torch.einsum("ogi,gij,ogj->g", weight, covariance, weight).clamp(min=0).sqrt()


class _Slopes:
    """First-order change of the loss when a part gives its mean output."""

    def __init__(self, mean: Tensor, parts: int) -> None:
        self.total = mean.new_zeros(parts, dtype=torch.float64)
        self._mean = mean

    def add(self, x: Tensor) -> None:
        given = x.detach()  # a hook that holds its own tensor would keep it for ever

        def score(gradient: Tensor) -> None:
            change = (gradient * (given - self._mean)).reshape(len(given), -1, len(self.total), channels)
            self.total += change.sum(dim=(1, 3)).abs().sum(dim=0)

        channels = x.shape[-1] // len(self.total)
        x.register_hook(score)  # type: ignore[no-untyped-call]


@contextmanager
def _hooked(watchers: dict[nn.Linear, Callable[[Tensor], None]]) -> Iterator[None]:
    """While it lasts, each watcher is called with the input of its layer."""

    def hook(watcher: Callable[[Tensor], None]) -> Callable[..., None]:
        return lambda _module, inputs: watcher(inputs[0])

    handles = [linear.register_forward_pre_hook(hook(watcher)) for linear, watcher in watchers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _run(model: ImageModel, batches: Batches, *, gradients: bool) -> int:
    """Runs all batches through the model, with or without gradients of the loss; returns the number of images.

    Gradients go back to the patch embeddings only: not to weights, nor to a ResNet before the patches.
    """
    model.eval()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    begin = model.patches.register_forward_hook(lambda _module, _inputs, output: output.detach().requires_grad_())
    images = 0
    try:
        for given, labels in batches:
            images += len(given)
            if not gradients:
                with torch.no_grad():
                    model(given)
            else:
                with torch.enable_grad():
                    loss = F.cross_entropy(model(given).float(), labels, reduction="sum")
                    loss.backward()  # type: ignore[no-untyped-call]
    finally:
        begin.remove()
        for parameter in trained:
            parameter.requires_grad_(True)
    return images

"""Turn crops into a training batch on the model's device: flip, RandAugment, colours, normalising, erasing, mixup.

All random choices for an image depend on its seed alone and are computed on the CPU. So a batch is the same however it
is cut into micro-batches or spread over processes. Letters: B batch, K classes, h, w image size.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitsmith.data.augment import mix, randaugment
from vitsmith.data.augment.mix import Draws
from vitsmith.data.augment.settings import AugmentSpec
from vitsmith.data.batches.loader import Batch, Crops
from vitsmith.errors import ConfigError
from vitsmith.specs import ImageSpec

# The position of each choice in an image's random numbers. Add new ones at the end, so that old seeds keep their
# meaning.
_FLIP = 0
_MIXUP = 1
_COLOR = slice(2, 5)
_ERASING = slice(5, 5 + mix.ERASING_DRAWS)
_RANDAUGMENT = 10


def augment_on_device(
    crops: Crops, spec: AugmentSpec, images: ImageSpec, *, classes: int, smoothing: float = 0.0
) -> Batch:
    """The batch to train on, on the device of `crops.images`.

    `crops`: images (B, h, w, 3) uint8, labels (B,) int64, seeds (B,) int64, which are best left on the CPU. The batch:
    images (B, 3, h, w) float32, normalised as `images` says; labels as they were, or with mixup or label smoothing
    probabilities (B, K) float32. Mixup pairs the images 2k and 2k + 1, and takes their shares from the seed of image
    2k.

    Raises ConfigError when mixup meets an odd number of images.
    """
    count, height, width, _ = crops.images.shape
    if spec.mixup_alpha and count % 2:
        raise ConfigError(f"mixup mixes pairs of images, and the batch has {count}: make the batch even, or mixup 0")
    operations, magnitude = spec.randaugment
    draws = uniforms(crops.seeds.cpu().numpy(), _RANDAUGMENT + operations * randaugment.DRAWS)
    pixels = crops.images.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
    if spec.flip:
        pixels = _mirror(pixels, draws[:, _FLIP] < 0.5)
    each = draws[:, _RANDAUGMENT:].reshape(count, operations, randaugment.DRAWS)
    values = randaugment.randaugment(pixels, each, magnitude=magnitude).float()
    if spec.color:
        values = jitter(values, 1 + spec.color * (2 * draws[:, _COLOR] - 1))
    values = normalize(values, images)
    if spec.erasing:
        values = mix.erase(values, mix.erased_boxes(draws[:, _ERASING], share=spec.erasing, size=(height, width)))
    labels = crops.labels.to(values.device)
    if smoothing or spec.mixup_alpha:
        labels = mix.targets(labels, classes, smoothing=smoothing)
    if spec.mixup_alpha:
        shares = mix.mixing_shares(draws[::2, _MIXUP], spec.mixup_alpha)
        values, labels = mix.mix_neighbours(values, shares), mix.mix_neighbours(labels, shares)
    return Batch(values, labels)


def uniforms(seeds: NDArray[np.int64], count: int) -> Draws:
    """`count` random numbers in [0, 1) for each seed, (B, count); a larger `count` only adds numbers at the end.

    They come from SplitMix64 (Steele, Lea and Flood 2014), which turns a counter into random numbers, started from the
    mixed seed: one vectorised hash instead of a generator object for every image.
    """
    gamma = np.uint64(0x9E3779B97F4A7C15)
    start = _mixed(seeds.astype(np.uint64) + gamma)
    numbers = _mixed(start[:, None] + gamma * np.arange(1, count + 1, dtype=np.uint64))
    return (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _mirror(pixels: Tensor, chosen: NDArray[np.bool_]) -> Tensor:
    """Mirror the `chosen` images of (B, 3, h, w), in place."""
    rows = torch.from_numpy(np.flatnonzero(chosen)).to(pixels.device)
    return pixels.index_copy_(0, rows, pixels.index_select(0, rows).flip(3))


def jitter(values: Tensor, factors: Draws) -> Tensor:
    """Multiply brightness, contrast and saturation, in this order, by `factors` (B, 3); in place.

    `values`: (B, 3, h, w) float32, whole numbers in 0..255. Contrast is about the mean grey of the image, as in Pillow.
    The three together are one affine map of the colours, clipped to 0..255 only at the end.
    """
    brightness, contrast, saturation = torch.from_numpy(factors.astype(np.float32).T[..., None, None, None]).to(
        values.device
    )
    # Whole numbers add up exactly, whatever the order of summation.
    sums = values.sum((2, 3), dtype=torch.float64, keepdim=True)
    mean = randaugment.grey_of((sums / values[0, 0].numel()).float())
    grey = randaugment.grey_of(values)
    scale = brightness * contrast
    values.mul_(scale * saturation).add_(grey.mul_(scale * (1 - saturation)))
    return values.add_((1 - contrast) * brightness * mean).clamp_(0, 255)


def normalize(values: Tensor, spec: ImageSpec) -> Tensor:
    """`(value / 255 - mean) / std` of (B, 3, h, w) float32 in 0..255, in place; to the bit `preprocess.normalize`."""
    scale = torch.tensor([1 / (255 * std) for std in spec.std], dtype=torch.float32)
    shift = torch.tensor([mean / std for mean, std in zip(spec.mean, spec.std, strict=True)], dtype=torch.float32)
    return values.mul_(scale[:, None, None].to(values.device)).sub_(shift[:, None, None].to(values.device))

"""The captions of training as tokens: which are cut, which read alike, and how many are computed at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vitsmith.models.text_config import BertConfig, TextConfig
from vitsmith.training.devices import Devices
from vitsmith.training.lit.job import LitJob
from vitsmith.training.lit.towers import Towers
from vitsmith.training.memory.plan import available_memory
from vitsmith.training.recipes.lit import LitRecipe

_CHUNK = 8192  # captions tokenized at once
_SHARE = 4  # one part in so many of the free memory is for the activations of the text tower


class Captions(NamedTuple):
    """The captions of training."""

    tokens: Tensor
    """(captions, L) int32"""
    alike: Tensor
    """(captions,) int64: equal where the tokens are, for captions that differ in capitals or after the last token read.

    They cannot be told apart, so they are no negatives of each other."""


def read_captions(job: LitJob, towers: Towers) -> Captions:
    """The tokens of every training caption; tells the user how many captions are cut."""
    captions, tokenizer = job.data.train.classes, towers.tokenizer
    chunks, cut, example = [], 0, ""
    for at in range(0, len(captions), _CHUNK):
        chunk = captions[at : at + _CHUNK]
        read = tokenizer.read(chunk)
        too_long = read.cut
        chunks.append(torch.from_numpy(read.tokens))
        if too_long.any():
            example = example or chunk[int(too_long.argmax())]
            cut += int(too_long.sum())
    if cut:
        job.note(
            f"{cut:,} of {len(captions):,} captions are longer than the {towers.text.length} tokens that are read, and "
            f"are cut, such as {example!r}: raise text.length to read more"
        )
    tokens = torch.cat(chunks)
    return Captions(tokens, torch.unique(tokens, dim=0, return_inverse=True)[1])


def captions_at_once(recipe: LitRecipe, tower: TextConfig, devices: Devices) -> int:
    """Captions at once: as the recipe says, or as many as fit in a quarter of the scarcest device's free memory."""
    share = recipe.batch.size // devices.count
    if recipe.batch.micro:
        return min(recipe.batch.micro, share)
    fits = available_memory(devices.device) // _SHARE // bytes_a_caption(tower)
    return max(min([share, *devices.gather(fits)]), 1)


def bytes_a_caption(tower: TextConfig) -> int:
    """Bytes of a caption: about twice what the tower keeps of it for the backward pass, as gradients need as much."""
    width = 12 * tower.width + 3 * tower.mlp_width
    attention = tower.heads * tower.length * (2 if isinstance(tower, BertConfig) else 1)
    return 4 * tower.length * tower.depth * (width + attention)

"""Prepares the data of a `lit` run: captions as tokens, images as embeddings, and how many are computed at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from vitsmith.data.sets.pairs import PairSplits
from vitsmith.errors import InputError
from vitsmith.models.config import BertConfig, TextConfig
from vitsmith.training.devices import Devices
from vitsmith.training.lit.batches import KeptPairs, PairSource, VariedPairs
from vitsmith.training.lit.embeddings import EmbeddingStore
from vitsmith.training.lit.evaluation import Gallery
from vitsmith.training.lit.towers import Towers
from vitsmith.training.memory.plan import available_memory
from vitsmith.training.monitor.events import Embedded, Warned
from vitsmith.training.monitor.unreadable import Complaints
from vitsmith.training.recipes.lit import LitRecipe
from vitsmith.training.run import Job

_CHUNK = 8192  # captions tokenized at once
_SHARE = 4  # one part in so many of the free memory is for the activations of the text tower


@dataclass(eq=False, kw_only=True)
class LitJob(Job[LitRecipe, PairSplits]):
    """The things that all parts of one run of `lit` in this process need."""

    folder: Path
    """The run's folder, known to all processes."""
    told: list[str] = field(default_factory=list)

    def note(self, message: str) -> None:
        """Tells a message that the report repeats."""
        self.told.append(message)
        self.tell(message)


def read_captions(job: LitJob, towers: Towers) -> Tensor:
    """The tokens of every training caption, (captions, L) int32; tells the user how many captions are cut."""
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
    return torch.cat(chunks)


def embed_images(job: LitJob, towers: Towers) -> tuple[PairSource, Gallery, Gallery | None, Complaints]:
    """The source of pairs, and the evaluation images. Images are embedded here, except augmented ones of training."""
    recipe, devices, pairs = job.recipe, job.devices, job.data
    store = EmbeddingStore(
        Path(recipe.image.store) if recipe.image.store else job.folder,
        towers.lit.image,
        towers.images,
        towers.identity,
        devices,
        kept=recipe.image.kept,
        batch=recipe.image.batch,
        skip_unreadable=recipe.data.skip_unreadable,
        threads=recipe.run.workers,
    )

    def on_done(which: str, done: int, of: int) -> None:
        if devices.main:
            job.on_event(Embedded(which, done, of))

    held_out = Gallery.of(pairs.val, store.open("held-out", pairs.val, on_done), recipe.run.judged_pairs)
    unseen = None
    if pairs.unseen is not None:
        unseen = Gallery.of(pairs.unseen, store.open("unseen", pairs.unseen, on_done))
    complaints = Complaints({"train": pairs.train}, recipe.data.skip_unreadable, devices)
    source: PairSource
    if recipe.augment is None:
        source = KeptPairs(pairs.train, store.open("train", pairs.train, on_done), recipe, devices)
    else:
        found = complaints.of("train")
        source = VariedPairs(pairs.train, towers.lit.image, towers.images, recipe, devices, found)
    for which, told in store.complaints.items():
        for complaint in told if devices.main else ():
            job.on_event(Warned(0, f"unreadable {which} image left out: {complaint}"))
        if told:
            job.told.append(f"{len(told):,} {which} images cannot be read and are left out, such as {told[0]}")
    if not len(held_out.images):
        raise InputError(f"no held-out image of {recipe.data.path} could be read: replace them")
    return source, held_out, unseen, complaints


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

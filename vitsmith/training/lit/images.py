"""Prepares the images of a `lit` run as embeddings: the source of pairs, and what is evaluated."""

from __future__ import annotations

from pathlib import Path

from vitsmith.errors import InputError
from vitsmith.training.lit.batches import KeptPairs, PairSource, VariedPairs
from vitsmith.training.lit.embeddings import EmbeddingStore
from vitsmith.training.lit.evaluation import Gallery
from vitsmith.training.lit.job import LitJob
from vitsmith.training.lit.towers import Towers
from vitsmith.training.monitor.events import Embedded, Warned
from vitsmith.training.monitor.unreadable import Complaints


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

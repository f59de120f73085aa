"""A whole run of `lit`: from a recipe and pairs to a LiT bundle in the run's folder, in one go or in several."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vitsmith.arguments import Tell
from vitsmith.data.sets.pairs import PairSplits
from vitsmith.errors import ConfigError, InputError
from vitsmith.files.atomic import replacing
from vitsmith.files.contents import read_words
from vitsmith.models.config import LiTConfig
from vitsmith.models.configure import parse_config
from vitsmith.records import Publication
from vitsmith.runs.run import Run
from vitsmith.text_spec import TextSpec
from vitsmith.training.checkpoint.disk import TrainingCheckpoint, latest_step
from vitsmith.training.checkpoint.state import TrainingState
from vitsmith.training.devices import Devices, check_even, find_devices
from vitsmith.training.lit.bundle import make_lit_bundle
from vitsmith.training.lit.captions import captions_at_once, read_captions
from vitsmith.training.lit.images import embed_images
from vitsmith.training.lit.job import LitJob
from vitsmith.training.lit.result import LitResult
from vitsmith.training.lit.task import LitTask
from vitsmith.training.lit.towers import TextSide, Towers, rebuild, start
from vitsmith.training.lit.vocabulary import find_vocabulary
from vitsmith.training.monitor.events import Listener, ignore
from vitsmith.training.recipes.file import parse_fields, read_recipe
from vitsmith.training.recipes.lit import LitRecipe
from vitsmith.training.run import RECIPE, carry_out, fingerprint, newest_checkpoint, restore
from vitsmith.training.split import record_split
from vitsmith.training.update.ema import Ema
from vitsmith.training.update.groups import parameter_groups
from vitsmith.training.update.optimizer import make_optimizer
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.lit_text import vocabulary_suffix

_NEEDED = ("data", "config", "text", "tower", "told", "devices", "micro")
"""Facts that a checkpoint of any vitsmith has."""


@dataclass(frozen=True, eq=False, repr=False)
class LitTrained:
    """The result of a run: the bundle on disk, and what happened on the way."""

    bundle: Bundle
    result: LitResult
    recipe: LitRecipe
    """The recipe as it was carried out, with passes over the data turned into updates."""
    told: tuple[str, ...]
    """Messages from before the first update: captions that were cut, and how given weights were used."""

    def __str__(self) -> str:
        return f"{self.bundle.folder}: {self.result}"

    def __repr__(self) -> str:
        return f"<LitTrained {self}>"


def lit_to_bundle(
    recipe: LitRecipe,
    pairs: PairSplits,
    run: Run | None,
    *,
    devices: Devices | None = None,
    on_event: Listener = ignore,
    on_start: Tell = lambda _: None,
) -> LitTrained:
    """Trains a text tower, logging every event to the run's metrics.jsonl, and writes `<run>/model` when all is done.

    `on_start` receives how given weights are used, and which captions are cut. With several processes all of them
    call it, `run` is None in all but the main one, and all of them must see the run's folder.

    Raises what `towers.start`, `EmbeddingStore.open` and `Training.go` raise, and ConfigError for a batch that
    cannot be shared out or is larger than the data; whatever stops it, no part of a bundle is left.
    """
    job = _job(resolve_lit(recipe, len(pairs.train)), pairs, run, devices, on_event, on_start)
    job.note_recipe()
    return _begin(job)


def resume_lit(
    folder: Path,
    pairs: PairSplits,
    run: Run | None,
    *,
    devices: Devices | None = None,
    on_event: Listener = ignore,
    on_start: Tell = lambda _: None,
) -> LitTrained:
    """Resumes the run in `folder` from its newest checkpoint, with exactly the losses that it would have had.

    A run without a checkpoint starts again, with the image embeddings that it had made. Raises InputError for a run
    that is complete, ConfigError for other data or another image tower, and what `lit_to_bundle` raises.
    """
    job = _job(lit_recipe_of(folder), pairs, run, devices, on_event, on_start)
    if latest_step(folder) is None and not (folder / "model").exists():
        if run is not None:
            run.rewrite_rows([])
        return _begin(job)
    checkpoint = newest_checkpoint(job, folder, _NEEDED, "names or captions")
    facts = checkpoint.facts
    text = TextSpec.model_validate(facts["text"])
    vocabulary = _kept_vocabulary(folder, text, facts)
    config = parse_config(facts["config"])
    assert isinstance(config, LiTConfig)
    towers = rebuild(job.recipe, config, text, vocabulary, facts["tower"])
    towers.told = facts["told"]
    towers.text_origin = Publication(**facts.get("text_publication", {}))
    on_start(f"going on after update {checkpoint.step} of {job.recipe.schedule.steps}")
    return _carry_out(job, towers, checkpoint)


def lit_recipe_of(folder: Path) -> LitRecipe:
    """The recipe that the run in `folder` carries out. Raises InputError."""
    return parse_fields(read_recipe(str(folder / RECIPE)), LitRecipe)


def resolve_lit(recipe: LitRecipe, pairs: int) -> LitRecipe:
    """The recipe with passes over `pairs` training pairs turned into updates. Raises ConfigError."""
    if recipe.batch.size > pairs:
        raise ConfigError(
            f"batch.size = {recipe.batch.size} is more than the {pairs} training pairs, so that a batch would hold one "
            f"twice: set it to {pairs} or less"
        )
    return recipe.model_copy(update={"schedule": recipe.schedule.in_updates(pairs, recipe.batch.size)})


def _job(
    recipe: LitRecipe, pairs: PairSplits, run: Run | None, devices: Devices | None, listener: Listener, tell: Tell
) -> LitJob:
    devices = devices or find_devices()
    check_even(recipe.batch.size, devices)
    data = fingerprint((pairs.train, pairs.val, pairs.unseen), devices)
    folder = Path(devices.gather(str(run.folder.resolve()) if run is not None else "")[0])
    return LitJob(recipe, pairs, data, run, devices, listener, tell, folder=folder)


def _begin(job: LitJob) -> LitTrained:
    """Starts at the first update. The main process learns the vocabulary, because all must have the same."""
    devices = job.devices
    found = find_vocabulary(job.recipe.text, job.data.train.classes) if devices.main else None
    towers = start(job.recipe, devices.gather(found)[0])
    if job.run is not None:
        with replacing(_vocabulary_file(job.folder, towers.text)) as path:
            path.write_bytes(towers.vocabulary)
    for line in (*towers.notes, towers.told):
        if line:
            job.note(line)
    return _carry_out(job, towers, None)


def _vocabulary_file(folder: Path, text: TextSpec) -> Path:
    return folder / f"vocabulary{vocabulary_suffix(text)}"


def _kept_vocabulary(folder: Path, text: TextSpec, facts: dict[str, Any]) -> bytes:
    """The vocabulary that the run began with. Raises InputError when its file is missing or was changed."""
    place = _vocabulary_file(folder, text)
    vocabulary = read_words(place, "the vocabulary of the run")
    if facts.get("vocabulary", digest := hashlib.sha256(vocabulary).hexdigest()) != digest:
        raise InputError(f"{place} is not the vocabulary that the run began with: restore it, or start a new run")
    return vocabulary


def _carry_out(job: LitJob, towers: Towers, checkpoint: TrainingCheckpoint | None) -> LitTrained:
    recipe, devices, run = job.recipe, job.devices, job.run
    parents = [recipe.image.init, recipe.text.init]
    parts = {"train": job.data.train, "held_out": job.data.val}
    recorded = record_split(parts, parents, run, devices, job.tell, resumed=checkpoint is not None)
    state = _state(recipe, towers, devices)
    past = restore(job, state, checkpoint)
    for leak in () if recorded.resumed else recorded.leaks:
        job.note(leak)
    captions = read_captions(job, towers)
    source, held_out, unseen, complaints = embed_images(job, towers)
    micro = checkpoint.facts["micro"] if checkpoint else captions_at_once(recipe, towers.lit.config.text, devices)
    result, bundle = carry_out(
        job,
        LitTask(towers, state, source, captions, held_out, unseen, recipe, devices, micro, complaints),
        past,
        facts=_facts(towers),
        recorded=recorded,
        make_bundle=partial(make_lit_bundle, towers, recipe, job.data.val),
    )
    if run is not None and not recipe.image.store:
        shutil.rmtree(run.folder / "embeddings", ignore_errors=True)
    return LitTrained(bundle, result, recipe, tuple(job.told))


def _state(recipe: LitRecipe, towers: Towers, devices: Devices) -> TrainingState:
    """The text side on its device, with its optimizer."""
    towers.lit.to(devices.device)
    side = TextSide(towers.lit)
    optimizer = make_optimizer(parameter_groups(side, recipe.optimizer), recipe.optimizer)
    return TrainingState(side, optimizer, Ema(side, recipe.optimizer.ema) if recipe.optimizer.ema else None)


def _facts(towers: Towers) -> dict[str, Any]:
    """Facts of a run of `lit` that a later process needs to resume it, besides the vocabulary's file."""
    return {
        "vocabulary": hashlib.sha256(towers.vocabulary).hexdigest(),
        "config": towers.lit.config.model_dump(mode="json"),
        "text": towers.text.model_dump(mode="json"),
        "tower": towers.identity,
        "told": towers.told,
        "text_publication": towers.text_origin.model_dump(),
    }

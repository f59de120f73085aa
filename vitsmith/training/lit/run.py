"""A whole run of `lit`: from a recipe and pairs to a LiT bundle in the run's folder, in one go or in several."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vitsmith.data.sets.pairs import PairSplits
from vitsmith.errors import ConfigError, InputError
from vitsmith.escapes import shell_quoted
from vitsmith.files.atomic import replacing
from vitsmith.files.contents import read_words
from vitsmith.models.config import LiTConfig
from vitsmith.models.configure import parse_config
from vitsmith.records import Publication
from vitsmith.runs import Run, write_or_rescue
from vitsmith.specs import TextSpec
from vitsmith.training.checkpoint.disk import Checkpoint, CheckpointWriter, latest_step, read_latest
from vitsmith.training.checkpoint.state import TrainingState
from vitsmith.training.devices import Devices, check_even, check_same_data, find_devices
from vitsmith.training.lit.bundle import make_lit_bundle
from vitsmith.training.lit.data import Course, Say, captions_at_once, embed_images, read_captions
from vitsmith.training.lit.history import (
    LitListener,
    LitPast,
    LitResult,
    ignore,
    lit_past_from,
    lit_rows_until,
)
from vitsmith.training.lit.loop import LitTraining
from vitsmith.training.lit.towers import TextSide, Towers, rebuild, start
from vitsmith.training.lit.vocabulary import find_vocabulary
from vitsmith.training.monitor.metrics_file import usable_rows
from vitsmith.training.recipes.file import check_begun_with, parse_fields, read_recipe
from vitsmith.training.recipes.lit import LitRecipe
from vitsmith.training.run import RECIPE
from vitsmith.training.split import forget_kept, record_split
from vitsmith.training.stop import stopping_gently
from vitsmith.training.update.ema import Ema
from vitsmith.training.update.groups import parameter_groups
from vitsmith.training.update.optimizer import make_optimizer
from vitsmith.version import __version__
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import write_bundle
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
    on_event: LitListener = ignore,
    on_start: Say = lambda _: None,
) -> LitTrained:
    """Trains a text tower, logging every event to the run's metrics.jsonl, and writes `<run>/model` when all is done.

    `on_start` receives how given weights are used, and which captions are cut. With several processes all of them
    call it, `run` is None in all but the main one, and all of them must see the run's folder.

    Raises what `towers.start`, `EmbeddingStore.open` and `LitTraining.go` raise, and ConfigError for a batch that
    cannot be shared out or is larger than the data; whatever stops it, no part of a bundle is left.
    """
    course = _course(resolve_lit(recipe, len(pairs.train)), pairs, run, devices, on_event, on_start)
    if run is not None:
        run.write_json(RECIPE, course.recipe.model_dump(mode="json"))
    return _begin(course)


def resume_lit(
    folder: Path,
    pairs: PairSplits,
    run: Run | None,
    *,
    devices: Devices | None = None,
    on_event: LitListener = ignore,
    on_start: Say = lambda _: None,
) -> LitTrained:
    """Resumes the run in `folder` from its newest checkpoint, with exactly the losses that it would have had.

    A run without a checkpoint starts again, with the image embeddings that it had made. Raises InputError for a run
    that is complete, ConfigError for other data or another image tower, and what `lit_to_bundle` raises.
    """
    course = _course(lit_recipe_of(folder), pairs, run, devices, on_event, on_start)
    if latest_step(folder) is None and not (folder / "model").exists():
        if run is not None:
            run.rewrite_rows([])
        return _begin(course)
    checkpoint = read_latest(folder, _NEEDED)
    facts = checkpoint.facts
    for remark in checkpoint.remarks:
        on_start(remark)
    check_begun_with(facts, course.recipe, folder)
    if fingerprint(pairs) != facts["data"]:
        raise ConfigError(
            f"{course.recipe.data.path} is not the data that the run in {folder} began with (other names or captions): "
            "restore the data, or start a new run"
        )
    text = TextSpec.model_validate(facts["text"])
    vocabulary = _kept_vocabulary(folder, text, facts)
    config = parse_config(facts["config"])
    assert isinstance(config, LiTConfig)
    towers = rebuild(course.recipe, config, text, vocabulary, facts["tower"])
    towers.told = facts["told"]
    towers.text_origin = Publication(**facts.get("text_publication", {}))
    on_start(f"going on after update {checkpoint.step} of {course.recipe.schedule.steps}")
    return _carry_out(course, towers, checkpoint)


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


def fingerprint(pairs: PairSplits) -> str:
    """A fingerprint of the names and captions. Pixels do not count."""
    return "".join(part.fingerprint() for part in (pairs.train, pairs.val, pairs.unseen) if part is not None)


def _course(
    recipe: LitRecipe, pairs: PairSplits, run: Run | None, devices: Devices | None, listener: LitListener, say: Say
) -> Course:
    devices = devices or find_devices()
    check_even(recipe.batch.size, devices)
    check_same_data(fingerprint(pairs), devices)
    folder = Path(devices.gather(str(run.folder.resolve()) if run is not None else "")[0])
    return Course(recipe, pairs, run, devices, folder, listener, say, [])


def _begin(course: Course) -> LitTrained:
    """Starts at the first update. The main process learns the vocabulary, because all must have the same."""
    devices = course.devices
    found = find_vocabulary(course.recipe.text, course.pairs.train.classes) if devices.main else None
    towers = start(course.recipe, devices.gather(found)[0])
    if course.run is not None:
        with replacing(_vocabulary_file(course.folder, towers.text)) as path:
            path.write_bytes(towers.vocabulary)
    for line in (*towers.notes, towers.told):
        if line:
            course.tell(line)
    return _carry_out(course, towers, None)


def _vocabulary_file(folder: Path, text: TextSpec) -> Path:
    return folder / f"vocabulary{vocabulary_suffix(text)}"


def _kept_vocabulary(folder: Path, text: TextSpec, facts: dict[str, Any]) -> bytes:
    """The vocabulary that the run began with. Raises InputError when its file is missing or was changed."""
    place = _vocabulary_file(folder, text)
    vocabulary = read_words(place, "the vocabulary of the run")
    if facts.get("vocabulary", digest := hashlib.sha256(vocabulary).hexdigest()) != digest:
        raise InputError(f"{place} is not the vocabulary that the run began with: restore it, or start a new run")
    return vocabulary


def _carry_out(course: Course, towers: Towers, checkpoint: Checkpoint | None) -> LitTrained:
    recipe, devices, run = course.recipe, course.devices, course.run
    parents = [recipe.image.init, recipe.text.init]
    parts = {"train": course.pairs.train, "held_out": course.pairs.val}
    recorded = record_split(parts, parents, run, devices, course.say, resumed=checkpoint is not None)
    towers.lit.to(devices.device)
    side = TextSide(towers.lit)
    state = TrainingState(
        side,
        make_optimizer(parameter_groups(side, recipe.optimizer), recipe.optimizer),
        Ema(side, recipe.optimizer.ema) if recipe.optimizer.ema else None,
    )
    past = _past(course, state, checkpoint)
    for leak in () if recorded.resumed else recorded.leaks:
        course.tell(leak)
    tokens = read_captions(course, towers)
    source, held_out, unseen, complaints = embed_images(course, towers)
    micro = checkpoint.facts["micro"] if checkpoint else captions_at_once(recipe, towers.lit.config.text, devices)
    writer = CheckpointWriter(run.folder, recipe.run.keep_checkpoints) if run is not None else None
    try:
        with stopping_gently() as stop:
            result = LitTraining(
                towers,
                state,
                source,
                tokens,
                held_out,
                unseen,
                recipe,
                devices,
                micro,
                stop,
                complaints,
                checkpoints=writer,
                facts=_facts(course, towers, micro),
                on_event=course.on_event,
            ).go(past)
        bundle = recorded.mark(make_lit_bundle(towers, recipe, course.pairs.val, result))
        if run is not None and writer is not None:
            typed = shell_quoted(str(run.folder))
            bundle = write_or_rescue(
                run.folder / "model",
                partial(write_bundle, bundle),
                otherwise=f"All updates are saved: free some space and go on with --resume {typed}",
            )
            writer.remove()
            forget_kept(run)
            if not recipe.image.store:
                shutil.rmtree(run.folder / "embeddings", ignore_errors=True)
        devices.wait()
    finally:
        if writer is not None:
            writer.close()
    return LitTrained(bundle, result, recipe, tuple(course.told))


def _past(course: Course, state: TrainingState, checkpoint: Checkpoint | None) -> LitPast:
    """Restores the state from the checkpoint, and removes what was logged after it: it will be logged again."""
    if checkpoint is None:
        return LitPast()
    state.load(checkpoint.tensors)
    if course.run is None:
        return LitPast(checkpoint.step)
    usable, remark = usable_rows(course.run.rows(), checkpoint.step, lit_past_from)
    if remark:
        course.say(remark)
    rows = lit_rows_until(usable, checkpoint.step, course.recipe.schedule.steps)
    course.run.rewrite_rows(rows)
    return lit_past_from(rows, checkpoint.step)


def _facts(course: Course, towers: Towers, micro: int) -> dict[str, Any]:
    """Facts that a later process needs to resume, besides the tensors and the vocabulary's file."""
    return {
        "vitsmith": __version__,
        "recipe": course.recipe.model_dump(mode="json"),
        "vocabulary": hashlib.sha256(towers.vocabulary).hexdigest(),
        "data": fingerprint(course.pairs),
        "config": towers.lit.config.model_dump(mode="json"),
        "text": towers.text.model_dump(mode="json"),
        "tower": towers.identity,
        "told": towers.told,
        "text_publication": towers.text_origin.model_dump(),
        "devices": course.devices.count,
        "micro": micro,
    }

"""Structural pruning behind its gate: smaller shapes, recovered by distillation; the gate asks accuracy and speed."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import replace

import numpy as np
import torch

from vitsmith.compress.images import TaskImages, readable, spread
from vitsmith.compress.prune.distill import recover
from vitsmith.compress.prune.importance import PASSES, DeviceBatches, score_blocks, score_parts
from vitsmith.compress.prune.result import BATCH, REQUIRED, Pruned, PruningStage, model_config
from vitsmith.compress.prune.sizes import Pruning, describe_sizes, plan_sizes
from vitsmith.compress.prune.slicing import keep_blocks, keep_parts, largest
from vitsmith.compress.result import Advance, Listener, Told, Working
from vitsmith.data.images.read import Rgb
from vitsmith.data.images.unreadable import SHARE
from vitsmith.data.sets.samples import Samples
from vitsmith.engines.open import open_engine
from vitsmith.errors import ImageError, InputError
from vitsmith.evaluation.accuracy import right_answers
from vitsmith.evaluation.evaluation import refuse_regression
from vitsmith.evaluation.scores import score_logits
from vitsmith.evaluation.speed import MeasuredCost, Race, Runner, measure_speedup
from vitsmith.gate import Requirements, refusing
from vitsmith.machine import describe_machine
from vitsmith.models.build import ImageModel, count_parameters
from vitsmith.models.config import LiTConfig, ViTConfig
from vitsmith.models.configure import change
from vitsmith.models.cost import flops
from vitsmith.training.images.run import resolve
from vitsmith.training.images.validation import predict_logits
from vitsmith.training.monitor.events import Listener as TrainingListener
from vitsmith.training.monitor.events import ignore
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.measurements import accuracy

GOLDEN_IMAGES = 4


def check_prunable(bundle: Bundle) -> None:
    """Raises InputError for a model that has nothing to prune, or whose answers cannot be evaluated."""
    bundle.check_split()
    config = bundle.config
    if bundle.program != "torch":
        raise InputError(
            f"{bundle.where} is an exported program (model.{bundle.program}): prune the bundle it was made from, "
            "and export that"
        )
    if isinstance(config, LiTConfig):
        raise InputError(f"{bundle.where} matches images with texts: only classifiers can be pruned")
    if not bundle.classes:
        raise InputError(f"{bundle.where} has no classifier: prune the fine-tuned model")
    refuse_regression(bundle, "agreement of first choices")
    if isinstance(config, ViTConfig) and config.pooling.endswith("unpooled"):
        raise InputError(f"{bundle.where} gives logits for every token: prune models that give one answer an image")
    if isinstance(config, ViTConfig) and config.merge:
        raise InputError(f"{bundle.where} merges tokens: prune the model it was made from first, and merge then")
    if isinstance(config, ViTConfig) and (config.block.attention_norm or config.block.mlp_norm):
        raise InputError(
            f"{bundle.where} normalises the channels within attention or MLP (as EVA-02 does): each changes all others "
            "there, so none can be left out"
        )


def prune_bundle(
    bundle: Bundle,
    samples: Samples,
    pruning: Pruning,
    *,
    skip_unreadable: float = SHARE,
    listener: Listener = lambda _: None,
) -> tuple[Bundle, tuple[str, ...]]:
    """A smaller bundle in memory, with the parts that are most important on labelled `samples`, and remarks.

    Labels are positions among the model's classes. Whole blocks are chosen first, then heads and hidden units in the
    blocks that are left. Nothing is trained or compared here, see `prune`. Raises InputError for a model that cannot be
    pruned, and for sizes that it cannot have.
    """
    check_prunable(bundle)
    model = bundle.model
    assert isinstance(model, ImageModel)
    plan = plan_sizes(model.config, pruning)
    device = _device()
    chosen = spread(samples, pruning.calibration)
    shallower = plan.config.depth < model.config.depth
    thinner = change(model.config, depth=plan.config.depth) != plan.config
    total = len(chosen) * (shallower + thinner * PASSES[pruning.method])
    batches = DeviceBatches(chosen, bundle, device, lambda images: listener(Advance(images)), skip_unreadable)
    listener(Working("ranking what is removed", total))
    smaller = model
    if shallower:
        scores = score_blocks(smaller.to(device), batches, pruning.method)
        smaller = keep_blocks(smaller, largest(scores, plan.config.depth))
    if thinner:
        smaller = keep_parts(smaller, plan.config, score_parts(smaller.to(device), batches, pruning.method))
    return _bundle_of(smaller, bundle), plan.notes


def prune(
    bundle: Bundle,
    images: TaskImages,
    pruning: Pruning,
    recipe: TrainRecipe | None,
    required: Requirements = REQUIRED,
    *,
    race: Race = measure_speedup,
    listener: Listener = lambda _: None,
    on_event: TrainingListener = ignore,
) -> Pruned:
    """Prunes, distils with `recipe` unless it is None, and measures accuracy and speed of both; writes nothing.

    `listener` gets a line on each stage, `on_event` the events of the distillation. Raises InputError for a model that
    cannot be pruned, and for sizes that it cannot have; also what `recover` raises. `Pruned.require` refuses a model
    that falls short.
    """
    check_prunable(bundle)
    required.check_measured("prune", "accuracy_drop", "agreement", "speedup")
    required.of_answers(labelled=images.labelled, classes=True)
    required.check_tells(len(images.evaluation))
    train = images.calibration
    recipe = resolve(recipe, len(train)) if recipe is not None else None
    what = "top-1" if images.labelled else "agreement"
    evaluating = len(images.evaluation)
    ranking = min(len(train), pruning.calibration)
    listener(Told(f"ranking what is removed on {ranking} training images, evaluating on {evaluating} others"))
    left_out: list[str] = []
    chosen = readable(spread(train, pruning.calibration), images.skip_unreadable, left_out)
    for told in left_out:  # unreadable images among those that rank what is removed
        listener(Told(told))
    pruned, notes = prune_bundle(bundle, chosen, pruning, skip_unreadable=images.skip_unreadable, listener=listener)
    for note in notes:
        listener(Told(note))
    stages = [_stage("original", bundle, images), _stage("pruned", pruned, images)]
    changed = describe_sizes(model_config(bundle), model_config(pruned))
    listener(Told(f"{changed}; {what} {stages[0].scores.top1:.2%} -> {stages[1].scores.top1:.2%}"))
    if recipe is not None:
        listener(Told(f"distilling for {recipe.schedule.steps} updates"))
        pruned = recover_bundle(pruned, bundle, images, recipe, on_event=on_event)
        stages.append(_stage("distilled", pruned, images))
        listener(Told(f"{what} {stages[-1].scores.top1:.2%} after distillation"))
    pruned = pruned.with_golden(_golden_images(images.evaluation))
    assert pruned.golden is not None
    listener(Told("measuring the speed of both, in turns"))
    batch = np.resize(pruned.golden.tensors, (BATCH, *pruned.golden.tensors.shape[1:]))
    before, after = (Runner(open_engine(one, "torch", precision="fp32")) for one in (bundle, pruned))
    speedup = race(before, after, batch)
    pruned = pruned.with_split(images.record or bundle.split)
    found = Pruned(pruned, bundle, images, required, tuple(stages), speedup, recipe, notes)
    return replace(found, bundle=_described(found))


def recover_bundle(
    pruned: Bundle,
    original: Bundle,
    images: TaskImages,
    recipe: TrainRecipe,
    *,
    on_event: TrainingListener = ignore,
) -> Bundle:
    """The pruned bundle after `recover`, with a note of it."""
    assert isinstance(pruned.model, ImageModel)
    made = _bundle_of(recover(pruned.model, original, images, recipe, on_event=on_event), original)
    return _noted(
        made.with_split(images.record or original.split), f"distilled from it for {recipe.schedule.steps} updates"
    )


def _noted(bundle: Bundle, what: str) -> Bundle:
    """The bundle with `what` added to its last note, which says how it was pruned."""
    *notes, pruned = bundle.provenance.notes
    return bundle.with_provenance(notes=(*notes, f"{pruned}; {what}"))


def _bundle_of(model: ImageModel, original: Bundle) -> Bundle:
    """A bundle of `model` with the preprocessing and classes of the original, and a note of what was pruned."""
    note = f"pruned: {describe_sizes(model_config(original), model.config)}"
    return original.derive(model, note, by=f"vitsmith prune {original.where}", kind="pruned")


def _described(found: Pruned) -> Bundle:
    """The bundle of the last stage with its notes and measurements."""
    last = found.stages[-1]
    bundle = found.bundle if found.recipe else _noted(found.bundle, "not trained since")
    name = "top1" if found.images.labelled else "agreement"
    interval, machine = last.scores.top1_interval, describe_machine()
    top1 = accuracy(last.scores.top1, found.images.name, machine, metric=name, interval=interval)
    cost = MeasuredCost(last.name, "torch", last.mib, last.scores.top1, found.speedup.after)
    return bundle.measured(top1, *cost.measurements())


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _stage(name: str, bundle: Bundle, images: TaskImages) -> PruningStage:
    model = bundle.model
    assert isinstance(model, ImageModel)
    answers = predict_logits(
        model.to(_device()), images.evaluation, bundle.preprocessing, batch=BATCH, skip_unreadable=SHARE
    )
    with refusing(f"pruning of {bundle.provenance.parent}") if name != "original" else nullcontext():
        scores = score_logits(answers.logits, answers.labels, bundle.head)
    right = right_answers(answers.logits, answers.labels)
    return PruningStage(name, scores, right, count_parameters(model), flops(bundle.config) / 1e9)


def _golden_images(samples: Samples) -> list[Rgb]:
    """A few readable images, evenly spaced over the set."""
    found: list[Rgb] = []
    for index in np.linspace(0, len(samples) - 1, 2 * GOLDEN_IMAGES).astype(np.intp).tolist():
        with suppress(ImageError):
            found.append(samples.image(index))
    return found[:: max(len(found) // GOLDEN_IMAGES, 1)][:GOLDEN_IMAGES]

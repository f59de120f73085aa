"""Pruning: sizes that were asked for, importance against brute force, exact slices, distillation, and the gate."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import vitsmith as vs
from tests.command_line import call
from tests.pretended import twice_as_fast
from tests.tiny import CONFIGS, MIXER, VIT, pictures, tiny_inputs, tiny_lit, tiny_model
from tests.training.small_runs import coloured, recipe, splits, write_folder
from vitsmith.compress.images import TaskImages, labelled_training_images, spread, unlabelled_training_images
from vitsmith.compress.prune.distill import recover, recovery_recipe
from vitsmith.compress.prune.importance import PLACES, score_blocks, score_parts
from vitsmith.compress.prune.result import REQUIRED, write_pruned
from vitsmith.compress.prune.run import prune, prune_bundle
from vitsmith.compress.prune.sizes import Pruning, plan_sizes, step_of
from vitsmith.compress.prune.slicing import keep_blocks, keep_parts, largest
from vitsmith.compress.result import Advance, Working
from vitsmith.data.sets.samples import Samples
from vitsmith.errors import ConfigError, DatasetError, GateError, InputError, OutputError
from vitsmith.evaluation.speed import Speed, Speedup
from vitsmith.gate import Requirements
from vitsmith.models.build import ImageModel, count_parameters
from vitsmith.models.config import ModelConfig
from vitsmith.models.configure import change, configure
from vitsmith.models.cost import flops, parameters
from vitsmith.predict import Predictor
from vitsmith.runs.place import check_place
from vitsmith.runs.run import Run
from vitsmith.specs import Labels
from vitsmith.training.images.run import train_to_bundle
from vitsmith.weights.bundle.bundle import Bundle

NAMES = ("ant", "bee", "cat", "dog", "eel")
CASES = ["vit-token", "vit-gap", "vit-timm", "vit-distilled", "vit-representation", "hybrid-stages", "mixer"]
FASTER = Speedup(Speed(2.0, 100.0, 16), Speed(1.0, 250.0, 16), 2.0, 2.5)
SLOWER = Speedup(Speed(2.0, 100.0, 16), Speed(1.9, 101.0, 16), 1.05, 1.01)


def model_of(name: str) -> ImageModel:
    model = tiny_model(CONFIGS[name])
    assert isinstance(model, ImageModel)
    return model


def batches_of(config: ModelConfig, count: int = 6, dtype: torch.dtype = torch.float32) -> list[Any]:
    """Two batches of images with labels."""
    images = tiny_inputs(config, count)[0].to(dtype)
    labels = torch.arange(count) % 5
    return [(images[:4], labels[:4]), (images[4:], labels[4:])]


# --- how much is left


def test_what_is_left_is_one_more_row_of_numbers() -> None:
    config = configure("ViT-B_16")
    plan = plan_sizes(config, Pruning(heads=8, mlp_width=2048, depth=9))
    assert (plan.config.heads, plan.config.head_width, plan.config.mlp_width, plan.config.depth) == (8, 64, 2048, 9)
    assert plan.config.width == 768 and plan.notes == ()
    again = plan_sizes(plan.config, Pruning(heads=6)).config
    assert (again.heads, again.head_width, again.attention_width) == (6, 64, 384)
    mixer = plan_sizes(configure("Mixer-B_16"), Pruning(mlp_width=1024, tokens_mlp_width=128)).config
    assert (mixer.channels_mlp_width, mixer.tokens_mlp_width, mixer.depth) == (1024, 128, 12)


def test_widths_are_rounded_up_to_what_processors_like() -> None:
    plan = plan_sizes(configure("ViT-B_16"), Pruning(mlp_width=1000))
    assert plan.config.mlp_width == 1024 and "mlp_width 1000 rounded up to 1024, a multiple of 64" in plan.notes
    assert [step_of(width) for width in (3072, 128, 48, 40, 12, 7, 3)] == [64, 32, 8, 8, 2, 1, 1]


@pytest.mark.parametrize(
    ("config", "pruning", "told"),
    [
        (VIT, Pruning(heads=5), "`heads` must be from 1 to 4, the size of the model, got 5"),
        (VIT, Pruning(heads=0, mlp_width=0, depth=9), "`depth` must be .*`heads` must be .*`mlp_width` must be"),
        (VIT, Pruning(), r"nothing to prune: the model has depth 2, heads 4, mlp_width 48"),
        (VIT, Pruning(heads=4, mlp_width=45), "nothing to prune"),  # 45 becomes 48, and all is as it was
        (VIT, Pruning(tokens_mlp_width=3), "a transformer has no tokens_mlp_width: leave `tokens_mlp_width` out"),
        (MIXER, Pruning(heads=3, mlp_width=41), "a Mixer has no heads.*`mlp_width` must be from 1 to 40"),
        (VIT, Pruning(keep=1.0), "between 0 and 1, got 1"),
        (VIT, Pruning(keep=0.5, heads=2, mlp_width=24, depth=1), "all are given: leave out one of"),
        (
            CONFIGS["hybrid-stages"],
            Pruning(keep=0.01),
            r"`keep` 0.01 cannot be reached: the smallest .* has 0\.\d\d of",
        ),
    ],
)
def test_what_cannot_be_left_is_told(config: ModelConfig, pruning: Pruning, told: str) -> None:
    with pytest.raises(InputError, match=told):
        plan_sizes(config, pruning)


@pytest.mark.parametrize("name", ["ViT-S_16", "ViT-L_16", "Mixer-B_16"])
@pytest.mark.parametrize("keep", [0.9, 0.5, 0.3])
def test_a_share_of_the_arithmetic_is_reached_evenly(name: str, keep: float) -> None:
    config = configure(name)
    smaller = plan_sizes(config, Pruning(keep=keep)).config
    assert 0.95 * keep < flops(smaller) / flops(config) <= keep
    fields = ("depth", *(place.field for place in PLACES[config.family]))
    shares = [getattr(smaller, field) / getattr(config, field) for field in fields]
    assert max(shares) / min(shares) < 1.35


def test_what_was_said_is_not_chosen() -> None:
    config = configure("ViT-B_16")
    smaller = plan_sizes(config, Pruning(keep=0.5, depth=12)).config
    assert smaller.depth == 12 and smaller.heads < 9 and smaller.mlp_width < 2048
    assert 0.48 < flops(smaller) / flops(config) <= 0.5


# --- importance, against brute force


def loss_of_each(model: ImageModel, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return F.cross_entropy(model(images), labels, reduction="none")


def given_to(model: ImageModel, linear: torch.nn.Module, batches: list[Any]) -> torch.Tensor:
    """(rows, channels) of all that a layer is given."""
    seen: list[torch.Tensor] = []
    handle = linear.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].flatten(0, -2)))
    with torch.no_grad():
        for images, _ in batches:
            model(images)
    handle.remove()
    return torch.cat(seen)


def slope(model: ImageModel, module: torch.nn.Module, hook: Callable[..., Any], batches: list[Any]) -> float:
    """Mean over images of |d loss / d step| by central differences; `hook(step)` makes what changes the module."""
    losses = []
    for step in (1e-4, -1e-4):
        handle = hook(module, step)
        losses.append(torch.cat([loss_of_each(model, *batch) for batch in batches]))
        handle.remove()
    return float(((losses[0] - losses[1]) / 2e-4).abs().mean())


def towards_the_mean(channels: slice, mean: torch.Tensor) -> Callable[..., Any]:
    def hooked(linear: torch.nn.Module, step: float) -> Any:
        def move(_module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            moved = inputs[0].clone()
            moved[..., channels] += step * (mean[channels] - moved[..., channels])
            return (moved,)

        return linear.register_forward_pre_hook(move)

    return hooked


@pytest.mark.parametrize("name", ["vit-token", "vit-gap", "vit-distilled", "hybrid-stem", "mixer"])
def test_taylor_is_the_slope_of_the_loss_towards_the_mean(name: str) -> None:
    model = model_of(name).double()
    batches = batches_of(model.config, dtype=torch.float64)
    found = score_parts(model, batches, "taylor")
    for index in range(model.config.depth):
        for place in PLACES[model.config.family]:
            linear = model.blocks[index].get_submodule(place.outward)
            mean = given_to(model, linear, batches).mean(dim=0)
            known = found[index][place.field]
            torch.testing.assert_close(known.mean, mean)
            parts = len(known.scores)
            size = len(mean) // parts
            for part in {0, 1, parts - 1}:
                hook = towards_the_mean(slice(part * size, (part + 1) * size), mean)
                expected = slope(model, linear, hook, batches)
                assert float(known.scores[part]) == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("name", ["vit-token", "mixer"])
def test_taylor_of_a_block_is_the_slope_of_the_loss_towards_leaving_it_out(name: str) -> None:
    model = model_of(name).double()
    batches = batches_of(model.config, dtype=torch.float64)
    found = score_blocks(model, batches, "taylor")

    def hooked(block: torch.nn.Module, step: float) -> Any:
        return block.register_forward_hook(
            lambda _module, inputs, output: output + step * (inputs[0][:, : output.shape[1]] - output)
        )

    expected = [slope(model, block, hooked, batches) for block in model.blocks]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["vit-token", "vit-gap", "mixer"])
def test_activation_is_how_much_a_part_moves_what_it_adds_to(name: str) -> None:
    model = model_of(name).double().requires_grad_(False)
    batches = batches_of(model.config, dtype=torch.float64)
    found = score_parts(model, batches, "activation")
    for index, block in enumerate(model.blocks):
        for place in PLACES[model.config.family]:
            linear = block.get_submodule(place.outward)
            given = given_to(model, linear, batches)
            scores = found[index][place.field].scores
            for part, channels in enumerate(torch.arange(given.shape[1]).view(len(scores), -1)):
                added = given[:, channels] @ linear.weight[:, channels].T
                expected = (added - added.mean(dim=0)).pow(2).sum(dim=1).mean().sqrt()
                assert float(scores[part]) == pytest.approx(float(expected), rel=1e-6)


def test_activation_of_a_block_is_how_much_it_turns_the_tokens() -> None:
    model = model_of("vit-gap").double().requires_grad_(False)
    batches = batches_of(model.config, dtype=torch.float64)
    found = score_blocks(model, batches, "activation")
    images = torch.cat([images for images, _ in batches])
    seen = model.features(images, intermediates=["dropout", "blocks.0", "blocks.1"]).intermediates
    for index, (before, after) in enumerate((("dropout", "blocks.0"), ("blocks.0", "blocks.1"))):
        a, b = seen[before], seen[after]
        cosine = (a * b).sum(dim=-1) / (a.norm(dim=-1) * b.norm(dim=-1))
        assert float(found[index]) == pytest.approx(float((1 - cosine).mean()), rel=1e-6)


@pytest.mark.parametrize("method", ["taylor", "activation"])
def test_scoring_leaves_the_model_as_it_was(method: Any) -> None:
    model = model_of("vit-token")
    model.head.weight.requires_grad_(False)
    before = {name: (weight.clone(), weight.requires_grad) for name, weight in model.named_parameters()}
    score_blocks(model, batches_of(model.config), method)
    score_parts(model, batches_of(model.config), method)
    with pytest.raises(InputError):  # images of a wrong size, half way
        score_parts(model, [(torch.zeros(1, 3, 8, 8), torch.zeros(1).long())], method)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name][0]) and weight.requires_grad == before[name][1] and weight.grad is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# --- slices


@torch.no_grad()
def silence(model: ImageModel, field: str, gone: list[int]) -> None:
    """What the parts at `gone` say is no longer listened to."""
    place = next(place for place in PLACES[model.config.family] if place.field == field)
    for block in model.blocks:
        weight = block.get_submodule(place.outward).weight
        weight.view(len(weight), getattr(model.config, field), -1)[:, gone] = 0


@pytest.mark.parametrize("method", ["taylor", "activation"])
@pytest.mark.parametrize("name", CASES)
def test_what_adds_nothing_is_what_goes_and_nothing_changes(name: str, method: Any) -> None:
    model = model_of(name)
    config = model.config
    fields = [place.field for place in PLACES[config.family]]
    gone = {field: list(range(1, getattr(config, field), 2)) for field in fields}
    for field in fields:
        silence(model, field, gone[field])
    halves = {"mlp_width" if field == "channels_mlp_width" else field: getattr(config, field) // 2 for field in fields}
    smaller = plan_sizes(config, Pruning(**halves)).config
    images = tiny_inputs(config, 3, seed=1)[0]
    pruned = keep_parts(model, smaller, score_parts(model, batches_of(config), method))
    assert pruned.config == smaller and count_parameters(pruned) == parameters(smaller) < parameters(config)
    with torch.no_grad():
        torch.testing.assert_close(pruned(images), model(images), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["vit-token", "mixer"])
@torch.no_grad()
def test_what_always_says_the_same_is_said_by_the_bias(name: str) -> None:
    model = model_of(name)
    config = model.config
    place = PLACES[config.family][-1]  # hidden units behind a GELU
    for block in model.blocks:
        inward = block.get_submodule(place.inward)
        inward.weight[: len(inward.weight) // 2] = 0
        inward.bias[: len(inward.weight) // 2] = torch.linspace(1, 2, len(inward.weight) // 2)
    left = getattr(config, place.field) // 2
    scores = score_parts(model, batches_of(config), "taylor")
    pruned = keep_parts(model, plan_sizes(config, Pruning(mlp_width=left)).config, scores)
    images = tiny_inputs(config, 3, seed=1)[0]
    torch.testing.assert_close(pruned(images), model(images), rtol=0, atol=2e-6)


@pytest.mark.parametrize("method", ["taylor", "activation"])
@pytest.mark.parametrize("name", ["vit-token", "hybrid-stem", "mixer"])
def test_blocks_that_do_nothing_are_what_goes(name: str, method: Any) -> None:
    model = tiny_model(change(CONFIGS[name], depth=4))
    assert isinstance(model, ImageModel)
    with torch.no_grad():
        for index in (0, 2):
            for place in PLACES[model.config.family]:
                outward = model.blocks[index].get_submodule(place.outward)
                outward.weight.zero_()
                outward.bias.zero_()
    scores = score_blocks(model, batches_of(model.config), method)
    pruned = keep_blocks(model, largest(scores, 2))
    assert pruned.config == change(model.config, depth=2)
    images = tiny_inputs(model.config, 3, seed=1)[0]
    with torch.no_grad():
        torch.testing.assert_close(pruned(images), model(images), rtol=0, atol=1e-6)


def test_the_heads_that_stay_are_those_of_the_model() -> None:
    model = model_of("vit-gap")
    parts = score_parts(model, batches_of(VIT), "activation")
    parts[0]["heads"].scores[:] = torch.tensor([3.0, 1.0, 1.0, 2.0])
    pruned = keep_parts(model, plan_sizes(model.config, Pruning(heads=2)).config, parts)
    old, new = (one.blocks[0].attention for one in (model, pruned))
    for kind in range(3):  # queries, keys, values
        for place, head in enumerate((0, 3)):
            rows = old.qkv.weight.view(3, 4, 8, 32)[kind, head]
            torch.testing.assert_close(new.qkv.weight.view(3, 2, 8, 32)[kind, place], rows, rtol=0, atol=0)
    kept = old.out.weight.view(32, 4, 8)[:, [0, 3]].flatten(1)
    torch.testing.assert_close(new.out.weight, kept, rtol=0, atol=0)
    assert largest(torch.tensor([1.0, 5.0, 5.0, 0.0]), 1) == [1] and largest(torch.tensor([1.0, 2.0, 3.0]), 2) == [1, 2]


# --- bundles


def samples_of(config: ModelConfig, count: int = 24) -> Samples:
    images = pictures(count)
    return Samples(NAMES, images, [str(index) for index in range(count)], np.arange(count, dtype=np.int64) % 5)


def bundle_of(name: str = "vit-token", **fields: Any) -> Bundle:
    return Bundle.of(tiny_model(CONFIGS[name]), labels=Labels(names=NAMES), **fields)


@pytest.mark.parametrize("name", ["vit-token", "mixer", "hybrid-stages"])
def test_a_bundle_becomes_a_smaller_one(name: str) -> None:
    bundle = bundle_of(name)
    width = {"tokens_mlp_width": 6} if name == "mixer" else {"heads": 2}
    pruned, notes = prune_bundle(bundle, samples_of(bundle.config), Pruning(mlp_width=24, depth=1, **width))
    assert (pruned.preprocessing, pruned.labels, notes) == (bundle.preprocessing, bundle.labels, ())
    assert pruned.config.depth == 1 and flops(pruned.config) < flops(bundle.config)
    assert pruned.run_torch(tiny_inputs(bundle.config, 2)[0].numpy()).shape == (2, 5)
    assert bundle.model.config == bundle.config  # the original is still what it was
    assert pruned.provenance.parent == bundle.where and "pruned: depth 2 -> 1" in pruned.provenance.notes[-1]


def test_what_was_known_of_the_original_is_known_of_what_is_left() -> None:
    bundle = bundle_of()
    known = bundle.provenance.model_copy(update={"notes": ("trained on cats",)})
    pruned, _ = prune_bundle(replace(bundle, provenance=known), samples_of(bundle.config), Pruning(mlp_width=24))
    assert pruned.provenance.notes[0] == "trained on cats" and len(pruned.provenance.notes) == 2


def test_a_pruned_bundle_is_exported_like_any_other(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from tests.exporting import export_onnx

    bundle = bundle_of()
    pruned, _ = prune_bundle(bundle, samples_of(bundle.config), Pruning(heads=3, mlp_width=24))
    exported, verdict = export_onnx(vs.save(pruned, tmp_path / "torch"), tmp_path / "onnx")
    assert verdict.passed
    images = pictures(3, seed=5)
    expected = Predictor(pruned, "torch").logits(images)
    np.testing.assert_allclose(Predictor(exported).logits(images), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("bundle", "told"),
    [
        (lambda: tiny_lit(), "matches images with texts: only classifiers can be pruned"),
        (lambda: Bundle.of(tiny_model(change(VIT, classes=0))), "has no classifier"),
        (lambda: Bundle.of(tiny_model(CONFIGS["vit-unpooled"])), "gives logits for every token"),
        (lambda: replace(bundle_of(), program="onnx"), r"an exported program \(model.onnx\)"),
        (lambda: Bundle.of(tiny_model(change(VIT, merge=(1, 0)))), "merges tokens"),
    ],
)
def test_what_is_no_classifier_of_images_is_refused(bundle: Callable[[], Bundle], told: str) -> None:
    with pytest.raises(InputError, match=told):
        prune_bundle(bundle(), samples_of(VIT), Pruning(heads=2))


# --- images


def write_photos(folder: Path, count: int, names: tuple[str, ...] = NAMES) -> Path:
    for index, picture in enumerate(pictures(count)):
        path = folder / names[index % len(names)] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return folder


def test_labels_are_matched_by_name_and_the_model_may_know_more(tmp_path: Path) -> None:
    material = labelled_training_images(bundle_of(), str(write_photos(tmp_path, 48, ("eel", "bee"))))
    assert material.labelled and material.calibration.classes == material.evaluation.classes == NAMES
    train, val = material.calibration, material.evaluation
    assert {Path(name).parts[0] for name, label in zip(train.names, train.labels, strict=True) if label == 4} == {"eel"}
    assert set(train.labels) == set(val.labels) == {1, 4} and len(train) + len(val) == 48


def test_data_of_other_classes_and_too_little_of_it_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="does not know 1 of the data's 2 classes, the first is 'fox'"):
        labelled_training_images(bundle_of(), str(write_photos(tmp_path / "a", 24, ("eel", "fox"))))
    with pytest.raises(DatasetError, match="8 images are too few to prune by, give at least 20"):
        labelled_training_images(bundle_of(), str(write_photos(tmp_path / "b", 8, ("eel", "bee"))))
    with pytest.raises(DatasetError, match="does not name its classes"):
        labelled_training_images(replace(bundle_of(), labels=None), str(write_photos(tmp_path / "c", 24)))
    write_photos(tmp_path / "d" / "train", 20)
    write_photos(tmp_path / "d" / "val", 7)
    with pytest.raises(
        DatasetError, match="7 evaluation images are too few, give at least 8 beside the training images"
    ):
        labelled_training_images(bundle_of(), str(tmp_path / "d"))


def test_images_without_labels_have_the_models_own_answers() -> None:
    bundle = replace(bundle_of(), labels=None)
    images = pictures(40)
    material = unlabelled_training_images(bundle, images)
    assert not material.labelled and (len(material.calibration), len(material.evaluation)) == (30, 10)
    own = bundle.run_torch(np.stack([vs_preprocess(image, bundle) for image in images])).argmax(axis=1)
    for part in (material.calibration, material.evaluation):
        for name, label in zip(part.names, part.labels, strict=True):
            assert own[int(name.split()[1])] == label
    names = [set(part.names) for part in (material.calibration, material.evaluation)]
    assert not names[0] & names[1]
    few = unlabelled_training_images(bundle, images[:20])
    assert (len(few.calibration), len(few.evaluation)) == (12, 8)
    with pytest.raises(DatasetError, match="too few"):
        unlabelled_training_images(bundle, images[:19])


def vs_preprocess(image: np.ndarray, bundle: Bundle) -> np.ndarray:
    from vitsmith.data.images.preprocess import preprocess

    return preprocess(image, bundle.preprocessing)


def test_calibration_images_come_from_all_over_the_set() -> None:
    samples = samples_of(VIT, 20)
    assert list(spread(samples, 5).names) == ["0", "5", "10", "14", "19"]
    assert spread(samples, 20) is samples


# --- distillation and the gate


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model that has learnt three colours, on disk."""
    wanted = recipe(model={"config": {"depth": 2, "heads": 4, "mlp_width": 64}}, schedule={"steps": 30})
    with Run("train", "colours", tmp_path_factory.mktemp("runs") / "colours") as run:
        trained = train_to_bundle(wanted, splits(), run)
    assert trained.result.final.scores.top1 == 1
    return trained.bundle


@pytest.fixture
def colours() -> TaskImages:
    return TaskImages(splits().train, splits().val, True, "colours")


def short(bundle: Bundle, **changes: dict[str, Any]) -> Any:
    return recovery_recipe(bundle, "colours", {"batch": {"size": 12, "micro": 12}, **changes})


def test_a_pruned_model_learns_from_the_original(taught: Bundle, colours: TaskImages) -> None:
    original = vs.load(taught.where)
    weights = copy.deepcopy(original.model.state_dict())
    pruned, _ = prune_bundle(original, colours.calibration, Pruning(heads=1, mlp_width=16, depth=1))
    tensors = np.stack([vs_preprocess(image, original) for image in coloured(30).sources])
    wanted = torch.from_numpy(original.run_torch(tensors)).softmax(dim=1)

    def distance(run: Callable[[np.ndarray], np.ndarray]) -> float:
        return float(F.kl_div(torch.from_numpy(run(tensors)).log_softmax(dim=1), wanted, reduction="batchmean"))

    before = distance(pruned.run_torch)
    model = recover(pruned.model, original, colours, short(original, schedule={"steps": 40}))
    after = distance(Bundle.of(model, preprocessing=original.preprocessing).run_torch)
    assert after < before / 3
    for name, weight in original.model.state_dict().items():
        assert torch.equal(weight, weights[name])


def test_labels_are_not_looked_at_in_distillation(taught: Bundle, colours: TaskImages) -> None:
    wrong = TaskImages(splits().train, splits().val, True, "wrong labels")
    wrong.calibration.labels[:] = 0
    results = []
    for material in (colours, wrong):
        pruned, _ = prune_bundle(taught, colours.calibration, Pruning(heads=2))
        results.append(recover(pruned.model, taught, material, short(taught, schedule={"steps": 3})).state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_recipes_of_recovery(taught: Bundle) -> None:
    made = recovery_recipe(taught, "pets", {"schedule": {"steps": 50}})
    assert (made.schedule.steps, made.schedule.warmup, made.optimizer.lr) == (50, 5, 0.002)
    assert made.distill is not None and made.distill.teacher == taught.where
    wide = Bundle.of(vs.create_model("mu/16", classes=3, image_size=32, width=128, heads=2))
    assert recovery_recipe(wide, "pets").optimizer.lr == pytest.approx(0.001)
    assert recovery_recipe(wide, "pets", {"schedule": {"steps": 5, "warmup": 1}}).schedule.warmup == 1
    with pytest.raises(ConfigError, match="is distilled with 'soft'"):
        recovery_recipe(wide, "pets", {"distill": {"kind": "deit-hard"}})
    assert recovery_recipe(wide, "pets", {"model": {"freeze": ["head.*"]}}).model.freeze == ("head.*",)
    for section, field in (("model", "image_size"), ("model", "head_bias"), ("data", "path"), ("distill", "teacher")):
        with pytest.raises(ConfigError, match=r"are set by prune"):
            recovery_recipe(wide, "pets", {section: {field: "7" if section != "model" else 7}})
    with pytest.raises(ConfigError, match=r"optimizer\.lrr"):
        recovery_recipe(wide, "pets", {"optimizer": {"lrr": 1}})


def measured(speedup: Speedup, asked: list[Any] | None = None) -> Any:
    def measure(before: Any, after: Any, images: np.ndarray) -> Speedup:
        if asked is not None:
            asked.append((images.shape, [one.throughput.run(images).shape for one in (before, after)]))
        return speedup

    return measure


def test_a_pruned_model_that_is_good_enough_is_written(taught: Bundle, colours: TaskImages, tmp_path: Path) -> None:
    asked: list[Any] = []
    heard: list[Any] = []
    events: list[Any] = []
    done = prune(
        taught,
        colours,
        Pruning(heads=2, depth=1),
        short(taught, schedule={"steps": 25}),
        race=measured(FASTER, asked),
        listener=heard.append,
        on_event=events.append,
    )
    assert asked == [((16, 3, 16, 16), [(16, 3), (16, 3)])]
    assert [stage.name for stage in done.stages] == ["original", "pruned", "distilled"]
    assert (done.failures, done.speedup, done.accuracy.drop) == ((), FASTER, 0)
    assert re.fullmatch(r"<Pruned .*; top-1 .* -> .* \(drop .*\) on colours, .* times as fast .*>", repr(done))
    written = write_pruned(done, "colours", tmp_path / "run", events=events)
    assert [event.steps for event in heard if isinstance(event, Working)] == [36 * 3]
    assert sum(event.steps for event in heard if isinstance(event, Advance)) == 36 * 3
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {"command.txt", "metrics.jsonl", "model", "prune.json", "recipe.json"}
    again = vs.load(written.where)
    assert again.config.heads == 2 and again.config.head_width == 8 and again.golden is not None
    images = list(colours.evaluation.sources)
    answers = [Predictor(one, "torch").logits(images).argmax(axis=1) for one in (again, taught)]
    assert np.array_equal(*answers)
    told = json.loads((tmp_path / "run" / "prune.json").read_text())
    assert told["changed"] == "depth 2 -> 1, heads 4 -> 2" and told["speedups"] == [2.0, 2.5]
    assert told["stages"][2]["parameters"] == parameters(again.config) == count_parameters(again.model)
    assert (
        again.provenance.parent == taught.where
        and "heads 4 -> 2; distilled from it for 25" in again.provenance.notes[-1]
    )
    kept = {one.metric: one.value for one in again.measurements}
    assert kept["top1"] == done.stages[-1].scores.top1 == 1 and kept["latency_p50"] == 1.0
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 25 + 1


@pytest.mark.parametrize(
    ("pruning", "speedup", "required", "told"),
    [
        (
            Pruning(mlp_width=48),
            SLOWER,
            REQUIRED,
            r"1\.01 times as fast in batches of 16 \(required 1\.05\); prune more, or keep the model as it is$",
        ),
        (
            Pruning(heads=1, mlp_width=16, depth=1),
            FASTER,
            replace(REQUIRED, accuracy_drop=0.0),
            r"top-1 drops by \d+\.\d\d points, 95% interval .* \(allowed 0\); prune less, or distil longer",
        ),
    ],
)
def test_what_falls_short_is_refused_and_not_written(
    taught: Bundle, tmp_path: Path, pruning: Pruning, speedup: Speedup, required: Requirements, told: str
) -> None:
    noisy = TaskImages(splits().train, splits().val, True, "colours")
    done = prune(taught, noisy, pruning, None, required, race=measured(speedup))
    assert [stage.name for stage in done.stages] == ["original", "pruned"]
    with pytest.raises(GateError, match=f"was refused, nothing was written: .*{told}"):
        write_pruned(done, "colours", tmp_path / "run")
    assert not (tmp_path / "run").exists() and done.to_dict()["failures"]


def test_few_images_tell_little_and_a_strict_gate_says_no(taught: Bundle, colours: TaskImages) -> None:
    done = prune(taught, colours, Pruning(mlp_width=48), None, race=measured(FASTER))
    count = len(colours.evaluation)
    assert not done.failures and done.accuracy.num_images == count == done.to_dict()["num_labelled_images"]
    assert done.doubts[0].startswith(f"{count} images are too few to tell whether top-1 drops by more than 1 point")
    strict = replace(done, required=replace(REQUIRED, strict=True))
    told = f"refused, nothing was written: {count} images are too few to tell .* would be enough$"
    with pytest.raises(GateError, match=told):
        strict.require()
    with pytest.raises(InputError, match=f"{count} evaluation images cannot tell .* at least 381 are needed"):
        prune(taught, colours, Pruning(mlp_width=48), None, strict.required, race=measured(FASTER))
    with pytest.raises(InputError, match="prune does not measure cosine"):
        prune(taught, colours, Pruning(mlp_width=48), None, replace(REQUIRED, cosine=1), race=measured(FASTER))
    with pytest.raises(InputError, match="compared by accuracy_drop, and it has no bound"):
        prune(taught, colours, Pruning(mlp_width=48), None, Requirements(speedup=1), race=measured(FASTER))


def test_without_labels_the_answers_of_the_original_decide(taught: Bundle, colours: TaskImages) -> None:
    without = replace(colours, labelled=False)
    done = prune(taught, without, Pruning(mlp_width=48), None, race=measured(FASTER))
    assert done.agreement == done.stages[-1].scores.top1 == done.to_dict()["agreement"]
    right = done.stages[-1].right.copy()
    right[:2] = False
    done = replace(done, stages=(done.stages[0], replace(done.stages[-1], right=right)))
    share = float(right.mean())
    assert (done.accuracy, done.doubts) == (None, ())
    assert not replace(done, required=replace(REQUIRED, agreement=share)).failures
    told = replace(done, required=replace(REQUIRED, agreement=share + 0.001, accuracy_drop=100)).failures
    assert len(told) == 1 and told[0].startswith(f"top-1 agrees on {share:.1%} of the images")
    strict = replace(REQUIRED, strict=True)
    with pytest.raises(InputError, match="a strict gate counts right answers: give it labelled images"):
        prune(taught, without, Pruning(mlp_width=48), None, strict, race=measured(FASTER))


def test_nothing_is_left_of_a_run_that_cannot_be_written(
    taught: Bundle, colours: TaskImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = prune(taught, colours, Pruning(mlp_width=48), None, race=measured(FASTER))

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vitsmith.compress.result.write_bundle", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_pruned(done, "colours")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert list((tmp_path / "runs" / "prune").iterdir()) == []


def test_only_runs_of_prune_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    check_place("prune", tmp_path / "new", force=False)
    for force in (False, True):
        with pytest.raises(OutputError, match="mine exists, a folder that prune did not write: choose another `out`"):
            check_place("prune", tmp_path / "mine", force=force)
    (tmp_path / "mine" / "prune.json").write_text("{}")
    with pytest.raises(OutputError, match="choose another `out`, or replace it with `force`"):
        check_place("prune", tmp_path / "mine", force=False)
    check_place("prune", tmp_path / "mine", force=True)


# --- the command line


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vitsmith.evaluation.speed.time_in_turns", twice_as_fast)
    write_folder(tmp_path / "colours")
    return tmp_path


QUICK = ("--batch-size", 8, "--set", "batch.micro=8")


def test_prune_by_the_command_line(taught: Bundle, place: Path, capsys: Any) -> None:
    arguments = ("prune", taught.where, "--data", "colours", "--heads", 2, "--mlp-width", 40, "--steps", 8, *QUICK)
    code, out, err = call(capsys, *arguments)
    assert code == 0, err
    assert "distilled" in out and "heads 4 -> 2, mlp_width 64 -> 48" in out and "runs/prune/colours/model" in out
    assert "mlp_width 40 rounded up to 48, a multiple of 16" in err and "\x1b" not in out + err
    assert vs.load("runs/prune/colours/model").config.mlp_width == 48
    assert json.loads((place / "runs/prune/colours/recipe.json").read_text())["schedule"]["steps"] == 8
    code, out, _ = call(capsys, *arguments, "--out", "there", "--json")
    assert code == 0 and json.loads(out)["written"] == "there/model" and json.loads(out)["failures"] == []
    code, _, err = call(capsys, *arguments, "--out", "there")
    assert code == 2 and "there exists: choose another --out" in err
    code, _, _ = call(capsys, *arguments, "--out", "there", "--force", "--json")
    assert code == 0 and sorted(path.name for path in place.iterdir()) == ["colours", "runs", "there"]


def test_prune_without_labels(taught: Bundle, place: Path, capsys: Any) -> None:
    code, out, err = call(
        capsys,
        "prune",
        taught.where,
        "--images",
        "colours",
        "--keep",
        0.8,
        "--steps",
        8,
        "--method",
        "activation",
        *QUICK,
    )
    assert code == 0, err
    assert "agreement" in out and "12 images without labels" in out and "top-1" not in out
    assert {one.metric for one in vs.load("runs/prune/colours/model").measurements} >= {"agreement", "size"}


def test_a_refusal_shows_the_numbers_and_leaves_nothing(taught: Bundle, place: Path, capsys: Any) -> None:
    code, out, err = call(
        capsys, "prune", taught.where, "--data", "colours", "--depth", 1, "--steps", 0, "--min-speedup", 1000, "--json"
    )
    assert code == 3 and "(required 1000)" in err and json.loads(out)["failures"] and "written" not in json.loads(out)
    assert [path.name for path in place.iterdir()] == ["colours"]


def test_an_interruption_leaves_nothing(
    taught: Bundle, place: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vitsmith.training.images.task.ImageTask.evaluate", interrupt)  # after the last update
    code, out, err = call(
        capsys, "prune", taught.where, "--data", "colours", "--heads", 2, "--steps", 2, "--out", "there", *QUICK
    )
    assert (code, out) == (2, "") and "interrupted; nothing half-written was left" in err
    assert [path.name for path in place.iterdir()] == ["colours"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give labelled ones with --data, or images without labels with --images"),
        (("--data", "colours", "--images", "colours"), "pruning needs images"),
        (("--data", "colours"), "nothing to prune"),
        (("--data", "colours", "--heads", 5), "--heads must be from 1 to 4"),
        (("--data", "colours", "--mlp-width", 0), "--mlp-width must be from 1 to 64"),
        (("--data", "nowhere", "--heads", 2), "nowhere"),
        (("--data", "colours", "--heads", 2, "--steps", 0, "--lr", 0.1), "--steps 0 has none: leave them out"),
        (("--data", "colours", "--heads", 2, "--set", "optimizer.lrr=1"), "did you mean lr"),
        (("--images", "colours", "--images", "nowhere.png", "--heads", 2), "nowhere.png"),
    ],
)
def test_wrong_use_is_one_line(taught: Bundle, place: Path, capsys: Any, arguments: Any, told: str) -> None:
    code, out, err = call(capsys, "prune", taught.where, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1) and told in err
    assert [path.name for path in place.iterdir()] == ["colours"]

"""The teacher: its own preprocessing, classes by name, answers remembered when nothing varies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from tests.exporting import export_onnx
from tests.tiny import CONFIGS, VIT, pictures, tiny_model
from tests.training.small_runs import recipe, splits
from vitsmith import load, save
from vitsmith.data.augment.settings import AugmentSpec
from vitsmith.data.batches.device import augment_on_device
from vitsmith.data.batches.loader import Batch, training_batches
from vitsmith.data.images.preprocess import normalize, preprocess
from vitsmith.data.sets.samples import Splits
from vitsmith.errors import ConfigError, DatasetError
from vitsmith.models.config import ModelConfig
from vitsmith.models.configure import change
from vitsmith.runs.run import Run
from vitsmith.specs import ImageSpec, Labels
from vitsmith.training.images import teacher as teacher_module
from vitsmith.training.images.run import Trained, train_to_bundle
from vitsmith.training.images.start import start
from vitsmith.training.images.teacher import Teacher, View, is_repeating, open_teacher
from vitsmith.training.images.teacher_cache import Answers
from vitsmith.training.recipes.file import parse_recipe
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.training.update.losses import DistillLoss, divergence
from vitsmith.weights.bundle.bundle import Bundle

NAMES = ("ant", "bee", "cat", "dog", "eel")
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
STUDENT = ImageSpec.original((16, 24))
WHOLE = {"area": (1.0, 1.0), "flip": False}


def bundle_of(config: ModelConfig = VIT, images: ImageSpec = STUDENT, names: tuple[str, ...] | None = NAMES) -> Bundle:
    return Bundle.of(tiny_model(config), preprocessing=images, labels=Labels(names=names) if names else None)


def batch(count: int = 4, spec: ImageSpec = STUDENT) -> torch.Tensor:
    return torch.from_numpy(np.stack([preprocess(picture, spec) for picture in pictures(count)]))


def test_tensors_of_one_preprocessing_become_those_of_another() -> None:
    pixels = pictures(1, side=16)[0][:, :24]
    wanted = ImageSpec.pillow((16, 24), resize="squash", **IMAGENET)
    given = torch.from_numpy(normalize(pixels, STUDENT))[None]
    found = View(STUDENT, wanted, "cpu")(given)[0].numpy()
    np.testing.assert_allclose(found, normalize(pixels, wanted), atol=2e-6)


@pytest.mark.parametrize("size", [(8, 12), (24, 16)])
def test_another_size_is_what_pillow_makes(size: tuple[int, int]) -> None:
    pixels = pictures(1, side=16)[0][:, :24]
    wanted = ImageSpec.pillow(size, resize="squash", **IMAGENET)
    found = View(STUDENT, wanted, "cpu")(torch.from_numpy(normalize(pixels, STUDENT))[None])[0].numpy()
    for channel in range(3):
        plane = Image.fromarray(pixels[..., channel].astype(np.float32), mode="F")
        resized = np.asarray(plane.resize(size[::-1], Image.Resampling.BILINEAR)) / 255
        expected = (resized - IMAGENET["mean"][channel]) / IMAGENET["std"][channel]
        np.testing.assert_allclose(found[channel], expected, atol=1e-4)


def test_the_teacher_answers_as_its_bundle_does_in_the_students_order() -> None:
    images = ImageSpec.pillow((16, 24), resize="squash", **IMAGENET)
    bundle = bundle_of(images=images)
    order = ("dog", "ant", "eel", "cat", "bee")
    pixels = [picture[:16, :24] for picture in pictures(4)]
    given = torch.from_numpy(np.stack([normalize(one, STUDENT) for one in pixels]))
    found = Teacher(bundle, order, STUDENT)(given)
    own = bundle.run_torch(np.stack([normalize(one, images) for one in pixels]))
    for column, name in enumerate(order):
        np.testing.assert_allclose(found[:, column], own[:, NAMES.index(name)], rtol=1e-4, atol=1e-5)
    assert not found.requires_grad
    halves = Teacher(bundle, order, STUDENT, precision="bf16")(given)
    assert halves.dtype == torch.float32 and 0 < (halves - found).abs().max() < 0.05 * found.abs().max()


def test_a_distilled_teacher_answers_with_both_heads() -> None:
    bundle = bundle_of(CONFIGS["vit-distilled"])
    found = Teacher(bundle, NAMES, STUDENT)(batch())
    np.testing.assert_allclose(found, bundle.run_torch(batch().numpy()), rtol=1e-5, atol=1e-6)


def test_an_exported_teacher_answers_the_same(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    saved = save(bundle_of(), tmp_path / "torch")
    exported, _ = export_onnx(saved, tmp_path / "onnx")
    found = Teacher(exported, NAMES[::-1], STUDENT)(batch())
    torch.testing.assert_close(found, Teacher(saved, NAMES[::-1], STUDENT)(batch()), rtol=1e-4, atol=1e-5)


def test_a_calibrated_teacher_gives_raw_logits(tmp_path: Path) -> None:
    plain, images = bundle_of(), batch()
    expected = Teacher(plain, NAMES, STUDENT)(images)
    assert torch.equal(Teacher(plain.with_calibration(4.0), NAMES, STUDENT)(images), expected)
    np.testing.assert_allclose(expected.numpy(), plain.run_torch(images.numpy()), rtol=1e-5)


def test_classes_are_matched_by_name_or_refused() -> None:
    with pytest.raises(DatasetError, match="does not name its 5 classes"):
        Teacher(bundle_of(names=None), NAMES, STUDENT)
    with pytest.raises(
        DatasetError, match=r"it does not know 1 of the data's, the first is 'elk'; it knows 1 that .* 'eel'"
    ):
        Teacher(bundle_of(), (*NAMES[:4], "elk"), STUDENT)
    with pytest.raises(DatasetError, match="it knows 2 that the data does not have, the first is 'ant'"):
        Teacher(bundle_of(), NAMES[1:4], STUDENT)


def test_teachers_without_one_answer_an_image_are_refused() -> None:
    headless = Bundle.of(tiny_model(change(VIT, classes=0)))
    for bundle, told in ((headless, "no classifier"), (bundle_of(CONFIGS["vit-unpooled"]), "for every token")):
        with pytest.raises(ConfigError, match=told):
            Teacher(bundle, NAMES, STUDENT)


def test_answers_are_remembered_by_the_image() -> None:
    asked = []

    def answer(images: torch.Tensor) -> torch.Tensor:
        asked.append(len(images))
        return images.flatten(1)[:, :2] * 10

    answers, images = Answers((16, 24)), batch(6)
    torch.testing.assert_close(answers.get(images[:4], answer), answer(images[:4]), rtol=0, atol=0)
    mixed = images[[5, 1, 5, 0]]  # one of them new, and twice
    torch.testing.assert_close(answers.get(mixed, answer), answer(mixed), rtol=0, atol=0)
    assert asked == [4, 4, 1, 4] and answers.share == (0 + 3) / 8
    nearly = images[:1].clone()
    nearly[0, 2, 15, 23] = torch.nextafter(nearly[0, 2, 15, 23], torch.tensor(9.0))  # one bit of one value
    answers.get(nearly, answer)
    assert asked[-1] == 1 and answers.share == 3 / 9


def test_a_teacher_remembers_only_when_asked_to() -> None:
    bundle = bundle_of()
    plain, remembering = Teacher(bundle, NAMES, STUDENT), Teacher(bundle, NAMES, STUDENT, remember=True)
    for _ in range(3):
        torch.testing.assert_close(remembering(batch()), plain(batch()), rtol=0, atol=0)
    assert remembering.cached_share == pytest.approx(2 / 3) and plain.cached_share == 0


@pytest.mark.parametrize(
    ("changes", "repeating"),
    [
        ({}, True),
        ({"aspect": (0.5, 2.0)}, True),  # of the whole image there is only one box
        ({"area": (0.9, 1.0)}, False),
        ({"flip": True}, False),
        ({"grade": "light1"}, False),
        ({"mixup": 0.2}, False),
        ({"color": 0.1}, False),
        ({"erasing": 0.1}, False),
    ],
)
def test_only_views_that_never_change_are_remembered(changes: dict[str, object], repeating: bool) -> None:
    assert is_repeating(AugmentSpec(**{**WHOLE, **changes})) is repeating


def test_a_recipe_opens_its_teacher(tmp_path: Path) -> None:
    save(bundle_of(), tmp_path / "teacher")
    recipe = parse_recipe(
        {
            "data": {"path": "digits"},
            "model": {"name": "ViT-Ti_16"},
            "augment": WHOLE,
            "distill": {"teacher": str(tmp_path / "teacher"), "temperature": 2.0, "weight": 1.0},
        }
    )
    loss = open_teacher(recipe, NAMES[::-1], STUDENT, "cpu")
    logits, images = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), batch()
    own = load(tmp_path / "teacher").run_torch(images.numpy())[:, ::-1].copy()
    found = loss(logits, Batch(images, torch.zeros(4).long()))
    torch.testing.assert_close(found, divergence(logits, torch.from_numpy(own), 2.0), rtol=1e-5, atol=1e-5)
    loss(logits, Batch(images, torch.zeros(4).long()))
    assert loss.teacher.cached_share == 0.5


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher that has learnt the colours, as its own run leaves it on disk."""
    with Run("train", "teacher", tmp_path_factory.mktemp("runs") / "teacher") as run:
        assert train_to_bundle(recipe(), splits(), run).result.final.scores.top1 == 1
        return run.folder / "model"


def misled() -> Splits:
    """The colours, whose training labels are wrong, one and all: who learns the classes has them from the teacher."""
    data = splits()
    data.train.labels[:] = (data.train.labels + 1) % 3
    return data


def reference_losses(wanted: TrainRecipe, teacher: Bundle, rates: list[float], temperature: float) -> Iterator[float]:
    """What a student's first updates must come to, with torch's own divergence, clipping and SGD."""
    model, images, *_ = start(wanted, 3)
    optimizer = torch.optim.SGD(model.parameters(), momentum=wanted.optimizer.momentum)
    crops = training_batches(misled().train, images, wanted.augment, batch=wanted.batch.size, seed=wanted.run.seed)
    for rate in rates:
        seen = augment_on_device(next(crops), wanted.augment, images, classes=3).images
        theirs = torch.from_numpy(teacher.run_torch(seen.numpy())) / temperature
        ours = model(seen) / temperature
        loss = temperature**2 * F.kl_div(ours.log_softmax(1), theirs.softmax(1), reduction="batchmean")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), wanted.optimizer.clip)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        yield loss.item()
    crops.close()


def test_a_run_teaches_what_the_teacher_says_of_the_same_views(taught: Path) -> None:
    wanted = recipe(
        model={"config": {"width": 16}},
        augment={"mixup": 0.5},
        optimizer={"momentum_dtype": "float32"},
        distill={"teacher": str(taught), "temperature": 2.0},
    )
    result = train_to_bundle(wanted, misled(), None).result
    losses = [done.loss for done in result.history]
    rates = [done.learning_rate for done in result.history]
    expected = list(reference_losses(wanted, load(taught), rates, 2.0))
    assert losses[0] == pytest.approx(expected[0], rel=1e-5)
    np.testing.assert_allclose(losses, expected, rtol=1e-3)
    assert min(expected) < 0.5 * expected[0]
    assert result.final.scores.top1 == 1


def test_a_run_whose_views_repeat_is_answered_from_memory_and_learns_the_same(
    taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[DistillLoss] = []

    def remember(*given: object) -> DistillLoss:
        opened.append(open_teacher(*given))  # type: ignore[arg-type]
        return opened[-1]

    # One image at once: otherwise its logits may round by what else is in its slice.
    wanted = recipe(augment=WHOLE, batch={"micro": 1}, distill={"teacher": str(taught)})

    def train() -> Trained:
        return train_to_bundle(wanted, splits(), None)

    monkeypatch.setattr(teacher_module, "open_teacher", remember)
    remembered = train()
    monkeypatch.setattr(teacher_module, "is_repeating", lambda _: False)
    asked = train()
    assert [loss.teacher.cached_share for loss in opened] == [0.75, 0]  # three of four passes over the data
    assert [done.loss for done in remembered.result.history] == [done.loss for done in asked.result.history]

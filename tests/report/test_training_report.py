"""The page of a run: what it says against sums done by hand, with few and many classes, and without matplotlib."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from PIL import Image

from tests.report.page_checks import Page
from vitsmith.amounts import duration_text
from vitsmith.data.sets.samples import Samples, Splits
from vitsmith.evaluation.scores import score_logits
from vitsmith.predict import show_probability
from vitsmith.report.page import render
from vitsmith.report.plots import draw_class_accuracies, draw_curves
from vitsmith.report.training import TrainingRun, make_training_report, write_plots
from vitsmith.training.images.baseline import Baseline
from vitsmith.training.images.validation import Predicted
from vitsmith.training.monitor.events import Evaluated, StepDone, Warned
from vitsmith.training.recipes.recipe import TrainRecipe

BASELINE = Baseline(0.7, 0.6, (0.65, 0.75), (0.55, 0.65), train_images=500, val_images=300, seconds=9.0)


def samples(labels: np.ndarray, classes: int) -> Samples:
    random = np.random.default_rng(0)
    images = list(random.integers(0, 256, (len(labels), 6, 9, 3), np.uint8))
    names = [f"pets/{index:03d}.jpg" for index in range(len(labels))]
    return Samples(tuple(f"breed {index}" for index in range(classes)), images, names, labels)


def make_run(*, classes: int = 4, steps: int = 40, evaluations: int = 4, **changes: object) -> TrainingRun:
    random = np.random.default_rng(0)
    count = max(300, 3 * classes)
    labels = np.arange(count) % classes
    logits = random.normal(size=(count, classes)).astype(np.float32)
    logits[np.arange(count), labels] += 2.0
    held_out = samples(labels, classes)
    fields = {"data": {"path": "pets"}, "model": {"name": "ViT-Ti_16", "init": "Ti.npz"}, "batch": {"size": 50}}
    scores = score_logits(logits, labels)
    run: dict[str, object] = {
        "recipe": TrainRecipe.model_validate(fields),
        "folder": Path("runs/train/my pets"),
        "command": "vitsmith train pets",
        "splits": Splits(samples(labels[:60], classes), held_out),
        "history": [StepDone(at, 2 / at, 0.1 * (steps - at), 1.0, 100.0) for at in range(1, steps + 1)],
        "evaluations": [Evaluated(steps * at // evaluations, scores, 2.0) for at in range(1, evaluations + 1)],
        "warnings": (),
        "predicted": Predicted(logits, labels, np.arange(count)),
    }
    return TrainingRun(**(run | changes))  # type: ignore[arg-type]


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matplotlib: a page is made much faster."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)


def page(run: TrainingRun) -> Page:
    return Page(render(make_training_report(run)))


@pytest.mark.usefixtures("plain")
def test_headlines_say_what_fine_tuning_bought() -> None:
    run = make_run(baseline=BASELINE)
    top1 = run.scores.top1
    text = page(run).text
    low, high = run.scores.top1_interval
    for part in (
        f"{top1:.1%}",
        "held-out accuracy",
        f"of 300 images; 95% interval {low:.1%} to {high:.1%}",
        "70.0%",
        "linear probe, before",
        "95% interval 65.0% to 75.0%",
        "60.0%",
        "k-NN, before",
        f"Fine-tuning gained {100 * (top1 - 0.7):.1f} points over a linear probe",
        "learned from Ti.npz, in 40 updates of 50 images, from 60 images of 4 classes",
        "model.init=Ti.npz",
    ):
        assert part in text
    assert run.seconds == pytest.approx(40 * 50 / 100 + 4 * 2)
    assert "28 s" in text


def test_a_distilled_model_is_told_by_its_teacher_and_its_loss() -> None:
    recipe = TrainRecipe.model_validate(make_run().recipe.model_dump() | {"distill": {"teacher": "large"}})
    text = page(make_run(recipe=recipe)).text
    assert "learned from Ti.npz and the answers of large, in 40 updates" in text
    assert "The loss of distillation on training images" in text and "Cross-entropy on" not in text
    assert "Cross-entropy on training images" in page(make_run()).text


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(("linear", "said"), [(0.99, "points less than a linear probe"), (0.0, "gained")])
def test_harm_is_told(linear: float, said: str) -> None:
    run = make_run(baseline=Baseline(linear, 0.5, (linear, linear), (0.4, 0.6), 1, 1, 1.0))
    assert said in make_training_report(run).summary


@pytest.mark.usefixtures("plain")
def test_an_accuracy_inside_the_interval_of_the_probe_gained_little() -> None:
    run = make_run(baseline=Baseline(0.8, 0.5, (0.0, 1.0), (0.4, 0.6), 1, 1, 1.0))
    assert "gained little" in make_training_report(run).summary


def test_a_loss_inside_the_interval_of_the_probe_is_no_gain() -> None:
    told = Baseline(0.75, 0.5, (0.5, 0.9), (0.4, 0.6), 1, 1, 1.0).compare(2 / 3)
    assert told.startswith("Fine-tuning gained nothing: its accuracy, 8.3 points less, is within the interval of")


@pytest.mark.usefixtures("plain")
def test_the_most_wrong_images_are_those_whose_class_was_least_likely() -> None:
    run = make_run()
    logits, labels, _ = run.predicted
    kept = np.arange(10, 300)  # as if the first ten could not be read
    run = make_run(predicted=Predicted(logits[kept], labels[kept], kept))
    shares = scipy.special.softmax(logits.astype(float), axis=1)
    wrong = [at for at in kept if logits[at].argmax() != labels[at]]
    wrong.sort(key=lambda at: shares[at, labels[at]])
    section = make_training_report(run).sections[-1]
    assert len(wrong) > 24
    assert section.text.startswith(f"24 of {len(wrong)} mistakes")
    assert [sample.source for sample in section.samples] == [f"pets/{at:03d}.jpg" for at in wrong[:24]]
    for sample, at in zip(section.samples, wrong, strict=False):
        assert (sample.predicted, sample.truth) == (f"breed {logits[at].argmax()}", f"breed {labels[at]}")
        assert sample.probability == pytest.approx(shares[at].max())
        assert sample.truth_probability == pytest.approx(shares[at, labels[at]])
    shown = page(run)
    np.testing.assert_array_equal(np.asarray(shown.pictures()[-24]), run.splits.val.sources[wrong[0]])
    first = section.samples[0]
    assert f"✗ is {first.truth} ({show_probability(first.truth_probability)})" in shown.text


@pytest.mark.usefixtures("plain")
def test_no_mistakes_are_said_to_be_none() -> None:
    labels = np.arange(300) % 4
    run = make_run(predicted=Predicted(np.eye(4, dtype=np.float32)[labels] * 5, labels, np.arange(300)))
    assert "no mistake" in page(run).text


def test_of_many_classes_the_worst_are_listed_and_the_accuracies_drawn() -> None:
    run = make_run(classes=300)
    found = page(run)
    predicted = run.predicted.logits.argmax(axis=1)
    share = [float((predicted[run.predicted.labels == each] == each).mean()) for each in range(300)]
    worst = sorted(range(300), key=lambda each: share[each])[:20]
    rows = [row for row in found.cells if row[0].startswith("breed")]
    assert [row[0] for row in rows] == [f"breed {each}" for each in worst]
    assert [row[3] for row in rows] == [f"{share[each]:.1%}" for each in worst]
    assert "The 20 of 300 classes with the lowest accuracy" in found.text
    assert "Confusion matrix" not in found.text
    (axes,) = draw_class_accuracies(run.scores).axes
    heights = [bar.get_height() for bar in axes.patches]
    expected, _ = np.histogram(np.multiply(100, share), bins=20, range=(0, 100))
    assert heights == expected.tolist()


@pytest.mark.parametrize(("steps", "evaluations"), [(3, 1), (1, 1), (40, 2)])
def test_short_runs_have_a_whole_page_and_all_figures(tmp_path: Path, steps: int, evaluations: int) -> None:
    run = make_run(steps=steps, evaluations=evaluations)
    assert len(page(run).pictures()) == 8 + 24
    written = write_plots(run, tmp_path)
    assert [path.name for path in written] == ["curves.png", "reliability.png", "confusion.png"]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    for path in written:
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG" and image.width == 960


def test_curves_hold_loss_accuracy_and_rate() -> None:
    run = make_run()
    loss, held_out, rate = draw_curves(run.history, run.evaluations).axes
    assert loss.lines[0].get_ydata().tolist() == [done.loss for done in run.history]
    assert held_out.lines[0].get_xdata().tolist() == [10, 20, 30, 40]
    np.testing.assert_allclose(held_out.lines[0].get_ydata(), 100 * run.scores.top1)
    assert rate.lines[0].get_ydata().tolist() == [done.learning_rate for done in run.history]


def test_a_single_evaluation_shows_its_interval() -> None:
    run = make_run(evaluations=1)
    axes = draw_curves(run.history, run.evaluations).axes[1]
    (segment,) = axes.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(segment[:, 1], np.multiply(100, run.scores.top1_interval))


@pytest.mark.usefixtures("plain")
def test_warnings_come_first_and_hostile_text_is_escaped() -> None:
    warnings = (Warned(7, "<script>alert(1)</script>"), Warned(1200, "look"), Warned(9, "at step 9 it fell"))
    html = render(make_training_report(make_run(warnings=warnings, adapted="loaded   3 arrays\nreset    head")))
    found = Page(html)
    assert "<script" not in html
    assert "step 7: <script>alert(1)</script>" in found.text and "step 1,200: look" in found.text
    assert "step 9: " not in found.text  # it says so itself
    assert found.text.index("What to look at") < found.text.index("How it learned")
    assert "loaded 3 arrays; reset head" in found.text
    assert found.commands[0] == "vitsmith predict 'runs/train/my pets/model' IMAGES --top 3"


@pytest.mark.usefixtures("plain")
def test_without_matplotlib_there_are_tables_and_the_install_line(tmp_path: Path) -> None:
    run = make_run(evaluations=40)
    found = page(run)
    assert len(found.pictures()) == 24
    assert "pip install 'vitsmith[plots]'" in found.text
    evaluations = [row for row in found.cells if row[1].endswith("%")]
    assert len(evaluations) == 20 and evaluations[-1][0] == "40"
    assert evaluations[-1][1] == f"{run.scores.top1:.1%}" and evaluations[-1][3] == f"{run.scores.nll:.3f}"
    assert [row[0] for row in found.cells if row[0].startswith("breed")] == [f"breed {each}" for each in range(4)]
    assert write_plots(run, tmp_path) == () and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("seconds", "shown"), [(41.4, "41 s"), (89, "89 s"), (720, "12 min"), (12_010, "3 h 20 min"), (3600, "60 min")]
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert duration_text(seconds) == shown

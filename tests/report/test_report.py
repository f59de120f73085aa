from __future__ import annotations

import io
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.report.page_checks import Page
from vitsmith.errors import MissingPackageError
from vitsmith.evaluation.accuracy import wilson_interval
from vitsmith.evaluation.evaluation import Evaluation
from vitsmith.evaluation.scores import score_logits
from vitsmith.evaluation.speed import MeasuredCost, Speed
from vitsmith.gate import SAME_ANSWERS, Paired, Verdict
from vitsmith.predict import show_probability
from vitsmith.report.figure import DARK, DPI, HEIGHT, LIGHT, WIDTH, Theme, new_figure, png
from vitsmith.report.page import Command, Headline, Report, Section, render
from vitsmith.report.plots import draw_confusion, draw_held_out, draw_loss, draw_reliability, moving_average
from vitsmith.report.sections import (
    accuracy_section,
    costs_section,
    gate_section,
    learning_section,
    sample_of,
    surest_mistakes,
)
from vitsmith.training.monitor.events import Evaluated, StepDone

HOSTILE = "<script>alert('1')</script> & \"x\" <b>"
SIZE = (round(WIDTH * DPI), round(HEIGHT * DPI))


def evaluation(images: int = 60, classes: int = 4, names: tuple[str, ...] = ("a", "b", "c", HOSTILE)) -> Evaluation:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, images)
    logits = generator.normal(size=(images, classes)).astype(np.float32)
    logits[np.arange(images), labels] += 1.5
    return Evaluation(score_logits(logits, labels), logits, labels, names, seconds=1.0)


def training(steps: int = 40) -> SimpleNamespace:
    history = tuple(StepDone(at, 2.0 / at, 0.1 * (steps - at), 1.0, 100.0) for at in range(1, steps + 1))
    evaluations = tuple(Evaluated(at, evaluation(images=at * 3).scores, 0.1) for at in (10, 20, 40))
    return SimpleNamespace(history=history, evaluations=evaluations)


def report(**changed: object) -> Report:
    fields: dict[str, object] = {
        "title": "A report",
        "summary": "What it says.",
        "headlines": (Headline("98.7%", "held-out accuracy", "of 359 images"),),
        "sections": (),
        "commands": (Command("Try this:", "vitsmith predict 'a b' c.png"),),
        "facts": (("machine", "a processor"),),
    }
    return Report(**(fields | changed))  # type: ignore[arg-type]


def test_loss_figure_shows_every_update_its_mean_and_the_learning_rate() -> None:
    history = training().history
    above, below = draw_loss(history).axes
    raw, smooth = above.lines
    steps = [done.step for done in history]
    assert raw.get_xdata().tolist() == steps
    assert raw.get_ydata().tolist() == [done.loss for done in history]
    assert below.lines[0].get_ydata().tolist() == [done.learning_rate for done in history]
    assert smooth.get_ydata()[-1] == pytest.approx(history[-1].loss, rel=0.1)
    assert (above.get_ylabel(), below.get_xlabel()) == ("training loss (nats)", "updates")


@pytest.mark.parametrize("window", [1, 3, 50])
def test_moving_average_looks_back_only(window: int) -> None:
    values = np.random.default_rng(1).normal(size=20)
    expected = [values[max(at - window + 1, 0) : at + 1].mean() for at in range(20)]
    np.testing.assert_allclose(moving_average(values, window), expected)


def test_held_out_figure_shows_accuracy_in_percent_inside_its_interval() -> None:
    evaluations = training().evaluations
    (axes,) = draw_held_out(evaluations).axes
    line = axes.lines[0]
    assert line.get_xdata().tolist() == [10, 20, 40]
    np.testing.assert_allclose(line.get_ydata(), [100 * each.scores.top1 for each in evaluations])
    band = axes.collections[0].get_paths()[0].vertices
    for each in evaluations:
        low, high = each.scores.top1_interval
        heights = band[band[:, 0] == each.step][:, 1]
        assert (heights.min(), heights.max()) == (pytest.approx(100 * low), pytest.approx(100 * high))
    assert axes.texts[0].get_text() == f"{100 * evaluations[-1].scores.top1:.1f}%"


def test_confusion_figure_shows_counts_and_shares_of_the_true_class() -> None:
    given = evaluation()
    axes = draw_confusion(given.scores, given.classes).axes[0]
    counts = np.zeros((4, 4), int)
    for label, row in zip(given.labels, given.logits, strict=True):
        counts[label, row.argmax()] += 1
    shares = axes.images[0].get_array()
    np.testing.assert_allclose(shares, 100 * counts / counts.sum(axis=1, keepdims=True))
    written = {(text.get_position()[1], text.get_position()[0]): int(text.get_text()) for text in axes.texts}
    assert written == {(row, column): count for (row, column), count in np.ndenumerate(counts) if count}
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b", "c", '<script>alert(\'1…"x" <b>']


def test_confusion_figure_of_many_classes_and_of_absent_ones_stays_plain() -> None:
    given = evaluation(images=50, classes=200, names=tuple(f"class {index}" for index in range(200)))
    axes = draw_confusion(given.scores, given.classes).axes[0]
    assert not axes.texts
    assert len(axes.get_yticks()) < 20
    assert np.isfinite(axes.images[0].get_array()).all()


def test_reliability_figure_shows_filled_bins_with_intervals_and_all_counts() -> None:
    bins = evaluation().scores.reliability
    above, below = draw_reliability(bins).axes
    filled = [each for each in bins if each.count]
    points = above.containers[0]
    np.testing.assert_allclose(points.lines[0].get_xdata(), [100 * each.confidence for each in filled])
    np.testing.assert_allclose(points.lines[0].get_ydata(), [100 * each.accuracy for each in filled])
    for segment, each in zip(points.lines[2][0].get_segments(), filled, strict=True):
        low, high = wilson_interval(round(each.accuracy * each.count), each.count)
        np.testing.assert_allclose(segment[:, 1], [100 * low, 100 * high], atol=1e-9)
    assert [bar.get_height() for bar in below.patches] == [each.count for each in bins]
    assert sum(bar.get_width() for bar in below.patches) == pytest.approx(100)


def test_a_figure_becomes_a_png_of_its_size_and_leaves_no_global_state() -> None:
    image = Image.open(io.BytesIO(png(draw_loss(training().history, DARK))))
    assert (image.format, image.size) == ("PNG", SIZE)
    assert image.convert("RGB").getpixel((2, 2)) == tuple(bytes.fromhex(DARK.paper[1:]))
    assert "matplotlib.pyplot" not in sys.modules


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_stand_out_from_the_paper(theme: Theme) -> None:
    """WCAG 2.2: 4.5 for text (1.4.3), 3 for graphics (1.4.11)."""
    assert contrast(theme.ink, theme.paper) > 4.5
    for colour in (theme.first, theme.second, theme.faint):
        assert contrast(colour, theme.paper) > 3


def contrast(one: str, other: str) -> float:
    """The contrast ratio of WCAG 2.2."""

    def luminance(colour: str) -> float:
        channels = np.frombuffer(bytes.fromhex(colour[1:]), np.uint8) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_without_matplotlib_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r"matplotlib.*pip install 'vitsmith\[plots\]'"):
        new_figure(LIGHT)


def test_the_page_holds_what_it_was_given_and_nothing_from_elsewhere() -> None:
    page = Page(render(report()))
    for text in (
        "A report",
        "What it says.",
        "98.7%",
        "held-out accuracy",
        "of 359 images",
        "Try this:",
        "a processor",
    ):
        assert text in page.text
    assert page.commands == ["vitsmith predict 'a b' c.png"]
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "base"}
    policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_hostile_text_is_escaped_wherever_it_stands() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    sample = sample_of(pixels, predicted=HOSTILE, probability=0.5, truth=f"not {HOSTILE}", source=HOSTILE)
    cost = MeasuredCost(HOSTILE, HOSTILE, 1.0, 0.5, Speed(1.0, 1.0, 2))
    hostile = report(
        title=HOSTILE,
        summary=HOSTILE,
        headlines=(Headline(HOSTILE, HOSTILE, HOSTILE),),
        sections=(
            Section(HOSTILE, HOSTILE, samples=(sample,)),
            accuracy_section(evaluation()),
            costs_section([cost], HOSTILE),
        ),
        commands=(Command(HOSTILE, HOSTILE),),
        facts=((HOSTILE, HOSTILE),),
    )
    html = render(hostile)
    page = Page(html)
    assert "<script" not in html
    assert "<b>x" not in html
    assert page.text.count("alert('1')") >= 12
    assert page.commands == [HOSTILE]
    assert HOSTILE in [row[0] for row in page.cells]  # the name of a class
    assert any(attributes.get("alt") == f"image of class not {HOSTILE}" for _, attributes in page.tags)


def test_figures_come_in_light_and_dark_with_words_for_who_cannot_see_them() -> None:
    page = Page(render(report(sections=(learning_section(training()), accuracy_section(evaluation())))))
    assert [picture.size for picture in page.pictures()] == [SIZE] * 8
    corners = [picture.convert("RGB").getpixel((2, 2)) for picture in page.pictures()]
    paper = [tuple(bytes.fromhex(theme.paper[1:])) for theme in (DARK, LIGHT)]
    assert corners == paper * 4
    described = [attributes["alt"] for tag, attributes in page.tags if tag == "img"]
    assert described[0].startswith("Training loss from 2.00 at the first update to 0.05 at update 40")
    assert all(len(alt) > 40 for alt in described)


def test_the_table_of_classes_counts_what_a_plain_loop_counts() -> None:
    given = evaluation()
    page = Page(render(report(sections=(accuracy_section(given),))))
    predicted = given.logits.argmax(axis=1)
    for index, (name, *cells) in enumerate(page.cells[1:]):
        own = [int(answer) for answer, label in zip(predicted, given.labels, strict=True) if label == index]
        right = sum(answer == index for answer in own)
        wrong = {other: own.count(other) for other in range(4) if other != index and other in own}
        most = max(wrong, key=lambda other: wrong[other])
        assert name == given.classes[index]
        taken = f"{given.classes[most]} ({wrong[most]})"
        assert cells == [str(len(own)), str(right), f"{right / len(own):.1%}", taken]


def test_costs_and_gate_become_tables() -> None:
    costs = [
        MeasuredCost("model", "torch", 0.571, 0.9861, Speed(1.634, 1413.2, 32)),
        MeasuredCost("model-onnx", "onnx", 0.764, 0.9861, Speed(0.184, 12072.4, 32)),
    ]
    doubts = ("360 images are too few",)
    verdict = Verdict(56, 4.3e-7, 1.0, 1.0, (), accuracy=Paired(360, lost=0, gained=0, both=350), doubts=doubts)
    required = replace(SAME_ANSWERS, accuracy_drop=0.5)
    sections = (costs_section(costs, "How it was timed."), gate_section("The export", verdict, required))
    page = Page(render(report(sections=sections)))
    assert page.cells[:3] == [
        ["bundle", "size, MiB", "top-1", "one image, ms", "images/s, batch 32"],
        ["model (torch)", "0.57", "98.61%", "1.63", "1,413"],
        ["model-onnx (onnx)", "0.76", "98.61%", "0.18", "12,072"],
    ]
    assert page.cells[4:] == [
        ["largest difference of any output", "4.3e-07", "1e-03"],
        ["images with the same first choice", "100.0%", "100.0%"],
        ["batch sizes that run", "1, 2, 7", "1, 2, 7"],
        ["drop of top-1 on 360 labelled images, in points", "0.00 (95% interval -1.06 to 1.06)", "0.5"],
    ]
    assert "The export passed: 56 images" in page.text and "Note: 360 images are too few." in page.text


def test_a_sample_says_in_words_whether_it_is_right() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (600, 300, 3), np.uint8)
    right = sample_of(pixels[:20, :30], predicted="7", probability=0.98, truth="7", source="7/a.png")
    wrong = sample_of(pixels, predicted="7", probability=0.51, truth="1", source="1/b.png")
    page = Page(render(report(sections=(Section("Samples", samples=(right, wrong)),))))
    assert [picture.size for picture in page.pictures()] == [(30, 20), (96, 192)]
    np.testing.assert_array_equal(np.asarray(page.pictures()[0]), pixels[:20, :30])
    assert "98.0%✓ right7/a.png" in page.text.replace("\n", "")
    assert "51.0%✗ is 11/b.png" in page.text.replace("\n", "")


def test_surest_mistakes_come_first() -> None:
    given = evaluation()
    shares = np.exp(given.logits.astype(float))
    shares /= shares.sum(axis=1, keepdims=True)
    wrong = [at for at in range(60) if given.logits[at].argmax() != given.labels[at]]
    wrong.sort(key=lambda at: -shares[at].max())
    assert surest_mistakes(given.logits, given.labels, 100) == wrong
    assert surest_mistakes(given.logits, given.labels, 3) == wrong[:3]
    assert surest_mistakes(given.logits, given.logits.argmax(axis=1), 3) == []


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(0.5, "50.0%"), (0.9994, "99.9%"), (0.9996, ">99.9%"), (1.0, "100.0%"), (0.0, "0.0%"), (4e-4, "<0.1%")],
)
def test_what_is_not_certain_is_never_shown_as_certain(probability: float, shown: str) -> None:
    assert show_probability(probability) == shown

"""The page of a probe: models and methods side by side, accuracy by shots, and the worst classes."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitsmith.amounts import duration_text
from vitsmith.errors import MissingPackageError, about
from vitsmith.escapes import shell_quoted
from vitsmith.files.atomic import write_text
from vitsmith.machine import describe_machine
from vitsmith.probing.result import ModelProbe, Probed, worst_classes
from vitsmith.report.figure import LIGHT, Theme, add_legend, dress, new_figure, picture, short_name
from vitsmith.report.page import Command, Figure, Headline, Report, Section, Table, render
from vitsmith.report.run_facts import command_of, interval_text, versions_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

WORST = 20
"""Classes in the table of the worst."""
_MOST_CURVES = 6
_UNBROKEN = "\N{NO-BREAK SPACE}"
_MARKERS = "os^Dv*"
_STYLES = ("-", "--", ":", "-.", "-", "--")


def write_report(result: Probed, folder: Path) -> Path:
    """Writes `report.html` into the run's folder. Raises OutputError."""
    page = folder / "report.html"
    write_text(page, render(make_probe_report(result, folder, command_of(folder))))
    return page


def make_probe_report(result: Probed, folder: Path, command: str) -> Report:
    """The page. Without matplotlib it has the table of shots alone, and says how to get the figure."""
    sections = [_models(result)]
    if shots := _shots(result):
        sections.append(shots)
    if worst := _worst(result):
        sections.append(worst)
    if notes := _notes(result):
        sections.insert(0, Section("What to look at", notes=notes))
    return Report(
        title=f"Frozen features on {result.data}",
        summary=_summary(result),
        headlines=_headlines(result),
        sections=tuple(sections),
        commands=_commands(result),
        facts=_facts(result, folder, command),
    )


def draw_shots(models: Sequence[ModelProbe], theme: Theme = LIGHT) -> Drawing:
    """Draws the mean accuracy of prototypes over the shots, with the band of its 95% intervals."""
    figure = new_figure(theme)
    axes = figure.subplots()
    colours = (theme.first, theme.second, theme.faint)
    for at, model in enumerate(models[:_MOST_CURVES]):
        rows = model.shots
        counts = [row.shots for row in rows]
        colour = colours[at % len(colours)]
        axes.plot(
            counts,
            [100 * row.accuracy for row in rows],
            color=colour,
            marker=_MARKERS[at],
            linestyle=_STYLES[at],
            label=short_name(model.name),
        )
        low, high = ([100 * row.interval[end] for row in rows] for end in (0, 1))
        axes.fill_between(counts, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    every = sorted({row.shots for model in models for row in model.shots})
    axes.set_xticks(every, [str(count) for count in every])
    axes.minorticks_off()
    dress(axes, theme, x="training images of each class", y="held-out top-1 (%)")
    add_legend(axes, theme, loc="lower right")
    return figure


def _summary(result: Probed) -> str:
    best = result.best.score("logistic")
    models = f"{len(result.models)} models" if len(result.models) > 1 else result.models[0].name
    told = (
        f"Features of {models}, frozen, on {result.train_images:,} training images of {len(result.classes)} classes; "
        f"scored on {result.held_out_images:,} held-out images."
    )
    if best is None:
        return told
    return f"{told} A linear probe on {result.best.name} is right on {best.accuracy:.1%} of them."


def _headlines(result: Probed) -> tuple[Headline, ...]:
    best = result.best
    lines = [
        Headline(f"{one.accuracy:.1%}", f"{one.method}, top-1", interval_text(one.interval)) for one in best.scores
    ]
    seconds = best.seconds + best.fitting_seconds
    cached = f"{best.cached:,} images from the cache" if best.cached else ""
    return (*lines, Headline(duration_text(seconds), "features and fits", cached))


def _models(result: Probed) -> Section:
    columns, rows = result.table()
    text = (
        "Shares of the held-out images, with 95% intervals (Wilson). Everything that is chosen, the k of k-NN and the "
        "regularisation of ridge and logistic regression, is chosen by cross-validation on the training images."
    )
    if len(result.models) > 1:
        text += f" The model marked with * is the best {result.chosen}; the held-out images do not choose."
    whole = tuple((row[0], *map(_with_whole_interval, row[1:])) for row in rows)
    return Section("Models and methods", text=text, table=Table(columns, whole, wide=True))


def _with_whole_interval(cell: str) -> str:
    """'91.2% (89.0 to 93.1)', which may break before its bracket alone."""
    share, bracket, interval = cell.partition(" (")
    return f"{share}{bracket}{interval.replace(' ', _UNBROKEN)}"


def _shots(result: Probed) -> Section | None:
    models = [one for one in result.models if one.shots]
    if not models:
        return None
    rows = [
        (
            f"{model.name}, {row.shots}",
            f"{row.accuracy:.1%}",
            f"{100 * row.interval[0]:.1f} to {100 * row.interval[1]:.1f}",
        )
        for model in models
        for row in model.shots
    ]
    table = Table(("model, images a class", "top-1", "95% interval"), tuple(rows))
    text = "The class whose mean of so many training images is nearest; the images are drawn anew many times."
    try:
        drawn = picture(
            lambda theme: draw_shots(models, theme),
            "Held-out top-1 accuracy over the number of training images of each class.",
        )
    except MissingPackageError as error:
        return Section("With few images", text=f"{text} For the figure: {error}", table=table)
    caption = "The band holds the interval of each mean."
    more = f" The first {_MOST_CURVES} models." if len(models) > _MOST_CURVES else ""
    return Section(
        "With few images", text=text, figures=(Figure("Accuracy by shots", drawn, caption + more),), table=table
    )


def _worst(result: Probed) -> Section | None:
    rows = tuple((name, f"{share:.1%}") for name, share in worst_classes(result, WORST))
    if not rows:
        return None
    caption = f"The linear probe on {result.best.name}: the {len(rows)} classes with the lowest accuracy."
    return Section("Worst classes", table=Table(("class", "accuracy"), rows, caption))


def _notes(result: Probed) -> tuple[str, ...]:
    notes = [*result.told, result.no_bundle]
    notes += [f"not probed: {about(one.name, one.reason)}" for one in result.failed]
    if result.gated is not None and result.gated.failures:
        notes.append(f"the bundle was refused: {'; '.join(result.gated.failures)}")
    notes += [f"{model.name}: {remark}" for model in result.models for remark in model.remarks]
    return tuple(note for note in notes if note)


def _commands(result: Probed) -> tuple[Command, ...]:
    if result.bundle is None:
        return ()
    bundle, data = shell_quoted(str(result.bundle.folder)), shell_quoted(result.data)
    return (
        Command("Classify images:", f"vitsmith predict {bundle} IMAGES"),
        Command("A program that needs no torch:", f"vitsmith export {bundle} --to onnx --data {data}"),
        Command("Train all of its weights:", f"vitsmith train {data} --model {bundle}"),
    )


def _facts(result: Probed, folder: Path, command: str) -> tuple[tuple[str, str], ...]:
    times = "; ".join(
        f"{one.name} {duration_text(one.seconds)} for features, {duration_text(one.fitting_seconds)} for the rest"
        for one in result.models
    )
    facts = (
        ("command", command),
        ("run folder", str(folder)),
        ("date", datetime.date.today().isoformat()),
        ("data", f"{result.data}: {result.train_images:,} for training, {result.held_out_images:,} held out"),
        ("logistic probe", f"{result.best.features}, {result.best.choice}"),
        ("time", times),
        ("machine", describe_machine()),
        ("versions", versions_text()),
    )
    return tuple((name, value) for name, value in facts if value)

"""The page of a run of `lit`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitsmith.amounts import duration_text
from vitsmith.data.sets.pairs import PairSplits
from vitsmith.errors import MissingPackageError
from vitsmith.escapes import shell_quoted
from vitsmith.files.atomic import write_text
from vitsmith.models.build import count_parameters
from vitsmith.models.lit import LiT
from vitsmith.report.figure import LIGHT, Theme, add_legend, dress, new_figure, picture
from vitsmith.report.page import Command, Figure, Headline, Report, Section, Table, render
from vitsmith.report.plots import draw_loss
from vitsmith.report.run_facts import command_of, facts_of_run, interval_text
from vitsmith.training.lit.result import LitResult
from vitsmith.training.lit.run import LitTrained
from vitsmith.training.monitor.events import LitEvaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


def write_lit_report(trained: LitTrained, pairs: PairSplits, folder: Path) -> Path:
    """Writes `report.html` into the run's folder. Raises OutputError."""
    page = folder / "report.html"
    write_text(page, render(make_lit_report(trained, pairs, folder, command_of(folder))))
    return page


def make_lit_report(trained: LitTrained, pairs: PairSplits, folder: Path, command: str) -> Report:
    """The page. Without matplotlib it has a table where its figures would be, and says how to get them."""
    warnings = tuple(f"step {warned.step:,}: {warned.message}" for warned in trained.result.warnings)
    sections = [Section("What to look at", notes=warnings)] if warnings else []
    sections.append(_learning(trained.result))
    sections += [Section("How the towers were read", notes=trained.told)] if trained.told else []
    return Report(
        title=f"A text tower for {trained.recipe.image.init}",
        summary=_summary(trained, pairs),
        headlines=_headlines(trained),
        sections=tuple(sections),
        commands=_commands(folder),
        facts=_facts(trained, pairs, folder, command),
    )


def draw_recall(evaluations: Sequence[LitEvaluation], theme: Theme = LIGHT) -> Drawing:
    """Draws recall@1 in both directions over the updates, and accuracy on unseen combinations where there is one."""
    figure = new_figure(theme)
    axes = figure.subplots()
    steps = [each.step for each in evaluations]
    axes.plot(
        steps, [100 * each.image_to_text[1] for each in evaluations], color=theme.first, marker="o", label="to text"
    )
    axes.plot(
        steps, [100 * each.text_to_image[1] for each in evaluations], color=theme.second, marker="s", label="to image"
    )
    unseen = [(each.step, 100 * each.unseen) for each in evaluations if each.unseen is not None]
    if unseen:
        at, shares = zip(*unseen, strict=True)
        axes.plot(at, shares, color=theme.faint, marker="^", linestyle="--", label="unseen, top-1")
    axes.set_ylim(0, 101)
    axes.locator_params(axis="x", integer=True)
    dress(axes, theme, x="updates", y="recall@1, top-1 (%)")
    add_legend(axes, theme, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure


def _learning(result: LitResult) -> Section:
    first, last, final = result.history[0], result.history[-1], result.final
    try:
        loss = Figure(
            "Training loss and learning rate",
            picture(
                lambda theme: draw_loss(result.history, theme),
                f"Training loss from {first.loss:.2f} at the first update to {last.loss:.2f} at update {last.step}.",
            ),
            "Contrastive loss of each batch; lower is better. How low it can be depends on the size of the batch.",
        )
        recall = Figure(
            "Recall on held-out pairs",
            picture(
                lambda theme: draw_recall(result.evaluations, theme),
                f"Recall at 1 at {len(result.evaluations)} points of the training, at the end "
                f"{final.image_to_text[1]:.1%} from image to text and {final.text_to_image[1]:.1%} from text to image.",
            ),
            f"Among {final.num_images:,} images and {final.num_captions:,} captions that are not used for training.",
        )
    except MissingPackageError as error:
        return Section("How it learned", text=f"Figures are left out: {error}", table=_recall_table(result.evaluations))
    return Section("How it learned", figures=(loss, recall), table=_recall_table(result.evaluations))


def _recall_table(evaluations: Sequence[LitEvaluation]) -> Table:
    """A row for each evaluation, at most the last twenty."""
    rows = []
    for each in evaluations[-20:]:
        shares = (each.image_to_text[1], each.image_to_text[5], each.text_to_image[1], each.text_to_image[5])
        unseen = "" if each.unseen is None else f"{each.unseen:.1%}"
        rows.append((f"{each.step:,}", *(f"{share:.1%}" for share in shares), unseen))
    columns = ("update", "to text @1", "to text @5", "to image @1", "to image @5", "unseen top-1")
    has_unseen = evaluations[-1].unseen is not None
    return Table(
        columns if has_unseen else columns[:-1],
        tuple(row if has_unseen else row[:-1] for row in rows),
        "Held-out recall.",
    )


def _summary(trained: LitTrained, pairs: PairSplits) -> str:
    recipe, final, model = trained.recipe, trained.result.final, trained.bundle.model
    assert isinstance(model, LiT)
    text = (
        f"A text tower of {count_parameters(model.text):,} weights learned to fit the locked image tower of "
        f"{recipe.image.init}, in {len(trained.result.history):,} updates of {recipe.batch.size:,} pairs, from "
        f"{len(pairs.train):,} images with {len(pairs.train.classes):,} captions. For {final.image_to_text[1]:.1%} of "
        f"{final.num_images:,} held-out images, the closest of {final.num_captions:,} captions is their own."
    )
    if final.unseen is not None:
        text += f" It classifies {final.unseen:.1%} of {final.num_unseen_images:,} images of unseen combinations right."
    return text


def _headlines(trained: LitTrained) -> tuple[Headline, ...]:
    final, history = trained.result.final, trained.result.history
    headlines = []
    if final.unseen is not None and final.unseen_interval is not None:
        note = f"of {final.num_unseen_images:,} images; {interval_text(final.unseen_interval)}"
        headlines.append(Headline(f"{final.unseen:.1%}", "unseen combinations, zero-shot", note))
    headlines += [
        Headline(f"{final.image_to_text[1]:.1%}", "image to text, recall@1", interval_text(final.image_interval)),
        Headline(f"{final.text_to_image[1]:.1%}", "text to image, recall@1", interval_text(final.text_interval)),
    ]
    rate = statistics.median(done.images_per_second for done in history)
    seconds = sum(trained.recipe.batch.size / done.images_per_second for done in history)
    seconds += sum(each.seconds for each in trained.result.evaluations)
    headlines += [
        Headline(f"{rate:,.0f}", "pairs/s", "median over the updates"),
        Headline(duration_text(seconds), "training time", "with evaluations, without embedding the images"),
    ]
    return tuple(headlines)


def _commands(folder: Path) -> tuple[Command, ...]:
    bundle = shell_quoted(str(folder / "model"))
    return (
        Command("Classify images with words:", f'vitsmith zeroshot {bundle} IMAGES --labels "cat,dog"'),
        Command("Make images searchable by text:", f"vitsmith embed {bundle} IMAGES --out embeddings"),
    )


def _facts(trained: LitTrained, pairs: PairSplits, folder: Path, command: str) -> tuple[tuple[str, str], ...]:
    similarity = trained.bundle.similarity
    learnt = f"temperature {similarity.temperature:.4g}"
    if similarity.bias is not None:
        learnt += f", bias {similarity.bias:.4g}"
    images = f"{len(pairs.train):,} for training, {len(pairs.val):,} held out"
    return facts_of_run(trained.recipe, folder, command, images, ("similarity", learnt))

"""`vitsmith lit`: a text tower for a locked image tower, from captioned images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.arguments.inputs import choices_of, either_data
from vitsmith.cli.arguments.options import (
    DataAgainOption,
    ForceOption,
    JsonOption,
    OutOption,
    RateOption,
    ReadAsOption,
    RecipeOption,
    ResumeOption,
    SetOption,
    StepsOption,
    UpdateSizeOption,
    data_argument,
    read_as_option,
    seed_option,
)
from vitsmith.cli.terminal.output import beside, print_json, print_line, say
from vitsmith.escapes import shell_quoted
from vitsmith.needs_torch import require_torch

if TYPE_CHECKING:
    from vitsmith.cli.terminal.training_progress import TrainingDisplay
    from vitsmith.training.lit.run import LitTrained
    from vitsmith.training.recipes.lit import LitRecipe

VERB = "lit"


def lit(
    data: Annotated[str, data_argument("table with captions, tar shards, or 'shapes', which is built in")] = "",
    model: Annotated[str, typer.Option(help="Image tower: a ViT, hybrid or LiT model; it stays frozen.")] = "",
    read_as: ReadAsOption = None,
    recipe: RecipeOption = "",
    text_model: Annotated[
        str, typer.Option(help="LiT model whose text tower is the start; default: fresh weights.")
    ] = "",
    text_read_as: Annotated[list[str] | None, read_as_option("a text model", "--text-read-as")] = None,
    vocabulary: Annotated[
        str, typer.Option(help="WordPiece .txt or SentencePiece .model; default: learnt from the captions.")
    ] = "",
    steps: StepsOption = None,
    batch_size: UpdateSizeOption = None,
    lr: RateOption = None,
    seed: Annotated[int | None, seed_option("weights, split and order")] = None,
    set_: SetOption = None,
    data_: DataAgainOption = "",
    resume: ResumeOption = None,
    out: OutOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Train a text tower for a frozen image tower from captions; write a LiT bundle and a report."""
    require_torch()
    from vitsmith.cli.arguments import training
    from vitsmith.training.recipes.file import merge, parse_settings
    from vitsmith.verbs.recipe import common_fields, make_lit_recipe, without_empty

    given = common_fields(data=either_data(data, data_), steps=steps, batch_size=batch_size, lr=lr, seed=seed)
    given["image"] = {"init": model, "read_as": choices_of(read_as)}
    chosen = choices_of(text_read_as, "--text-read-as")
    given["text"] = {"init": text_model, "read_as": chosen, "vocabulary": vocabulary}
    changes = merge(without_empty(given), parse_settings(set_ or []))
    if resume is not None:
        training.check_resumed_in_place(resume, out, force=force)
        _resume(resume, recipe, changes, json=json)
    else:
        _begin(make_lit_recipe(recipe or VERB, changes), out, force=force, json=json)


def _begin(recipe: LitRecipe, out: Path | None, *, force: bool, json: bool) -> None:
    from vitsmith.training.lit.run import lit_to_bundle
    from vitsmith.verbs.new_run import new_lit_run

    with new_lit_run(recipe, out, force=force, tell=say) as begun:
        with _shown(begun.recipe, begun.devices, begun.folder, begun.data) as shown:
            trained = lit_to_bundle(
                begun.recipe,
                begun.data,
                begun.run,
                devices=begun.devices,
                on_event=shown.on_event,
                on_start=shown.say,
            )
        if begun.folder is not None:
            _finish(trained, begun.folder, begun.data, json=json)


def _resume(folder: Path, name: str, changes: dict[str, Any], *, json: bool) -> None:
    from vitsmith.data.sets.pairs import open_pairs
    from vitsmith.runs.run import Run
    from vitsmith.training.devices import found_devices
    from vitsmith.training.lit.run import lit_recipe_of, resume_lit
    from vitsmith.training.recipes.file import check_same, merge, parse_fields, read_recipe
    from vitsmith.training.recipes.lit import LitRecipe

    recipe = lit_recipe_of(folder)
    named = read_recipe(name, VERB) if name else {}
    check_same(recipe, parse_fields(merge(recipe.model_dump(mode="json"), named, changes), LitRecipe), folder)
    with found_devices() as devices:
        pairs = open_pairs(recipe.data, seed=recipe.run.seed, tell=say if devices.main else None)
        with Run.reopen(folder) if devices.main else nullcontext() as run:
            with _shown(recipe, devices, folder, pairs) as shown:
                trained = resume_lit(folder, pairs, run, devices=devices, on_event=shown.on_event, on_start=shown.say)
            if run is not None:
                _finish(trained, folder, pairs, json=json)


@contextmanager
def _shown(recipe: LitRecipe, devices: Any, folder: Path | None, pairs: Any) -> Iterator[TrainingDisplay]:
    """The run on the terminal; says how to go on with one that was interrupted before its first checkpoint."""
    from vitsmith.cli.terminal.training_progress import TrainingDisplay
    from vitsmith.errors import Interrupted

    shown = TrainingDisplay(recipe, devices, folder, VERB)
    unseen = f", {len(pairs.unseen):,} images of unseen combinations" if pairs.unseen is not None else ""
    shown.say(
        f"{len(pairs.train):,} training pairs with {len(pairs.train.classes):,} captions, {len(pairs.val):,} held out"
        f"{unseen}"
    )
    try:
        with shown:
            yield shown
    except KeyboardInterrupt:
        if folder is None or not any((folder / "embeddings").glob("*")):
            raise
        raise Interrupted(
            f"interrupted; image embeddings are kept: go on with  vitsmith {VERB} --resume {shell_quoted(str(folder))}"
        ) from None


def _finish(trained: LitTrained, folder: Path, pairs: Any, *, json: bool) -> None:
    report = folder / "report.html"
    with beside("the report"):
        from vitsmith.report.lit import write_lit_report

        write_lit_report(trained, pairs, folder)
    final, bundle = trained.result.final, trained.bundle.folder
    if json:
        result: dict[str, Any] = {
            "bundle": str(bundle),
            "image_to_text": {f"recall@{k}": share for k, share in final.image_to_text.items()},
            "text_to_image": {f"recall@{k}": share for k, share in final.text_to_image.items()},
            "num_images": final.num_images,
            "num_captions": final.num_captions,
        }
        if final.unseen is not None and final.unseen_interval is not None:
            result |= {"unseen_top1": final.unseen, "unseen_top1_interval": list(final.unseen_interval)}
        print_json(result | {"report": str(report) if report.exists() else None})
        return
    for name, shares, interval in (
        ("image to text", final.image_to_text, final.image_interval),
        ("text to image", final.text_to_image, final.text_interval),
    ):
        rest = ", ".join(f"@{k} {share:.2%}" for k, share in shares.items() if k != 1)
        print_line(f"{name}  recall@1 {shares[1]:.2%} (95% interval {_ends(interval)}), {rest}")
    if final.unseen is not None and final.unseen_interval is not None:
        print_line(f"unseen         zero-shot top-1 {final.unseen:.2%} (95% interval {_ends(final.unseen_interval)})")
    typed = shell_quoted(str(bundle))
    print_line(f"bundle  {bundle}")
    if report.exists():
        print_line(f"report  {report}")
    print_line(f'next    vitsmith zeroshot {typed} IMAGES --labels "cat,dog"')
    print_line(f"        vitsmith embed {typed} IMAGES --out embeddings")


def _ends(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.2%} to {interval[1]:.2%}"

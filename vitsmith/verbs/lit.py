"""`vitsmith.lit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from vitsmith.arguments import Tell, named_arguments, warn
from vitsmith.files.atomic import optional
from vitsmith.needs_torch import require_torch
from vitsmith.training.recipes.file import merge
from vitsmith.verbs.new_run import new_lit_run
from vitsmith.verbs.recipe import Location, asked_fields, make_lit_recipe, text_of, without_empty

if TYPE_CHECKING:
    from vitsmith.training.lit.run import LitTrained


@named_arguments
def lit(
    data: Location = "",
    model: Location = "",
    *,
    text_model: Location = "",
    vocabulary: Location = "",
    recipe: Location = "lit",
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Location | None = None,
    force: bool = False,
    tell: Tell = warn,
    on_event: Callable[[Any], None] = lambda _: None,
) -> LitTrained:
    """Trains a text tower for a frozen image tower from captions; `bundle` is the LiT model that was written.

    Args:
        data: a table with captions, tar shards, or 'shapes', which is built in.
        model: the image tower. `text_model`: a LiT model whose text tower is the start; default: fresh weights.
        vocabulary: WordPiece .txt or SentencePiece .model; default: learnt from the captions.
        settings: as for `train`, like all other arguments.
    """
    require_torch()
    from vitsmith.training.lit.run import lit_to_bundle

    asked = asked_fields(data, settings, steps=steps, batch_size=batch_size, lr=lr, seed=seed)
    text = {"init": text_of(text_model, "text_model"), "vocabulary": text_of(vocabulary, "vocabulary")}
    towers = {"image": {"init": text_of(model, "model")}, "text": text}
    chosen = make_lit_recipe(recipe, merge(without_empty(towers), asked))
    with new_lit_run(chosen, out, force=force, tell=tell) as begun:
        trained = lit_to_bundle(
            begun.recipe, begun.data, begun.run, devices=begun.devices, on_event=on_event, on_start=tell
        )
        if begun.folder is not None:
            with optional("the report"):
                from vitsmith.report.lit import write_lit_report

                write_lit_report(trained, begun.data, begun.folder)
    return trained

"""`vitsmith export`: a program for another engine, behind the gate."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitsmith.cli.output import JsonOption, print_facts, print_json, say

if TYPE_CHECKING:
    from vitsmith.data.images import Pixels


class Target(StrEnum):
    """What can be written."""

    onnx = "onnx"
    npz = "npz"


def export(
    model: Annotated[str, typer.Argument(help="A bundle of torch weights, a checkpoint or a published name.")],
    to: Annotated[Target, typer.Option(help="onnx: a bundle for onnxruntime; npz: the original's names and layouts.")],
    out: Annotated[Path | None, typer.Option(help="Where to write; default runs/export/<name>-<target>.")] = None,
    images: Annotated[
        list[str] | None, typer.Option(help="Files or folders of your images for the gate; may be repeated.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is at --out.")] = False,
    json: JsonOption = False,
) -> None:
    """Export a model. The result is compared with the original first; if it differs, nothing is written (exit 3)."""
    from vitsmith.errors import InputError, OutputError
    from vitsmith.files import check_writable, new_folder
    from vitsmith.runs import model_name
    from vitsmith.weights.checkpoints import load, save

    if to is Target.npz and images:
        raise InputError("--images are for the gate of --to onnx; an .npz holds the same weights and needs none")
    if out is not None and out.exists() and not force:
        raise OutputError(f"{out} exists: choose another --out, or replace it with --force")
    if out is not None:
        check_writable(out)
    bundle = load(model)
    gate_images = _read_images(images or [])
    name = f"{model_name(model)}-{to.value}"
    if to is Target.npz:
        target = out or new_folder(Path("runs") / "export" / name) / f"{name}.npz"
        save(bundle, target, format="npz")
        facts = {"written": str(target)}
    else:
        from vitsmith.export.onnx import export_onnx

        target = out or new_folder(Path("runs") / "export" / name) / "model"
        say("exporting and checking; this takes a few seconds to a minute")
        exported, verdict = export_onnx(bundle, target, images=gate_images or None)
        facts = {
            "written": str(exported.folder),
            "checked on": f"{verdict.images} images in batches of 1, 2 and 7",
            "difference": f"{verdict.relative:.2g} of the largest output",
            "top-1 agreement": f"{verdict.agreement:.1%}",
        }
    if json:
        print_json(facts)
    else:
        print_facts(facts.items())


def _read_images(arguments: list[str]) -> list[Pixels]:
    from vitsmith.cli.predict import expand
    from vitsmith.data.images import read_image

    return [read_image(source) for source in expand(arguments)]

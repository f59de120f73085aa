"""`vitsmith models`: the architectures and published weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from vitsmith.cli.arguments.completion import architectures
from vitsmith.cli.arguments.options import JsonOption
from vitsmith.cli.choice.augreg import show_augreg
from vitsmith.cli.terminal.costs import costs_of, print_costs
from vitsmith.cli.terminal.output import print_facts, print_json, print_line, print_table


def models(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ARCHITECTURE",
            help="Architecture, in any spelling; or augreg, the table of its checkpoints; default: list all.",
            autocompletion=architectures,
        ),
    ] = "",
    family: Annotated[
        str, typer.Option(metavar="FAMILY", help="Only this family: vit, hybrid, mixer, lit, clip, siglip, dinov2, ...")
    ] = "",
    license: Annotated[
        str,
        typer.Option(metavar="LICENSE", help="Only those whose first weights have this licence: Apache-2.0, MIT, ..."),
    ] = "",
    index: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With augreg: its index.csv; default: that in the cache.")
    ] = None,
    where: Annotated[
        str, typer.Option(metavar="CONDITION", help="With augreg: which rows, as  name == 'B/16' and wd <= 0.03.")
    ] = "",
    by: Annotated[
        str, typer.Option(metavar="COLUMNS", help="With augreg: the best of each of these, as name,adapt_resolution.")
    ] = "",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With augreg: a picture, .png: accuracy against speed.")
    ] = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="Predict its time, memory and size on a calibrated machine.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="With --cost: images in a call.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="With --cost: processor threads; default: all that were calibrated.")
    ] = None,
    machine: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --cost: profile of another machine, from calibrate --out.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the architectures, or one of them with its published weights."""
    from vitsmith.errors import InputError

    if name == "augreg":
        if family or license or cost:
            raise InputError("`family`, `license` and `cost` are for architectures: leave them out with augreg")
        show_augreg(index, where, by, plot, json=json)
        return
    if index is not None or where or by or plot is not None:
        raise InputError("`index`, `where`, `by` and `plot` are for the table of AugReg:  vitsmith models augreg")
    if not cost and (batch_size != 1 or threads is not None or machine is not None):
        raise InputError("`batch_size`, `threads` and `machine` are for `cost`: give --cost too")
    if cost and not name:
        raise InputError("`cost` needs the name of an architecture: vitsmith models ViT-B_16 --cost")
    if cost:
        _show_cost(name, batch=batch_size, threads=threads, machine=machine, json=json)
    elif name:
        _show_one(name, json=json)
    else:
        _show_all(family, license, json=json)


def _show_cost(name: str, *, batch: int, threads: int | None, machine: Path | None, json: bool) -> None:
    """What an architecture costs on a calibrated machine."""
    from vitsmith.models.configure import configure
    from vitsmith.models.presets import find_preset

    preset, size = find_preset(name)
    config = configure(preset.name, image_size=size) if size else preset.config
    told, costs = costs_of(config, batch=batch, threads=threads, machine=machine)
    if json:
        print_json({**_describe(preset, size), "machine": told, "costs": costs})
    else:
        print_costs(told, costs)


def _show_one(name: str, *, json: bool) -> None:
    """An architecture with its published weights."""
    from vitsmith.models.presets import find_preset
    from vitsmith.weights.fetch.hub.known_models import weights_of

    preset, size = find_preset(name)
    row = _describe(preset, size)
    checkpoints, hub = _checkpoints(preset.name), weights_of(preset.name)
    if json:
        more = {"hub": list(hub)} if hub else {}
        print_json({**row, "config": preset.config.model_dump(mode="json"), "checkpoints": checkpoints, **more})
    else:
        _print_one(row, checkpoints, hub, features=getattr(preset.config, "classes", None) == 0)


def _show_all(family: str, license: str, *, json: bool) -> None:
    """All architectures, or those of a family or a licence."""
    from vitsmith.arguments import known_name
    from vitsmith.models.presets import presets

    chosen = list(presets().values())
    if family:
        known_name(family, "family", dict.fromkeys(one.family for one in chosen))
    if license:
        known_name(license, "licence", dict.fromkeys(one.license for one in chosen))
    rows = [_describe(one, None) for one in chosen if family in ("", one.family) and license in ("", one.license)]
    if json:
        print_json(rows)
        return
    columns = ("model", "family", "parameters", "GFLOPs", "weights MiB", "published ImageNet top-1", "licence")
    cells = [
        (
            row["name"],
            row["family"],
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['gflops']:.1f}",
            f"{row['weights_mib']:.0f}",
            row["published"],
            row["license"],
        )
        for row in rows
    ]
    print_table(columns, cells, right=columns[2:5])
    print_line("1,000 classes and 224 pixels, or the features and the size of the first weights.")
    print_line("One multiply-add is two operations.")
    print_line("LiT, CLIP and SigLIP: image and text towers, zero-shot; DINOv2: a linear probe of its features.")
    print_line("The licence is that of the first weights.")
    print_line("More on one of them:  vitsmith models ViT-B_16")


def _describe(preset: Any, size: int | None) -> dict[str, Any]:
    from vitsmith.models.configure import configure
    from vitsmith.models.cost import flops, parameters

    config = configure(preset.name, image_size=size) if size else preset.config
    count = parameters(config)
    return {
        "name": preset.name,
        "family": preset.family,
        "image_size": list(config.image_size),
        "parameters": count,
        "gflops": flops(config) / 1e9,
        "weights_mib": count * 4 / 2**20,
        "published": _best_published(preset.name),
        "license": preset.license,
    }


def _best_published(name: str) -> str:
    from vitsmith.weights.fetch.published import accuracies, checkpoints_of

    told = [(row.accuracy, row.resolution) for row in checkpoints_of(name) if row.accuracy is not None]
    told += [(row.accuracy, row.resolution) for row in accuracies() if row.model == name]
    if not told:
        return ""
    accuracy, resolution = max(told)
    return f"{accuracy:.2f} % at {resolution}"


def _checkpoints(name: str) -> list[dict[str, Any]]:
    from vitsmith.weights.fetch.published import checkpoints_of

    return [row.model_dump() for row in checkpoints_of(name)]


def _print_one(row: dict[str, Any], checkpoints: list[dict[str, Any]], hub: Sequence[str], *, features: bool) -> None:
    """`features` says that the weights have no head."""
    height, width = row["image_size"]
    print_facts(
        [
            ("model", row["name"]),
            ("family", row["family"]),
            ("parameters", f"{row['parameters']:,}"),
            ("operations", f"{row['gflops']:.2f} GFLOPs at {height}x{width}"),
            ("weights", f"{row['weights_mib']:.1f} MiB in float32"),
            ("licence", row["license"] and f"{row['license']}, of the first weights"),
        ]
    )
    if hub:
        print_table(("weights of the Hugging Face hub",), [(source,) for source in hub])
        print_line(f"Load one:  vitsmith.load({hub[0]!r}{', headless=True' if features else ''})")
        return
    if not checkpoints:
        print_line("No published checkpoints.")
        return
    columns = ("checkpoint", "trained on", "pixels", "classes", "MiB", "ImageNet top-1")
    cells = [
        (
            one["tag"],
            one["dataset"],
            one["resolution"],
            one["classes"],
            one["size_mib"] and f"{one['size_mib']:.0f}",
            one["accuracy"] and f"{one['accuracy']:.2f} %",
        )
        for one in checkpoints
    ]
    print_table(columns, cells, right=columns[2:])
    print_line(f"Load one:  vitsmith.load({checkpoints[0]['tag']!r})")

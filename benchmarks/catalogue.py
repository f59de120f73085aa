"""Which published figures are of models that `load` takes? Writes the catalogue of `vitsmith recommend`.

    pip install timm open_clip_torch transformers
    python benchmarks/catalogue.py ../shared/published-accuracy.csv [--write] [--out benchmarks/results/FILE.md]

Each row of the table is a published figure of a checkpoint. Its architecture is built by the library that publishes it
on the meta device, whole, and our reader makes a configuration from the names and shapes of its arrays and the JSON
that lies beside them on the hub. A row is taken if

- every array of the architecture, at its full depth, fills a parameter of ours
- timm and open_clip: two blocks of it with random weights give the same outputs in both (benchmarks/timm_coverage.py,
  benchmarks/open_clip_coverage.py); Google's files and Hugging Face's are compared by other benchmarks, whole
- image size, crop and interpolation that `load` takes are those of the published figure
- the number of parameters is the published one, where the table has it

What is not taken is listed with the reason. `--write` writes checkpoints.csv and configurations.json of
vitsmith/choosing/. Where one checkpoint has several figures, the first of these counts: timm's of timm's conversion,
the authors' of their own file.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from catalogue_licences import licence_of
from catalogue_readers import Reading, UnreadError, read_google, read_hf, read_open_clip, read_timm
from catalogue_sources import source_of
from timm_coverage import apart, check
from timm_reads_our_npz import stand_in_for_torchvision

from vitsmith.choosing.catalogue import METRICS
from vitsmith.errors import InputError
from vitsmith.machine import describe_machine
from vitsmith.models.config import LiTConfig, ModelConfig
from vitsmith.models.configure import parse_config
from vitsmith.models.cost import flops
from vitsmith.weights.fetch.hub.google_copies import copy_of_url
from vitsmith.weights.fetch.published import checkpoints

FOLDER = Path(__file__).resolve().parents[1] / "vitsmith/choosing"
COLUMNS = {"imagenet": "top1_imagenet", "imagenet-real": "top1_imagenet_real", "imagenet-v2": "top1_imagenet_v2"}
COLUMNS |= {"imagenet-a": "top1_imagenet_a", "imagenet-r": "top1_imagenet_r", "imagenet-sketch": "top1_sketch"}
ENDINGS = {"zero-shot": "-zeroshot", "k-NN (frozen)": "-knn", "linear probe (frozen)": "-linear"}
"""Kinds of evaluation of the table -> what our metrics are called."""

NO_RESOLUTION = "its publisher does not say at what image size the figures were measured"


@dataclass(frozen=True)
class Figure:
    """One row of the table, and what it is of."""

    row: dict[str, str]
    source: str
    """What `load` takes."""

    @property
    def accuracy(self) -> dict[str, float]:
        ending = ENDINGS.get(self.row["eval_kind"], "")
        found = {f"{metric}{ending}": self.row[column] for metric, column in COLUMNS.items() if self.row[column]}
        return {metric: float(told) for metric, told in found.items() if metric in METRICS}


@dataclass(frozen=True)
class Row:
    """A row of the catalogue."""

    source: str
    reading: Reading
    accuracy: dict[str, float]
    accuracy_source: str
    licence: tuple[str, bool | None, str]
    note: str = ""
    figures: tuple[Figure, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        bare = self.source.removesuffix("/open_clip_model.safetensors")
        return bare.partition("/")[2] if bare.startswith("hf:") else bare

    @property
    def tasks(self) -> str:
        config = self.reading.config
        return "zeroshot embed" if isinstance(config, LiTConfig) else "classify" if config.classes else "embed"


def reading_of(figure: Figure) -> Reading:
    """What `load` makes of the checkpoint. Raises InputError."""
    row, source = figure.row, figure.source
    if "open_clip" in row["source"] and not source.startswith("hf:openai/"):
        return read_open_clip(row["model"], row["tag"])
    if source.startswith("hf:timm/"):
        return read_timm(source.removeprefix("hf:timm/"))
    return read_hf(source) if source.startswith("hf:") else read_google(source)


def check_figure(figure: Figure, reading: Reading) -> None:
    """Raises UnreadError where the published figure is of another size, preprocessing or number of parameters."""
    row, size = figure.row, reading.config.image_size
    if row["resolution"].isdigit() and size != (int(row["resolution"]),) * 2:
        raise UnreadError(f"load takes images of {size[0]}x{size[1]}, the figure is of {row['resolution']}")
    if row["crop_pct"] and reading.images is not None:
        ours = (f"{reading.images.crop:.3f}", reading.images.interpolation)
        if ours != (row["crop_pct"], row["interpolation"]):
            raise UnreadError(
                f"load preprocesses with {ours}, the figure is of {row['crop_pct']}, {row['interpolation']}"
            )
    if row["params_m"] and reading.parameters and abs(reading.parameters / 1e6 - float(row["params_m"])) > 0.006:
        raise UnreadError(f"{reading.parameters / 1e6:.2f} M parameters, published are {row['params_m']} M")


def rows_of(figures: list[dict[str, str]]) -> tuple[list[Row], list[tuple[str, str]]]:
    """The rows of the catalogue, and what was left out with its reason."""
    rows: dict[str, Row] = {}
    left: list[tuple[str, str]] = []
    for published in figures:
        told = f"{published['model']} {published['tag']}"
        try:
            figure = Figure(published, source_of(published))
            reading = reading_of(figure)
            check_figure(figure, reading)
            merge(rows, figure, reading)
        except InputError as error:
            left.append((told, str(error).partition(".safetensors: ")[2] or str(error)))
            print(f"{told:75} left out: {left[-1][1]}", flush=True)
    return without_twins(rows, left), left


def merge(rows: dict[str, Row], figure: Figure, reading: Reading) -> None:
    """Adds a figure to the row of its checkpoint. Raises UnreadError for a second one of a metric."""
    row = rows.get(figure.source)
    if row is None:
        note = "" if figure.row["resolution"].isdigit() else NO_RESOLUTION
        origin = figure.row["source"].partition(" (+real")[0]
        rows[figure.source] = Row(
            figure.source, reading, figure.accuracy, origin, licence_of(figure.source), note, (figure,)
        )
        return
    for metric, value in figure.accuracy.items():
        if metric in row.accuracy and row.accuracy[metric] != value:
            raise UnreadError(f"another figure of {figure.source}, {value} beside {row.accuracy[metric]}")
    known = row.figures[0].row
    if figure.accuracy.keys() <= row.accuracy.keys():
        raise UnreadError(f"the same checkpoint and figure as {known['model']} {known['tag']}")
    rows[figure.source] = replace(row, accuracy={**row.accuracy, **figure.accuracy}, figures=(*row.figures, figure))


def without_twins(rows: dict[str, Row], left: list[tuple[str, str]]) -> list[Row]:
    """The rows without files of Google's whose weights are also a row of timm's conversion: they are the same."""
    kept = []
    urls = {one.tag: one.url for one in checkpoints()}
    for source, row in rows.items():
        copy = copy_of_url(urls[source]) if source in urls else None
        if copy is not None and f"hf:{copy.name}" in rows:
            left.append((source, f"the weights of hf:{copy.name}, whose figure is of timm's preprocessing"))
        else:
            kept.append(row)
    return kept


def two_blocks(rows: list[Row]) -> Iterator[tuple[str, str]]:
    """(source, message) of rows of timm and open_clip whose two blocks do not give the library's outputs."""
    import open_clip
    from open_clip_coverage import answer

    tags = [row.name for row in rows if row.reading.library == "timm"]
    for told in apart(check, tags):
        print(f"{told.tag:60} {told.kind:8} {told.told}", flush=True)
        if told.kind != "ok":
            yield f"hf:timm/{told.tag}", f"two blocks: {told.kind}: {told.told}"
    models = {row.figures[0].row["model"]: row.source for row in rows if row.reading.library == "open_clip"}
    for model, source in models.items():
        found = answer(model, open_clip.get_model_config(model), whole=False)
        print(f"{model:60} {found.kind:8} {found.told}", flush=True)
        if found.kind != "ok":
            yield source, f"two blocks: {found.kind}: {found.told}"


def fields_of(config: ModelConfig) -> dict[str, object]:
    """The fields that are not the default, from which `parse_config` makes the same configuration."""
    fields = {"family": config.family, **config.model_dump(mode="json", exclude_defaults=True)}
    if isinstance(config, LiTConfig):
        fields["text"] = {"kind": config.text.kind, **fields["text"]}
    if parse_config(fields) != config:
        raise SystemExit(f"{config} is not what {fields} stands for")
    return fields


def in_order(rows: list[Row]) -> list[Row]:
    """Classifiers first, then those of words, then features; the most accurate first."""
    tasks = ("classify", "zeroshot embed", "embed")
    return sorted(rows, key=lambda row: (tasks.index(row.tasks), -next(iter(row.accuracy.values())), row.source))


def write(rows: list[Row]) -> None:
    configs: dict[str, dict[str, object]] = {}
    lines = []
    for row in rows:
        fields = fields_of(row.reading.config)
        name = next((name for name, known in configs.items() if known == fields), row.reading.architecture)
        if configs.setdefault(name, fields) != fields:
            raise SystemExit(f"two configurations of {name}: {fields} and {configs[name]}")
        licence, commercial, where = row.licence
        lines.append(
            {
                "source": row.source,
                "name": row.name,
                "configuration": name,
                **{metric: f"{row.accuracy[metric]:g}" if metric in row.accuracy else "" for metric in METRICS},
                "tasks": row.tasks,
                "licence": licence,
                "commercial": {True: "yes", False: "no", None: ""}[commercial],
                "licence_source": where,
                "accuracy_source": row.accuracy_source,
                "note": row.note,
            }
        )
    with (FOLDER / "checkpoints.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, lines[0], lineterminator="\n")
        table.writeheader()
        table.writerows(lines)
    text = ",\n".join(f"{json.dumps(name)}: {json.dumps(fields)}" for name, fields in configs.items())
    (FOLDER / "configurations.json").write_text(f"{{\n{text}\n}}\n", encoding="utf-8")


def report(rows: list[Row], left: list[tuple[str, str]]) -> list[str]:
    counts = Counter(row.tasks for row in rows)
    lines = [f"**{len(rows)} checkpoints** are taken, {len(left)} figures are left out.", ""]
    lines += [f"- {task}: {count}" for task, count in counts.items()]
    unknown = [row.source for row in rows if not row.licence[0]]
    lines += [f"- licence not known: {', '.join(unknown) or 'none'}", ""]
    counted = [row for row in rows if row.figures[0].row["gmacs"]]
    ratios = [(flops(row.reading.config) / 2e9 / float(row.figures[0].row["gmacs"]), row.name) for row in counted]
    lines += [
        f"Operations by `models/cost.py` over timm's published ones, {len(ratios)} rows: "
        f"{min(ratios)[0]:.4f} ({min(ratios)[1]}) to {max(ratios)[0]:.4f} ({max(ratios)[1]}).",
        "",
        "| left out | why |",
        "|---|---|",
    ]
    return [*lines, *(f"| {told} | {why} |" for told, why in left)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="published-accuracy.csv")
    parser.add_argument("--write", action="store_true", help="write the catalogue")
    parser.add_argument("--shapes", action="store_true", help="do not run two blocks of each architecture")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    import transformers

    stand_in_for_torchvision()
    import open_clip
    import timm

    with options.table.open(newline="", encoding="utf-8") as file:
        rows, left = rows_of(list(csv.DictReader(file)))
    if not options.shapes:
        wrong = dict(two_blocks(rows))
        left += wrong.items()
        rows = [row for row in rows if row.source not in wrong]
    rows = in_order(rows)
    if options.write:
        write(rows)
    text = report(rows, left)
    print("\n".join(text))
    if options.out:
        head = [
            "# The catalogue of `vitsmith recommend`",
            "",
            f"`python benchmarks/catalogue.py published-accuracy.csv`, {datetime.date.today()}, {describe_machine()}, "
            f"Python {platform.python_version()}, torch {torch.__version__}, timm {timm.__version__}, "
            f"open_clip {open_clip.__version__}, transformers {transformers.__version__}.",
            "",
        ]
        explained = ["", *("    " + line for line in __doc__.splitlines()[5:])]
        options.out.write_text("\n".join([*head, *text, *explained]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

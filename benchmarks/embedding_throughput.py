"""How fast are image features of DINOv3, SigLIP 2 and CLIP beside timm, transformers, open_clip and plain conversions?

    pip install 'vitsmith[export,openvino]' transformers ftfy regex && pip install --no-deps timm open_clip_torch
    python benchmarks/embedding_throughput.py [--only CLIP] [--rounds 5] [--threads 2] [--out FILE.md]
    python benchmarks/embedding_throughput.py --quick        one round of one image, to see that everything runs

Image towers of DINOv3-B/16, SigLIP2-B/16 and CLIP-B/32 at 224 pixels. One set of weights is in all rows of a family:
random values in every array of timm's model, loaded with `vitsmith.load` from the folder that timm saved, and copied
into the models of the other libraries (benchmarks/embedding_peers.py). Images are preprocessed photographs; only
inference is timed. In each round every row makes calls for --seconds, one at least, in turns, in one process, after a
call that is not timed; ratios are taken within a round; medians (lowest to highest) over rounds are shown.

- timm, transformers, open_clip: eager PyTorch in inference mode; open_clip's tower of SigLIP is timm's
- onnxruntime, plain: torch.onnx.export of timm's model with a dynamic batch, default session but for the threads
- openvino, plain: openvino.convert_model of timm's model at the very batch, default settings but for the threads;
  "fp32" says INFERENCE_PRECISION_HINT f32, "default" leaves it out, which is bf16 where the processor has it
- openvino, NNCF: nncf.quantize of that with ModelType.TRANSFORMER and otherwise defaults, on --calibration photographs
- products alone: the matrix products of the tower with its weights and nothing else (benchmarks/products_alone.py),
  converted in the same ways: what any program on these kernels could reach at most
- vitsmith: the bundle in the engine that runs it, opened for latency with one image, else for throughput; int8 is
  `vitsmith quantize`'s static scheme for OpenVINO on the same photographs, the rest in bf16 where the processor has it

Before it is timed, a row answers for 8 photographs: in fp32 the largest difference over the largest output of timm must
be at most 1e-4, else it is not timed; the lowest cosine with timm is shown. Weights are random: what bf16 and int8 do
to answers says nothing about trained weights, so int8 is a figure of speed only.

To reach: over the plain conversion in equal precision 1.05, int8 over plain NNCF 1.1, our fastest fp32 row over the
fastest eager peer 1.5. "At most" is the ratio of the products alone in that precision: where it is below what is to be
reached, no program on these kernels reaches it.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import platform
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from embedding_peers import FAMILIES, Family, timm_tower
from peers import rates, ratios, run_all, spread
from peers_programs import Array, Run, converted, onnx_run, openvino_run, our_runs, quantised, torch_run, write_bundles
from products_alone import ProductsAlone
from timm_reads_our_npz import stand_in_for_torchvision
from torch import nn

import vitsmith as vs
from vitsmith.compress.quantize.openvino import OpenVinoPrograms
from vitsmith.compress.quantize.schemes import Scheme
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.evaluation.timing import Pace, Timing, time_in_turns
from vitsmith.exporters.parts import parts_of
from vitsmith.gate import lowest_cosine, relative_difference
from vitsmith.machine import describe_machine
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import write_bundle

COMPARED = 8
LIMIT = 1e-4
EAGER = 1.5
ALONE = "products alone, "
PLAIN = {
    "vitsmith, onnx fp32": ("onnxruntime, plain fp32", "onnxruntime fp32", 1.05),
    "vitsmith, openvino fp32": ("openvino, plain fp32", "openvino fp32", 1.05),
    "vitsmith, openvino bf16": ("openvino, plain default", "openvino default", 1.05),
    "vitsmith, int8: openvino int8": ("openvino, NNCF int8", "openvino int8", 1.1),
}
"""Rows of ours, the plain one each is held against, the products alone in that precision, and the ratio to reach."""


@dataclass
class Row:
    """One program, for batches of one size: float32 (batch, 3, 224, 224) -> features."""

    name: str
    run: Run
    timing: Timing | None = None
    difference: float = float("nan")
    cosine: float = float("nan")
    failed: str = ""

    @property
    def is_compared(self) -> bool:
        return not self.name.startswith(ALONE)

    @property
    def is_eager_peer(self) -> bool:
        return self.name.endswith("eager fp32")


@dataclass(frozen=True, eq=False)
class Subject:
    """One family's weights in all libraries, and photographs as it takes them."""

    family: Family
    timm: nn.Module
    bundle: Bundle
    images: Array
    """float32 (photographs, 3, 224, 224)."""
    place: Path
    threads: int


def subject_of(family: Family, place: Path, photographs: int, threads: int) -> Subject:
    model = timm_tower(family, place / "timm")
    bundle = vs.load(place / "timm", headless=model.num_classes == 0)
    images = np.stack([preprocess(image, bundle.preprocessing) for image in sample_images(max(photographs, COMPARED))])
    return Subject(family, model, bundle, images, place, threads)


def openers(subject: Subject, batch: int) -> Iterator[tuple[str, Callable[[], Run]]]:
    """The name of every row, and what opens it; timm comes first."""
    theirs, threads, place = subject.timm, subject.threads, subject.place
    yield "timm, eager fp32", lambda: torch_run(theirs)
    for library, tower in subject.family.peers.items():
        yield f"{library}, eager fp32", lambda tower=tower: torch_run(tower(theirs.state_dict()))
    yield "onnxruntime, plain fp32", lambda: onnx_run(theirs, threads, place)
    yield "openvino, plain fp32", lambda: openvino_run(converted(theirs, batch), threads, "f32")
    yield "openvino, plain default", lambda: openvino_run(converted(theirs, batch), threads)
    yield "openvino, NNCF int8", lambda: openvino_run(quantised(theirs, batch, subject.images), threads)
    alone = ProductsAlone(theirs)
    yield f"{ALONE}onnxruntime fp32", lambda: onnx_run(alone, threads, place / "alone")
    yield f"{ALONE}openvino fp32", lambda: openvino_run(converted(alone, batch), threads, "f32")
    yield f"{ALONE}openvino default", lambda: openvino_run(converted(alone, batch), threads)
    yield f"{ALONE}openvino int8", lambda: openvino_run(quantised(alone, batch, subject.images), threads)
    for bundle in write_bundles(subject.bundle, place).values():
        yield from our_runs("", bundle, batch, threads)
    yield from our_runs("int8", int8_bundle(subject), batch, threads)


def int8_bundle(subject: Subject) -> Bundle:
    """As `vitsmith quantize` writes its static scheme, without the search; what is there already is taken."""
    place = subject.place / "int8"
    if place.exists():
        return vs.load(place)
    (subject.place / "float").mkdir()
    programs = OpenVinoPrograms(parts_of(subject.bundle, subject.images), subject.place / "float")
    spec = ProgramSpec(precision="int8", rest=programs.rests[0])
    described = replace(subject.bundle.as_program("openvino", spec, by="embedding_throughput.py"), golden=None)
    return write_bundle(
        described, place, write_program=lambda files: programs.write(Scheme("static"), subject.images, files)
    )


def answer(subject: Subject, batch: int, pace: Pace) -> list[Row]:
    """All rows for one batch size, compared with timm, and timed in turns."""
    rows: list[Row] = []
    expected = None
    for name, opener in openers(subject, batch):
        print(f"{subject.family.name}, batches of {batch}: opening {name}", file=sys.stderr, flush=True)
        row = Row(name, lambda _: np.zeros(0))
        rows.append(row)
        try:
            row.run = opener()
            outputs = run_all(row.run, subject.images[:COMPARED], batch)
            expected = outputs if expected is None else expected
            if row.is_compared:
                row.difference, row.cosine = relative_difference(expected, outputs), lowest_cosine(expected, outputs)
        except Exception as error:  # a peer that does not run is a row all the same
            row.failed = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
            continue
        if row.is_compared and name.endswith("fp32") and not row.difference <= LIMIT:
            row.failed = f"differs by {row.difference:.1e}: not timed"
    images = np.ascontiguousarray(np.resize(subject.images, (batch, *subject.images.shape[1:])))
    runs = {index: (lambda run=row.run: run(images)) for index, row in enumerate(rows) if not row.failed}
    timings, failed = time_in_turns(runs, batch, pace)
    for index, row in enumerate(rows):
        row.timing = timings.get(index)
        row.failed = row.failed or (f"{failed[index]!r}"[:200] if index in failed else "")
    return rows


def fastest(rows: list[Row]) -> Row:
    return max((row for row in rows if row.timing), key=lambda row: statistics.median(rates(row.timing)))


def table(family: Family, rows: list[Row], batch: int) -> list[str]:
    eager = fastest([row for row in rows if row.is_eager_peer])
    by_name = {row.name: row for row in rows}
    lines = [
        "",
        f"### {family.name}, batches of {batch}",
        "",
        f"| | images/s | over the fastest eager peer ({eager.name.partition(',')[0]}) | over its plain conversion "
        "| difference | lowest cosine |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        if row.timing is None:
            lines.append(f"| {row.name} | failed | | | | {row.failed} |")
            continue
        plain = by_name.get(PLAIN[row.name][0]) if row.name in PLAIN else None
        over = spread(ratios(row.timing, plain.timing), ".2f") if plain and plain.timing else ""
        name = f"**{row.name}**" if row.name.startswith("vitsmith") else row.name
        compared = f"{row.difference:.1e} | {row.cosine:.5f}" if row.is_compared else "|"
        lines.append(
            f"| {name} | {spread(rates(row.timing), '.1f')} | {spread(ratios(row.timing, eager.timing), '.2f')} "
            f"| {over} | {compared} |"
        )
    return lines


def aims(family: Family, rows: list[Row], batch: int) -> list[str]:
    """A row of the summary for each ratio that is to be reached."""
    ours = [row for row in rows if row.name.startswith("vitsmith") and row.name.endswith("fp32")]
    eager = fastest([row for row in rows if row.is_eager_peer])
    by_name = {row.name: row for row in rows}
    pairs = [(by_name[name], *row) for name, row in PLAIN.items() if name in by_name]
    fast = fastest(ours)
    lines = []
    for row, plain, alone, aim in [
        (fast, eager.name, PLAIN[fast.name][1] if fast.name in PLAIN else "", EAGER),
        *pairs,
    ]:
        other, most = by_name[plain], by_name.get(ALONE + alone)
        if row.timing is None or other.timing is None:
            continue
        found = ratios(row.timing, other.timing)
        verdict = "reached" if statistics.median(found) >= aim else "missed"
        at_most = spread(ratios(most.timing, other.timing), ".2f") if most and most.timing else ""
        names = f"{row.name.removeprefix('vitsmith, ')} | {other.name}"
        lines.append(
            f"| {family.name} | {batch} | {names} | {spread(found, '.2f')} | {aim:g} | {at_most} | {verdict} |"
        )
    return lines


def report(options: argparse.Namespace, summary: list[str], tables: list[str]) -> str:
    packages = ("timm", "transformers", "open_clip_torch", "onnxruntime", "openvino", "nncf", "vitsmith")
    return "\n".join(
        [
            "# Image features beside timm, transformers, open_clip and plain conversions",
            "",
            f"`python benchmarks/embedding_throughput.py {' '.join(sys.argv[1:])}`, {datetime.date.today()}, "
            f"{describe_machine()}, {options.threads} threads, Python {platform.python_version()}, torch "
            f"{torch.__version__}, {', '.join(f'{name} {version(name)}' for name in packages)}. Median (lowest to "
            f"highest) of {options.rounds} rounds in turns. Weights are random: int8 is a figure of speed only.",
            "",
            "| | batch | ours | over | ratio | to reach | at most | |",
            "|---|---:|---|---|---:|---:|---:|---|",
            *summary,
            *tables,
            "",
            *["    " + line if line else "" for line in (__doc__ or "").splitlines()[6:]],
            "",
        ]
    )


def options_of_command() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="part of a family's name")
    parser.add_argument("--batch", type=int, action="append", help="may be repeated; default 1 and 8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each row in a round, one call at least")
    parser.add_argument("--calibration", type=int, default=32, help="photographs for int8")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="one round of one image: only to see that everything runs")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.calibration, options.batch = 1, 0.01, 2, options.batch or [1]
    return options


def main() -> None:
    options = options_of_command()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    # before torchvision is stood in for: transformers does without it only when it is missing
    importlib.import_module("transformers.models.vit.modeling_vit")
    stand_in_for_torchvision()
    pace = Pace(seconds=options.seconds * options.rounds, turns=options.rounds)
    summary: list[str] = []
    tables: list[str] = []
    for family in FAMILIES:
        if options.only.lower() not in family.name.lower():
            continue
        with tempfile.TemporaryDirectory() as folder:
            subject = subject_of(family, Path(folder), options.calibration, options.threads)
            for batch in sorted(set(options.batch or (1, 8))):
                rows = answer(subject, batch, pace)
                tables += table(family, rows, batch)
                summary += aims(family, rows, batch)
                print("\n".join(tables), file=sys.stderr, flush=True)
    text = report(options, summary, tables)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

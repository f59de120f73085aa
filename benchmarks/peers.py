"""How fast are our programs beside timm, transformers, and plain conversions to onnxruntime, OpenVINO and NNCF?

    pip install 'vitsmith[export,digits]' scikit-image transformers && pip install --no-deps timm
    python benchmarks/photos_model.py --model B --out runs/photos-B
    vitsmith quantize runs/photos-B/bundle --data runs/photos-B/photos --fastest --out runs/photos-B/int8
    python benchmarks/peers.py runs/photos-B/bundle --data runs/photos-B/photos --bundle int8=runs/photos-B/int8/model

The weights of one ViT-{Ti,S,B}/16 at 224 pixels are in all of them: timm reads them from an .npz file of ours,
transformers' are renamed from timm's, and the conversions are of timm's model. Images are test ones of --data,
preprocessed once; only inference is timed. In each round every row makes calls for --seconds, in turns, in one process,
after calls that are not timed; a row's ratio is taken within a round, and medians (lowest to highest) over rounds are
shown.

- timm, transformers: eager PyTorch in inference mode; "compiled": torch.compile with its defaults; bf16: weights cast
- onnxruntime, plain: torch.onnx.export of timm's model with a dynamic batch, default session but for the threads
- openvino, plain: openvino.convert_model of timm's model at the very batch, default settings but for the threads;
  "fp32" says INFERENCE_PRECISION_HINT f32, "default" leaves it out, which is bf16 where the processor has it
- openvino, NNCF: nncf.quantize of that with ModelType.TRANSFORMER and otherwise defaults, calibrated on 300 training
  images of --data (`vitsmith quantize` takes as many), compiled with default settings
- vitsmith: a bundle in the engine that runs it, opened as `engine="auto"` opens it: for latency with one image, else
  for throughput; torch, ONNX and OpenVINO float bundles are made here, others are given by --bundle

Difference: largest of all outputs on the test images, over the largest output of timm in fp32. Agreement: images that
are answered as timm in fp32 answers them. The test images neither trained the model nor chose a program.
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
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from peers_programs import BASE, Array, Question, Run, openers, read_material, size_of
from timm_reads_our_npz import stand_in_for_torchvision

import vitsmith as vs
from vitsmith.evaluation.timing import Pace, Timing, time_in_turns
from vitsmith.gate import relative_difference
from vitsmith.machine import describe_machine


@dataclass
class Row:
    """One program, for batches of one size: float32 (batch, 3, 224, 224) -> logits."""

    name: str
    run: Run
    ours: bool = False
    timing: Timing | None = None
    difference: float = float("nan")
    top1: float = float("nan")
    """Percent of the test images."""
    agreement: float = float("nan")
    """Percent of them that are answered as timm in fp32 does."""
    failed: str = ""


def answer(question: Question, pace: Pace) -> list[Row]:
    """All rows for one batch size, judged, and timed in turns."""
    batch = question.batch
    images = question.material.batch(batch)
    rows, expected = [], None
    for name, ours, opener in openers(question):
        print(f"opening {name}, batches of {batch}", file=sys.stderr, flush=True)
        row = Row(name, lambda _: np.zeros(0), ours)
        rows.append(row)
        try:
            row.run = opener()
            outputs = run_all(row.run, question.material.evaluation, batch)
            expected = outputs if expected is None else expected
            row.difference = relative_difference(expected, outputs)
            row.top1 = 100 * float(np.mean(outputs.argmax(axis=1) == question.material.labels))
            row.agreement = 100 * float(np.mean(outputs.argmax(axis=1) == expected.argmax(axis=1)))
        except Exception as error:  # a peer that does not run is a row all the same
            row.failed = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
    runs = {index: (lambda run=row.run: run(images)) for index, row in enumerate(rows) if not row.failed}
    timings, failed = time_in_turns(runs, batch, pace)
    for index, row in enumerate(rows):
        row.timing = timings.get(index)
        row.failed = row.failed or (f"{failed[index]!r}"[:200] if index in failed else "")
    return rows


def run_all(run: Run, images: Array, batch: int) -> Array:
    """Outputs for all images, in batches of just that size."""
    whole = np.resize(images, (-(-len(images) // batch) * batch, *images.shape[1:]))
    return np.concatenate([run(whole[at : at + batch]) for at in range(0, len(whole), batch)])[: len(images)]


def rates(timing: Timing) -> list[float]:
    """Images a second of each round."""
    return [timing.batch / statistics.median(turn) for turn in timing.turns]


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def ratios(row: Timing, other: Timing) -> list[float]:
    return [mine / its for mine, its in zip(rates(row), rates(other), strict=True)]


def table(rows: list[Row], batch: int) -> list[str]:
    base = next(row.timing for row in rows if row.name == BASE)
    timed = [row for row in rows if row.timing is not None]
    peer = max((row for row in timed if not row.ours), key=lambda row: statistics.median(rates(row.timing)))
    best = f"over the fastest peer ({peer.name})"
    lines = [
        "",
        f"### Batches of {batch}",
        "",
        f"| | images/s | over {BASE} | {best} | difference | top-1 | agreement |",
    ]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        if row.timing is None:
            lines.append(f"| {row.name} | failed | | | | | {row.failed} |")
            continue
        over = [spread(ratios(row.timing, other), ".2f") for other in (base, peer.timing)]
        name = f"**{row.name}**" if row.ours else row.name
        answers = f"{row.difference:.1e} | {row.top1:.2f} % | {row.agreement:.2f} %"
        lines.append(f"| {name} | {spread(rates(row.timing), '.1f')} | {' | '.join(over)} | {answers} |")
    return lines


def report(options: argparse.Namespace, size: str, evaluation: str, tables: list[str]) -> str:
    packages = ("timm", "transformers", "onnxruntime", "openvino", "nncf", "vitsmith")
    return "\n".join(
        [
            f"# ViT-{size}/16 beside its peers",
            "",
            f"`python benchmarks/peers.py {' '.join(sys.argv[1:])}`, {datetime.date.today()}, {describe_machine()}, "
            f"{options.threads} threads, Python {platform.python_version()}, torch {torch.__version__}, "
            f"{', '.join(f'{name} {version(name)}' for name in packages)}. Median (lowest to highest) of "
            f"{options.rounds} rounds in turns. Top-1 and agreement on {evaluation}.",
            *tables,
            "",
            *["    " + line if line else "" for line in (__doc__ or "").splitlines()[7:]],
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", help="bundle of a ViT/16 with torch weights")
    parser.add_argument("--data", required=True, help="images of its classes with a train and a test split")
    parser.add_argument("--judges", type=int, default=400, help="test images")
    parser.add_argument("--batch", type=int, action="append", help="may be repeated; default 1 and 16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each row in a round, one call at least")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bundle", action="append", default=[], metavar="NAME=PATH", help="may be repeated")
    parser.add_argument("--keep", type=Path, help="folder for exported files, taken again when they are there")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if any("=" not in one for one in options.bundle):
        parser.error("--bundle takes NAME=PATH")
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    # before torchvision is stood in for: transformers does without it only when it is missing
    importlib.import_module("transformers.models.vit.modeling_vit")
    stand_in_for_torchvision()
    bundle = vs.load(options.weights)
    size, material = size_of(bundle), read_material(bundle, options.data, options.evaluation)
    given = {name: vs.load(path) for name, _, path in (one.partition("=") for one in options.bundle)}
    pace = Pace(seconds=options.seconds * options.rounds, turns=options.rounds)
    tables: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        place = options.keep or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for batch in sorted(set(options.batch or (1, 16))):
            question = Question(bundle, given, place, batch, options.threads, not options.no_compile, material)
            tables += table(answer(question, pace), batch)
            print("\n".join(tables), file=sys.stderr, flush=True)
            torch.compiler.reset()
    text = report(options, size, material.name, tables)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

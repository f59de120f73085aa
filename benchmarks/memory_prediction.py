"""How near predicted peak memory comes to what a process takes, on models that nothing was fitted to.

    python benchmarks/memory_prediction.py [--out benchmarks/results/FILE.md] [--rows FILE.jsonl] [--only 0 1 ...]
    python benchmarks/memory_prediction.py --read FILE.jsonl --out FILE.md          # the same rows, judged anew
    python benchmarks/memory_prediction.py --fit --rows FILE.jsonl                  # the models that it was fitted to

The models are drawn by a seed made of the commit of the predictor, so nothing could be tuned on them, and each meets
three of all engines and precisions. A model has random weights; its program is written as `export` and `quantize` do,
with golden answers of its own. Each is then run as `vitsmith benchmark` measures memory: a process loads the bundle,
opens the engine, checks the golden answers and runs the batch twice, with a cache that knows nothing. Measured is the
peak above a bare Python interpreter. Predicted is that of `predict_cost`: what a process of calibration takes here (the
first step of `vitsmith calibrate`; where int8 is not calibrated, that of fp32), and what is known of the engine and the
configuration. The models of --fit run their batches in one process, the smallest first.

'fit' beside it is what `recommend --device-memory` says of torch, for a device that was not calibrated.
"""

from __future__ import annotations

import argparse
import datetime
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from latency_design import Case, cases, fraction, predictor_commit
from memory_rows import WAYS, MemoryCase, MemoryRow, measure

from vitsmith.choosing.fit.inference import inference_memory
from vitsmith.cost.calibrate import PRECISIONS
from vitsmith.cost.memory import memory_above, model_memory
from vitsmith.cost.probes import REFERENCE
from vitsmith.cost.session import COMMAND
from vitsmith.engines.tuning_cache import installed_version
from vitsmith.machine import available_cores, describe_machine
from vitsmith.models.configure import configure, parse_config
from vitsmith.process.child import follow_child

MEDIAN, WORST = 0.10, 0.25
"""The errors that are asked for."""
DRAWN = {
    "plain": 4, "other widths": 1, "Mixer": 1, "hybrid": 1, "rotary, gated or registers": 2, "other heads and norms": 1,
    "merged": 1, "plain L": 1,
}  # fmt: skip
"""How many models of each kind of `latency_design.cases`."""
FITTED = (("ViT-Ti/16", 224), ("ViT-B/32", 224), ("Mixer-S/16", 224), ("R+ViT-Ti/16", 224), ("ViT-Ti/16", 384))
"""The models, and their pixels, that the predictor was fitted to."""


def drawn(seed: int) -> list[Case]:
    """The models of a seed, the largest last."""
    left, found = dict(DRAWN), []
    for case in cases(seed):
        if left.get(case.kind, 0):
            left[case.kind] -= 1
            found.append(case)
    return sorted(found, key=lambda case: list(DRAWN).index(case.kind))


def held_out(seed: int, only: Sequence[int]) -> Iterator[MemoryRow]:
    found = drawn(seed)
    ways: Any = fraction(len(found), WAYS, seed)  # type: ignore[arg-type]
    for number in only:
        case = found[number]
        yield from measure(MemoryCase(case.title, case.config, (case.batch,)), ways[number])


def fitted() -> Iterator[MemoryRow]:
    for name, side in FITTED:
        config: Any = configure(name, image_size=side)
        yield from measure(MemoryCase(name, config, (1, 8) if side > 224 else (1, 8, 32)), WAYS)


# ---------------------------------------------------------------- predicting


class _KnownError(Exception):
    """The first answer of a calibration is there."""


def bases() -> dict[str, int]:
    """By way, the bytes of the process that calibration measures; of int8 those of fp32."""
    found: dict[str, int] = {}
    for engine, precision in WAYS:
        way = f"{engine} {precision}"
        if precision not in PRECISIONS[engine]:
            found[way] = _as_fp32(engine, precision, found[f"{engine} fp32"])
            continue

        def on_answer(answer: Mapping[str, Any], way: str = way) -> None:
            if "peak" in answer:
                found[way] = answer["peak"]
                raise _KnownError

        task = {"engine": engine, "precision": precision, "threads": available_cores(), "seconds": 1.0}
        try:
            follow_child(COMMAND, task, seconds=300, on_answer=on_answer)
        except _KnownError:
            continue
    return found


def _as_fp32(engine: str, precision: str, peak: int) -> int:
    """What calibration would measure of a precision that it does not know: the same engine, other weights."""
    own, usual = (
        model_memory(REFERENCE.config, engine, one, available_cores(), 1, checked=False) for one in (precision, "fp32")
    )
    return peak - usual + own


def predicted(row: MemoryRow, known: Mapping[str, int]) -> int:
    return memory_above(
        known[row.way], parse_config(row.config), row.engine, row.precision, available_cores(), row.batch
    )


# ---------------------------------------------------------------- telling


def report(rows: Sequence[MemoryRow], known: Mapping[str, int], title: str, drawn_by: str = "") -> str:
    """The page of results."""
    versions = ", ".join(
        f"{name} {installed_version(name)}" for name in ("torch", "onnxruntime", "openvino") if installed_version(name)
    )
    errors = {row: predicted(row, known) / row.bytes - 1 for row in rows if not row.failed}
    lines = [
        f"# {title}",
        "",
        f"`python benchmarks/memory_prediction.py`, {datetime.date.today()}, {describe_machine()}; {versions}. "
        f"{drawn_by}MB (10^6 bytes) above a bare interpreter.",
        "",
        *_summary(list(errors.values())),
        "",
        "| | rows | median error | worst |",
        "|---|---:|---:|---:|",
    ]
    for way in (f"{engine} {precision}" for engine, precision in WAYS):
        own = [abs(error) for row, error in errors.items() if row.way == way]
        if own:
            lines.append(f"| {way} | {len(own)} | {statistics.median(own):.1%} | {max(own):.1%} |")
    fits = [abs(_fit(row)) for row in errors if row.engine == "torch"]
    if fits:
        lines.append(f"| 'fit', of torch | {len(fits)} | {statistics.median(fits):.1%} | {max(fits):.1%} |")
    lines += ["", "| model | pixels | engine | batch | predicted | measured | error | 'fit' |"]
    lines += ["|---|---|---|---:|---:|---:|---:|---:|"]
    lines += [_row(row, known, error) for row, error in sorted(errors.items(), key=lambda item: -abs(item[1]))]
    failed = [f"- {row.title}, {row.way}, batch {row.batch}: {row.failed}" for row in rows if row.failed]
    lines += ["", "Not measured:", "", *failed] if failed else []
    lines += [
        "",
        "Of a process of calibration, MB: " + ", ".join(f"{way} {one / 1e6:.0f}" for way, one in known.items()),
    ]
    lines += ["", *(f"    {line}".rstrip() for line in (__doc__ or "").strip().splitlines())]
    return "\n".join(lines) + "\n"


def _summary(errors: Sequence[float]) -> list[str]:
    sizes = [abs(one) for one in errors]
    middle, worst = statistics.median(sizes), max(sizes)
    return [
        f"- {what} error **{found:.1%}** of {len(sizes)} rows; at most {most:.0%} asked "
        f"({'kept' if found <= most else 'NOT KEPT'})"
        for what, found, most in (("median", middle, MEDIAN), ("worst", worst, WORST))
    ]


def _row(row: MemoryRow, known: Mapping[str, int], error: float) -> str:
    height, width = row.config["image_size"]
    fit = f"{_fit(row):+.1%}" if row.engine == "torch" else ""
    return (
        f"| {row.title} | {height}x{width} | {row.way} | {row.batch} | {predicted(row, known) / 1e6:.0f} | "
        f"{row.bytes / 1e6:.0f} | {error:+.1%} | {fit} |"
    )


def _fit(row: MemoryRow) -> float:
    """The error of what is predicted for a device that was not calibrated."""
    config = parse_config(row.config)
    found = inference_memory(config, row.batch, precision=row.precision, device="cpu")
    return found.predicted / row.bytes - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rows", type=Path, help="keep the measured rows, for --read")
    parser.add_argument("--read", type=Path, help="rows that were measured before, of the same --seed or --fit")
    parser.add_argument("--fit", action="store_true", help="the models that the predictor was fitted to")
    parser.add_argument("--only", type=int, nargs="*", default=range(sum(DRAWN.values())), help="numbers of models")
    parser.add_argument("--seed", type=int, default=int(predictor_commit()[:8], 16))
    options = parser.parse_args()
    known = bases()
    if options.read:
        rows = [MemoryRow(**json.loads(line)) for line in options.read.read_text().splitlines()]
    else:
        rows = []
        for row in fitted() if options.fit else held_out(options.seed, options.only):
            rows.append(row)
            told = row.failed or _row(row, known, predicted(row, known) / row.bytes - 1)
            print(told, flush=True)
            if options.rows:
                options.rows.write_text("".join(json.dumps(asdict(one)) + "\n" for one in rows))
    what = "that it was fitted to" if options.fit else "drawn by a seed"
    drawn_by = "" if options.fit else f"Seed {options.seed}. "
    text = report(rows, known, f"Predicted and measured peak memory of models {what}", drawn_by)
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()

"""Does every verb give the torch model's answers for every family of image encoders?

    PYTHONPATH=. python benchmarks/verbs_by_family.py [--only PATTERN] [--out benchmarks/results/FILE.md]

Every verb that takes a model meets CLIP, SigLIP, DINOv2 with registers, DINOv3, DeiT III and MAE, each as a small
model (`tests/families.py`) with random values in every array; `export` and `quantize` meet each of their targets. The
verbs run as commands, in this process. A number is the largest difference that the verb's check found, relative to the
largest expected value; the checks are in `verbs_by_family_checks.py`. A cell is

- right: at most 1e-4 (int8: 0.02 of the mean cosine; embeddings of retrieve are kept in float16: 1e-3)
- refused: the command ended with one line, told below, and code 2 (it makes no sense) or 3 (a gate said no)
- wrong: other answers, or an exception

Speeds are not asked: the gates accept any, and are measured for a moment only.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import os
import platform
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from unittest import mock

from PIL import Image
from verbs_by_family_checks import CHECKS, Check, Refused

import vitsmith as vs
from tests.families import FAMILIES, bundle_of
from tests.tiny import pictures
from tests.training.lit.small_runs import write_pairs
from tests.training.small_runs import write_folder
from vitsmith.benchmark import session
from vitsmith.compress.quantize import run as quantize_run
from vitsmith.compress.search import variants
from vitsmith.evaluation.speed import measure_speedup
from vitsmith.evaluation.timing import Pace
from vitsmith.machine import describe_machine

TITLES = {
    "clip": "CLIP",
    "siglip": "SigLIP",
    "registers": "DINOv2 + registers",
    "dinov3": "DINOv3",
    "deit3": "DeiT III",
    "mae": "MAE",
}
BRIEF = Pace(seconds=0.05, turns=3, warm=0.01)


@dataclass(frozen=True)
class Cell:
    """What came of one verb on one family."""

    verb: str
    family: str
    kind: str
    told: str
    """The difference, the line of a refusal, or the exception."""


def prepare() -> None:
    """Writes into the working folder all families, labelled images, images with captions and images for queries."""
    write_folder(Path("colours/train"), 240)
    for file in sorted(Path("colours/train").rglob("*.png"))[::4]:
        held_out = Path("colours/val", file.parent.name, file.name)
        held_out.parent.mkdir(parents=True, exist_ok=True)
        file.rename(held_out)
    write_pairs(Path("pairs"), 48)
    Path("photos").mkdir()
    for number, picture in enumerate(pictures(24)):
        Image.fromarray(picture).save(Path("photos") / f"{number:02d}.png")
    for name in FAMILIES:
        vs.save(bundle_of(name), name)


def answer(verb: str, check: Check, family: str) -> Cell:
    try:
        found = check.difference(family)
    except Refused as refused:
        return Cell(verb, family, "refused", str(refused).replace(f"{Path.cwd()}{os.sep}", ""))
    except Exception as error:
        return Cell(verb, family, "wrong", f"{type(error).__name__}: {error}".splitlines()[0])
    return Cell(verb, family, "right" if found <= check.tolerance else "wrong", f"{found:.0e}")


def table(cells: list[Cell]) -> str:
    """The matrix, and below it the lines of what was refused or wrong, by their numbers."""
    families = list(dict.fromkeys(cell.family for cell in cells))
    lines = ["| verb | " + " | ".join(TITLES[one] for one in families) + " |", "|---" * (len(families) + 1) + "|"]
    messages: dict[str, int] = {}
    for verb in dict.fromkeys(cell.verb for cell in cells):
        row = []
        for cell in (one for one in cells if one.verb == verb):
            told = cell.told
            if not told[:1].isdigit():
                told = f"({messages.setdefault(told.replace(cell.family, 'MODEL'), len(messages) + 1)})"
            row.append(told if cell.kind == "right" else f"{cell.kind} {told}")
        lines.append(f"| {verb} | " + " | ".join(row) + " |")
    return "\n".join([*lines, "", *(f"{number}. {told}" for told, number in messages.items())])


def commit() -> str:
    described = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=7"]
    return subprocess.run(described, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", help="pattern of VERB FAMILY, as 'export *' or '* clip'")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    out, began, at, cells = options.out and options.out.resolve(), time.monotonic(), commit(), []
    race = {**(quantize_run.quantize.__kwdefaults__ or {}), "race": partial(measure_speedup, pace=BRIEF)}
    with (
        tempfile.TemporaryDirectory() as place,
        mock.patch.object(quantize_run.quantize, "__kwdefaults__", race),
        mock.patch.object(variants, "PACE", BRIEF),
        mock.patch.object(session, "_peaks", lambda _: {}),
    ):
        os.chdir(place)
        prepare()
        for verb, check in CHECKS.items():
            for family in FAMILIES:
                if fnmatch.fnmatch(f"{verb} {family}", options.only):
                    cells.append(answer(verb, check, family))
                    print(cells[-1].kind, verb, family, cells[-1].told, flush=True)
        os.chdir("/")
    counts = Counter(cell.kind for cell in cells)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "openvino", "executorch"))
    only = f" --only {options.only!r}" * (options.only != "*")
    text = (
        f"# Verbs by family\n\n`python benchmarks/verbs_by_family.py{only}`, {datetime.date.today()}, "
        f"vitsmith at commit {at}, {describe_machine()}, Python {platform.python_version()}, {versions}; "
        f"{time.monotonic() - began:.0f} s.\n\n"
        f"{', '.join(f'{kind} {count}' for kind, count in counts.items())} of {len(cells)}.\n\n{table(cells)}\n"
    )
    text += "\n" + "\n".join(f"    {line}".rstrip() for line in __doc__.splitlines()[4:]) + "\n"
    print(text)
    if out:
        out.write_text(text, encoding="utf-8")
    raise SystemExit(bool(counts["wrong"]))


if __name__ == "__main__":
    main()

"""Exact search among a million vectors: how long does a query take, and how much memory, beside NumPy's brute force?

    python benchmarks/retrieval.py [--vectors 1000000] [--rounds 9] [--approximate] [--out benchmarks/results/FILE.md]

An index of random unit vectors around 1,000 centres, 768 numbers each in float16, is written to a temporary folder
(1.5 GB; `--place` says where, and keeps it for the next time), and read once so that the system's cache holds it:

- vitsmith: `vitsmith.retrieval.search.search` on the mapped files; one query, and 64 queries at once
- NumPy, blocks: the same files, 16,384 rows at a time: `block.astype(float32) @ query`, kept whole, then argpartition
- NumPy, float32 in memory: all vectors converted beforehand (3.1 GB), `vectors @ query`, argpartition; the time without
  the conversion
- vitsmith, among some: the same search where only a half, or a hundredth, of the vectors drawn at random may be answers
- approximate (with --approximate): `vitsmith retrieve --approximate`, that is faiss, with exact scores; the time of
  building it and the recall that it measured are told

In each round every contender runs once, in turns, in one process, with another query each round. Medians and ranges
over rounds are shown. All exact contenders must name the same vectors, or the run stops.

Memory and the first query are measured in fresh processes, one for each contender. `peak` is the kernel's high-water
mark of resident memory (VmHWM) after three queries, without what was resident after the imports; pages of the index
that are mapped count in it, though the system may take them back at any time. `own` is memory that only the process
has (RssAnon), the most of it seen by a thread that looks every 2 ms during the second and third query, again without
what there was after the imports.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.machine import describe_machine
from vitsmith.retrieval.description import Space, is_index
from vitsmith.retrieval.index import Index, open_index
from vitsmith.retrieval.search import search
from vitsmith.retrieval.writer import PART_ROWS, IndexWriter

WIDTH, COUNT, CENTRES, TOGETHER = 768, 10, 1000, 64
SHARES = (0.5, 0.01)
NAMES = {"vitsmith": "vitsmith", "blocks": "NumPy, blocks", "memory": "NumPy, float32 in memory"}

Array = np.ndarray[Any, Any]


def make_index(folder: Path, count: int) -> Index:
    """`count` vectors, the same each time."""
    if is_index(folder) and open_index(folder).description.inputs == count:
        return open_index(folder)
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((CENTRES, WIDTH), dtype=np.float32)
    space = Space(kind="images", identity="benchmark", model="random vectors", width=WIDTH)
    with IndexWriter(folder, space, part_seconds=3600) as writer:
        for start in range(0, count, PART_ROWS):
            rows = min(PART_ROWS, count - start)
            vectors = centres[generator.integers(0, CENTRES, rows)]
            vectors = unit(vectors + generator.standard_normal((rows, WIDTH), dtype=np.float32))
            for number, vector in enumerate(vectors, start):
                writer.add((f"photos/{number:07d}.jpg", vector))
        return writer.finish()


def make_queries(count: int) -> Array:
    """Some near a centre, as queries are."""
    centres = np.random.default_rng(0).standard_normal((CENTRES, WIDTH), dtype=np.float32)
    generator = np.random.default_rng(1)
    chosen = centres[generator.integers(0, CENTRES, count)]
    return unit(chosen + generator.standard_normal(chosen.shape, dtype=np.float32))


def unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_blocks(index: Index) -> Callable[[Array], Array]:
    """NumPy on the mapped parts."""

    def run(queries: Array) -> Array:
        scores = [index.vectors(part).astype(np.float32) @ queries[0] for part in range(len(index.description.parts))]
        return best(np.concatenate(scores))

    return run


def in_memory(index: Index) -> Callable[[Array], Array]:
    """NumPy on a float32 copy of all vectors."""
    vectors = np.empty((len(index), WIDTH), np.float32)
    for part, start in enumerate(index.starts[:-1].tolist()):
        vectors[start : index.starts[part + 1]] = index.vectors(part)
    return lambda queries: best(vectors @ queries[0])


def best(scores: Array) -> Array:
    some = np.argpartition(-scores, COUNT)[:COUNT]
    return some[np.argsort(-scores[some], kind="stable")]


def contender(name: str, index: Index) -> Callable[[Array], Array]:
    if name == "vitsmith":
        return lambda queries: search(index, queries, COUNT).positions[0]
    return by_blocks(index) if name == "blocks" else in_memory(index)


def child(name: str, folder: str) -> None:
    """In a fresh process: memory and the first query, as JSON."""
    imported, own_before = kib("VmRSS:"), kib("RssAnon:")
    index = open_index(folder)
    run = contender(name, index)
    queries = make_queries(3)
    first = milliseconds(run, queries[:1])
    seen = [kib("RssAnon:")]
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.002):
            seen.append(kib("RssAnon:"))

    looking = threading.Thread(target=look)
    looking.start()
    for at in (1, 2):
        run(queries[at : at + 1])
    done.set()
    looking.join()
    print(json.dumps({"first": first, "peak": kib("VmHWM:") - imported, "own": max(seen) - own_before}))


def kib(field: str) -> int:
    with open("/proc/self/status") as lines:  # noqa: PTH123
        return next(int(line.split()[1]) for line in lines if line.startswith(field))


def milliseconds(run: Callable[[Array], Any], queries: Array) -> float:
    began = time.perf_counter()
    run(queries)
    return (time.perf_counter() - began) * 1e3


def measure_times(index: Index, rounds: int, approximate: Any) -> dict[str, list[float]]:
    runs = {name: contender(name, index) for name in NAMES}
    chance = np.random.default_rng(2).random(len(index))
    masks = {f"among {share:.0%}": chance < share for share in SHARES}
    queries = make_queries(rounds + TOGETHER)
    times: dict[str, list[float]] = {}
    for number in range(rounds + 1):  # the first is not counted
        query = queries[number : number + 1]
        named = {name: run(query).tolist() for name, run in runs.items()}
        if len({tuple(names) for names in named.values()}) > 1:
            raise SystemExit(f"the contenders disagree: {named}")
        for name, run in runs.items():
            times.setdefault(name, []).append(milliseconds(run, query))
        many = queries[number : number + TOGETHER]
        times.setdefault("together", []).append(milliseconds(lambda some: search(index, some, COUNT), many) / TOGETHER)
        for name, mask in masks.items():
            run = functools.partial(search, index, count=COUNT, allowed=mask)
            times.setdefault(name, []).append(milliseconds(run, query))
        if approximate is not None:
            run = lambda some: approximate.search(some, COUNT)  # noqa: E731
            times.setdefault("approximate", []).append(milliseconds(run, query))
    return {name: taken[1:] for name, taken in times.items()}


def measure_memory(folder: Path) -> dict[str, dict[str, float]]:
    facts = {}
    for name in NAMES:
        answer = subprocess.run(
            [sys.executable, __file__, "--child", name, "--place", str(folder)], check=True, capture_output=True
        )
        facts[name] = json.loads(answer.stdout)
    return facts


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def describe(
    index: Index, options: argparse.Namespace, times: dict[str, list[float]], memory: dict[str, Any], built: str
) -> str:
    command = f"python benchmarks/retrieval.py --vectors {options.vectors} --rounds {options.rounds}"
    command += " --approximate" if options.approximate else ""
    lines = [
        f"# Searching {len(index):,} vectors of {WIDTH} numbers",
        "",
        f"`{command}`, {datetime.date.today()}, {describe_machine()}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}. Median (lowest to highest) of {options.rounds} rounds in "
        f"turns; the first {COUNT} answers.",
        "",
        "| one query | ms | first query of a process, ms | peak MiB | own MiB |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, title in NAMES.items():
        facts = {what: value if what == "first" else value / 1024 for what, value in memory[name].items()}
        cells = [title, spread(times[name]), *(f"{facts[what]:.0f}" for what in ("first", "peak", "own"))]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"vitsmith, {TOGETHER} queries at once: {spread(times['together'])} ms a query."]
    shown = ", ".join(f"{share:.0%}: {spread(times[f'among {share:.0%}'])} ms" for share in SHARES)
    lines += ["", f"vitsmith, one query, where only a share of the vectors may be answers: {shown}."]
    if "approximate" in times:
        taken = times["approximate"]
        shown = f"{statistics.median(taken):.1f} ({min(taken):.1f} to {max(taken):.1f})"
        lines += ["", f"Approximate: {shown} ms a query. {built}"]
    return "\n".join([*lines, "", *["    " + line for line in (__doc__ or "").splitlines()[4:]]]) + "\n"


def open_faiss(index: Index) -> tuple[Any, str]:
    from vitsmith.retrieval.approximate import build_approximate

    began = time.perf_counter()
    built = build_approximate(index)
    facts = built.facts
    return built, (
        f"Built in {time.perf_counter() - began:.0f} s; it looks at {facts.probes} of {facts.centres:,} neighbourhoods "
        f"and finds {facts.recall:.1%} of the true first ten of a sample of its own vectors."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--approximate", action="store_true")
    parser.add_argument("--place", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.place)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.place or Path(temporary, "index")
        index = make_index(folder, options.vectors)
        index.check_hashes()  # reads all of it
        built, told = open_faiss(index) if options.approximate else (None, "")
        memory = measure_memory(folder)
        times = measure_times(index, options.rounds, built)
    report = describe(index, options, times, memory, told)
    print(report)
    if options.out:
        options.out.write_text(report)


if __name__ == "__main__":
    main()

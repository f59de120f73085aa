"""Search without torch beside search with it: this checkout and an earlier one, on one index, in turns.

    git worktree add --detach /elsewhere/before 24f72d5    # the last commit whose search multiplied with torch
    python benchmarks/search_floors.py /elsewhere/before [--vectors 100000 1000000] [--queries 1 64] [--threads 1 2]

Each turn is a process of its own for each of both: it opens the index, searches once without being timed, then five
times. Vectors are float16, 512 wide, around 1,000 centres. The answers of both must be the same, to the last bit.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

WIDTH = 512
CALLS = 5
ROOT = Path(__file__).parents[1]
TIMED = """
import json, sys, time
import numpy as np
from vitsmith.retrieval.index import open_index
from vitsmith.retrieval.search import search

index, queries = open_index(sys.argv[1]), np.load(sys.argv[2])
threads = int(sys.argv[3])
found = search(index, queries, 10, threads=threads)
calls = []
for _ in range(int(sys.argv[4])):
    wall, cpu = time.perf_counter(), time.process_time()
    search(index, queries, 10, threads=threads)
    calls.append((time.perf_counter() - wall, time.process_time() - cpu))
print(json.dumps({"calls": calls, "scores": found.scores.tolist(), "positions": found.positions.tolist()}))
"""


def make_index(place: Path, count: int) -> Path:
    """An index of random vectors, and the queries beside it."""
    from vitsmith.retrieval.description import Space
    from vitsmith.retrieval.writer import IndexWriter

    random = np.random.default_rng(0)
    centres = random.standard_normal((1000, WIDTH), dtype=np.float32)
    folder = place / str(count)
    with IndexWriter(folder, Space(kind="images", identity="a" * 32, model="m", width=WIDTH)) as writer:
        for start in range(0, count, 10_000):
            rows = centres[random.integers(0, 1000, 10_000)] + random.standard_normal((10_000, WIDTH), dtype=np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            for number, row in enumerate(rows):
                writer.add((str(start + number), row))
        writer.finish()
    return folder


def timed(checkout: Path, folder: Path, queries: Path, threads: int) -> tuple[float, float, object]:
    """(milliseconds, milliseconds of CPU) of the median call, and the answer."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", TIMED, str(folder), str(queries), str(threads), str(CALLS)]
    said = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    wall, cpu = (1000 * statistics.median(call[at] for call in said["calls"]) for at in (0, 1))
    return wall, cpu, (said["scores"], said["positions"])


def row(earlier: Path, folder: Path, count: int, threads: int, rounds: int) -> str:
    """A line of the table. Raises AssertionError when both do not answer the same."""
    random = np.random.default_rng(1)
    asked = random.standard_normal((count, WIDTH), dtype=np.float32)
    queries = folder.parent / "queries.npy"
    np.save(queries, asked / np.linalg.norm(asked, axis=1, keepdims=True))
    turns = [tuple(timed(one, folder, queries, threads) for one in (ROOT, earlier)) for _ in range(rounds)]
    assert all(ours[2] == theirs[2] for ours, theirs in turns)
    cells = [folder.name, str(count), str(threads)]
    for at in (0, 1):
        cells += [f"{statistics.median(turn[which][at] for turn in turns):.0f}" for which in (0, 1)]
        cells.append(f"{statistics.median(ours[at] / theirs[at] for ours, theirs in turns):.2f}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("earlier", type=Path)
    parser.add_argument("--vectors", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--queries", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    from vitsmith.machine import describe_machine

    with tempfile.TemporaryDirectory() as place:
        rows = []
        for vectors in options.vectors:
            folder = make_index(Path(place), vectors)
            for queries in options.queries:
                rows += [row(options.earlier, folder, queries, one, options.rounds) for one in options.threads]
    about = f"{describe_machine()}, {datetime.date.today()}, Python {sys.version.split()[0]}, NumPy {np.__version__}"
    text = "\n".join(
        [
            "# Search without torch",
            "",
            f"Script: `benchmarks/search_floors.py`, {options.rounds} rounds in turns, medians. {about}.",
            "",
            "| vectors | queries | threads | NumPy, ms | torch, ms | ratio | NumPy, CPU ms | torch, CPU ms | ratio |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

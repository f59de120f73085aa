"""`vitsmith duplicates` and `vitsmith cluster` on an index of 100,000 images: seconds, and memory.

    pip install 'vitsmith[torch,cluster]'
    python benchmarks/sorting_scale.py [--rows 100000] [--width 384] [--out benchmarks/results/FILE.md]

Synthetic: files of one pixel, all of different content and of one length, so that sizes tell nothing. The vectors of
their index lie about 500 centres; a tenth of the images is free of them (noise), and a twentieth is nearly as another
one (a cosine of about 0.99). The index holds hashes and no columns, so the size of every picture is read from its
header, the slowest case. Each verb runs in a process of its own, with --json to a file: wall seconds, processor
seconds, and the largest memory it had, as the system counts it.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from vitsmith.machine import describe_machine
from vitsmith.retrieval.description import Space
from vitsmith.retrieval.file_state import look_at
from vitsmith.retrieval.writer import IndexWriter

CENTRES = 500
SPREAD = 0.6  # the length of what is added to a centre, of length 1
NEAR = 0.14  # the same for a near duplicate: a cosine of about 0.99
VERBS = (("duplicates",), ("cluster", "--no-names"), ("cluster", "--no-names", "--min-size", "50"))


def vectors_of(rows: int, width: int) -> np.ndarray:
    random = np.random.default_rng(0)

    def around(centres: np.ndarray, length: float) -> np.ndarray:
        moved = centres + length / width**0.5 * random.standard_normal(centres.shape, np.float32)
        return moved / np.linalg.norm(moved, axis=1, keepdims=True)

    centres = random.standard_normal((CENTRES, width), np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    vectors = around(centres[random.integers(CENTRES, size=rows)], SPREAD)
    free = random.permutation(rows)[: rows // 10]
    vectors[free] = around(np.zeros((len(free), width), np.float32), 1)
    copies = random.permutation(rows)[: rows // 20]
    vectors[copies] = around(vectors[random.integers(rows, size=len(copies))], NEAR)
    return vectors.astype(np.float16)


def write(folder: Path, rows: int, width: int) -> Path:
    """The files, and their index."""
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "PNG")
    names = [f"{at % 100:02}/{at:07}.png" for at in range(rows)]
    for at, name in enumerate(names):
        if at < 100:
            (folder / name).parent.mkdir()
        (folder / name).write_bytes(buffer.getvalue() + f"{at:09}".encode())
    os.chdir(folder)
    space = Space.model_validate({"kind": "images", "identity": "a" * 32, "model": "made", "width": width})
    with IndexWriter(folder / "index", space) as writer:
        writer.set_root(names, 0)
        for name, vector in zip(names, vectors_of(rows, width), strict=True):
            writer.add((name, vector), look_at(name))
        writer.finish()
    return folder / "index"


def measure(index: Path, arguments: tuple[str, ...]) -> str:
    result, remarks = index.with_name("result.json"), index.with_name("remarks.txt")
    command = [sys.executable, "-m", "vitsmith", *arguments, str(index), "--json"]
    began = time.perf_counter()
    with result.open("wb") as out, remarks.open("wb") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err)
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(remarks.read_text(encoding="utf-8"))
    found = json.loads(result.read_bytes())
    told = f"{len(found['groups']):,} groups" + (
        f", {len(found['not_grouped']):,} not grouped" if "not_grouped" in found else ""
    )
    memory = used.ru_maxrss * 1024 / 1e6
    return f"| {' '.join(arguments)} | {seconds:.0f} | {used.ru_utime + used.ru_stime:.0f} | {memory:,.0f} | {told} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    out = options.out.absolute() if options.out else None
    asked = f"python benchmarks/sorting_scale.py --rows {options.rows} --width {options.width}"
    with tempfile.TemporaryDirectory() as folder:
        index = write(Path(folder), options.rows, options.width)
        rows = [measure(index, verb) for verb in VERBS]
        os.chdir("/")
    header = "| verb | seconds | processor seconds | memory (MB) | found |\n|---|---:|---:|---:|---|"
    title = f"# Sorting {options.rows:,} images of {options.width} numbers"
    text = f"{title}\n\n`{asked}`, {describe_machine()}\n\n{header}\n" + "\n".join(rows) + "\n"
    print(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""How the house is built: its files, its circles, its longest files and functions, and the way of four requests.

Read from the source: files and lines of each folder, circles of imports (those inside functions count, those for types
and those given as strings to a registry are counted apart), the longest files and functions, class names that mean two
things.

Measured by running: `predict`, `load`, `quantize` and `export` on small models made here, each call of one module by
another recorded by `sys.setprofile`. For each request some packages are its own (for `quantize` verbs/ and compress/);
within these every file counts. Any other package is one door: the file that is called counts, and what it does behind
it does not. The ground floor (errors, arguments, escapes, files/, JSON, ...) is vocabulary, and is not counted.

- rooms: files of its own packages that the request enters.
- doors: files of other packages that these call.
- ways in: pairs of files of which the first calls the second. In a straight line each room but the first has one.
- returns: ways in beyond these; a file that is entered from two files is entered again.
- back up: ways in to a file that is still waiting for the caller to finish, such as a callback.

    python benchmarks/house.py [--root FOLDER] [--out benchmarks/results/NAME.md]

`--root` is the checkout to read and run; default this one. An earlier commit can be measured by this script too.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GROUND = (
    "__init__", "version", "arrays", "errors", "finite", "machine", "process", "forks", "telemetry", "children",
    "arguments", "files", "regular_files", "contents", "locks", "swap", "workspace", "failed_writes", "escapes",
    "json_text", "quiet", "names", "fields", "records", "specs", "needs_torch", "runs",
)  # fmt: skip
OWN = {
    "predict": ("predict",),
    "load": ("weights",),
    "quantize": ("verbs", "compress"),
    "export": ("verbs", "exporters"),
}
KINDS = {
    "imports at the top": {"top"},
    "and inside functions": {"top", "inside"},
    "and for types": {"top", "inside", "types"},
    "and by name": {"top", "inside", "types", "name"},
}


def modules_of(root: Path) -> dict[str, Path]:
    """The files of the package by the names of their modules."""
    found = {}
    for path in sorted((root / "vitsmith").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, path: Path, known: dict[str, Path]) -> dict[str, set[str]]:
    """The modules of the package that one imports, each with how: 'top', 'inside', 'types', 'name'."""
    found: dict[str, set[str]] = defaultdict(set)

    def add(target: str, how: str) -> None:
        if target in known and target not in (name, "vitsmith"):
            found[target].add(how)

    def read(node: ast.AST, how: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ImportFrom) and child.module:
                for alias in child.names:
                    inner = f"{child.module}.{alias.name}"
                    add(inner if inner in known else child.module, how)
            elif isinstance(child, ast.Import):
                for alias in child.names:
                    add(alias.name, how)
            elif isinstance(child, ast.Constant) and isinstance(child.value, str) and name != "vitsmith":
                add(child.value.partition(":")[0], "name")
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and how == "top"
            types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            read(child, "types" if types else "inside" if inside else how)

    read(ast.parse(path.read_text(encoding="utf-8")), "top")
    return found


def functions_of(path: Path) -> Iterator[tuple[int, str]]:
    """Lines and name of each function, from its `def` to its end."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            yield node.end_lineno - node.lineno + 1, node.name


def read_house(root: Path) -> dict[str, Any]:
    """Everything that the source tells."""
    sys.path.insert(0, str(ROOT))
    from tests.house.structure import knots  # of this checkout, whichever is read

    known = modules_of(root)
    graph = {name: imports_of(name, path, known) for name, path in known.items()}

    def circles(kinds: set[str]) -> list[int]:
        """The number of modules in each circle of such imports."""
        needs = {name: {other for other, how in found.items() if how & kinds} for name, found in graph.items()}
        return [len(knot) for knot in knots(needs)]

    lines = {path.relative_to(root / "vitsmith").as_posix(): _lines(path) for path in known.values()}
    folders = Counter(str(Path(name).parent) for name in lines if not name.endswith("__init__.py"))
    classes = Counter(
        node.name for path in known.values() for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
    )  # fmt: skip
    functions = [(size, f"{name}: {path}") for path in known.values() for size, name in functions_of(path)]
    shown = [(size, text.replace(f"{root / 'vitsmith'}/", "")) for size, text in functions]
    tests = {path.relative_to(root).as_posix(): _lines(path) for path in (root / "tests").rglob("test_*.py")}
    return {
        "files": len(lines),
        "lines": sum(lines.values()),
        "fullest folders": folders.most_common(6),
        "circles": {title: circles(kinds) for title, kinds in KINDS.items()},
        "longest files": Counter(lines).most_common(6),
        "files past 300 lines": sum(size > 300 for size in lines.values()),
        "longest functions": sorted(shown, reverse=True)[:6],
        "functions past 50 lines": sum(size > 50 for size, _ in shown),
        "class names used twice": sorted(name for name, count in classes.items() if count > 1),
        "test files": len(tests),
        "fullest folder of tests": Counter(str(Path(name).parent) for name in tests).most_common(1)[0],
        "longest test file": Counter(tests).most_common(1)[0],
    }


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


class Walk:
    """Records which file calls which while a request runs."""

    def __init__(self, own: tuple[str, ...], package: Path) -> None:
        self._own, self._package = own, str(package)
        self._stack: list[str | None] = []
        self.rooms: list[str] = []
        self.ways: dict[tuple[str, str], bool] = {}
        """Pairs of files; whether the second was still waiting."""

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            self._enter(frame)
        elif event == "return" and self._stack:
            self._stack.pop()

    def _enter(self, frame: FrameType) -> None:
        file = frame.f_code.co_filename
        here = file.removeprefix(self._package + "/").removesuffix(".py") if file.startswith(self._package) else None
        before = next((one for one in reversed(self._stack) if one is not None), None)
        beyond = before is not None and before.partition("/")[0] not in self._own
        skipped = here is None or here.partition("/")[0] in GROUND or frame.f_code.co_name == "<module>"
        if here is not None and beyond and here.partition("/")[0] not in self._own:
            skipped = True  # behind a door
        self._stack.append(None if skipped else here)
        if skipped or here is None or here == before:
            return
        if here not in self.rooms:
            self.rooms.append(here)
        if before is not None:
            self.ways[before, here] = self.ways.get((before, here), False) or here in self._stack[:-1]

    def run(self, request: Callable[[], object]) -> dict[str, Any]:
        """Carries out the request, and tells its way."""
        sys.setprofile(self)
        try:
            request()
        finally:
            sys.setprofile(None)
        first = self.rooms[0]
        entries = Counter(callee for _, callee in self.ways)
        again = sum(count - (room != first) for room, count in entries.items() if count - (room != first) > 0)
        back = [f"{caller} -> {callee}" for (caller, callee), waiting in self.ways.items() if waiting]
        own = [room for room in self.rooms if room.partition("/")[0] in self._own]
        return {
            "own": own,
            "doors": [room for room in self.rooms if room not in own],
            "ways in": len(self.ways),
            "returns": again,
            "back up": back,
        }


def walk_requests() -> dict[str, Any]:
    """The ways of the four requests, in this process: with the vitsmith that is imported here."""
    import numpy as np
    import torch

    import vitsmith as vs

    package = Path(vs.__file__).parent
    torch.manual_seed(0)
    model = vs.create_model("ViT-Ti_16", classes=5, image_size=32, depth=2)
    torch.nn.init.normal_(model.get_parameter("head.weight"), std=0.5)
    bundle = vs.Bundle.of(model, labels=vs.Labels(names=("a", "b", "c", "d", "e")))
    random = np.random.default_rng(0)
    images = [random.integers(0, 255, (40, 40, 3), np.uint8) for _ in range(40)]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        vs.save(bundle, place / "model")
        saved = vs.load(place / "model")
        vs.export(saved, "onnx", out=place / "warm")
        predictor = vs.Predictor(place / "warm")
        few: dict[str, Any] = {"images": images, "min_agreement": 0.01, "min_speedup": 0.01, "engine": "onnx"}
        requests = {
            "predict": lambda: predictor(images[:2]),
            "load": lambda: vs.load(place / "model"),
            "quantize": lambda: vs.quantize(saved, out=place / "int8", tell=lambda _: None, **few),
            "export": lambda: vs.export(saved, "onnx", out=place / "onnx", tell=lambda _: None),
        }
        found = {}
        for what, request in requests.items():
            request()  # so that nothing is imported, compiled or remembered on the way that is recorded
            shutil.rmtree(place / "int8", ignore_errors=True)
            shutil.rmtree(place / "onnx", ignore_errors=True)
            found[what] = Walk(OWN[what], package).run(request)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--walk", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.walk:
        print(json.dumps(walk_requests()))
        return
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, "--walk"],
        cwd=options.root,
        env=_environment(options.root),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = read_house(options.root) | {"ways": json.loads(done.stdout.splitlines()[-1])}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=options.root, capture_output=True, text=True)
    text = show(found, commit.stdout.strip())
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


def _environment(root: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


def show(found: dict[str, Any], commit: str) -> str:
    """The result in Markdown."""
    rows = [f"`benchmarks/house.py` at {commit}, {datetime.date.today().isoformat()}.", "", "| | |", "|---|---|"]
    for title, value in found.items():
        if title == "ways":
            continue
        if title == "circles":
            rows += [f"| circles, {kind} | {', '.join(map(str, sizes)) or 'none'} |" for kind, sizes in value.items()]
        else:
            rows.append(f"| {title} | {_told(value)} |")
    rows += ["", "| request | rooms | doors | ways in | returns | back up |", "|---|---|---|---|---|---|"]
    for what, way in found["ways"].items():
        rows.append(
            f"| {what} | {len(way['own'])} | {len(way['doors'])} | {way['ways in']} | {way['returns']} | "
            f"{len(way['back up'])} |"
        )
    for what, way in found["ways"].items():
        rows += ["", f"{what}: {', '.join(way['own'])}; doors: {', '.join(way['doors'])}"]
        if way["back up"]:
            rows.append(f"  back up: {'; '.join(way['back up'])}")
    return "\n".join(rows)


def _told(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "; ".join(" ".join(map(str, one)) if isinstance(one, list | tuple) else str(one) for one in value)
    return str(value)


if __name__ == "__main__":
    main()

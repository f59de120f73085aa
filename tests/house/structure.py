"""Checks of how the source hangs together, by reading it. `python -m tests.house.structure` tells what is wrong.

- What the package, the tests and the benchmarks import from vitsmith and the tests exists: modules and names, also in
  code for `-c`, and where a string names them ('vitsmith.a.b', 'vitsmith.a.b.name', 'vitsmith.a.b:Name').
- There is no circle of modules or folders, wherever an import stands, and no class name for two things.
- No test takes anything from another test, and no file of tests is long.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests import ROOT

FOLDERS = ("vitsmith", "tests", "benchmarks")
LONGEST_TEST = 800
"""Lines of a file of tests."""
NO_MODULES = ("vitsmith.identity", "vitsmith.lock", "vitsmith.model", "vitsmith.nothing", "vitsmith.shape")
"""Strings that look like modules: keys in an index's file, the name of a lock, and what a test misses on purpose."""

_DOTTED = re.compile(r"(?:vitsmith|tests)(?:\.\w+)+(?::\w+)?")
_CODE = re.compile(r"\b(?:from|import) (?:vitsmith|tests)\b")


class Source:
    """The modules of the package, the tests and the benchmarks, and the names in each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = {
            _module_name(path.relative_to(root)): path
            for folder in FOLDERS
            for path in (root / folder).rglob("*.py")
            if "format1" not in path.parts  # its make.py runs with the version whose bundles it makes
        }
        self.nodes = cache(self._nodes)
        self.names = cache(self._names)

    def _nodes(self, module: str) -> list[ast.AST]:
        """Everything in a module's syntax tree, the tree itself first."""
        return list(ast.walk(ast.parse(self.paths[module].read_text(encoding="utf-8"))))

    def body(self, module: str) -> list[ast.stmt]:
        tree = self.nodes(module)[0]
        return tree.body if isinstance(tree, ast.Module) else []

    def _names(self, module: str) -> set[str]:
        """What can be imported from a module: names that it binds, and modules in its folder."""
        inside = {name.removeprefix(f"{module}.") for name in self.paths if name.startswith(f"{module}.")}
        return {"__doc__", "__file__", "__name__"} | set(_bound(self.body(module))) | inside

    def is_there(self, dotted: str) -> bool:
        """Whether 'module', 'module.name' or 'module.Class.name' exists; what lies deeper is not looked at."""
        module, rest = dotted, list[str]()
        while module not in self.paths:
            module, _, last = module.rpartition(".")
            rest.insert(0, last)
            if not module:
                return False
        if not rest:
            return True
        if rest[0] not in self.names(module):
            return False
        found = [node for node in self.body(module) if isinstance(node, ast.ClassDef) and node.name == rest[0]]
        return len(rest) == 1 or not found or bool(found[0].bases) or rest[1] in _bound(found[0].body)

    def is_ours(self, module: str) -> bool:
        return module.split(".")[0] in ("vitsmith", "tests")


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    """The names that statements bind where they stand, also under `if`, `try`, `with` and `for`."""
    for statement in body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name
        elif isinstance(statement, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.split(".")[0] for alias in statement.names)
        else:
            for node in ast.iter_child_nodes(statement):
                if isinstance(node, ast.stmt):
                    yield from _bound([node])
                elif isinstance(node, ast.ExceptHandler):
                    yield from _bound(node.body)
                else:
                    yield from (name.id for name in ast.walk(node) if isinstance(name, ast.Name))


def missing_names(source: Source, nodes: list[ast.AST]) -> Iterator[tuple[int, str]]:
    """(line, name) of each module or name that code imports, patches or names in a string, and that does not exist."""
    modules = _imported_modules(source, nodes)
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in nodes:
        wanted: list[str] = []
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names if source.is_ours(alias.name)]
        elif isinstance(node, ast.ImportFrom) and node.module and source.is_ours(node.module):
            wanted = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            wanted = [f"{modules[node.value.id]}.{node.attr}"]
        elif isinstance(node, ast.Call) and len(node.args) > 1 and getattr(node.func, "attr", "") == "setattr":
            target, name = node.args[:2]
            if isinstance(target, ast.Name) and target.id in modules and isinstance(name, ast.Constant):
                wanted = [f"{modules[target.id]}.{_text(name)}"]
        elif isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in parts:
            text = _text(node)
            if _DOTTED.fullmatch(text) and text not in NO_MODULES and isinstance(node, ast.Constant):
                wanted = [text.replace(":", ".")]
            elif _CODE.search(text):
                yield from ((line, name) for _, name in missing_names(source, _as_code(text)))
        yield from ((line, name) for name in wanted if not source.is_there(name))


def _imported_modules(source: Source, nodes: list[ast.AST]) -> dict[str, str]:
    """Our modules by the names that code gives them; without names that also mean something else in the file."""
    found: dict[str, set[str]] = defaultdict(set)
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name].add(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.split(".")[0]].add(alias.name if alias.asname else "")
        elif isinstance(node, ast.arg):
            found[node.arg].add("")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found[node.id].add("")
    single = {name: next(iter(meant)) for name, meant in found.items() if len(meant) == 1}
    return {name: module for name, module in single.items() if module in source.paths and module != "vitsmith"}


def _text(node: ast.Constant | ast.JoinedStr) -> str:
    """The text of a string; what an f-string fills in is an underscore."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "_" for part in node.values)


def _as_code(text: str) -> list[ast.AST]:
    """The text as Python, or nothing where it is something else: prose, an excerpt, a template."""
    try:
        return list(ast.walk(ast.parse(textwrap.dedent(text))))
    except SyntaxError:
        return []


def imported(source: Source, module: str) -> set[str]:
    """The modules of the package that one of them needs: at its top, in functions, for types, or named in a string."""
    found = set()
    for node in source.nodes(module):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in source.paths else node.module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value.partition(":")[0])
    return {name for name in found if name in source.paths and name.startswith("vitsmith.")} - {module}


def circles(source: Source) -> list[list[str]]:
    """The modules, and the files and folders of one folder, of which each reaches every other."""
    needs = {name: imported(source, name) for name in sorted(source.paths) if name.startswith("vitsmith.")}
    found = knots(needs)
    rooms = {name[: dot.start()] for name in needs for dot in re.finditer(r"\.", name)}
    for room in sorted(rooms):
        members: dict[str, set[str]] = defaultdict(set)
        for name in needs:
            if here := _member(room, name):
                members[here] |= {there for other in needs[name] if (there := _member(room, other)) not in ("", here)}
        found += [knot for knot in knots(members) if knot not in found]
    return found


def _member(room: str, module: str) -> str:
    """The file or folder of a room in which a module lies; '' for one outside."""
    inside = module.removeprefix(f"{room}.")
    return f"{room}.{inside.partition('.')[0]}" if inside != module else ""


def knots(graph: dict[str, set[str]]) -> list[list[str]]:
    """The sets of nodes of which each reaches every other, by Tarjan's algorithm."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = lowest[node] = len(order)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in order:
                visit(other)
            if other in stack:
                lowest[node] = min(lowest[node], lowest[other])
        if lowest[node] == order[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in sorted(graph):
        if node not in order:
            visit(node)
    return found


def class_twins(source: Source) -> dict[str, list[str]]:
    """The modules of the package that define a class of the same name, by that name."""
    found: dict[str, list[str]] = defaultdict(list)
    for module in sorted(source.paths):
        if module.startswith("vitsmith"):
            for node in source.body(module):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found[node.name].append(module)
    return {name: modules for name, modules in found.items() if len(modules) > 1}


def problems(source: Source) -> list[str]:
    """Everything that is wrong, a line each."""
    found = []
    for module, path in sorted(source.paths.items()):
        place, nodes = path.relative_to(source.root).as_posix(), source.nodes(module)
        for (line, name), _ in sorted(Counter(missing_names(source, nodes)).items()):
            found.append(f"{place}:{line}: {name} does not exist")
        if path.name.startswith("test_"):
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > LONGEST_TEST:
                found.append(f"{place}: {lines} lines, at most {LONGEST_TEST}: give it a room")
            for node in nodes:
                if isinstance(node, ast.ImportFrom) and re.search(r"\.test_\w+$", node.module or ""):
                    found.append(f"{place}:{node.lineno}: a helper of {node.module}: move it to a module of its own")
    found += [f"a circle: {' '.join(circle)}" for circle in circles(source)]
    return found + [f"{name} is a class of {' and '.join(modules)}" for name, modules in class_twins(source).items()]


if __name__ == "__main__":
    wrong = problems(Source(ROOT))
    print("\n".join(wrong), end="\n" if wrong else "")
    sys.exit(bool(wrong))

"""The table of files in docs/architecture.md, made from the first sentences of their docstrings.

`python -m tests.file_table` writes it; the tests compare it.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

from tests.documentation import ROOT

PAGE = ROOT / "docs" / "architecture.md"
PACKAGE = ROOT / "vitsmith"
_TABLE = re.compile(r"(?<=\n\| file \| what it is for \|\n\|---\|---\|\n)(?:\|.*\n)+")


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring, on one line and without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[\w)`'])\.\s+(?=[A-Z`'])", paragraph, maxsplit=1)[0].removesuffix(".")


def layers() -> list[str]:
    """What lies in the package itself, the ground floor first, as the contract in pyproject.toml has it."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    upwards: list[str] = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    return upwards[::-1]


def rows() -> list[str]:
    """A row for each room, and one for each file in it, in the order of the layers."""
    found = []
    for layer in layers():
        if (PACKAGE / f"{layer}.py").is_file():
            found.append(_row(PACKAGE / f"{layer}.py"))
            continue
        for room in sorted({path.parent for path in (PACKAGE / layer).rglob("*.py")}):
            found.append(f"| **`{room.relative_to(PACKAGE).as_posix()}/`** | {first_sentence(room / '__init__.py')} |")
            found += [_row(path) for path in sorted(room.glob("*.py")) if path.name != "__init__.py"]
    return found


def _row(path: Path) -> str:
    return f"| `{path.relative_to(PACKAGE).as_posix()}` | {first_sentence(path).replace('|', chr(92) + '|')} |"


def with_table(page: str) -> str:
    """The page with its table of files as it is now."""
    made, count = _TABLE.subn(lambda _: "\n".join(rows()) + "\n", page)
    assert count == 1, "docs/architecture.md has no table of files"
    return made


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

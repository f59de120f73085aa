"""The front door: a sorted list of public names, and nothing heavy behind it until it is used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import vitsmith
from tests import ROOT
from tests.house.structure import Source
from vitsmith import needs_torch


def modules_after(statement: str) -> set[str]:
    """What a fresh interpreter has imported after `statement`."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_public_names_are_sorted_and_there() -> None:
    assert vitsmith.__all__ == sorted(vitsmith.__all__)
    for name in vitsmith.__all__:
        value = getattr(vitsmith, name)
        assert value.__name__ == name and value.__module__.startswith("vitsmith.") and value.__doc__
    assert set(vitsmith.__all__) == {name for name in dir(vitsmith) if not name.startswith("__")}
    with pytest.raises(AttributeError, match="module 'vitsmith' has no attribute 'laod'"):
        _ = vitsmith.laod


def test_the_import_is_light() -> None:
    heavy = {"torch", "numpy", "pydantic", "PIL", "scipy", "safetensors", "onnx", "onnxruntime", "rich", "typer"}
    assert not modules_after("import vitsmith") & heavy


def test_a_part_that_cannot_be_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_part.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("broken_part", "broken_part:function"):
        with pytest.raises(ImportError, match="libcudart"):
            needs_torch.part(name)


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import vitsmith; vitsmith.ImageSpec, vitsmith.InputError", {"torch", "numpy", "PIL"}),
        ("from vitsmith.models.configure import configure; configure('B/16')", {"torch", "numpy", "PIL"}),
        ("import vitsmith; vitsmith.create_model", {"onnx", "onnxruntime", "PIL", "scipy", "safetensors", "sklearn"}),
        ("import vitsmith; vitsmith.Predictor, vitsmith.load", {"onnx", "onnxruntime", "sklearn", "rich", "typer"}),
    ],
)
def test_a_part_imports_only_what_it_needs(statement: str, unwanted: set[str]) -> None:
    assert not modules_after(statement) & unwanted


MODULES = {"faiss-cpu": "faiss", "pillow": "PIL", "scikit-learn": "sklearn", "tensorboard": "torch.utils.tensorboard"}
"""What is imported of packages that are imported by another name."""


def test_every_package_of_an_extra_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [named for extra, named in project["optional-dependencies"].items() if extra not in ("test", "dev")]
    packages = {re.split(r"[\[<>=]", one)[0] for named in [project["dependencies"], *extras] for one in named}
    source = Source(ROOT)
    imported = set()
    for node in (node for module in source.paths if module.startswith("vitsmith") for node in source.nodes(module)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module)
    wanted = {MODULES.get(package, package) for package in packages - {"vitsmith"}}
    assert {one for one in wanted if not any(f"{name}.".startswith(f"{one}.") for name in imported)} == set()

"""Signatures of what `vitsmith` names, and of what the documentation imports from its insides."""

from __future__ import annotations

import ast
import importlib
import inspect
from dataclasses import is_dataclass
from typing import Any

import vitsmith
from tests.documentation import PAGES, blocks
from tests.guides import is_file
from tests.transcripts import Files

LONGEST = 80
"""Characters of a signature that stands on one line; a longer one has a line for each parameter."""


def make() -> Files:
    """One file, in the order of names."""
    lines = ["# vitsmith.__all__", ""]
    for name in sorted(vitsmith.__all__):
        lines += _described(name, getattr(vitsmith, name))
    lines += ["", "# Other imports in the examples of README.md, README.zh-CN.md and docs/", ""]
    for module, name in sorted(_deep_imports()):
        value = getattr(importlib.import_module(module), name)
        lines.append(f"from {module} import {name}")
        if callable(value) and not inspect.isclass(value):
            lines.append(f"    {name}{_signature(value)}")
    return {"public_names.txt": "\n".join(lines) + "\n"}


def _deep_imports() -> set[tuple[str, str]]:
    """(module, name) of each `from vitsmith.module import name` in a block of Python of the pages."""
    found = set()
    for page in PAGES:
        for block in blocks(page, "python"):
            if is_file(block):  # of a guide, which imports its neighbours
                continue
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("vitsmith."):
                    found |= {(str(node.module), alias.name) for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module == "vitsmith":
                    found |= {("vitsmith", alias.name) for alias in node.names if alias.name not in vitsmith.__all__}
    return found


def _described(name: str, value: Any) -> list[str]:
    if not inspect.isclass(value):
        return [f"{name}{_signature(value)}"]
    # The fields and members of a dataclass's parents are shown as its own.
    parents = ", ".join(base.__name__ for base in value.__bases__ if base is not object and not is_dataclass(base))
    lines = [f"class {name}({parents})" if parents else f"class {name}"]
    if hasattr(value, "model_fields"):
        lines += [f"    {field}: {_field(value, field)}" for field in value.model_fields]
    elif "__init__" in vars(value):
        lines.append(f"    __init__{_signature(value.__init__)}")
    for member, found in sorted(_members(value).items()):
        lines += _member(member, found)
    return lines


def _members(kind: type) -> dict[str, Any]:
    """Public methods, properties and class attributes of the class and those parents that are ours, and `__call__`."""
    found: dict[str, Any] = {}
    for parent in reversed(kind.__mro__):
        if parent.__module__.startswith("vitsmith."):
            found |= vars(parent)
    fields: Any = {**getattr(kind, "model_fields", {}), **getattr(kind, "__dataclass_fields__", {})}
    dunder = ("__call__", "__iter__", "__len__", "__enter__", "__exit__", "__str__")
    return {
        name: value
        for name, value in found.items()
        if (not name.startswith("_") or name in dunder) and name not in fields and not name.startswith("model_")
    }


def _member(name: str, value: Any) -> list[str]:
    if isinstance(value, property):
        return [f"    {name} -> {inspect.get_annotations(value.fget).get('return', '?')}"]  # type: ignore[arg-type]
    if isinstance(value, staticmethod | classmethod):
        kind = type(value).__name__
        return [f"    {name}{_signature(value.__func__)}  [{kind}]"]
    if inspect.isfunction(value):
        return [f"    {name}{_signature(value)}"]
    if hasattr(value, "func"):  # functools.cached_property
        return [f"    {name} -> {inspect.get_annotations(value.func).get('return', '?')}"]
    return [f"    {name} = {value!r}"] if isinstance(value, str | int | float | tuple) else []


def _signature(function: Any) -> str:
    """As it stands in the source: annotations are text. What begins with an underscore is not the user's."""
    signature = inspect.signature(function)
    shown: list[str] = []
    keyword_only = False
    for name, parameter in signature.parameters.items():
        if name.startswith("_"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            shown.append("*")
        keyword_only |= parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        annotation = "" if parameter.annotation is parameter.empty else f": {_annotation(parameter.annotation)}"
        default = "" if parameter.default is parameter.empty else f" = {_default(parameter.default)}"
        shown.append(f"{stars}{name}{annotation}{default}")
    returned = signature.return_annotation
    arrow = "" if returned is signature.empty else f" -> {_annotation(returned)}"
    line = f"({', '.join(shown)}){arrow}"
    if len(line) <= LONGEST:
        return line
    return "(\n" + "".join(f"        {one},\n" for one in shown) + f"    ){arrow}"


def _annotation(value: Any) -> str:
    return str(getattr(value, "__name__", value) if inspect.isclass(value) else value).strip('"')


def _default(value: Any) -> str:
    text = repr(value)
    return f"<{getattr(value, '__name__', type(value).__name__)}>" if " at 0x" in text else text


def _field(kind: Any, name: str) -> str:
    """A field of a description: its type as it stands in the source, and its default."""
    annotations = (inspect.get_annotations(one) for one in kind.__mro__)
    annotation = next(found[name] for found in annotations if name in found)
    field = kind.model_fields[name]
    if field.is_required():
        return str(annotation)
    return f"{annotation} = {'<made>' if field.default_factory else repr(field.default)}"

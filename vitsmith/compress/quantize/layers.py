"""Sites, the parts of a model that may each be int8 or float: patches, ResNet of a hybrid, blocks, pooling, heads."""

from __future__ import annotations

import ast
import re
from typing import Any

HEADS = ("attention_pool", "representation", "unit", "head", "distillation_head")
"""Sites that always stay in float: they compute one token (attention pooling all but its keys and values), so int8
saves no time, and its error is not averaged out."""
_SITE = re.compile(rf"(?:^|\.)(blocks\.\d+|patches|resnet|{'|'.join(HEADS)})(?=\.|$)")
_BLOCK = re.compile(r"(?:^|\.)blocks\.\d+$")


def site_of(name: str) -> str:
    """'blocks.3' for 'blocks.3.mlp.widen' or 'tower.blocks.3'; '' for a module that belongs to no site."""
    found = _SITE.search(name)
    return found.group(1) if found else ""


def nodes_by_site(graph: Any) -> dict[str, list[str]]:
    """Names of the nodes of each site of an onnx.ModelProto, whose metadata name the module of each node."""
    sites: dict[str, list[str]] = {}
    for node in graph.graph.node:
        site = next((site for scope in scopes_of(node) if (site := site_of(scope))), "")
        if site:
            sites.setdefault(site, []).append(node.name)
    return sites


def matching_nodes(graph: Any) -> list[str]:
    """Names of the products that compare tokens in blocks that merge. They stay in float.

    Rounding them would pair other tokens. A block computes them itself, outside its attention and MLP.
    """
    found = []
    for node in graph.graph.node:
        modules = scopes_of(node)[:-1]
        if node.op_type == "MatMul" and modules and _BLOCK.search(modules[-1]):
            found.append(node.name)
    return found


def scopes_of(node: Any) -> list[str]:
    """Modules that an ONNX node was exported from, the outermost first and the operation last."""
    text = next((entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"), "[]")
    return [str(scope) for scope in ast.literal_eval(text)]


def describe_sites(sites: tuple[str, ...]) -> str:
    """'patches, blocks 3, 10'."""
    blocks = sorted(int(site.removeprefix("blocks.")) for site in sites if site.startswith("blocks."))
    others = [site for site in sites if not site.startswith("blocks.")]
    numbered = [f"block{'s' if len(blocks) > 1 else ''} {', '.join(map(str, blocks))}"] if blocks else []
    return ", ".join(others + numbered)

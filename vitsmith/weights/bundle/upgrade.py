"""Converts bundle.json of format 1, as version 0.1 wrote it, to the fields of format 2.

Format 1 named measurements in prose, 'latency_p50 (onnx, one image)', and had one program in a folder.
"""

from __future__ import annotations

import math
import re
from typing import Any

from vitsmith.errors import NOT_FINITE
from vitsmith.weights.bundle.measurements import COSTS

_ALONE = "inference alone"
_METRICS = {
    "training speed": "training_images_per_second",
    "zero-shot top1": "zero_shot_top1",
    "agreement with the float model": "agreement",
    "mean cosine with the float model": "mean_cosine",
    "top-1 agreement": "agreement",
    "mean cosine": "mean_cosine",
}
"""Names of format 1 -> metrics."""
_PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int8-weights", "fp8")


def from_format_1(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of format 2 for those of format 1. Damaged fields stay: whoever reads them reports them.

    Measurements that are NaN or infinite are left out, and a note in the provenance says so: early versions wrote them,
    and they mean nothing.
    """
    kept = {name: value for name, value in fields.items() if name not in ("program", "program_spec", "images", "head")}
    config = fields.get("config")
    classes = config.get("classes") if isinstance(config, dict) else None
    usual = "softmax" if classes else "none"
    head = fields.get("head")
    program = {"program": fields.get("program"), "spec": fields.get("program_spec", {})}
    return kept | {
        "format": 2,
        "preprocessing": fields.get("images"),
        "head": usual if head in (None, "softmax") else head,
        "programs": [program],
        "provenance": _provenance(fields.get("provenance"), _not_finite(fields.get("measurements"))),
        "measurements": _measurements(fields.get("measurements")),
    }


def _provenance(fields: Any, left_out: list[dict[str, Any]]) -> Any:
    if not isinstance(fields, dict):
        return fields
    changed = {("kind" if name == "format" else name): value for name, value in fields.items()}
    if left_out:
        names = ", ".join(f"{one.get('name')}{f' ({data})' if (data := one.get('data')) else ''}" for one in left_out)
        note = f"measurements left out, because they are {NOT_FINITE}: {names}"
        changed["notes"] = [*fields.get("notes", ()), note]
    return changed


def _not_finite(measurements: Any) -> list[dict[str, Any]]:
    listed = measurements if isinstance(measurements, list) else []
    return [one for one in listed if isinstance(one, dict) and not all(map(_is_usable, one.values()))]


def _is_usable(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _measurements(measurements: Any) -> Any:
    if not isinstance(measurements, list):
        return measurements
    left_out = _not_finite(measurements)
    return [
        _measurement(one) if isinstance(one, dict) and isinstance(one.get("name"), str) else one
        for one in measurements
        if one not in left_out
    ]


def _measurement(fields: dict[str, Any]) -> dict[str, Any]:
    """One measurement of format 1, whose name holds everything, as fields; `Bundle` adds program and precision."""
    rest = {name: value for name, value in fields.items() if name != "name"}
    name, data = fields["name"].replace("peak memory (", "peak_memory (", 1), rest.get("data", "")
    if isinstance(data, str) and data.endswith(", before export"):
        rest |= {"program": "torch", "precision": "fp32"}  # measured on the weights: early exports copied it
    if match := re.fullmatch(r"recall@(\d+) \(?(image to text|text to image)\)?", name):
        return rest | {"metric": f"{match[2].replace(' ', '_')}_recall@{match[1]}"}
    title, _, how = name.partition(" (")
    if title in COSTS and how:
        engine, precision, batch = _how(how.removesuffix(")"))
        metric = "end_to_end_images_per_second" if title == "images_per_second" and batch is None else title
        data = "" if data == _ALONE else data
        return rest | {"metric": metric, "engine": engine, "precision": precision, "batch": batch, "data": data}
    if name == "training speed" and rest.get("unit") == "pairs/s":
        return rest | {"metric": "training_pairs_per_second"}
    return rest | {"metric": _METRICS.get(name, name)} | (_of_data(name, data) if isinstance(data, str) else {})


def _of_data(name: str, data: str) -> dict[str, Any]:
    """Fields that `data` of an accuracy also held: 'pets, zero-shot with simple, bf16'."""
    found: dict[str, Any] = {}
    plain, _, precision = data.rpartition(", ")
    if precision in _PRECISIONS:
        data = plain
        found = {"precision": precision, "data": data}
    if match := re.fullmatch(r"(.*), zero-shot(?: with (.+))?", data):
        templates = f", templates {match[2]}" if match[2] else ""
        found |= {"metric": f"zero_shot_{name}", "data": match[1] + templates}
    return found


def _how(text: str) -> tuple[str, str, int | None]:
    """(engine, precision, batch) of 'openvino bf16, batches of 8', 'onnx, one image' or 'torch'."""
    ran, _, images = text.partition(", ")
    engine, _, precision = ran.partition(" ")
    batch = 1 if images == "one image" else int(match[1]) if (match := re.search(r"(\d+)$", images)) else None
    return engine, precision, batch

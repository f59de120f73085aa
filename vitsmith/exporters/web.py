"""A folder that is a bundle and a page: served by anything, it runs the model in the reader's browser."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from vitsmith.arrays import Array
from vitsmith.engines.golden_answers import tolerance_of
from vitsmith.errors import InputError
from vitsmith.exporters.exporter import Deliver, Exporter, Extras
from vitsmith.exporters.onnx import layer_outputs, write_onnx
from vitsmith.exporters.web_runtime import FILES as RUNTIME_FILES
from vitsmith.exporters.web_runtime import VERSION, web_runtime
from vitsmith.json_text import to_json
from vitsmith.models.config import LiTConfig
from vitsmith.models.lit import LiT
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import write_bundle
from vitsmith.weights.bundle.summary import describe_images, title
from vitsmith.zeroshot.classifier import ZeroShotClassifier

PAGE = ("index.html", "style.css", "page.js", "worker.js", "model.js", "decode.js", "preprocess.js", "golden.js")
"""The page's own files, in `vitsmith/web/`."""

PROGRAM = "model.onnx"
LARGEST_PROGRAM = 1_800_000_000
"""Bytes. WebAssembly addresses 4 GiB, and opening a model takes nearly twice its size."""


@dataclass(frozen=True, eq=False)
class Classes:
    """The labels of a LiT model on a page, and their text embeddings, (labels, E) unit vectors."""

    labels: tuple[str, ...]
    embeddings: Array


def _deliver(bundle: Bundle, folder: Path, spec: ProgramSpec, extras: Extras) -> Deliver:
    """The program becomes a page in `folder`, which is a bundle as well. Raises DownloadError without the runtime."""
    _check(bundle, spec, extras)
    runtime = web_runtime()
    return lambda made: _write(made, folder, runtime, _classes(made, extras))


def _check(bundle: Bundle, spec: ProgramSpec, extras: Extras) -> None:
    """Raises InputError for a model or program that a page cannot run."""
    if spec.batch not in (None, 1):
        raise InputError(
            f"a page answers one image at a time, not {spec.batch}: export it with `fixed_batch` 1 or without"
        )
    if getattr(bundle.config, "pooling", "") in ("unpooled", "token_unpooled"):
        raise InputError(f"{bundle.where} gives logits for each patch, not one answer for an image: no page shows them")
    if extras.labels is not None and not isinstance(bundle.config, LiTConfig):
        raise InputError(f"{bundle.where} has classes of its own: labels in words are for LiT models")
    if extras.labels is not None:
        bundle.check_texts()
    if (size := _weights_size(bundle, spec)) > LARGEST_PROGRAM:
        raise InputError(
            f"{bundle.where} has {size / 1e9:.1f} GB of weights, more than a browser holds: take a smaller model, "
            "`precision` fp16, or int8 from  vitsmith quantize"
        )


def _classes(bundle: Bundle, extras: Extras) -> Classes | None:
    if extras.labels is None:
        return None
    classifier = ZeroShotClassifier(bundle, extras.labels, templates=extras.templates, engine="onnx")
    return Classes(classifier.labels.shown, np.ascontiguousarray(classifier.embeddings, np.float32))


def _weights_size(bundle: Bundle, spec: ProgramSpec) -> int:
    """Bytes of what a page must load: the image program."""
    if bundle.program == "onnx":
        return sum(path.stat().st_size for path in _programs(bundle.place) if path.name.startswith("model."))
    tower = bundle.model.image if isinstance(bundle.model, LiT) else bundle.model
    return sum(parameter.numel() for parameter in tower.parameters()) * (2 if spec.precision == "fp16" else 4)


def _programs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith(("model.onnx", "text.onnx")))


def _write(bundle: Bundle, folder: Path, runtime: dict[str, bytes], classes: Classes | None) -> Bundle:
    """Writes page, runtime and program into one folder. `bundle` is an ONNX program on disk."""
    source = bundle.place
    programs = _programs(source)

    def write_program(place: Path) -> None:
        for path in programs:
            if path.suffix == ".onnx":
                _copy_whole(path, place / path.name)
        page = resources.files("vitsmith") / "web"
        for name in PAGE:
            (place / name).write_bytes((page / name).read_bytes())
        (place / "ort").mkdir()
        for name in RUNTIME_FILES:
            (place / "ort" / name).write_bytes(runtime[name])
        if classes is not None:
            (place / "classes.bin").write_bytes(classes.embeddings.astype("<f4").tobytes())
        facts = to_json(_facts(bundle, (place / PROGRAM).stat().st_size, classes), indent=2)
        (place / "page.json").write_text(facts + "\n", encoding="utf-8")

    return write_bundle(bundle, folder, write_program=write_program)


def _copy_whole(path: Path, target: Path) -> None:
    """Copies a graph; weights that lie beside it go into it, because the page fetches one file."""
    if not path.with_name(f"{path.name}.data").exists():
        shutil.copyfile(path, target)
        return
    import onnx

    onnx.save(onnx.load(path), target)


def _facts(bundle: Bundle, size: int, classes: Classes | None) -> dict[str, Any]:
    """Facts for the page that bundle.json does not have; if classes share names, also names that differ."""
    labels = bundle.labels
    names = {"names": list(labels.shown)} if labels is not None and labels.shown != labels.names else {}
    return {
        **names,
        "title": title(bundle.config, bundle.provenance),
        "precision": bundle.program_spec.arithmetic,
        "bytes": size,
        "input": describe_images(bundle.preprocessing),
        "classes": len(classes.labels) if classes else bundle.classes,
        "words": list(classes.labels) if classes else None,
        "tolerance": tolerance_of(bundle, "auto"),
        "runtime": VERSION,
        "pillow": int(PIL.__version__.split(".")[0]),  # its order of passes; see preprocess.js
    }


WEB = Exporter(
    "onnx", f"vitsmith export --to web (onnxruntime-web {VERSION})", write_onnx, layer_outputs, deliver=_deliver
)

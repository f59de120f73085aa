"""A bundle on disk: bundle.json, the weights or program, golden examples and a model card.

model/
  bundle.json          everything but the numbers, and the SHA-256 of each other file
  model.safetensors    or model.onnx (with model.onnx.data when large), model.xml and model.bin, model.pte
  text.*               the text tower of an exported LiT
  tokenizer.txt        or tokenizer.model: the vocabulary of a LiT
  golden.safetensors   images, their tensors and their outputs; of LiT also texts
  split.safetensors    which images it was trained on and which were held out, as salted digests; may be deleted
  README.md            the model card, written from bundle.json
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from vitsmith.data.split_record import SPLIT, write_split
from vitsmith.errors import BundleError, OutputError
from vitsmith.failed_writes import explained
from vitsmith.files import check_writable, optional, replacing_folder, sha256, write_text
from vitsmith.json_text import read_json, to_json
from vitsmith.locks import Lock
from vitsmith.models.build import Model, build
from vitsmith.models.config import LiTConfig, ModelConfig, show_size
from vitsmith.models.isolation import isolated
from vitsmith.regular_files import utf8_path
from vitsmith.specs import (
    AS_FOUND,
    Head,
    ImageSpec,
    Labels,
    Measurement,
    ProgramSpec,
    Provenance,
    Similarity,
    TextSpec,
    mistakes_in,
)
from vitsmith.weights.bundle import Bundle, Program, vocabulary_suffix
from vitsmith.weights.card import model_card
from vitsmith.weights.fill import require_finite_model
from vitsmith.weights.golden import read_golden, write_golden
from vitsmith.weights.measurements import finite_measurements
from vitsmith.workspace import mend

FORMAT = 1
_FLOATS = ("F64", "F32", "F16", "BF16")
DESCRIPTION, GOLDEN, CARD, WEIGHTS = "bundle.json", "golden.safetensors", "README.md", "model.safetensors"
LOCK = ".lock"
"""There while a process records measurements."""


class Description(BaseModel):
    """What bundle.json holds."""

    model_config = ConfigDict(extra="forbid")

    format: int
    program: Program
    program_spec: ProgramSpec = ProgramSpec()
    config: ModelConfig
    images: ImageSpec
    text: TextSpec | None
    labels: Labels | None
    provenance: Provenance
    measurements: tuple[Measurement, ...]
    similarity: Similarity | None = None
    head: Head | None = None
    """What the outputs mean; absent for softmax."""
    weights: str = ""
    """Hash of the weights by value: names what embeddings mean, also of an exported program."""
    files: dict[str, str]
    checksum: str = ""
    """SHA-256 of all the other fields, so that a changed label or mean is noticed too."""


def is_bundle(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a folder with a bundle.json."""
    place = Path(path)
    try:
        if not place.exists():
            mend(place)
        return (place / DESCRIPTION).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def write_bundle(
    bundle: Bundle, folder: str | os.PathLike[str], *, write_program: Callable[[Path], None] | None = None
) -> Bundle:
    """Writes a bundle and returns the one on disk. `folder` appears whole or not at all.

    `write_program` writes an exported program into the temporary folder; without it the torch weights are written.
    A bundle that is already there is replaced, anything else is not. Raises OutputError when the place cannot be used.
    """
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not is_bundle(folder):
        raise OutputError(f"{folder} holds files that are no bundle and would be lost; choose another output folder")
    bundle = replace(bundle, measurements=bundle.still_measured())
    with replacing_folder(folder) as partial:
        (write_program or (lambda place: _write_weights(bundle.model, place / WEIGHTS)))(partial)
        if bundle.text is not None and bundle.vocabulary is not None:
            (partial / f"tokenizer{vocabulary_suffix(bundle.text)}").write_bytes(bundle.vocabulary)
        if bundle.golden is not None:
            write_golden(bundle.golden, partial / GOLDEN)
        files = {name: sha256(partial / name) for name in _files(partial)}
        if (record := bundle.split) is not None:
            write_split(record, partial / SPLIT)  # not among `files`: who deletes it still has a whole bundle
        write_text(partial / DESCRIPTION, _describe(bundle, files), durable=False)  # as all that is in there, later
        with optional(f"the model card of {folder}"):
            write_text(partial / CARD, model_card(bundle), durable=False)
    return read_bundle(folder, verify=False)


def read_bundle(folder: str | os.PathLike[str], *, verify: bool = True) -> Bundle:
    """The bundle in `folder`; with `verify` every file's hash is compared. Raises BundleError."""
    folder = Path(folder)
    description = _read_description(folder)
    missing = sorted(set(description.files) - set(_files(folder)))
    if missing:
        raise BundleError(f"{folder}: {', '.join(missing)} is missing; copy the whole folder again")
    if verify:
        for name, expected in description.files.items():
            if sha256(folder / name) != expected:
                raise BundleError(
                    f"{folder / name} is not the file this bundle was written with (its SHA-256 differs): "
                    "copy or export it again"
                )
    bundle = Bundle(
        config=description.config,
        preprocessing=description.images,
        provenance=description.provenance,
        labels=description.labels,
        text=description.text,
        vocabulary=_read_vocabulary(folder, description),
        measurements=description.measurements,
        program=description.program,
        program_spec=description.program_spec,
        head=description.head or "softmax",
        folder=folder,
        golden=read_golden(folder / GOLDEN) if GOLDEN in description.files else None,
        _weights_hash=description.weights,
        _similarity=description.similarity,
        _split=folder / SPLIT if (folder / SPLIT).exists() else None,
    )
    return bundle.as_read()


def is_program(name: str, *parts: str) -> bool:
    """Whether a file of a bundle is weights or a program's: 'model.xml', 'text.bin'. By default of both `parts`."""
    return name.startswith(tuple(f"{part}." for part in parts or ("model", "text")))


def program_files(folder: Path, *parts: str) -> list[Path]:
    """The files of the weights or programs in a bundle's folder; `parts` as `is_program`."""
    return sorted(path for path in folder.iterdir() if is_program(path.name, *parts) and path.is_file())


def program_mib(folder: Path, *parts: str) -> float:
    """Their size in MiB."""
    return sum(path.stat().st_size for path in program_files(folder, *parts)) / 2**20


def copy_programs(source: Path, target: Path, *parts: str) -> None:
    """Copies them into another folder."""
    for path in program_files(source, *parts):
        shutil.copyfile(path, target / path.name)


def _files(folder: Path) -> list[str]:
    """Names of all files in a folder and the folders within, with slashes."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _read_vocabulary(folder: Path, description: Description) -> bytes | None:
    name = f"tokenizer{vocabulary_suffix(description.text)}" if description.text is not None else ""
    return (folder / name).read_bytes() if name in description.files else None


def record_measurements(bundle: Bundle, measurements: Sequence[Measurement]) -> None:
    """Adds measurements to the bundle on disk: its bundle.json and model card are replaced.

    Several processes may do so at once: each waits for the others, and nothing is lost. Raises BundleError, and
    OutputError for a folder that cannot be written.
    """
    folder = bundle.folder
    if folder is None:
        raise BundleError(f"{bundle.where} is not a bundle on disk, so nothing can be recorded in it; save it first")
    with explained(folder / DESCRIPTION), Lock.take(folder / LOCK, wait=True):
        there = read_bundle(folder, verify=False)  # nothing else of what is in memory is written
        if (there.program, there.program_spec, there._weights_hash) != (
            bundle.program,
            bundle.program_spec,
            bundle._weights_hash,
        ):
            raise BundleError(f"{folder} was replaced by another model while this one was measured: measure it again")
        measured = there.measured(*measurements)
        write_text(folder / DESCRIPTION, _describe(measured, _read_description(folder).files))
        with optional(f"the model card of {folder}"):
            write_text(folder / CARD, model_card(measured))


def check_recordable(folder: str | os.PathLike[str]) -> None:
    """Raises OutputError, before anything is measured, when nothing could be recorded in a bundle's folder."""
    check_writable(Path(folder) / DESCRIPTION)


def check_there(folder: Path) -> None:
    """Raises BundleError when the folder of a bundle that was loaded has gone since, seen from where we are now."""
    if folder.is_dir():
        return
    how = "it was moved or deleted"
    if not folder.is_absolute():
        how += ", or the working folder, which its path begins from, is another now"
    raise BundleError(f"{folder} is not there any more: {how}; load the bundle from its place")


@isolated()
def read_weights(bundle: Bundle) -> Model:
    """The torch model of a bundle on disk, in eval mode; memory is the model's own. Raises BundleError."""
    import torch
    from safetensors import SafetensorError, safe_open

    assert bundle.folder is not None
    check_there(bundle.folder)
    path = bundle.folder / WEIGHTS
    skeleton = build(bundle.config, device="meta")
    shapes = {name: tuple(parameter.shape) for name, parameter in skeleton.named_parameters()}
    try:
        with utf8_path(path) as known, safe_open(known, framework="pt") as file, torch.no_grad():
            _check_shapes(file, shapes, path)  # before memory is taken for what bundle.json claims
            model = skeleton.to_empty(device="cpu")
            for name, parameter in model.named_parameters():
                parameter.copy_(file.get_tensor(name))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise BundleError(f"{path} cannot be read ({error}); copy the bundle again") from None
    require_finite_model(model, str(path))
    return model.eval()


def _check_shapes(file: Any, shapes: dict[str, tuple[int, ...]], path: Path) -> None:
    """Raises BundleError unless an open safetensors file has the arrays of these names and shapes, and no others."""
    if differing := sorted(set(file.keys()) ^ set(shapes)):
        raise BundleError(f"{path}: arrays do not fit bundle.json: {', '.join(differing[:5])}")
    for name, expected in shapes.items():
        entry = file.get_slice(name)
        found = tuple(entry.get_shape())
        if found != expected:  # which copy_ might broadcast
            raise BundleError(f"{path}: {name} is {show_size(found)}, expected {show_size(expected)}")
        if entry.get_dtype() not in _FLOATS:
            raise BundleError(f"{path}: {name} has type {entry.get_dtype()}, weights are floating point")


@isolated()
def _write_weights(model: Model, path: Path) -> None:
    from safetensors.torch import save_file

    require_finite_model(model, "the model")
    arrays = {name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()}
    save_file(arrays, path, metadata={"format": "pt"})


def _describe(bundle: Bundle, files: dict[str, str]) -> str:
    """The text of bundle.json."""
    description = Description(
        format=FORMAT,
        program=bundle.program,
        program_spec=bundle.program_spec,
        config=bundle.config,
        images=bundle.preprocessing,
        text=bundle.text,
        labels=bundle.labels,
        provenance=bundle.provenance,
        measurements=bundle.measurements,
        similarity=bundle.similarity if isinstance(bundle.config, LiTConfig) else None,
        weights=bundle._weights_hash if bundle.program != "torch" else bundle.weights_hash,
        files=files,
    )
    fields = description.model_dump(mode="json")
    if bundle.head != "softmax":
        fields["head"] = bundle.head
    else:
        del fields["head"]
    fields["checksum"] = _checksum(fields)
    return to_json(fields, indent=2) + "\n"


def _read_description(folder: Path) -> Description:
    path = folder / DESCRIPTION
    try:
        fields: Any = read_json(path, error=BundleError, finite=False)
        if isinstance(fields, dict) and fields.get("format") != FORMAT:
            raise BundleError(
                f"{path} has format {fields.get('format')}, this vitsmith reads {FORMAT}: use a matching version"
            )
        if isinstance(fields, dict) and fields.get("checksum") != _checksum(fields):
            raise BundleError(
                f"{path} was changed after it was written (its checksum differs); export the bundle again"
            )
        return Description.model_validate(finite_measurements(fields), context=AS_FOUND)
    except FileNotFoundError:
        raise BundleError(f"{folder} is not a bundle: it has no {DESCRIPTION}") from None
    except ValidationError as error:
        raise BundleError(f"{path} is damaged ({mistakes_in(error)}); copy the bundle again") from None


def _checksum(fields: dict[str, Any]) -> str:
    rest = {name: value for name, value in fields.items() if name != "checksum"}
    return hashlib.sha256(to_json(rest, sort_keys=True, ascii_only=True, finite=False).encode()).hexdigest()

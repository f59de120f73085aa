"""A bundle on disk: bundle.json, the weights or program, golden examples and a model card.

model/
  bundle.json          everything but the numbers, and the SHA-256 of each other file
  model.safetensors    or model.onnx (with model.onnx.data when large), model.xml and model.bin, model.pte
  text.*               the text tower of an exported LiT
  tokenizer.txt        or .model, .bpe, .json: the vocabulary of a model with a text tower
  golden.safetensors   images, their tensors and their outputs; of LiT also texts
  programs/NAME/       another program of the same model, with golden examples of its own
  LICENSE.md           the words of a licence that must be passed on with the weights
  split.safetensors    which images it was trained on and which were held out, as salted digests; may be deleted
  README.md            the model card, written from bundle.json
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vitsmith import needs_torch
from vitsmith.data.sets.split_record import SPLIT, write_split
from vitsmith.errors import BundleError, InputError, OutputError
from vitsmith.files.atomic import check_writable, optional, replacing_folder, sha256, write_text
from vitsmith.files.failures import explained
from vitsmith.files.locks import Lock
from vitsmith.files.workspace import mend
from vitsmith.models.config import LiTConfig
from vitsmith.records import Measurement
from vitsmith.specs import StoredProgram
from vitsmith.weights.bundle.agreements import read_agreements, without_agreements, write_agreements
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.card import model_card
from vitsmith.weights.bundle.golden import GOLDEN, read_golden, write_golden
from vitsmith.weights.bundle.hashes import hashes_of
from vitsmith.weights.bundle.lit_text import vocabulary_suffix
from vitsmith.weights.bundle.manifest import FORMAT, MANIFEST, Manifest, manifest_text, read_manifest
from vitsmith.weights.bundle.model import WEIGHTS

CARD, PAGE = "README.md", "page.json"
LOCK = ".lock"
"""The lock file of a process that changes bundle.json."""


def is_bundle(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a folder with a bundle.json."""
    place = Path(path)
    try:
        if not place.exists():
            mend(place)
        return (place / MANIFEST).is_file()
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
    check_replaceable(folder)
    bundle = replace(bundle, measurements=bundle.still_measured())
    with replacing_folder(folder) as partial:
        if write_program is not None:
            write_program(partial)
        else:
            needs_torch.part("vitsmith.weights.torch_model:write_weights")(bundle.model, partial / WEIGHTS)
        if bundle.text is not None and bundle.vocabulary is not None:
            (partial / f"tokenizer{vocabulary_suffix(bundle.text)}").write_bytes(bundle.vocabulary)
        if bundle.golden is not None:
            write_golden(bundle.golden, partial / GOLDEN)
        write_agreements(bundle.provenance, partial)
        files = {name: sha256(partial / name) for name in _files(partial)}
        finish_folder(bundle, partial, (StoredProgram(program=bundle.program, spec=bundle.program_spec),), files)
    return read_bundle(folder, verify=False)


def check_replaceable(folder: Path) -> None:
    """Raises OutputError for files that are not a bundle, and for a bundle of several programs: they would be lost."""
    if folder.is_dir() and any(folder.iterdir()) and not is_bundle(folder):
        raise OutputError(f"{folder} holds files that are no bundle and would be lost; choose another output folder")
    try:
        programs = read_manifest(folder)[0].programs if is_bundle(folder) else ()
    except BundleError:  # damaged: to be replaced
        return
    if len(programs) > 1:
        listed = "; ".join(one.title for one in programs)
        raise OutputError(f"{folder} holds {len(programs)} programs ({listed}), which would be lost: write elsewhere")


def finish_folder(bundle: Bundle, folder: Path, programs: tuple[StoredProgram, ...], files: dict[str, str]) -> None:
    """Writes bundle.json, the record of images and the model card of a folder; `files` are the hashes of the others."""
    if (record := bundle.split) is not None:
        write_split(record, folder / SPLIT)  # not among `files`: a bundle is whole without it
    manifest = manifest_of(replace(bundle, programs=programs), files)
    write_text(folder / MANIFEST, manifest_text(manifest), durable=False)  # the whole folder is flushed later
    with optional(f"the model card of {folder}"):
        write_text(folder / CARD, model_card(bundle), durable=False)


def read_bundle(folder: str | os.PathLike[str], *, verify: bool = True) -> Bundle:
    """The bundle in `folder`, of format 1 or 2; with `verify` every file's hash is compared. Raises BundleError.

    Hashes of large files are remembered between starts: see `weights.bundle.hashes`.
    """
    folder = Path(folder)
    manifest, _ = read_manifest(folder)
    missing = sorted(set(manifest.files) - set(_files(folder)))
    if missing:
        raise BundleError(f"{folder}: {', '.join(missing)} is missing; copy the whole folder again")
    if verify:
        found = hashes_of(folder, manifest.files)
        for name, expected in manifest.files.items():
            if found[name] != expected:
                raise BundleError(
                    f"{folder / name} is not the file this bundle was written with (its SHA-256 differs): "
                    "copy or export it again"
                )
    usual = manifest.programs[0]
    return Bundle.from_disk(
        folder,
        config=manifest.config,
        preprocessing=manifest.preprocessing,
        provenance=read_agreements(manifest.provenance, folder, manifest.files),
        labels=manifest.labels,
        text=manifest.text,
        vocabulary=_read_vocabulary(folder, manifest),
        measurements=manifest.measurements,
        program=usual.program,
        program_spec=usual.spec,
        programs=manifest.programs,
        head=manifest.head,
        calibration=manifest.calibration,
        golden=read_golden(folder / GOLDEN) if GOLDEN in manifest.files else None,
        weights_hash=manifest.weights,
        similarity=manifest.similarity,
        split=folder / SPLIT if (folder / SPLIT).exists() else None,
        verified=verify,
    )


def upgrade_bundle(folder: str | os.PathLike[str]) -> bool:
    """Rewrites a bundle.json of an earlier format in the present one, and its model card; the other files stay.

    Returns whether there was anything to rewrite. Raises BundleError for a damaged bundle, InputError for an exported
    page, whose scripts read the format that they were exported with.
    """
    folder = Path(folder)
    _, found = read_manifest(folder)
    if found == FORMAT:
        return False
    refuse_old_page(folder)
    with explained(folder / MANIFEST), Lock.take(folder / LOCK, wait=True):
        files = read_manifest(folder)[0].files
        rewrite(read_bundle(folder), folder, files)
    return True


def refuse_old_page(folder: Path) -> None:
    """Raises InputError for an exported page of an earlier format, which cannot be rewritten."""
    if (folder / PAGE).is_file() and read_manifest(folder)[1] != FORMAT:
        raise InputError(
            f"{folder} is a page of an earlier version, whose scripts read the earlier format: export it again with  "
            "vitsmith export --to web"
        )


def rewrite(bundle: Bundle, folder: Path, files: dict[str, str]) -> None:
    """Writes bundle.json and the model card of a bundle whose other files stay.

    `files` are their hashes from before the bundle was read: if somebody replaced the folder since then, they do not
    match, and reading it again is refused.
    """
    write_text(folder / MANIFEST, manifest_text(manifest_of(bundle, files)))
    with optional(f"the model card of {folder}"):
        write_text(folder / CARD, model_card(bundle))


def is_program(name: str, *parts: str) -> bool:
    """Whether a file name, such as 'text.bin', is that of weights or a program, for one of `parts` (default: both)."""
    return name.startswith(tuple(f"{part}." for part in parts or ("model", "text")))


def program_files(folder: Path, *parts: str) -> list[Path]:
    """The files of the weights or programs in a bundle's folder; `parts` as for `is_program`."""
    return sorted(path for path in folder.iterdir() if is_program(path.name, *parts) and path.is_file())


def program_mib(folder: Path, *parts: str) -> float:
    """The size in MiB of the weights or programs in a bundle's folder."""
    return sum(path.stat().st_size for path in program_files(folder, *parts)) / 2**20


def copy_programs(source: Path, target: Path, *parts: str) -> None:
    """Copies the weights or programs in a bundle's folder into another folder."""
    for path in program_files(source, *parts):
        shutil.copyfile(path, target / path.name)


def _files(folder: Path) -> list[str]:
    """Names of all files in a folder and the folders within, with slashes."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _read_vocabulary(folder: Path, manifest: Manifest) -> bytes | None:
    name = f"tokenizer{vocabulary_suffix(manifest.text)}" if manifest.text is not None else ""
    return (folder / name).read_bytes() if name in manifest.files else None


def record_measurements(bundle: Bundle, measurements: Sequence[Measurement]) -> None:
    """Adds measurements to the bundle on disk: its bundle.json and model card are replaced.

    Several processes may do so at once: each waits for the others, and nothing is lost. Raises BundleError, and
    OutputError for a folder that cannot be written.
    """
    folder = bundle.folder
    if folder is None:
        raise BundleError(f"{bundle.where} is not a bundle on disk, so nothing can be recorded in it; save it first")
    with explained(folder / MANIFEST), Lock.take(folder / LOCK, wait=True):
        refuse_old_page(folder)
        files = read_manifest(folder)[0].files
        there = read_bundle(folder, verify=False)  # of the bundle in memory, only its measurements are written
        if there.recorded_hash != bundle.recorded_hash or bundle.stored not in there.programs:
            raise BundleError(f"{folder} was replaced by another model while this one was measured: measure it again")
        differing = [what for what in bundle.differences_from(there) if what != "labels" or there.labels is not None]
        if differing:
            used = ", ".join(differing)
            raise InputError(
                f"the measurements do not hold for {folder}: other {used} were used; save the bundle with them first"
            )
        rewrite(there.measured(*map(bundle.as_measured, measurements)), folder, files)


def check_recordable(folder: str | os.PathLike[str]) -> None:
    """Raises OutputError, before anything is measured, when nothing could be recorded in a bundle's folder."""
    check_writable(Path(folder) / MANIFEST)


def manifest_of(bundle: Bundle, files: dict[str, str]) -> Manifest:
    """The contents of bundle.json for a bundle with these files."""
    return Manifest(
        format=FORMAT,
        config=bundle.config,
        preprocessing=bundle.preprocessing,
        text=bundle.text,
        head=bundle.head,
        labels=bundle.labels,
        calibration=bundle.calibration,
        provenance=without_agreements(bundle.provenance),
        measurements=bundle.measurements,
        similarity=bundle.similarity if isinstance(bundle.config, LiTConfig) else None,
        programs=bundle.programs,
        weights=bundle.recorded_hash if bundle.program != "torch" else bundle.weights_hash,
        files=files,
    )

"""`save`: a bundle or a model becomes files. An exported bundle is written without torch."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from vitsmith import needs_torch
from vitsmith.arguments import known_name, named_arguments
from vitsmith.arguments import path as argument_path
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.data.sets.split_record import SPLIT, SplitRecord, write_split
from vitsmith.errors import BundleError, InputError, MissingPackageError
from vitsmith.files.atomic import replacing_folder
from vitsmith.files.failures import explained
from vitsmith.files.locks import Lock
from vitsmith.weights.bundle.agreements import write_agreements
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import (
    LOCK,
    PAGE,
    check_replaceable,
    finish_folder,
    is_bundle,
    read_bundle,
    refuse_old_page,
    rewrite,
    write_bundle,
)
from vitsmith.weights.bundle.golden import GoldenTexts
from vitsmith.weights.bundle.manifest import read_manifest
from vitsmith.weights.bundle.measurements import still_true

if TYPE_CHECKING:
    from vitsmith.models.build import Model

GOLDEN_IMAGES = 2
"""Golden examples of a bundle that has none."""
TRITON = "config.pbtxt"
"""Triton's configuration of a model; the version folder beside it is a bundle."""
_DESCRIBING = {"labels", "head", "calibration"}
"""Parts that may change while the other files of a bundle stay as they are."""


@named_arguments
def save(
    what: Bundle | Model, path: str | os.PathLike[str], *, format: Literal["bundle", "npz"] = "bundle"
) -> Bundle | None:
    """Writes a bundle folder (and returns the bundle in it), or one `.npz` with the original's names and layouts.

    A model alone becomes a bundle with the original's preprocessing for its family; a bundle without golden examples
    gets some. Golden texts need the library of its tokenizer: without it, those on disk are kept, or there are none,
    with a warning. An exported bundle keeps its programs as they are: only what describes them may be changed, its
    labels, head, calibration, provenance and measurements. The same holds for torch weights with other programs beside
    them.
    The vocabulary of a LiT goes beside the `.npz` under the same name, as published (`.txt` or `.model`).
    `path` may be the bundle's own folder. Nothing half-written is left.
    Raises OutputError when the place cannot be written, WeightsError for what the format cannot hold, BundleError for
    an exported program as `.npz`.
    """
    known_name(format, "format", ("bundle", "npz"))
    target = argument_path(path, "path")
    bundle = what if isinstance(what, Bundle) else Bundle.of(what)
    if format == "npz":
        if bundle.program != "torch":
            raise BundleError(
                f"{bundle.where} holds an exported program (model.{bundle.program}), and an .npz holds weights: save "
                "the bundle that it was made from"
            )
        needs_torch.part("vitsmith.weights.jax.writer:save_as_npz")(bundle, target)
        return None
    if bundle.program != "torch" or (len(bundle.programs) > 1 and _is_described_anew(bundle)):
        return _save_described(bundle, target)
    return write_bundle(_with_true_golden(bundle), target)


def _with_true_golden(bundle: Bundle) -> Bundle:
    """`Bundle.with_true_golden`, also without the library of its tokenizer.

    Without it, texts cannot become tokens: those of the bundle on disk are kept where vocabulary and text specification
    are still the same. Otherwise the golden texts are left out, with a warning.
    """
    images = sample_images(GOLDEN_IMAGES)
    try:
        if bundle.text is not None and bundle.vocabulary is not None:
            _ = bundle.tokenizer
        return bundle.with_true_golden(images)
    except MissingPackageError as error:
        missing = error
    made = replace(bundle, vocabulary=None).with_true_golden(images)
    assert made.golden is not None
    texts = _texts_on_disk(bundle)
    if texts is None:
        warnings.warn(
            f"the bundle is written without golden texts, so that its tokenizer is not checked later: {missing}, and "
            "save it again",
            stacklevel=4,
        )
    else:
        texts = replace(texts, embeddings=bundle.run_texts_torch(texts.tokens).astype(np.float32))
    return replace(made, vocabulary=bundle.vocabulary, golden=replace(made.golden, texts=texts))


def _texts_on_disk(bundle: Bundle) -> GoldenTexts | None:
    """The golden texts in the bundle's folder, if it is there and its tokenizer gives the same tokens."""
    if bundle.folder is None or not is_bundle(bundle.folder):
        return None
    there = read_bundle(bundle.folder, verify=False)
    same = (there.text, there.vocabulary) == (bundle.text, bundle.vocabulary)
    return there.golden.texts if same and there.golden is not None else None


def _is_described_anew(bundle: Bundle) -> bool:
    """Whether a bundle differs from the one on disk only in what describes its programs: see `_save_described`."""
    if bundle.folder is None or not is_bundle(bundle.folder):
        return False
    return not set(_changed(bundle, read_bundle(bundle.folder, verify=False))) - _DESCRIBING


def _save_described(bundle: Bundle, target: Path) -> Bundle:
    """Writes a bundle, with the files it has on disk, to `target`, which may be its own folder; returns the one there.

    All its programs are kept, and so is an exported page. What describes them is written as it is in memory: labels,
    head, calibration, provenance, measurements. The files are compared with their hashes first. Raises InputError if
    anything else was changed, and if a file that is not rewritten repeats it: a page's labels, a Triton configuration;
    BundleError for damaged files, OutputError for a place that cannot be used.
    """
    _ = bundle.place  # raises if it no longer exists
    own = bundle.folder
    assert own is not None
    in_place = is_bundle(target) and target.samefile(own)
    if not in_place:
        check_replaceable(target)
    with explained(target), Lock.take(own / LOCK, wait=True) if in_place else nullcontext():
        files = read_manifest(own)[0].files
        there = read_bundle(own)
        changed = _changed(bundle, there)
        _check_described(bundle, there, target, changed)
        true = still_true(bundle.measurements, there.measurements, set(changed))
        written = replace(bundle, measurements=true)
        if in_place:
            _write_split(bundle.split, own)
            rewrite(written, own, files | write_agreements(written.provenance, own))
        else:
            with replacing_folder(target) as partial:
                _copy_files(own, partial, files)
                finish_folder(written, partial, there.programs, files | write_agreements(written.provenance, partial))
    saved = read_bundle(target, verify=False)
    return saved.using(next(one for one in saved.programs if one.is_(bundle.program, bundle.program_spec)))


def _changed(bundle: Bundle, there: Bundle) -> list[str]:
    """The parts that give other answers than the bundle on disk."""
    return bundle.differences_from(there) + ["vocabulary"] * (bundle.vocabulary != there.vocabulary)


def _check_described(bundle: Bundle, there: Bundle, target: Path, changed: list[str]) -> None:
    """Raises as `_save_described` does."""
    own = there.folder
    assert own is not None
    if (there.recorded_hash, there.programs) != (bundle.recorded_hash, bundle.programs):
        raise BundleError(f"{own} was replaced by another model since it was loaded: load it again")
    if wrong := [what for what in changed if what not in _DESCRIBING]:
        raise InputError(
            f"the programs of {own} were made with other {', '.join(wrong)} and cannot change: change the bundle of "
            "torch weights, and export it again"
        )
    refuse_old_page(own)
    if (own / PAGE).is_file() and set(changed) - {"calibration"}:
        raise InputError(f"{own} is a page, which was made with its old {', '.join(changed)}: export it again")
    if (target.parent / TRITON).is_file():
        raise InputError(
            f"{target.parent / TRITON} repeats what {target} says about its outputs, and is not rewritten: save the "
            "bundle elsewhere, and export that to triton again"
        )


def _copy_files(folder: Path, target: Path, names: Iterable[str]) -> None:
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, target / name)


def _write_split(record: SplitRecord | None, folder: Path) -> None:
    """Replaces the record in a folder; None removes it."""
    if record is not None:
        write_split(record, folder / SPLIT)
    else:
        (folder / SPLIT).unlink(missing_ok=True)

"""Several programs of one model in a bundle's folder, each with golden answers of its own."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace

from vitsmith.errors import BundleError, InputError
from vitsmith.files.atomic import check_writable, replacing_folder, sha256
from vitsmith.files.failures import explained
from vitsmith.files.locks import Lock
from vitsmith.specs import Program, ProgramSpec, StoredProgram
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import LOCK, copy_programs, read_bundle, refuse_old_page, rewrite
from vitsmith.weights.bundle.golden import GOLDEN, write_golden
from vitsmith.weights.bundle.manifest import MANIFEST, read_manifest


def add_program(bundle: Bundle, other: Bundle, *, force: bool = False) -> Bundle:
    """Copies the program of another bundle of the same model into the folder of `bundle`, and returns what is there.

    From then on `load` gives the usual program, and `Bundle.using` the others. The files of both are compared with
    their hashes first. The program is written into a folder of its own, then bundle.json is replaced: a process that is
    killed leaves the bundle as it was. Processes that add at once wait for each other. A bundle of format 1 is
    rewritten in format 2.

    With `force` the program replaces one of the same format and specification that was added before. Raises InputError
    for a program of another model, and for a program that is there already; BundleError for damaged files, and if the
    folder holds another model now.
    """
    if bundle.folder is None or other.folder is None:
        raise InputError("a program is added from one bundle on disk to another: save both bundles first")
    own = bundle.folder
    with explained(own / MANIFEST), Lock.take(own / LOCK, wait=True):
        files = dict(read_manifest(own)[0].files)
        there = read_bundle(own)
        if there.recorded_hash and there.recorded_hash != bundle.recorded_hash:
            raise BundleError(f"{own} was replaced by another model since it was loaded: load it again")
        _check_same_model(there, other)
        replaced = _replaced(there, other.program, other.program_spec, force=force)
        read_bundle(other.folder)  # compares its hashes
        _write(there, files, other, replaced)
    return read_bundle(own, verify=False)


def check_addable(bundle: Bundle, program: Program, spec: ProgramSpec, *, force: bool = False) -> None:
    """Raises InputError or OutputError, before any work, where such a program could not be added to a bundle."""
    if bundle.folder is None:
        raise InputError(
            f"{bundle.where} is not a bundle on disk, so no program can be added to it: save it as one first"
        )
    there = read_bundle(bundle.folder, verify=False)
    if differing := [what for what in bundle.differences_from(there) if what != "weights" or there.recorded_hash]:
        raise InputError(
            f"{bundle.folder} has other {', '.join(differing)} than this bundle in memory: save the bundle first, then "
            "add the program"
        )
    _replaced(there, program, spec, force=force)
    check_writable(bundle.folder / MANIFEST)


def _check_same_model(bundle: Bundle, other: Bundle) -> None:
    """Raises InputError, naming what differs, unless both are programs of the same model."""
    differing = {
        "weights or preprocessing": bundle.identity != other.identity,
        "labels": bundle.labels != other.labels,
        "head": bundle.head != other.head,
        "calibration": bundle.calibration != other.calibration,
        "vocabulary": bundle.vocabulary != other.vocabulary,
    }
    if told := [what for what, differs in differing.items() if differs]:
        raise InputError(
            f"{other.folder} is another model than {bundle.folder} (other {', '.join(told)}): a bundle holds programs "
            "of one model"
        )


def _replaced(there: Bundle, program: Program, spec: ProgramSpec, *, force: bool) -> StoredProgram | None:
    """The program that a new one replaces, or None. Raises InputError if it may not, and for an old page."""
    assert there.folder is not None
    refuse_old_page(there.folder)
    found = next((one for one in there.programs if one.is_(program, spec)), None)
    if found is None:
        return None
    if not found.folder:
        raise InputError(f"{there.folder} already is this program ({found.title}): only others can be added to it")
    if not force:
        raise InputError(f"{there.folder} already holds this program ({found.title}): replace it with `force`")
    return found


def _write(there: Bundle, files: dict[str, str], other: Bundle, replaced: StoredProgram | None) -> None:
    """Writes the program of `other` into a new folder, then bundle.json; `files` are the hashes of the files there.

    The new one takes the place of a replaced program in the list. That program's files stay until then, so the new ones
    get another folder; its measurements are removed with it.
    """
    folder = there.folder
    assert folder is not None
    kind = f"{other.program}-{other.program_spec.arithmetic}".replace(", ", "-").replace(" ", "-")
    names = (f"programs/{kind}{'' if number == 1 else f'-{number}'}" for number in itertools.count(1))
    free = next(name for name in names if all(one.folder != name for one in there.programs))
    with replacing_folder(folder / free) as partial:
        copy_programs(other.place, partial)
        if other.golden is not None:
            write_golden(other.golden, partial / GOLDEN)
        added = {f"{free}/{path.name}": sha256(path) for path in partial.iterdir()}
    measured = there.measurements
    if replaced is not None:
        files = {name: digest for name, digest in files.items() if not name.startswith(f"{replaced.folder}/")}
        measured = tuple(one for one in measured if one.program != replaced.title)
    new = StoredProgram(program=other.program, spec=other.program_spec, folder=free)
    listed = [new if one == replaced else one for one in there.programs]
    programs = (*listed, *[new] * (replaced is None))
    joined = replace(there, programs=programs, measurements=measured).measured(*other.measurements)
    rewrite(joined, folder, files | added)
    if replaced is not None:
        shutil.rmtree(folder / replaced.folder, ignore_errors=True)

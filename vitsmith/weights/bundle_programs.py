"""More than one program in a bundle's folder: of one model, each with golden answers of its own."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

from vitsmith.data.split_record import SPLIT
from vitsmith.errors import BundleError, InputError
from vitsmith.failed_writes import explained
from vitsmith.files import replacing_folder, sha256
from vitsmith.locks import Lock
from vitsmith.specs import StoredProgram
from vitsmith.weights.bundle import GOLDEN, Bundle
from vitsmith.weights.bundle_folder import LOCK, copy_programs, finish_folder, read_bundle
from vitsmith.weights.description import DESCRIPTION, read_description
from vitsmith.weights.golden import write_golden


def add_program(bundle: Bundle, other: Bundle) -> Bundle:
    """Copies the program of another bundle of the same model into the folder of `bundle`, and returns what is there.

    From then on `load` gives the usual program, and `Bundle.using` the others. The folder is replaced as a whole, and
    the files of both are compared with their hashes before. Raises InputError for a program of another model, and for
    one that is there already; BundleError for damaged files, and for a folder that is another by now.
    """
    if bundle.folder is None or other.folder is None:
        raise InputError("programs are put together from bundles on disk: save both first")
    _check_same_model(bundle, other)
    if any(one.is_(other.program, other.program_spec) for one in bundle.programs):
        added = StoredProgram(program=other.program, spec=other.program_spec)
        raise InputError(f"{bundle.folder} holds this program already ({added.title})")
    own = bundle.folder
    with explained(own / DESCRIPTION), Lock.take(own / LOCK, wait=True):
        there = read_bundle(own)
        if (there.recorded_hash, there.programs) != (bundle.recorded_hash, bundle.programs):
            raise BundleError(f"{own} was replaced by another model since it was loaded: load it again")
        read_bundle(other.folder)  # whole
        _write(replace(there, measurements=other.measurements).measured(*there.measurements), other, own)
    return read_bundle(own, verify=False)


def _check_same_model(bundle: Bundle, other: Bundle) -> None:
    """Raises InputError, naming what differs."""
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


def _write(joined: Bundle, other: Bundle, folder: Path) -> None:
    """The folder anew: its files, which keep their hashes, and the program of `other` in a folder within."""
    files = dict(read_description(folder)[0].files)
    kind = f"{other.program}-{other.program_spec.arithmetic}".replace(", ", "-").replace(" ", "-")
    names = (f"programs/{kind}{'' if number == 1 else f'-{number}'}" for number in itertools.count(1))
    free = next(name for name in names if all(one.folder != name for one in joined.programs))
    with replacing_folder(folder) as partial:
        for name in (*files, *((SPLIT,) if (folder / SPLIT).exists() else ())):
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, partial / name)
        (partial / free).mkdir(parents=True)
        copy_programs(other.place, partial / free)
        if other.golden is not None:
            write_golden(other.golden, partial / free / GOLDEN)
        files |= {f"{free}/{path.name}": sha256(path) for path in (partial / free).iterdir()}
        new = StoredProgram(program=other.program, spec=other.program_spec, folder=free)
        finish_folder(joined, partial, (*joined.programs, new), files)

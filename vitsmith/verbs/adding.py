"""An exported program that is kept in the folder of the bundle it was made from."""

from __future__ import annotations

import os

from vitsmith.errors import InputError, shown
from vitsmith.specs import Program, ProgramSpec
from vitsmith.verbs.inputs import Model, Tell
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.manifest import FORMAT, read_manifest
from vitsmith.weights.bundle.paths import find_bundle
from vitsmith.weights.bundle.programs import add_program, check_addable

KEPT = ("onnx", "openvino", "executorch")
"""Targets that are a program and nothing else, which engines run."""


def check_add(model: Model, target: str, *, out: bool, labels_file: bool, without_split: bool) -> None:
    """Raises InputError, before anything is read, for what does not go with `add`."""
    if target not in KEPT:
        raise InputError(
            f"`add` keeps programs for {', '.join(KEPT[:-1])} and {KEPT[-1]} in a bundle; what is made for {target} is "
            "written elsewhere: leave `add` out"
        )
    if out:
        raise InputError("`add` keeps the program in the bundle's own folder: leave `out` out")
    unwanted = [
        option for option, given in (("`labels_file`", labels_file), ("`without_split`", without_split)) if given
    ]
    if unwanted:
        raise InputError(f"`add` changes nothing but the programs of the bundle: leave {' and '.join(unwanted)} out")
    if not isinstance(model, Bundle) and find_bundle(model) is None:
        raise InputError(
            f"`add` keeps the program in a bundle's folder, and {shown(os.fsdecode(model))} is not a bundle on disk: "
            "save it as one first, or leave `add` out"
        )


def check_program(bundle: Bundle, program: Program, spec: ProgramSpec, *, force: bool) -> None:
    """Raises InputError or OutputError, before any work, where such a program could not be added to the bundle."""
    if spec.pixels and bundle.preprocessing.quantize == "none":
        raise InputError(
            f"{bundle.where} takes resized pixels as they are, and a program made with `pixels` has them rounded, "
            "which is another preprocessing: leave `pixels` or `add` out"
        )
    check_addable(bundle, program, spec, force=force)


def add_exported(bundle: Bundle, exported: Bundle, tell: Tell, *, force: bool) -> Bundle:
    """The bundle with the exported program, in its own folder from now on."""
    assert bundle.folder is not None
    old = read_manifest(bundle.folder)[1] != FORMAT
    joined = add_program(bundle, exported, force=force)
    if old:
        tell(f"{bundle.folder} is in format 2 now: version 0.1 cannot read it any more")
    return joined.using(next(one for one in joined.programs if one.is_(exported.program, exported.program_spec)))

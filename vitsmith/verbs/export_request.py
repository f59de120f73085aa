"""What is asked of an export: the arguments of `vitsmith.export`, and those that only the command line has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitsmith.data.images.sources import ImageSource
from vitsmith.data.images.unreadable import SHARE
from vitsmith.errors import InputError, shown
from vitsmith.exporters.targets import TARGETS, Target
from vitsmith.gate import Requirements
from vitsmith.specs import ProgramSpec
from vitsmith.verbs.inputs import Data, Model, is_data, run_name
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.paths import find_bundle
from vitsmith.zeroshot.words import Words

LEAVE_OUT = "leave `images`, `data`, `max_drop` and `strict_gate` out"


@dataclass(frozen=True, kw_only=True, eq=False)
class ExportRequest:
    """What to export, to which target and place, and by which images it is checked: see `vitsmith.export`."""

    bundle: Model
    target: str
    spec: ProgramSpec
    required: Requirements
    out: str | os.PathLike[str] | None = None
    images: Sequence[ImageSource] = ()
    data: Data = ""
    split: str = ""
    skip_unreadable: float = SHARE
    labels: Words | Sequence[str] | None = None
    labels_file: Path | None = None
    """A file with the `labels`, or with a classifier's class names, one a line."""
    image_size: int | tuple[int, int] | None = None
    """For a checkpoint that does not say its size: pixels, or (height, width)."""
    without_split: bool = False
    add: bool = False
    force: bool = False

    @property
    def gated(self) -> bool:
        """Whether something is asked of the gate."""
        return bool(self.images) or is_data(self.data) or self.required != Requirements()

    @property
    def name(self) -> str:
        """The name of its run."""
        precision = "" if self.spec.precision == "fp32" else f"-{self.spec.precision}"
        return f"{run_name(self.bundle)}-{self.target}{precision}"

    def check(self, target: Target) -> None:
        """Raises InputError, before anything is read, for options that the target does not use."""
        if not target.gated and self.gated:
            raise InputError(f"an {target.suffix} holds the same weights, so there is no gate: {LEAVE_OUT}")
        if self.labels is not None:
            target.check_labels()
        if self.split and not is_data(self.data):
            raise InputError("`split` chooses a part of `data`: give `data` too")
        if self.labels_file is not None and not target.gated:
            raise InputError(f"an {target.suffix} has no class names: leave `labels_file` out")

    def check_add(self, target: Target) -> None:
        """Raises InputError, before anything is read, for what does not go with `add`."""
        if not target.addable:
            *names, last = (one.name for one in TARGETS.values() if one.addable)
            raise InputError(
                f"`add` keeps programs for {', '.join(names)} and {last} in a bundle; what is made for {target.name} "
                "is written elsewhere: leave `add` out"
            )
        if self.out is not None:
            raise InputError("`add` keeps the program in the bundle's own folder: leave `out` out")
        options = {"`labels_file`": self.labels_file is not None, "`without_split`": self.without_split}
        if unwanted := [option for option, given in options.items() if given]:
            raise InputError(
                f"`add` changes nothing but the programs of the bundle: leave {' and '.join(unwanted)} out"
            )
        if not isinstance(self.bundle, Bundle) and find_bundle(self.bundle) is None:
            raise InputError(
                f"`add` keeps the program in a bundle's folder, and {shown(os.fsdecode(self.bundle))} is not a bundle "
                "on disk: save it as one first, or leave `add` out"
            )

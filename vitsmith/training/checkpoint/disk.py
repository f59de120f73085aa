"""Checkpoints of a run: everything a later process needs to go on as if nothing had happened.

    <run>/checkpoints/step-000200/state.safetensors    weights, optimizer state, running mean
                                  state.json           step, recipe, configuration, fingerprint of the data, hash of
                                                       the tensors, and a checksum of state.json itself

A folder appears under its name only when both files are complete and on disk, so a process that is killed at any
moment leaves the checkpoints before it usable.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vitsmith.errors import InputError, OutputError, shown
from vitsmith.escapes import shell_quoted
from vitsmith.files.atomic import replacing_folder, sha256
from vitsmith.files.regular import utf8_path
from vitsmith.json_text import read_json, to_json

FOLDER = "checkpoints"
_NAME = re.compile(r"step-\d{6,12}", re.ASCII)
TENSORS, FACTS = "state.safetensors", "state.json"


@dataclass(frozen=True)
class TrainingCheckpoint:
    """The saved state of a run."""

    step: int
    facts: dict[str, Any]
    tensors: dict[str, Tensor]
    remarks: tuple[str, ...] = ()
    """Notes for whoever resumes from it: newer checkpoints that are damaged, facts without a checksum."""


class CheckpointWriter:
    """Writes checkpoints in a thread of its own, one at a time, and deletes all but the newest `keep`."""

    def __init__(self, run_folder: Path, keep: int) -> None:
        self.folder = run_folder / FOLDER
        self._keep = keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="vitsmith-checkpoint")
        self._pending: Future[Path] | None = None

    def save(self, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Begins to write. The tensors must not change any more: give copies, on the CPU.

        Waits for the checkpoint before it, and raises what went wrong with that one: OutputError, for a full disk.
        """
        self.wait()
        self._pending = self._thread.submit(self._write, step, tensors, facts)

    def wait(self) -> Path | None:
        """Waits until the last checkpoint is on disk; returns its folder. Raises OutputError if it was not written."""
        pending, self._pending = self._pending, None
        return pending.result() if pending else None

    def finished(self) -> Path | None:
        """The folder of a checkpoint that was completed since the last call; None if there is none."""
        return self.wait() if self._pending and self._pending.done() else None

    def close(self) -> None:
        """Ends the thread; a checkpoint under way is completed."""
        self._thread.shutdown()

    def remove(self) -> None:
        """Deletes all checkpoints once the run has its bundle. Then a failed write of the last one does not matter."""
        with suppress(OutputError):
            self.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, step: int, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Path:
        target = self.folder / f"step-{step:06d}"
        try:
            with replacing_folder(target) as partial:
                save_file(tensors, partial / TENSORS)
                described = facts | {"step": step, "sha256": sha256(partial / TENSORS)}
                described["checksum"] = _checksum(described)
                (partial / FACTS).write_text(to_json(described, indent=2, ascii_only=True) + "\n", encoding="utf-8")
        except OutputError as error:
            before = latest_step(self.folder.parent)
            again = "there is no earlier one to resume from: free some space and start over"
            if before is not None:
                typed = shell_quoted(str(self.folder.parent))
                again = f"the one of step {before} is intact: free some space and continue with --resume {typed}"
            raise OutputError(f"the checkpoint of step {step} could not be written: {error}; {again}") from error
        for old in _complete(self.folder)[: -self._keep]:
            shutil.rmtree(old, ignore_errors=True)
        return target


def latest_step(run_folder: Path) -> int | None:
    """The number of updates in the newest checkpoint, which is not read; None when there is none."""
    found = _complete(run_folder / FOLDER)
    return step_of(found[-1]) if found else None


def read_latest(run_folder: Path, needs: Sequence[str] = ()) -> TrainingCheckpoint:
    """Reads the newest checkpoint of a run that is intact. Damaged ones are skipped and named in its remarks.

    `needs` names the facts that it must have. Raises InputError when there is no checkpoint to resume from.
    """
    damaged: dict[str, str] = {}
    for folder in reversed(_complete(run_folder / FOLDER)):
        try:
            read = _read(folder, needs)
        except InputError as error:
            damaged[folder.name] = str(error)
            continue
        passed = tuple(f"{name} is skipped: {why}" for name, why in damaged.items())
        return replace(read, remarks=(*passed, *read.remarks))
    if (run_folder / "model").exists():
        raise InputError(f"the run in {run_folder} is complete: its bundle is {run_folder / 'model'}")
    if damaged:
        told = "; ".join(f"{name}: {why}" for name, why in damaged.items())
        raise InputError(f"every checkpoint in {run_folder / FOLDER} is damaged ({told}): start anew")
    raise InputError(f"there is no checkpoint in {run_folder} to resume from: give the folder of a run, or start anew")


def _read(folder: Path, needs: Sequence[str]) -> TrainingCheckpoint:
    """One checkpoint, checked. Raises InputError that says what is wrong."""
    try:
        facts = read_json(folder / FACTS, finite=False)
        if not isinstance(facts, dict):
            raise InputError(f"{FACTS} holds no facts")
        missing = [name for name in ("step", "sha256", *needs) if name not in facts]
        if missing:
            raise InputError(f"{FACTS} does not say {', '.join(missing)}")
        checked = "checksum" in facts
        if checked and facts["checksum"] != _checksum(facts):
            raise InputError(f"{FACTS} was changed after it was written")
        step = facts["step"]
        if not isinstance(step, int) or step != step_of(folder):
            raise InputError(f"it holds update {shown(step)}: the folder was renamed")
        if sha256(folder / TENSORS) != facts["sha256"]:
            raise InputError(f"{TENSORS} is not as it was written")
        with utf8_path(folder / TENSORS) as name:
            tensors = load_file(name)
    except FileNotFoundError as error:
        raise InputError(f"{Path(error.filename or FACTS).name} is missing") from None
    except (OSError, SafetensorError) as error:
        raise InputError(f"{TENSORS} cannot be read ({error})") from None
    old = () if checked else (f"an older vitsmith wrote the checkpoint, without a checksum of {FACTS}: it is trusted",)
    return TrainingCheckpoint(step, facts, tensors, old)


def _checksum(facts: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in facts.items() if name != "checksum"}
    return hashlib.sha256(to_json(rest, sort_keys=True, ascii_only=True).encode()).hexdigest()


def _complete(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("step-*") if path.is_dir() and _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(folder: Path) -> int:
    """The number of updates in a checkpoint's name."""
    return int(folder.name.removeprefix("step-"))

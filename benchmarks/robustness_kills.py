"""Kills at file events, for benchmarks/robustness.py.

A command runs in a process of its own, which is killed (SIGKILL) right before its nth change of the file system. Then
whatever is at its place must be sound, the old or the new, and the same command run again must come to the end that it
would have come to, with nothing left over.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from robustness_answers import Answer, same
from robustness_bundles import bundle, model, predictions
from robustness_commands import run_command
from robustness_data import write_photos

import vitsmith as vs

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.link", "os.symlink")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@dataclass(frozen=True)
class Operation:
    """What is killed."""

    prepare: Callable[[Path], None]
    commands: tuple[tuple[str, ...], ...]
    """The first is killed; in turn, until one ends well, they are what a user would then type."""
    place: str
    look: Callable[[Path], Answer]
    """The answer of what is at the place."""
    from_nothing: bool = True
    """Whether there was nothing at the place before."""


def kill_at(folder: Path, number: int) -> None:
    """Makes this process kill itself before its change number `number` inside `folder`; for 0 they are counted."""
    inside, seen = os.fspath(folder) + os.sep, 0
    counted = os.open(f"{folder}.events", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            changes = bool(flags & _WRITING)
        else:
            changes = event in CHANGES
        if not changes or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 - a Path takes longer, for each event
        if not path.startswith(inside):
            return
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)
        if not number:
            os.pwrite(counted, str(seen).encode(), 0)

    sys.addaudithook(hook)


def events_of(operation: Operation, folder: Path) -> tuple[int, Answer]:
    """How many changes a whole run makes, and the answer it comes to."""
    fresh(operation, folder)
    counted = Path(f"{folder}.events")
    counted.unlink(missing_ok=True)
    _run(operation.commands[0], folder, 0)
    return int(counted.read_text()), operation.look(folder / operation.place)


def fresh(operation: Operation, folder: Path) -> None:
    """The folder as it is before the operation."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    operation.prepare(folder)


def try_kill(operation: Operation, folder: Path, number: int, wanted: Answer) -> tuple[str, str]:
    """(verdict, detail) of one kill and what comes after it."""
    fresh(operation, folder)
    before = operation.look(folder / operation.place) if not operation.from_nothing else None
    _run(operation.commands[0], folder, number)
    place = folder / operation.place
    try:
        found = operation.look(place) if place.exists() or not operation.from_nothing else None
    except vs.errors.VitsmithError as error:
        if not operation.from_nothing:
            return "wrong", f"killed at change {number}: what is there is refused: {error}"
        found = None  # half of it, which says so
    if found is not None and not any(one is not None and same(found, one, 0) for one in (wanted, before)):
        return "wrong", f"killed at change {number}: neither the old nor the new is there"
    ends = []
    for command in operation.commands:
        verdict, detail = _run(command, folder, -1)
        ends.append(detail)
        if verdict == "right":
            break
    else:
        if found is None or not same(found, wanted, 0):  # else all was done already, and nothing is to go on
            return "wrong", f"killed at change {number}: nothing goes on: {ends}"
    if not same(operation.look(place), wanted, 0):
        return "wrong", f"killed at change {number}: another result in the end"
    left = sorted(path.name for path in folder.rglob("*") if path.name.endswith((".partial", ".old")))
    if left:
        return "left over", f"killed at change {number}: {', '.join(left)}"
    return "right", ""


def _run(command: tuple[str, ...], folder: Path, number: int) -> tuple[str, str]:
    """Runs a command line in the folder; killed at a change (from 1), counted (0), or neither (-1)."""
    hook = (lambda: None) if number < 0 else (lambda: kill_at(folder, number))
    return run_command(list(command), folder, 300, before=hook)


def _old_export(folder: Path) -> None:
    from vitsmith.exporters.run import export

    vs.save(bundle(), folder / "model")
    export(bundle(seed=1), folder / "exported", "onnx")


def _photos(folder: Path) -> None:
    vs.save(bundle(), folder / "model")
    write_photos(folder / "pets")


def _index(place: Path) -> Answer:
    from vitsmith.retrieval.index import open_index

    index = open_index(place)
    return [np.asarray(index.rows(np.arange(len(index)))), *(Path(one).name for one in index.ids(range(len(index))))]


def _single(place: Path) -> Answer:
    with np.load(place) as file:
        return [file[name] for name in sorted(file.files) if file[name].dtype.kind == "f"]


def _old_npz(folder: Path) -> None:
    vs.save(model(1), folder / "model.npz", format="npz")
    vs.save(bundle(), folder / "model")


TRAIN = (
    "train", "--data", "pets", "--arch", "ViT-mu_16", "--image-size", "16", "--out", "run",
    "--set", "schedule.steps=6", "--set", "schedule.warmup=1", "--set", "batch.size=4",
    "--set", "run.checkpoint_every=2",
    "--set", "run.eval_every=3", "--set", "data.val_fraction=0.4", "--set", "optimizer.lr=0.01",
)  # fmt: skip

OPERATIONS: dict[str, Operation] = {
    "export": Operation(_photos, (("export", "model", "--to", "onnx", "--out", "exported"),), "exported", predictions),
    "export over an old one": Operation(
        _old_export,
        (("export", "model", "--to", "onnx", "--out", "exported", "--force"),),
        "exported",
        predictions,
        from_nothing=False,
    ),
    "export to .npz over an old one": Operation(
        _old_npz,
        (("export", "model", "--to", "npz", "--out", "model.npz", "--force"),),
        "model.npz",
        predictions,
        from_nothing=False,
    ),
    "evaluate --record": Operation(
        _photos, (("evaluate", "model", "--data", "pets", "--record"),), "model", predictions, from_nothing=False
    ),
    "embed": Operation(_photos, (("embed", "model", "pets", "--out", "index"),), "index", _index),
    "embed to .npz": Operation(_photos, (("embed", "model", "pets", "--out", "index.npz"),), "index.npz", _single),
    "train": Operation(_photos, (TRAIN, ("train", "--resume", "run"), (*TRAIN, "--force")), "run/model", predictions),
}
"""By what the table calls it."""

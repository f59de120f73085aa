"""Command lines for benchmarks/robustness.py: verbs with options drawn at random, in a folder with things to find."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import signal
import sys
import time
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from robustness_bundles import CLASSES, PHOTOS, bundle, lit
from robustness_mutations import NUMBERS, TEXTS, Random

import vitsmith as vs

_TWO_STEPS = ("--set", "schedule.steps=2", "--set", "schedule.warmup=0", "--set", "batch.size=4")
SHORT = {
    "train": (*_TWO_STEPS, "--arch", "ViT-mu_16", "--image-size", "16"),
    "distill": _TWO_STEPS,
    "lit": _TWO_STEPS,
    "quantize": ("--calibration", "8", "--limit", "8"),
    "benchmark": ("--seconds", "0.01", "--batch-size", "1", "--engine", "torch"),
    "prune": ("--steps", "1"),
    "compress": ("--steps", "0", "--over", "pruning"),
}
"""What keeps a verb short when nothing else is wrong."""
LONG = ("quickstart", "compress", "quantize", "prune", "merge-tokens", "lit")
"""Verbs that are given one more hostile option, as a sound run of them takes minutes."""


def make_world(folder: Path) -> None:
    """Models, photos, data sets, an index, and files that are none of what they seem to be."""
    vs.save(bundle(), folder / "model")
    vs.save(lit(), folder / "lit")
    vs.save(bundle(), folder / "model.npz", format="npz")
    for number in range(20):
        path = folder / "pets" / CLASSES[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(PHOTOS[number % 2], number, axis=0)).save(path)
    (folder / "photos").mkdir()
    Image.fromarray(PHOTOS[0]).save(folder / "photos" / "a.png")
    (folder / "photos" / "broken.png").write_bytes((folder / "photos" / "a.png").read_bytes()[:100])
    (folder / "names.txt").write_text("\n".join(CLASSES))
    (folder / "pets.csv").write_text("path,label\npets/cat/00.png,cat\npets/dog/01.png,dog\n")
    (folder / "page.html").write_text("<!DOCTYPE html><title>404</title>")
    (folder / "page.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (folder / "empty").mkdir()
    os.mkfifo(folder / "fifo.jpg")
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")


PLACES = (
    "model", "lit", "model.npz", "pets", "photos", "photos/a.png", "photos/broken.png", "names.txt", "pets.csv",
    "empty", "page.html", "page.safetensors", "fifo.jpg", "dangling.jpg", "nowhere", "model/bundle.json", "/dev/null",
    "/dev/full", "x" * 300, ".", "/", "-", "hf:nobody/nothing", "augreg:B_16", "ViT-B_16", "digits", "*.png",
    "{0..99999999999}.tar",
)  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """An argument or option of a verb."""

    name: str
    option: str
    """'' for an argument."""
    needed: bool
    flag: bool
    number: bool
    choices: tuple[str, ...]


@functools.cache
def parameters_of(verb: Callable[..., Any]) -> tuple[Parameter, ...]:
    """Read from the function's annotations."""
    hints = typing.get_type_hints(verb, include_extras=True)
    found = []
    for name, parameter in inspect.signature(verb).parameters.items():
        kind, about = typing.get_args(hints[name])[:2]
        kinds = {kind, *typing.get_args(kind)}
        names = [one for one in about.param_decls or () if one.startswith("--")]
        option = (
            "" if type(about).__name__ == "ArgumentInfo" else (names or [f"--{name.rstrip('_').replace('_', '-')}"])[0]
        )
        choices = next((tuple(one) for one in kinds if isinstance(one, type) and issubclass(one, StrEnum)), ())
        needed = parameter.default is inspect.Parameter.empty
        found.append(Parameter(name, option, needed, kind is bool, bool(kinds & {int, float}), choices))
    return tuple(found)


def command_line(random: Random) -> list[str]:
    """One command line; the same for the same state of `random`."""
    from vitsmith.cli.verbs import VERBS, function_of

    name = VERBS[int(random.integers(len(VERBS)))]
    arguments = [name]
    for parameter in parameters_of(function_of(name)):
        if random.uniform() > (0.97 if parameter.needed else 0.06):
            continue
        if parameter.option:
            arguments.append(parameter.option)
        if not parameter.flag:
            arguments.append(_value(parameter, random))
    arguments += SHORT.get(name, ())
    if name in LONG:
        arguments += ["--out", str(random.choice(("x" * 300, "/dev/null/x", "model/bundle.json/x")))]
    return [one.replace("\0", "\\0") for one in arguments]  # no system passes a zero byte on


SOUND = {
    "model": ("model", "lit", "model.npz"),
    "images": ("photos", "photos/a.png"),
    "data": ("pets", "pets.csv", "digits"),
    "labels": ("cat,dog", "names.txt"),
    "labels_file": ("names.txt",),
    "index": ("index",),
    "query": ("a cat", "photos/a.png"),
}
"""By parameter: values that there is nothing wrong with."""


def _value(parameter: Parameter, random: Random) -> str:
    if parameter.name in SOUND and random.uniform() < 0.7:
        return str(random.choice(SOUND[parameter.name]))
    if parameter.number and random.uniform() < 0.8:
        return str(NUMBERS[int(random.integers(len(NUMBERS)))])
    if parameter.choices and random.uniform() < 0.7:
        return str(random.choice(parameter.choices))
    pool = (*PLACES, *TEXTS)
    return pool[int(random.integers(len(pool)))].encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def run_command(
    arguments: list[str], folder: Path, seconds: float, *, before: Callable[[], None] = lambda: None
) -> tuple[str, str]:
    """(verdict, detail) of a command in a process of its own that has everything imported already.

    `before` is called in that process first.
    """
    written = folder.with_name(folder.name + ".said")
    child = os.fork()
    if not child:
        _become(arguments, folder, written, before)
    deadline = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hang", f"{arguments}"
        time.sleep(0.005)
    said = written.read_bytes().decode("utf-8", "replace") if written.exists() else ""
    return judge(os.waitstatus_to_exitcode(status), said, arguments)


def judge(code: int, said: str, arguments: list[str]) -> tuple[str, str]:
    """What the end of a command is worth. `said` is its standard error."""
    last = (said.strip().splitlines() or [""])[-1]
    detail = f"{arguments} -> {code}: {last[:200]}"
    if "Traceback" in said or "Exception ignored" in said or code not in (0, 2, 3):
        return "traceback", detail
    if code and not last.startswith("vitsmith: "):
        return "traceback", detail
    return ("right" if code == 0 else "refused"), detail


def _become(arguments: list[str], folder: Path, written: Path, before: Callable[[], None]) -> None:
    """Turns this process into `vitsmith ARGUMENTS`; does not return."""
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        nothing = os.open(os.devnull, os.O_RDWR)
        said = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for target, source in ((0, nothing), (1, nothing), (2, said)):
            os.dup2(source, target)
        sys.stdin, sys.stdout, sys.stderr = (
            os.fdopen(number, mode, closefd=False) for number, mode in ((0, "r"), (1, "w"), (2, "w"))
        )
        sys.argv = ["vitsmith", *arguments]
        from vitsmith.cli.main import main

        before()
        try:
            main(arguments)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(bool(error.code))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        with contextlib.suppress(Exception):
            sys.stderr.flush()
        os._exit(code)

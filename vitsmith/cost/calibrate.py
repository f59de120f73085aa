"""Calibration: measures this machine with short models, each engine and precision in a process of its own.

What was measured is kept in the cache until the processor, its cores, or the version of the engine changes.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vitsmith.arguments import flag, named_arguments, whole_number
from vitsmith.cost.probes import probes
from vitsmith.cost.profile import BUSY, EngineProfile, Profile, write_profile
from vitsmith.cost.session import COMMAND, SessionTask
from vitsmith.engines.registry import ENGINES
from vitsmith.engines.tuning_cache import installed_version, question, recall, remember
from vitsmith.errors import InputError, VitsmithError
from vitsmith.files.atomic import check_writable
from vitsmith.json_text import to_json
from vitsmith.machine import (
    available_cores,
    bf16_dot_products,
    describe_machine,
    int8_dot_products,
    processor_flags,
    total_memory,
    visible_gpus,
)
from vitsmith.process.child import ChildResult, follow_child
from vitsmith.version import __version__

SECONDS = 17.0
"""Most seconds of measurement an engine and precision; with its start and end it stays below 20."""
MEASURED = 2
"""Raised when the same short models are measured in another way: profiles in the cache are of the old one then."""
LONGEST = 120
"""Seconds after which a measuring process is stopped: slow machines need longer for the models that must be timed."""

PRECISIONS: dict[str, tuple[str, ...]] = {
    "torch": ("fp32", "bf16"),
    "onnx": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}
"""What can be calibrated of each engine, and so predicted."""


@dataclass(frozen=True)
class EngineWay:
    """One engine in one precision with a number of threads."""

    engine: str
    precision: str
    threads: int

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


@dataclass(frozen=True)
class Progress:
    """How far a calibration is."""

    way: EngineWay
    done: float
    """0 to 1."""


class CalibrationError(VitsmithError):
    """An engine that could not be measured, and why."""


def ways(engines: Sequence[str] = (), precisions: Sequence[str] = (), threads: int | None = None) -> list[EngineWay]:
    """What is to be measured here: the engines that are installed, in the precisions that this processor is fast in.

    Raises InputError for engines and precisions that there are not.
    """
    unknown = [name for name in engines if name not in PRECISIONS]
    if unknown:
        raise InputError(f"`engine` {unknown[0]!r} cannot be calibrated: choose from {', '.join(PRECISIONS)}")
    known = sorted({one for several in PRECISIONS.values() for one in several})
    if wrong := [name for name in precisions if name not in known]:
        raise InputError(f"`precision` {wrong[0]!r} cannot be calibrated: choose from {', '.join(known)}")
    for name in engines:
        if not ENGINES[name].installed:
            kind = ENGINES[name]
            raise InputError(f"{name} is not installed here: run  pip install 'vitsmith[{kind.extra}]'")
    cores = available_cores() if threads is None else whole_number(threads, "`threads`")
    chosen = engines or [name for name in PRECISIONS if ENGINES[name].installed]
    found = [
        EngineWay(engine, precision, cores)
        for engine in chosen
        for precision in PRECISIONS[engine]
        if (precision in precisions if precisions else _fast(precision))
    ]
    if not found:
        raise InputError(
            f"nothing to calibrate: no engine is installed, or none of them has {', '.join(precisions) or 'one'}; "
            "run  pip install 'vitsmith[onnx]'"
        )
    return found


def _fast(precision: str) -> bool:
    """Whether this processor has products in a precision, or may have them."""
    found = {"bf16": bf16_dot_products, "int8": int8_dot_products}.get(precision)
    return found is None or found() is not False


@named_arguments
def calibrate(
    engines: str | Sequence[str] = (),
    *,
    precisions: str | Sequence[str] = (),
    threads: int | None = None,
    out: str | os.PathLike[str] | None = None,
    again: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Profile:
    """Measures this machine, in at most 20 seconds an engine and precision, and returns its profile.

    What is in the cache is not measured again until the processor, its cores or the engine's version change.

    Args:
        engines: 'torch', 'onnx' or 'openvino'; default: all that are installed.
        precisions: 'fp32', 'bf16' or 'int8'; default: all; bf16 and int8 where the processor has
            products in them.
        threads: processor threads; default: all cores.
        out: a file for the profile, which another machine can read.
        again: measure also what is in the cache.
        on_progress: called while it measures.

    Raises InputError for what there is not, and CalibrationError, with the reason, when an engine cannot be measured.
    """
    names = (engines,) if isinstance(engines, str) else tuple(engines)
    kinds = (precisions,) if isinstance(precisions, str) else tuple(precisions)
    flag(again, "`again`")
    chosen = ways(names, kinds, threads)
    if out is not None:
        check_writable(Path(out))
    found = []
    for way in chosen:
        kept = None if again else remembered(way)
        if kept is not None and kept.others > BUSY:  # the machine may be quiet now
            kept = None
        if kept is None:
            kept = measured(way, on_progress)
            remember(_question(way), kept.model_dump(mode="json"))
        found.append(kept)
    profile = profile_of(found)
    if out is not None:
        write_profile(profile, Path(out))
    return profile


def profile_of(engines: Sequence[EngineProfile]) -> Profile:
    """The profile of this machine with `engines`."""
    return Profile(
        machine=describe_machine(),
        instructions=instructions(),
        memory=total_memory(),
        vitsmith=__version__,
        engines=tuple(engines),
    )


def cached_profile(threads: int | None = None) -> Profile | None:
    """The profile of this machine as far as it is in the cache; None when nothing is."""
    cores = threads or available_cores()
    there = [
        EngineWay(engine, precision, cores)
        for engine, several in PRECISIONS.items()
        for precision in several
        if ENGINES[engine].installed
    ]
    found = [kept for kept in map(remembered, there) if kept is not None]
    return profile_of(found) if found else None


def remembered(way: EngineWay) -> EngineProfile | None:
    """What is in the cache of `way`; None when it is not there, or of another version or processor."""
    fields = recall(_question(way))
    try:
        return None if fields is None else EngineProfile.model_validate(fields)
    except ValidationError:
        return None


def measured(way: EngineWay, on_progress: Callable[[Progress], None] = lambda _: None) -> EngineProfile:
    """Measures one engine in a process of its own. Raises CalibrationError."""
    models = probes()
    opened = 0

    def follow(answer: Mapping[str, Any]) -> None:
        nonlocal opened
        if "opened" in answer:
            opened = answer["opened"]
            on_progress(Progress(way, 0.3 * opened / len(models)))
        elif "spent" in answer:
            on_progress(Progress(way, min(max(0.3, answer["spent"]), 1.0)))

    done = follow_child(
        COMMAND, asdict(SessionTask(way.engine, way.precision, way.threads, SECONDS)), seconds=LONGEST, on_answer=follow
    )
    return _profile(way, done)


def _profile(way: EngineWay, done: ChildResult) -> EngineProfile:
    errors = [answer["error"] for answer in done.answers if "error" in answer]
    last = next((answer for answer in done.answers if "others" in answer), None)
    if errors or last is None:
        raise CalibrationError(f"{way} cannot be calibrated: {errors[0] if errors else 'its process ' + done.how}")
    models = probes()
    timed = [
        {
            "config": models[answer["probe"]].config.model_dump(mode="json"),
            "goal": models[answer["probe"]].goal,
            "batch": models[answer["probe"]].batch,
            "seconds": answer["seconds"],
            "reference": answer["reference"],
        }
        for answer in done.answers
        if "probe" in answer
    ]
    return EngineProfile.model_validate(
        {
            "engine": way.engine,
            "precision": way.precision,
            "threads": way.threads,
            "version": installed_version(ENGINES[way.engine].package),
            "made": datetime.date.today().isoformat(),
            "timed": timed,
            "reference": last["reference"],
            "others": last["others"],
            "peak": next(answer["peak"] for answer in done.answers if "peak" in answer),
            "gpu": next((answer["gpu"] for answer in done.answers if "gpu" in answer), ""),
        }
    )


def instructions() -> str:
    """A hash of the names of this processor's instruction sets."""
    return hashlib.sha256(" ".join(sorted(processor_flags())).encode()).hexdigest()[:16]


def _question(way: EngineWay) -> dict[str, Any]:
    package = ENGINES[way.engine].package
    gpus = {"gpus": found} if way.engine == "torch" and (found := visible_gpus()) else {}
    return question(f"calibration {MEASURED} {way}", _probes_hash(), (package,), threads=way.threads, **gpus)


@functools.cache
def _probes_hash() -> str:
    """A hash of the short models, which every question to the cache has."""
    fields = [asdict(one) | {"config": one.config.model_dump(mode="json")} for one in probes()]
    return hashlib.sha256(to_json(fields, sort_keys=True).encode()).hexdigest()[:32]

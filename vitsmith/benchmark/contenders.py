"""What is compared: models, and the engines and precisions that run each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitsmith.engines.plan import Goal
from vitsmith.engines.registry import ENGINES, precisions_of, runners
from vitsmith.engines.settings import PRECISIONS
from vitsmith.errors import InputError, MissingPackageError, UnknownNameError
from vitsmith.models.config import LiTConfig
from vitsmith.models.cost import flops, parameters
from vitsmith.weights.bundle import Bundle
from vitsmith.weights.bundle_folder import program_mib
from vitsmith.weights.bundle_paths import SUFFIXES

MIB = 2**20


@dataclass(frozen=True, eq=False)
class Subject:
    """One of the models that are compared, and one of its programs."""

    name: str
    """What tables call it."""
    model: str
    """What `vitsmith.load` was given: a child process loads it again."""
    bundle: Bundle

    @property
    def program(self) -> str:
        """Which of its programs it is, 'onnx, fp32'; '' of a model that has one."""
        return self.bundle.stored.title if len(self.bundle.programs) > 1 else ""

    @property
    def title(self) -> str:
        """'pets', or 'pets (onnx, fp32)'."""
        return f"{self.name} ({self.program})" if self.program else self.name

    @property
    def gflops(self) -> float:
        """Arithmetic of one image, in 10^9 operations, from the configuration; of LiT the image tower."""
        config = self.bundle.config
        return flops(config.image if isinstance(config, LiTConfig) else config) / 1e9

    @property
    def size_mib(self) -> float:
        """Its program or weights on disk, without golden examples and vocabulary; in memory: float32 weights."""
        if self.bundle.folder is None:
            return 4 * parameters(self.bundle.config) / MIB
        return program_mib(self.bundle.place)


@dataclass(frozen=True, eq=False)
class Contender:
    """One way to run one of the models."""

    subject: Subject
    engine: str
    precision: str
    refused: str = ""
    """Why it cannot be, known before it is tried; '' when it can."""

    @property
    def title(self) -> str:
        """'pets-onnx, onnx, fp32'."""
        return f"{self.subject.title}, {self.engine}, {self.precision}"

    def to_dict(self) -> dict[str, Any]:
        """What runs in what, as rows of JSON and CSV say it."""
        bundle, spec = self.subject.bundle, self.subject.bundle.program_spec
        return {
            "model": self.subject.name,
            "program": bundle.program,
            "arithmetic": spec.arithmetic,
            "fixed_batch": spec.batch,
            "pixels": spec.pixels,
            "engine": self.engine,
            "precision": self.precision,
        }

    @property
    def is_own(self) -> bool:
        """Whether the precision is the program's own, of torch weights fp32."""
        return self.precision == self.subject.bundle.program_spec.precision

    def goal(self, batch: int) -> Goal:
        """What the engine is opened for. Engines of torch weights are one and the same for all batches."""
        return "latency" if batch == 1 and self.subject.bundle.program != "torch" else "throughput"


def subjects_of(name: str, model: str, bundle: Bundle) -> list[Subject]:
    """A model that was loaded from `model`: each of its programs, or the one of the file that was given."""
    if len(bundle.programs) < 2 or Path(model).is_file():
        return [Subject(name, model, bundle)]
    subjects = []
    for stored in bundle.programs:
        one = bundle.using(stored)
        file = one.place / f"model{SUFFIXES[stored.program][0]}"  # by which a child process finds this program
        subjects.append(Subject(name, str(file) if stored.folder else model, one))
    return subjects


def contenders_of(subject: Subject, engines: Sequence[str] = (), precisions: Sequence[str] = ()) -> list[Contender]:
    """The ways to run a model: with the engines and precisions asked for, or with all there are.

    An engine that does not run such programs is left out. One that should run it and cannot, because its package is
    missing or it does not compute in a precision asked for, is among them with its reason; of several programs those
    that do not run in that precision are left out. Raises UnknownNameError.
    """
    for name in engines:
        if name not in ENGINES:
            raise UnknownNameError("engine", name, ENGINES)
    known = [name for name in PRECISIONS if name != "auto"]
    for name in precisions:
        if name not in known:
            raise UnknownNameError("precision", name, known)
    able = runners(subject.bundle.program)
    return [
        contender
        for name in able
        if name in (engines or able)
        for contender in _of_engine(subject, name, precisions, asked=bool(engines) or name == able[0])
    ]


def require_some(contenders: Sequence[Contender], subjects: Sequence[Subject], asked: Sequence[str]) -> None:
    """Raises InputError when there is nothing to measure of the engines or precisions that were asked for."""
    if contenders:
        return
    there = "; ".join(f"{one.title} runs in {', '.join(runners(one.bundle.program))}" for one in subjects)
    raise InputError(f"none of the models runs in {' or '.join(asked)}: {there}")


def _of_engine(subject: Subject, engine: str, precisions: Sequence[str], *, asked: bool) -> Iterator[Contender]:
    kind, able = ENGINES[engine], precisions_of(subject.bundle, engine)
    missing = "" if kind.installed else str(MissingPackageError(kind.package, kind.extra))
    if missing and not asked:
        return
    for precision in precisions or able:
        reason = missing
        if precision not in able and subject.program:
            continue
        if precision not in able:
            reason = f"{engine} runs this program in {' or '.join(able)}, not in {precision}"
        yield Contender(subject, engine, precision, reason)

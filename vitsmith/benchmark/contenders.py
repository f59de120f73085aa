"""Contenders of a benchmark: models, and the engines and precisions that run each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vitsmith.engines.refusals import ways_to_run
from vitsmith.engines.registry import ENGINES, precisions_of, runners
from vitsmith.engines.settings import PRECISIONS, Goal
from vitsmith.errors import InputError, MissingPackageError, UnknownNameError
from vitsmith.models.config import LiTConfig
from vitsmith.models.cost import flops, parameters
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import program_mib
from vitsmith.weights.bundle.paths import names_program, program_file

MIB = 2**20


@dataclass(frozen=True, eq=False)
class Subject:
    """One of the models that are compared, and one of its programs."""

    name: str
    """Name in tables."""
    model: str
    """Argument of `vitsmith.load`, with which a child process loads it again."""
    bundle: Bundle
    read_as: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `load` that say how the arrays of a checkpoint are read."""

    @property
    def program(self) -> str:
        """Name of the program, 'onnx, fp32'; '' for a model with only one."""
        return self.bundle.stored.title if len(self.bundle.programs) > 1 else ""

    @property
    def title(self) -> str:
        """'pets', or 'pets (onnx, fp32)'."""
        return f"{self.name} ({self.program})" if self.program else self.name

    @property
    def gflops(self) -> float:
        """Arithmetic of one image, in 10^9 operations, from the configuration; LiT: of the image tower."""
        config = self.bundle.config
        return flops(config.image if isinstance(config, LiTConfig) else config) / 1e9

    @property
    def size_mib(self) -> float:
        """Size of its program or weights on disk, in MiB; of a bundle in memory that of float32 weights."""
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
    """Why it cannot run, where that is known before a try; '' where it may run."""

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
        """Whether the precision is that of the program; fp32 for torch weights."""
        return self.precision == self.subject.bundle.program_spec.precision

    def goal(self, batch: int) -> Goal:
        """Goal for which the engine is opened; engines of torch weights have one goal for all batches."""
        return "latency" if batch == 1 and self.subject.bundle.program != "torch" else "throughput"


def subjects_of(name: str, model: str, bundle: Bundle, read_as: Mapping[str, Any] | None = None) -> list[Subject]:
    """The subjects of a model that was loaded from `model`: one for each program, or only the one that is named."""
    if len(bundle.programs) < 2 or names_program(model):
        return [Subject(name, model, bundle, read_as or {})]
    subjects = []
    for stored in bundle.programs:
        one = bundle.using(stored)
        file = one.place / program_file("model", stored.program)  # the file by which a child process finds this program
        subjects.append(Subject(name, str(file) if stored.folder else model, one))
    return subjects


def contenders_of(subject: Subject, engines: Sequence[str] = (), precisions: Sequence[str] = ()) -> list[Contender]:
    """The contenders of a model: the engines and precisions that are asked for, or by default all.

    An engine for other programs is left out. An engine for this program that cannot run it, because its package is
    missing or it lacks a precision asked for, is included with the reason. In a bundle of several programs, those that
    do not run in that precision are left out. Raises UnknownNameError.
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


def require_some(
    contenders: Sequence[Contender],
    subjects: Sequence[Subject],
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
) -> None:
    """Raises InputError, which lists what runs in what, when none of the models runs as was asked for."""
    if contenders:
        return
    there = "; ".join(f"{one.title}: {ways_to_run(one.bundle.stored)}" for one in subjects)
    raise InputError(f"none of the models runs in {shown_ways(engines, precisions)}: {there}")


def shown_ways(engines: Sequence[str], precisions: Sequence[str]) -> str:
    """'onnx or openvino in bf16'."""
    return " in ".join(" or ".join(names) for names in (engines, precisions) if names)


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

"""Trial programs: made from one float graph, opened with the engine that users will use, evaluated and timed.

A program is made and opened once. One whose answers are good enough stays on disk with all that a bundle needs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vitsmith.arrays import Array
from vitsmith.compress.images import TaskImages
from vitsmith.compress.quantize.schemes import Attempt, Fidelity, ProgramError, Scheme
from vitsmith.compress.quantize.sensitivity import IMAGES, measure_sensitivity
from vitsmith.compress.result import Advance, Listener, Working
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.data.images.sources import ImageSource
from vitsmith.engines.open import open_engine
from vitsmith.engines.protocol import Engine
from vitsmith.engines.sample_inputs import GATE_INPUTS
from vitsmith.engines.settings import Goal
from vitsmith.errors import (
    BundleError,
    GateError,
    InputError,
    MissingPackageError,
    NotFiniteError,
    OutputError,
    VitsmithError,
)
from vitsmith.evaluation.speed import Race, Runner, Speedup
from vitsmith.exporters.gate import GOLDEN_IMAGES, REQUIRED, REQUIRED_MERGING, golden_of
from vitsmith.exporters.parts import Part
from vitsmith.gate import Paired, Requirements, Verdict, agreement_of, compare, mean_cosine
from vitsmith.models.config import LiTConfig, merges
from vitsmith.specs import Program, ProgramSpec
from vitsmith.stream import ImageStream
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import copy_programs, program_mib, write_bundle
from vitsmith.weights.bundle.measurements import told_briefly

_BATCH = 16  # evaluation images at once
_FULL = 2**26  # bytes: a disk with less free space counts as full


class Programs(Protocol):
    """Writes the programs of one runtime, as `onnx.py` and `openvino.py` do."""

    program: Program
    parts: Sequence[Part]
    """What the programs compute: the image model, and the text tower of a LiT."""
    folder: Path
    """Folder of the float program."""
    rests: tuple[str, ...]
    """Float precisions that the runtime has on this processor, the fastest first."""

    @property
    def sites(self) -> tuple[str, ...]: ...

    def write(self, scheme: Scheme, tensors: Array, place: Path) -> None: ...


class ProgramTrials:
    """Makes and measures all programs of one bundle for one engine; a `run.Trials`.

    Args:
        bundle: torch weights.
        programs: writes the programs; the float one is there already.
        images: holds the evaluation images.
        tensors: float32 (images, 3, height, width), the preprocessed calibration images.
        place: an empty folder to work in.
        race: measures two engines beside each other.
        batch: images at once when speed is measured.
    """

    def __init__(
        self,
        bundle: Bundle,
        programs: Programs,
        images: TaskImages,
        tensors: Array,
        place: Path,
        *,
        race: Race,
        batch: int = 8,
        listener: Listener = lambda _: None,
    ) -> None:
        self._bundle, self._programs, self._images = bundle, programs, images
        self._tensors, self._place, self._race, self._listener = tensors, place, race, listener
        self._batch = np.resize(tensors, (batch, *tensors.shape[1:]))
        self._embeds = isinstance(bundle.config, LiTConfig) or not bundle.classes
        self.sites = programs.sites
        self.rests = programs.rests
        self._made: Bundle | None = None
        self._count = 0
        self._kept: dict[tuple[Scheme, str], Bundle] = {}
        self._runner: Runner | None = None
        self._base: Runner | None = None
        self._expected = self._answers(open_engine(bundle, "torch", precision="fp32"), "the original")
        self._right = self._named_rightly(self._expected)
        self._bundle = bundle.with_true_golden(sample_images(GOLDEN_IMAGES))
        self.top1 = None if self._right is None else float(self._right.mean())
        self.says_one_thing = not self._embeds and len(np.unique(self._expected.argmax(axis=-1))) == 1
        """Whether the original gives the same class for all evaluation images; agreement then says little."""

    def program_of(self, attempt: Attempt) -> Bundle:
        """The program of an attempt that met the requirements, with its golden answers."""
        assert attempt.scheme is not None
        return self._kept[attempt.scheme, attempt.rest]

    def try_float(self, required: Requirements) -> list[Attempt]:
        """Tries the float programs: fp32, and bf16 where the processor has it. int8 must beat the faster good one.

        Raises GateError when the fp32 program does not answer as the torch model does.
        """
        self._listener(Working("the float program"))
        floats = self._write("fp32", ProgramSpec(), lambda files: copy_programs(self._programs.folder, files))
        runner = self._open(floats, "fp32")
        for part in self._programs.parts:
            merging = merges(self._bundle.config) and part.name != "text"
            same = self._differences(part, runner.throughput, (REQUIRED_MERGING if merging else REQUIRED)["fp32"])
            same.require(f"the float {self._programs.program} program of {self._bundle.where} ({part.name})")
        attempts = [Attempt("float", None, "fp32", _mib(floats), self._evaluate(runner, "float fp32"))]
        self._base = runner
        if "bf16" not in self.rests:
            return attempts
        attempts.append(self._try_bf16(required, floats))
        return attempts

    def _try_bf16(self, required: Requirements, floats: Bundle) -> Attempt:
        attempt = Attempt("float", None, "bf16", _mib(floats))
        assert self._base is not None
        try:
            runner = self._open(floats, "bf16")
            fidelity = self._evaluate(runner, "float bf16")
            with _running():
                speedup = self._race(self._base, runner, self._batch)
        except ProgramError as error:
            self.rests = ("fp32",)
            return replace(attempt, reason=str(error))
        # Without the strict gate, because int8 must beat a bf16 program that may be right.
        reason = "; ".join(fidelity.failures(replace(required, strict=False)))
        if reason:
            self.rests = ("fp32",)  # where bf16 alone is too coarse, it is too coarse beside int8 as well
        elif speedup.batches > 1:
            self._base = runner
        else:
            self.rests = ("fp32", "bf16")
        return replace(attempt, fidelity=fidelity, speedup=speedup, reason=reason)

    def _differences(self, part: Part, engine: Engine, allowed: Requirements) -> Verdict:
        """A program beside the torch model, on one of its parts, in batches of several sizes."""
        if part.name == "text":
            return compare(self._bundle.run_texts_torch, engine.run_texts, part.inputs, allowed, embeddings="texts")
        return compare(self._bundle.run_torch, engine.run, self._tensors[:GATE_INPUTS], allowed)

    def make(self, scheme: Scheme, rest: str) -> float:
        self._listener(Working(f"{scheme.name}: building the program"))
        self._runner = None
        if self._made is not None and self._made not in self._kept.values():
            shutil.rmtree(self._made.place, ignore_errors=True)
        self._count += 1
        with self._explained():
            spec = ProgramSpec(precision="int8", rest=rest)
            notes = self._notes(scheme)
            self._made = self._write(f"int8-{self._count}", spec, lambda files: self._fill(scheme, files), *notes)
        self._scheme = scheme
        return _mib(self._made)

    def evaluate(self) -> Fidelity:
        assert self._made is not None
        self._runner = self._open(self._made, "auto")
        return self._evaluate(self._runner, self._scheme.name)

    def race(self) -> Speedup:
        assert self._runner is not None and self._base is not None
        self._listener(Working(f"{self._scheme.name}: measuring the speed beside float"))
        with _running():
            return self._race(self._base, self._runner, self._batch)

    def keep(self) -> None:
        assert self._made is not None and self._runner is not None
        engine = self._runner.throughput
        for part in self._programs.parts:
            if reasons := self._differences(part, engine, REQUIRED["int8"]).failures:
                raise ProgramError(f"{'; '.join(reasons)} ({part.name})")
        try:
            with _running():
                kept = replace(self._made, golden=golden_of(self._bundle, self._made, engine))
        except GateError as error:
            raise ProgramError(str(error)) from error
        self._made = self._kept[self._scheme, self._made.program_spec.rest] = kept

    def rank(self, smooth: float | None) -> Sequence[str]:
        part, inputs = self._programs.parts[0], self._tensors[:IMAGES]
        self._listener(Working("measuring how sensitive each layer is", len(self.sites)))
        found = measure_sensitivity(
            part.module, part.run_torch, inputs, self.sites, smooth=smooth, on_site=lambda: self._listener(Advance())
        )
        return [one.site for one in found]

    def _notes(self, scheme: Scheme) -> tuple[str, ...]:
        """Notes of a program on how it was made."""
        calibrated = f", calibrated on {len(self._images.calibration)} images" if scheme.kind == "static" else ""
        text = ("the text tower stays in fp32",) if isinstance(self._bundle.config, LiTConfig) else ()
        told = told_briefly(self._bundle.still_measured())
        before = (f"measured before export: {told}",) if told else ()
        return (f"int8: {scheme.name}{calibrated}", *text, *before)

    def _fill(self, scheme: Scheme, files: Path) -> None:
        copy_programs(self._programs.folder, files, "text")
        self._programs.write(scheme, self._tensors, files)

    def _write(self, name: str, spec: ProgramSpec, write: Callable[[Path], None], *notes: str) -> Bundle:
        """Writes a bundle, without golden answers: its answers are compared here."""
        program = self._programs.program
        described = self._bundle.as_program(program, spec, *notes, by=f"vitsmith quantize --engine {program}")
        return write_bundle(replace(described, golden=None), self._place / name, write_program=write)

    def _open(self, candidate: Bundle, precision: str) -> Runner:
        def opened(goal: Goal) -> Engine:
            try:
                return open_engine(candidate, self._programs.program, precision=precision, goal=goal)
            except MissingPackageError:
                raise
            except InputError as error:
                raise ProgramError(f"does not run: {error}") from None

        return Runner(opened("throughput"), lambda: opened("latency"))

    def _evaluate(self, runner: Runner, name: str) -> Fidelity:
        with _running():
            found = self._answers(runner.throughput, name)
        cosine = mean_cosine(self._expected, found)
        agreement = cosine if self._embeds else agreement_of(self._expected, found)
        right = self._named_rightly(found)
        accuracy = None if self._right is None or right is None else Paired.of(self._right, right)
        return Fidelity(agreement, cosine, accuracy, self._embeds)

    def _answers(self, engine: Engine, name: str) -> Array:
        """Outputs of an engine on the evaluation images, in order."""
        evaluation = self._images.evaluation.sources
        self._listener(Working(f"{name}: evaluating", len(evaluation)))
        rows = ImageStream(self._bundle.preprocessing, engine, batch_size=_BATCH).rows(self._counted(evaluation))
        assert rows is not None
        return rows

    def _counted(self, sources: Iterable[ImageSource]) -> Iterator[ImageSource]:
        for source in sources:
            self._listener(Advance())
            yield source

    def _named_rightly(self, outputs: Array) -> NDArray[np.bool_] | None:
        labels = self._images.labels
        return None if labels is None else outputs.argmax(axis=-1) == labels

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns exceptions of other libraries into ProgramError, so that the search goes on; a full disk ends it."""
        try:
            yield
        except (VitsmithError, MemoryError):
            raise
        except Exception as error:  # whatever NNCF, onnxruntime or OpenVINO throw
            if isinstance(error, OSError) or shutil.disk_usage(self._place).free < _FULL:
                raise OutputError(
                    f"cannot write {self._place}: {_first_line(error)}; free some space, or set TMPDIR to another place"
                ) from error
            raise ProgramError(f"cannot be made ({_first_line(error)})") from error


@contextmanager
def _running() -> Iterator[None]:
    """Turns what an engine raises while it runs into ProgramError."""
    try:
        yield
    except NotFiniteError as error:
        raise ProgramError(f"gives answers that are not finite ({error})") from None
    except BundleError as error:
        raise ProgramError(f"does not run ({_first_line(error.__cause__ or error)})") from error


def _mib(bundle: Bundle) -> float:
    return program_mib(bundle.place, "model")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

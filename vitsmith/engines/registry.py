"""The engines by name: what each runs, and how it is opened. Their packages are imported when they are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pkgutil import resolve_name

from vitsmith import needs_torch
from vitsmith.engines.protocol import Engine
from vitsmith.engines.settings import GPU_PRECISIONS, Settings
from vitsmith.specs import Program, ProgramSpec, StoredProgram
from vitsmith.weights.bundle.bundle import Bundle


@dataclass(frozen=True)
class Kind:
    """One engine before it is opened."""

    engine: str
    """Its class, 'vitsmith.engines.onnx.engine:OnnxEngine', which is imported when it is opened."""
    programs: tuple[Program, ...]
    """The programs it runs, its own kind first."""
    precisions: Callable[[ProgramSpec], tuple[str, ...]]
    """The precisions it can run a program in, the program's own first."""
    package: str
    extra: str
    only_by_name: bool = False
    """Whether `engine="auto"` never takes it, because it is slow or takes long to open."""

    @property
    def installed(self) -> bool:
        """Whether its package is installed."""
        return find_spec(self.package) is not None

    def open(self, bundle: Bundle, settings: Settings) -> Engine:
        """The engine, opened for a bundle."""
        opened: Callable[[Bundle, Settings], Engine] = resolve_name(self.engine)
        return opened(bundle, settings)


def _own(spec: ProgramSpec) -> tuple[str, ...]:
    return (spec.precision,)


def _float_or_bf16(spec: ProgramSpec) -> tuple[str, ...]:
    if spec.precision == "int8":
        return ("int8",)
    return tuple(dict.fromkeys((spec.precision, "fp32", "bf16")))


def _of_torch(spec: ProgramSpec) -> tuple[str, ...]:
    return (*_float_or_bf16(spec), *(GPU_PRECISIONS if needs_torch.has_gpu() else ()))


ENGINES: dict[str, Kind] = {
    "torch": Kind(
        engine="vitsmith.engines.torch.engine:TorchEngine",
        programs=("torch",),
        precisions=_of_torch,
        package="torch",
        extra="torch",
    ),
    "torch-compiled": Kind(
        engine="vitsmith.engines.torch.compiled:CompiledTorchEngine",
        programs=("torch",),
        precisions=_of_torch,
        package="torch",
        extra="torch",
        only_by_name=True,  # it compiles at every start
    ),
    "onnx": Kind(
        engine="vitsmith.engines.onnx.engine:OnnxEngine",
        programs=("onnx",),
        precisions=_own,
        package="onnxruntime",
        extra="onnx",
    ),
    "openvino": Kind(
        engine="vitsmith.engines.openvino.engine:OpenVinoEngine",
        programs=("openvino", "onnx"),
        precisions=_float_or_bf16,
        package="openvino",
        extra="openvino",
    ),
    "executorch": Kind(
        engine="vitsmith.engines.executorch.engine:ExecutorchEngine",
        programs=("executorch",),
        precisions=_own,
        package="executorch",
        extra="executorch",
    ),
}
"""Engine by name. OpenVINO reads ONNX files itself."""


def runners(program: Program) -> list[str]:
    """Names of the engines that run a program, the one it was made for first."""
    able = [name for name, kind in ENGINES.items() if program in kind.programs]
    return sorted(able, key=lambda name: name != program)


def precisions_of(bundle: Bundle, engine: str) -> tuple[str, ...]:
    """The precisions that an engine can run this bundle in, the program's own first."""
    return ENGINES[engine].precisions(bundle.program_spec)


def fitting(bundle: Bundle, engine: str = "auto", precision: str = "auto") -> list[Bundle]:
    """The bundle with each of its programs that `engine` runs here in `precision`; [] where none of several does so.

    The first is taken if nothing is measured: the usual program, or for a named engine one made for it; among these one
    in the precision of the usual program, then the one added first. A faster precision is never chosen: with 'auto' all
    programs have that of the first. A program that the user chose is the only one, if it runs so; and so are weights
    that were changed in memory, and the program of a bundle that has one only, whether they run so or not.
    """
    if len(bundle.programs) < 2 or bundle.weights_changed:
        return [bundle]
    usual = bundle.programs[0].spec.arithmetic

    def rank(one: StoredProgram) -> tuple[bool, ...]:
        return one != bundle.stored or not one.folder, one.program != engine, one.spec.arithmetic != usual

    able = [
        one
        for one in sorted(bundle.programs, key=rank)
        if any(ENGINES[name].installed for name in able_to_run(one, engine, precision))
    ]
    if not able:
        return []
    if able[0].folder and able[0] == bundle.stored:
        return [bundle]
    return [bundle.using(one) for one in able if precision != "auto" or one.spec.arithmetic == able[0].spec.arithmetic]


def able_to_run(stored: StoredProgram, engine: str = "auto", precision: str = "auto") -> list[str]:
    """Names of the engines, or only `engine`, that run a program in a precision, whether installed here or not."""
    return [
        name
        for name in runners(stored.program)
        if engine in ("auto", name) and precision in ("auto", *ENGINES[name].precisions(stored.spec))
    ]

"""What every target promises. Registering one in `exporters/targets.py` obliges it to all of these tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import vitsmith as vs
from tests.documentation import ROOT, table_after
from tests.tiny import VIT, pictures, tiny_inputs, tiny_model
from vitsmith import Bundle, Labels, open_engine
from vitsmith.cli.export import To
from vitsmith.errors import GateError, InputError
from vitsmith.exporters.parts import Part
from vitsmith.exporters.run import check, export_program, is_earlier
from vitsmith.exporters.targets import TARGETS
from vitsmith.exporters.web_runtime import FILES
from vitsmith.gate import relative_difference
from vitsmith.models.configure import change
from vitsmith.specs import ProgramSpec

SPECS: dict[str, ProgramSpec] = {}
"""By target, what it is asked for; by default float32 for any batch."""
SMALL = change(VIT, depth=1)
GATED = [name for name, target in TARGETS.items() if target.gated]


def spec_of(name: str) -> ProgramSpec:
    return SPECS.get(name, ProgramSpec())


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    names = tuple(f"class {number}" for number in range(SMALL.classes))
    return Bundle.of(tiny_model(SMALL), labels=Labels(names=names)).with_golden(pictures(2))


@pytest.fixture(scope="module")
def exports(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Bundle]]:
    """Makes and keeps, by target, where `vitsmith.export` wrote, and the bundle that it gave."""
    made: dict[str, tuple[Path, Bundle]] = {}

    def of(name: str) -> tuple[Path, Bundle]:
        if name not in made:
            place = tmp_path_factory.mktemp("targets") / f"{name}{TARGETS[name].suffix}"
            with pytest.MonkeyPatch.context() as patch:  # of the runtime of pages the tests need only the names
                patch.setattr("vitsmith.exporters.web.web_runtime", lambda: dict.fromkeys(FILES, b""))
                made[name] = place, vs.export(bundle, name, place, fixed_batch=spec_of(name).batch)
        return made[name]

    return of


@pytest.mark.parametrize("name", TARGETS)
def test_it_gives_the_answers_of_the_original(
    name: str, bundle: Bundle, exports: Callable[[str], tuple[Path, Bundle]]
) -> None:
    place, exported = exports(name)
    if TARGETS[name].gated:
        verdict = exported.verdict
        assert verdict is not None and verdict.passed and verdict.relative < 1e-3 and verdict.agreement == 1
        run = open_engine(vs.load(exported.folder), TARGETS[name].exporter().program).run
    else:
        run = vs.load(place).run_torch
    for batch in (1, 2, 7):
        images = tiny_inputs(SMALL, batch, seed=batch)[0].numpy()
        assert relative_difference(bundle.run_torch(images), run(images)) < 1e-3


@pytest.mark.parametrize("name", GATED)
def test_a_program_that_differs_is_refused_and_nothing_is_written(
    name: str, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitsmith.exporters.web.web_runtime", lambda: dict.fromkeys(FILES, b""))
    exporter, other = TARGETS[name].exporter(), tiny_model(SMALL, seed=1)

    def write(part: Part, path: Path, spec: ProgramSpec) -> None:
        assert exporter.write is not None
        exporter.write(replace(part, module=other), path, spec)

    # ExecuTorch's layers are those of a second program, of the part itself: here they are right
    layer = "" if name == "executorch" else "the first layer that differs is "
    with pytest.raises(GateError, match=f"was refused, nothing was written: outputs differ .*{layer}"):
        export_program(bundle, tmp_path / "refused", replace(exporter, write=write), spec_of(name))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", TARGETS)
def test_it_says_what_it_does_not_take(name: str, bundle: Bundle) -> None:
    target = TARGETS[name]
    for precision in {"fp32", "fp16", "bf16", "int8"} - {*target.precisions}:
        with pytest.raises(InputError, match=f"{precision}.* {name}|{name}.* {precision}"):
            check(bundle, target, ProgramSpec(precision=precision))  # type: ignore[arg-type]
    for program in {"onnx", "openvino", "executorch"} - {*target.takes}:
        with pytest.raises(InputError, match=rf"already exported \(model\.{program}\); export the torch one to {name}"):
            check(replace(bundle, program=program), target, ProgramSpec())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", TARGETS)
def test_it_recognises_what_it_wrote(name: str, exports: Callable[[str], tuple[Path, Bundle]], tmp_path: Path) -> None:
    target = TARGETS[name]
    assert is_earlier(target, exports(name)[0])
    (tmp_path / "notes.txt").write_text("mine")
    assert not is_earlier(target, tmp_path) and not is_earlier(target, tmp_path / "notes.txt")


@pytest.mark.parametrize("name", TARGETS)
def test_the_command_line_and_the_page_have_it(name: str) -> None:
    assert name in list(To)
    rows = {row[0]: row[2] for row in table_after(ROOT / "docs" / "export.md", "| target |")}
    assert rows[f"`{name}`"] == ", ".join(TARGETS[name].precisions)


def test_they_have_no_others() -> None:
    assert [*To] == [*TARGETS]
    assert len(table_after(ROOT / "docs" / "export.md", "| target |")) == len(TARGETS)

"""Bundles of several programs: how one is added, which one runs, and what is measured of each."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitsmith as vs
from tests.command_line import call
from tests.engines.pretended import MANY, race_with
from tests.exporting import export_onnx, export_openvino
from tests.tiny import REFERENCE, VIT, pictures, tiny_model
from tests.weights.bundle.bundles import FORMAT1, NAMES, labelled
from vitsmith import Bundle, Labels, Predictor, needs_torch, open_engine
from vitsmith.benchmark import session
from vitsmith.benchmark.contenders import contenders_of, require_some, subjects_of
from vitsmith.benchmark.memory import Memory, Task
from vitsmith.benchmark.rows import Benchmark, BenchmarkRow
from vitsmith.engines import choice, registry
from vitsmith.engines.settings import PRECISIONS
from vitsmith.errors import BundleError, GateError, InputError, MissingPackageError, WeightsError
from vitsmith.evaluation.peak_rates import Peak
from vitsmith.exporters import run
from vitsmith.report.benchmark import draw_benchmark
from vitsmith.runs.place import model_name
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle import measurements
from vitsmith.weights.bundle.folder import record_measurements, write_bundle
from vitsmith.weights.bundle.programs import add_program

ROOT = REFERENCE.parent.parent
posix = pytest.mark.skipif(os.name != "posix", reason="forks")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`plain`, torch weights; `model`, the same with two ONNX programs; `onnx`, `half` and `openvino` by themselves."""
    place = tmp_path_factory.mktemp("programs")
    bundle = vs.save(labelled(), place / "plain")
    assert bundle is not None
    export_onnx(bundle, place / "onnx")
    export_onnx(bundle, place / "half", spec=ProgramSpec(precision="fp16"))
    export_openvino(bundle, place / "openvino")
    shutil.copytree(place / "plain", place / "model")
    for name in ("onnx", "half"):
        add_program(vs.load(place / "model"), vs.load(place / name))
    return place


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all of it, in which to work."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def titles(folder: Path | str) -> list[str]:
    return [one.title for one in vs.load(folder).programs]


def write_nothing(place: Path) -> None:
    """A program that nobody runs."""
    (place / "model.onnx").write_bytes(b"not run")


def export_nothing(bundle: Bundle, folder: Path, target: str, spec: ProgramSpec, *_: Any, **__: Any) -> Any:
    """In the place of `vitsmith.exporters.run.export`."""
    return write_bundle(bundle.as_program("onnx", spec, by="a test"), folder, write_program=write_nothing), None


# --- adding ----------------------------------------------------------------------------------------------------------


def test_two_programs_are_added_at_the_same_time(here: Path) -> None:
    start = threading.Barrier(2)
    found: list[Any] = []

    def add(bundle: Bundle, other: Bundle) -> None:
        start.wait()
        found.append(add_program(bundle, other))

    both = [threading.Thread(target=add, args=(vs.load("plain"), vs.load(name))) for name in ("onnx", "openvino")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert len(found) == 2 and sorted(titles("plain")) == ["onnx, fp32", "openvino, fp32", "torch"]


def test_what_is_measured_while_a_program_is_added_is_kept(here: Path) -> None:
    measured = vs.load("plain")
    add_program(vs.load("plain"), vs.load("onnx"))
    record_measurements(measured, [measurements.size(2.0)])
    assert [one.program for one in vs.load("plain").measurements] == ["torch"] and len(titles("plain")) == 2


def test_other_files_in_the_folder_stay(here: Path) -> None:
    Path("plain/notes.txt").write_text("mine")
    before = Path("plain/model.safetensors").stat()
    add_program(vs.load("plain"), vs.load("onnx"))
    assert Path("plain/notes.txt").read_text() == "mine"
    assert os.path.samestat(Path("plain/model.safetensors").stat(), before)  # large files are not copied


def test_a_program_takes_the_place_of_another_of_its_kind_when_that_is_asked_for(here: Path) -> None:
    for number, stored in enumerate(vs.load("model").programs):
        record_measurements(vs.load("model").using(stored), [measurements.size(10.0 + number)])
    old = vs.load("model").using(vs.load("model").programs[1])
    with pytest.raises(InputError, match=r"already holds this program \(onnx, fp32\): replace it with `force`"):
        add_program(vs.load("model"), vs.load("onnx"))
    add_program(vs.load("model"), vs.load("onnx"), force=True)
    assert titles("model") == ["torch", "onnx, fp32", "onnx, fp16"]  # the same place in the list
    assert Predictor("model", "onnx").bundle.place == Path("model/programs/onnx-fp32-2")
    assert {one.program: one.value for one in vs.load("model").measurements} == {"torch": 10, "onnx, fp16": 12}
    assert sorted(path.name for path in Path("model/programs").iterdir()) == ["onnx-fp16", "onnx-fp32-2"]
    with pytest.raises(BundleError, match="was replaced by another model while"):  # what it measured is gone
        record_measurements(old, [measurements.size(3.0)])
    with pytest.raises(InputError, match=r"already is this program \(onnx, fp32\)"):
        add_program(vs.load("onnx"), vs.load("model").using(vs.load("model").programs[1]), force=True)


def test_a_folder_that_holds_another_model_by_now_is_refused(here: Path) -> None:
    bundle = vs.load("plain")
    shutil.rmtree("plain")
    vs.save(Bundle.of(tiny_model(VIT, seed=1), labels=Labels(names=NAMES)), "plain")
    with pytest.raises(BundleError, match="was replaced by another model since it was loaded"):
        add_program(bundle, vs.load("onnx"))


def test_a_bundle_of_format_1_is_in_format_2_with_a_program_more(tmp_path: Path) -> None:
    shutil.copytree(FORMAT1 / "24f72d5" / "trained", tmp_path / "old")
    before = vs.load(tmp_path / "old")
    program = before.as_program("onnx", ProgramSpec(), by="a test")
    add_program(before, write_bundle(program, tmp_path / "onnx", write_program=write_nothing))
    after = vs.load(tmp_path / "old")
    assert json.loads((tmp_path / "old/bundle.json").read_text())["format"] == 2
    assert titles(tmp_path / "old") == ["torch", "onnx, fp32"]
    assert (after.identity, after.measurements, after.labels) == (before.identity, before.measurements, before.labels)


KILLED = """
    import os, shutil, sys
    from pathlib import Path
    from vitsmith.weights.bundle.folder import read_bundle
    from vitsmith.weights.bundle.programs import add_program

    place, force, events, code = Path(sys.argv[1]), sys.argv[2] == "force", 0, 9
    other, seen = read_bundle(place / "other"), []

    def listed(bundle):
        return ";".join(f"{one.title} in {one.folder}" for one in bundle.programs)

    def run(bundle, until):
        left = [until]

        def count(event, arguments):
            if event == "open" or event.startswith(("os.", "shutil.", "fcntl.", "ctypes.set_errno")):
                left[0] -= 1
                if left[0] == -1:
                    os.kill(os.getpid(), 9)

        sys.addaudithook(count)
        add_program(bundle, other, force=force)
        os._exit(0)

    while code:
        folder = place / str(events)
        shutil.copytree(place / "model", folder)
        bundle = read_bundle(folder)
        child = os.fork()
        if not child:
            run(bundle, events)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -9), code
        found = read_bundle(folder)  # whole, old or new
        seen.append(listed(found))
        if events % 10 == 0 and seen[-1] == seen[0]:  # and what was left is in nobody's way
            seen.append(listed(add_program(found, other, force=force)))
            assert not list(folder.rglob(".*")), list(folder.rglob(".*"))
        shutil.rmtree(folder)
        events += 3
    print(events, *dict.fromkeys(seen), sep="\\n")
"""


@posix
@pytest.mark.parametrize("how", ["add", "force"])
def test_a_process_killed_while_it_adds_leaves_the_bundle_as_it_was_or_whole(how: str, tmp_path: Path) -> None:
    """SIGKILL before each third event that Python audits: opening, renaming, making, locking, removing."""
    bundle = vs.save(labelled(), tmp_path / "model")
    assert bundle is not None
    program = bundle.as_program("onnx", ProgramSpec(), by="a test")
    other = write_bundle(program, tmp_path / "other", write_program=write_nothing)
    if how == "force":
        add_program(bundle, other)
    arguments = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), how]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    events, *seen = done.stdout.splitlines()
    assert int(events) > 30
    new = "onnx, fp32 in programs/onnx-fp32"
    assert seen == ([f"torch in ;{new}", f"torch in ;{new}-2"] if how == "force" else ["torch in ", f"torch in ;{new}"])


# --- vitsmith export --add -------------------------------------------------------------------------------------------


def test_export_adds_a_program_to_the_bundle(here: Path, capsys: Any) -> None:
    code, out, _ = call(capsys, "export", "model", "--to", "openvino", "--precision", "bf16", "--add", "--json")
    told = json.loads(out)
    assert code == 0 and (told["written"], told["bundle"]) == ("model/programs/openvino-bf16", "model")
    assert told["gate"]["agreement"] == 1 and not Path("runs").exists()
    assert titles("model") == ["torch", "onnx, fp32", "onnx, fp16", "openvino, bf16"]
    for photo, picture in enumerate(pictures(2)):
        Image.fromarray(picture).save(f"{photo}.png")
    for engine in ("onnx", "openvino"):
        code, out, _ = call(capsys, "predict", "model", "0.png", "1.png", "--engine", engine, "--json")
        assert code == 0 and len(out.splitlines()) == 2


def test_export_from_python_gives_the_bundle_with_the_added_program(here: Path, monkeypatch: Any) -> None:
    added = vs.export(vs.load("plain"), "onnx", fixed_batch=2, add=True)
    assert (added.folder, added.place) == (Path("plain"), Path("plain/programs/onnx-fp32"))
    assert added.program_spec.batch == 2 and added.verdict is not None and added.verdict.agreement == 1
    assert Predictor(added).engine.name == "onnx"
    monkeypatch.setattr(run, "export", export_nothing)
    again = vs.export("plain", "onnx", fixed_batch=2, add=True, force=True)
    assert again.place == Path("plain/programs/onnx-fp32-2") and not added.place.exists() and len(again.programs) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model", "--to", "onnx"], "model already holds this program (onnx, fp32): replace it with --force"),
        (
            ["model", "--to", "openvino", "--out", "new"],
            "--add keeps the program in the bundle's own folder: leave --out",
        ),
        (
            ["model", "--to", "npz"],
            "--add keeps programs for onnx, openvino and executorch in a bundle; what is made for",
        ),
        (["model", "--to", "web"], "is made for web is written elsewhere: leave --add out"),
        (["model", "--to", "triton", "--force"], "is made for triton is written elsewhere: leave --add out"),
        (
            ["model", "--to", "openvino", "--labels-file", "names"],
            "the programs of the bundle: leave --labels-file out",
        ),
        (["model", "--to", "openvino", "--without-split"], "the programs of the bundle: leave --without-split out"),
        (["onnx", "--to", "openvino"], "onnx is already exported (model.onnx); export the torch one to openvino"),
        (["model/programs/onnx-fp16/model.onnx", "--to", "openvino"], "model is already exported (model.onnx); export"),
        (["B_16.npz", "--to", "onnx"], "and 'B_16.npz' is not a bundle on disk: save it as one first, or leave --add"),
        (["ViT-B_16.augreg-i21k", "--to", "onnx"], "and 'ViT-B_16.augreg-i21k' is not a bundle on disk: save it"),
        (["rounds", "--to", "onnx", "--pixels"], "which is another preprocessing: leave --pixels or --add out"),
    ],
)
def test_what_cannot_be_added_is_told_before_work(
    arguments: list[str], words: str, here: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "export", None)
    if "rounds" in arguments:
        spec = vs.load("plain").preprocessing.model_copy(update={"quantize": "none"})
        vs.save(labelled(preprocessing=spec), "rounds")
    shutil.copy("plain/model.safetensors", "B_16.npz")
    before = sorted(here.rglob("*"))
    code, _, err = call(capsys, "export", *arguments, "--add")
    assert code == 2 and words in err and err.count("\n") == 1
    assert sorted(here.rglob("*")) == before


def test_a_bundle_that_was_changed_in_memory_gets_no_program(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "export", None)
    bundle = vs.load("plain")
    turned = dataclasses.replace(bundle, labels=Labels(names=NAMES[::-1]))
    mean = bundle.preprocessing.model_copy(update={"mean": (0.1, 0.5, 0.5)})
    for changed, what in ((turned, "labels"), (dataclasses.replace(bundle, preprocessing=mean), "preprocessing")):
        with pytest.raises(
            InputError, match=f"plain has other {what} than this bundle in memory: save the bundle first"
        ):
            vs.export(changed, "openvino", add=True)
    with pytest.raises(InputError, match="is not a bundle on disk, so no program can be added to it"):
        vs.export(labelled(), "openvino", add=True)
    with torch.no_grad():
        next(bundle.model.parameters()).mul_(1.5)
    with pytest.raises(InputError, match="plain has other weights than this bundle in memory"):
        vs.export(bundle, "openvino", add=True)


def test_a_program_that_the_gate_refuses_is_not_added(here: Path, capsys: Any, monkeypatch: Any) -> None:
    def refuse(*arguments: Any, **options: Any) -> Any:
        export_nothing(*arguments, **options)
        raise GateError("other answers")

    monkeypatch.setattr(run, "export", refuse)
    before = {path: path.read_bytes() for path in Path("plain").rglob("*")}
    code, _, err = call(capsys, "export", "plain", "--to", "onnx", "--add")
    assert code == 3 and "other answers" in err
    assert {path: path.read_bytes() for path in Path("plain").rglob("*")} == before


def test_export_says_that_a_bundle_of_format_1_is_in_format_2(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(run, "export", export_nothing)
    shutil.copytree(FORMAT1 / "24f72d5" / "trained", tmp_path / "old")
    code, _, err = call(capsys, "export", tmp_path / "old", "--to", "onnx", "--add")
    assert code == 0 and "old is in format 2 now: version 0.1 cannot read it any more" in " ".join(err.split())
    assert titles(tmp_path / "old") == ["torch", "onnx, fp32"]


def test_inspect_lists_each_program_with_its_size_its_golden_answers_and_what_was_measured(
    here: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = vs.load("model").using(vs.load("model").programs[2])
    record_measurements(half, [measurements.latency("onnx", 1, 2.5, "a laptop")])
    code, out, _ = call(capsys, "inspect", "model")
    assert code == 0
    for line in (r"torch +0\.\d+ +held", r"onnx, fp32 +0\.\d+ +held", r"onnx, fp16 +0\.\d+ +held"):
        assert re.search(line, out), out
    assert re.search(r"latency_p50 +2\.5 ms +onnx, fp16 +onnx fp16", out)
    assert "latency_p50 (onnx fp16, one image): 2.5 ms (of onnx, fp16, a laptop" in Path("model/README.md").read_text()
    real = registry.find_spec
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name in ("onnxruntime", "openvino") else real(name))
    programs = json.loads(call(capsys, "inspect", "model", "--json")[1])["programs"]
    assert [(one["program"], one["golden_answers"]) for one in programs] == [
        ("torch", "held"),
        ("onnx, fp32", "not compared"),
        ("onnx, fp16", "not compared"),
    ]
    size = Path("model/programs/onnx-fp16/model.onnx").stat().st_size
    assert programs[2]["size_mib"] == size / 2**20 and programs[2]["folder"] == "programs/onnx-fp16"


@pytest.mark.parametrize(
    "path", ["model/programs/onnx-fp16/model.onnx", "model/programs/onnx-fp16", "model/programs/onnx-fp16/"]
)
def test_inspect_shows_only_the_program_that_is_named(
    path: str, here: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stored in vs.load("model").programs[1:]:
        record_measurements(vs.load("model").using(stored), [measurements.latency("onnx", 1, 2.5, "a laptop")])
    without(monkeypatch, "torch")
    code, out, err = call(capsys, "inspect", path)
    assert code == 0 and "onnx, fp32" not in out and "held" not in out and "torch" not in err
    assert re.search(r"program +onnx, fp16", out) and re.search(r"latency_p50 +2\.5 ms +onnx fp16", out)
    told = json.loads(call(capsys, "inspect", path, "--json")[1])
    assert told["programs"] is None and len(told["measurements"]) == 1
    assert vs.load("model/programs/onnx-fp16").measurements == vs.load("model").measurements  # only shown fewer


# --- a program's folder in the place of its file ---------------------------------------------------------------------


def test_a_programs_folder_means_that_program(here: Path, tasks: list[Task], capsys: Any) -> None:
    for path in ("model/programs/onnx-fp16", here / "model/programs/onnx-fp16/"):
        bundle = vs.load(path)
        assert bundle.stored.title == "onnx, fp16" and bundle.place == Path(path)
        assert model_name(str(path)) == "here"
    code, out, _ = call(capsys, "benchmark", "model/programs/onnx-fp16", "--engine", "onnx", *QUICK, "--json")
    assert code == 0 and [(row["model"], row["arithmetic"]) for row in json.loads(out)["rows"]] == [("here", "fp16")]


def test_a_folder_that_is_no_program_of_the_bundle_is_refused(here: Path) -> None:
    shutil.copytree("model/programs/onnx-fp16", "model/programs/mine")
    with pytest.raises(BundleError, match=r"programs/mine is not a program of the bundle in model: give that folder"):
        vs.load("model/programs/mine")
    Path("model/bundle.json").unlink()
    with pytest.raises(WeightsError, match=r"give one of its files: model\.onnx$"):
        vs.load("model/programs/onnx-fp16")


# --- which one runs --------------------------------------------------------------------------------------------------


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As if the tiny model were worth measuring, and nothing had been measured."""
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "is_small", lambda bundle: False)


def test_auto_takes_the_fastest_program_of_the_folder(here: Path, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    add_program(vs.load("model"), vs.load("openvino"))
    race_with(monkeypatch, choice, 10.0, 50.0, 20.0)
    predictor = Predictor("model", num_images=MANY)
    assert predictor.engine.name == "onnx" and predictor.bundle.place == Path("model/programs/onnx-fp32")
    assert predictor.engine.why.startswith(
        "onnx 50.0 images/s, openvino 20.0 images/s, torch 10.0 images/s (batches of"
    )
    monkeypatch.setattr(choice, "race", None)  # remembered
    assert Predictor("model").bundle.program == "onnx"
    np.testing.assert_allclose(
        predictor.logits(pictures(3)), Predictor("plain", "torch").logits(pictures(3)), atol=1e-4
    )


def test_auto_takes_the_usual_program_for_few_images(here: Path, large: None) -> None:
    opened = open_engine("model", num_images=3)
    assert opened.why == "torch: onnx, openvino not tried for fewer than 100 images"


def test_auto_never_takes_another_precision_because_it_is_faster(
    here: Path, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    race_with(monkeypatch, choice, 1.0, 2.0, 3.0)  # torch, onnx, openvino, all of float32
    assert Predictor("model", num_images=MANY).bundle.program_spec.precision == "fp32"
    assert Predictor("model", precision="fp16", num_images=3).bundle.program_spec.precision == "fp16"


def test_an_engine_with_two_programs_is_told_with_each(here: Path, large: None, monkeypatch: Any) -> None:
    fixed, _ = export_onnx(vs.load("plain"), here / "fixed", spec=ProgramSpec(batch=2))
    add_program(vs.load("model"), fixed)
    add_program(vs.load("model"), vs.load("openvino"))
    race_with(monkeypatch, choice, 1.0, 2.0, 4.0, 3.0)
    predictor = Predictor("model", num_images=MANY)
    assert predictor.bundle.program_spec.batch == 2
    assert predictor.engine.why.startswith(
        "onnx (onnx, fp32, batches of 2) 4.0 images/s, openvino 3.0 images/s, onnx (onnx, fp32) 2.0 images/s, torch 1.0"
    )


def test_auto_passes_over_programs_whose_engine_is_not_installed(
    here: Path, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = registry.find_spec
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name in ("onnxruntime", "openvino") else real(name))
    opened = open_engine("model", num_images=MANY)
    assert opened.why == "torch: the only engine installed here that runs this"
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "torch" else real(name))
    assert Predictor("model").bundle.program == "onnx"


def test_auto_goes_on_without_a_damaged_program(here: Path, large: None, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Path("model/programs/onnx-fp32/model.onnx")
    program.write_bytes(program.read_bytes()[:1000])
    with pytest.raises(BundleError, match=r"programs/onnx-fp32/model\.onnx is not the file"):
        vs.load("model")
    predictor = Predictor(vs.load("model", verify=False), num_images=MANY)
    assert predictor.engine.name == "torch" and "onnx was refused" in predictor.engine.why


def test_programs_are_not_of_weights_that_were_changed_in_memory(here: Path, large: None, monkeypatch: Any) -> None:
    bundle = vs.load("model")
    with torch.no_grad():
        next(bundle.model.parameters()).mul_(1.5)
    bundle = bundle.with_golden(pictures(2))
    race_with(monkeypatch, choice, 1.0, 2.0, 3.0)
    assert Predictor(bundle, num_images=MANY).engine.name == "torch"
    with pytest.raises(InputError, match="is a bundle for the 'torch' engine, not 'onnx'"):
        Predictor(bundle, "onnx")
    with pytest.raises(BundleError, match="were changed in memory, and its program onnx, fp32 has the old ones"):
        bundle.using(bundle.programs[1])


def without(monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """As if these packages were not installed."""
    for module in (registry, needs_torch):
        real = module.find_spec
        monkeypatch.setattr(module, "find_spec", lambda name, real=real: None if name in packages else real(name))


@pytest.fixture
def halved(here: Path) -> Path:
    """Torch weights with two ONNX programs: fp16, then fp32."""
    for name in ("half", "onnx"):
        add_program(vs.load("plain"), vs.load(name))
    return here / "plain"


def test_a_named_engine_takes_the_precision_of_the_usual_program_whatever_was_added_first(
    halved: Path, capsys: Any
) -> None:
    for engine in ("onnx", "openvino"):
        predictor = Predictor(halved, engine)
        assert (predictor.bundle.stored.title, predictor.engine.precision) == ("onnx, fp32", "float32")
        assert predictor.engine.why == (
            f"asked for by name; the program that runs is 'onnx, fp32'; its other programs for {engine}: 'onnx, fp16'"
        )
    assert Predictor(halved, "torch").engine.why == "asked for by name"
    chosen = Predictor(halved / "programs/onnx-fp16/model.onnx", "onnx").engine
    assert (chosen.precision, chosen.why) == ("float16", "asked for by name")
    Image.fromarray(pictures(1)[0]).save("0.png")
    code, _, err = call(capsys, "predict", halved, "0.png", "--engine", "onnx")
    assert code == 0 and "the program that runs is 'onnx, fp32'" in " ".join(err.split())


def test_auto_takes_the_precision_of_the_usual_program_where_that_cannot_run(halved: Path, monkeypatch: Any) -> None:
    without(monkeypatch, "torch")
    assert Predictor(halved).bundle.stored.title == "onnx, fp32" and "the program" not in Predictor(halved).engine.why


def test_another_precision_than_that_of_the_usual_program_is_told(here: Path, monkeypatch: Any) -> None:
    add_program(vs.load("plain"), vs.load("half"))
    without(monkeypatch, "torch")
    assert Predictor("plain").engine.why.endswith(
        "; the program that runs is 'onnx, fp16': nothing installed here runs 'torch'"
    )
    without(monkeypatch, "onnxruntime")
    given = Predictor("model/programs/onnx-fp16/model.onnx", precision="bf16").engine
    assert (given.name, given.why) == ("openvino", "openvino: the only engine installed here that runs this in bf16")


@pytest.mark.parametrize(
    ("gone", "engine", "precision", "extra"),
    [
        ("openvino", "openvino", "auto", "openvino"),
        ("onnxruntime", "onnx", "fp16", "onnx"),
        ("openvino", "openvino", "bf16", "openvino"),
    ],
)
def test_a_missing_package_of_one_of_several_programs_is_named(
    gone: str, engine: str, precision: str, extra: str, here: Path, monkeypatch: Any
) -> None:
    add_program(vs.load("model"), vs.load("openvino"))
    without(monkeypatch, gone)
    with pytest.raises(MissingPackageError, match=f"pip install 'vitsmith.{extra}.'"):
        open_engine("model", engine, precision=precision)


def test_a_missing_package_is_named_where_auto_needs_it_for_a_precision(here: Path, monkeypatch: Any) -> None:
    without(monkeypatch, "onnxruntime", "openvino")
    with pytest.raises(MissingPackageError, match=r"pip install 'vitsmith\[onnx\]'"):
        open_engine("model", precision="fp16")


@pytest.mark.parametrize(
    ("engine", "precision", "asked", "way"),
    [
        ("onnx", "bf16", "onnx in bf16", ""),
        ("openvino", "int8", "openvino in int8", ""),
        ("auto", "int8", "int8", ""),
        ("executorch", "auto", "executorch", "; make one with  vitsmith export --to executorch --add"),
        ("torch", "fp8", "torch in fp8", "; fp8 needs an NVIDIA GPU"),
    ],
)
def test_what_none_of_several_programs_runs_in_lists_them_all(
    engine: str, precision: str, asked: str, way: str, here: Path
) -> None:
    with pytest.raises(InputError) as refused:
        open_engine("model", engine, precision=precision)
    assert str(refused.value) == (
        f"none of the programs of model runs in {asked}: it has torch (torch runs it in fp32 or bf16; torch-compiled "
        "runs it in fp32 or bf16); onnx, fp32 (onnx runs it in fp32; openvino runs it in fp32 or bf16); onnx, fp16 "
        f"(onnx runs it in fp16; openvino runs it in fp16 or fp32 or bf16){way}"
    )


# --- vitsmith benchmark ----------------------------------------------------------------------------------------------


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Task]:
    """What child processes would have measured the memory of; the peak of the machine is made up."""
    found: list[Task] = []

    def measured(task: Task) -> dict[int, Memory]:
        found.append(task)
        return {batch: Memory(len(found) * 2**20) for batch in task.batches}

    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(session, "measure_memory", measured)
    monkeypatch.setattr(session, "_peaks", lambda threads: {"fp32": Peak(10.0, "pretended")})
    return found


QUICK = ("--batch-size", 2, "--threads", 1, "--seconds", 0.05)
EXPECTED = [("torch", "fp32", "torch"), ("onnx", "fp32", "onnx"), ("onnx", "fp16", "onnx")]


def test_benchmark_measures_each_program_and_records_of_which(here: Path, tasks: list[Task], capsys: Any) -> None:
    engines = ("--engine", "torch", "--engine", "onnx")
    how = (*engines, "--precision", "fp32", "--precision", "fp16", *QUICK)
    code, out, _ = call(capsys, "benchmark", "model", *how, "--record", "--json")
    told = json.loads(out)
    rows = told["rows"]
    assert code == 0 and [(row["program"], row["arithmetic"], row["engine"]) for row in rows] == EXPECTED
    assert {row["model"] for row in rows} == {"here"} and not any(row["reason"] for row in rows)
    files = ("model.safetensors", "programs/onnx-fp32/model.onnx", "programs/onnx-fp16/model.onnx")
    sizes = [(here / "model" / file).stat().st_size / 2**20 for file in files]
    assert [row["size_mib"] for row in rows] == sizes and len(set(sizes)) == 3
    assert rows[1]["difference"] < 1e-4 < rows[2]["difference"] and told["reference"] == "here (torch), torch, fp32"
    assert [(one["program"], one["arithmetic"]) for one in told["engines"]] == [one[:2] for one in EXPECTED]
    loaded = [vs.load(task.model).stored.title for task in tasks]
    assert loaded == ["torch", "onnx, fp32", "onnx, fp16"]
    kept = vs.load("model").measurements
    assert {one.program: one.value for one in kept if one.metric == "size"} == dict(zip(loaded, sizes, strict=True))
    assert {one.program: (one.engine, one.precision) for one in kept if one.metric == "latency_p50"} == {
        "torch": ("torch", "fp32"),
        "onnx, fp32": ("onnx", "fp32"),
        "onnx, fp16": ("onnx", "fp16"),
    }


def test_the_table_and_the_plot_of_a_benchmark_name_the_program(here: Path, tasks: list[Task], capsys: Any) -> None:
    code, out, err = call(capsys, "benchmark", "model", "--engine", "onnx", *QUICK)
    header, _, *lines = (line for line in out.splitlines() if line.strip())
    assert code == 0 and header.split()[:2] == ["program", "engine"] and "no row" not in err
    assert sorted(line.split("  ")[0].strip() for line in lines[:2]) == ["onnx, fp16", "onnx, fp32"]
    found = contenders_of(subjects_of("pets", "model", vs.load("model"))[2], ["onnx"])
    row = BenchmarkRow(found[0], 1, reason="x")
    labels = draw_benchmark(Benchmark((row,), (), {}, "", 0, 1)).axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["onnx, fp16 · onnx · fp16"]


def test_benchmark_measures_the_program_whose_file_was_given(here: Path, tasks: list[Task], capsys: Any) -> None:
    code, out, _ = call(
        capsys, "benchmark", "model/programs/onnx-fp16/model.onnx", "--engine", "onnx", *QUICK, "--json"
    )
    assert code == 0
    assert [(row["model"], row["arithmetic"]) for row in json.loads(out)["rows"]] == [("here", "fp16")]


def test_a_program_whose_engine_is_not_installed_has_a_row_with_its_reason(
    here: Path, tasks: list[Task], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_program(vs.load("plain"), vs.load("openvino"))
    real = registry.find_spec
    monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "openvino" else real(name))
    code, out, _ = call(
        capsys,
        "benchmark",
        "plain",
        "--precision",
        "fp32",
        "--engine",
        "torch",
        "--engine",
        "openvino",
        *QUICK,
        "--json",
    )
    rows = json.loads(out)["rows"]
    assert code == 0 and [(row["program"], bool(row["reason"])) for row in rows] == [
        ("torch", False),
        ("openvino", True),
    ]
    assert "pip install 'vitsmith[openvino]'" in rows[1]["reason"]


def test_programs_that_do_not_run_in_a_precision_have_no_row(here: Path) -> None:
    subjects = subjects_of("pets", "model", vs.load("model"))
    found = [one for subject in subjects for one in contenders_of(subject, [], ["fp16"])]
    assert [(one.title, one.refused) for one in found] == [
        ("pets (onnx, fp16), onnx, fp16", ""),
        ("pets (onnx, fp16), openvino, fp16", ""),
    ]
    assert not [one for subject in subjects for one in contenders_of(subject, ["onnx"], ["bf16"])]
    with pytest.raises(InputError) as refused:
        require_some([], subjects, ["onnx"], ["bf16"])
    assert str(refused.value) == (
        "none of the models runs in onnx in bf16: pets (torch): torch runs it in fp32 or bf16; torch-compiled runs it "
        "in fp32 or bf16; pets (onnx, fp32): onnx runs it in fp32; openvino runs it in fp32 or bf16; "
        "pets (onnx, fp16): onnx runs it in fp16; openvino runs it in fp16 or fp32 or bf16"
    )


def test_benchmark_tells_which_engine_or_model_has_no_row_in_the_precision(
    here: Path, tasks: list[Task], capsys: Any
) -> None:
    how = ("--engine", "onnx", "--engine", "torch", "--precision", "fp16", *QUICK)
    code, _, err = call(capsys, "benchmark", "model", "openvino", *how)
    told = " ".join(err.split())
    assert code == 0 and "no model here runs in torch in fp16, so it has no row" in told
    assert "openvino does not run in onnx or torch in fp16, so it has no row" in told


def test_benchmark_without_torch_goes_on_with_the_other_programs(
    here: Path, tasks: list[Task], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "torch", "openvino")
    Image.fromarray(pictures(1)[0]).save("0.png")
    code, out, err = call(capsys, "benchmark", "model", "--images", "0.png", *QUICK, "--json")
    told = json.loads(out)
    rows = {(row["program"], row["arithmetic"]): row for row in told["rows"]}
    assert code == 0 and told["reference"] == "the golden answers of here (torch)"
    assert "pip install 'vitsmith[torch]'" in rows["torch", "fp32"]["reason"]
    assert [rows["onnx", one]["reason"] for one in ("fp32", "fp16")] == ["", ""]
    assert rows["onnx", "fp32"]["difference"] < 1e-4
    assert "no model with torch weights runs here" in " ".join(err.split())


def test_fixed_batches_tell_programs_apart(here: Path) -> None:
    spec = ProgramSpec(batch=2)
    bundle = vs.load("plain").as_program("onnx", spec, by="a test")
    add_program(vs.load("model"), write_bundle(bundle, here / "fixed", write_program=write_nothing))
    last = subjects_of("pets", "model", vs.load("model"))[-1]
    (contender,) = contenders_of(last, ["onnx"])
    assert contender.title == "pets (onnx, fp32, batches of 2), onnx, fp32"
    assert (contender.to_dict()["fixed_batch"], contender.to_dict()["pixels"]) == (2, False)


@pytest.mark.parametrize("verb", ["predict", "evaluate", "embed", "zeroshot"])
def test_help_and_page_name_every_precision(verb: str, capsys: Any) -> None:
    told = call(capsys, verb, "--help")[1]
    page = (ROOT / "docs" / f"{verb}.md").read_text()
    (row,) = (line for line in page.splitlines() if line.startswith("| `--precision`"))
    for name in PRECISIONS:
        word = rf"(?<![\w-]){name}(?![\w-])"
        assert re.search(word, told) and re.search(word, row), name

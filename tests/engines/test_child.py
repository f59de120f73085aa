"""A program is first tried in a child process: what ends there is told, remembered or not."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engines.pretended import MANY, die_with
from tests.engines.programs import (
    assert_close,
)
from tests.tiny import tiny_inputs
from vitsmith.engines import choice
from vitsmith.engines.open import open_engine
from vitsmith.engines.openvino import engine as openvino
from vitsmith.engines.openvino import probe as openvino_probe
from vitsmith.engines.plan import Plan, plans
from vitsmith.errors import BundleError, InputError
from vitsmith.machine import bf16_dot_products


def test_a_program_that_kills_its_process_is_refused_and_that_is_remembered(
    programs: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = programs("vit-token")["onnx"]
    problem = r"model\.onnx: openvino, tried in a child process, died with SIGFPE"
    with monkeypatch.context() as patch:
        die_with(patch, "os.kill(os.getpid(), signal.SIGFPE)")
        with pytest.raises(InputError, match=problem + r": use engine 'onnx'$"):
            open_engine(onnx, "openvino")
        with pytest.raises(InputError, match=r"SIGFPE: export the model to onnx and use that"):
            open_engine(programs("vit-token")["openvino"])
    monkeypatch.setattr(openvino_probe, "try_in_child", None)  # nothing is tried again
    with pytest.raises(InputError, match=problem + r" \(remembered in .*cache/engines/.*\.json\)"):
        open_engine(onnx, "openvino")


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "died with SIGKILL"),
        ("sys.exit(3)", r"ended with exit code 3 \(no output\)"),
        ("print('no JSON'); print('first', file=sys.stderr); print('out of memory', file=sys.stderr)",
         r"ended with exit code 0 \(out of memory\)"),
    ],
)  # fmt: skip
def test_an_end_from_outside_is_told_and_not_remembered(
    code: str, how: str, programs: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = programs("vit-token")["onnx"]
    with monkeypatch.context() as patch:
        die_with(patch, code)
        with pytest.raises(InputError, match=how):
            open_engine(onnx, "openvino")
        patch.setattr(openvino_probe, "LONGEST", 0.0001)
        with pytest.raises(InputError, match="did not finish within"):
            open_engine(onnx, "openvino")
    assert not own_cache.exists()


def test_what_the_child_finds_wrong_is_told_in_one_line(programs: Any, tmp_path: Path, own_cache: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"model\.onnx cannot be opened by openvino") as refused:
        open_engine(dataclasses.replace(programs("vit-token")["onnx"], folder=tmp_path), "openvino")
    assert "\n" not in str(refused.value)


def test_a_program_is_probed_once(programs: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, tried = programs("vit-token"), []
    probe = openvino_probe.probe

    def counted(*arguments: Any) -> openvino_probe.Probe:
        tried.append(arguments)
        return probe(*arguments)

    monkeypatch.setattr(openvino, "probe", counted)
    for _ in range(2):
        open_engine(made["onnx"], "openvino")
    moved = shutil.copytree(made["onnx"].folder, own_cache.parent / "moved")
    open_engine(dataclasses.replace(made["onnx"], folder=moved), "openvino")  # the same program
    assert len(tried) == 1
    open_engine(made["onnx"], "openvino", precision="bf16")
    open_engine(made["openvino"])
    assert len(tried) == (3 if bf16_dot_products() else 2)  # other processors compute it in float32, which is known


def test_plans_are_measured_in_the_child_for_auto(
    programs: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = programs("vit-token")
    named: Any = open_engine(made["openvino"], "openvino", threads=2)
    assert named.plan == Plan(4, 2, 2)
    for module in (openvino, choice):
        monkeypatch.setattr(module, "is_small", lambda bundle: False)
    rates = openvino_probe.probe(made["openvino"].folder / "model.xml", "f32", None, plans("throughput", 2)).rates
    assert len(rates) == 3 and min(rates) > 0
    monkeypatch.setattr(openvino, "probe", lambda *_: openvino_probe.Probe(rates=(1.0, 3.0, 2.0)))
    measured: Any = open_engine(made["openvino"], threads=2, num_images=MANY)
    again: Any = open_engine(made["openvino"], "openvino", threads=2)
    assert measured.plan == again.plan == Plan(8, 1, 2)
    images = tiny_inputs(made["torch"].config, 7)[0].numpy()
    assert_close(again.run(images), made["torch"].run_torch(images))


def test_the_child_is_light() -> None:
    """It starts before the first use of every program: torch alone would take longer than all the rest."""
    code = "import sys, vitsmith.engines.openvino.probe; print({'torch', 'pydantic', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stdout + done.stderr

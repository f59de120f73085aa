"""No library that vitsmith uses tells anybody that it is used: no socket to a network, no device id on the disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import vitsmith as vs
from tests import ROOT
from tests.exporting import export_onnx
from tests.house import offline
from tests.tiny import VIT, tiny_model
from vitsmith.models.configure import change
from vitsmith.process.telemetry import SWITCHES

_EVERYTHING = """
import os, sys, time
import vitsmith
from tests.house.offline import SUPPORTED, forbid_sockets

if SUPPORTED:
    forbid_sockets()
import numpy as np

began = time.monotonic()
for place, engine in zip(sys.argv[1:], ["torch", "onnx", "openvino"]):
    vitsmith.Predictor(place, engine)(np.zeros((20, 20, 3), np.uint8))

from vitsmith.compress.quantize.nncf import import_nncf
import_nncf()
import datasets, faiss, huggingface_hub, torch.utils.tensorboard
from executorch.runtime import Runtime
Runtime.get()

time.sleep(max(0, 14 - (time.monotonic() - began)))  # onnxruntime's first look-up came after 9 seconds
print('all ran')
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> list[str]:
    """Bundles for torch, onnxruntime and OpenVINO, which reads ONNX too."""
    place = tmp_path_factory.mktemp("programs")
    bundle = vs.save(vs.Bundle.of(tiny_model(change(VIT, depth=1))), place / "torch")
    assert bundle is not None
    export_onnx(bundle, place / "onnx")
    return [str(place / name) for name in ("torch", "onnx", "onnx")]


def alone(home: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter in an empty home, with none of the switches set."""
    places = {"HOME": str(home), "TMPDIR": str(home), "VITSMITH_CACHE": str(home / "vitsmith")}
    clean = {name: value for name, value in os.environ.items() if name not in SWITCHES and not name.startswith("XDG_")}
    return subprocess.run(
        [sys.executable, *arguments],
        env=clean | places | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | changes,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def files(home: Path) -> set[str]:
    """What lies in a home, but for our own cache and that of fonts."""
    found = (path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file())
    return {name for name in found if not name.startswith(("vitsmith/", ".cache/matplotlib/"))}


def test_nothing_is_reported_whatever_runs(programs, tmp_path) -> None:
    done = alone(tmp_path, "-c", _EVERYTHING, *programs)
    assert done.returncode != -signal.SIGSYS, "a socket was opened"
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["all", "ran"]
    assert files(tmp_path) == set()


@pytest.mark.skipif(not offline.SUPPORTED, reason="needs Linux")
@pytest.mark.parametrize(
    "code", ["socket.socket()", "subprocess.run([sys.executable, '-c', 'import socket; socket.socket()'], check=True)"]
)
def test_the_test_would_notice_a_socket(code, tmp_path) -> None:
    prelude = "import socket, subprocess, sys\nfrom tests.house.offline import forbid_sockets\nforbid_sockets()\n"
    assert alone(tmp_path, "-c", prelude + "socket.socketpair()").returncode == 0
    assert alone(tmp_path, "-c", prelude + code).returncode != 0


def test_the_command_line_leaves_no_device_id(programs, tmp_path) -> None:
    (tmp_path / "x.ppm").write_bytes(b"P6 1 1 255\n\0\0\0")
    done = alone(tmp_path, "-m", "vitsmith", "predict", programs[1], str(tmp_path / "x.ppm"), "--engine", "onnx")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == {"x.ppm"}


def test_who_wants_to_report_does(tmp_path) -> None:
    code = "import os, vitsmith\nprint(os.environ['ORT_DISABLE_TELEMETRY'], os.environ['NNCF_CI'])"
    assert alone(tmp_path, "-c", code, ORT_DISABLE_TELEMETRY="0").stdout.split() == ["0", "1"]


def test_onnxruntime_that_was_there_first_is_told_of(tmp_path) -> None:
    code = "import onnxruntime\nimport vitsmith\n"
    done = alone(tmp_path, "-c", code)
    assert done.returncode == 0
    assert "UserWarning: onnxruntime was imported before vitsmith" in done.stderr
    assert "ORT_DISABLE_TELEMETRY=1" in done.stderr
    assert "warn" not in alone(tmp_path, "-c", code, ORT_DISABLE_TELEMETRY="1").stderr
    assert "warn" not in alone(tmp_path, "-c", code, ORT_DISABLE_TELEMETRY="0").stderr


def test_openvino_that_was_there_first_reports_no_more(tmp_path) -> None:
    code = (
        "import sys, types\n"
        "there = types.SimpleNamespace(consent=True)\n"
        "sys.modules['openvino_telemetry'] = types.SimpleNamespace(Telemetry=lambda: there)\n"
        "sys.modules['openvino'] = types.ModuleType('openvino')\n"
        "from vitsmith.engines.openvino.core import import_openvino\n"
        "import_openvino()\n"
        "print(there.consent)\n"
    )
    assert alone(tmp_path, "-c", code).stdout.strip() == "False"

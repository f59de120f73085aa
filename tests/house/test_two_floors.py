"""What runs a bundle needs no torch: the project is installed with `.[onnx]` alone, and everything that runs is run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import vitsmith as vs
from tests import ROOT
from tests.exporting import export_onnx
from tests.tiny import CONFIGS, pictures, tiny_lit, tiny_model
from vitsmith.weights.bundle.programs import add_program

ABSENT = ("torch", "sklearn", "scipy", "accelerate", "onnx", "openvino")
UNREACHABLE = ("Connection", "name resolution", "timed out", "Network is unreachable", "(from versions: none)")

DRIVER = """
import contextlib, importlib.util, io, json, sys
from vitsmith.cli.main import main
told = []
for arguments in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as ended:
            code = ended.code
        except BaseException as error:
            code = repr(error)
    told.append([code, out.getvalue(), err.getvalue()])
import vitsmith
try:
    made = vitsmith.create_model.__name__
except vitsmith.InputError as error:
    made = str(error)
saved = vitsmith.save(vitsmith.load("vit").with_calibration(2.0), "calibrated").calibration.temperature
there = [name for name in json.loads(sys.argv[2]) if importlib.util.find_spec(name)]
print(json.dumps({"told": told, "there": there, "made": made, "saved": saved}))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles that the main environment made, photos of two classes, and a fresh environment with `.[onnx]`."""
    place = tmp_path_factory.mktemp("floors")
    vit = vs.Bundle.of(tiny_model(CONFIGS["vit-token"]))
    names = ("cat", "dog", *(f"kind {index}" for index in range(2, vit.classes)))
    vs.save(vs.Bundle.of(tiny_model(CONFIGS["vit-token"]), labels=vs.Labels(names=names)), place / "vit-torch")
    export_onnx(vs.load(place / "vit-torch"), place / "vit")
    shutil.copytree(place / "vit-torch", place / "several")
    add_program(vs.load(place / "several"), vs.load(place / "vit"))
    vs.save(tiny_lit(), place / "lit-torch")
    export_onnx(vs.load(place / "lit-torch"), place / "lit")
    for index, picture in enumerate(pictures(6)):
        folder = place / "pets" / names[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{index}.png")
    _install(place)
    return place


def _install(place: Path) -> None:
    """A copy of the project with the extra `onnx`; skips where pip can reach no index, except in CI."""
    copy = place / "project"
    shutil.copytree(ROOT / "vitsmith", copy / "vitsmith", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    venv.create(place / "venv", with_pip=True)
    _pip(place, f"{copy}[onnx]")


def _pip(place: Path, wanted: str) -> None:
    done = _python(place, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wanted)
    if done.returncode and any(sign in done.stderr for sign in UNREACHABLE) and not os.environ.get("CI"):
        pytest.skip(f"pip reaches no index: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr


def _python(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder = "Scripts" if sys.platform == "win32" else "bin"
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    return subprocess.run(
        [str(place / "venv" / folder / "python"), *arguments],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def _run(place: Path, lines: list[list[str]]) -> dict[str, Any]:
    done = _python(place, "-c", DRIVER, json.dumps(lines), json.dumps(ABSENT))
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _require_done(lines: list[list[str]], told: list[Any]) -> None:
    for arguments, (code, out, err) in zip(lines, told, strict=True):
        assert code == 0 and "Traceback" not in err, f"{arguments}: {code}\n{out[-500:]}\n{err[-3000:]}"


def test_exported_bundles_run_where_torch_is_not_installed(place: Path) -> None:
    """All verbs that run, and what those say that need more; then those of words, with a tokenizer."""
    images = [
        ["predict", "vit", "pets", "--json"],
        ["benchmark", "vit", "--batch-size", "1", "--seconds", "0.01", "--json"],
        ["benchmark", "several", "--batch-size", "1", "--seconds", "0.01", "--json"],
        ["inspect", "vit", "--json"],
        ["embed", "lit", "pets", "--out", "index"],
        ["retrieve", "--images", "pets", "--index", "index", "--json"],
        ["duplicates", "index", "pets", "--json"],
        ["evaluate", "vit", "--data", "pets", "--json"],
        ["models", "--json"],
    ]
    words = [
        ["retrieve", "a photo of a cat", "--index", "index", "--json"],
        ["zeroshot", "lit", "pets", "--labels", "cat, dog", "--json"],
        ["evaluate", "lit", "--data", "pets", "--zeroshot", "--labels", "cat, dog", "--json"],
    ]
    refused = {
        "torch": [
            ["predict", "vit-torch", "pets"],
            ["train", "pets", "--model", "vit-torch"],
            ["probe", "pets", "--model", "vit-torch"],
        ],
        "export": [
            ["export", "vit-torch", "--to", "onnx"],
            ["quantize", "vit-torch", "--data", "pets"],
        ],
        "all": [["quickstart"]],
        "openvino": [["predict", name, "pets", "--engine", "openvino"] for name in ("vit", "several")],
        "text": words[:2],
    }
    lines = [line for its in refused.values() for line in its]
    found = _run(place, images + lines)
    assert found["there"] == []
    assert found["saved"] == 2.0
    assert found["made"] == "this needs torch, which is not installed: run  pip install 'vitsmith[torch]'"
    told = found["told"]
    _require_done(images, told[: len(images)])
    extras = [extra for extra, its in refused.items() for _ in its]
    for arguments, extra, (code, out, err) in zip(lines, extras, told[len(images) :], strict=True):
        assert (code, out) == (2, ""), f"{arguments}: {code}\n{out[-500:]}\n{err[-3000:]}"
        assert err.splitlines()[-1].endswith(f"is not installed: run pip install 'vitsmith[{extra}]'"), err[-500:]
    _pip(place, "tokenizers")
    found = _run(place, words)
    assert found["there"] == []
    _require_done(words, found["told"])
    rows = json.loads(told[1][1])["rows"]
    assert [row["engine"] for row in rows] == ["onnx"] and rows[0]["p50_ms"] > 0
    predicted = [json.loads(line) for line in told[0][1].splitlines()]
    here = vs.Predictor(place / "vit")([str(place / one["image"]) for one in predicted])
    for one, expected in zip(predicted, here, strict=True):
        (best, *_) = one["predictions"]
        assert (best["label"], best["probability"]) == (expected.label, pytest.approx(expected.probability, abs=1e-4))

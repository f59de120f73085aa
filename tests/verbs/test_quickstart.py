from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import vitsmith
from tests.report.page_checks import Page
from vitsmith.cli.main import main
from vitsmith.data.images.read import read_image
from vitsmith.data.sets.digits import open_digits
from vitsmith.data.sets.samples import Samples
from vitsmith.errors import GateError, MissingPackageError
from vitsmith.evaluation.evaluation import Evaluation
from vitsmith.evaluation.scores import score_logits
from vitsmith.predict import Prediction
from vitsmith.specs import Labels
from vitsmith.training.monitor.events import StepDone
from vitsmith.verbs import quickstart as steps

RUN = Path("runs/quickstart")


class Done(NamedTuple):
    """One real run, from an empty folder, without a terminal."""

    place: Path
    results: dict
    told: str


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    place = tmp_path_factory.mktemp("quickstart")
    program = "import sys; from vitsmith.cli.main import main; sys.argv[0] = 'vitsmith'; main()"
    command = [sys.executable, "-c", program, "quickstart", "--json"]
    ended = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return Done(place, json.loads(ended.stdout), ended.stderr)


@pytest.fixture
def inside(done: Done, monkeypatch: pytest.MonkeyPatch) -> Done:
    """The run, with its folder as the current one: the paths it tells are relative."""
    monkeypatch.chdir(done.place)
    return done


def test_every_stage_is_one_plain_line(done: Done) -> None:
    lines = done.told.splitlines()
    assert [line[:5] for line in lines if line.startswith("[")] == [f"[{number}/7]" for number in range(1, 8)]
    assert "\x1b" not in done.told
    assert sum("held-out top-1" in line for line in lines if line.startswith("step ")) == 9


def test_most_held_out_digits_are_read_by_both_bundles(inside: Done) -> None:
    """Counted here once more, image by image, from what scikit-learn says they are."""
    truth = load_digits().target
    held_out = open_digits().val
    answers = [
        [answer.label for answer in vitsmith.Predictor(bundle)(held_out.sources)]
        for bundle in inside.results["bundles"]
    ]
    assert answers[0] == answers[1]
    right = sum(
        int(label) == truth[int(name.removeprefix("digits/"))]
        for label, name in zip(answers[1], held_out.names, strict=True)
    )
    assert right / len(held_out) == pytest.approx(inside.results["top1"])
    assert right / len(held_out) >= 0.96
    assert inside.results["num_images"] == len(held_out) == 359


def test_image_files_are_lossless_and_get_the_same_answers(inside: Done) -> None:
    files = inside.results["files"]
    assert sorted(files) == sorted(path.as_posix() for path in (RUN / "images").rglob("*.png"))
    pictures = dict(zip(open_digits().val.names, open_digits().val.sources, strict=True))
    for path in files:
        np.testing.assert_array_equal(read_image(path), pictures[f"digits/{Path(path).stem}"])
    predicted = vitsmith.Predictor(RUN / "model-onnx")(list(files))
    assert [one.label for one in predicted] == list(files.values())


def test_bundles_hold_what_was_measured(inside: Done) -> None:
    for bundle, cost in zip(inside.results["bundles"], inside.results["costs"], strict=True):
        loaded = vitsmith.load(bundle)
        assert (cost["name"], cost["engine"]) == (Path(bundle).name, loaded.program)
        found = {(one.metric, one.data): one.value for one in loaded.measurements}
        assert found["top1", "digits, 359 held-out images"] == pytest.approx(inside.results["top1"])
        latency = found["latency_p50", ""]
        assert latency == pytest.approx(cost["speed"]["latency_ms"])
        program = Path(bundle) / ("model.safetensors" if loaded.program == "torch" else "model.onnx")
        assert cost["mib"] == pytest.approx(program.stat().st_size / 2**20)


def test_the_report_is_whole_and_tells_the_results(inside: Done) -> None:
    results = inside.results
    assert results["report"] == str(RUN / "report.html")
    page = Page((RUN / "report.html").read_text(encoding="utf-8"))
    mistakes = 359 - round(359 * results["top1"])
    assert len(page.pictures()) == 4 * 2 + 20 + min(mistakes, 12)
    for text in (f"{results['top1']:.1%}", "vitsmith quickstart --json", str(RUN), torch.__version__):
        assert text in page.text
    for cost in results["costs"]:
        row = next(row for row in page.cells if row[0] == f"{cost['name']} ({cost['engine']})")
        assert row[1:4] == [f"{cost['mib']:.2f}", f"{results['top1']:.2%}", f"{cost['speed']['latency_ms']:.2f}"]
    assert json.loads((RUN / "results.json").read_text(encoding="utf-8")) == results


def test_the_commands_to_try_next_work(inside: Done, capsys: pytest.CaptureFixture[str]) -> None:
    page = Page((RUN / "report.html").read_text(encoding="utf-8"))
    *runnable, train = page.commands
    assert "FOLDER" in train
    printed = []
    for command in runnable:
        verb, *arguments = shlex.split(command)
        assert verb == "vitsmith"
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        printed.append(capsys.readouterr().out)
    assert [text in out for text, out in zip(("0010.png", "top-1", "before export"), printed, strict=True)] == [
        True
    ] * 3


def test_an_interruption_leaves_no_bundle(tmp_path: Path) -> None:
    def interrupt(event: object) -> None:
        if isinstance(event, StepDone):
            raise KeyboardInterrupt

    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        steps.quickstart(tmp_path, listener=interrupt)
    assert torch.get_num_threads() == threads
    assert {path.name for path in tmp_path.rglob("*")} == {
        "command.txt", "recipe.json", "metrics.jsonl", "split.safetensors",
    }  # fmt: skip


def test_a_model_that_learned_nothing_is_refused() -> None:
    held_out = open_digits().val.select(range(40))
    model = vitsmith.create_model("ViT-mu_16", classes=10, image_size=32)
    bundle = vitsmith.Bundle.of(model, labels=Labels(names=held_out.classes))
    with pytest.raises(GateError, match=r"reads the 40 held-out digits worse .* top-1 is \d+\.\d% \(required 96\.0%\)"):
        steps.evaluate_or_refuse(vitsmith.Predictor(bundle), held_out)


def test_an_exported_model_that_answers_otherwise_is_refused() -> None:
    labels = np.arange(10) % 4
    logits = np.eye(4, dtype=np.float32)[labels]
    other = logits.copy()
    other[3] = [9, 0, 0, 0]

    def scored(values: np.ndarray) -> Evaluation:
        return Evaluation(score_logits(values, labels), values, labels, tuple("abcd"), 1.0)

    steps.require_agreement(scored(logits), scored(logits + 1e-6))
    with pytest.raises(GateError, match=r"gives other answers .* top-1 agrees on 90\.0% of the images"):
        steps.require_agreement(scored(logits), scored(other))


def test_a_file_that_is_read_otherwise_than_its_pixels_is_refused(tmp_path: Path) -> None:
    def predict(images: list) -> list[Prediction]:
        answer = np.eye(2, dtype=np.float32)[int(isinstance(images[0], Path))]
        return [Prediction("", answer, Labels(names=("a", "b"))) for _ in images]

    pixels = [np.zeros((8, 8, 3), np.uint8)] * 2
    samples = Samples(("a", "b"), pixels, ["set/1", "set/2"], np.array([0, 1]))
    with pytest.raises(GateError, match=r"1\.png is predicted as 'b', but its pixels in memory as 'a'"):
        steps.predict_files(predict, samples, tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("absent", "told"),
    [
        (["onnxruntime"], r"needs onnxruntime, .*'vitsmith\[export\]'"),
        (["onnx", "onnxscript"], r"needs onnx, .*'vitsmith\[export\]'"),
        (["matplotlib"], r"needs matplotlib, .*'vitsmith\[plots\]'"),
        (["sklearn", "matplotlib"], r"needs scikit-learn, .*'vitsmith\[all\]'"),
    ],
)
def test_a_missing_package_is_told_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, absent: list[str], told: str
) -> None:
    for module in absent:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=told):
        steps.quickstart(tmp_path / "run")
    assert not (tmp_path / "run").exists()

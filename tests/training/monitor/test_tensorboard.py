from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from vitsmith.errors import MissingPackageError
from vitsmith.evaluation.scores import score_logits
from vitsmith.training.monitor.events import Evaluated, Saved, StepDone, Warned
from vitsmith.training.monitor.tensorboard import TensorBoard

SCORES = score_logits(np.array([[2, 0], [2, 0], [0, 1]], np.float32), np.array([0, 1, 1]))


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = loader.EventAccumulator(str(folder))
    events.Reload()
    return {name: [(each.step, each.value) for each in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_scalars_are_read_back_by_tensorboard(tmp_path: Path) -> None:
    with TensorBoard(tmp_path) as board:
        board(StepDone(1, 2.5, 0.25, 1.5, 100.0, waiting=0.125))
        board(StepDone(2, 1.5, 0.5, 3.0, 200.0, waiting=0.25, peak_share=0.5))
        board(Evaluated(2, SCORES, 1.0))
        board(Warned(2, "look"))
        board(Saved(2, tmp_path))
    found = read(tmp_path)
    assert found.pop("train/loss") == [(1, 2.5), (2, 1.5)]
    assert found.pop("train/learning_rate") == [(1, 0.25), (2, 0.5)]
    assert found.pop("train/gradient_norm") == [(1, 1.5), (2, 3.0)]
    assert found.pop("speed/images_per_second") == [(1, 100.0), (2, 200.0)]
    assert found.pop("speed/waiting") == [(1, 0.125), (2, 0.25)]
    assert found.pop("speed/peak_share") == [(2, 0.5)]
    assert found.pop("held_out/top1") == [(2, pytest.approx(2 / 3))]
    assert found.pop("held_out/macro_recall") == [(2, pytest.approx(0.75))]
    assert found.pop("held_out/cross_entropy") == [(2, pytest.approx(SCORES.nll))]
    assert set(found) == {"held_out/top5", "held_out/calibration_error"}


def test_a_resumed_run_goes_on_in_the_same_curves(tmp_path: Path) -> None:
    with TensorBoard(tmp_path) as board:
        for step in (1, 2, 3):
            board(StepDone(step, float(step), 0.1, 1.0, 100.0))
    with TensorBoard(tmp_path, first_step=3) as board:
        board(StepDone(3, 30.0, 0.1, 1.0, 100.0))
    assert read(tmp_path)["train/loss"] == [(1, 1.0), (2, 2.0), (3, 30.0)]


def test_without_tensorboard_the_install_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'vitsmith\[tensorboard\]'"):
        TensorBoard(tmp_path)

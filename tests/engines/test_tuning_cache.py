"""What is remembered of measurements: believed only where the question is the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from vitsmith import machine
from vitsmith.engines.open import open_engine
from vitsmith.engines.tuning_cache import place_of, question, recall, remember


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"question": {}}', b"\xff\xfe", b"[" * 10**5])
def test_a_damaged_cache_is_as_none(damage: bytes, own_cache: Path) -> None:
    asked = question("x", "program", ("numpy",), goal="latency")
    assert recall(asked) is None
    remember(asked, {"plan": 1})
    assert recall(asked) == {"plan": 1}
    place_of(asked).write_bytes(damage)
    assert recall(asked) is None
    remember(asked, {"plan": 2})
    assert recall(asked) == {"plan": 2}
    assert recall(question("x", "program", ("numpy",), goal="throughput")) is None


def test_an_answer_to_another_question_is_not_believed(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = question("x", "program", ("numpy",))
    remember(asked, {"plan": 1})
    other = question("y", "program", ("numpy",))
    shutil.copy(place_of(asked), place_of(other))
    assert recall(other) is None
    monkeypatch.setattr(machine, "_processor", lambda: ("Another CPU", frozenset({"avx2"})))
    assert recall(question("x", "program", ("numpy",))) is None


def test_a_cache_that_cannot_be_written_only_costs_time(
    programs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "file"))
    assert open_engine(programs("mixer")["onnx"], "openvino").name == "openvino"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

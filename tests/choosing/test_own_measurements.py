"""`recommend` with images, a device or measuring: what is refused at once, and what the answer has then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import vitsmith as vs
from tests.command_line import call
from tests.cost.machines import engine as made_engine
from tests.cost.machines import machine as made_machine
from tests.cost.machines import timed
from tests.probing.coloured import pets
from vitsmith.choosing.own_images import stage as own_images_stage
from vitsmith.cost.profile import write_profile


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    write_profile(made_machine(made_engine(engine="torch", precision="fp32", timed=tuple(timed(0.01)))), "pi.json")
    return "pi.json"


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"download": True}, "`download` fetches weights to score on `data`: give `data` too"),
        ({"train_images": 5}, "`train_images` are for a device: give `device_memory` too"),
        ({"measure": 2}, "`measure` measures this machine"),
        ({"device_memory": "8"}, "device_memory"),
        ({"device_memory": 8}, "device_memory"),
        ({"measure": -1}, "measure"),
        ({"data": "nowhere"}, "does not exist"),
    ],
)
def test_what_cannot_be_measured_is_refused(profile: str, asked: dict[str, Any], reason: str) -> None:
    with pytest.raises(vs.InputError, match=reason):
        vs.recommend(latency="1s", machine=profile, **asked)


def test_a_device_is_told_of_the_first_rows(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = (
        "recommend",
        "--latency",
        "5ms",
        "--machine",
        profile,
        "--device-memory",
        "40GB",
        "--train-images",
        "1000",
    )
    code, out, err = call(capsys, *command, "--out", "one")
    assert code == 0, err
    assert "inference: batch" in out and "training in fp32: micro-batch" in out and "1,000 images take about" in out
    code, out, _ = call(capsys, *command, "--out", "two", "--json")
    fits = json.loads(out)["fits"]
    assert code == 0 and 1 <= len(fits) <= 3
    for fit in fits:
        assert fit["inference"]["predicted"] <= 0.9 * 40e9 and fit["training"]["predicted"] <= 0.9 * 40e9
        assert fit["training"]["seconds"] > 0


def test_without_weights_here_it_says_what_fetches_them(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = vs.recommend(latency="1s", machine=profile, data=pets(Path("pets")))
    assert found.own_images is not None and not found.own_images.rows
    assert any("`download` fetches them" in one for one in found.remarks)
    assert found.best is not None and found.best.accuracy is not None and found.best.accuracy.mark == "published"
    assert own_images_stage.MOST_MODELS > 3 and found.to_dict()["own_images"]["instead"]

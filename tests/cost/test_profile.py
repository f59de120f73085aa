"""Profiles of machines: what they say, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cost.machines import engine, machine
from vitsmith.cost.profile import profile_fields, read_profile, write_profile
from vitsmith.errors import InputError


def test_a_file_gives_the_same_profile(tmp_path: Path) -> None:
    profile = machine(engine(), engine(precision="bf16"))
    write_profile(profile, tmp_path / "pi.json")
    assert read_profile(tmp_path / "pi.json") == profile
    assert json.loads((tmp_path / "pi.json").read_text()) == profile_fields(profile)


def test_times_are_of_the_usual_speed() -> None:
    """A reference that takes 1.5 times as long beside a call means a machine that was slower by so much."""
    assert engine().timed[0].median(0.002) == pytest.approx((0.01 + 0.008) / 2)
    assert engine().usual == 0.002 and engine().spread == 0.0 and engine().remarks == ()


def test_a_call_that_something_held_up_does_not_count() -> None:
    one = engine().timed[0].model_copy(update={"seconds": (0.01, 0.011, 0.02), "reference": (0.002,) * 3})
    assert one.median(0.002) == pytest.approx(0.0105)


def test_a_busy_and_a_drifting_machine_are_told() -> None:
    (told,) = engine(others=0.4).remarks
    assert told.startswith("other processes used 40% of the cores")
    (told,) = engine(reference=(0.002, 0.002, 0.002, 0.0022, 0.0024, 0.0024)).remarks
    assert told.startswith("the machine became 20% slower during calibration")
    assert engine(others=0.05, reference=(0.002, 0.00205)).remarks == ()


def test_what_is_not_in_it_is_refused_with_what_is() -> None:
    profile = machine(engine(), engine(precision="bf16"))
    assert profile.find("torch", "bf16", 2).precision == "bf16"
    with pytest.raises(InputError, match="no onnx fp32: it has torch bf16 with 2 threads, torch fp32 with 2 threads"):
        profile.find("onnx", "fp32", None)
    with pytest.raises(InputError, match="no torch fp32 with 4 threads"):
        profile.find("torch", "fp32", 4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": 2}, "was written by a newer version of vitsmith"),
        ({"engines": []}, "is no profile of a machine"),
        ({"memory": "much"}, "memory: must be a number, not 'much'"),
        ({"more": 1}, "more: unknown field"),
    ],
)
def test_files_that_are_none(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    path = tmp_path / "pi.json"
    path.write_text(json.dumps(profile_fields(machine(engine())) | change))
    with pytest.raises(InputError, match=told):
        read_profile(path)


def test_times_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "pi.json"
    write_profile(machine(engine()), path)
    path.write_text(path.read_text().replace("0.012", "-1"))
    with pytest.raises(InputError, match="greater than 0"):
        read_profile(path)
    path.write_text("[]")
    with pytest.raises(InputError, match="is no profile of a machine"):
        read_profile(path)

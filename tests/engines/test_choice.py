"""The engine that `auto` takes, why, and what it measures for that."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.engines.pretended import MANY, die_with, race_with
from tests.engines.programs import (
    assert_close,
)
from tests.tiny import tiny_inputs
from vitsmith.engines import choice
from vitsmith.engines.open import open_engine
from vitsmith.engines.openvino import engine as openvino
from vitsmith.engines.plan import Plan
from vitsmith.engines.sample_inputs import sample_inputs
from vitsmith.engines.settings import Settings
from vitsmith.errors import InputError


@pytest.mark.parametrize("count", [None, 0, 1, 99])
def test_auto_measures_nothing_for_few_images_or_an_unknown_number(
    count: int | None, programs: Any, own_cache: Path, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = programs("vit-token")
    monkeypatch.setattr(choice, "race", None)
    opened = open_engine(made["onnx"], num_images=count)
    assert opened.name == "onnx" and not list(own_cache.rglob("*.json"))
    many = "an unknown number of images" if count is None else "fewer than 100 images"
    assert opened.why == f"onnx: openvino not tried for {many}"


def test_auto_takes_what_it_remembers_for_a_single_image(
    programs: Any, own_cache: Path, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = programs("vit-token")
    race_with(monkeypatch, choice, 50.0, 120.0)
    assert open_engine(made["onnx"], num_images=MANY).name == "openvino"
    monkeypatch.setattr(choice, "race", None)
    opened = open_engine(made["onnx"], num_images=1)
    assert opened.name == "openvino" and opened.why.startswith("openvino 120.0 images/s, onnx 50.0 images/s")


def test_auto_measures_only_what_is_expected_to_save_more_than_it_costs(
    programs: Any, own_cache: Path, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One other engine is expected to cost 10 s, and to save 0.3 of the time: at 50 images a second 1,667 images."""
    made = programs("vit-token")
    race_with(monkeypatch, choice, 50.0, 120.0)
    kept = open_engine(made["onnx"], num_images=1666)
    assert kept.name == "onnx"
    assert kept.why == (
        "onnx: openvino not tried: that takes about 10 s and could save about 10.0 s on 1,666 images (50.0 images/s)"
    )
    race_with(monkeypatch, choice, 500.0, 1200.0)
    assert open_engine(made["onnx"], num_images=1667).name == "onnx"
    race_with(monkeypatch, choice, 50.0, 120.0)
    assert open_engine(made["onnx"], num_images=1667).name == "openvino"
    with pytest.raises(InputError, match="num_images must be a whole number"):
        open_engine(made["onnx"], num_images=-1)


def test_auto_measures_once_and_says_why(programs: Any, own_cache: Path, large: None, monkeypatch: Any) -> None:
    made = programs("vit-token")
    race_with(monkeypatch, choice, 50.0, 120.0)
    opened = open_engine(made["onnx"], num_images=MANY)
    assert opened.name == "openvino"
    assert opened.why.startswith("openvino 120.0 images/s, onnx 50.0 images/s (batches of 8, measured 20")
    monkeypatch.setattr(choice, "race", None)  # remembered, it is not measured again
    again = open_engine(made["onnx"], num_images=MANY)
    assert (again.name, again.why) == (opened.name, opened.why)
    race_with(monkeypatch, choice, 9.0, 1.0)
    one_at_a_time = open_engine(made["onnx"], goal="latency", num_images=MANY)
    assert one_at_a_time.name == "onnx" and "(one image at a time, measured" in one_at_a_time.why


def test_auto_really_measures(programs: Any, own_cache: Path, large: None) -> None:
    made = programs("vit-token")
    opened = open_engine(made["onnx"], num_images=MANY)
    images = tiny_inputs(made["torch"].config, 7)[0].numpy()
    assert_close(opened.run(images), made["torch"].run_torch(images))
    kept = [json.loads(path.read_text()) for path in (own_cache / "engines").iterdir()]
    (rates,) = [one["answer"]["rates"] for one in kept if one["question"]["what"] == "fastest engine"]
    assert opened.name == max(rates, key=rates.get) and set(rates) == {"onnx", "openvino"} and min(rates.values()) > 0


def test_auto_leaves_out_the_engine_that_answers_wrongly(
    programs: Any, own_cache: Path, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = programs("vit-token")
    run = openvino.OpenVinoEngine.run
    monkeypatch.setattr(openvino.OpenVinoEngine, "run", lambda self, images: run(self, images) + 1)
    opened = open_engine(made["onnx"], num_images=MANY)
    assert opened.name == "onnx"
    assert opened.why.startswith("onnx: the others fail; openvino was refused: ") and "give other answers" in opened.why
    monkeypatch.setattr(openvino, "OpenVinoEngine", None)  # remembered: it is not even opened
    assert open_engine(made["onnx"], num_images=MANY).name == "onnx"


def test_auto_goes_on_without_the_engine_that_dies(
    programs: Any, own_cache: Path, large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = programs("vit-token")
    with monkeypatch.context() as patch:
        die_with(patch, "os.kill(os.getpid(), signal.SIGKILL)")
        opened = open_engine(made["onnx"], num_images=MANY)
        assert opened.name == "onnx" and "died with SIGKILL" in opened.why
    race_with(monkeypatch, choice, 1.0, 2.0)
    assert open_engine(made["onnx"], num_images=MANY).name == "openvino"  # a lack of memory passes


def test_auto_does_not_measure_what_does_not_matter(programs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "race", None)
    monkeypatch.setattr(openvino, "OpenVinoEngine", None)
    assert open_engine(programs("vit-token")["onnx"]).why == "onnx: the model is so small that others were not tried"
    opened = open_engine(programs("vit-token")["torch"])
    assert opened.why == "torch: the only engine installed here that runs this"  # compiled is not among them


def test_whether_threads_spin_is_measured_for_single_images(
    programs: Any, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vitsmith.engines.onnx import engine as onnx
    from vitsmith.engines.onnx import spinning

    monkeypatch.setattr(onnx, "is_small", lambda bundle: False)
    settings = Settings(threads=2, goal="latency")
    measured = dataclasses.replace(settings, measure=True)
    bundle = programs("vit-token")["onnx"]
    assert not onnx.OnnxEngine(bundle, settings).plan.spinning
    with monkeypatch.context() as patch:
        patch.setattr(spinning, "COMMAND", (sys.executable, "-S", "-c", "raise SystemExit(3)"))
        assert onnx.OnnxEngine(bundle, measured).plan == Plan(1, 1, 2)  # the child died: nothing is remembered
    inputs = sample_inputs(bundle, 1)
    rates = onnx.spinning_rates(bundle.place / "model.onnx", Plan(1, 1, 2), None, inputs)
    assert list(rates) == [Plan(1, 1, 2), Plan(1, 1, 2, True)] and min(rates.values()) > 0
    monkeypatch.setattr(onnx, "spinning_rates", lambda *_: dict(zip(rates, (1.0, 2.0), strict=True)))
    assert onnx.OnnxEngine(bundle, measured).plan == Plan(1, 1, 2, True)
    assert onnx.OnnxEngine(bundle, settings).plan.spinning  # remembered
    assert not onnx.OnnxEngine(bundle, dataclasses.replace(measured, goal="throughput")).plan.spinning

"""What every engine must satisfy: a row in ENGINES obliges an engine to these tests."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pkgutil import resolve_name
from typing import NamedTuple

import numpy as np
import pytest

from tests import ROOT
from tests.documentation import table_after
from tests.engines.programs import Programs, assert_close
from tests.tiny import VIT, tiny_inputs, tiny_model
from vitsmith import Bundle
from vitsmith.engines.graph_report import attentions
from vitsmith.engines.open import open_engine
from vitsmith.engines.protocol import PRECISION_WORDS, Engine
from vitsmith.engines.registry import ENGINES
from vitsmith.errors import InputError
from vitsmith.models.configure import change


class Case(NamedTuple):
    """An engine that runs a tiny model."""

    name: str
    weights: Bundle
    """The same model in torch."""
    program: Bundle
    engine: Engine

    def answers_rightly(self, images: np.ndarray, outputs: np.ndarray) -> None:
        assert_close(outputs, self.weights.run_torch(images), 1e-5)


@pytest.fixture(scope="module", params=ENGINES)
def case(
    request: pytest.FixtureRequest, programs: Callable[[str], Programs], executorch: tuple[Bundle, Bundle]
) -> Case:
    name: str = request.param
    kind = ENGINES[name].programs[0]
    made = {**programs("vit-token"), "executorch": executorch[1]}
    weights = executorch[0] if kind == "executorch" else made["torch"]
    if name == "torch-compiled":  # a block less is compiled sooner
        weights = made["torch"] = Bundle.of(tiny_model(change(VIT, depth=1)))
    return Case(name, weights, made[kind], open_engine(made[kind], name))


def test_an_open_engine_says_what_it_is(case: Case) -> None:
    opened = case.engine
    assert (opened.name, opened.precision, opened.why) == (case.name, "float32", "asked for by name")
    assert opened.precision in PRECISION_WORDS.values()
    assert repr(opened).startswith(f"<Engine {case.name}, float32, of ")


def test_answers_are_those_of_torch_for_any_batch(case: Case) -> None:
    for batch in (2, 7, 3, 1, 0):
        images = tiny_inputs(case.weights.config, batch, seed=batch)[0].numpy()
        case.answers_rightly(images, case.engine.run(images))


def test_arrays_are_read_and_never_written(case: Case) -> None:
    images = tiny_inputs(case.weights.config, 3)[0].numpy()
    kept = images.copy()
    first = case.engine.run(images)
    np.testing.assert_array_equal(images, kept)
    again = case.engine.run(images[::-1].copy())
    assert_close(again[::-1], first)
    case.answers_rightly(images, first)  # the outputs are the caller's: the next run has not changed them


def test_several_threads_may_use_it_at_once(case: Case) -> None:
    inputs = [tiny_inputs(case.weights.config, batch, seed=batch)[0].numpy() for batch in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(case.engine.run, inputs))
    for images, outputs in zip(inputs, found, strict=True):
        case.answers_rightly(images, outputs)


def test_what_does_not_fit_is_told_in_the_same_words_by_every_engine(case: Case) -> None:
    """OpenVINO waits for ever when it is given channels last."""
    height, width = case.program.preprocessing.size
    run = case.engine.run
    for shape, told in (
        ((2, 3, height + 16, width), "create or load the model with image_size"),
        ((2, height, width, 3), "channels last"),
        ((3, height, width), "add the batch dimension"),
        ((2, 1, height, width), "three channels"),
    ):
        with pytest.raises(InputError, match=told):
            run(np.zeros(shape, np.float32))
    for kind in (np.uint8, np.int64, bool, np.complex64):  # pixels that nobody normalised
        with pytest.raises(InputError, match="must be normalised floating-point numbers, got "):
            run(np.ones((2, 3, height, width), kind))
    images = tiny_inputs(case.weights.config, 2)[0].numpy()
    assert_close(run(images.astype(np.float64)), run(images))


def test_what_its_program_cannot_do_is_refused(case: Case) -> None:
    with pytest.raises(InputError, match="is a model of images alone: it cannot read text"):
        case.engine.run_texts(np.zeros((1, 6), np.int32))
    height, width = case.program.preprocessing.size
    with pytest.raises(InputError, match=r"takes? normalised images"):
        case.engine.run_pixels(np.zeros((1, height, width, 3), np.uint8))


def test_its_report_is_one_of_this_model(case: Case) -> None:
    report = case.engine.report()
    assert report.engine == case.name and report.nodes > 10 and list(report.precision) == ["fp32"]
    fused, there = report.attention
    assert there == attentions(case.weights.config) and 0 <= fused <= there
    if case.weights is case.program:
        assert fused == there  # torch's own kernel
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()
    assert dict(report.facts())["precision of products"] == "fp32"


def test_every_row_is_of_an_engine_that_has_its_name_and_its_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, kind in ENGINES.items():
        assert resolve_name(kind.engine).name == name
        assert kind.installed and kind.extra in extras


def test_every_engine_has_a_row_on_its_page() -> None:
    rows = table_after(ROOT / "docs" / "engines.md", "| engine |")
    assert [row[0].strip("`") for row in rows] == list(ENGINES)


def test_an_engine_whose_extra_brings_no_torch_is_held_to_that() -> None:
    """import-linter follows its imports: see "What runs a bundle needs neither torch nor scikit-learn"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    contracts = project["tool"]["importlinter"]["contracts"]
    (sources,) = (one["source_modules"] for one in contracts if one["type"] == "forbidden")
    for kind in ENGINES.values():
        room = kind.engine.partition(":")[0].rpartition(".")[0]
        torch_comes = any(one.startswith(("torch>", "vitsmith[torch]")) for one in extras[kind.extra])
        assert (room in sources) == (not torch_comes), room

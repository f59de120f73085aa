"""Requests: what words mean, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vitsmith.choosing.catalogue import TASKS
from vitsmith.choosing.request import METRICS, RequestOptions, make_request
from vitsmith.choosing.scenarios import DEFAULT, find_scenario, scenarios
from vitsmith.engines.registry import ENGINES
from vitsmith.engines.settings import PRECISIONS
from vitsmith.errors import ConfigError, InputError, UnknownNameError

NAMES = ["edge", "mobile", "cpu-server", "gpu-server", "browser", "multimodal"]


def budgets(**more: Any) -> dict[str, float]:
    return dict(make_request(RequestOptions(**more)).budgets)


def test_amounts_are_seconds_bytes_and_images_a_second() -> None:
    asked = budgets(latency="30ms", throughput=100, memory="500MB", size="50MiB")
    assert asked == pytest.approx({"latency": 0.03, "throughput": 100.0, "memory": 5e8, "size": 50 * 2**20})


def test_budgets_alone_are_the_only_ones_and_with_a_scenario_they_replace_its_own() -> None:
    assert budgets(latency="30ms") == {"latency": 0.03}
    assert budgets(scenario="edge", latency="30ms") == pytest.approx({"latency": 0.03, "memory": 5e8, "size": 1e8})
    assert make_request(RequestOptions(scenario="edge", latency="30ms")).own == {"latency"}


@pytest.mark.parametrize(
    "asked", [RequestOptions(), RequestOptions(scenario="", latency="", memory="", size="", task="", licence="")]
)
def test_nothing_asked_is_the_usual_scenario_and_says_so(asked: RequestOptions) -> None:
    found = make_request(asked)
    assert found.scenario.name == DEFAULT and DEFAULT in found.remarks[0]
    assert found.budgets == {"latency": 0.1, "memory": 2e9}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"latency": "30"}, ("`latency` 30 has no unit: write 30ms or 30s",)),
        ({"latency": "0ms"}, ("`latency`", "above 0")),
        ({"latency": "-5ms"}, ("`latency`", "above 0")),
        ({"latency": "nanms"}, ("`latency`", "above 0")),
        ({"latency": "5m"}, ("`latency`", "unknown unit", "ms, s")),
        ({"latency": 0.03}, ("`latency` must be text",)),
        ({"memory": "500"}, ("`memory` 500 has no unit: write 500MB or 500MiB",)),
        ({"size": "0MB"}, ("`size`", "above 0")),
        ({"throughput": 0}, ("`throughput`", "above 0")),
        ({"throughput": -3}, ("`throughput`", "above 0")),
        ({"throughput": float("nan")}, ("`throughput`", "above 0")),
        ({"throughput": True}, ("`throughput`", "above 0")),
        ({"batch": 0}, ("`batch`", "whole number")),
        ({"threads": 2.5}, ("`threads`", "whole number")),
        ({"scenario": "edgy"}, ("unknown scenario 'edgy'", "edge")),
        ({"scenario": "tpu"}, ("unknown scenario 'tpu'", *NAMES)),
        ({"task": "clasify"}, ("unknown task 'clasify'", "classify")),
        ({"task": "segment"}, ("unknown task 'segment'", "embed", "zeroshot")),
        ({"licence": "comercial"}, ("unknown licence", "commercial")),
        ({"scenario": 3}, ("`scenario` must be text",)),
        ({"task": 3}, ("task must be one of classify, zeroshot, embed",)),
    ],
)
def test_a_mistake_says_what_to_give(asked: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        make_request(RequestOptions(**asked))
    assert all(word in str(caught.value) for word in words), caught.value


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        make_request(RequestOptions(scenario="edgy", task="sort", latency="30", memory="-1MB", throughput=0, batch=0))
    for word in ("scenario 'edgy'", "task 'sort'", "`latency`", "`memory`", "`throughput`", "`batch`"):
        assert word in str(caught.value)


def test_one_misspelt_name_is_its_own_kind_of_error() -> None:
    with pytest.raises(UnknownNameError):
        make_request(RequestOptions(scenario="edgy"))


@pytest.mark.parametrize("name", ["mobile", "gpu-server", "browser"])
def test_a_machine_that_is_not_at_hand_has_an_order_and_times_only_with_a_profile(name: str) -> None:
    found = make_request(RequestOptions(scenario=name))
    assert (
        not found.timed and "gflops" in found.budgets and not {"latency", "memory", "throughput"} & set(found.budgets)
    )
    with pytest.raises(InputError, match=r"`latency` cannot be told for .*vitsmith calibrate"):
        make_request(RequestOptions(scenario=name, latency="30ms"))
    assert make_request(RequestOptions(scenario=name, size="30MB")).budgets["size"] == 3e7
    with_profile = make_request(RequestOptions(scenario=name, latency="30ms", machine=True))
    assert with_profile.timed and "gflops" not in with_profile.budgets


def test_the_scenarios_are_those_of_the_page_and_name_what_there_is() -> None:
    assert list(scenarios()) == NAMES
    for name, row in scenarios().items():
        assert set(row.engines) <= set(ENGINES) and set(row.precisions) <= set(PRECISIONS)
        assert row.task in METRICS and row.what
        for profile in (True, False):
            make_request(RequestOptions(scenario=name, machine=profile))  # its budgets can be read
    assert set(METRICS) == set(TASKS)


def test_a_scenario_of_a_users_own_file(tmp_path: Path) -> None:
    path = tmp_path / "kiosk.toml"
    path.write_text('[kiosk]\ntask = "embed"\nengines = ["onnx"]\nlatency = "40ms"\nthreads = 2\n', encoding="utf-8")
    found = make_request(RequestOptions(scenario=str(path)))
    assert (found.scenario.name, found.task, found.budgets, found.threads) == ("kiosk", "embed", {"latency": 0.04}, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not toml", "not a scenario that can be read"),
        ("# nothing", "is empty"),
        ('[a]\nengines = ["onnx"]\n[b]\nengines = ["onnx"]\n', "one table"),
        ("[a]\nengines = []\nbatch = 0\nspeed = 1\n", "speed: unknown field"),
        ('[a]\nengines = ["onnx"]\nname = "b"\n', "not a field"),
        ('[a]\nengines = ["onnx"]\ntask = "sort"\n', "task"),
        ('[a]\nengines = ["onix"]\n', "engine"),
        ('[a]\nengines = ["onnx"]\nlatency = "40"\n', "no unit"),
    ],
)
def test_a_file_that_is_no_scenario_says_why(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises((ConfigError, InputError), match=words):
        make_request(RequestOptions(scenario=str(path)))


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(InputError, match=r"nowhere\.toml: no such file"):
        find_scenario("nowhere.toml")

"""Plans fit the goal and the machine, and a race between them is fair."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.engines.programs import (
    assert_close,
)
from tests.tiny import tiny_inputs
from vitsmith.engines.openvino.graph import OpenVinoGraph
from vitsmith.engines.plan import Plan, default_plan, plans, race


def test_plans_fit_the_goal_and_the_machine() -> None:
    assert default_plan("throughput", 2) == Plan(4, 2, 2) and default_plan("latency", 2) == Plan(1, 1, 2)
    for goal in ("throughput", "latency"):
        for threads in (1, 2, 7, 64):
            some = plans(goal, threads)
            assert len(set(some)) == len(some) <= 4
            assert all(plan.streams <= threads and 1 <= plan.threads <= threads for plan in some)
            assert all(plan.chunk == 5 for plan in plans(goal, threads, batch=5))


def test_a_race_takes_turns_and_the_best_of_them() -> None:
    now, order = [0.0], []

    def takes(name: str, seconds: Sequence[float]) -> Callable[[], None]:
        left = iter(seconds)

        def run() -> None:
            order.append(name)
            now[0] += next(left)

        return run

    runs = [takes("a", [9, 1, 4]), takes("b", [2, 2, 2])]
    assert race(runs, 8, seconds=15, clock=lambda: now[0]) == [8.0, 4.0]
    assert order == ["a", "b", "a", "b", "a", "b"]  # no fourth turn: 20 seconds are gone
    assert race([takes("c", [5.0])], 10, seconds=0, clock=lambda: now[0]) == [2.0]


def test_what_is_left_over_runs_singly_once_repeats_have_cost_enough(programs: Any) -> None:
    """Before, a rest is made up with repeats: compiling for it would cost more than it has saved so far."""
    bundle, onnx = programs("vit-token")["torch"], programs("vit-token")["onnx"]
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    graph = OpenVinoGraph(onnx.folder / "model.onnx", "f32", Plan(4, 2, 2), clock=clock)
    assert graph._compile_seconds == 1.0
    singly = []
    for batch in (5, 7, 4, 1, 6, 2):  # of a second each, repeats take 3/8, 1/8, -, 3/4, and that makes more than one
        images = tiny_inputs(bundle.config, batch, seed=batch)[0].numpy()
        assert_close(graph.run(images), bundle.run_torch(images))
        singly.append(graph.runs_singly)
    assert singly == [False, False, False, True, True, True]


@pytest.mark.parametrize(
    "damaged",
    [None, [], {}, {"chunk": 4}, {"chunk": "4", "streams": 2, "threads": 2, "spinning": False},
     {"chunk": 0, "streams": 2, "threads": 2, "spinning": False},
     {"chunk": True, "streams": 2, "threads": 2, "spinning": False}],
)  # fmt: skip
def test_a_plan_that_is_none_is_not_believed(damaged: Any) -> None:
    assert Plan.from_dict(damaged) is None
    assert Plan.from_dict(json.loads(json.dumps(Plan(4, 2, 2, True).to_dict()))) == Plan(4, 2, 2, True)

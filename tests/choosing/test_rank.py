"""The ranking against loops written plainly, on random budgets; its edges; what is near it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.choosing.made import NO_OVERHEAD, SETUPS, MadeCosts, checkpoint, machine, vit, zoo
from vitsmith.choosing.candidates import candidates
from vitsmith.choosing.figures import Mark, MarkedFigure, Standing, judge
from vitsmith.choosing.near import blame, just_missed, nearest, relaxations
from vitsmith.choosing.rank import pareto, rank, shortlist
from vitsmith.choosing.recommendation import Recommendation, Setup
from vitsmith.choosing.request import Request, RequestOptions, make_request
from vitsmith.choosing.run import recommend
from vitsmith.models.config import MixerConfig

ONNX = Setup("onnx")
LOSS = {"fp32": 0.0, "int8": 0.5}
"""Points that the gate of `quantize` lets pass by default."""


def request(**more: Any) -> Request:
    return make_request(RequestOptions(**({"latency": "1000s"} | more)))


def rows(seed: int = 0, **more: Any) -> list[Recommendation]:
    """All setups of a zoo, without merging, as it is a setup of its own."""
    made = candidates(zoo(seed), request(batch=4), machine(MadeCosts(seed), **more))
    return [row for row in made if row.setup.keep == 1]


def random_budgets(random: np.random.Generator, among: list[Recommendation]) -> dict[str, float]:
    """Some budgets near what the rows have."""
    found = {}
    for name in ("latency", "throughput", "memory", "size"):
        if random.random() < 0.6:
            values = [getattr(row, name).value for row in among]
            found[name] = float(np.quantile(values, random.uniform(0.02, 0.9))) * float(random.uniform(0.9, 1.1))
    return found


def plain_ranking(seed: int, budgets: dict[str, float]) -> list[list[str]]:
    """The names of those within, of those that may miss, and of those that miss, from costs alone."""
    costs = MadeCosts(seed)
    chosen = []
    for one in zoo(seed):
        best = None
        for setup in SETUPS:
            single, batch = costs(one.config, setup, 1, None), costs(one.config, setup, 4, None)
            memory = max(single.peak_memory, batch.peak_memory)
            least_and_most = {
                "latency": (single.low, single.high),
                "memory": (0.75 * memory, 1.25 * memory),
                "size": (0.98 * single.size, 1.02 * single.size),
            }
            grade = 0
            for name, limit in budgets.items():
                if name == "throughput":
                    slowest, fastest = 4 / batch.high, 4 / batch.low
                    one_grade = 0 if slowest >= limit else 1 if fastest >= limit else 2
                else:
                    low, high = least_and_most[name]
                    one_grade = 0 if high <= limit else 1 if low <= limit else 2
                grade = max(grade, one_grade)
            key = (grade, LOSS[setup.precision], single.latency, f"{setup.engine} {setup.precision}")
            if best is None or key < best[0]:
                best = (key, one.name, one.accuracy["imagenet"] - LOSS[setup.precision], single.latency)
        chosen.append(best)
    lists = []
    for grade in range(3):
        left = [(top1, seconds, name) for key, name, top1, seconds in chosen if key[0] == grade]
        ordered = []
        while left:
            top = max(top1 for top1, _, _ in left)
            equal = sorted((one for one in left if one[0] >= top - 0.3 - 1e-9), key=lambda one: (one[1], -one[0]))
            ordered += [name for _, _, name in equal]
            left = [one for one in left if one not in equal]
        lists.append(ordered)
    return lists


@pytest.mark.parametrize("seed", range(4))
def test_the_ranking_is_that_of_plain_loops_on_ten_random_budgets(seed: int) -> None:
    random, all_rows = np.random.default_rng(seed), rows(seed)
    for _ in range(10):
        budgets = random_budgets(random, all_rows)
        found = rank(all_rows, budgets)
        names = [[row.checkpoint.name for row in part] for part in (found.within, found.may_miss, found.missed)]
        assert names == plain_ranking(seed, budgets), budgets


@pytest.mark.parametrize("seed", range(3))
def test_the_front_is_what_no_pair_beats(seed: int) -> None:
    all_rows = rows(seed)
    beaten = {
        id(one)
        for one in all_rows
        for other in all_rows
        if other.counted >= one.counted
        and other.pace <= one.pace
        and (other.counted, -other.pace) != (one.counted, -one.pace)
    }
    assert {id(row) for row in pareto(all_rows)} == {id(row) for row in all_rows} - beaten


@pytest.mark.parametrize(
    ("name", "limit", "ends", "standing"),
    [
        ("latency", 10, (8, 10), Standing.within),
        ("latency", 10, (8, 10.001), Standing.may_miss),
        ("latency", 10, (10, 12), Standing.may_miss),
        ("latency", 10, (10.001, 12), Standing.misses),
        ("throughput", 10, (10, 12), Standing.within),
        ("throughput", 10, (9, 12), Standing.may_miss),
        ("throughput", 10, (9, 10), Standing.may_miss),
        ("throughput", 10, (8, 9.999), Standing.misses),
    ],
)
def test_a_budget_at_the_edge(name: str, limit: float, ends: tuple[float, float], standing: Standing) -> None:
    figure = MarkedFigure(sum(ends) / 2, *ends, Mark.predicted, "made")
    assert judge(name, limit, figure) == standing
    measured = replace(figure, mark=Mark.measured)
    assert judge(name, limit, measured) == (Standing.kept if standing == Standing.within else standing)
    assert judge(name, limit, None) == Standing.unknown


def _row(name: str, top1: float, ms: float, setup: Setup = ONNX, *, mark: Mark = Mark.predicted) -> Recommendation:
    """A row whose latency has an interval of 10 % to both sides, none where it is measured."""
    (made,) = candidates([checkpoint(name, top1)], request(), machine(setups=[setup]))[:1]
    wide = 0.1 if mark == Mark.predicted else 0.0
    figure = MarkedFigure(ms / 1e3, (1 - wide) * ms / 1e3, (1 + wide) * ms / 1e3, mark, "made")
    return replace(made, latency=figure, median=figure)


def names(found: Any) -> list[str]:
    return [row.checkpoint.name for row in found]


def test_within_three_tenths_of_a_point_the_faster_is_first_and_beyond_the_more_accurate() -> None:
    tied, apart = _row("tied", 85.7, 5), _row("apart", 85.69, 1)
    assert names(rank([_row("top", 86.0, 10), tied, apart], {}).within) == ["tied", "top", "apart"]


def test_ties_are_counted_from_the_most_accurate_and_are_no_chain() -> None:
    chain = [_row(f"{top1}", top1, ms) for top1, ms in ((86.0, 30), (85.8, 20), (85.6, 10), (85.4, 5))]
    assert names(rank(chain, {}).within) == ["85.8", "86.0", "85.4", "85.6"]


def test_int8_is_chosen_for_a_checkpoint_only_where_fp32_misses() -> None:
    whole, coarse = _row("one", 85, 20), _row("one", 85, 8, Setup("onnx", "int8"))
    (best,) = rank([whole, coarse], {"latency": 0.030}).within
    assert best.setup.precision == "fp32"
    (best,) = rank([whole, coarse], {"latency": 0.010}).within
    assert best.setup.precision == "int8" and best.counted == 84.5
    assert any("fp32" in remark and "quantize" in remark for remark in best.remarks)


def test_int8_counts_half_a_point_less_among_others() -> None:
    coarse = _row("coarse", 85.0, 8, Setup("onnx", "int8"))
    assert names(rank([coarse, _row("whole", 84.9, 9)], {}).within) == ["whole", "coarse"]
    assert names(rank([coarse, _row("worse", 84.0, 9)], {}).within) == ["coarse", "worse"]


def test_what_the_gates_let_pass_is_what_is_counted_less() -> None:
    from vitsmith.compress.merge_tokens.result import REQUIRED as MERGING
    from vitsmith.compress.quantize.schemes import REQUIRED as INT8
    from vitsmith.exporters.gate import ACCURACY_DROP

    assert Setup("onnx", "int8").allowance == INT8.accuracy_drop
    assert Setup("openvino", "bf16").allowance == ACCURACY_DROP
    assert Setup("onnx", keep=0.7).allowance == MERGING.accuracy_drop


def test_a_measurement_alone_keeps_a_budget_and_comes_before_predictions() -> None:
    found = rank(
        [
            _row("predicted", 86, 5),
            _row("measured", 84, 9, mark=Mark.measured),
            _row("broken", 88, 11, mark=Mark.measured),
        ],
        {"latency": 0.010},
    )
    assert [(row.checkpoint.name, row.standing) for row in found.within] == [
        ("measured", Standing.kept),
        ("predicted", Standing.within),
    ]
    assert names(found.missed) == ["broken"]


def test_the_shortlist_has_the_most_accurate_that_may_hold_and_one_that_surely_does() -> None:
    budget = {"latency": 0.010}
    hopeful = [_row(f"hopeful-{at}", 86 + at, 9.5) for at in range(3)]
    found = rank([_row("sure", 80, 5), _row("hopeless", 90, 10.5), *hopeful], budget)
    assert names(shortlist(found, budget, 3)) == ["hopeful-2", "hopeful-1", "sure"]
    assert names(shortlist(found, budget, 9)) == ["hopeful-2", "hopeful-1", "hopeful-0", "sure"]
    assert names(shortlist(rank([_row("hopeless", 90, 10.5)], budget), budget, 3)) == ["hopeless"]


def test_what_just_missed_is_more_accurate_and_says_by_how_much() -> None:
    budget = {"latency": 0.010}
    found = [_row("best", 80, 5), _row("close", 82, 12), _row("far", 84, 40), _row("worse", 79, 12)]
    missed = just_missed(found, budget, found[0])
    assert names(one.row for one in missed) == ["close", "far"]
    assert missed[0].excess == pytest.approx({"latency": 1.32})


def test_the_least_relaxation_of_each_budget_that_admits_a_better_model() -> None:
    big = replace(_row("big", 84, 5), size=MarkedFigure(2e6, 2e6, 2e6, Mark.predicted, "made"))
    found = [replace(_row("best", 80, 5), size=MarkedFigure(1e6, 1e6, 1e6, Mark.predicted, "made")), big]
    slow = [replace(_row(f"slow-{ms}", 83, ms), size=found[0].size) for ms in (20, 15)]
    budgets = {"latency": 0.010, "size": 1.5e6}
    relaxed = {one.budget: one for one in relaxations([*found, *slow], budgets, found[0])}
    assert relaxed["latency"].row.checkpoint.name == "slow-15"
    assert relaxed["latency"].limit == pytest.approx(0.0165)
    assert relaxed["size"].row.checkpoint.name == "big" and relaxed["size"].limit == 2e6
    for name, one in relaxed.items():  # with that limit it is admitted
        assert one.row.checkpoint.name in names(rank([*found, *slow], budgets | {name: one.limit}).within)


@pytest.mark.parametrize("seed", range(10))
def test_relaxations_are_the_least_of_all_rows(seed: int) -> None:
    random, all_rows = np.random.default_rng(seed), rows(seed)
    budgets = random_budgets(random, all_rows) | {"latency": float(np.median([row.latency.value for row in all_rows]))}  # type: ignore[union-attr]
    best = rank(all_rows, budgets).best
    least = -np.inf if best is None else best.counted + 0.3
    for one in relaxations(all_rows, budgets, best):
        limits = []
        for row in all_rows:
            changed = rank([row], {name: limit for name, limit in budgets.items() if name != one.budget})
            end = row.figure(one.budget)
            assert end is not None
            if row.counted > least and changed.within and row.key != (best and best.key):
                limits.append(end.low if one.budget == "throughput" else end.high)
        assert one.limit == (max(limits) if one.budget == "throughput" else min(limits))


def test_an_impossible_budget_has_the_nearest_and_one_to_blame() -> None:
    found = [_row("fast", 80, 5), _row("slow", 84, 40)]
    budgets = {"latency": 0.001, "size": 1e12}
    assert rank(found, budgets).best is None
    near = nearest(found, budgets)
    assert near is not None and near.row.checkpoint.name == "fast" and near.worst == pytest.approx(5.5)
    (one,) = blame(found, budgets)
    assert (one.budget, one.alone, one.best) == ("latency", True, found[0].latency)


def test_two_budgets_that_each_alone_are_possible_share_the_blame() -> None:
    def sized(row: Recommendation, size: float) -> Recommendation:
        return replace(row, size=MarkedFigure(size, size, size, Mark.predicted, "made"))

    found = [sized(_row("fast", 80, 5), 9e6), sized(_row("small", 80, 50), 1e6)]
    blamed = blame(found, {"latency": 0.010, "size": 2e6})
    assert [(one.budget, one.alone, one.best.value) for one in blamed] == [
        ("latency", False, 0.05),
        ("size", False, 9e6),
    ]


def test_nothing_is_ranked_without_an_accuracy_for_the_task_or_with_another_licence() -> None:
    shut = checkpoint("shut", 90.0, commercial=False)
    unknown = checkpoint("unknown", 89.0, commercial=None)
    silent = checkpoint("silent", None)
    features = checkpoint("features", 88.0, tasks=frozenset({"embed"}))
    free = checkpoint("free", 80.0)
    every = [shut, unknown, silent, features, free]
    asked = request(licence="commercial")
    found = recommend(asked, every, machine())
    assert names(found) == ["free"]
    counts = found.counts
    assert (counts.checkpoints, counts.other_task, counts.without_accuracy, counts.licence, counts.ranked) == (
        5,
        1,
        1,
        2,
        1,
    )
    assert names(recommend(request(), every, machine())) == ["shut", "unknown", "free"]


def test_costs_are_predicted_once_for_an_architecture() -> None:
    costs = MadeCosts()
    same = vit()
    recommend(request(batch=1), [checkpoint(str(at), 80, same) for at in range(20)], machine(costs))
    setups = len(SETUPS) + 1  # with merging, the faster engine in fp32
    assert costs.calls == setups


def test_what_cannot_merge_has_no_merged_way() -> None:
    mixer = MixerConfig(
        width=64, depth=2, tokens_mlp_width=32, channels_mlp_width=128, patch=(16, 16), image_size=(32, 32)
    )
    found = candidates([checkpoint("mixer", 80, mixer)], request(), machine())
    assert {row.setup.keep for row in found} == {1.0}
    merged = [row for row in candidates([checkpoint("vit")], request(), machine()) if row.setup.keep < 1]
    assert merged and all(0.5 < row.setup.keep < 1 for row in merged)


def test_a_way_that_cannot_be_predicted_is_left_out() -> None:
    costs = MadeCosts()
    found = candidates(
        [checkpoint("vit")], request(), machine(lambda *asked: None if asked[1].engine == "onnx" else costs(*asked))
    )
    assert {row.setup.engine for row in found} == {"openvino"}


def test_the_answer_is_the_spread_of_the_engine_and_the_photo_before_it() -> None:
    overhead = replace(NO_OVERHEAD, photo=(0.004, 0.002, 0.008), pixels=(0.04, 0.02, 0.08), spread=(1.2, 1.0, 1.5))
    asked = request()
    (row,) = candidates([checkpoint("vit")], asked, machine(setups=[Setup("onnx", "int8")], overhead=overhead))
    assert row.median is not None and row.latency is not None
    photo, pixels = 768 * 1024 / 1e6, 64 * 64 / 1e6
    assert row.latency.value == pytest.approx(1.2 * row.median.value + 0.004 * photo + 0.04 * pixels)
    assert row.latency.low == pytest.approx(row.median.low + 0.002 * photo + 0.02 * pixels)
    assert row.latency.high == pytest.approx(1.5 * row.median.high + 0.008 * photo + 0.08 * pixels)

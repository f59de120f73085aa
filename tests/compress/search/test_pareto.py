"""Which programs are worth having: the front against brute force, knee and choice on cases worked out by hand."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsmith.compress.search.pareto import Point, choose, dominates, front, knee

FLOAT = Point(0.90, 100, 400, 340)
INT8 = Point(0.895, 30, 150, 86)
SMALL = Point(0.86, 20, 120, 80)
SMALLEST = Point(0.60, 18, 110, 75)
WORSE_INT8 = Point(0.89, 31, 150, 86)
POINTS = [FLOAT, WORSE_INT8, SMALLEST, INT8, SMALL]


def test_the_front_is_what_nothing_beats() -> None:
    assert front(POINTS) == [SMALLEST, SMALL, INT8, FLOAT]
    assert dominates(INT8, WORSE_INT8) and not dominates(WORSE_INT8, INT8) and not dominates(INT8, INT8)
    assert front([INT8, INT8]) == [INT8]


def test_a_lighter_program_stays_though_it_is_slower_and_less_accurate() -> None:
    light = Point(0.88, 40, 20, 20)
    assert light in front([*POINTS, light])


_few = st.integers(1, 4)


@given(st.lists(st.builds(Point, top1=_few.map(lambda n: n / 4), latency_ms=_few, memory_mib=_few, size_mib=_few)))
def test_the_front_against_brute_force(points: list[Point]) -> None:
    def beaten(point: Point) -> bool:
        return any(
            other.top1 >= point.top1
            and other.latency_ms <= point.latency_ms
            and other.memory_mib <= point.memory_mib
            and other.size_mib <= point.size_mib
            and other != point
            for other in points
        )

    expected = {point for point in points if not beaten(point)}
    found = front(points)
    assert set(found) == expected and len(found) == len(expected)
    assert all(a.latency_ms <= b.latency_ms for a, b in itertools.pairwise(found))


def test_the_knee_is_where_the_front_bends() -> None:
    # heights above the line from (18 ms, 0.60) to (100 ms, 0.90), worked out by hand
    height = (0.86 - 0.60) / 0.30 - math.log(20 / 18) / math.log(100 / 18)
    other = (0.895 - 0.60) / 0.30 - math.log(30 / 18) / math.log(100 / 18)
    assert height > other > 0
    assert knee(front(POINTS)) == SMALL
    assert knee([FLOAT, INT8]) == FLOAT, "a straight line has no bend: the accurate end"
    assert knee([FLOAT]) == FLOAT
    with pytest.raises(ValueError, match="no points"):
        knee([])


def test_the_knee_of_equals_is_the_fastest() -> None:
    assert knee([Point(0.9, 10, 1, 1), Point(0.9, 12, 0.5, 1)]).latency_ms == 10


@pytest.mark.parametrize(
    ("fitting", "choice", "expected"),
    [
        ([FLOAT, INT8], "cheapest", INT8),
        ([FLOAT, INT8], "accurate", FLOAT),
        ([SMALL, SMALLEST], "cheapest", SMALLEST),
        ([SMALL, SMALLEST], "accurate", SMALL),
        (POINTS, "knee", SMALL),
        ([], "cheapest", None),
        ([], "knee", None),
    ],
)
def test_what_is_taken(fitting: list[Point], choice: str, expected: Point | None) -> None:
    assert choose(fitting, choice) == expected

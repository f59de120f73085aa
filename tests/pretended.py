"""Stand-ins for what would take long or depend on the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitsmith.evaluation.timing import Pace, Timing


def twice_as_fast(runs: Mapping[Any, Any], batch: int, pace: Pace) -> tuple[dict[Any, Timing], dict[Any, Exception]]:
    """In the place of `time_in_turns`: everything runs once, each takes half as long as the one before."""
    for run in runs.values():
        run()
    return {key: Timing(batch, ((0.5**number,),)) for number, key in enumerate(runs)}, {}

"""What a user asks for: scenario, task, budgets. Read from words as '30ms', checked with all mistakes at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from vitsmith.amounts import mebibytes, milliseconds
from vitsmith.arguments import MOST_AT_ONCE, MOST_THREADS, known_name, whole_number
from vitsmith.choosing.catalogue import TASKS
from vitsmith.choosing.figures import BUDGETS, Budgets
from vitsmith.choosing.scenarios import DEFAULT, Scenario, find_scenario, scenarios
from vitsmith.errors import InputError, UnknownNameError, shown

LICENCES = ("commercial",)
METRICS = {"classify": "imagenet", "zeroshot": "imagenet-zeroshot", "embed": "imagenet-knn"}
"""Task -> the published figure that ranks it."""
_MEBIBYTE = 2**20


@dataclass(frozen=True)
class Request:
    """A request that was checked."""

    scenario: Scenario
    task: str
    budgets: Budgets = field(default_factory=dict)
    """Limit by name: seconds (latency), images a second, bytes (memory, size), 10^9 operations."""
    own: frozenset[str] = frozenset()
    """Names of the budgets that the user gave; the others are the scenario's."""
    batch: int = 1
    threads: int | None = None
    commercial: bool = False
    timed: bool = True
    """Whether times of the scenario's machine can be predicted."""
    remarks: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        """Which published accuracy ranks."""
        return METRICS[self.task]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; seconds and bytes."""
        return {
            "scenario": self.scenario.name,
            "task": self.task,
            "metric": self.metric,
            "budgets": {name: self.budgets.get(name) for name in BUDGETS},
            "own_budgets": sorted(self.own),
            "batch": self.batch,
            "threads": self.threads,
            "commercial": self.commercial,
            "photo": list(self.scenario.photo),
        }


@dataclass(frozen=True)
class RequestOptions:
    """What a caller gives, as it was typed; everything is optional."""

    scenario: str = ""
    task: str = ""
    latency: str = ""
    throughput: float | None = None
    memory: str = ""
    size: str = ""
    batch: int | None = None
    threads: int | None = None
    licence: str = ""
    machine: bool = False
    """Whether a profile of the machine is given."""


class _Mistakes:
    """Collects mistakes, so that all are told at once."""

    def __init__(self) -> None:
        self.found: list[InputError] = []

    def catch(self, read: Callable[[], Any], otherwise: Any = None) -> Any:
        try:
            return read()
        except InputError as error:
            self.found.append(error)
            return otherwise

    def tell(self) -> None:
        if len(self.found) == 1:
            raise self.found[0]
        if self.found:
            raise InputError("; ".join(map(str, self.found)))


def make_request(asked: RequestOptions) -> Request:
    """The checked request; a budget of the caller replaces the scenario's of the same kind.

    Without a scenario, the budgets given are the only ones. Raises InputError with every mistake, UnknownNameError with
    the closest names where a scenario, task or licence is misspelt and nothing else is wrong.
    """
    mistakes = _Mistakes()
    scenario = mistakes.catch(lambda: find_scenario(_text(asked.scenario, "scenario") or DEFAULT), scenarios()[DEFAULT])
    task = mistakes.catch(lambda: _known(asked.task, "task", TASKS), "") or scenario.task
    given = read_budgets(asked, mistakes.catch)
    batch = mistakes.catch(lambda: _whole(asked.batch, "batch", MOST_AT_ONCE))
    threads = mistakes.catch(lambda: _whole(asked.threads, "threads", MOST_THREADS))
    licence = mistakes.catch(lambda: _known(asked.licence, "licence", LICENCES), "")
    timed = scenario.here or asked.machine
    if not timed:
        for name in sorted(set(given) & {"latency", "throughput", "memory"}):
            mistakes.found.append(InputError(_untimed(name, scenario.name)))
    alone = bool(given) and not asked.scenario
    standing = {} if alone else mistakes.catch(lambda: scenario_budgets(scenario, timed), {})
    mistakes.tell()
    remarks = () if asked.scenario or given else (f"no scenario and no budget: that of {DEFAULT} is taken",)
    return Request(
        scenario=scenario,
        task=task,
        budgets={name: limit for name in BUDGETS if (limit := given.get(name, standing.get(name))) is not None},
        own=frozenset(given),
        batch=batch or scenario.batch,
        threads=threads or scenario.threads or None,
        commercial=bool(licence),
        timed=timed,
        remarks=remarks,
    )


def read_budgets(asked: RequestOptions, catch: Callable[[Callable[[], Any]], Any]) -> dict[str, float]:
    """The budgets that a caller gave, in seconds, images a second and bytes; `catch` is given what may raise."""
    found = {
        "latency": catch(lambda: _seconds(asked.latency)),
        "throughput": catch(lambda: _rate(asked.throughput)),
        "memory": catch(lambda: _bytes("memory", asked.memory)),
        "size": catch(lambda: _bytes("size", asked.size)),
    }
    return {name: limit for name, limit in found.items() if limit is not None}


def scenario_budgets(scenario: Scenario, timed: bool) -> dict[str, float]:
    """The budgets of a scenario: operations stand for time where no time is known. Raises InputError."""
    found = {"size": _bytes("size", scenario.size)}
    if timed:
        found |= {
            "latency": _seconds(scenario.latency),
            "throughput": scenario.throughput,
            "memory": _bytes("memory", scenario.memory),
        }
    else:
        found["gflops"] = scenario.gflops
    return {name: limit for name, limit in found.items() if limit is not None}


def _untimed(name: str, scenario: str) -> str:
    return (
        f"`{name}` cannot be told for {scenario}, whose machine is not this one: give the profile that  vitsmith "
        f"calibrate --out  writes there as `machine`, or leave `{name}` out for an order without times"
    )


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"`{name}` must be text, as '20ms' or '300MB', not {shown(value)}")
    return value.strip()


def _seconds(text: Any) -> float | None:
    found = milliseconds("`latency`", _text(text, "latency"))
    return None if found is None else found / 1000


def _bytes(name: str, text: Any) -> float | None:
    found = mebibytes(f"`{name}`", _text(text, name))
    return None if found is None else round(found * _MEBIBYTE, 3)


def _rate(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InputError(f"`throughput` must be a number of images a second above 0, not {shown(value)}")
    return float(value)


def _whole(value: Any, name: str, most: int) -> int | None:
    return None if value is None else whole_number(value, f"`{name}`", most=most)


def _known(value: Any, name: str, known: tuple[str, ...]) -> str:
    text = value if isinstance(value, str) else known_name(value, name, known)
    if text and text not in known:
        raise UnknownNameError(name, text, known)
    return text

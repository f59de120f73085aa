"""The machine that is chosen for: this one, calibrated where needed, that of a profile, or one of which only the kind
is known."""

from __future__ import annotations

from collections.abc import Callable

from vitsmith.arguments import Tell
from vitsmith.choosing.candidates import Machine
from vitsmith.choosing.overhead import USUAL, measured_here, with_spread
from vitsmith.choosing.recommendation import Setup
from vitsmith.choosing.request import Request
from vitsmith.cost.calibrate import PRECISIONS, CalibrationError, Progress, calibrate, profile_of
from vitsmith.cost.cost import Cost, UnpredictedError
from vitsmith.cost.engine_times import EngineTimes
from vitsmith.cost.predict import Machine as ProfileOrFile
from vitsmith.cost.predict import cost_of, other_machine, profile_for
from vitsmith.cost.profile import EngineProfile, Profile
from vitsmith.engines.registry import ENGINES
from vitsmith.errors import InputError, MissingPackageError
from vitsmith.machine import describe_machine
from vitsmith.models.config import ModelConfig

OnProgress = Callable[[Progress], None]


def machine_of(
    request: Request,
    profile: ProfileOrFile | None = None,
    *,
    tell: Tell,
    on_progress: OnProgress = lambda _: None,
) -> Machine:
    """The machine of a request: that of `profile`, or this one, which is calibrated first where it was not yet.

    Raises InputError for a profile that is none, or has none of the scenario's engines, and MissingPackageError where
    no engine is installed.
    """
    if not request.timed:
        return _untimed(request)
    found = profile_for(profile, request.threads) if profile is not None else _calibrated(request, tell, on_progress)
    return machine_from(found, request)


def machine_from(profile: Profile, request: Request) -> Machine:
    """The machine of a profile. Raises InputError where it has nothing of what the scenario considers."""
    scenario = request.scenario
    chosen: dict[Setup, EngineProfile] = {}
    for one in profile.engines:
        known = one.engine in scenario.engines and one.precision in scenario.precisions
        if known and request.threads in (None, one.threads):
            chosen.setdefault(Setup(one.engine, one.precision), one)
    if not chosen:
        there = ", ".join(f"{one.engine} {one.precision} with {one.threads} threads" for one in profile.engines)
        wanted = " or ".join(scenario.engines) + ("" if request.threads is None else f", {request.threads} threads")
        raise InputError(f"the profile of {profile.machine} has {there}, and {scenario.name} is for {wanted}")
    times = {setup: EngineTimes(one) for setup, one in chosen.items()}

    def predict(config: ModelConfig, setup: Setup, batch: int, threads: int | None) -> Cost | None:
        plain = Setup(setup.engine, setup.precision)
        try:
            return cost_of(config, chosen[plain], batch=batch, times=times[plain]) if plain in chosen else None
        except UnpredictedError:
            return None

    here = profile.machine == describe_machine()
    overhead = measured_here(scenario.photo) if here else USUAL
    calls = [timed.seconds for one in chosen.values() for timed in one.timed if timed.goal == "latency"]
    remarks = [told for one in chosen.values() for told in other_machine(profile, one.engine)]
    remarks += [f"{setup}: {told}" for setup, one in chosen.items() for told in one.remarks]
    return Machine(
        setups=tuple(chosen),
        predict=predict,
        overhead=with_spread(overhead, calls),
        title=profile.machine,
        remarks=tuple(dict.fromkeys(remarks)),
    )


def _untimed(request: Request) -> Machine:
    """A machine of which only the kind is known: its usual engine, in all precisions of the scenario."""
    scenario = request.scenario
    told = (
        f"no time is known of a {scenario.name} machine: models are ordered by accuracy within size and operations; "
        "the profile that  vitsmith calibrate --out  writes on one gives times, as `machine`"
    )
    setups = tuple(Setup(scenario.engines[0], precision) for precision in scenario.precisions)
    return Machine(setups=setups, title="", remarks=(told,))


def _calibrated(request: Request, tell: Tell, on_progress: OnProgress) -> Profile:
    """The profile of this machine for the engines of the scenario that are installed; measures what is not known."""
    names = [name for name in request.scenario.engines if name in PRECISIONS]
    installed = [name for name in names if ENGINES[name].installed]
    if not installed:
        kind = ENGINES[(names or ["onnx"])[0]]
        raise MissingPackageError(kind.package, kind.extra)
    found: list[EngineProfile] = []
    failed: list[CalibrationError] = []
    for name in installed:
        try:
            found += calibrate(name, threads=request.threads, on_progress=on_progress).engines
        except CalibrationError as error:
            failed.append(error)
    if not found:
        raise failed[0]
    for left_out in failed:
        tell(f"left out: {left_out}")
    return profile_of(found)

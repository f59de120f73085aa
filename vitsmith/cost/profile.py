"""What calibration found out about a machine, and the file of it: the times themselves, so that it can be read anew."""

from __future__ import annotations

import math
import statistics
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from vitsmith.errors import InputError
from vitsmith.fields import Finite, Frozen, PositiveInt, Share, mistakes_in
from vitsmith.files.atomic import write_text
from vitsmith.json_text import read_json, to_json
from vitsmith.models.config import MixerConfig, ViTConfig

FORMAT = 1
DRIFT = 0.05
"""A reference model whose time changed by a larger share while others were measured is told."""
BUSY = 0.1
"""Share of the cores in use by other processes that is told."""
HELD_UP = 1.3
"""So many times the fastest call is no time of the engine alone."""

Seconds = Annotated[Finite, Field(gt=0)]


class Timed(Frozen):
    """A short model, how it was run, and the seconds of each call."""

    config: Annotated[ViTConfig | MixerConfig, Field(discriminator="family")]
    goal: Literal["latency", "throughput"]
    batch: PositiveInt
    seconds: tuple[Seconds, ...] = Field(min_length=1)
    reference: tuple[Seconds, ...] = Field(
        min_length=1, description="seconds of the reference model nearest in time to each call"
    )

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        if len(self.reference) != len(self.seconds):
            raise ValueError("seconds and reference must have one number for each call")
        return self

    def median(self, usual: float) -> float:
        """The median call on a machine that runs the reference model in `usual` seconds, as it mostly did.

        Calls that something held up are left out: of a handful of calls, one such would move the median.
        """
        most = HELD_UP * min(self.seconds)
        calls = zip(self.seconds, self.reference, strict=True)
        return statistics.median(one * usual / near for one, near in calls if one <= most)


class EngineProfile(Frozen):
    """One engine in one precision with a number of threads."""

    engine: str
    precision: str
    threads: PositiveInt
    version: str = Field(description="of the package of the engine")
    made: str = Field(description="the day, as 2026-12-01")
    timed: tuple[Timed, ...] = Field(min_length=1)
    reference: tuple[Seconds, ...] = Field(min_length=1, description="seconds of the reference model, in order")
    others: Share = Field(description="the share of the cores that other processes used meanwhile")
    peak: PositiveInt = Field(
        description="bytes of a process that opened the reference model and ran it, above a bare Python interpreter"
    )
    gpu: str = Field("", description="the GPU that it ran on; empty: the processor")

    @cached_property
    def usual(self) -> float:
        """Seconds of the reference model as it mostly was."""
        return statistics.median(self.reference)

    @cached_property
    def spread(self) -> float:
        """How unsteady the machine was: the deviation of the reference model's times, as a share of them.

        1.48 times the median distance from the median, which a few slow moments do not change.
        """
        logs = [math.log(one / self.usual) for one in self.reference]
        return 1.4826 * statistics.median(map(abs, logs)) if len(logs) > 2 else DRIFT

    @property
    def drift(self) -> float:
        """By which share the last third of the reference model's times is longer than the first."""
        third = max(len(self.reference) // 3, 1)
        return statistics.median(self.reference[-third:]) / statistics.median(self.reference[:third]) - 1

    @property
    def remarks(self) -> tuple[str, ...]:
        """What makes the measurement less sure."""
        told = []
        if self.gpu:
            told.append(f"times are those of its GPU, {self.gpu}; memory is that of the process, without the GPU's own")
        if self.others > BUSY:
            told.append(
                f"other processes used {self.others:.0%} of the cores during calibration: calibrate again on a quiet "
                "machine"
            )
        if abs(self.drift) > DRIFT:
            faster = "slower" if self.drift > 0 else "faster"
            told.append(
                f"the machine became {abs(self.drift):.0%} {faster} during calibration; times were rescaled to its "
                "usual speed"
            )
        return tuple(told)


class Profile(Frozen):
    """A machine, and its engines as far as they were calibrated."""

    format: Literal[1] = 1
    machine: str = Field(description="processor and cores, as describe_machine() has them")
    instructions: str = Field(description="a hash of the names of the processor's instruction sets")
    memory: PositiveInt = Field(description="bytes of memory that a process may have")
    vitsmith: str = Field(description="version")
    engines: tuple[EngineProfile, ...] = Field(min_length=1)

    def find(self, engine: str, precision: str, threads: int | None) -> EngineProfile:
        """The profile of an engine. Raises InputError that lists those there are."""
        able = [one for one in self.engines if (one.engine, one.precision) == (engine, precision)]
        for one in able:
            if threads in (None, one.threads):
                return one
        there = ", ".join(sorted({f"{one.engine} {one.precision} with {one.threads} threads" for one in self.engines}))
        wanted = f"{engine} {precision}" + ("" if threads is None else f" with {threads} threads")
        raise InputError(f"the profile of {self.machine} has no {wanted}: it has {there}; calibrate that too")


def read_profile(path: Path) -> Profile:
    """The profile in a file. Raises InputError for what is none, and for one of a newer format."""
    fields = read_json(path)
    if isinstance(fields, dict) and isinstance(fields.get("format"), int) and fields["format"] > FORMAT:
        raise InputError(f"{path} was written by a newer version of vitsmith: update vitsmith, or calibrate again")
    try:
        return Profile.model_validate(fields)
    except ValidationError as error:
        raise InputError(
            f"{path} is no profile of a machine, as  vitsmith calibrate --out  writes it ({mistakes_in(error)})"
        ) from None


def write_profile(profile: Profile, path: Path) -> None:
    """Writes the file."""
    write_text(path, to_json(profile_fields(profile), indent=1) + "\n")


def profile_fields(profile: Profile) -> dict[str, Any]:
    """Plain data, ready for JSON."""
    return profile.model_dump(mode="json") | {"format": profile.format}

"""`vitsmith.predict_cost`: what a model costs on a machine, without running it."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

from vitsmith.arguments import named_arguments, whole_number
from vitsmith.cost.calibrate import cached_profile, instructions
from vitsmith.cost.cost import Cost
from vitsmith.cost.engine_times import EngineTimes
from vitsmith.cost.memory import peak_memory_of
from vitsmith.cost.profile import EngineProfile, Profile, read_profile
from vitsmith.cost.size import size_of
from vitsmith.engines.registry import ENGINES
from vitsmith.engines.tuning_cache import installed_version
from vitsmith.errors import InputError, shown
from vitsmith.machine import describe_machine
from vitsmith.models.config import LiTConfig, MixerConfig, ModelConfig, ViTConfig
from vitsmith.models.configure import change, configure
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import read_bundle
from vitsmith.weights.bundle.paths import find_bundle

LARGEST_BATCH = 65_536
UNSTEADY = 0.03
"""Deviation of the speed of a quiet machine from one day, or one start of a process, to the next, as a share."""
STARTS = 1.5
"""So many times as large as from moment to moment is the deviation from one start of a process to the next. In one
trial on 2 cores a program differed by 6.5 % from start to start, and the reference by 3 to 6 % within a process."""
JITTER = 30e-6
"""Deviation in seconds of calls so short that waking the threads matters; assumed, not measured."""
NINETY = 1.645
"""Deviations from the middle to the ends of a 90 % interval."""

Model = str | os.PathLike[str] | ViTConfig | MixerConfig | LiTConfig | Bundle
Machine = Profile | str | os.PathLike[str]


@named_arguments
def predict_cost(
    model: Model,
    *,
    image_size: int | tuple[int, int] | None = None,
    engine: str = "auto",
    precision: str = "fp32",
    batch: int = 1,
    threads: int | None = None,
    machine: Machine | None = None,
) -> Cost:
    """What one call of `batch` images costs: time with its 90 % interval, peak memory, and size on disk.

    Nothing of the model is run, and no weights are read: short models of other sizes were timed by `vitsmith
    calibrate`, and their times are interpolated. The engine is opened for latency at batch 1, else for throughput.

    Args:
        model: the name of an architecture, a configuration, a bundle, or the folder of one. Of two towers it is that of
            images.
        image_size: pixels, an int or (height, width); default: those of the model.
        engine: 'torch', 'onnx' or 'openvino'; 'auto': the one with the least time.
        precision: 'fp32', 'bf16' or 'int8'.
        batch: images in a call.
        threads: processor threads; default: those that were calibrated.
        machine: a profile, or the file that `vitsmith calibrate --out` wrote; default: this machine, as calibrated.

    Raises InputError for a machine, an engine or a precision that was not calibrated, and for unknown names.
    """
    config = config_of(model, image_size)
    whole_number(batch, "`batch`", most=LARGEST_BATCH)
    if threads is not None:
        whole_number(threads, "`threads`")
    profile = profile_for(machine, threads)
    engines = sorted({one.engine for one in profile.engines if one.precision == precision}) or [engine]
    found = [profile.find(name, precision, threads) for name in (engines if engine == "auto" else [engine])]
    best = min((cost_of(config, one, batch=batch) for one in found), key=lambda cost: cost.latency)
    return replace(best, remarks=(*other_machine(profile, best.engine), *best.remarks))


def cost_of(config: ModelConfig, profile: EngineProfile, *, batch: int = 1, times: EngineTimes | None = None) -> Cost:
    """The cost by one engine's profile, whatever machine that is of; `times` saves fitting it anew."""
    times = times or EngineTimes(profile)
    predicted = times.predict(config, batch)
    steady = max(STARTS * profile.spread, UNSTEADY)
    deviation = math.hypot(predicted.deviation, steady, profile.others, JITTER / predicted.seconds)
    return Cost(
        latency=predicted.seconds,
        low=predicted.seconds * math.exp(-NINETY * deviation),
        high=predicted.seconds * math.exp(NINETY * deviation),
        peak_memory=peak_memory_of(config, profile, batch),
        size=size_of(config, profile.engine, profile.precision),
        engine=profile.engine,
        precision=profile.precision,
        batch=batch,
        threads=profile.threads,
        remarks=profile.remarks + times.remarks(config),
    )


def config_of(model: Model, image_size: int | tuple[int, int] | None = None) -> ModelConfig:
    """The configuration of a model, at another image size where one is given. Raises InputError, UnknownNameError."""
    sides = (image_size, image_size) if isinstance(image_size, int) else image_size
    if isinstance(model, str) and find_bundle(Path(model)) is None:
        return configure(model, image_size=sides)
    if isinstance(model, ViTConfig | MixerConfig | LiTConfig):
        config: ModelConfig = model
    elif isinstance(model, Bundle):
        config = model.config
    elif isinstance(model, str | os.PathLike) and (folder := find_bundle(Path(model))) is not None:
        config = read_bundle(folder, verify=False).config
    else:
        raise InputError(f"{shown(model)} is no model: give a name, a configuration, or the folder of a bundle")
    if sides is None or sides == config.image_size:
        return config
    if isinstance(config, LiTConfig):
        return change(config, image=change(config.image, image_size=sides).model_dump())
    return change(config, image_size=sides)


def profile_for(machine: Machine | None, threads: int | None = None) -> Profile:
    """The profile that was given, that of a file, or that of this machine. Raises InputError where there is none."""
    if isinstance(machine, Profile):
        return machine
    if machine is not None:
        if not isinstance(machine, str | os.PathLike):
            raise InputError(f"`machine` must be a profile or the file of one, not {shown(machine)}")
        try:
            return read_profile(Path(machine))
        except FileNotFoundError:
            raise InputError(
                f"{os.fspath(machine)} does not exist: write it on that machine with  vitsmith calibrate --out"
            ) from None
    found = cached_profile(threads)
    if found is None:
        with_threads = f" --threads {threads}" if threads else ""
        raise InputError(
            f"this machine is not calibrated yet: run  vitsmith calibrate{with_threads}  (20 seconds an engine and "
            "precision), or give the file of another machine as `machine`"
        )
    return found


def other_machine(profile: Profile, engine: str) -> tuple[str, ...]:
    """What differs between the machine of a profile and this one, which predictions are not for."""
    told = []
    if (profile.machine, profile.instructions) != (describe_machine(), instructions()):
        told.append(f"times are those of {profile.machine}, not of this machine")
    version = next(one.version for one in profile.engines if one.engine == engine)
    here = installed_version(ENGINES[engine].package)
    if here and here != version:
        told.append(
            f"the profile was made with {ENGINES[engine].package} {version}, and here is {here}: times may differ"
        )
    return tuple(told)

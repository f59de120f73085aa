"""Measures the peak memory of an engine in a process of its own, which may crash or run out of memory.

    python -m vitsmith.benchmark.memory '{"model": "pets-onnx", "engine": "onnx", "precision": "fp32", "threads": null,
                                          "goal": "throughput", "batches": [1, 8]}'

answers for each batch {"batch": 8, "peak": bytes, "device_peak": bytes}, or {"error": "..."}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vitsmith.machine import peak_memory
from vitsmith.process.child import answer_parent, try_in_child

COMMAND = (sys.executable, "-m", "vitsmith.benchmark.memory")
LONGEST = 1800
"""Longest time of the process, in seconds: torch-compiled takes minutes for large models."""


@dataclass(frozen=True)
class Task:
    """What the child process loads, opens and runs."""

    model: str
    """A bundle's folder, or whatever `vitsmith.load` takes."""
    engine: str
    precision: str
    threads: int | None
    goal: str
    batches: tuple[int, ...]
    """Batch sizes, ascending, so that no peak includes memory of a larger batch."""
    image_size: tuple[int, int] | None = None
    """(height, width), which `load` cannot find in some checkpoints."""
    read_as: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `load` that say how the arrays of a checkpoint are read."""


@dataclass(frozen=True)
class Memory:
    """Peak memory of a process that loads the model, opens the engine and runs a batch."""

    bytes: int
    """Bytes above those of a bare Python interpreter: libraries, weights and the engine's work space."""
    device_bytes: int = 0
    """Bytes on a GPU, as torch counts them."""


@dataclass(frozen=True)
class Died:
    """A child process that failed, and why."""

    reason: str


def measure_memory(task: Task, command: Sequence[str] = COMMAND) -> dict[int, Memory | Died]:
    """By batch size, the memory or why there is none. If a batch kills the process, smaller batches keep theirs."""
    done = try_in_child(command, asdict(task), seconds=LONGEST)
    found: dict[int, Memory | Died] = {}
    ended = f"its process {done.how}"
    for answer in done.answers:
        if "error" in answer:
            ended = str(answer["error"])
        else:
            found[answer["batch"]] = Memory(answer["peak"], answer["device_peak"])
    return {batch: found.get(batch, Died(ended)) for batch in task.batches}


def measure_here(task: Task, bare: int, report: Callable[[Mapping[str, Any]], None]) -> None:
    """Loads, opens and runs in this process; subtracts `bare` bytes from each peak. Raises what these steps raise."""
    from vitsmith.engines.golden_answers import open_checked
    from vitsmith.engines.sample_inputs import sample_inputs
    from vitsmith.engines.settings import Settings
    from vitsmith.weights.load import load

    bundle = load(task.model, image_size=task.image_size, headless=None, **task.read_as)
    goal: Any = task.goal
    settings = Settings(threads=task.threads, precision=task.precision, goal=goal, measure=True)
    engine = open_checked(bundle, task.engine, settings)
    for batch in task.batches:
        inputs = sample_inputs(bundle, batch)
        for _ in range(2):  # some engines allocate memory in the second call too
            engine.run_pixels(inputs) if bundle.program_spec.pixels else engine.run(inputs)
        report({"batch": batch, "peak": peak_memory() - bare, "device_peak": _device_peak()})


def _device_peak() -> int:
    torch = sys.modules.get("torch")
    return torch.cuda.max_memory_allocated() if torch is not None and torch.cuda.is_initialized() else 0


def main(text: str) -> None:
    """Runs the task in `text`, JSON, and answers for each batch."""
    bare = peak_memory()
    answer = answer_parent()
    fields = json.loads(text)
    size = fields["image_size"] and tuple(fields["image_size"])
    task = Task(**fields | {"batches": tuple(fields["batches"]), "image_size": size})
    from vitsmith.errors import VitsmithError

    try:
        measure_here(task, bare, answer)
    except VitsmithError as error:
        answer({"error": str(error)})
    except Exception as error:  # whatever a foreign runtime throws
        answer({"error": described(error)})


def described(error: BaseException) -> str:
    """An exception in one line; with its type unless it is one of ours."""
    from vitsmith.errors import VitsmithError

    line = (str(error).strip().splitlines() or [""])[0][:200]
    return line if isinstance(error, VitsmithError) else f"{type(error).__name__}: {line}" if line else repr(error)


if __name__ == "__main__":
    main(sys.argv[1])

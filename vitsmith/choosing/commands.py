"""The commands that come next: from a name in a table to a program that runs and is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vitsmith.choosing.recommendation import Recommendation
from vitsmith.escapes import shell_quoted
from vitsmith.runs.place import default_place, model_name

PROGRAMS = ("onnx", "openvino", "executorch")
"""Engines whose programs `export` makes; torch runs the weights themselves."""


@dataclass(frozen=True)
class Step:
    """One command, and what it is for."""

    purpose: str
    command: str

    def to_dict(self) -> dict[str, str]:
        """Plain data, ready for JSON."""
        return {"purpose": self.purpose, "command": self.command}


def next_steps(row: Recommendation, task: str, *, browser: bool = False) -> list[Step]:
    """The commands for a row, in their order. DATA, IMAGES and labels stand for the user's own."""
    steps, model = [], row.source
    labelled = task == "classify"
    steps.append(Step("Download it, and look at it:", f"vitsmith inspect {shell_quoted(model)}"))
    made = list(_made(row, labelled))
    if browser and row.setup.precision != "int8" and row.setup.keep == 1:
        made = []  # the page is made from the weights
    for step, place in made:
        steps.append(step)
        model = place
    if browser:
        return [*steps, Step("A page that runs it:", f"vitsmith export {shell_quoted(model)} --to web")]
    steps.append(Step("Measure it here:", _benchmark(row, model)))
    return [*steps, *_used(row, model, task)]


def _made(row: Recommendation, labelled: bool) -> Iterator[tuple[Step, str]]:
    """The steps that make a program, each with the place of what it makes."""
    model, setup = row.source, row.setup
    images = "--data DATA" if labelled else "--images IMAGES"
    if setup.keep < 1:
        command = f"vitsmith merge-tokens {shell_quoted(model)} {images} --keep {setup.keep:g}"
        model = _place("merge-tokens", model_name(model))
        yield Step("Merge tokens; the gate compares the answers:", command), model
    if setup.precision == "int8" and setup.engine in ("onnx", "openvino"):
        command = f"vitsmith quantize {shell_quoted(model)} {images} --engine {setup.engine}"
        yield (
            Step("Make it int8; the gate compares the answers:", command),
            _place("quantize", f"{model_name(model)}-{setup.engine}"),
        )
        return
    if setup.engine in PROGRAMS:
        in_program = setup.precision in ("fp16", "int8") or (setup.precision == "bf16" and setup.engine == "executorch")
        suffix = f"-{setup.precision}" if in_program else ""
        command = f"vitsmith export {shell_quoted(model)} --to {setup.engine}"
        command += f" --precision {setup.precision}" if in_program else ""
        yield (
            Step("Make a program that needs no torch:", command),
            _place("export", f"{model_name(model)}-{setup.engine}{suffix}"),
        )


def _benchmark(row: Recommendation, model: str) -> str:
    batches = " ".join(f"--batch-size {batch}" for batch in sorted({1, row.batch}))
    threads = f" --threads {row.threads}" if row.threads else ""
    return (
        f"vitsmith benchmark {shell_quoted(model)} --engine {row.setup.engine} --precision {row.setup.precision} "
        f"{batches}{threads}"
    )


def _used(row: Recommendation, model: str, task: str) -> Iterator[Step]:
    how = f"--engine {row.setup.engine} --precision {row.setup.precision}"
    if task == "zeroshot":
        yield Step("Use it:", f"vitsmith zeroshot {shell_quoted(model)} IMAGES --labels 'cat, dog' {how}")
    elif task == "embed":
        yield Step("Use it:", f"vitsmith embed {shell_quoted(model)} IMAGES --out index {how}")
    else:
        yield Step("Use it:", f"vitsmith predict {shell_quoted(model)} IMAGES {how}")
        yield Step("For classes of your own:", f"vitsmith train DATA --model {shell_quoted(row.source)}")


def _place(verb: str, name: str) -> str:
    return (default_place(verb, name) / "model").as_posix()

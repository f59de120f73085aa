"""Builds what a row describes, to be timed: through the real writers, with the checkpoint's weights or random ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from vitsmith.choosing.candidates import image_tower, with_merging
from vitsmith.choosing.catalogue import Checkpoint
from vitsmith.choosing.recommendation import Setup
from vitsmith.compress.quantize.run import PROGRAMS
from vitsmith.compress.quantize.schemes import Scheme
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.exporters.parts import Part, parts_of
from vitsmith.exporters.targets import TARGETS
from vitsmith.models.build import build
from vitsmith.models.config import ImageModelConfig
from vitsmith.specs import Program, ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import write_bundle
from vitsmith.weights.bundle.paths import program_file
from vitsmith.weights.load import load
from vitsmith.weights.save import save

WritePart = Callable[[Part, Path, ProgramSpec], None]
_CALIBRATION = 4  # images: int8 takes the same time whatever its scales are
_INT8 = Scheme("static")
"""The scheme that `quantize` keeps where its answers are good enough: those it keeps otherwise leave more in float."""


def build_to_time(checkpoint: Checkpoint, setup: Setup, folder: Path, *, local: bool) -> Bundle:
    """A bundle in `folder` that takes the time of the row's, and need not answer well: no gate compares its answers.

    With `local` the weights are the checkpoint's, else random; then of two towers it is that of images.
    Raises InputError for an engine that has no writer, MissingPackageError, OutputError.
    """
    return write_to_time(_weights(checkpoint, setup, local=local), setup, folder)


def write_to_time(bundle: Bundle, setup: Setup, folder: Path) -> Bundle:
    """The same of a bundle of torch weights."""
    if setup.engine.startswith("torch"):
        save(bundle, folder)
        return load(folder)
    return _program(bundle, setup, folder)


def _weights(checkpoint: Checkpoint, setup: Setup, *, local: bool) -> Bundle:
    if local:
        return load(checkpoint.source, headless=checkpoint.headless)
    config = checkpoint.config
    if setup.keep < 1:
        config = with_merging(config) or config
    return random_bundle(image_tower(config))


def random_bundle(config: ImageModelConfig) -> Bundle:
    """A model with random weights that gives every image other answers, and computes all that a trained one does.

    Of fresh weights a head is zero, so are biases, and factors are one: engines leave out what adds 0 or multiplies
    by 1.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = build(config)
        for parameter in model.parameters():
            if parameter.ndim == 1 or not parameter.any():
                parameter.add_(torch.empty_like(parameter).normal_(std=0.02))
    return Bundle.of(model)


def _program(bundle: Bundle, setup: Setup, folder: Path) -> Bundle:
    """The program of torch weights, written as `export` and `quantize` write it."""
    images = sample_images(_CALIBRATION)
    tensors = np.stack([preprocess(image, bundle.preprocessing) for image in images])
    parts = parts_of(bundle, tensors[:2])
    exporter = TARGETS[setup.engine].exporter()
    assert exporter.write is not None
    if setup.precision == "int8":
        files = folder.with_name(f"{folder.name}-float")
        files.mkdir()
        programs = PROGRAMS[setup.engine](parts, files)
        spec = ProgramSpec(precision="int8", rest=programs.rests[0])
        write: Callable[[Path], None] = partial(programs.write, _INT8, tensors)
    else:
        spec = ProgramSpec()  # bf16 is computed from the same program
        write = partial(_write_float, exporter.write, parts, exporter.program)
    described = bundle.as_program(
        exporter.program, spec, "made to be timed: its answers were not compared", by="vitsmith recommend"
    )
    return write_bundle(replace(described, golden=None), folder, write_program=write)


def _write_float(
    write: Callable[[Part, Path, ProgramSpec], None], parts: list[Part], program: Program, to: Path
) -> None:
    for part in parts:
        write(part, to / program_file(part.name, program), ProgramSpec())

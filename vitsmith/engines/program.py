"""The common part of the engines that run exported programs."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from vitsmith.arrays import Array
from vitsmith.engines.pixels import pixels_from_tensors
from vitsmith.engines.ports import check_outputs
from vitsmith.engines.protocol import PRECISION_WORDS, shown_engine
from vitsmith.errors import BundleError, InputError, VitsmithError
from vitsmith.escapes import shortened
from vitsmith.finite import require_finite_inputs, require_finite_outputs
from vitsmith.models.config import LiTConfig
from vitsmith.models.cost import flops
from vitsmith.models.inputs import check_images, check_pixels, check_tokens
from vitsmith.process.forks import require_own_process
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.paths import program_file

SMALL_FLOPS = 10**8
"""Models with fewer floating-point operations for an image are not measured: a core runs a thousand such images a
second, and there is less to gain than it takes to read an image."""


class OpenProgram(Protocol):
    """An open program with one input and one output, for any batch."""

    def run(self, inputs: Array) -> Array: ...


class ProgramEngine(ABC):
    """The base of the engines of exported programs: it handles pixels, and opens the text program on first use."""

    name: str
    why = ""

    def __init__(self, bundle: Bundle) -> None:
        self._folder = bundle.place
        self._bundle, self._spec = bundle, bundle.program_spec
        self.precision = PRECISION_WORDS[self._spec.arithmetic]
        self._texts: OpenProgram | None = None
        self._process, self._opening = os.getpid(), threading.Lock()

    def __repr__(self) -> str:
        return shown_engine(self.name, self.precision, str(self._folder), self.why)

    @property
    @abstractmethod
    def _program(self) -> OpenProgram:
        """The image program."""

    @property
    def _survives_forks(self) -> bool:
        """Whether it has no threads of its own."""
        return False

    def __reduce__(self) -> Any:
        raise InputError(
            f"an open engine of {self._folder} cannot be sent to another process: send the path, and open it there"
        )

    @abstractmethod
    def _open_texts(self, path: Path) -> OpenProgram:
        """Opens the text program."""

    def _path(self, part: Literal["model", "text"]) -> Path:
        return self._folder / program_file(part, self._bundle.program)

    def run(self, images: Array) -> Array:
        self._check_process()
        check_images(images, self._bundle.preprocessing.size)
        tensors = images.astype(np.float32, copy=False)
        if self._spec.pixels or self._spec.precision == "int8":  # there NaN would become a number, unnoticed
            require_finite_inputs(tensors, self._bundle.where)
        inputs = pixels_from_tensors(tensors, self._bundle.preprocessing) if self._spec.pixels else tensors
        return self._answers(self._program, inputs, tensors)

    def run_pixels(self, pixels: Array) -> Array:
        if not self._spec.pixels:
            raise InputError(f"{self._folder} takes normalised images, not pixels: export the model with `pixels`")
        self._check_process()
        check_pixels(pixels, self._bundle.preprocessing.size)
        return self._answers(self._program, pixels, pixels)

    def run_texts(self, tokens: Array) -> Array:
        self._check_process()
        with self._opening:  # one thread opens it, others wait
            if self._texts is None:
                path = self._path("text")
                if not path.exists():
                    raise InputError(
                        f"{self._folder} is a model of images alone: it cannot read text; export a LiT model"
                    )
                self._texts = self._open_texts(path)
        if isinstance(self._bundle.config, LiTConfig):
            check_tokens(tokens, self._bundle.config.text.length)
        return self._answers(self._texts, tokens, tokens, what="text")

    def _answers(self, program: OpenProgram, inputs: Array, given: Array, *, what: str = "image") -> Array:
        """The outputs of a program for `inputs`, which were made from `given`. Raises BundleError, NotFiniteError."""
        where = self._bundle.where
        try:
            outputs = program.run(inputs)
        except VitsmithError:
            raise
        except Exception as error:  # the runtimes' own have no common base
            raise BundleError(f"{where}: {self.name} {_failed(error)}") from error
        classes = self._bundle.classes
        return require_finite_outputs(check_outputs(where, inputs, outputs, classes), given, where, what=what)

    def _check_process(self) -> None:
        if not self._survives_forks:
            require_own_process(self._process, self._bundle.where)


def _failed(error: Exception) -> str:
    """The message for an error of a runtime."""
    reason = shortened(" ".join(str(error).split()), 300) or type(error).__name__
    if isinstance(error, MemoryError) or "alloc" in reason:
        return f"failed ({reason}): if memory is short, give it fewer images at once"
    return f"cannot run its program ({reason}): export it again"


def is_small(bundle: Bundle) -> bool:
    """Whether the model is too small to be worth measuring."""
    return flops(bundle.config) < SMALL_FLOPS

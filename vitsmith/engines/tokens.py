"""`open_tokens`: an engine that gives the class token or the patches of images, not the pooled feature."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from vitsmith.arrays import Array
from vitsmith.engines.graph_report import GraphReport
from vitsmith.engines.open import open_program
from vitsmith.engines.protocol import Engine
from vitsmith.errors import InputError
from vitsmith.models.config import ImageModelConfig, LiTConfig, ViTConfig, merges
from vitsmith.weights.bundle.bundle import Bundle

Tokens = Literal["class", "patches"]


def open_tokens(
    bundle: Bundle, what: Tokens, engine: str = "auto", *, threads: int | None = None, precision: str = "auto"
) -> tuple[Bundle, TokenEngine]:
    """Returns the bundle with its torch weights, and the engine; arguments as for `open_program`.

    Raises InputError for exported programs, which give the pooled feature alone, for a model without a class token, and
    for patches of a model that merges tokens.
    """
    tower = image_tower(bundle)
    if what == "class" and not getattr(tower, "class_token", False):
        raise InputError(f"{bundle.where} has no class token: give 'patches', or 'pooled'")
    if what == "patches" and merges(tower):
        raise InputError(
            f"{bundle.where} merges tokens, so its patches are not all there at the end: give the model before merging"
        )
    if all(program != "torch" for program in (bundle.program, *(one.program for one in bundle.programs))):
        raise InputError(
            f"{bundle.where} is an exported program, which gives the pooled feature alone: give the bundle that it was "
            "exported from"
        )
    if engine not in ("auto", "torch"):
        raise InputError(f"the engine {engine!r} gives the pooled feature alone: {what!r} needs 'torch', or 'auto'")
    opened, running = open_program(bundle, "torch", threads=threads, precision=precision)
    assert isinstance(running, _GivesTokens)
    return opened, TokenEngine(running, tower, what)


def image_tower(bundle: Bundle) -> ImageModelConfig:
    """The configuration of what reads the images."""
    return bundle.config.image if isinstance(bundle.config, LiTConfig) else bundle.config


@runtime_checkable
class _GivesTokens(Engine, Protocol):
    def run_tokens(self, images: Array) -> Array: ...


class TokenEngine:
    """Gives 'class', (batch, width), or 'patches', (batch, rows, columns, width).

    They are `model.features(images).tokens`, as the last block and its norm leave them: not projected, not divided by
    their length; distillation token and registers are not among the patches.
    """

    def __init__(self, engine: _GivesTokens, tower: ImageModelConfig, what: Tokens) -> None:
        self._engine, self._what = engine, what
        self._before = tower.prefix if isinstance(tower, ViTConfig) else 0
        self._shape = (*tower.grid, tower.width)
        self.name, self.precision, self.why = engine.name, engine.precision, "torch alone gives single tokens"

    def __repr__(self) -> str:
        return f"<{self._what} of {self._engine!r}>"

    def run(self, images: Array) -> Array:
        """float32 (batch, 3, height, width) in the range of the bundle's ImageSpec -> float32 tokens, any batch."""
        tokens = self._engine.run_tokens(images)
        if self._what == "class":
            return tokens[:, 0]
        return tokens[:, self._before :].reshape(len(tokens), *self._shape)

    def run_pixels(self, pixels: Array) -> Array:
        """Raises InputError: torch weights take normalised images."""
        return self._engine.run_pixels(pixels)

    def run_texts(self, tokens: Array) -> Array:
        """Raises InputError: texts have one vector, which is not comparable with tokens of images."""
        raise InputError(f"texts have no {self._what}, and embeddings of texts compare with pooled features alone")

    def report(self) -> GraphReport:
        """That of the engine."""
        return self._engine.report()

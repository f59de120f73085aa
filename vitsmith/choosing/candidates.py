"""Candidates: each checkpoint in each setup of an engine, with what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from vitsmith.choosing.catalogue import Checkpoint
from vitsmith.choosing.figures import Mark, MarkedFigure, computed, published
from vitsmith.choosing.overhead import USUAL, Overhead
from vitsmith.choosing.recommendation import UNVERIFIED, Recommendation, Setup
from vitsmith.choosing.request import Request
from vitsmith.compress.merge_tokens.schedules import saved, spread
from vitsmith.cost.cost import Cost
from vitsmith.models.config import ImageModelConfig, LiTConfig, ModelConfig, ViTConfig, impossible_parts
from vitsmith.models.cost import flops, parameters

Predict = Callable[[ModelConfig, Setup, int, int | None], Cost | None]
"""(configuration, setup, batch, threads) -> cost; None where it cannot be predicted."""
MERGED = 0.6
"""Share of the patches that the merged variant merges, the same number in each block: about a third of the
arithmetic."""
MEMORY_ERROR, SIZE_ERROR = 0.25, 0.02
"""Largest relative errors of predicted memory and size: the ends of their intervals."""
BYTES = {"fp32": 4.0, "fp16": 2.0, "bf16": 4.0, "int8": 1.0}
"""Bytes of a weight on disk where no engine is known; a program that runs in bf16 keeps its weights in fp32."""


@dataclass(frozen=True)
class Machine:
    """The machine that is chosen for: the setups its engines run, and what they cost there."""

    setups: tuple[Setup, ...]
    predict: Predict | None = None
    """None where no time of this machine is known."""
    overhead: Overhead = USUAL
    title: str = ""
    remarks: tuple[str, ...] = field(default=())


def candidates(checkpoints: Iterable[Checkpoint], request: Request, machine: Machine) -> list[Recommendation]:
    """A row for each eligible checkpoint and setup. The cost of an architecture is predicted once for each setup."""
    coster = _Coster(request, machine)
    return [row for one in checkpoints if eligible(one, request) for row in coster.rows(one)]


def eligible(checkpoint: Checkpoint, request: Request) -> bool:
    """Whether a checkpoint does the task, has a published accuracy for it, and a licence that fits."""
    fits = checkpoint.commercial is True or not request.commercial
    return fits and request.task in checkpoint.tasks and request.metric in checkpoint.accuracy


def with_merging(config: ModelConfig) -> ModelConfig | None:
    """The configuration whose blocks merge tokens; None where its tokens cannot merge."""
    tower = config.image if isinstance(config, LiTConfig) else config
    if not isinstance(tower, ViTConfig) or tower.pooling in ("unpooled", "token_unpooled") or tower.depth < 2:
        return None
    patches = tower.tokens - tower.prefix
    merged = tower.model_copy(update={"merge": spread(tower, "constant", int(MERGED * patches))})
    if tower.merge or patches < 2 or impossible_parts(merged):
        return None
    return config.model_copy(update={"image": merged}) if isinstance(config, LiTConfig) else merged


def image_tower(config: ModelConfig) -> ImageModelConfig:
    """What an image goes through."""
    return config.image if isinstance(config, LiTConfig) else config


class _Coster:
    """Figures of checkpoints; those of equal configurations are predicted once."""

    def __init__(self, request: Request, machine: Machine) -> None:
        self._request, self._machine = request, machine
        self._known: dict[tuple[ModelConfig, Setup, int], Cost | None] = {}
        self._merged: dict[ModelConfig, tuple[ModelConfig, float] | None] = {}

    def rows(self, checkpoint: Checkpoint) -> Iterator[Recommendation]:
        """All setups; merging only with the engine that is the fastest in fp32."""
        plain = [row for setup in self._machine.setups for row in self._row(checkpoint, checkpoint.config, setup)]
        yield from plain
        whole = [row for row in plain if row.setup.precision == "fp32" and row.median is not None]
        if whole and (found := self._with_merging(checkpoint.config)):
            fastest = min(whole, key=lambda row: row.pace).setup
            yield from self._row(checkpoint, found[0], Setup(fastest.engine, fastest.precision, found[1]))

    def _with_merging(self, config: ModelConfig) -> tuple[ModelConfig, float] | None:
        """The merged configuration, and the share of the arithmetic that is left."""
        if config not in self._merged:
            merged = with_merging(config)
            keep = merged and 1 / saved(image_tower(config), image_tower(merged).merge)  # type: ignore[arg-type,union-attr]
            self._merged[config] = (merged, round(keep, 2)) if merged and keep else None
        return self._merged[config]

    def _row(self, checkpoint: Checkpoint, config: ModelConfig, setup: Setup) -> Iterator[Recommendation]:
        request, machine = self._request, self._machine
        row = Recommendation(
            checkpoint=checkpoint,
            setup=setup,
            batch=request.batch,
            threads=request.threads,
            metric=request.metric,
            accuracy=published(checkpoint.accuracy[request.metric], checkpoint.accuracy_source),
            latency=None,
            median=None,
            throughput=None,
            memory=None,
            size=computed(BYTES.get(setup.precision, 4.0) * parameters(config)),
            gflops=flops(image_tower(config)) / 1e9,
            remarks=tuple(_remarks(setup)),
        )
        if machine.predict is None:
            yield row
        elif (one := self._cost(config, setup, 1)) and (batch := self._cost(config, setup, request.batch)):
            yield _with_costs(row, one, batch, machine.overhead.answer(one, request.scenario.photo, row.image_size))

    def _cost(self, config: ModelConfig, setup: Setup, batch: int) -> Cost | None:
        """The predicted cost; None where this engine cannot be predicted to run it so."""
        key = (config, setup, batch)
        if key not in self._known:
            assert self._machine.predict is not None
            self._known[key] = self._machine.predict(config, setup, batch, self._request.threads)
        return self._known[key]


def _with_costs(row: Recommendation, one: Cost, batch: Cost, answer: MarkedFigure) -> Recommendation:
    """The row with the costs of one image and of a batch, and the latency from bytes to answer."""
    return replace(
        row,
        threads=one.threads,
        latency=answer,
        median=MarkedFigure(one.latency, one.low, one.high, Mark.predicted, "calibration"),
        throughput=_throughput(batch),
        memory=_around(max(one.peak_memory, batch.peak_memory), MEMORY_ERROR),
        size=_around(one.size, SIZE_ERROR),
        remarks=(*row.remarks, *dict.fromkeys((*one.remarks, *batch.remarks))),
    )


def _throughput(cost: Cost) -> MarkedFigure:
    rate = cost.images_per_second
    return MarkedFigure(rate, cost.batch / cost.high, cost.batch / cost.low, Mark.predicted, "calibration")


def _around(value: float, error: float) -> MarkedFigure:
    return MarkedFigure(value, value * (1 - error), value * (1 + error), Mark.predicted, "calibration")


def _remarks(setup: Setup) -> Iterator[str]:
    if setup.precision == "int8":
        yield UNVERIFIED.format(verb="quantize")
    elif setup.precision != "fp32":
        yield UNVERIFIED.format(verb="export")
    if setup.keep < 1:
        yield UNVERIFIED.format(verb="merge-tokens")

"""The times of one engine in one precision, as its profile has them: which predictor is asked, and for how many images.

OpenVINO computes batches in chunks of a fixed size, several at once, so what it is opened for decides; the other
engines compute all images of a call together, however they were opened.
"""

from __future__ import annotations

from functools import cached_property

from vitsmith.cost.predictor import Seconds, TimePredictor
from vitsmith.cost.probes import BATCH
from vitsmith.cost.profile import EngineProfile
from vitsmith.engines.plan import default_plan
from vitsmith.models.config import LiTConfig, MixerConfig, ModelConfig

CHUNKED = ("openvino",)


class EngineTimes:
    """Predicts times by one profile; made once, it is quick to ask."""

    def __init__(self, profile: EngineProfile) -> None:
        self.profile = profile

    @cached_property
    def _latency(self) -> TimePredictor:
        chunked = self.profile.engine in CHUNKED
        timed = [one for one in self.profile.timed if one.goal == "latency" or not chunked]
        return TimePredictor(timed, self.profile.usual)

    @cached_property
    def _throughput(self) -> TimePredictor:
        if self.profile.engine not in CHUNKED:
            return self._latency
        timed = [one for one in self.profile.timed if one.goal == "throughput"]
        return TimePredictor(timed, self.profile.usual, self._latency.form) if timed else self._latency

    @cached_property
    def _largest(self) -> tuple[int, int]:
        """The most tokens and the largest width of what was timed."""
        plain = [one.config for one in self.profile.timed if not isinstance(one.config, MixerConfig)]
        return max(one.tokens for one in plain), max(one.width for one in plain)

    def predict(self, config: ModelConfig, batch: int) -> Seconds:
        """The median time of one call of `batch` images, opened for latency at batch 1, else for throughput."""
        if batch == 1:
            return self._latency.predict(config, 1)
        if self.profile.engine not in CHUNKED:
            return self._throughput.predict(config, batch)
        found = self._throughput.predict(config, BATCH)
        return Seconds(found.seconds * self._rounds(batch) / self._rounds(BATCH), found.deviation)

    def _rounds(self, batch: int) -> int:
        """How often all streams begin a chunk for a call of `batch` images."""
        plan = default_plan("throughput", self.profile.threads)
        return -(-batch // (plan.chunk * plan.streams))

    def remarks(self, config: ModelConfig) -> tuple[str, ...]:
        """What was not measured near `config`."""
        tower = config.image if isinstance(config, LiTConfig) else config
        guessed = self._latency.guessed_parts(config)
        told = [f"the time of {', '.join(guessed)} was not measured on this engine, and is guessed"] if guessed else []
        if isinstance(tower, MixerConfig):
            return tuple(told)
        most_tokens, most_width = self._largest
        for name, value, largest in (("tokens", tower.tokens, most_tokens), ("width", tower.width, most_width)):
            if value > largest:
                told.append(f"extrapolated: {name} of {value:,}, and at most {largest:,} were timed")
        return tuple(told)

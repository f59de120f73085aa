"""The peak memory of a process that runs a model: what its engine takes by itself, copies of weights, and work space.

Above a bare Python interpreter, with all libraries, and after the golden answers were checked, as `vitsmith benchmark`
measures it. What the engine takes by itself was measured by calibration; how often it holds the weights, and how much
work space an image takes, are properties of the engines (benchmarks/results/memory_prediction_*.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from vitsmith.cost.engine_times import CHUNKED
from vitsmith.cost.probes import REFERENCE
from vitsmith.cost.profile import EngineProfile
from vitsmith.engines.plan import default_plan
from vitsmith.models.config import ImageModelConfig, LiTConfig, ModelConfig
from vitsmith.models.cost import parameters


@dataclass(frozen=True)
class Copies:
    """What an engine holds in memory at once."""

    weights: float
    """Bytes for each byte of the weights in float32."""
    tokens: float
    """float32 numbers for each number of the tokens of one image, (tokens, width)."""
    images: float
    """float32 numbers for each number of an image, (3, height, width)."""
    together: int = 2
    """Images that are computed at once in any case: the golden examples."""


COPIES = {
    ("torch", "fp32"): Copies(1.03, 22.0, 2.0),
    ("torch", "bf16"): Copies(2.03, 22.0, 2.0),
    ("onnx", "fp32"): Copies(1.13, 22.0, 2.0),
    ("onnx", "int8"): Copies(0.6, 22.0, 2.0),
    ("openvino", "fp32"): Copies(2.0, 22.0, 2.0),
    ("openvino", "bf16"): Copies(2.5, 22.0, 2.0),
    ("openvino", "int8"): Copies(0.6, 22.0, 2.0),
}


def peak_memory_of(config: ModelConfig, profile: EngineProfile, batch: int) -> int:
    """Bytes above those of a bare Python interpreter."""
    copies = COPIES[profile.engine, profile.precision]
    alone = profile.peak - _own(REFERENCE.config, copies, 1, 1)
    at_once = max(batch, copies.together)
    if profile.engine in CHUNKED:
        plan = default_plan("latency" if batch == 1 else "throughput", profile.threads)
        at_once = min(at_once, plan.chunk * plan.streams) if batch > 1 else 1
    return round(alone + _own(config, copies, at_once, batch))


def _own(config: ModelConfig, copies: Copies, at_once: int, batch: int) -> float:
    """Bytes of the model itself: `at_once` images are computed at once, of `batch`."""
    tower: ImageModelConfig = config.image if isinstance(config, LiTConfig) else config
    height, width = tower.image_size
    tokens = at_once * tower.tokens * tower.width * copies.tokens
    images = batch * 3 * height * width * copies.images
    return 4 * (parameters(config) * copies.weights + tokens + images)

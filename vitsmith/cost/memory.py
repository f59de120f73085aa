"""The peak memory of a process that runs a model: what its engine takes by itself, weights, and work space.

Above a bare Python interpreter, with all libraries, and after the golden answers were checked, as `vitsmith benchmark`
measures it. What the engine takes by itself was measured by calibration; how often it holds the weights, and how much
work space an image takes, are properties of the engines, fitted to benchmarks/results/memory_prediction-fitted_*.md.
Work space is counted in `live_numbers`: the most numbers that an image holds at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from vitsmith.cost.engine_times import CHUNKED
from vitsmith.cost.probes import REFERENCE
from vitsmith.cost.profile import EngineProfile
from vitsmith.engines.plan import default_plan
from vitsmith.models.config import ImageModelConfig, LiTConfig, ModelConfig
from vitsmith.models.cost import live_numbers, parameters

MB = 1_000_000
CHECKED = 2
"""Images of the golden examples, which are run at once before anything else."""


@dataclass(frozen=True)
class EngineHoldings:
    """What an engine holds in memory of a model."""

    loading: float
    """Bytes for each byte of the weights in float32, at the fullest moment of opening."""
    weights: float
    """The same once it is open."""
    work: float
    """Bytes of work space for each byte of the live numbers of the images that are computed at once."""
    images: float
    """Copies of the images in float32."""
    planned: float = 0.0
    """The same as `work` of a batch that comes again, beside what its first call took."""
    number: int = 4
    """Bytes of a number of work space."""
    fused: bool = True
    """Whether attention never holds its scores."""
    stream: int = 0
    """Bytes of each further request that is computed at once."""
    block: int = 0
    """Bytes of the compiled kernels of a block."""
    bundle: int = 0
    """Bytes that a process which loads a bundle takes more than that of calibration, which makes random weights. It is
    fitted, and negative where the libraries of calibration take more."""


HELD = {
    # bf16 is a copy of the weights in float32, which stay; while it is made it is in float32 too
    ("torch", "fp32"): EngineHoldings(1.0, 1.0, 1.3, 2.0, bundle=-10 * MB),
    ("torch", "bf16"): EngineHoldings(2.0, 1.5, 1.3, 1.5, number=2, bundle=18 * MB),
    # after the first call of a shape onnxruntime plans one block for all arrays, beside those that its arena keeps
    ("onnx", "fp32"): EngineHoldings(1.22, 1.22, 1.4, 1.0, planned=1.25, fused=False, bundle=-8 * MB),
    ("onnx", "int8"): EngineHoldings(0.45, 0.45, 1.5, 1.0, planned=1.3, fused=False, bundle=-8 * MB),
    # the file of weights is mapped and stays in memory once it is read, beside the weights laid out for the kernels
    ("openvino", "fp32"): EngineHoldings(2.0, 2.0, 1.0, 1.0, stream=10 * MB, bundle=3 * MB),
    ("openvino", "bf16"): EngineHoldings(1.5, 1.5, 1.0, 1.0, number=2, stream=10 * MB),
    ("openvino", "int8"): EngineHoldings(0.51, 0.51, 1.0, 1.0, stream=10 * MB, block=2 * MB, bundle=3 * MB),
}


def peak_memory_of(config: ModelConfig, profile: EngineProfile, batch: int) -> int:
    """Bytes above those of a bare Python interpreter."""
    return memory_above(profile.peak, config, profile.engine, profile.precision, profile.threads, batch)


def memory_above(peak: int, config: ModelConfig, engine: str, precision: str, threads: int, batch: int) -> int:
    """The same, where `peak` are the bytes that calibration measured with its reference model."""
    reference = model_memory(REFERENCE.config, engine, precision, threads, 1, checked=False)
    own = model_memory(config, engine, precision, threads, batch)
    return peak - reference + HELD[engine, precision].bundle + own


def model_memory(
    config: ModelConfig, engine: str, precision: str, threads: int, batch: int, *, checked: bool = True
) -> int:
    """Bytes of the model itself, its images and work space; with `checked` golden examples are run before."""
    held = HELD[engine, precision]
    tower: ImageModelConfig = config.image if isinstance(config, LiTConfig) else config
    at_once, streams = max(batch, CHECKED if checked else 1), 1
    if engine in CHUNKED:
        plan = default_plan("latency" if batch == 1 else "throughput", threads)
        at_once, streams = min(plan.chunk * plan.streams, at_once) if batch > 1 else 1, plan.streams
    height, width = tower.image_size
    copies = max(held.work * at_once, (held.work + held.planned) * min(batch, at_once))
    work = held.number * copies * live_numbers(tower, fused=held.fused)
    images = 4 * held.images * 3 * height * width * max(batch, CHECKED if checked else 1)
    weights = 4 * parameters(config)
    kernels = held.block * tower.depth + held.stream * (streams - 1)
    return round(max(held.loading * weights, held.weights * weights + work + images) + kernels)

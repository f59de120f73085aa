"""What the search has done for it: models changed, programs made and measured, by the code of the verbs themselves."""

from __future__ import annotations

import importlib.util
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.benchmark.memory import Died, Task, measure_memory
from vitsmith.compress.calibration import Photos
from vitsmith.compress.ladder import Demands
from vitsmith.compress.material import Material, check_prunable, spread
from vitsmith.compress.merge import merge_by
from vitsmith.compress.prune import prune_bundle
from vitsmith.compress.quantize import quantize
from vitsmith.compress.quantized import Settings
from vitsmith.compress.recovery import recover, recovery_recipe
from vitsmith.compress.resolution import resize_bundle, smaller_sizes
from vitsmith.compress.sizes import Pruning, describe_sizes
from vitsmith.data.preprocess import preprocess
from vitsmith.data.samples import Samples
from vitsmith.engines.base import Engine, open_engine
from vitsmith.errors import GateError, InputError
from vitsmith.evaluate.evaluation import evaluate
from vitsmith.evaluate.speed import Repetitions, measure_speed
from vitsmith.export.program import Gate
from vitsmith.export.targets import export
from vitsmith.models.build import ImageModel
from vitsmith.models.config import LiTConfig, show_size
from vitsmith.predict import Predictor
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle import Bundle
from vitsmith.weights.bundle_folder import program_mib

Array = np.ndarray[Any, Any]

CALIBRATION = 256
"""Images that decide what is pruned, merged and how int8 is scaled."""
GATE_IMAGES = 14


ROUNDS = Repetitions(rounds=7, single=7, batches=1, warm_up=2)


class _OneImage:
    """An engine that runs an image of its own size, whatever it is given."""

    def __init__(self, engine: Engine, image: Array) -> None:
        self._engine, self.image = engine, image

    def run(self, _: Array) -> Array:
        return self._engine.run(self.image)


class RealWorkshop:
    """The search's `Workshop` on this machine.

    Programs are for OpenVINO where it is installed, else for onnxruntime. Latency is measured in turns with the
    original's float32 program, and told as that program's latency (the median of all measurements) times the ratio, so
    that a busy minute does not count against whoever was measured in it.
    """

    def __init__(
        self,
        bundle: Bundle,
        material: Material,
        data: str,
        choosing: Samples,
        *,
        max_drop: float,
        steps: int,
        seed: int,
    ) -> None:
        check_prunable(bundle)
        self._bundle, self._material, self._data, self._choosing = bundle, material, data, choosing
        self._max_drop, self._steps, self._seed = max_drop, steps, seed
        self._shown = spread(material.splits.train, CALIBRATION)
        self._pruned: dict[float, tuple[str, Bundle]] = {}
        self._reference: _OneImage | None = None
        self._latencies: list[float] = []
        self.program = "openvino" if importlib.util.find_spec("openvino") else "onnx"

    def change(
        self, bundle: Bundle, keep: float | None, resolution: float | None, merge: float | None
    ) -> tuple[str, Bundle]:
        """(name, torch bundle): pruned first, because that trains, then resized, then merged."""
        names = []
        if keep is not None:
            name, bundle = self._prune(keep)
            names.append(name)
        if resolution is not None:
            sizes = smaller_sizes(bundle, (resolution,))
            if not sizes:
                raise InputError(
                    f"{bundle.where} cannot be resized to {resolution:g} of {show_size(bundle.images.size)}"
                )
            bundle = resize_bundle(bundle, sizes[0])
            names.append(f"at {show_size(sizes[0])}")
        if merge is not None:
            bundle = merge_by(bundle, merge)
            names.append(f"merged {merge:g}x")
        return ", ".join(names), bundle

    def score(self, bundle: Bundle, samples: Samples) -> float:
        """Top-1, 0 to 1; torch weights in float32, programs in their own precision."""
        return evaluate(Predictor(bundle, bundle.program), samples).scores.top1

    def compile(self, bundle: Bundle, precision: str, folder: Path) -> Bundle:
        """A program through the gate of `export` or `quantize`."""
        if precision == "int8":
            return self._quantize(bundle, folder)
        images = [self._shown.image(index) for index in range(min(len(self._shown), GATE_IMAGES))]
        spec = ProgramSpec.model_validate({"precision": precision})
        return export(bundle, folder, self.program, spec, Gate(images=images))[0]

    def measure(self, bundle: Bundle) -> tuple[str, float, float, float]:
        """(engine, latency of one image in ms, peak memory in MiB, size in MiB)."""
        assert bundle.folder is not None
        engine = open_engine(bundle, bundle.program, goal="latency")
        timed = _OneImage(engine, preprocess(self._shown.image(0), bundle.images)[None])
        reference = self._reference = self._reference or timed  # the first is the original's program in float32
        before, after = measure_speed([reference, timed], timed.image, ROUNDS)
        self._latencies.append(before.latency_ms)
        latency = statistics.median(self._latencies) * after.latency_ms / before.latency_ms
        task = Task(str(bundle.folder), bundle.program, "auto", None, "latency", (1,))
        memory = measure_memory(task)[1]
        if isinstance(memory, Died):
            raise GateError(f"its memory cannot be measured: {memory.reason}")
        return engine.name, latency, memory.bytes / 2**20, program_mib(bundle.folder)

    def _prune(self, keep: float) -> tuple[str, Bundle]:
        """Pruned and distilled, once for each share."""
        if keep not in self._pruned:
            original = self._bundle
            pruned, _ = prune_bundle(original, self._shown, Pruning(keep=keep))
            if self._steps:
                changes = {"schedule": {"steps": self._steps}, "run": {"seed": self._seed}}
                recipe = recovery_recipe(original, self._data, changes)
                assert isinstance(pruned.model, ImageModel)
                model = recover(pruned.model, original, self._material, recipe)
                *notes, note = pruned.provenance.notes
                told = (*notes, f"{note}; distilled from it for {self._steps} updates")
                provenance = pruned.provenance.model_copy(update={"notes": told})
                pruned = Bundle.of(model, images=original.images, labels=original.labels, provenance=provenance)
            assert not isinstance(original.config, LiTConfig) and not isinstance(pruned.config, LiTConfig)
            self._pruned[keep] = f"pruned ({describe_sizes(original.config, pruned.config)})", pruned
        return self._pruned[keep]

    def _quantize(self, bundle: Bundle, folder: Path) -> Bundle:
        photos = Photos(self._shown.sources, self._choosing.sources, self._choosing.labels, self._material.name)
        demands = Demands(max_drop=self._max_drop, min_speedup=1.0)
        quantized = quantize(bundle, photos, folder, Settings(self.program, demands, batch=1))
        quantized.require()
        assert quantized.bundle is not None
        return quantized.bundle

"""Makes and measures variants for the search: changes models, compiles and measures, with the code of the verbs."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitsmith.benchmark.memory import Died, Task, measure_memory
from vitsmith.compress.images import TaskImages, readable, spread
from vitsmith.compress.merge_tokens.run import merge_by
from vitsmith.compress.prune.distill import recovery_recipe
from vitsmith.compress.prune.result import model_config
from vitsmith.compress.prune.run import check_prunable, prune_bundle, recover_bundle
from vitsmith.compress.prune.sizes import Pruning, describe_sizes
from vitsmith.compress.quantize.result import Quantization
from vitsmith.compress.quantize.run import quantize, usual_engine
from vitsmith.compress.search.resize import resize_bundle, smaller_sizes
from vitsmith.compress.search.result import ProgramCost
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.sets.samples import Samples
from vitsmith.engines.open import open_engine
from vitsmith.errors import GateError, InputError
from vitsmith.evaluation.evaluation import evaluate
from vitsmith.evaluation.timing import Pace, time_in_turns
from vitsmith.exporters.gate import Gate
from vitsmith.exporters.run import export
from vitsmith.gate import Requirements
from vitsmith.models.config import show_size
from vitsmith.predict import Predictor
from vitsmith.specs import ProgramSpec
from vitsmith.stream import ImageStream
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import program_mib

CALIBRATION = 256
"""Training images that rank what is pruned and calibrate int8, at most."""
GATE_IMAGES = 14
PACE = Pace(seconds=2.0, turns=7)


class TorchVariantMaker:
    """The search's `VariantMaker` on this machine.

    Programs are for OpenVINO where it is installed, else for onnxruntime. Latency is measured in turns with the
    original's float32 program, and reported as that program's first latency divided by the speed-up over it, so that a
    busy minute of the machine does not count against one program.
    """

    def __init__(
        self,
        bundle: Bundle,
        images: TaskImages,
        data: str,
        *,
        max_drop: float,
        steps: int,
        seed: int,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        check_prunable(bundle)
        self._bundle, self._images, self._data = bundle, images, data
        self._max_drop, self._steps, self._seed = max_drop, steps, seed
        left_out: list[str] = []
        calibration = spread(images.calibration, CALIBRATION)
        self._calibration = readable(calibration, images.skip_unreadable, left_out)  # now, not hours later
        for told in left_out:
            tell(told)
        self._pruned: dict[float, tuple[str, Bundle]] = {}
        self._reference: Callable[[], object] | None = None
        self._latency = 0.0
        """Latency of the reference, in ms, when it was first measured."""
        self.program = usual_engine()

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
                    f"{bundle.where} cannot be resized to {resolution:g} of {show_size(bundle.preprocessing.size)}"
                )
            bundle = resize_bundle(bundle, sizes[0])
            names.append(f"at {show_size(sizes[0])}")
        if merge is not None:
            bundle = merge_by(bundle, merge)
            names.append(f"merged {merge:g}x")
        return ", ".join(names), bundle

    def right_answers(self, bundle: Bundle, samples: Samples) -> NDArray[np.bool_]:
        """(images,) which are classified correctly; torch weights run in float32, programs in their own precision."""
        return evaluate(Predictor(bundle, bundle.program), samples).right

    def compile(self, bundle: Bundle, precision: str, folder: Path, selection: Samples) -> Bundle:
        """Writes a program through the gate of `export` or `quantize`."""
        if precision == "int8":
            return self._quantize(bundle, folder, selection)
        images = [self._calibration.image(index) for index in range(min(len(self._calibration), GATE_IMAGES))]
        spec = ProgramSpec.model_validate({"precision": precision})
        return export(bundle, folder, self.program, spec, Gate(images=images))[0]

    def measure(self, bundle: Bundle) -> ProgramCost:
        """What a program costs; the answer is that to one of the images for calibration, as a JPEG."""
        assert bundle.folder is not None
        engine = open_engine(bundle, bundle.program, goal="latency")
        pixels = self._calibration.image(0)
        image, photo = preprocess(pixels, bundle.preprocessing)[None], _jpeg(pixels)
        stream = ImageStream(bundle.preprocessing, engine, batch_size=1)

        def run() -> object:
            return engine.run(image)

        reference = self._reference = self._reference or run  # the first is the original's program in float32
        runs = {"reference": reference, "this": run, "answer": lambda: stream.rows([photo])}
        timings, failed = time_in_turns(runs, 1, PACE)
        if failed:
            raise GateError(f"it does not run: {next(iter(failed.values()))}")
        self._latency = self._latency or timings["reference"].percentile_ms(50)
        latency = self._latency / timings["this"].times_as_fast_as(timings["reference"])
        answer = timings["answer"].percentile_ms(95) * self._latency / timings["reference"].percentile_ms(50)
        task = Task(str(bundle.folder), bundle.program, "auto", None, "latency", (1,))
        memory = measure_memory(task)[1]
        if isinstance(memory, Died):
            raise GateError(f"its memory cannot be measured: {memory.reason}")
        return ProgramCost(engine.name, latency, answer, memory.bytes / 2**20, program_mib(bundle.place))

    def _prune(self, keep: float) -> tuple[str, Bundle]:
        """Return the pruned and distilled model for a share, made once."""
        if keep not in self._pruned:
            original = self._bundle
            pruned, _ = prune_bundle(original, self._calibration, Pruning(keep=keep))
            if self._steps:
                changes = {"schedule": {"steps": self._steps}, "run": {"seed": self._seed}}
                recipe = recovery_recipe(original, self._data, changes)
                pruned = recover_bundle(pruned, original, self._images, recipe)
            self._pruned[keep] = f"pruned ({describe_sizes(model_config(original), model_config(pruned))})", pruned
        return self._pruned[keep]

    def _quantize(self, bundle: Bundle, folder: Path, selection: Samples) -> Bundle:
        images = TaskImages(self._calibration, selection, True, f"{self._images.name}, images for selection")
        required = Requirements(accuracy_drop=self._max_drop, speedup=1.0)
        quantized = quantize(bundle, images, folder, Quantization(self.program, required, batch=1))
        quantized.require()
        assert quantized.bundle is not None
        return quantized.bundle


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """An image as a JPEG file, quality 90."""
    kept = io.BytesIO()
    Image.fromarray(pixels).save(kept, "JPEG", quality=90)
    return kept.getvalue()

"""ExecuTorch programs for phones: model.pte, in which XNNPACK computes everything it can."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitsmith.arrays import Array
from vitsmith.errors import MissingPackageError
from vitsmith.evaluation.evaluation import refuse_regression
from vitsmith.exporters.exporter import Exporter, LayerOutputs
from vitsmith.exporters.folding import with_folded_layers
from vitsmith.exporters.kernels import with_fixed_kernels
from vitsmith.exporters.parts import Part
from vitsmith.gate import Requirements
from vitsmith.layers.attention import Attention
from vitsmith.models.features import record
from vitsmith.process.quiet import quiet
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle

LARGEST_BATCH = 8
"""Largest batch of a program for any batch. Memory is planned for it, and a phone sees few images at once; the engine
splits larger batches."""

FP32 = Requirements(relative=1e-4)
"""Requirements of fp32. An operation that ExecuTorch takes for another one may move outputs by less than the usual
bound: the erf form of GELU in place of the tanh form by 1.7e-4 and 3e-4. What is left is rounding, below 1e-5."""

INT8 = Requirements(agreement=0.99, cosine=0.98, tie=0.02)
"""Requirements of int8: the same answers, except where two classes were nearly equal."""


def write_executorch(part: Part, path: Path, spec: ProgramSpec) -> None:
    """Writes a program for batches up to LARGEST_BATCH, or of exactly `spec.batch`, unchecked.

    In int8 the weights of linear layers are rounded beforehand, with a scale for each output, and their inputs while
    the program runs, with a scale for each token: so nothing is calibrated. Convolutions and all else stay float32.
    """
    example = np.resize(part.inputs, (spec.batch or 2, *part.inputs.shape[1:]))
    with path.open("wb") as file:
        lower(part.module, torch.from_numpy(example), spec).write_to_file(file)


def lower(module: nn.Module, example: Tensor, spec: ProgramSpec) -> Any:
    """An ExecutorchProgramManager for a module of one input, traced with `example`."""
    with quiet():
        try:
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower
        except ImportError:
            raise MissingPackageError("executorch", "executorch") from None
        module = with_fixed_kernels(module)
        if any(parameter.device.type != "cpu" for parameter in module.parameters()):
            module = copy.deepcopy(module).cpu()
        dynamic = ({0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)},) if spec.batch is None else None
        with _attending_explicitly(module) as lowered:
            traced = torch.export.export(lowered, (example,), dynamic_shapes=dynamic, strict=False)
            if spec.precision == "int8":
                rounded = _quantized(traced.module(), example)
                traced = torch.export.export(rounded, (example,), dynamic_shapes=dynamic, strict=False)
        traced = traced.run_decompositions(
            {torch.ops.aten.gelu.default: _tanh_gelu, torch.ops.aten.clone.default: _without_copy}
        )
        return to_edge_transform_and_lower(traced, partitioner=[XnnpackPartitioner()]).to_executorch()


def _tanh_gelu(x: Tensor, *, approximate: str = "none") -> Any:
    """The tanh form of GELU in operations of XNNPACK; NotImplemented for the erf form, which stays as it is.

    XNNPACK has a GELU in the erf form alone, and ExecuTorch (1.5) gives it the tanh form too, without a word. Half of
    1 + tanh(u) is sigmoid(2 u), which is more exact there and faster than tanh (docs/experiments.md).
    """
    if approximate != "tanh":
        return NotImplemented
    slope = 2 * math.sqrt(2 / math.pi)
    return x * torch.sigmoid(x * (slope + 0.044715 * slope * (x * x)))


def _without_copy(x: Tensor, *, memory_format: torch.memory_format | None = None) -> Any:
    """Nothing in place of the copy that dropout leaves in a trace: XNNPACK refuses one of an output of the program."""
    return x if memory_format is None else NotImplemented


def _quantized(traced: Any, example: Tensor) -> Any:
    """A traced module whose linear layers are int8: a scale for each output, and for each token at run time."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer()
    linear = torch.ops.aten.linear.default  # convolutions in int8 lose pixels, and those of a hybrid do not run
    quantizer.set_operator_type(linear, get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True))
    prepared = prepare_pt2e(traced, quantizer)
    prepared(example)  # reads the ranges of the weights
    return convert_pt2e(prepared)


def layer_outputs(part: Part, path: Path, batch: Array, spec: ProgramSpec) -> LayerOutputs:
    """(layer, torch output, ExecuTorch output) in the order in which they end, for a batch like the part's inputs.

    A program does not show inner outputs: another one is made in `path`, in the same way, that gives them all.
    """
    example = np.resize(batch, (spec.batch or 2, *batch.shape[1:]))
    with _attending_explicitly(part.module) as lowered:
        weighted = {name for name, one in lowered.named_modules() if name and any(True for _ in one.parameters())}
    with record(part.module, ["*"]) as recorded:
        part.run_torch(example)
    seen = {name: output for name, output in recorded.items() if name in weighted}  # others may run more than once
    distinct = {id(output): name for name, output in reversed(seen.items())}  # of nested modules the inner one
    names = [name for name, output in seen.items() if distinct[id(output)] == name]
    watched = _Watched(part.module, names)
    with path.open("wb") as file:
        lower(watched, torch.from_numpy(example), spec).write_to_file(file)
    try:
        with quiet():
            from executorch.runtime import Runtime

            method = Runtime.get().load_program(path).load_method("forward")
        found = method.execute([torch.from_numpy(example)])
        for name, output in zip(names, found, strict=True):
            yield name, seen[name].float().cpu().numpy(), output.float().numpy()
    finally:
        path.unlink()


class _Watched(nn.Module):
    """A module that gives the outputs of the named modules inside it."""

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.module, self.names = module, names

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        with record(self.module, self.names) as seen:
            self.module(inputs)
        return tuple(seen[name] for name in self.names)


@contextmanager
def _attending_explicitly(module: nn.Module) -> Iterator[nn.Module]:
    """The module with attention, and attention pooling, as products and a softmax: ExecuTorch makes of the fused
    operation one that also handles rows without a visible token, half of it outside XNNPACK."""
    changed = [one for one in module.modules() if isinstance(one, Attention) and not one.explicit]
    for one in changed:
        one.explicit = True
    try:
        yield with_folded_layers(module)  # of attention pooling: all other attention is explicit
    finally:
        for one in changed:
            one.explicit = False


def _layers(part: Part, path: Path, batch: Array, spec: ProgramSpec) -> LayerOutputs:
    return layer_outputs(part, path.with_name(f"layers-{path.name}"), batch, spec)


def _check(bundle: Bundle, spec: ProgramSpec) -> None:
    if spec.precision == "int8":
        refuse_regression(bundle, "agreement of first choices")


EXECUTORCH = Exporter(
    "executorch",
    "vitsmith export --to executorch (XNNPACK)",
    write_executorch,
    _layers,
    check=_check,
    requirements={"fp32": FP32, "int8": INT8},
)

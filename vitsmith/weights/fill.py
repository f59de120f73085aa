"""Moving arrays between a file and a model, strictly: everything is accounted for, or nothing is done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from vitsmith.arrays import Shape
from vitsmith.errors import InputError, WeightsError
from vitsmith.finite import require_finite
from vitsmith.models.build import Model, build
from vitsmith.models.config import ModelConfig, show_size
from vitsmith.models.isolation import isolated
from vitsmith.weights.layouts import Slot


class ArrayFile(Protocol):
    """A file of named arrays: shapes at once, float32 arrays one by one."""

    path: Path
    shapes: dict[str, Shape]

    def read(self, name: str) -> Tensor: ...


OTHER_WEIGHTS = "answers of such a model mean nothing: take another copy, or an earlier checkpoint"


def require_float32(model: Model, where: str) -> None:
    """Raises InputError for weights of another type, as `model.half()` makes them: bundles compute in float32."""
    others = {str(one.dtype).removeprefix("torch.") for one in model.parameters() if one.dtype != torch.float32}
    if others:
        raise InputError(
            f"{where} has weights in {' and '.join(sorted(others))}, and bundles hold float32: call .float() on the "
            "model; engines compute in other precisions by themselves (precision='bf16')"
        )


def require_finite_model(model: nn.Module, where: str) -> None:
    """Raises NotFiniteError, naming the parameters, for weights that are NaN or infinite. One pass over all of them."""
    named = ((name, parameter.detach()) for name, parameter in model.named_parameters())
    require_finite(named, where, OTHER_WEIGHTS)


@isolated()
def load_model(
    config: ModelConfig,
    slots: Mapping[str, Slot],
    file: ArrayFile,
    *,
    unused: frozenset[str],
    zeros: Sequence[Slot] = (),
) -> Model:
    """The model of `config` with the arrays of `file`, in eval mode; `zeros` are the parts that the file does not have.

    Raises WeightsError as `check_arrays`, before memory is allocated for a wrong file.
    """
    model = build(config, device="meta")
    check_arrays(model, slots, file, unused=unused)
    _check_filled(model, (*slots.values(), *zeros))
    model = model.to_empty(device="cpu")
    fill_model(model, slots, file)
    with torch.no_grad():
        for slot in zeros:
            slot_of(model, slot).zero_()
    return model.eval()


def check_arrays(model: nn.Module, slots: Mapping[str, Slot], file: ArrayFile, *, unused: frozenset[str]) -> None:
    """Raises WeightsError, naming them, for arrays that are missing, unexplained or misshapen.

    `unused` are the arrays that the caller asked to leave alone.
    """
    parameters = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    missing = sorted(set(slots) - set(file.shapes))
    extra = sorted(set(file.shapes) - set(slots) - unused)
    wrong = []
    for name in sorted(set(slots) & set(file.shapes)):
        expected = slots[name].foreign_shape(parameters[slots[name].parameter])
        if not _same_shape(file.shapes[name], expected):
            wrong.append(f"{name} is {show_size(file.shapes[name])}, expected {show_size(expected)}")
    told = [
        f"{len(names)} {what}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"
        for what, names in (("missing", missing), ("unexpected", extra), ("of wrong shape", wrong))
        if names
    ]
    if told:
        raise WeightsError(f"{file.path}: arrays do not fit the model: {'; '.join(told)}")


def _check_filled(model: nn.Module, slots: Sequence[Slot]) -> None:
    """Raises WeightsError for parameters that a reader fills in part or not at all: they would hold anything."""
    shares: dict[str, Fraction] = defaultdict(Fraction)
    for slot in slots:
        shares[slot.parameter] += 0 if slot.added else Fraction(1, slot.parts)
    if unfilled := [name for name, _ in model.named_parameters() if shares[name] != 1]:
        raise WeightsError(f"vitsmith knows no array that fills {', '.join(unfilled[:4])}: please report this defect")


def _same_shape(found: Shape, expected: Shape) -> bool:
    """Equal, or a GroupNorm's (channels,) for the released (1, 1, 1, channels): flax changed it in 0.3.6."""
    return found == expected or (expected[:3] == (1, 1, 1) and found == expected[3:])


@isolated()
@torch.no_grad()
def fill_model(model: nn.Module, slots: Mapping[str, Slot], file: ArrayFile) -> None:
    """Copies each array of the file into its slot. Memory: the model, plus one array at a time.

    Raises NotFiniteError, naming the arrays, for values that are NaN or infinite.
    """

    def filled() -> Iterator[tuple[str, Tensor]]:
        for name, slot in slots.items():
            array = file.read(name)
            yield name, array
            place, ours = slot_of(model, slot), slot.layout.ours_from_foreign(array)
            place.add_(ours) if slot.added else place.copy_(ours)

    require_finite(filled(), str(file.path), OTHER_WEIGHTS)


def arrays_of(model: nn.Module, slots: Mapping[str, Slot]) -> Iterator[tuple[str, Tensor]]:
    """The model's weights under their foreign names and layouts, one at a time."""
    for name, slot in slots.items():
        yield name, slot.layout.foreign_from_ours(slot_of(model, slot).detach())


def slot_of(model: nn.Module, slot: Slot) -> Tensor:
    """The parameter, or the slice of it, that a slot stands for; writing to it writes to the model."""
    parameter = model.get_parameter(slot.parameter)
    return parameter.chunk(slot.parts)[slot.part] if slot.parts > 1 else parameter

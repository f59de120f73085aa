"""The parts of a bundle that become programs: one graph, for LiT two, each with inputs to compare on."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from vitsmith.arrays import Array
from vitsmith.engines.pixels import pixels_from_tensors
from vitsmith.engines.sample_inputs import GATE_INPUTS
from vitsmith.layers.unit import normalize
from vitsmith.models.lit import LiT
from vitsmith.models.vit import VisionTransformer
from vitsmith.specs import ImageSpec
from vitsmith.weights.bundle.bundle import Bundle


@dataclass(frozen=True, eq=False)
class Part:
    """One graph of a bundle."""

    name: Literal["model", "text"]
    """The name of its file, without suffix."""
    module: nn.Module
    """Gives the output in eval mode."""
    inputs: Array
    """Inputs for the gate: float32 (n, 3, height, width), uint8 (n, height, width, 3), or int32 (n, length)."""
    input_name: str
    output_name: str

    def run_torch(self, batch: Array) -> Array:
        """The module's output for a batch like `inputs`."""
        with torch.inference_mode():
            outputs = self.module(torch.from_numpy(batch).to(next(self.module.parameters()).device))
        array: Array = outputs.float().cpu().numpy()
        return array

    @property
    def bytes(self) -> int:
        """Size of its weights in float32."""
        return sum(parameter.numel() * 4 for parameter in self.module.parameters())


def parts_of(bundle: Bundle, tensors: Array, *, pixels: bool = False) -> list[Part]:
    """The graphs that a bundle of torch weights becomes; `tensors` are preprocessed images for the gate.

    With `pixels` the image part takes uint8 (batch, height, width, 3) at the model's size and normalises by itself.
    """
    model = bundle.model
    tower = _UnitTower(model.image) if isinstance(model, LiT) else model
    output = "embeddings" if isinstance(model, LiT) else "logits"
    parts = [Part("model", tower, tensors, "images", output)]
    if pixels:
        seen: nn.Module = model.image if isinstance(model, LiT) else model
        folded: nn.Module = FromPixels(seen, bundle.preprocessing)
        folded = _UnitTower(folded) if isinstance(model, LiT) else folded
        parts = [Part("model", folded, pixels_from_tensors(tensors, bundle.preprocessing), "pixels", output)]
    if isinstance(model, LiT):
        parts.append(Part("text", _UnitTower(model.text), gate_tokens(bundle), "tokens", output))
    return parts


class _UnitTower(nn.Module):
    """One of LiT's towers, giving unit vectors."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, inputs: Tensor) -> Tensor:
        return normalize(self.tower(inputs))


class FromPixels(nn.Module):
    """A model that takes uint8 (batch, height, width, 3) and gives what `model` gives for the normalised images.

    Patches do not overlap the border, so `(pixel / 255 - mean) / std` goes into the kernel and bias of the patch
    embedding, exactly except for rounding. The stem of a hybrid pads with zeros *after* normalising: there it stays a
    multiplication and an addition.
    """

    def __init__(self, model: nn.Module, spec: ImageSpec) -> None:
        super().__init__()
        std, mean = torch.tensor(spec.std, dtype=torch.float64), torch.tensor(spec.mean, dtype=torch.float64)
        scale, shift = (1 / (255 * std))[:, None, None], (-mean / std)[:, None, None]
        self.folded = not (isinstance(model, VisionTransformer) and model.resnet is not None)
        self.model = _with_folded_patches(model, scale, shift) if self.folded else model
        self.scale = nn.Buffer(scale.float())
        self.shift = nn.Buffer(shift.float())

    def forward(self, pixels: Tensor) -> Tensor:
        images = pixels.permute(0, 3, 1, 2).to(torch.float32)
        return self.model(images if self.folded else images * self.scale + self.shift)


def _with_folded_patches(model: nn.Module, scale: Tensor, shift: Tensor) -> nn.Module:
    """The same model with a patch embedding for pixels in 0..255; all other weights are shared."""
    folded = copy.copy(model)
    folded._modules = dict(model._modules)
    patches = folded._modules["patches"] = copy.deepcopy(model.get_submodule("patches"))
    projection = patches.get_submodule("projection")
    assert isinstance(projection, nn.Conv2d)
    if projection.bias is None:  # CLIP's has none; the mean of the pixels makes one
        projection.bias = nn.Parameter(projection.weight.new_zeros(projection.out_channels))
    kernel = projection.weight.detach().double()  # (width, 3, rows, columns)
    scale, shift = scale.to(kernel.device), shift.to(kernel.device)
    with torch.no_grad():
        projection.bias.copy_(projection.bias.double() + (kernel * shift).sum(dim=(1, 2, 3)))
        projection.weight.copy_(kernel * scale)
    return folded


def gate_tokens(bundle: Bundle) -> Array:
    """Token ids (GATE_INPUTS, length) of texts from one token to as many as fit, the same each time."""
    text = bundle.text
    assert text is not None
    random = np.random.default_rng(0)
    tokens = random.integers(1, text.vocabulary, (GATE_INPUTS, text.length), np.int32)
    end = text.vocabulary - 1 if text.end_token is None else text.end_token
    if text.pooling == "end":
        tokens[tokens == end] = 0  # it stands once in a text
    for row, used in zip(tokens, np.linspace(1, text.length, GATE_INPUTS).round().astype(int), strict=True):
        row[used:] = 0 if text.padding == "zero" else row[-1]
        if text.pooling == "end":
            row[used - 1] = end
    return tokens

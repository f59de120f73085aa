"""Does timm read the .npz files that vitsmith writes, and does it then give our logits?

    pip install timm
    python benchmarks/timm_reads_our_npz.py [--out benchmarks/results/FILE.md]

For each architecture a seeded random model is written with `save_npz`, read by timm's own `load_pretrained`, and both
run on the same two images. Shown is the largest difference over the largest logit. timm's arithmetic is not quite the
original's, so there are three columns:

- as timm builds it
- tanh GELU: with that form, which the released weights were trained with, in the place of erf
- original's ResNet: also GroupNorm eps 1e-6 in the place of 1e-5, and kernels divided by (deviation + 1e-5) in the
  place of sqrt(variance + 1e-8)

timm has no .npz loader for Mixers: there this script renames the arrays of the file, with NumPy. torchvision is stood
in for when it is not installed; timm imports it, but nothing here runs it.
"""

from __future__ import annotations

import argparse
import datetime
import enum
import importlib.util
import platform
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vitsmith as vs
from vitsmith.machine import describe_machine
from vitsmith.weights.jax.writer import save_npz

MODELS = {
    "ViT-Ti_16": "vit_tiny_patch16_224",
    "R+ViT-Ti_16": "vit_tiny_r_s16_p8_224",
    "R26+ViT-S_32": "vit_small_r26_s32_224",
    "Mixer-B_16": "mixer_b16_224",
}


class StandIn(types.ModuleType):
    """A module that has any class one asks for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        setattr(self, name, type(name, (), {}))
        return getattr(self, name)


def stand_in_for_torchvision() -> None:
    if importlib.util.find_spec("torchvision"):
        return
    for name in ("", ".ops", ".ops.misc", ".models", ".models.feature_extraction", ".datasets", ".utils"):
        sys.modules[f"torchvision{name}"] = StandIn(f"torchvision{name}")
    transforms, functional = StandIn("torchvision.transforms"), StandIn("torchvision.transforms.functional")
    filters = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
    transforms.InterpolationMode = enum.Enum("InterpolationMode", {name.upper(): name for name in filters})
    functional.InterpolationMode = transforms.InterpolationMode
    sys.modules["torchvision"].transforms = transforms
    sys.modules |= {module.__name__: module for module in (transforms, functional)}


def random_model(name: str) -> nn.Module:
    """Fresh weights, with noise on every array so that none is zero or one."""
    torch.manual_seed(0)
    model = vs.create_model(name).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return model


def read_by_timm(timm_name: str, path: Path) -> nn.Module:
    import timm

    model = timm.create_model(timm_name).eval()
    with torch.no_grad():
        if hasattr(model, "load_pretrained"):
            model.load_pretrained(str(path))
        else:
            model.load_state_dict(mixer_state(path))
    return model


def mixer_state(path: Path) -> dict[str, Tensor]:
    """The arrays of the original's Mixer under timm's names."""
    state = {}
    with np.load(path) as arrays:
        for name in arrays.files:
            theirs = name.replace("/", ".").replace("MixerBlock_", "blocks.").replace("pre_head_layer_norm", "norm")
            theirs = theirs.replace("LayerNorm_0", "norm1").replace("LayerNorm_1", "norm2").replace("scale", "weight")
            theirs = theirs.replace("token_mixing", "mlp_tokens").replace("channel_mixing", "mlp_channels")
            theirs = theirs.replace("Dense_0", "fc1").replace("Dense_1", "fc2").replace("kernel", "weight")
            array = torch.from_numpy(arrays[name])
            order = (3, 2, 0, 1) if array.ndim == 4 else tuple(reversed(range(array.ndim)))
            state[theirs.replace("stem", "stem.proj")] = array.permute(order)
    return state


def convolve_as_original(module: nn.Conv2d, x: Tensor) -> Tensor:
    """The forward pass of timm's StdConv2dSame, with the original's standardisation."""
    from timm.layers import pad_same

    kernel = module.weight - module.weight.mean(dim=(1, 2, 3), keepdim=True)
    kernel = kernel / (kernel.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() + 1e-5)
    return F.conv2d(pad_same(x, module.kernel_size, module.stride), kernel, stride=module.stride)


def difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / ours.abs().max())


def compare(name: str, timm_name: str, folder: Path) -> list[float]:
    model, path = random_model(name), folder / f"{timm_name}.npz"
    save_npz(model, path)
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 2 - 1
    theirs = read_by_timm(timm_name, path)
    with torch.inference_mode():
        logits = model(images)
        differences = [difference(logits, theirs(images))]
        for module in theirs.modules():
            if isinstance(module, nn.GELU):
                module.approximate = "tanh"
        differences.append(difference(logits, theirs(images)))
        for module in theirs.modules():
            if isinstance(module, nn.GroupNorm):
                module.eps = 1e-6
            elif isinstance(module, nn.Conv2d) and hasattr(module, "same_pad"):
                module.forward = types.MethodType(convolve_as_original, module)
        return [*differences, difference(logits, theirs(images))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    stand_in_for_torchvision()
    import timm

    lines = [
        "# timm reads our .npz files",
        "",
        f"`python benchmarks/timm_reads_our_npz.py`, {datetime.date.today()}, {describe_machine()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}, timm {timm.__version__}, float32. "
        "Largest difference of the logits over the largest logit.",
        "",
        "| model | timm's name | as timm builds it | tanh GELU | original's ResNet |",
        "|---|---|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name, timm_name in MODELS.items():
            cells = [f"{value:.1e}" for value in compare(name, timm_name, Path(folder))]
            lines.append(f"| {name} | {timm_name} | {' | '.join(cells)} |")
    report = "\n".join([*lines, "", *["    " + line for line in __doc__.splitlines()[5:]]]) + "\n"
    print(report)
    if options.out:
        options.out.write_text(report)


if __name__ == "__main__":
    main()

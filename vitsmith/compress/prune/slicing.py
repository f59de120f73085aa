"""Smaller models with the very weights of larger ones: blocks left out, heads and hidden units sliced away.

The mean output of a removed part is added to the bias behind it, so that a part with a constant output is removed
without any loss. d channels of a head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from vitsmith.compress.prune.importance import PLACES, PartScores, Place
from vitsmith.models.build import ImageModel, build
from vitsmith.models.config import ImageModelConfig
from vitsmith.models.configure import change

Arrays = dict[str, Tensor]


def largest(scores: Tensor, count: int) -> list[int]:
    """Positions of the `count` largest scores, in ascending order; of equal scores the earlier ones."""
    order = torch.sort(scores, descending=True, stable=True).indices
    return sorted(order[:count].tolist())


def keep_blocks(model: ImageModel, kept: Sequence[int]) -> ImageModel:
    """A copy of the model, in eval mode, with only the blocks at the positions `kept`."""
    arrays: Arrays = {}
    places = {old: new for new, old in enumerate(kept)}
    for name, array in model.named_parameters():
        if not name.startswith("blocks."):
            arrays[name] = array
            continue
        _, index, rest = name.split(".", 2)
        if int(index) in places:
            arrays[f"blocks.{places[int(index)]}.{rest}"] = array
    return _filled(change(model.config, depth=len(kept)), arrays)


def keep_parts(model: ImageModel, config: ImageModelConfig, parts: Sequence[Mapping[str, PartScores]]) -> ImageModel:
    """A copy of the model, in eval mode, with the most important parts of each block, as many as `config` says.

    `parts` has the scores of each block's parts (`importance.score_parts`).
    """
    arrays: Arrays = dict(model.named_parameters())
    for index, known in enumerate(parts):
        for place in PLACES[config.family]:
            there, left = getattr(model.config, place.field), getattr(config, place.field)
            if left < there:
                prefix = f"blocks.{index}."
                arrays |= _sliced(arrays, prefix, place, known[place.field], left)
    return _filled(config, arrays)


def _sliced(arrays: Arrays, prefix: str, place: Place, parts: PartScores, left: int) -> Arrays:
    """The arrays around the parts of one block, with `left` parts kept."""
    inward, outward = prefix + place.inward, prefix + place.outward
    weight, bias = arrays[f"{outward}.weight"].detach(), arrays[f"{outward}.bias"].detach()
    count = len(parts.scores)
    kept = torch.tensor(largest(parts.scores, left))
    channels = torch.arange(weight.shape[1]).view(count, -1)[kept].flatten()
    gone = torch.ones(weight.shape[1], dtype=torch.bool)
    gone[channels] = False
    folded = weight[:, gone].double() @ parts.mean[gone].to(weight.device).double()
    # queries, keys and values lie one after the other, each of them head by head
    repeats = arrays[f"{inward}.weight"].shape[0] // weight.shape[1]
    rows = torch.cat([channels + weight.shape[1] * repeat for repeat in range(repeats)])
    inward_arrays = (f"{inward}.weight", f"{inward}.bias")
    return {
        **{name: arrays[name].detach()[rows] for name in inward_arrays if name in arrays},
        f"{outward}.weight": weight[:, channels],
        f"{outward}.bias": (bias.double() + folded).to(bias.dtype),
    }


def _filled(config: ImageModelConfig, arrays: Arrays) -> ImageModel:
    """The model of `config` with copies of `arrays`, on the CPU."""
    model = build(config, fresh=False)
    model.load_state_dict({name: array.detach().cpu() for name, array in arrays.items()})
    assert isinstance(model, ImageModel)
    return model.eval()

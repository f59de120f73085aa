"""A classifier of images made of two towers and the embeddings of texts: the texts become the rows of its head.

K classes, E embedding width.
"""

from __future__ import annotations

import numpy as np
import torch

from vitsmith.arrays import Array
from vitsmith.errors import InputError
from vitsmith.models.build import build
from vitsmith.models.config import ViTConfig
from vitsmith.models.configure import change
from vitsmith.models.isolation import isolated
from vitsmith.models.lit import LiT
from vitsmith.models.vit import VisionTransformer
from vitsmith.specs import Similarity
from vitsmith.weights.bundle.bundle import Bundle


@isolated()
def classifier_of(bundle: Bundle, embeddings: Array, similarity: Similarity) -> VisionTransformer:
    """The image tower with a head whose logits are temperature x cosine + bias, in eval mode and with its own arrays.

    `embeddings` are float32 (K, E), unit vectors. Without a bias the head has none. Raises InputError for a tower that
    averages the answers of two tokens, whose mean no head gives.
    """
    model = bundle.model
    assert isinstance(model, LiT)
    tower = model.image.config
    if tower.distillation_token or (tower.unit and tower.classes):
        raise InputError(
            f"{bundle.where}: its image tower has {'two heads' if tower.distillation_token else 'two projections'}, "
            "which a classifier of texts cannot have: use  vitsmith zeroshot  itself"
        )
    made = build(_config(tower, len(embeddings), biased=similarity.bias is not None), fresh=False)
    head = np.float32(similarity.temperature) * embeddings
    arrays = {"head.weight": torch.from_numpy(np.ascontiguousarray(head, np.float32))}
    if similarity.bias is not None:
        arrays["head.bias"] = torch.full((len(embeddings),), similarity.bias)
    for name, array in model.image.state_dict().items():
        arrays[name.replace("head.", "unit.projection.") if name.startswith("head.") else name] = array.detach().cpu()
    made.load_state_dict(arrays)
    assert isinstance(made, VisionTransformer)
    return made.eval()


def _config(tower: ViTConfig, classes: int, *, biased: bool) -> ViTConfig:
    unit = {"width": tower.classes or None, "bias": tower.head_bias if tower.classes else True}
    changed: ViTConfig = change(
        tower,
        classes=classes,
        head_bias=biased,
        unit=tower.unit.model_dump() if tower.unit else unit,
        class_token=tower.class_token,  # which change() would adapt to the pooling
    )
    return changed

"""An image model in training: put on its device, wrapped as the recipe says, with its loss and optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from vitsmith.layers.block import Block
from vitsmith.models.build import ImageModel, build
from vitsmith.models.mixer import MixerBlock
from vitsmith.training.checkpoint.state import TrainingState
from vitsmith.training.devices import Devices, is_sharded, replicate, shard
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.training.update.ema import Ema
from vitsmith.training.update.groups import freeze_parameters, parameter_groups
from vitsmith.training.update.losses import Loss
from vitsmith.training.update.optimizer import make_optimizer
from vitsmith.training.update.precision import Precision


@dataclass(eq=False)
class Learner(TrainingState):
    """The model, optimizer and loss of an update."""

    model: ImageModel
    forward: nn.Module
    """The model, or a wrapper that keeps the copies in all processes the same."""
    precision: Precision
    """The precision for `computing_in`."""
    loss: Loss

    @classmethod
    def of(
        cls, model: ImageModel, recipe: TrainRecipe, loss: Loss, devices: Devices, *, checkpointing: bool
    ) -> Learner:
        """Puts the model on its device, in training mode, and wraps it as the recipe says."""
        model.to(devices.device).train()
        if checkpointing:
            recompute_blocks(model)
        if recipe.run.compile:
            model.compile()
        freeze_parameters(model, recipe.model.freeze)
        forward: nn.Module = model
        precision = recipe.run.precision
        if is_sharded(recipe, devices):
            shard(model, devices, bf16=precision == "bf16")
            precision = "fp32"  # shards are cast as they are brought together
        elif devices.count > 1:
            forward = replicate(model, devices)
        groups = parameter_groups(model, recipe.optimizer)
        optimizer = make_optimizer(groups, recipe.optimizer)
        ema = Ema(model, recipe.optimizer.ema) if recipe.optimizer.ema else None
        return cls(model, optimizer, ema, forward, precision, loss)

    def whole_model(self) -> ImageModel:
        """The trained weights in a model of its own on the CPU, in eval mode, whether they lie in shards or not."""
        whole = build(self.model.config, fresh=False)
        assert isinstance(whole, ImageModel)
        weights = {name: _whole(tensor).cpu() for name, tensor in self.model.state_dict().items()}
        whole.load_state_dict(weights)
        return whole.eval()


def recompute_blocks(model: nn.Module) -> None:
    """Makes blocks drop their activations and compute them again for the backward pass (arXiv 1604.06174)."""
    for module in model.modules():
        if isinstance(module, Block | MixerBlock):
            module.forward = partial(checkpoint, module.forward, use_reentrant=False)  # type: ignore[method-assign]


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

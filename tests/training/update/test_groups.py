"""Which parameters are trained, at which rate and with which decay."""

from __future__ import annotations

import pytest

from tests.tiny import BERT, CONFIGS, VIT, tiny_model
from vitsmith.errors import ConfigError
from vitsmith.models.config import LiTConfig
from vitsmith.models.configure import change
from vitsmith.training.recipes.recipe import OptimizerSpec
from vitsmith.training.update.groups import freeze_parameters, parameter_groups

DECAY = 0.5


def settings(model, **fields) -> dict[str, tuple[float, float]]:
    """(share of the rate, weight decay) by parameter name, each parameter in one group."""
    found: dict[str, tuple[float, float]] = {}
    parameters = dict(model.named_parameters())
    for group in parameter_groups(model, OptimizerSpec(name="adamw", **fields)):
        for name, parameter in zip(group["names"], group["params"], strict=True):
            assert parameter is parameters[name]
            assert name not in found
            found[name] = (group["lr_scale"], group["weight_decay"])
    return found


def test_layers_of_a_vit_are_maes() -> None:
    """Two blocks, so layers 0 to 3: scales 1/8, 1/4, 1/2, 1 (util/lr_decay.py of MAE)."""
    found = settings(tiny_model(VIT), layer_decay=DECAY, weight_decay=0.05)
    assert found["class_token"] == found["positions.embedding"] == (1 / 8, 0.0)
    assert found["patches.projection.weight"] == (1 / 8, 0.05)
    assert found["patches.projection.bias"] == (1 / 8, 0.0)
    assert found["blocks.0.attention.qkv.weight"] == (1 / 4, 0.05)
    assert found["blocks.0.norm1.weight"] == (1 / 4, 0.0)
    assert found["blocks.1.mlp.narrow.weight"] == (1 / 2, 0.05)
    assert found["norm.weight"] == found["head.bias"] == (1.0, 0.0)
    assert found["head.weight"] == (1.0, 0.05)
    assert set(found) == {name for name, _ in tiny_model(VIT).named_parameters()}


@pytest.mark.parametrize("name", ["hybrid-stages", "mixer", "vit-representation"])
def test_other_families_have_the_same_layers(name: str) -> None:
    found = settings(tiny_model(CONFIGS[name]), layer_decay=DECAY)
    expected = {
        "resnet": 1 / 8,
        "class_token": 1 / 8,
        "patches": 1 / 8,
        "positions": 1 / 8,
        "norm": 1.0,
        "representation": 1.0,
        "head": 1.0,
    }
    for key, (scale, _) in found.items():
        first, *rest = key.split(".")
        assert scale == (expected[first] if first != "blocks" else {"0": 1 / 4, "1": 1 / 2}[rest[0]]), key


def test_the_distillation_token_and_head_are_first_and_last() -> None:
    found = settings(tiny_model(change(VIT, distillation_token=True)), layer_decay=DECAY, weight_decay=0.05)
    assert found["distillation_token"] == (1 / 8, 0.0)
    assert found["distillation_head.weight"] == (1.0, 0.05)


def test_without_decays_all_is_one_group_in_the_models_order() -> None:
    model = tiny_model(VIT)
    (group,) = parameter_groups(model, OptimizerSpec())
    assert group["names"] == [name for name, _ in model.named_parameters()]
    assert (group["lr_scale"], group["weight_decay"]) == (1.0, 0.0)


def test_two_towers_are_one_group_and_refuse_a_layer_decay() -> None:
    model = tiny_model(LiTConfig(image=change(VIT, classes=0), text=BERT))
    assert settings(model, weight_decay=0.1)["text.positions.weight"] == (1.0, 0.0)
    with pytest.raises(ConfigError, match="layer_decay needs a model that is one row of blocks, not LiT"):
        settings(model, layer_decay=DECAY)


@pytest.mark.parametrize(
    ("patterns", "trained"),
    [
        (["*"], {"head"}),
        (["*.weight", "*.bias"], {"class_token", "positions", "head"}),
        (["patches.*", "blocks.*", "norm.*", "head.*"], {"class_token", "positions"}),
        (["class_token"], {"patches", "positions", "blocks", "norm", "head"}),
    ],
)
def test_frozen_parameters_are_in_no_group(patterns: list[str], trained: set[str]) -> None:
    model = tiny_model(VIT)
    freeze_parameters(model, patterns)
    names = settings(model, layer_decay=DECAY)
    assert {name.split(".")[0] for name in names} == trained
    assert set(names) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_all_but_the_heads_leaves_both_heads() -> None:
    model = tiny_model(change(VIT, distillation_token=True))
    freeze_parameters(model, ["*"])
    assert {name.split(".")[0] for name in settings(model)} == {"head", "distillation_head"}


def test_every_pattern_that_matches_nothing_is_told_and_nothing_is_frozen() -> None:
    model = tiny_model(VIT)
    with pytest.raises(
        ConfigError, match=r"'patchs\.\*'.*did you mean patches\.\*.*'clas_token'.*class_token"
    ) as caught:
        freeze_parameters(model, ["patchs.*", "blocks.*", "clas_token"])
    assert "'blocks.*'" not in str(caught.value).replace("did you mean", "")
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(("config", "patterns"), [(VIT, ["*", "head.*"]), (change(VIT, classes=0), ["*"])])
def test_everything_frozen_is_refused(config, patterns: list[str]) -> None:
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        freeze_parameters(tiny_model(config), patterns)

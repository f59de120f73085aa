"""Recipe files: every one of them is read, and whatever is wrong with a recipe is told."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import pytest
from pydantic import BaseModel

from vitsmith.errors import ConfigError, InputError, UnknownNameError
from vitsmith.training.recipes.file import differences, merge, parse_recipe, parse_settings, read_recipe, recipe_names
from vitsmith.training.recipes.recipe import TrainRecipe

NAMES = [
    "augreg-finetune",
    "digits",
    "distill",
    "finetune",
    "finetune-small-data",
    "linear-probe",
    "mae-finetune",
    "pretrain-i21k",
    "sam-scratch",
    "scratch-s16-90ep",
    "shapes-tower",
]
LEAST = {"data": {"path": "pets"}, "model": {"name": "ViT-Ti_16"}}


def complete(name: str) -> TrainRecipe:
    """What its command adds to a recipe, added."""
    fields = read_recipe(name)
    given: dict = {"data": {"path": "pets"}}
    if not fields.get("model", {}).get("name"):
        given["model"] = {"init": "B_16.npz"}
    if "distill" in fields:
        given["distill"] = {"teacher": "runs/teacher/model"}
    return parse_recipe(merge(fields, given))


def test_these_come_with_vitsmith() -> None:
    assert recipe_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_is_complete_and_its_header_says_what_to_expect(name) -> None:
    complete(name)
    header = (resources.files("vitsmith") / "recipes" / f"{name}.toml").read_text().split("\n[")[0]
    assert re.search(rf"vitsmith (train|distill).*({name}|--teacher|--model)", header)
    assert "Cost:" in header and "Expected" in header


def test_finetune_is_the_originals() -> None:
    """vit_jax/configs/common.py of google-research/vision_transformer."""
    recipe = complete("finetune")
    optimizer, schedule = recipe.optimizer, recipe.schedule
    assert (optimizer.name, optimizer.momentum, optimizer.momentum_dtype, optimizer.clip) == ("sgd", 0.9, "bfloat16", 1)
    assert (optimizer.weight_decay, recipe.loss.smoothing, recipe.batch.size) == (0, 0, 512)
    assert (recipe.augment.area, recipe.augment.flip, recipe.augment.grade) == ((0.05, 1), True, "none")
    assert (schedule.decay, recipe.augment.decoding) == ("cosine", "exact")


def test_every_field_is_documented() -> None:
    def undocumented(model: type[BaseModel]) -> list[str]:
        return [f"{model.__name__}.{name}" for name, field in model.model_fields.items() if not field.description]

    sections = [field.annotation for field in TrainRecipe.model_fields.values()]
    models = [one for section in sections for one in getattr(section, "__args__", (section,)) if one is not type(None)]
    assert [name for model in models for name in undocumented(model)] == []


def test_settings_are_json_where_they_can_be() -> None:
    settings = ["optimizer.lr=0.01", 'model.freeze=["*"]', "model.init=B_16.npz", "run.compile=true", "optimizer.ema=0"]
    assert parse_settings(settings) == {
        "optimizer": {"lr": 0.01, "ema": 0},
        "model": {"freeze": ["*"], "init": "B_16.npz"},
        "run": {"compile": True},
    }
    with pytest.raises(InputError, match=r"--set lr, =3: write section\.field=value"):
        parse_settings(["lr", "=3", "optimizer.lr=1"])
    with pytest.raises(InputError, match="'lr' was set to a value"):
        parse_settings(["optimizer.lr=1", "optimizer.lr.high=2"])


def test_all_mistakes_are_told_at_once_with_what_was_meant() -> None:
    wrong = {
        "model": {"name": "ViT-mu_17"},
        "optimizer": {"lrr": 1, "clip": -1},
        "batch": {"size": 8, "micro": 3},
        "schedule": {"steps": 10, "warmup": 99},
        "optimiser": {"lr": 3},
    }
    with pytest.raises(ConfigError) as told:
        parse_recipe(wrong)
    for part in (
        "data.path is missing: DATA on the command line: a folder",
        "unknown model 'ViT-mu_17': did you mean ViT-mu_16",
        "unknown field 'optimizer.lrr': did you mean lr",
        "optimizer.clip: Input should be greater than or equal to 0 (got -1)",
        "a batch of 8 is no multiple of micro = 3",
        "warmup of 99 must be shorter than the run of 10 steps: shorten it too, with schedule.warmup=1 (--set",
        "unknown field 'optimiser': did you mean optimizer",
    ):
        assert part in str(told.value)


def test_mixup_needs_pairs() -> None:
    with pytest.raises(ConfigError, match="must be even"):
        parse_recipe(merge(LEAST, {"augment": {"grade": "strong1"}, "batch": {"size": 15}}))
    parse_recipe(merge(LEAST, {"augment": {"grade": "strong1", "mixup": 0}, "batch": {"size": 15}}))


def test_differences_are_named() -> None:
    before = parse_recipe(LEAST)
    after = parse_recipe(merge(LEAST, {"optimizer": {"lr": 0.5}, "model": {"config": {"depth": 3}}}))
    assert differences(before, before) == []
    assert sorted(differences(before, after)) == ["model.config.depth: null -> 3", "optimizer.lr: 0.03 -> 0.5"]


def test_files_are_recipes_too(tmp_path) -> None:
    (tmp_path / "mine.toml").write_text('[data]\npath = "pets"\n[model]\nname = "ViT-Ti_16"\n')
    assert parse_recipe(read_recipe(str(tmp_path / "mine.toml"))).data.path == "pets"
    (tmp_path / "broken.toml").write_text("[data\n")
    with pytest.raises(InputError, match=r"broken\.toml is not a recipe that can be read"):
        read_recipe(str(tmp_path / "broken.toml"))
    with pytest.raises(InputError, match=r"cannot read the recipe .*none\.toml"):
        read_recipe(str(tmp_path / "none.toml"))
    with pytest.raises(UnknownNameError, match="did you mean finetune"):
        read_recipe("fine-tune")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"lr": 0.1}, "unknown field 'lr': did you mean optimizer.lr?"),
        ({"optimizer": {"epochs": 3}}, "unknown field 'optimizer.epochs': did you mean schedule.epochs?"),
        ({"optimizer": {"lrr": 3}}, "unknown field 'optimizer.lrr': did you mean lr?"),
        ({"model": {"name": "ViT-mu_16", "freeze": "head"}}, 'model.freeze: give a list, as ["head"]'),
    ],
)
def test_a_field_in_the_wrong_place_is_told_its_own(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        parse_recipe({"data": {"path": "digits"}, "model": {"name": "ViT-mu_16"}, **wrong})

"""Values in recipes: every mistake is told at once, before anything runs; and every setting changes something."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from tests.training.small_runs import FIELDS, recipe, run, write_folder
from vitsmith.cli.arguments.training import recipe_from
from vitsmith.errors import ConfigError, InputError
from vitsmith.training.images.start import start
from vitsmith.training.recipes.file import lay_over, merge, parse_fields, parse_recipe, parse_settings, read_recipe
from vitsmith.training.recipes.lit import LitRecipe
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.training.recipes.unused_settings import refuse_idle

LIT: dict[str, Any] = {"data": {"path": "pairs.csv"}, "image": {"init": "B_16.npz"}, "text": {"size": "mu"}}
NAN, INF = float("nan"), float("inf")


def refused(*settings: str, base: dict[str, Any] | None = None, kind: type[BaseModel] = TrainRecipe) -> str:
    with pytest.raises(InputError) as caught:
        parse_fields(merge(base or FIELDS, parse_settings(settings)), kind)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 1000, message
    return message


WRONG = (
    "optimizer.betas=[0.9]", "optimizer.betas=[]", "optimizer.betas=[0.9,0.9,0.9]", "optimizer.betas=0.9",
    "optimizer.betas=[0.9,1]", "optimizer.betas=[0.9,NaN]", "optimizer.betas=[true,0.9]", 'optimizer.betas=["0.9",0.9]',
    "optimizer.lr=nan", "optimizer.lr=NaN", "optimizer.lr=Infinity", "optimizer.lr=0", "optimizer.lr=-1",
    'optimizer.lr="0.1"', "optimizer.lr=true", "optimizer.lr=[0.1]", "optimizer.lr=null", "optimizer.lr=fast",
    "optimizer.momentum=1", "optimizer.clip=-1", "optimizer.ema=1", "optimizer.layer_decay=0",
    "optimizer.layer_decay=NaN", "optimizer.name=lion",
    "optimizer=5", "optimizer.colour=1", "optimizer.rho=-1", "optimizer.eps=0",
    "schedule.steps=0", "schedule.steps=-5", "schedule.steps=100000000000000000000", "schedule.steps=1.5",
    "schedule.steps=true", 'schedule.steps="12"', "schedule.warmup=12", "schedule.warmup=1e999",
    "schedule.epochs=1e308", "schedule.epochs=nan", "schedule.epochs=0", "schedule.decay=stairs",
    "batch.size=0", "batch.size=100000000000000000000", "batch.micro=24", "batch.micro=5", "batch.micro=false",
    "batch.checkpointing=maybe", "run.seed=-1", "run.seed=100000000000000000000", "run.workers=1000000",
    "run.eval_every=-1", "run.keep_checkpoints=0", "run.compile=perhaps", "run.precision=fp8",
    "model.image_size=0", "model.image_size=1000000000", "model.image_size=17", 'model.image_size="16"',
    "model.config=5", "model.config.depth=1000000", "model.config.depth=0", "model.config.depth=true",
    "model.config.heads=0", "model.config.heads=5", "model.config.width=1000000000", "model.config.colour=1",
    "model.config.image_size=16", "model.config.classes=5", "model.config.name=x", "model.config.device=meta",
    "model.config.dropout=1", "model.config.dropout=NaN", "model.config.norm_eps=-1", "model.config.merge=[1,2,3]",
    "model.head_bias=NaN", "model.head_bias=true", "model.head_std=-1", "model.position_std=0", "model.freeze=head",
    "model.init_size=16", "model.init_size=[16]", "model.name=", "model.name=ViT-X_99", "model.name=5",
    "data.val_fraction=nan", "data.val_fraction=0", "data.val_fraction=true", 'data.val_fraction="0.2"',
    "data.skip_unreadable=1", "data.path=5", "augment.area=[0.5]", "augment.area=[1,0.5]", "augment.area=[0,1]",
    "augment.aspect=[1e-300,1e300]", "augment.mixup=-1", "augment.mixup=NaN", "augment.color=2", "augment.erasing=true",
    "augment.grade=strong9", "augment.flip=sometimes", "loss.smoothing=1", "loss.smoothing=-0.1", "loss.kind=hinge",
    "distill.weight=2", "distill.weight=NaN", "distill.temperature=0", "distill.kind=hard",
)  # fmt: skip


@pytest.mark.parametrize("setting", WRONG)
def test_a_wrong_value_is_named(setting: str) -> None:
    distill = {"distill": {"teacher": "pets"}} if setting.startswith("distill") else {}
    *_, field = setting.partition("=")[0].split(".")
    message = refused(setting, base=merge(FIELDS, distill))
    named = {"model.name=ViT-X_99": "ViT-X_99", "model.name=": "model.name", "model.image_size=17": "17x17"}
    assert message.startswith("recipe: ") and named.get(setting, field) in message


def test_all_mistakes_are_told_at_once() -> None:
    settings = ("optimizer.lr=nan", "schedule.steps=0", "batch.size=true", "model.config.depth=1000000", "colour=1")
    message = refused(*settings, "run.seed=-1", "data.val_fraction=nan", "augment.area=[0.5]")
    for name in (
        "optimizer.lr",
        "schedule.steps",
        "batch.size",
        "depth",
        "'colour'",
        "run.seed",
        "val_fraction",
        "area",
    ):
        assert name in message


def test_fields_of_a_checkpoints_configuration_are_known_before_it_is_read() -> None:
    base = merge(FIELDS, {"model": {"name": "", "init": "nowhere.npz", "config": {}}})
    base["model"]["config"] = {"droput": 0.1, "classes": 3}
    message = refused(base=base)
    assert "unknown field 'droput': did you mean dropout" in message and "config.classes: the data decide" in message


LIT_WRONG = (
    "text.width=0", "text.width=1000000000", "text.depth=true", "text.length=100000000000000000000", "text.pieces=0",
    "batch.size=0", "batch.block=100000000000000000000", "image.batch=-1", "run.judged_pairs=0", "loss.temperature=nan",
    "loss.temperature=200", "loss.bias=NaN", "optimizer.betas=[0.9]", "schedule.steps=0", "text.size=XXL",
    "text.heads=5", "image.kept=float8",
    "optimizer.sharpness=sam", "run.seed=100000000000000000000", "data.val_fraction=nan",
)  # fmt: skip


@pytest.mark.parametrize("setting", LIT_WRONG)
def test_a_wrong_value_of_lit_is_named(setting: str) -> None:
    message = refused(setting, base=LIT, kind=LitRecipe)
    assert setting.partition(".")[0] in message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x.y=.5", 0.5), ("x.y=+1", 1.0), ("x.y=5.", 5.0), ("x.y=1e-3", 0.001), ("x.y=12", 12), ("x.y=true", True),
        ("x.y=B/16", "B/16"), ("x.y=[1, 2]", [1, 2]), ("x.y= spaced ", "spaced"), ("x.y=1_000", "1_000"),
        ("x.y=a=b", "a=b"),
    ],
)  # fmt: skip
def test_settings_are_numbers_where_they_look_like_some(text: str, value: Any) -> None:
    assert parse_settings([text]) == {"x": {"y": value}}


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 50_000, "9" * 10_000])
def test_deep_and_long_settings_are_refused(tmp_path: Path, text: str) -> None:
    refused(f"optimizer.betas={text}")
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "a.toml").write_text(f"betas = {text}")
    for name in ("a.json", "a.toml"):
        with pytest.raises(InputError, match=name) as caught:
            parse_recipe(read_recipe(str(tmp_path / name)))
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["lr = nan", 'lr = "0.1"', "lr = true", "lr = 2020-01-01", "lr = []", "betas = [0.9]"])
def test_wrong_values_in_a_file_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.toml").write_text(f"[optimizer]\n{text}\n")
    with pytest.raises(ConfigError, match=rf"optimizer\.{text.split()[0]}"):
        parse_recipe(read_recipe(str(tmp_path / "mine.toml")))


def test_what_is_no_recipe_is_called_what_it_is(tmp_path: Path) -> None:
    for data, told in (
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<html>", "HTML"),
        (b"\xff", "utf"),
    ):
        (tmp_path / "mine.toml").write_bytes(data)
        with pytest.raises(InputError, match=told):
            read_recipe(str(tmp_path / "mine.toml"))


def test_nothing_is_left_of_a_run_whose_values_are_wrong(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data")
    wrong = ("--set", "optimizer.betas=[0.9]", "--set", "schedule.steps=0", "--set", "model.config.depth=1000000")
    done = run("train", "--data", str(folder), "--arch", "ViT-mu_16", *wrong, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert all(name in done.stderr for name in ("optimizer.betas", "schedule.steps", "depth"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


# --- heads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", [False, True])
def test_head_std_and_head_bias_reach_both_heads(tmp_path: Path, init: bool) -> None:
    fields: dict[str, Any] = {"head_std": 0.3, "head_bias": -2.0, "config": {"distillation_token": True}}
    if init:
        from tests.tiny import VIT, tiny_model
        from vitsmith import save

        save(tiny_model(VIT), tmp_path / "model")
        fields |= {"init": str(tmp_path / "model"), "name": ""}
        wanted = parse_recipe({**FIELDS, "model": fields})
    else:
        wanted = recipe(model=fields)
    model = start(wanted, 7).model
    for head in (model.head, model.distillation_head):
        assert torch.equal(head.bias, torch.full((7,), -2.0))
        assert 0.2 < head.weight.std().item() < 0.4
    assert not torch.equal(model.head.weight, model.distillation_head.weight)
    alone = start(recipe(model={**FIELDS["model"], "head_std": 0.3, "head_bias": -2.0}), 7).model
    assert alone.distillation_head is None
    if not init:
        assert torch.equal(alone.head.weight, model.head.weight)  # as it was before there was a second head


# --- settings without effect -----------------------------------------------------------------------------------------

IDLE: dict[str, tuple[str, ...]] = {
    "optimizer.betas=[0.9,0.99]": ("optimizer.name=sgd",),
    "optimizer.eps=0.001": ("optimizer.name=sgd",),
    "optimizer.momentum=0.5": ("optimizer.name=adamw",),
    "optimizer.momentum_dtype=float32": ("optimizer.name=adamw",),
    "optimizer.rho=0.2": ("optimizer.sharpness=none",),
    "optimizer.rho_min=0.2": ("optimizer.sharpness=sam",),
    "optimizer.alpha=0.2": ("optimizer.sharpness=sam",),
    "schedule.steps=9": ("schedule.epochs=3",),
    "schedule.warmup=9": ("schedule.epochs=3", "schedule.warmup_epochs=1"),
    "data.val_fraction=0.1": ("data.val=other",),
    "augment.aspect=[0.5,2]": ("augment.area=[1,1]",),
    "model.position_std=1": ("model.init=B_16.npz",),
    "model.init_size=[16,16]": (),
    "distill.temperature=2": ("distill.teacher=t", "distill.kind=deit-hard"),
    "loss.smoothing=0.1": ("distill.teacher=t",),
    "distill.weight=0": ("distill.teacher=t",),
}


@pytest.mark.parametrize("setting", IDLE)
def test_a_setting_that_changes_nothing_is_refused(setting: str) -> None:
    given = {"data": {"path": "pets"}, "model": {"name": "ViT-mu_16"}}
    with pytest.raises(ConfigError, match=rf"{setting.partition('=')[0]} changes nothing: .*: leave (it|them) out"):
        recipe_from("finetune", given, [setting, *IDLE[setting]])
    if IDLE[setting] and "teacher" not in IDLE[setting][0]:
        recipe_from("finetune", given, [*IDLE[setting]])


def test_only_what_somebody_says_is_refused(tmp_path: Path) -> None:
    given = {"data": {"path": "pets"}, "model": {"name": "ViT-mu_16"}}
    recipe_from("finetune", given, ["optimizer.name=adamw"])  # its momentum is the recipe's
    recipe_from("sam-scratch", given, ["optimizer.sharpness=none"])
    (tmp_path / "mine.toml").write_text("[optimizer]\nname = 'adamw'\nmomentum = 0.5\nrho = 0.05\n")
    with pytest.raises(ConfigError, match=r"^optimizer\.momentum changes nothing: .* = adamw has none: leave it out$"):
        recipe_from(str(tmp_path / "mine.toml"), given, [])
    both = ["optimizer.momentum=0.5", "optimizer.rho=1", "optimizer.name=adamw"]
    with pytest.raises(ConfigError, match=r"momentum changes nothing: .*; optimizer\.rho changes .*: leave them out"):
        recipe_from("finetune", given, both)
    with pytest.raises(ConfigError, match="a Mixer has no position embeddings"):
        recipe_from("finetune", {**given, "model": {"name": "Mixer-S_16"}}, ["model.position_std=1"])


LIT_IDLE: dict[str, dict[str, Any]] = {
    "loss.bias": {"loss": {"bias": -5.0}},
    "text.pieces": {"text": {"vocabulary": "a.txt", "pieces": 50}},
    "text.size": {"text": {"size": "mu", "width": 8, "depth": 1, "heads": 1, "mlp_width": 8}},
    "batch.micro": {"batch": {"size": 8, "micro": 16}},
    "optimizer.momentum": {"optimizer": {"name": "adamw", "momentum": 0.5}},
    "data.val_fraction": {"data": {"val": "other.csv", "val_fraction": 0.5}},
}


@pytest.mark.parametrize("name", LIT_IDLE)
def test_a_setting_of_lit_that_changes_nothing_is_refused(name: str) -> None:
    wanted = parse_fields(merge(LIT, LIT_IDLE[name]), LitRecipe)
    with pytest.raises(ConfigError, match=f"{name} changes nothing"):
        refuse_idle(wanted, {}, LIT_IDLE[name])
    refuse_idle(parse_fields(LIT, LitRecipe), {}, LIT)


def test_passes_take_the_place_of_a_recipes_updates_and_back() -> None:
    given = {"data": {"path": "pets"}, "model": {"name": "ViT-mu_16"}}
    passes = recipe_from("finetune", given, ["schedule.epochs=3", "schedule.warmup=2"])
    assert passes.schedule.epochs == 3 and passes.schedule.in_updates(1024, 512).steps == 6
    with pytest.raises(ConfigError, match=r"3 x 64 training images in batches of 512 make no more .* smaller"):
        recipe_from("finetune", given, ["schedule.epochs=3"]).schedule.in_updates(64, 512)
    base = json.loads(json.dumps({"schedule": {"epochs": 5}}))
    assert lay_over(base, {"schedule": {"steps": 7}})["schedule"] == {"epochs": None, "steps": 7}
    assert base == {"schedule": {"epochs": 5}}
    with pytest.raises(ConfigError, match=r"schedule: steps: Input should be less than or equal to 1000000000"):
        passes.model_copy(update={"schedule": passes.schedule.model_copy(update={"epochs": 1e6})}).schedule.in_updates(
            10**9, 1
        )


def test_numbers_of_recipes_are_finite_and_bounded() -> None:
    for value in (NAN, INF, -INF, 10**20, True, "1"):
        for field in ("size", "micro"):
            with pytest.raises(ConfigError, match=f"batch.{field}"):
                recipe(batch={field: value})


def test_a_model_that_no_memory_holds_is_refused_before_it_is_made() -> None:
    huge = recipe(model={"config": {"width": 65_536, "heads": 64, "depth": 1_000, "mlp_width": 1_048_576}})
    with pytest.raises(
        ConfigError, match=r"a model of 1[0-9,]{18} weights needs [0-9,]+ GiB and this process may have"
    ):
        start(huge, 3)

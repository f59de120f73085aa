"""Values on the command line: each is the right answer or one line, at once, and nothing is passed over in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import typer
from pydantic import ValidationError

from tests.command_line import call
from vitsmith.amounts import mebibytes, milliseconds
from vitsmith.cli.arguments.command import MOST
from vitsmith.cli.main import app
from vitsmith.cli.verbs import VERBS, function_of
from vitsmith.errors import InputError
from vitsmith.training.recipes.recipe import TrainRecipe

GROUP: Any = typer.main.get_command(app)
COMMANDS = {name: GROUP.get_command(None, name) for name in sorted(VERBS)}
OPTIONS = [(verb, param) for verb, command in COMMANDS.items() for param in command.params if param.opts[0][0] == "-"]


HINTS = {verb: get_type_hints(function_of(verb)) for verb in VERBS}


def kind(verb: str, param: Any) -> str:
    """'number', 'flag' or 'text'."""
    hint = HINTS[verb].get(param.name)
    kinds = {hint, *get_args(hint), *(inner for one in get_args(hint) for inner in get_args(one))}
    return "number" if kinds & {int, float} else "flag" if bool in kinds or hint is None else "text"


NUMBERS = [(verb, param) for verb, param in OPTIONS if kind(verb, param) == "number"]
VALUES = [(verb, param) for verb, param in OPTIONS if kind(verb, param) != "flag"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def required(verb: str, but: Any) -> list[str]:
    """Arguments and options that the verb cannot do without, other than one."""
    arguments = []
    for param in COMMANDS[verb].params:
        if param.required and param is not but:
            value = "onnx" if param.name == "to" else "nowhere"
            arguments += [param.opts[0], value] if param.opts[0][0] == "-" else [value]
    return arguments


def test_every_verb_is_here_and_has_numbers_that_have_a_limit() -> None:
    assert len(COMMANDS) == len(VERBS) and len(NUMBERS) > 50
    assert {param.name for _, param in NUMBERS} <= set(MOST)


@pytest.mark.parametrize("value", ["nan", "1e400", "1" + "0" * 20])
def test_no_number_out_of_all_range_is_taken(capsys: pytest.CaptureFixture[str], folder: Path, value: str) -> None:
    for verb, param in NUMBERS if value == "nan" else NUMBERS[::4]:
        code, out, err = call(capsys, verb, *required(verb, param), param.opts[0], value)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert param.opts[0] in err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "value", ["inf", "-inf", "-1" + "0" * 20, "9" * 5000, "0x10", "1_0_", "--json", "x", "\u0661x"]
)
def test_what_is_no_number_is_one_short_line(capsys: pytest.CaptureFixture[str], folder: Path, value: str) -> None:
    for option in ("--lr", "--seed"):
        code, out, err = call(capsys, "train", "--data", "digits", "--arch", "mu/16", option, value)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert option in err and len(err) < 2_200
    assert list(folder.iterdir()) == []


def test_a_value_that_is_given_twice_is_repeatable_or_refused(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    for verb, param in VALUES:
        if not param.multiple:
            told = f"vitsmith: {param.opts[0]} is given 2 times, and takes one value: give it once\n"
            given = call(capsys, verb, *required(verb, param), param.opts[0], "3", param.opts[0], "4")
            assert given == (2, "", told)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("", "{} is given, but empty: leave it out, or give it a value"),
        ("--help", "{} needs a value, and --help is an option: give the value first"),
        ("a\0b", "{} 'a\\x00b' has a NUL character, which no name or path can have"),
    ],
)
def test_a_value_that_is_none_is_refused(
    capsys: pytest.CaptureFixture[str], folder: Path, value: str, told: str
) -> None:
    for verb, param in VALUES if value == "" else VALUES[::9]:
        given = call(capsys, verb, *required(verb, param), param.opts[0], value)
        assert given == (2, "", f"vitsmith: {told.format(param.opts[0])}\n")
    assert list(folder.iterdir()) == []


def test_a_value_may_be_called_as_an_argument_is(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    code, _, err = call(capsys, "train", "--data", "data", "--arch", "mu/16", "--image-size", "32", "--out", "model")
    assert code == 2 and "the data set 'data' does not exist" in err
    assert "needs a value" not in call(capsys, "quantize", "nowhere", "--images", "images", "--out", "model")[2]


def test_switches_that_contradict_each_other_are_refused_and_repeated_ones_are_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, err = call(capsys, "zeroshot", "nowhere", "x.jpg", "--labels", "a", "--cache", "--no-cache")
    assert code == 2 and "--cache is given 2 times" in err
    code, out, _ = call(capsys, "models", "--json", "--json")
    assert code == 0 and out.startswith("[")


def test_arguments_that_are_empty_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["models", ""], ["inspect", ""], ["predict", "nowhere", ""], ["retrieve", "--index", "x", ""]):
        code, out, err = call(capsys, *arguments)
        assert (code, out) == (2, "") and err.count("\n") == 1 and "empty" in err


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["optimizer.lr=0.1", "optimizer.lr=0.2"], "--set optimizer.lr is given twice"),
        (["optimizer.lr=" + "[" * 100_000], "optimizer.lr"),
        (["optimizer.lr=" + '{"a":' * 100_000], "optimizer.lr"),
        (["run.seed=" + "9" * 5_000], "run.seed"),
        (["optimizer.lr=NaN"], "optimizer.lr"),
        (["optimizer.lr=1e400"], "optimizer.lr"),
        ([".".join("a" * 50_000) + "=1"], "section.field=value"),
        (["model.image_size=1000000000"], "model.image_size"),
        (["schedule.steps=100000000000000000000"], "schedule.steps"),
        (["\n=\n"], "section.field=value"),
    ],
)
def test_settings_of_any_kind_are_one_line(
    capsys: pytest.CaptureFixture[str], folder: Path, settings: list[str], told: str
) -> None:
    options = [part for setting in settings for part in ("--set", setting)]
    code, out, err = call(capsys, "train", "--data", "digits", "--arch", "mu/16", *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err and len(err) < 2_200
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("option", ["--latency", "--memory", "--size"])
@pytest.mark.parametrize("amount", ["9" * 400 + "ms", "0ms", "nanms", "-1ms", "1", "20 ms later", "3 parsecs", "0MB"])
def test_a_limit_is_a_number_with_a_unit(capsys: pytest.CaptureFixture[str], option: str, amount: str) -> None:
    code, out, err = call(capsys, "compress", "nowhere", "--data", "digits", option, amount)
    assert (code, out) == (2, "") and err.startswith(f"vitsmith: {option} ") and err.count("\n") == 1


def test_limits_are_what_their_units_say_and_a_number_alone_is_told_the_two_spellings() -> None:
    assert [milliseconds("--latency", text) for text in ("20ms", "0.02s", "20 MS", "")] == [20, 20, 20, None]
    sizes = {"300MiB": 300, "1gib": 1024, "1MB": 1e6 / 2**20, "1.5GB": 1.5e9 / 2**20, "512KiB": 0.5, "": None}
    assert {text: mebibytes("--size", text) for text in sizes} == sizes
    with pytest.raises(InputError, match=r"^--memory 300 has no unit: write 300MB or 300MiB$"):
        mebibytes("--memory", "300")
    with pytest.raises(InputError, match=r"unknown unit, known are ms, s$"):
        milliseconds("--latency", "20MB")


def test_options_reach_as_far_as_recipes() -> None:
    fields = {"data": {"path": "x"}, "model": {"name": "mu/16", "image_size": MOST["image_size"]}}
    recipe = TrainRecipe.model_validate(fields | {"run": {"seed": MOST["seed"]}})
    assert (recipe.model.image_size, recipe.run.seed) == (MOST["image_size"], MOST["seed"])
    for section, field in (("model", "image_size"), ("run", "seed")):
        beyond = {**fields, section: {**fields.get(section, {}), field: MOST[field] + 1}}
        with pytest.raises(ValidationError, match=field):
            TrainRecipe.model_validate(beyond)

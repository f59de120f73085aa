"""The documentation is true: its code runs, its commands exist, its links lead somewhere, its tables are the code's."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import vitsmith
from tests import file_table
from tests.contracts import CONTRACTS
from tests.cost.machines import engine as made_engine
from tests.cost.machines import machine, timed
from tests.documentation import PAGES, ROOT, anchors, blocks, commands, field_rows, links, prose, relative, table_after
from tests.exporting import export_onnx
from tests.guides import GUIDES, follow, is_file, take_out
from tests.tiny import VIT, layout_of, pictures, released_npz, small_cases, tiny_inputs, tiny_lit, tiny_model
from tests.weights import foreign_reference
from vitsmith import Bundle, load, open_engine, save
from vitsmith.cli.main import app
from vitsmith.cost.profile import write_profile
from vitsmith.training.recipes.file import recipe_names
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.weights.fetch.addresses import cached_path
from vitsmith.weights.fetch.published import find_checkpoint

READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
RECIPES = ROOT / "vitsmith" / "recipes"
VERBS = (
    "quickstart", "models", "recommend", "inspect", "train", "probe", "distill", "evaluate", "predict", "zeroshot",
    "embed", "retrieve", "duplicates", "cluster", "lit", "export", "quantize", "merge-tokens", "prune", "compress",
    "benchmark", "calibrate",
)  # fmt: skip
SETUP = ("pip install '.[all]' && vitsmith quickstart", "pip install '.[test]' && pytest")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small stand-ins of all that the pages speak of, nothing to download from, and us in it."""
    released_npz(tmp_path / "B_16.npz", small_cases()["small-vit-token"]["layout"])
    save(tiny_lit(released=True), tmp_path / "LiT-B16B_2.npz", format="npz")  # and its vocabulary
    _write_foreign(tmp_path)
    write_profile(machine(made_engine(timed=tuple(timed(0.01)))), tmp_path / "pi.json")
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VITSMITH_MIRROR", "http://127.0.0.1:1")
    for index, pixels in enumerate(pictures(6)):
        for path in ("cat.jpg", "dog.png", f"pets/{'cat' if index % 2 else 'dog'}/{index}.jpg"):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write_foreign(folder: Path) -> None:
    """A model folder of timm and one of HF, as their libraries save them, of 32x32 pixels and 5 classes."""
    from safetensors.torch import save_file

    names = [f"breed {index}" for index in range(foreign_reference.CLASSES)]
    timm = {
        "architecture": "vit_base_patch16_224",
        "num_classes": foreign_reference.CLASSES,
        "model_args": {"num_heads": foreign_reference.HEADS},
        "pretrained_cfg": {"input_size": [3, 32, 32], "label_names": names},
    }
    hf = {
        "hidden_size": foreign_reference.WIDTH,
        "num_hidden_layers": foreign_reference.DEPTH,
        "num_attention_heads": foreign_reference.HEADS,
        "intermediate_size": foreign_reference.MLP_WIDTH,
        "image_size": 32,
        "patch_size": foreign_reference.PATCH,
        "id2label": dict(enumerate(names)),
    }
    for name, state, config in (
        ("vit_base_patch16_224.augreg_in21k_ft_in1k", foreign_reference.timm_vit(), timm),
        ("vit-base-patch16-224", foreign_reference.hf_vit(), hf),
    ):
        (folder / name).mkdir()
        save_file(state, folder / name / "model.safetensors")
        (folder / name / "config.json").write_text(json.dumps(config))


def _cache(name: str) -> None:
    """Puts a stand-in where the published checkpoint `name` would have been downloaded to."""
    row = find_checkpoint(name)
    path = cached_path(row.url)
    path.parent.mkdir(parents=True)
    released_npz(path, layout_of(f"{row.model}-{row.resolution}")["layout"])


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_python_runs_in_the_order_of_the_page(page: Path, place: Path) -> None:
    if page.name == "loading.md":
        _cache("ViT-Ti_16.augreg-imagenet2012-384")
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page, "python"):
        if not is_file(block):  # of a guide, which has a test of its own
            exec(compile("\n" * block.line + block.text, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_examples_use_public_names(page: Path) -> None:
    code = [ast.parse(block.text) for block in blocks(page, "python") if not is_file(block)]
    imports = [node for tree in code for node in ast.walk(tree) if isinstance(node, ast.ImportFrom | ast.Import)]
    names = [(getattr(node, "module", None) or alias.name, alias.name) for node in imports for alias in node.names]
    deep = [name for module, name in names if module.startswith("vitsmith.")]
    assert page in GUIDES or not deep, f"imports {deep}"  # guides are for those who write in vitsmith
    assert not set(deep) & set(vitsmith.__all__)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands_are_understood(page: Path) -> None:
    launched = [arguments for block in blocks(page, "sh") for arguments in _launched(block.text)]
    for arguments in filter(None, [*commands(page), *launched]):
        _understand(arguments)


def _launched(text: str) -> list[list[str]]:
    """What follows `-m vitsmith` in the lines of a text, as arguments: commands that a launcher starts."""
    lines = [line.partition(" -m vitsmith ")[2] for line in text.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line]


def _understand(arguments: list[str]) -> None:
    """The command line takes the arguments; they are not carried out."""
    group: Any = typer.main.get_command(app)
    if arguments[0] == "help":
        arguments = [*arguments[1:], "--help"]
    if arguments[0].startswith("-"):
        assert arguments[0] in {word for param in group.params for word in param.opts} | {"-h", "--help"}
        return
    with group.make_context("vitsmith", ["--help"], resilient_parsing=True) as context:
        verb, command, rest = group.resolve_command(context, arguments)
        if rest:  # `vitsmith train` by itself speaks of the verb
            command.make_context(verb, rest, parent=context, resilient_parsing="--help" in rest)


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_is_listed_with_the_command_that_its_file_begins_with(name: str) -> None:
    text = (RECIPES / f"{name}.toml").read_text(encoding="utf-8")
    lines = [line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   ")]
    command = shlex.split("\n".join(lines).replace("\\\n", ""))
    rows = [row for row in table_after(ROOT / "docs" / "train.md", "| recipe |") if row[0] == f"`{name}`"]
    assert len(rows) == 1 and shlex.split(rows[0][2].strip("`")) == command
    assert name in command or name in ("finetune", "distill"), "these two are what train and distill take by default"
    _understand(command[command.index("vitsmith") + 1 :])


def test_no_recipe_is_listed_that_is_not_there() -> None:
    rows = table_after(ROOT / "docs" / "train.md", "| recipe |")
    assert sorted(row[0].strip("`") for row in rows) == recipe_names()


def test_every_field_of_a_recipe_is_listed_with_its_default() -> None:
    expected = field_rows(TrainRecipe)
    rows = table_after(ROOT / "docs" / "train.md", "| field |")
    assert rows == expected, "\n".join(["it should say:", *(f"| {' | '.join(row)} |" for row in expected)])


FORMER = (
    "--no-flip",
    "--accumulate",
    "--warmup",
    "--eval-every",
    "--min-area",
    "--init",
    "--judges",
    "--most",
    "--ratio",
)


@pytest.mark.parametrize("word", [*FORMER, "vitsmith merge"])
def test_options_of_former_days_are_spoken_of_in_the_changelog_alone(word: str) -> None:
    spoken = re.compile(re.escape(word) + r"\b(?!-)")
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    assert [relative(page) for page in pages if spoken.search(page.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_a_page_with_all_its_options_and_their_defaults(verb: str) -> None:
    command = typer.main.get_command(app).get_command(None, verb)  # type: ignore[attr-defined]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    expected = {
        " / ".join([*option.opts, *option.secondary_opts]): _shown_default(option)
        for option in options
        if "--help" not in option.opts
    }
    page = ROOT / "docs" / f"{verb}.md"
    rows = table_after(page, "| option |") if expected else []
    assert {row[0].strip("`"): row[1].strip("`") for row in rows} == expected


def _shown_default(option: Any) -> str:
    if option.required:
        return "required"
    if isinstance(option.default, bool):
        return "on" if option.default else "off"
    return "" if option.default is None else str(option.default)


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists() and path.is_relative_to(ROOT), f"{link}: nothing there"
        assert not anchor or anchor in anchors(path), f"{link}: no such heading"


@pytest.mark.parametrize("page", READMES, ids=relative)
def test_the_readme_begins_with_the_two_commands_and_is_short(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert all(command in lines[:24] for command in SETUP)
    assert len(lines) <= 204  # seventy-four of them the table of models
    pin = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["torch"]
    torch = next(requirement for requirement in pin if requirement.startswith("torch"))
    assert f"pip install '{torch}' --index-url https://download.pytorch.org/whl/cpu" in lines


def test_the_tour_is_of_twenty_lines() -> None:
    tour = blocks(READMES[0], "python")[0].text.splitlines()
    assert len([line for line in tour if line.strip()]) <= 20


def test_both_readmes_have_the_same_code() -> None:
    english, chinese = (blocks(page) for page in READMES)
    assert [block.language for block in english] == [block.language for block in chinese]
    for ours, theirs in zip(english, chinese, strict=True):
        if ours.language == "python":  # comments are translated
            assert ast.dump(ast.parse(ours.text)) == ast.dump(ast.parse(theirs.text))
        else:
            assert shlex.split(ours.text, comments=True) == shlex.split(theirs.text, comments=True)
    targets = ([link for link in links(page) if link not in ("README.md", "README.zh-CN.md")] for page in READMES)
    assert next(targets) == next(targets)


@pytest.mark.parametrize("page", READMES, ids=relative)
def test_the_table_of_models_is_what_the_command_says(page: Path) -> None:
    said = CliRunner().invoke(app, ["models", "--json"]).stdout
    expected = [
        [f"`{row['name']}`", f"{row['parameters'] / 1e6:.1f} M", f"{row['gflops']:.1f}", _numbers(row["published"])]
        for row in json.loads(said)
    ]
    rows = [[*row[:3], _numbers(row[3])] for row in table_after(page, "published.csv")]
    assert rows == expected, "\n".join(["it should say:", *(f"| {' | '.join(map(str, row))} |" for row in expected)])


def _numbers(text: str) -> list[str]:
    return re.findall(r"\d[\d.]*", text)


CLAIM = re.compile(
    r"\d\s?(%|ms\b|MiB/s|images/s|seconds?\b|minutes?\b|times (as|the|faster|slower)|x faster|倍|秒|分钟)"
)
NO_CLAIM = re.compile(r"95%\s(confidence|interval)")
SOURCE = re.compile(r"benchmarks/|tests/reference|published\.csv|arXiv|github\.com|\w\.py\b|pyproject\.toml")


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_no_figure_of_speed_or_accuracy_is_without_its_source(page: Path) -> None:
    for paragraph in re.split(r"\n\s*\n", NO_CLAIM.sub("", prose(page))):
        assert not CLAIM.search(paragraph) or SOURCE.search(paragraph), paragraph


def test_the_house_is_as_drawn() -> None:
    """docs/architecture.md names every file, no other, and the layers in the order that import-linter holds them to."""
    page = ROOT / "docs" / "architecture.md"
    plan = next(block.text for block in blocks(page, "text") if block.text.startswith("vitsmith/\n"))
    drawn = re.findall(r"^  (\w+)(?:/|\.py)  ", plan, re.MULTILINE)
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    assert drawn == contract["layers"][::-1]
    text = page.read_text(encoding="utf-8")
    assert text == file_table.with_table(text), "write it with  python -m tests.file_table"


def test_the_guide_to_a_new_model_can_be_followed(tmp_path: Path) -> None:
    named = ("__init__.py", "models/__init__.py", "models/test_models.py", "models/test_presets.py")
    files = [f"tests/{name}" for name in (*named, "tiny.py", "contracts.py", "reference/fill.py")]
    run = follow(ROOT / "docs" / "add_a_model.md", tmp_path, files)
    counts = "tests/models/test_presets.py::test_number_of_parameters[ViT-Ti_32]"
    costs = "tests/models/test_presets.py::test_the_count_from_a_configuration_is_the_count_of_its_model[gmlp]"
    tests = run(
        "-m", "pytest", "-p", "no:cacheprovider", "tests/models/test_models.py", counts, costs, "-k", "gmlp or Ti_32"
    )
    passed = re.search(r"(\d+) passed", tests)
    assert (
        passed and int(passed[1]) == len(CONTRACTS) + 4 + 2
    )  # one for each new preset, and the two of test_presets.py
    read = run("-m", "pytest", "-p", "no:cacheprovider", "tests/weights/test_vit_pytorch.py")
    assert "1 passed" in read
    sizes = {row["name"]: row for row in json.loads(run("-m", "vitsmith", "models", "--json"))}
    # timm's card of gmlp_s16_224 has 19.4 M parameters and 4.4 G multiply-adds.
    assert round(sizes["gMLP-S_16"]["parameters"] / 1e6, 1) == 19.4
    assert round(sizes["gMLP-S_16"]["gflops"] / 2, 1) == 4.4


def test_the_guide_shows_all_that_siglip_needed_in_models(tmp_path: Path) -> None:
    """Without what it shows, no file of models/ knows SigLIP or its pooling; the layer's file is as printed."""
    page = ROOT / "docs" / "add_a_model.md"
    layer = next(block.text for block in blocks(page, "python") if block.text.startswith("# vitsmith/layers/attention"))
    assert layer.partition("\n")[2] == (ROOT / "vitsmith/layers/attention_pool.py").read_text(encoding="utf-8")
    shutil.copytree(ROOT / "vitsmith", tmp_path / "vitsmith", ignore=shutil.ignore_patterns("__pycache__"))
    take_out(page, tmp_path)
    models = (tmp_path / "vitsmith" / "models").glob("*.py")
    code = {path.name: ast.unparse(ast.parse(path.read_text(encoding="utf-8"))) for path in models}
    for name, text in code.items():
        left = re.findall(r"_siglip\w*|SIGLIP\w*|AttentionPool(?=\()|\bself\.attention_pool", text)
        assert not left, (name, left)


def test_the_guide_to_a_new_engine_can_be_followed(tmp_path: Path) -> None:
    """Its contracts hold, it imports only what is below it, and its predictions are those of onnxruntime."""
    rooms = ("conftest.py", "programs.py", "test_contracts.py", "__init__.py")
    named = ("__init__.py", "documentation.py", "tiny.py", "reference/fill.py", *(f"engines/{name}" for name in rooms))
    copy = tmp_path / "copy"
    run = follow(
        ROOT / "docs" / "add_an_engine.md", copy, ["pyproject.toml", "docs/engines.md", *(f"tests/{n}" for n in named)]
    )
    contracts = ("-p", "no:cacheprovider", "-n0", "tests/engines/test_contracts.py", "-k", "reference or row or held")
    passed = re.search(r"(\d+) passed", run("-m", "pytest", "-v", *contracts))
    assert passed and int(passed[1]) == 7 + 3  # those of one engine, and those of the table
    assert " 0 broken" in run("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()")
    bundle = Bundle.of(tiny_model(VIT)).with_golden(pictures(2))
    export_onnx(bundle, tmp_path / "model")
    for index, pixels in enumerate(pictures(3)):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    predicted = {}
    for engine in ("onnx", "onnx-reference"):
        images = [str(tmp_path / f"{index}.png") for index in range(3)]
        printed = run("-m", "vitsmith", "predict", str(tmp_path / "model"), *images, "--engine", engine, "--json")
        predicted[engine] = [json.loads(line)["predictions"] for line in printed.splitlines()]
    for ours, theirs in zip(predicted["onnx-reference"], predicted["onnx"], strict=True):
        assert [one["label"] for one in ours] == [one["label"] for one in theirs]
        probabilities = [one["probability"] for one in theirs]
        assert [one["probability"] for one in ours] == pytest.approx(probabilities, abs=1e-5)


def test_the_guide_to_a_new_target_can_be_followed(tmp_path: Path) -> None:
    named = ("__init__.py", "documentation.py", "tiny.py", "reference/fill.py", "exporters/__init__.py")
    files = [*(f"tests/{name}" for name in (*named, "exporters/test_targets.py")), "docs/export.md"]
    run = follow(ROOT / "docs" / "add_a_target.md", tmp_path, files)
    tests = run(
        "-m", "pytest", "-p", "no:cacheprovider", "-n0", "tests/exporters/test_targets.py", "-k", "edge or no_others"
    )
    passed = re.search(r"(\d+) passed", tests)
    assert passed and int(passed[1]) == 5 + 1  # what every target promises, and that there are no others
    bundle = save(Bundle.of(tiny_model(VIT)), tmp_path / "model")
    command = ("-m", "vitsmith", "export", "model", "--to", "edge", "--out", "exported", "--json")
    told = json.loads(run(*command, "--fixed-batch", "1"))
    assert told["gate"]["agreement"] == 1 and told["gate"]["difference"] < 1e-3
    images = tiny_inputs(VIT, 3)[0].numpy()
    found = open_engine(load(tmp_path / "exported")).run(images)
    np.testing.assert_allclose(found, bundle.run_torch(images), rtol=0, atol=1e-4)
    graph = onnx.load(tmp_path / "exported" / "model.onnx")
    assert graph.opset_import[0].version == 17
    shapes = [one.type.tensor_type.shape.dim for one in (*graph.graph.input, *graph.graph.value_info)]
    assert len(shapes) > 20 and all(size.dim_value for shape in shapes for size in shape)

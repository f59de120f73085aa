"""What somebody types who does not know the tool yet, and what they are told."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image

import vitsmith as vs
import vitsmith.verbs.quickstart
from tests.command_line import call
from tests.documentation import ROOT, table_after
from tests.tiny import pictures, tiny_lit
from vitsmith import needs_torch
from vitsmith.cli.arguments.examples import EXAMPLES
from vitsmith.cli.arguments.images import expand
from vitsmith.cli.arguments.inputs import check_recordable
from vitsmith.cli.arguments.unknown_words import RENAMED, SAME, VERBS_ELSEWHERE, VERBS_RENAMED
from vitsmith.cli.main import app
from vitsmith.cli.terminal import next_steps, output
from vitsmith.cli.terminal.quickstart_progress import QuickstartProgress
from vitsmith.cli.verbs import VERBS
from vitsmith.errors import BundleError, InputError, WeightsError
from vitsmith.evaluation.speed import Speed, Speedup
from vitsmith.models.presets import presets
from vitsmith.runs.place import model_name
from vitsmith.verbs.quickstart import QuickstartStage
from vitsmith.weights.bundle.folder import upgrade_bundle, write_bundle
from vitsmith.weights.bundle.programs import add_program
from vitsmith.weights.fetch.hub.known_models import known_models
from vitsmith.weights.fetch.published import checkpoints_of

NAMES = list(VERBS)


@pytest.mark.parametrize("verb", NAMES)
def test_help_fits_eighty_columns_without_cutting_a_word(capsys, monkeypatch, verb) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call(capsys, verb, "--help")
    command = typer.main.get_command(app).get_command(None, verb)  # type: ignore[attr-defined]
    options = {opt for param in command.params if param.param_type_name == "option" for opt in param.opts}
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    assert "…" not in out and "<bool>" not in out and "|" not in out
    assert options <= set(re.findall(r"--[a-z0-9-]+", out))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and us in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands_told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What `vitsmith` alone says can be typed."""
    code, out, err = call(capsys)
    assert (code, err) == (0, "")
    return [re.split(r"  +", line.strip())[0] for line in out.splitlines() if line.startswith("  vitsmith ")]


def test_alone_it_says_how_to_begin(capsys, here) -> None:
    told = commands_told(capsys)
    beginnings = ("vitsmith quickstart", "vitsmith probe FOLDER --model ", "vitsmith train FOLDER --model ")
    assert all(line.startswith(beginning) for line, beginning in zip(told, beginnings, strict=False))


def test_alone_without_torch_it_offers_what_runs_and_what_to_install(capsys, here, monkeypatch) -> None:
    monkeypatch.setattr(next_steps, "has_torch", lambda: False)
    told = commands_told(capsys)
    assert told[:2] == ["vitsmith predict BUNDLE IMAGES", "vitsmith inspect BUNDLE"] and len(told) == 2
    vs.save(vs.Bundle.of(vs.create_model("mu/16", classes=2, image_size=32)), here / "model")
    assert not any("export" in command for command in commands_told(capsys))


@pytest.mark.parametrize("verb", ["train", "distill", "lit"])
def test_without_torch_training_says_so_first(capsys, here, monkeypatch, verb) -> None:
    monkeypatch.setattr(needs_torch, "find_spec", lambda package: None)
    code, _, err = call(capsys, verb, "x", *(("--teacher", "t") if verb == "distill" else ()))
    assert code == 2 and "this needs torch, which is not installed" in err


@pytest.mark.parametrize(("more", "again"), [((), "--out {} --force"), (("--seed", "3"), "--out {} --seed 3 --force")])
def test_a_quickstart_is_begun_again_with_what_was_typed(capsys, here, monkeypatch, more, again) -> None:
    def interrupted(out: Path, **options: object) -> None:
        out.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(vitsmith.verbs.quickstart, "quickstart", interrupted)
    code, _, err = call(capsys, "quickstart", "--out", "qs", *more)
    assert code == 2 and f"start over with vitsmith quickstart {again.format('qs')}\n" in err


def test_alone_beside_a_run_it_says_what_is_usual_next_with_its_path(capsys, here) -> None:
    bundle = vs.Bundle.of(vs.create_model("mu/16", classes=2, image_size=32))
    vs.save(bundle, here / "runs" / "train" / "my pets" / "model")
    told = commands_told(capsys)
    assert told[0] == "vitsmith predict 'runs/train/my pets' IMAGES" and told[-1].startswith("vitsmith benchmark ")
    assert "vitsmith export 'runs/train/my pets' --to onnx" in told
    vs.save(bundle, here / "runs" / "quickstart" / "model")
    os.utime(here / "runs" / "quickstart" / "model" / "bundle.json", (2**31, 2**31))
    assert commands_told(capsys)[0] == "vitsmith predict runs/quickstart IMAGES"
    later = here / "runs" / "train" / "later"
    (later / "checkpoints" / "step-00000001").mkdir(parents=True)
    (later / "recipe.json").write_text("{}")
    os.utime(later / "checkpoints", (2**32, 2**32))
    assert commands_told(capsys) == ["vitsmith train --resume runs/train/later"]


def test_alone_it_finds_runs_wherever_out_put_them(capsys, here) -> None:
    begun = here / "begun"
    begun.mkdir()
    (begun / "recipe.json").write_text("{}")
    (begun / "command.txt").write_text("vitsmith train pets --out begun\n")
    told = commands_told(capsys)
    assert told[:2] == ["vitsmith train pets --out begun --force", "vitsmith quickstart"]
    vs.save(vs.Bundle.of(vs.create_model("mu/16", classes=2, image_size=32)), here / "mine" / "model")
    assert commands_told(capsys)[0] == "vitsmith predict mine IMAGES"
    (begun / "checkpoints" / "step-00000001").mkdir(parents=True)
    os.utime(begun / "checkpoints", (2**32, 2**32))
    assert commands_told(capsys) == ["vitsmith train --resume begun"]
    os.utime(begun / "checkpoints", (0, 0))
    told = commands_told(capsys)
    assert told[0] == "vitsmith predict mine IMAGES" and told[-1] == "vitsmith train --resume begun"


@pytest.mark.parametrize(
    ("architecture", "source"),
    [
        ("CLIP-B_32", "hf:openai/clip-vit-base-patch32"),
        ("CLIP-G_14", "hf:laion/CLIP-ViT-bigG-14-laion2B-39B-b160k"),
        ("DINOv2-S_14-reg4", "hf:facebook/dinov2-with-registers-small"),
        ("DINOv3-Hplus_16", "hf:facebook/dinov3-vith16plus-pretrain-lvd1689m"),
        ("DeiT3-S_16", "hf:timm/deit3_small_patch16_224.fb_in1k"),
    ],
)
def test_an_architecture_whose_weights_are_at_the_hub_says_where(capsys, architecture, source) -> None:
    code, out, _ = call(capsys, "models", architecture)
    headless = ", headless=True" if "DINO" in architecture else ""
    assert code == 0 and f"vitsmith.load('{source}'{headless})" in out and "No published checkpoints" not in out
    assert f"licence     {presets()[architecture].license}, of the first weights\n" in out
    code, out, _ = call(capsys, "models", architecture, "--json")
    assert code == 0 and json.loads(out)["hub"][0] == source
    code, _, err = call(capsys, "inspect", architecture)
    assert code == 2 and f"weights of the hub: {source}" in err


def test_weights_of_the_hub_are_of_known_architectures_that_have_no_published_checkpoint() -> None:
    named = {row.architecture for row in known_models() if row.architecture}
    assert named <= set(presets()) and not any(map(checkpoints_of, named))
    families = ("clip", "dinov2", "dinov3", "deit3")
    assert named == {name for name, preset in presets().items() if preset.family in families}


def test_alone_beside_an_exported_bundle_it_does_not_say_to_export(capsys, here) -> None:
    vs.save(vs.Bundle.of(vs.create_model("mu/16", classes=2, image_size=32)), here / "pets-onnx")
    (here / "pets-onnx" / "model.safetensors").rename(here / "pets-onnx" / "model.onnx")
    assert [line.split()[1:3] for line in commands_told(capsys)] == [
        [verb, "pets-onnx"] for verb in ("predict", "evaluate", "benchmark")
    ]


FORMAT_1 = ROOT / "tests" / "reference" / "format1" / "24f72d5"


@pytest.mark.parametrize("upgraded", [False, True])
@pytest.mark.parametrize(
    ("kind", "offered"),
    [
        ("vit", ["predict", "evaluate --data", "export --to", "quantize --data", "benchmark"]),
        ("regression", ["predict", "export --to", "benchmark"]),
        ("vit-headless", ["embed --out", "export --to", "quantize --images", "benchmark"]),
        (
            "lit",
            [
                *("zeroshot --labels", "evaluate --zeroshot --data", "embed --out"),
                *("export --to", "quantize --images", "benchmark"),
            ],
        ),
        ("lit-onnx", ["zeroshot --labels", "evaluate --zeroshot --data", "embed --out", "benchmark"]),
        ("lit-without-vocabulary", ["embed --out", "export --to", "quantize --images", "benchmark"]),
    ],
)
def test_alone_it_offers_what_works_with_the_model(capsys, here, kind, offered, upgraded) -> None:
    shutil.copytree(FORMAT_1 / kind, here / "m")
    if upgraded:
        upgrade_bundle(here / "m")
    told = [" ".join(re.findall(r"(?<=vitsmith )\S+|--[a-z-]+", line)) for line in commands_told(capsys)]
    assert told == offered


def test_alone_it_asks_for_the_names_that_a_model_lacks(capsys, here) -> None:
    vs.save(vs.Bundle.of(vs.create_model("mu/16", classes=2, image_size=32)), here / "m")
    told = commands_told(capsys)
    assert "vitsmith evaluate m --data DATA --labels-file FILE" in told
    assert "vitsmith quantize m --data DATA --labels-file FILE" in told


def test_alone_beside_an_index_it_offers_to_search(capsys, here) -> None:
    shutil.copytree(FORMAT_1 / "index-images", here / "my photos")
    told = commands_told(capsys)
    assert told[0] == "vitsmith quickstart"
    assert told[-1] == "vitsmith retrieve --images IMAGE --index 'my photos'"


def test_alone_beside_a_damaged_bundle_it_offers_to_look_into_it(capsys, here) -> None:
    (here / "m").mkdir()
    (here / "m" / "bundle.json").write_text("{")
    assert commands_told(capsys) == ["vitsmith inspect m"]


def test_the_help_of_all_ends_with_commands(capsys) -> None:
    out = call(capsys, "--help")[1]
    assert [line.strip() for line in out.splitlines() if line.strip()][-2:] == list(EXAMPLES[""])


@pytest.mark.parametrize("verb", NAMES)
def test_the_help_of_a_verb_ends_with_a_command_that_is_understood(capsys, verb) -> None:
    _, out, _ = call(capsys, verb, "--help")
    group = typer.main.get_command(app)
    for example in EXAMPLES[verb]:
        assert example in out and len(example) < 79
        name, given, *rest = shlex.split(example)
        command = group.get_command(None, given)  # type: ignore[attr-defined]
        assert (name, given) == ("vitsmith", verb)
        command.make_context(verb, rest, parent=group.make_context("vitsmith", [], resilient_parsing=True))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("vitsmith merge", ["merge-tokens"]),
        ("vitsmith predict m x.jpg --engine o", ["onnx", "openvino"]),
        ("vitsmith predict m x.jpg --precision b", ["bf16"]),
        ("vitsmith predict m x.jpg --precision f", ["fp32", "fp16", "fp8"]),
        ("vitsmith benchmark m --engine o", ["onnx", "openvino"]),
        ("vitsmith benchmark m --precision int8", ["int8", "int8-weights"]),
        ("vitsmith predict augreg:B_1", ["augreg:B_16", "augreg:B_16@384"]),
        ("vitsmith predict augreg : B_1", ["B_16", "B_16@384"]),
        ("vitsmith train pets --model augreg : R26", ["R26_S_32", "R26_S_32@384"]),
        ("vitsmith train pets --arch B_3", ["B_32", "B_32-gap-norep"]),
        ("vitsmith evaluate ViT-B_16.s", ["ViT-B_16.sam"]),
        ("vitsmith train pets --arch LiT-B16B_", ["LiT-B16B_2"]),
        ("vitsmith train pets --recipe aug", ["augreg-finetune"]),
        ("vitsmith predict photos/", []),
        ("vitsmith predict ", []),
        ("vitsmith prune ViT-B_16.s", ["ViT-B_16.sam"]),
        ("vitsmith merge-tokens ViT-B_16.s", ["ViT-B_16.sam"]),
        ("vitsmith zeroshot ViT-B_16.s", ["ViT-B_16.sam"]),
    ],
)
def test_a_shell_completes_the_names_that_there_are(capsys, monkeypatch, line, offered) -> None:
    monkeypatch.setenv("_VITSMITH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(line.count(" ")))
    code, out, err = call(capsys)
    assert (code, out.split(), err) == (0, offered, "")


@pytest.mark.parametrize(
    ("shell", "mark"), [("bash", "complete -o default"), ("zsh", "#compdef"), ("fish", "complete --command"),
                        ("powershell", "Register-ArgumentCompleter")]
)  # fmt: skip
@pytest.mark.parametrize("spelling", [("--show-completion", "{}"), ("--show-completion={}",)])
def test_completion_is_for_the_shell_that_is_named(capsys, spelling, shell, mark) -> None:
    code, out, _ = call(capsys, *(word.format(shell) for word in spelling))
    assert code == 0 and mark in out


def test_completion_is_installed_for_the_shell_that_is_named(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert call(capsys, "--install-completion", "fish")[0] == 0
    assert (tmp_path / ".config/fish/completions/vitsmith.fish").is_file()
    code, _, err = call(capsys, "--install-completion", "tcsh")
    assert code == 2 and "give one of bash, zsh, fish" in err


def test_help_is_a_word_too(capsys) -> None:
    assert call(capsys, "help") == call(capsys, "--help")
    assert call(capsys, "help", "predict") == call(capsys, "predict", "--help")
    code, _, err = call(capsys, "help", "predct")
    assert code == 2 and "Did you mean 'predict'" in err


@pytest.mark.parametrize("verb", ["predict", "zeroshot"])
def test_images_that_are_missing_are_not_said_to_be_given_twice(capsys, tmp_path, verb) -> None:
    model = tmp_path / "m"
    write_bundle(tiny_lit(), model) if verb == "zeroshot" else vs.save(vs.create_model("mu/16", classes=2), model)
    more = ("--labels", "a,b") if verb == "zeroshot" else ()
    _, _, err = call(capsys, verb, model, *more)
    assert "give images: files or folders" in err
    _, _, err = call(capsys, verb, model, "x.jpg", "--data", "digits", *more)
    assert "given twice" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("prune", "m", "--data", "d", "--keep", "50"),
            "range: a share is at most 1, so 50 % is 0.5",
        ),
        (("predict", "m", "d", "--skip-unreadable", "5"), "it is a share, so 50 % is 0.5"),
        (("prune", "m", "--data", "d", "--keep", "1.2"), "--keep 1.2 is out of range: at most 1\n"),
        (("quantize", "m", "--images", "d", "--min-agreement", "99.5"), "it is a share, so 50 % is 0.5"),
        (("retrieve", "a", "--index", "i", "--min-score", "5"), "--min-score 5 is out of range: it is a cosine"),
        (("duplicates", "i", "--threshold", "97"), "--threshold 97 is out of range: it is a cosine, from -1 to 1\n"),
    ],
)
def test_percent_in_the_place_of_a_share_are_told(capsys, arguments, told) -> None:
    code, _, err = call(capsys, *arguments)
    assert code == 2 and told in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("train", "--epochs", "3"), "No such option: --epochs. Did you mean '--set schedule.epochs=3'?"),
        (("train", "--wd=0.1"), "Did you mean '--set optimizer.weight_decay=0.1'?"),
        (("train", "--workers"), "Did you mean '--set run.workers=4'?"),
        (("train", "epochs=3"), "write --set schedule.epochs=3"),
        (("predict", "m", "x.jpg", "--format", "csv"), "Did you mean '--csv'?"),
        (("predict", "m", "x.jpg", "format=csv"), "write --csv"),
        (("predict", "m", "x.jpg", "--bs", "3"), "No such option: --bs. Did you mean '--batch-size'?"),
        (
            ("export", "m", "--to", "onnx", "--batch-size", "3"),
            "such option: --batch-size. Did you mean '--fixed-batch'?",
        ),
        (("embed", "m", "x.jpg", "-o", "x"), "No such option: -o. Did you mean '--out'?"),
        (("train", "--device", "cuda"), "torch uses a GPU when it sees one; CUDA_VISIBLE_DEVICES sets which"),
        (
            ("evaluate", "m", "pets", "--data", "x"),
            "Got unexpected extra argument(s) (pets): data are given with --data",
        ),
    ],
)
def test_options_of_other_tools_are_translated(capsys, arguments, told) -> None:
    code, _, err = call(capsys, *arguments)
    assert code == 2 and told in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("predict", "m", "x.jpg", "--batch", "3"), "--batch is now --batch-size"),
        (("benchmark", "m", "--batch=3"), "--batch is now --batch-size"),
        (("export", "m", "--to", "onnx", "--batch", "3"), "--batch is now --fixed-batch"),
        (
            ("merge-tokens", "m", "--ratio", "2"),
            "--ratio is now --keep: the share of the FLOPs that is left, so --ratio 2 is --keep 0.5",
        ),
        (("retrieve", "--index", "i", "--image", "x.jpg"), "--image is now --images"),
        (("train", "--data", "d", "--init", "m"), "--init is now --model"),
        (("lit", "--data", "d", "--image", "m"), "--image is now --model"),
        (("lit", "--data", "d", "--text", "m"), "--text is now --text-model"),
        (("quantize", "m", "--data", "d", "--judges", "3"), "--judges is now --limit"),
        (("compress", "m", "--data", "d", "--most", "3"), "--most is now --limit"),
        (("zeroshot", "m", "x.jpg", "--strict"), "--strict is now --skip-unreadable 0"),
        (("embed", "m", "--texts", "x.txt", "--out", "x"), "--texts is now --texts-file"),
    ],
)
def test_words_of_before_are_told_what_they_are_now(capsys, arguments, told) -> None:
    verb = arguments[0]
    assert call(capsys, *arguments) == (2, "", f"vitsmith: {told} (see vitsmith {verb} --help)\n")


def test_verbs_of_before_are_told_what_they_are_now(capsys) -> None:
    told = "vitsmith: vitsmith merge is now vitsmith merge-tokens (see vitsmith --help)\n"
    assert call(capsys, "merge", "model", "--data", "pets") == (2, "", told)
    assert set(VERBS_RENAMED).isdisjoint(NAMES) and set(VERBS_RENAMED.values()) <= set(NAMES)


@pytest.mark.parametrize("verb", ["train", "lit", "distill"])
def test_data_to_learn_from_stand_behind_the_verb_or_behind_the_option_and_not_in_both_places(capsys, verb) -> None:
    rest = {"train": ("--arch", "mu/16"), "lit": ("--model", "m"), "distill": ("--teacher", "m", "--arch", "mu/16")}[
        verb
    ]
    by_place, by_option = (call(capsys, verb, *data, *rest) for data in (("nowhere",), ("--data", "nowhere")))
    assert by_place == by_option and by_place[0] == 2 and "nowhere" in by_place[2]
    code, out, err = call(capsys, verb, "here", "--data", "there", *rest)
    assert (code, out) == (2, "") and "the data are given twice, as 'here' and as --data 'there'" in err
    assert "unexpected extra argument" in call(capsys, verb, "here", "there", *rest)[2]


@pytest.mark.parametrize("verb", ["train", "distill"])
@pytest.mark.parametrize("name", ["ViT-B_16", "mu/16", "vit_base_patch16_224"])
def test_an_architecture_in_the_place_of_weights_is_told(capsys, verb, name) -> None:
    teacher = ("--teacher", "nowhere") if verb == "distill" else ()
    code, out, err = call(capsys, verb, *teacher, "--data", "digits", "--model", name)
    assert (code, out) == (2, "") and f"is an architecture without weights: --arch {name} starts from fresh ones" in err


def test_every_word_of_now_is_in_a_verb_that_lacks_the_word_of_before() -> None:
    group = typer.main.get_command(app)
    commands = [group.get_command(None, verb) for verb in VERBS]  # type: ignore[attr-defined]
    verbs = [{opt for param in command.params for opt in param.opts} for command in commands]
    for before, now in RENAMED.items():
        for word in now:
            assert any(word.split()[0].rstrip(":") in options and before not in options for options in verbs)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("val", "model"), "No such command 'val'. Did you mean vitsmith evaluate ?"),
        (("test", "model"), "Did you mean vitsmith evaluate ?"),
        (("detect", "model"), "Did you mean vitsmith predict ?"),
        (("info", "model"), "Did you mean vitsmith inspect ?"),
        (("bench", "model"), "Did you mean vitsmith benchmark ?"),
        (("mode=train", "data=pets"), "A verb comes first, as in vitsmith train pets"),
        (("train", "pets", "--opt", "adamw"), "Did you mean '--set optimizer.name=adamw'?"),
        (("predict", "m", "x.jpg", "--format", "json"), "Did you mean '--json'?"),
        (("predict", "m", "--source", "x.jpg"), "--source: give IMAGES after the verb, without an option"),
        (("predict", "x.jpg", "--weights", "m"), "--weights: give MODEL after the verb, without an option"),
        (("train", "data=pets", "model=m"), "'data=pets' is not how options are written here: write --data pets"),
        (("train", "pets", "imgsz=64"), "'imgsz=64' is not how options are written here: write --image-size 64"),
        (("train", "pets", "epochs=3"), "written here: write --set schedule.epochs=3"),
        (("predict", "model=m", "source=x.jpg"), "'model=m' is not how options are written here: write m by itself"),
        (("export", "model=m", "format=onnx"), "'model=m' is not how options are written here: write m by itself"),
        (("predict", "m", "task=detect"), "'task=detect' is not how options are written here"),
        (
            ("merge-tokens", "m", "ratio=1.2"),
            "write --keep: the share of the FLOPs that is left, so --ratio 2 is --keep 0.5\n",
        ),
        (("predict", "m", "epochs=3"), "written here: nothing is trained here; for training write vitsmith train DATA"),
        (("export", "m", "--to", "onnx", "--half"), "No such option: --half: write --precision fp16 (see"),
        (
            ("predict", "m", "x.jpg", "--fp16"),
            "--fp16: torch weights run with --precision bf16; a program runs in",
        ),
        (
            ("quantize", "m", "--half"),
            "--half: vitsmith export --precision fp16 makes a program in half precision (see",
        ),
        (("predict", "m", "x.jpg", "--conf", "1"), "--conf: there is no threshold: --top N shows the N best answers"),
        (("evaluate", "m", "--data", "d", "--conf", "1"), "--conf: there is no threshold: no answer is left out"),
        (("predict", "m", "x.jpg", "--epochs", "3"), "--epochs: nothing is trained here; for training write"),
        (("compress", "m", "--data", "d", "--epochs", "3"), "--epochs: --steps says how many updates there are"),
        (("predict", "m", "x.jpg", "--hull"), "No such option: --hull (see"),
        (("predict", "m", "x.jpg", "--tpo", "3"), "No such option: --tpo (Possible options: --top) (see"),
        (("evaluate", "m", "pets"), "evaluate needs --data: vitsmith evaluate MODEL --data DATA (see"),
    ],
)
def test_words_of_other_tools_are_refused_with_ours(capsys, arguments, told) -> None:
    code, out, err = call(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1) and told in err


def test_a_file_may_be_called_as_a_pair(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model=m").touch()
    assert "is not how options" not in call(capsys, "predict", "model=m", "batch=x.jpg")[2].partition("batch")[0]


def test_verbs_of_other_tools_are_not_ours() -> None:
    assert set(VERBS_ELSEWHERE) <= set(NAMES)
    assert set(NAMES).isdisjoint(word for others in VERBS_ELSEWHERE.values() for word in others)


def test_what_a_verb_lacks_is_not_advised(capsys) -> None:
    assert "Did you mean" not in call(capsys, "predict", "m", "x.jpg", "--epochs", "3")[2]


def test_every_advice_is_an_option_that_there_is() -> None:
    group = typer.main.get_command(app)
    commands = [group.get_command(None, verb) for verb in VERBS]  # type: ignore[attr-defined]
    verbs = [{opt for param in command.params for opt in param.opts} for command in commands]
    options = set().union(*verbs)
    fields = {row[0].strip("`") for row in table_after(ROOT / "docs" / "train.md", "| field |")}
    for ours, others in SAME.items():
        option, *rest = ours.split()
        assert option in options
        assert not rest or rest[0].partition("=")[0] in fields
        assert not any(option in its and its.intersection(others) for its in verbs), "an option of ours is no mistake"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with a bundle of torch weights."""
    labels = vs.Labels(names=("cat", "dog"))
    saved = vs.Bundle.of(vs.create_model("mu/16", classes=2, image_size=32), labels=labels)
    vs.save(saved, tmp_path / "pets" / "model")
    return tmp_path / "pets"


@pytest.mark.parametrize("inside", [".", "model", "model/model.safetensors"])
def test_a_run_and_a_file_of_its_bundle_are_the_bundle(run, inside, capsys) -> None:
    assert vs.load(run / inside).folder == run / "model"
    assert model_name(str(run / inside)) == "pets"
    assert call(capsys, "inspect", run / inside)[0] == 0
    check_recordable(str(run / inside))


def test_a_file_is_the_bundle_with_its_program(run, tmp_path) -> None:
    bundle = vs.load(run)
    write = lambda place: (place / "model.onnx").write_bytes(b"not run")  # noqa: E731
    exported = write_bundle(replace(bundle, program="onnx"), tmp_path / "exported", write_program=write)
    add_program(bundle, exported)
    (inside,) = (run / "model" / "programs").glob("*/model.onnx")
    assert [vs.load(file).program for file in (run / "model" / "model.safetensors", inside)] == ["torch", "onnx"]
    assert vs.load(tmp_path / "exported" / "model.onnx").program == "onnx"


def test_a_file_that_is_not_of_the_bundle_beside_it_is_refused(run) -> None:
    (run / "model" / "model.onnx").write_bytes(b"somebody's")
    with pytest.raises(BundleError, match=re.escape("model.onnx is not a file of the bundle in")):
        vs.load(run / "model" / "model.onnx")
    with pytest.raises(WeightsError, match="golden"):
        vs.load(run / "model" / "golden.safetensors")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("model.onnx", b"\x08\x08\x12\x07pytorch", "an ONNX program"),
        ("model.xml", b'<?xml version="1.0"?>\n<net name="model" version="11">', "an OpenVINO program"),
    ],
)
def test_a_program_without_its_bundle_is_refused_with_what_to_do(tmp_path, name, content, what) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=rf"is {what}.*give the folder that  vitsmith export  wrote"):
        vs.load(tmp_path / name)


def test_a_model_in_the_place_of_images_is_told(tmp_path) -> None:
    vs.save(vs.create_model("mu/16", classes=2, image_size=32), tmp_path / "model")
    with pytest.raises(InputError, match="is a bundle and holds no images: give the model first, then the images"):
        list(expand([str(tmp_path / "model")]))


def test_an_address_is_no_image(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is a web address, and images are files here"):
        list(expand(["https://example.com/a.jpg"]))
    (tmp_path / "https:" / "example.com").mkdir(parents=True)
    Image.fromarray(pictures(1)[0]).save("https:/example.com/a.png")
    assert list(expand(["https://example.com/a.png"])) == [Path("https:/example.com/a.png")]


def test_the_bar_of_the_quickstart_knows_how_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    shown = QuickstartProgress()
    shown.on_event(QuickstartStage(1, "training", 900))
    assert shown._training._bar.tasks[0].total == 900


@pytest.mark.parametrize(("columns", "bar"), [("80", 10), ("160", 40)])
def test_a_narrow_terminal_has_a_short_bar_and_the_note_last(monkeypatch, columns, bar) -> None:
    monkeypatch.setattr(output.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", columns)
    shown = output.progress(unit="steps")
    assert shown.columns[1].bar_width == bar  # type: ignore[attr-defined]
    task = shown.add_task("training", total=900, note="loss 2.3")
    assert str(shown.columns[-1].render(shown.tasks[task])) == "loss 2.3"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("google/vit-base-patch16-224", "if it is a name of Hugging Face, write hf:google/vit-base-patch16-224"),
        ("https://huggingface.co/google/vit-base-patch16-224", "of Hugging Face, write hf:google/vit-base-patch16-224"),
        ("hf.co/me/pets/tree/main", "of Hugging Face, write hf:me/pets"),
        ("ViT-B_16.augreg-i22k", "nor a published checkpoint: did you mean ViT-B_16.augreg-i21k"),
        ("B/16.san", "nor a published checkpoint: did you mean ViT-B_16.sam"),
        ("vit_base_patch16_224.augreg_in21k", "did you mean hf:timm/vit_base_patch16_224.augreg_in21k"),
        ("ViT-B_16.npz", None),
        ("runs/modl", None),
        ("google/vit.npz", None),
        ("./google/vit", None),
    ],
)
def test_a_name_of_hugging_face_is_told_how_to_be_written(tmp_path, monkeypatch, name, told) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(InputError, match="no such file or folder") as raised:
        vs.load(name)
    assert (told in str(raised.value)) if told else str(raised.value).endswith("no such file or folder")


def test_what_python_shows_of_a_prediction_has_the_answer() -> None:
    scores = np.array([0.25, 0.75], np.float32)
    shown = repr([vs.Prediction("a.jpg", scores, vs.Labels(names=("cat", "dog")))])
    assert shown == "[<Prediction a.jpg: dog 75.0%>]"


def test_what_is_saved_in_the_place_of_a_model_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match=r"must be a model of vitsmith, not .*Linear"):
        vs.save(torch.nn.Linear(2, 2), tmp_path / "model")


def test_ratios_that_are_not_those_beside_them_are_explained() -> None:
    before, after = Speed(3.16, 714.4, 16), Speed(2.04, 1819.6, 16)
    assert "the machine was busy" in Speedup(before, after, 2.46, 1.80).remark
    assert Speedup(before, after, 1.55, 2.50).remark == ""


def test_inspect_tells_one_machine_once_and_several_beside_their_numbers(tmp_path, capsys) -> None:
    bundle = vs.Bundle.of(vs.create_model("mu/16", classes=2, image_size=32), labels=vs.Labels(names=("cat", "dog")))
    top1 = vs.Measurement(metric="top1", value=0.9, data="pets", machine="mill", date="2026-01-02", low=0.85, high=0.95)
    vs.save(replace(bundle, measurements=(top1, top1.model_copy(update={"name": "top5"}))), tmp_path / "one")
    _, out, _ = call(capsys, "inspect", tmp_path / "one")
    assert out.count("mill") == 1 and "measured on  mill" in out and "0.9 [0.85, 0.95]" in out and "cat, dog" in out
    other = top1.model_copy(update={"name": "top5", "machine": "forge"})
    vs.save(replace(bundle, measurements=(top1, other)), tmp_path / "two")
    rows = call(capsys, "inspect", tmp_path / "two")[1].splitlines()
    assert [row.split()[-2] for row in rows if "pets" in row] == ["mill", "forge"]

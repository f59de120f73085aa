"""Where the same arrays have several answers, the publisher's is given and told, and an option gives each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import vitsmith as vs
from tests.command_line import call
from tests.reference.hf.arrays import images_of
from tests.reference.timm.record import images
from tests.tiny import CLIP_TEXT, MIXER, VIT, tiny_model
from tests.weights.dino_files import authors_file
from tests.weights.foreign_files import loaded, refusal
from tests.weights.timm_files import RECORDED, timm_file
from vitsmith.models.config import LiTConfig
from vitsmith.models.configure import change
from vitsmith.specs import ImageSpec
from vitsmith.training.images.start import start
from vitsmith.training.images.teacher import open_teacher
from vitsmith.training.lit.towers import start as text_start
from vitsmith.training.recipes.file import parse_fields, parse_recipe
from vitsmith.training.recipes.lit import LitRecipe
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.choices import as_chosen
from vitsmith.weights.conversion import Conversion
from vitsmith.weights.options import LoadOptions
from vitsmith.weights.save import save

VIT_IMAGES, VOCABULARY = ImageSpec.original(16), b"[PAD]\n[UNK]\n[CLS]\n[SEP]\ncat\n"
CLIP, QUICK, DINOV3 = "vit_base_patch32_clip_224", "vit_base_patch32_clip_quickgelu_224", "vit_small_patch16_dinov3"


def answers(bundle: Bundle) -> torch.Tensor:
    with torch.inference_mode():
        return bundle.model(images(bundle.config.image_size))


def has_note(bundle: Bundle, part: str) -> bool:
    return any(part in note for note in bundle.provenance.notes)


def test_the_other_gelu_of_clip_is_the_one_that_timm_has_under_another_name(tmp_path: Path) -> None:
    path = timm_file(tmp_path, CLIP, "openai")
    as_timm = loaded(path)
    assert as_timm.config.gelu == "erf" and has_note(as_timm, "gelu='quick'")
    torch.testing.assert_close(answers(as_timm), torch.tensor(RECORDED[CLIP]["outputs"]), rtol=1e-5, atol=1e-5)
    quick = loaded(path, gelu="quick")
    torch.testing.assert_close(answers(quick), torch.tensor(RECORDED[QUICK]["outputs"]), rtol=1e-5, atol=1e-5)
    assert has_note(quick, "GELU quick as asked for, not erf") and not has_note(quick, "as in timm: GELU")
    timm_file(tmp_path, CLIP, "laion2b_e16")
    assert not has_note(loaded(path), "gelu='quick'")


def test_siglip_of_timm_tells_that_others_compute_tanh(tmp_path: Path) -> None:
    bundle = loaded(timm_file(tmp_path, "vit_base_patch16_siglip_224"), headless=True)
    assert bundle.config.gelu == "erf" and has_note(bundle, "gelu='tanh'")
    assert loaded(tmp_path / "model.safetensors", headless=True, gelu="tanh").config.gelu == "tanh"
    tanh = loaded(timm_file(tmp_path, "vit_base_patch32_siglip_256"), headless=True)
    assert tanh.config.gelu == "tanh" and not has_note(tanh, "gelu=")


def test_dinov3_gives_the_mean_of_the_patches_or_the_class_token(tmp_path: Path) -> None:
    path = timm_file(tmp_path, DINOV3)
    mean, token, both = (loaded(path, headless=True, pooling=pooling) for pooling in (None, "token", "token_and_gap"))
    assert has_note(mean, "pooling='token'") and has_note(token, "pooling 'token' as asked for, not 'gap'")
    assert not has_note(token, "pooling='token'") and has_note(token, "periods=")
    with torch.inference_mode():
        tokens = mean.model.features(images(mean.config.image_size)).tokens
    torch.testing.assert_close(answers(token), tokens[:, 0])
    torch.testing.assert_close(answers(both), torch.cat([tokens[:, 0], tokens[:, 5:].mean(dim=1)], dim=1))


def test_periods_of_dinov3_in_either_rounding(tmp_path: Path) -> None:
    path = authors_file(tmp_path, "dinov3")
    stored, exact = loaded(path, headless=True), loaded(path, headless=True, periods="float32")
    assert has_note(stored, "periods='float32'") and has_note(exact, "rotary periods in float32 as asked for")
    rotary = stored.config.position_embedding.rotary
    assert rotary.bfloat16 and not exact.config.position_embedding.rotary.bfloat16
    batch = images_of(256, 256)
    with torch.inference_mode():
        assert 1e-5 < (stored.model(batch) - exact.model(batch)).abs().max() < 0.1
        torch.testing.assert_close(
            loaded(path, headless=True, periods="bfloat16").model(batch), stored.model(batch), rtol=0, atol=0
        )


def test_both_towers_take_a_gelu(tmp_path: Path) -> None:
    config = LiTConfig(image=change(VIT, classes=0), text=CLIP_TEXT)
    found = as_chosen(Conversion(config=config, slots={}, classifier=()), LoadOptions(gelu="erf"), "a")
    assert (found.config.image.gelu, found.config.text.gelu) == ("erf", "erf")
    assert found.choices == (
        "GELU erf of the image tower as asked for, not tanh",
        "GELU erf of the text tower as asked for, not quick",
    )


@pytest.mark.parametrize(
    ("architecture", "options", "told"),
    [
        (CLIP, {"pooling": "attention"}, "pooling by attention needs arrays that its file does not have"),
        (CLIP, {"pooling": "token_and_gap"}, "gives 96 numbers, and the head takes 48"),
        (CLIP, {"periods": "bfloat16"}, "only the rotary positions of DINOv3"),
        (
            "vit_base_patch16_siglip_224",
            {"pooling": "gap", "headless": True},
            "pooling by attention is that of its file",
        ),
        ("vit_so150m2_patch16_reg1_gap_256", {"pooling": "token"}, "pooling 'token' needs class_token=True"),
        ("vit_small_plus_patch16_dinov3_qkvb", {"gelu": "erf", "headless": True}, "have a gate with SiLU, and no GELU"),
    ],
)
def test_what_a_model_does_not_have_is_refused(
    tmp_path: Path, architecture: str, options: dict[str, Any], told: str
) -> None:
    path = timm_file(tmp_path, architecture)
    message = refusal(path, vs.InputError, **options)
    assert told in message and message.startswith(str(path))


def test_a_mixer_and_unknown_values_are_refused(tmp_path: Path) -> None:
    save(tiny_model(MIXER), tmp_path / "mixer.npz", format="npz")
    with pytest.raises(vs.InputError, match="a Mixer takes the mean of its patches"):
        vs.load(tmp_path / "mixer.npz", pooling="token")
    assert vs.load(tmp_path / "mixer.npz", gelu="erf").config.gelu == "erf"
    with pytest.raises(vs.InputError, match="gelu 'erff'"):
        vs.load(tmp_path / "mixer.npz", gelu="erff")  # type: ignore[arg-type]


def test_the_command_line_passes_choices_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = timm_file(tmp_path, DINOV3)
    code, out, err = call(capsys, "inspect", path, "--read-as", "pooling=token", "--json")
    assert code == 0 and '"pooling": "token"' in out, err
    for given, told in (("pooling", "give NAME=VALUE"), ("poling=gap", "pooling"), ("gelu=exact", "erf")):
        code, _, err = call(capsys, "inspect", path, "--read-as", given)
        assert code == 2 and told in err
    code, _, err = call(capsys, "inspect", path, "--read-as", "gelu=erf", "--read-as", "gelu=tanh")
    assert code == 2 and "given twice" in err


def test_recipes_pass_choices_on(tmp_path: Path) -> None:
    path = str(timm_file(tmp_path, CLIP, "openai"))
    tuned = start(parse_recipe({"data": {"path": "x"}, "model": {"init": path, "read_as": {"gelu": "quick"}}}), 3)
    assert tuned.model.config.gelu == "quick" and any("GELU quick as asked for" in note for note in tuned.notes)
    assert start(parse_recipe({"data": {"path": "x"}, "model": {"init": path}}), 3).model.config.gelu == "erf"
    lit = {"data": {"path": "x"}, "image": {"init": path, "read_as": {"gelu": "tanh"}}, "text": {"size": "mu"}}
    towers = text_start(parse_fields(lit, LitRecipe), ("wordpiece", VOCABULARY))
    assert towers.lit.config.image.gelu == "tanh"
    distill = {"teacher": path, "teacher_read_as": {"gelu": "quick", "pooling": "attention"}}
    recipe = parse_recipe({"data": {"path": "x"}, "model": {"name": "ViT-mu_16"}, "distill": distill})
    with pytest.raises(vs.InputError, match="pooling by attention needs arrays that its file does not have"):
        open_teacher(recipe, ["a", "b"], VIT_IMAGES, "cpu")
    for wrong, told in (({"gelu": "exact"}, "gelu 'exact'"), ({"poling": "gap"}, "choice 'poling'")):
        with pytest.raises(vs.InputError, match=rf"model\.read_as: unknown {told}"):
            parse_recipe({"data": {"path": "x"}, "model": {"init": path, "read_as": wrong}})


@pytest.mark.parametrize(
    ("verb", "option"),
    [
        ("train", "--read-as"),
        ("distill", "--read-as"),
        ("distill", "--teacher-read-as"),
        ("lit", "--read-as"),
        ("lit", "--text-read-as"),
        ("benchmark", "--read-as"),
    ],
)
def test_each_command_that_takes_a_model_takes_choices(
    verb: str, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(timm_file(tmp_path, DINOV3))
    models = {"train": ("--model", path), "lit": ("--model", path, "--text-model", path), "benchmark": (path,)}
    models["distill"] = ("--teacher", path, "--model", path)
    data = () if verb == "benchmark" else ("shapes" if verb == "lit" else "digits",)
    code, _, err = call(capsys, verb, *data, *models[verb], option, "gelu=exact")
    assert code == 2 and "unknown gelu 'exact': known are erf, quick, tanh" in err, err
    if verb != "benchmark":  # the choice reaches the reader: a DINOv3 has no pooling by attention
        out = ("--out", tmp_path / "run")
        code, _, err = call(capsys, verb, *data, *models[verb], option, "pooling=attention", *out)
        assert code == 2 and "pooling by attention needs arrays that its file does not have" in err, err


def test_benchmark_reads_checkpoints_so_and_bundles_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = timm_file(tmp_path, CLIP, "openai")
    save(tiny_model(MIXER), tmp_path / "bundle")
    fast = ("--engine", "torch", "--precision", "fp32", "--batch-size", "1", "--seconds", "0.02", "--json")
    code, out, err = call(capsys, "benchmark", path, tmp_path / "bundle", "--read-as", "gelu=quick", *fast)
    assert code == 0 and "GELU quick as asked for, not erf" in err, err
    assert all(row["p50_ms"] and not row["reason"] for row in json.loads(out)["rows"])
    for given, told in (("gelu=quick", "every model here is a bundle"), ("preprocessing=usual", "leave it out")):
        code, _, err = call(capsys, "benchmark", tmp_path / "bundle", "--read-as", given, *fast)
        assert code == 2 and told in err, err

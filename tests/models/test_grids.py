"""What arrays do not show: never guessed in silence. It comes back right, is asked for, or is told."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import save_file
from scipy.ndimage import zoom
from typer.testing import CliRunner, Result

from tests.tiny import CONFIGS, MIXER, VIT, pictures, tiny_inputs, tiny_lit, tiny_model
from tests.training.small_runs import FIELDS
from tests.weights.foreign_files import HF_CONFIG, TIMM_CONFIG, written
from tests.weights.foreign_reference import hf_vit, timm_mixer, timm_vit
from vitsmith import load, save
from vitsmith.cli.main import app
from vitsmith.errors import InputError, WeightsError
from vitsmith.models.config import ModelConfig, ResNetConfig
from vitsmith.models.configure import change
from vitsmith.training.images.start import start
from vitsmith.training.lit.towers import open_image_tower
from vitsmith.training.recipes.file import merge, parse_recipe
from vitsmith.weights.containers.npz import NpzFile

WIDE = change(VIT, image_size=(16, 64))  # 2 x 8 patches of 8 x 8 pixels: as many as 4 x 4
GRIDS: dict[str, ModelConfig] = {
    "2x8": WIDE,
    "8x2": change(VIT, image_size=(64, 16)),
    "1x9": change(VIT, image_size=(8, 72), pooling="gap"),
    "patches that are not square": change(VIT, image_size=(32, 8), patch=(8, 4)),
    "no square number": VIT,
    "mixer": change(MIXER, image_size=(16, 64)),
    "hybrid whose sides are rounded up": change(
        VIT, resnet=ResNetConfig(stages=(2, 1), width_factor=0.5), patch=(1, 1), image_size=(25, 30)
    ),
    "square": change(VIT, image_size=(32, 32)),
    "unpooled": change(VIT, image_size=(32, 32), pooling="unpooled"),
    "token_unpooled, 2x8": change(VIT, image_size=(16, 64), pooling="token_unpooled"),
    "lit": CONFIGS["lit-transformer"],
}


@pytest.mark.parametrize("name", GRIDS)
def test_what_we_wrote_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    config = GRIDS[name]
    model = tiny_lit("lit-transformer").model if name == "lit" else tiny_model(config)
    save(tiny_lit("lit-transformer") if name == "lit" else model, tmp_path / "a.npz", format="npz")
    back = load(tmp_path / "a.npz")
    assert back.config == model.config
    if name != "lit":
        (images,) = tiny_inputs(config, 2)
        torch.testing.assert_close(back.model(images), model(images), rtol=0, atol=0)


def test_what_is_told_is_no_array_and_only_where_it_is_needed(tmp_path: Path) -> None:
    for name, told in (("2x8", {"image_size": [16, 64]}), ("square", {}), ("unpooled", {"pooling": "unpooled"})):
        save(tiny_model(GRIDS[name]), tmp_path / "a.npz", format="npz")
        with np.load(tmp_path / "a.npz") as arrays, NpzFile(tmp_path / "a.npz") as file:
            assert file.told == told and set(arrays) == set(file.shapes)
            assert all(array.dtype == np.float32 for array in arrays.values())
        with zipfile.ZipFile(tmp_path / "a.npz") as archive:
            assert all(member.endswith(".npy") for member in archive.namelist())
            assert bool(archive.comment) == bool(told)


def test_a_grid_of_others_is_taken_for_a_square_and_told(tmp_path: Path) -> None:
    save(tiny_model(WIDE), tmp_path / "ours.npz", format="npz")
    with np.load(tmp_path / "ours.npz") as arrays:
        np.savez(tmp_path / "theirs.npz", **arrays)
    square = load(tmp_path / "theirs.npz")
    assert square.config.grid == (4, 4)
    (note,) = square.provenance.notes
    assert note == (
        "assumed, because arrays do not show it: a square grid of 4x4 patches for images of 32x32 pixels "
        "(image_size= changes it), pooling 'token' (pooling= changes it)"
    )
    asked = load(tmp_path / "theirs.npz", image_size=(16, 64), pooling="token")
    assert asked.config == WIDE and asked.provenance.notes == ()


def test_positions_move_from_the_grid_that_the_file_has(tmp_path: Path) -> None:
    """By the original's rule, scipy.ndimage.zoom of order 1; without a told grid from the square that the file has."""
    model = tiny_model(WIDE)
    save(model, tmp_path / "a.npz", format="npz")
    assert load(tmp_path / "a.npz", image_size=(16, 64)).config == WIDE
    moved = load(tmp_path / "a.npz", image_size=32)
    stored = model.state_dict()["positions.embedding"][0, 1:].reshape(2, 8, -1).numpy()
    expected = zoom(stored, (2, 0.5, 1), order=1).reshape(16, -1)
    found = moved.model.state_dict()["positions.embedding"][0]
    np.testing.assert_allclose(found[1:].numpy(), expected, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(found[:1], model.state_dict()["positions.embedding"][0, :1], rtol=0, atol=0)
    assert moved.preprocessing.size == (32, 32)
    assert "positions of 2x8 patches were resized to 4x4, bilinear, corners aligned" in str(moved.provenance.notes)
    save(tiny_model(change(VIT, image_size=(32, 32))), tmp_path / "b.npz", format="npz")
    assert load(tmp_path / "b.npz", image_size=(16, 24)).config.grid == (2, 3)


@pytest.mark.parametrize("kind", ["ours", "timm"])
def test_a_mixer_takes_images_of_one_size(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("a.npz" if kind == "ours" else "a.safetensors")
    if kind == "ours":
        save(tiny_model(change(MIXER, image_size=(32, 32))), path, format="npz")
    else:
        save_file(timm_mixer(), path)
    with pytest.raises(WeightsError, match="a Mixer takes as many patches as it was trained with, 16 of 8x8 pixels"):
        load(path, image_size=40)


def test_a_comment_is_believed_only_whole(tmp_path: Path) -> None:
    """With any byte of it changed the file is refused; with another length it is, or says the same."""
    path = tmp_path / "a.npz"
    save(tiny_model(WIDE), path, format="npz")
    data = path.read_bytes()
    begin = data.index(b"vitsmith ")
    for place in range(begin - 2, len(data)):
        for flipped in (0x01, 0x20, 0x80):
            path.write_bytes(data[:place] + bytes([data[place] ^ flipped]) + data[place + 1 :])
            try:
                found = load(path).config
            except WeightsError as error:
                assert "comment" in str(error) or place < begin
            else:
                assert place < begin and found == WIDE
    path.write_bytes(data[: begin - 2] + b"\5\0hello")
    assert load(path).config.grid == (4, 4)


@pytest.mark.parametrize("kind", ["vit", "mixer"])
def test_a_lone_file_of_timm_tells_what_it_assumes(tmp_path: Path, kind: str) -> None:
    state = timm_vit() if kind == "vit" else timm_mixer()
    save_file(state, tmp_path / "a.safetensors")
    *_, note = load(tmp_path / "a.safetensors").provenance.notes
    assert "GELU erf" in note and "a square grid of " in note and "image_size= changes it" in note
    assert ("2 heads" in note and "pooling 'token'" in note) is (kind == "vit")
    rows, columns = load(tmp_path / "a.safetensors").config.grid
    patch = load(tmp_path / "a.safetensors").config.patch
    size = (patch[0], patch[1] * rows * columns)
    wide = load(tmp_path / "a.safetensors", image_size=size)
    assert wide.config.grid == (1, rows * columns) and "square" not in " ".join(wide.provenance.notes)


def test_a_config_json_that_does_not_fit_the_positions_is_told(tmp_path: Path) -> None:
    config = {**TIMM_CONFIG, "pretrained_cfg": {"input_size": [3, 64, 64]}}
    bundle = load(written(tmp_path, timm_vit(), config))
    assert bundle.config.image_size == (32, 32)
    assert "a square grid of 4x4 patches" in bundle.provenance.notes[0]


def test_what_hf_leaves_out_is_told(tmp_path: Path) -> None:
    config = {name: value for name, value in HF_CONFIG.items() if name not in ("hidden_act", "layer_norm_eps")}
    written(tmp_path, hf_vit(), config)
    assert (
        "config.json does not have hidden_act, layer_norm_eps: HF's defaults were used (hidden_act gelu, "
        "layer_norm_eps 1e-12)"
    ) in load(tmp_path).provenance.notes


def test_lit_tells_how_its_texts_are_read(tmp_path: Path) -> None:
    save(tiny_lit(released=True), tmp_path / "a.npz", format="npz")
    assert "texts of 16 tokens in lower case, 1 heads in BERT" in load(tmp_path / "a.npz").provenance.notes[0]


@pytest.mark.parametrize("size", [0, -3, True, 2.5, (1,), (16, 16, 16), (16, "16"), "16", (0, 16)])
def test_a_size_is_one_number_or_two(tmp_path: Path, size: object) -> None:
    save(tiny_model(WIDE), tmp_path / "a.npz", format="npz")
    with pytest.raises(InputError, match=r"image_size .*: give pixels, as 224 or \(height, width\)"):
        load(tmp_path / "a.npz", image_size=size)  # type: ignore[arg-type]


def test_a_bundle_says_its_own_size(tmp_path: Path) -> None:
    save(tiny_model(WIDE), tmp_path / "bundle")
    assert load(tmp_path / "bundle", image_size=(16, 64)).config == WIDE
    with pytest.raises(InputError, match=r"takes images of 16x64 pixels, as its bundle\.json says: leave"):
        load(tmp_path / "bundle", image_size=32)
    with pytest.raises(InputError, match=r"leave out pooling: for checkpoints only, and .* is a bundle"):
        load(tmp_path / "bundle", pooling="gap")


# --- the command line ------------------------------------------------------------------------------------------------

VERBS = (
    "inspect", "predict", "evaluate", "zeroshot", "embed", "retrieve", "export", "quantize", "merge-tokens", "prune",
    "compress", "benchmark",
)  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_takes_a_checkpoint_asks_for_its_size(verb: str) -> None:
    command = typer.main.get_command(app).get_command(None, verb)  # type: ignore[attr-defined, arg-type]
    assert "--image-size" in [option for parameter in command.params for option in parameter.opts]


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A 2 x 8 grid as others write it, and an image, in the current folder."""
    save(tiny_model(WIDE), tmp_path / "ours.npz", format="npz")
    with np.load(tmp_path / "ours.npz") as arrays:
        np.savez(tmp_path / "theirs.npz", **arrays)
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_size_that_was_asked_for_is_taken(theirs: Path) -> None:
    shown = invoke("inspect", "theirs.npz", "--image-size", "16x64", "--json")
    assert json.loads(shown.stdout)["config"]["image_size"] == [16, 64]
    assert json.loads(invoke("inspect", "theirs.npz", "--json").stdout)["config"]["image_size"] == [32, 32]
    right = invoke("predict", "ours.npz", "a.png", "--json")
    asked = invoke("predict", "theirs.npz", "a.png", "--json", "--image-size", "16x64")
    square = invoke("predict", "theirs.npz", "a.png", "--json")
    assert right.stdout == asked.stdout != square.stdout
    assert "note: assumed, because arrays do not show it: a square grid of 4x4 patches" in square.stderr
    assert "square" not in asked.stderr and "square" not in right.stderr
    embedded = invoke("embed", "theirs.npz", "a.png", "--out", "a.npz", "--image-size", "16x64")
    assert embedded.exit_code == 0, embedded.stderr
    written_again = invoke("export", "theirs.npz", "--to", "npz", "--image-size", "16x64", "--out", "told.npz")
    assert written_again.exit_code == 0, written_again.stderr
    assert load("told.npz").config == WIDE


@pytest.mark.parametrize("size", ["wide", "16x", "x64", "0", "16x64x3", "-16x64", "1e3", "9999999", "16 x 64"])
def test_a_size_that_cannot_be_is_refused(theirs: Path, size: str) -> None:
    refused = invoke("predict", "theirs.npz", "a.png", f"--image-size={size}")
    assert isinstance(refused.exception, InputError)
    assert "\n" not in str(refused.exception) and "image" in str(refused.exception)


def test_runs_that_begin_with_a_checkpoint_ask_for_its_size(theirs: Path) -> None:
    fields = {**FIELDS, "model": {"init": "theirs.npz", "init_size": [16, 64]}}
    begun = start(parse_recipe(fields), 3).model
    assert begun.config.image_size == (16, 64)
    moved = start(parse_recipe(merge(fields, {"model": {"image_size": 32}})), 3)
    assert moved.model.config.grid == (4, 4) and "grid 2x8 to 4x4" in moved.report.resized["positions.embedding"]
    assert open_image_tower("theirs.npz", (16, 64)).model.config.grid == (2, 8)


def test_runs_that_begin_with_a_checkpoint_tell_what_they_assume_of_it(theirs: Path) -> None:
    square = "note: assumed, because arrays do not show it: a square grid of 4x4 patches"
    begun = start(parse_recipe({**FIELDS, "model": {"init": "theirs.npz"}}), 3)
    assert square in begun.notes[0] and square in open_image_tower("theirs.npz").notes[0]
    asked = start(parse_recipe({**FIELDS, "model": {"init": "theirs.npz", "init_size": [16, 64]}}), 3)
    assert not any("square" in note for note in asked.notes)
    for label in ("cat", "dog"):
        (theirs / "pets" / label).mkdir(parents=True)
        for index, picture in enumerate(pictures(5)):
            Image.fromarray(picture).save(theirs / "pets" / label / f"{index}.png")
    quick = ("--steps", "1", "--batch-size", "2", "--set", "schedule.warmup=0", "--set", "run.baseline=false")
    ran = invoke("train", "--data", "pets", "--model", "theirs.npz", "--out", "run", *quick)
    assert ran.exit_code == 0 and square in ran.stderr

"""The command line as a user meets it: what it prints, where, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vitsmith as vs
from tests.command_line import call
from tests.tiny import pictures
from vitsmith.cli.main import main

LABELS = ("cat", "dog", "fox")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A bundle of three classes."""
    torch.manual_seed(0)
    network = vs.create_model("mu/16", classes=3, image_size=32)
    network.head.weight.data.normal_()
    folder = tmp_path_factory.mktemp("bundles") / "pets" / "model"
    vs.save(vs.Bundle.of(network, labels=vs.Labels(names=LABELS)), folder)
    return folder


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is of this size and has no pixels."""
    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", size), (b"IDAT", b""), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def write_photos(folder: Path, count: int = 3) -> list[Path]:
    paths = [folder / f"{index}.png" for index in range(count)]
    for path, picture in zip(paths, pictures(count), strict=True):
        Image.fromarray(picture).save(path)
    return paths


def write_nonsense(folder: Path) -> int:
    """Files that look like images and are none; returns how many."""
    frames = [Image.fromarray(picture) for picture in pictures(2)]
    whole = io.BytesIO()
    frames[0].save(whole, "JPEG")
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    (folder / "truncated.jpg").write_bytes(whole.getvalue()[:-200])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "words.png").write_text("these are words")
    (folder / "huge.png").write_bytes(png_header(50_000, 50_000))
    return 5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["predict", "--tpo", "3"], "--top"),
        (["models", "ViT-B/17"], "did you mean ViT-B_16"),
        (["train"], "DATA on the command line"),
        (["inspect", "nowhere.npz"], "nowhere.npz: no such file"),
        (["predict", "ViT-Ti_16", "--data", "digits"], "ViT-Ti_16"),
        (["train", "--data", "nowhere", "--arch", "mu/16"], "nowhere"),
        (["train", "--data", "digits", "--arch", "mu/16", "--set", "dropout"], "section.field=value"),
        (["train", "--data", "digits", "--arch", "mu/16", "--lr", "-1", "--set", "batch.mikro=3"], "mikro"),
        (["train", "--recipe", "finetun", "--data", "digits", "--arch", "mu/16"], "did you mean finetune"),
        (["train", "--resume", "nowhere"], "nowhere"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(capsys, folder, arguments, told) -> None:
    code, out, err = call(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert told in err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["distill", "--teacher", "nowhere", "--data", "digits", "--arch", "mu/16", "--image-size", "32"],
        ["train", "--model", "nowhere", "--data", "digits"],
        ["train", "--data", "digits", "--arch", "mu/16", "--image-size", "32", "--set", 'model.freeze=["blokcs.*"]'],
    ],
)
def test_what_is_refused_before_the_first_update_leaves_nothing(capsys, folder, arguments) -> None:
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert "nowhere" in err.splitlines()[-1] or "blocks" in err.splitlines()[-1]
    assert list(folder.iterdir()) == []


def test_models_lists_all_and_one(capsys) -> None:
    _, out, _ = call(capsys, "models", "--json")
    assert {"ViT-B_16", "Mixer-B_16", "R50+ViT-B_16", "LiT-B16B_2"} <= {row["name"] for row in json.loads(out)}
    _, out, _ = call(capsys, "models", "vit_base_patch16_384", "--json")
    row = json.loads(out)
    assert (row["name"], row["image_size"], row["parameters"]) == ("ViT-B_16", [384, 384], 86_859_496)
    assert any(one["tag"] == "ViT-B_16.augreg-i21k" for one in row["checkpoints"])
    code, out, _ = call(capsys, "models")
    assert code == 0 and "86.6 M" in out


def test_predict_in_every_style_gives_the_predictors_answers(capsys, folder, model) -> None:
    paths = write_photos(folder)
    expected = vs.Predictor(model)(paths)
    code, out, err = call(capsys, "predict", model, ".", "--json", "--top", 2)
    rows = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [row["image"] for row in rows] == [path.name for path in paths]
    for row, one in zip(rows, expected, strict=True):
        assert [answer["label"] for answer in row["predictions"]] == [label for label, _ in one.top(2)]
        assert row["predictions"][0]["probability"] == pytest.approx(one.probability, abs=1e-5)
    _, out, _ = call(capsys, "predict", model, "*.png", "--csv")
    table = list(csv.DictReader(io.StringIO(out)))
    assert [row["label1"] for row in table] == [one.label for one in expected]
    _, out, _ = call(capsys, "predict", model, *paths)
    assert [line.split()[0] for line in out.splitlines()] == [one.label for one in expected]


def test_unreadable_images_are_reported_skipped_and_counted(capsys, folder, model) -> None:
    write_photos(folder, 2)
    wrong = write_nonsense(folder)
    code, out, err = call(capsys, "predict", model, ".", "--csv")
    assert code == 2
    assert (
        err.splitlines()[-1]
        == f"vitsmith: {wrong} of {wrong + 2} images could not be read or answered, and were skipped"
    )
    assert len(err.splitlines()) == wrong + 1
    rows = {row["image"]: row for row in csv.DictReader(io.StringIO(out))}
    assert rows["1.png"]["label1"] in LABELS
    for name, reason in {"huge.png": "2,500,000,000 pixels", "empty.jpg": "empty", "animated.gif": "animated"}.items():
        assert reason in rows[name]["error"]


def test_a_share_of_the_images_may_be_unreadable_where_it_is_said(capsys, folder, model) -> None:
    write_photos(folder, 2)
    write_nonsense(folder)
    code, out, err = call(capsys, "predict", model, "words.png", "empty.jpg", "--skip-unreadable", "0")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "words.png" in err
    images = ("words.png", "0.png", "1.png", "empty.jpg")
    code, out, err = call(capsys, "predict", model, *images, "--skip-unreadable", "0.25")
    assert code == 2 and out.count("\n") == 2
    assert "2 of 4 images cannot be read, --skip-unreadable 0.25 allows 1: replace or remove them" in err
    code, out, err = call(capsys, "predict", model, *images, "--skip-unreadable", "0.5")
    assert code == 0 and out.count("\n") == 2 and err.count("skipped: ") == 2


def test_data_stand_in_the_place_of_images_by_split_and_column(capsys, folder, model) -> None:
    write_photos(folder, 3)
    table = ["file,breed,split", "0.png,cat,train", "1.png,cat,val", "2.png,cat,val"]
    (folder / "table.csv").write_text("\n".join(table) + "\n")
    columns = ("--image-column", "file", "--label-column", "breed")
    direct = call(capsys, "predict", model, "./1.png", "./2.png")[1]
    code, out, _ = call(capsys, "predict", model, "--data", "table.csv", "--split", "val", *columns)
    assert code == 0 and out.replace("./", "") == direct.replace("./", "")
    assert call(capsys, "predict", model, "--data", "table.csv", *columns)[1].count("\n") == 3
    call(capsys, "embed", model, "--data", "table.csv", "--split", "val", *columns[:2], "--out", "index")
    for query in (("--images", "1.png", "--images", "2.png"), ("--data", "table.csv", "--split", "val", *columns)):
        code, out, err = call(capsys, "retrieve", "--index", "index", *query, "--top", "1", "--json")
        found = [json.loads(line) for line in out.splitlines()]
        assert code == 0 and [[hit["id"] for hit in one["results"]] for one in found] == [["1.png"], ["2.png"]], err
    code, _, err = call(capsys, "retrieve", "--index", "index", "--images", "1.png", "--split", "val")
    assert code == 2 and "--split chooses a part of --data: give --data too" in err


def test_standard_input_is_an_image_or_a_list_of_paths(folder, model) -> None:
    path = write_photos(folder, 1)[0]
    command = [sys.executable, "-m", "vitsmith", "predict", str(model), "-", "--json"]
    answers = [
        json.loads(subprocess.run(command, input=data, capture_output=True, check=True).stdout)["predictions"]
        for data in (path.read_bytes(), f"{path}\n".encode())
    ]
    assert answers[0] == answers[1]


def test_evaluate_matches_folders_by_name(capsys, folder, model) -> None:
    paths = write_photos(folder, 6)
    predicted = [one.label for one in vs.Predictor(model)(paths)]
    for name in ("fox", "cat"):  # not the model's order, and not all of its classes
        (folder / "data" / name).mkdir(parents=True)
    for index, path in enumerate(paths):
        path.rename(folder / "data" / ("fox" if index % 2 else "cat") / path.name)
    code, out, _ = call(capsys, "evaluate", model, "--data", "data", "--json")
    right = sum(label == ("fox" if index % 2 else "cat") for index, label in enumerate(predicted))
    scores = json.loads(out)
    assert (code, scores["num_images"]) == (0, 6)
    assert scores["top1"] == pytest.approx(right / 6)
    assert json.loads((folder / "runs/evaluate/pets/scores.json").read_text())["top1"] == scores["top1"]
    (folder / "data" / "fox").rename(folder / "data" / "wolf")
    code, _, err = call(capsys, "evaluate", model, "--data", "data")
    assert code == 2 and "'wolf'" in err


def test_a_changed_byte_is_refused_by_every_verb(capsys, folder, model) -> None:
    import shutil

    shutil.copytree(model, "changed")
    weights = Path("changed/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x77")
    write_photos(folder, 1)
    for arguments in (["inspect", "changed"], ["predict", "changed", "0.png"], ["export", "changed", "--to", "npz"]):
        code, out, err = call(capsys, *arguments)
        assert (code, out) == (2, "")
        assert "model.safetensors" in err and err.count("\n") == 1


def test_export_to_npz_and_back(capsys, folder, model) -> None:
    code, out, _ = call(capsys, "export", model, "--to", "npz", "--out", "pets.npz", "--json")
    assert (code, json.loads(out)["written"]) == (0, "pets.npz")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(vs.load("pets.npz").model(images), vs.load(model).model(images))
    code, _, err = call(capsys, "export", model, "--to", "npz", "--out", "pets.npz")
    assert code == 2 and "--force" in err


def test_places_that_cannot_be_written_are_told_before_work(capsys, folder, model) -> None:
    Path("file").write_text("in the way")
    for arguments in (
        ["export", model, "--to", "npz", "--out", "file/model.npz"],
        ["train", "--data", "digits", "--arch", "mu/16", "--out", "file/run"],
    ):
        code, _, err = call(capsys, *arguments)
        assert code == 2 and "cannot write" in err and err.count("\n") == 1


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_training_leaves_no_half_bundle(folder, ending) -> None:
    command = "train --data digits --arch mu/16 --image-size 32 --steps 100000 --batch-size 8 --set schedule.warmup=1"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "vitsmith", *command.split()], stderr=subprocess.PIPE, text=True, env=environment
    )
    log = folder / "runs/train/digits-mu_16/metrics.jsonl"
    deadline = time.monotonic() + 240  # a busy machine
    while not (log.exists() and log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(ending)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert err.splitlines()[-1].startswith("vitsmith: stopped after"), err
    assert err.splitlines()[-1].endswith("vitsmith train --resume runs/train/digits-mu_16")
    assert "Traceback" not in err
    left = sorted(path.name for path in log.parent.iterdir())
    assert left == ["checkpoints", "command.txt", "metrics.jsonl", "recipe.json", "split.safetensors"]


def test_predictions_fit_in_a_pipe_that_closes(folder, model) -> None:
    write_photos(folder, 3)
    command = f"{sys.executable} -m vitsmith predict {model} . --json --batch-size 1 | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert "0.png" in done.stdout
    assert done.stderr == ""


def test_help_and_package_are_light() -> None:
    code = "import sys, vitsmith; assert not {'torch', 'numpy', 'pydantic', 'rich'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    heavy = "{'torch', 'numpy', 'pydantic', 'PIL', 'onnxruntime', 'matplotlib', 'sklearn'}"
    code = f"import sys, vitsmith.cli.main; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_scaled_decoding_is_asked_for_by_name(capsys, folder, model) -> None:
    picture = np.kron(pictures(1)[0], np.ones((20, 20, 1), np.uint8))
    Image.fromarray(picture).save("large.jpg", quality=95)
    rows = []
    for extra in ([], ["--scaled-decoding"]):
        code, out, _ = call(capsys, "predict", model, "large.jpg", "--json", *extra)
        assert code == 0
        rows.append(json.loads(out)["predictions"][0])
    assert rows[0]["label"] == rows[1]["label"]
    assert rows[0]["probability"] != rows[1]["probability"]


@pytest.mark.parametrize(("module", "package", "extra"), [("torch.nn", "torch", "torch"), ("onnx", "onnx", "export")])
def test_a_package_that_many_files_begin_with_is_told_with_its_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, module: str, package: str, extra: str
) -> None:
    def missing(**_: object) -> None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("vitsmith.cli.main.app", missing)
    line = f"vitsmith: this needs {package}, which is not installed: run pip install 'vitsmith[{extra}]'\n"
    assert call(capsys, "train") == (2, "", line)


def test_a_module_of_our_own_that_is_missing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(**_: object) -> None:
        raise ModuleNotFoundError("No module named 'vitsmith.nothing'", name="vitsmith.nothing")

    monkeypatch.setattr("vitsmith.cli.main.app", missing)
    with pytest.raises(ModuleNotFoundError):
        main(["train"])

"""`vitsmith export` where nothing is to be written, or something else is there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.command_line import call
from tests.exporting import export_onnx
from tests.tiny import CONFIGS, pictures, tiny_model
from vitsmith import Bundle, Labels, load, save
from vitsmith.exporters.gate import REQUIRED, Gate
from vitsmith.gate import Requirements


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a torch bundle, `weights`, and its ONNX program, `program`."""
    place = tmp_path_factory.mktemp("made")
    bundle = save(Bundle.of(tiny_model(CONFIGS["mixer"])).with_golden(pictures(2)), place / "weights")
    assert bundle is not None
    export_onnx(bundle, place / "program", gate=Gate(images=pictures(2)))
    return place


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, beside which the bundles are."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_an_npz_is_where_it_says_and_replaces_nothing_unasked(capsys: Any, folder: Path) -> None:
    code, out, _ = call(capsys, "export", "../weights", "--to", "npz", "--out", "pets")
    assert code == 0 and "pets.npz" in out and [path.name for path in folder.iterdir()] == ["pets.npz"]
    (folder / "pets.npz").write_bytes(b"mine")
    code, _, err = call(capsys, "export", "../weights", "--to", "npz", "--out", "pets")
    assert code == 2 and "pets.npz exists" in err
    assert (folder / "pets.npz").read_bytes() == b"mine"


def test_what_was_refused_leaves_no_folder_of_runs(capsys: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REQUIRED, "fp32", Requirements(relative=0))
    code, _, err = call(capsys, "export", "../weights", "--to", "onnx")
    assert code == 3 and "nothing was written" in err
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["../program", "--to", "triton", "--data", "photos"],
            "without a gate: leave --images, --data, --max-drop and",
        ),
        (
            ["../program", "--to", "triton", "--strict-gate"],
            "copied as it is, without a gate: leave --images, --data, ",
        ),
        (
            ["../program", "--to", "triton", "--max-drop", "1"],
            "copied as it is, without a gate: leave --images, --data, ",
        ),
        (
            ["../weights", "--to", "npz", "--strict-gate"],
            "there is no gate: leave --images, --data, --max-drop and --str",
        ),
        (
            ["../weights", "--to", "npz", "--max-drop", "1"],
            "there is no gate: leave --images, --data, --max-drop and --st",
        ),
        (
            ["../weights", "--to", "onnx", "--max-drop", "1"],
            "--max-drop is measured on labelled images: give some with",
        ),
        (
            ["../weights", "--to", "onnx", "--strict-gate"],
            "a strict gate counts right answers: give it labelled images",
        ),
        (
            ["../program", "--to", "triton", "--images", "0.png"],
            "without a gate: leave --images, --data, --max-drop and",
        ),
        (["../weights", "--to", "npz", "--labels", "cat"], "--labels are for the page of a LiT model, not for npz"),
        (["../weights", "--to", "onnx", "--labels", "cat"], "--labels are for the page of a LiT model, not for onnx"),
        (["../weights", "--to", "npz", "--labels-file", "file"], "an .npz has no class names: leave --labels-file out"),
        (["../weights", "--to", "onnx", "--labels-file", "file"], "file names 1 classes, the model has 5"),
        (["../weights", "--to", "onnx", "--out", "file", "--force"], "file exists, a file that export did not write"),
        (["../weights", "--to", "onnx", "--out", "..", "--force"], ".. is the folder that you are in, or one above it"),
    ],
)
def test_what_would_be_passed_over_or_lost_is_told_before_work(
    arguments: list[str], words: str, capsys: Any, folder: Path
) -> None:
    for name in ("file", "0.png"):
        (folder / name).write_text("mine")
    (folder / "photos").mkdir()
    code, _, err = call(capsys, "export", *arguments)
    assert code == 2 and words in err and err.count("\n") == 1  # not even "exporting"
    assert sorted(path.name for path in folder.iterdir()) == ["0.png", "file", "photos"]


@pytest.mark.parametrize("target", ["onnx", "web"])
def test_a_program_does_not_replace_the_weights_it_is_made_of(target: str, capsys: Any, folder: Path) -> None:
    code, _, err = call(capsys, "export", "../weights", "--to", target, "--out", "../here/../weights", "--force")
    assert code == 2 and "a folder that export did not write" in err
    assert (folder.parent / "weights/model.safetensors").is_file()


def test_a_file_names_the_classes_of_a_model_that_has_no_names(capsys: Any, folder: Path) -> None:
    for label in ("cat", "dog"):
        (folder / "photos" / label).mkdir(parents=True)
        Image.fromarray(pictures(1)[0]).save(folder / "photos" / label / "0.png")
    names = ["cat", "dog", *map(str, range(load("../weights").classes - 2))]
    Path("names.txt").write_text("\n".join(names))
    arguments = ("export", "../weights", "--to", "onnx", "--data", "photos", "--out", "a", "--json")
    code, _, err = call(capsys, *arguments)
    assert code == 2 and "give --labels-file FILE" in err
    code, out, _ = call(capsys, *arguments, "--labels-file", "names.txt")
    assert code == 0 and json.loads(out)["gate"]["num_labelled_images"] == 2
    labels = load("a").labels
    assert labels is not None and labels.names == tuple(names)


def test_json_has_numbers_and_the_accuracy_that_was_asked_for(
    capsys: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ("0", "1"):
        (folder / "photos" / label).mkdir(parents=True)
        for index, picture in enumerate(pictures(2)):
            Image.fromarray(picture).save(folder / "photos" / label / f"{index}.png")
    labels = Labels(names=tuple(map(str, range(load("../weights").classes))))
    save(replace(load("../weights"), labels=labels), "named")
    code, out, _ = call(capsys, "export", "named", "--to", "onnx", "--data", "photos", "--out", "a", "--json")
    told = json.loads(out)
    assert code == 0 and told["written"] == "a" and told["gate"]["num_images"] == 14
    assert 0 <= told["gate"]["difference"] < 1e-3 and told["gate"]["agreement"] == 1
    assert told["gate"]["top1"] == told["gate"]["top1_before"]
    assert told["gate"]["num_labelled_images"] == 4 and told["gate"]["drop_points"] == 0
    assert told["gate"]["drop_interval"] == pytest.approx([-48.99, 48.99], abs=0.01)
    code, out, err = call(capsys, "export", "named", "--to", "onnx", "--data", "photos", "--out", "b")
    assert code == 0 and f"top-1 on --data  {told['gate']['top1']:.2%} (before" in out
    assert "drop of top-1    0.00 points (95% interval -48.99 to 48.99) on 4 images" in out
    assert "4 images are too few to tell whether top-1 drops by more than 0.5 points" in err
    assert told["gate"]["doubts"][0] in err and "about 770 images would be enough" in err
    strict = ("export", "named", "--to", "onnx", "--data", "photos", "--out", "c", "--strict-gate")
    code, _, err = call(capsys, *strict)
    assert code == 2 and "4 evaluation images cannot tell whether accuracy drops by more than 0.5 points" in err
    assert "even if no answer changes, at least 765 are needed" in err
    monkeypatch.setattr(Requirements, "check_tells", lambda *_: None)
    code, _, err = call(capsys, *strict)
    assert code == 3 and "was refused, nothing was written: 4 images are too few to tell" in err
    assert not Path("c").exists()

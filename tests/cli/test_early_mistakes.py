"""A mistake in what is typed is told before a model is read, which may take minutes or be a download."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tests.command_line import call
from vitsmith.weights import load as loading

WITH_IMAGES = {
    "predict": ["m", "{}"],
    "zeroshot": ["m", "{}", "--labels", "cat,dog"],
    "embed": ["m", "{}", "--out", "index"],
    "export": ["m", "--to", "onnx", "--images", "{}"],
    "quantize": ["m", "--images", "{}"],
    "prune": ["m", "--images", "{}", "--keep", "0.5"],
    "merge-tokens": ["m", "--images", "{}"],
    "benchmark": ["m", "--images", "{}"],
}
WITH_DATA = {
    "predict": ["m", "--data", "{}"],
    "zeroshot": ["m", "--data", "{}", "--labels", "cat,dog"],
    "embed": ["m", "--data", "{}", "--out", "index"],
    "evaluate": ["m", "--data", "{}"],
    "export": ["m", "--to", "onnx", "--data", "{}"],
    "quantize": ["m", "--data", "{}"],
    "prune": ["m", "--data", "{}", "--keep", "0.5"],
    "merge-tokens": ["m", "--data", "{}"],
    "benchmark": ["m", "--data", "{}"],
    "compress": ["m", "--data", "{}"],
    "train": ["{}", "--model", "m"],
    "probe": ["{}", "--model", "m"],
    "distill": ["{}", "--teacher", "m", "--arch", "mu/16"],
    "lit": ["{}", "--model", "m"],
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a model that must not be read, and one called 'photos'."""

    def read(*args: object, **options: object) -> None:
        raise AssertionError("the model was read")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loading, "load_with", read)
    (tmp_path / "m").mkdir()
    (tmp_path / "photos").mkdir()


def refused(capsys: pytest.CaptureFixture[str], verb: str, *arguments: str) -> str:
    code, out, err = call(capsys, verb, *arguments)
    assert (code, out) == (2, "") and not {"index", "runs"} & {path.name for path in Path().iterdir()}
    return err


@pytest.mark.parametrize("verb", WITH_IMAGES)
def test_a_misspelt_folder_of_images(capsys, verb: str) -> None:
    told = refused(capsys, verb, *(word.format("fotos") for word in WITH_IMAGES[verb]))
    assert told == "vitsmith: fotos: no such file or folder; did you mean photos?\n"


@pytest.mark.parametrize("verb", WITH_DATA)
def test_a_misspelt_data_set(capsys, verb: str) -> None:
    told = refused(capsys, verb, *(word.format("pest") for word in WITH_DATA[verb]))
    assert "'pest' do" in told and "not exist" in told


@pytest.mark.parametrize("verb", ["predict", "quantize", "prune", "merge-tokens"])
def test_a_misspelt_file_of_labels(capsys, verb: str) -> None:
    more = {"predict": ["photos"], "prune": ["--images", "photos", "--keep", "0.5"]}
    Path("photos/a.png").write_bytes(b"")
    given = more.get(verb, ["--images", "photos"])
    told = refused(capsys, verb, "m", *given, "--labels-file", "lables.txt")
    assert "lables.txt" in told


def test_one_missing_image_among_others_is_reported_with_the_rest(tmp_path: Path) -> None:
    from vitsmith.cli.arguments.images import sources_of

    (tmp_path / "photos" / "a.png").write_bytes(b"")
    assert sources_of(["photos/a.png", "b.png"]) == [Path("photos/a.png"), Path("b.png")]


@pytest.mark.parametrize("verb", ["predict", "zeroshot", "embed", "export"])
def test_a_misspelt_folder_among_others_is_no_unreadable_image(capsys, verb: str) -> None:
    Path("photos/a.png").write_bytes(b"")
    (model, *arguments) = WITH_IMAGES[verb]
    given = [word.format("photos") for word in arguments]
    more = ["--images", "fotos"] if verb == "export" else ["fotos"]
    told = refused(capsys, verb, model, *given, *more)
    assert told == "vitsmith: fotos: no such file or folder; did you mean photos?\n"


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("disk", "disk: no such file or folder"),
        ("disk.png/", "disk.png/: no such file or folder"),
        ("disk/*.png", "disk/*.png: nothing matches this pattern, as there is no folder disk"),
        ("disk/**/*.png", "disk/**/*.png: nothing matches this pattern, as there is no folder disk"),
        ("link", "link is a link to away, which is not there"),
    ],
)
def test_a_disk_that_is_away_is_told_before_an_index_follows_it(capsys, argument: str, told: str) -> None:
    Path("photos/a.png").write_bytes(b"")
    Path("link").symlink_to("away")
    assert refused(capsys, "embed", "m", "photos", argument, "--out", "index", "--sync") == f"vitsmith: {told}\n"


@pytest.mark.parametrize("sync", [(), ("--sync",)])
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("disk", "disk: no such file or folder"),
        ("fotos", "fotos: no such file or folder; did you mean photos?"),
        (
            "disk/pets/b.png",
            "disk/pets/b.png: no such file, as there is no folder disk/pets: mount its disk, if it is on one, or leave "
            "it out",
        ),
        ("https://a.org/b.png", "https://a.org/b.png is a web address, and images are files here: download it first"),
    ],
)
def test_a_folder_that_is_away_is_told_of_a_list_too(capsys, monkeypatch, line: str, told: str, sync) -> None:
    Path("photos/a.png").write_bytes(b"")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"photos/a.png\n{line}\n".encode())))
    assert refused(capsys, "embed", "m", "-", "--out", "index", *sync) == f"vitsmith: {told}\n"


def test_a_missing_file_of_a_list_is_reported_with_the_rest_where_its_folder_is_there(monkeypatch) -> None:
    from vitsmith.cli.arguments.images import sources_of

    Path("photos/a.png").write_bytes(b"")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"photos/a.png\nphotos/b.png\nc.png\n")))
    assert sources_of(["-"]) == [Path("photos/a.png"), Path("photos/b.png"), Path("c.png")]


def test_a_file_as_place_of_a_synced_index_is_refused_with_a_place_that_is_free(capsys) -> None:
    for out, place in (("photos.npz", "photos-index"), ("new.npz", "new")):
        told = refused(capsys, "embed", "m", "photos", "--out", out, "--sync")
        assert told.endswith(f"{out} is a single file: give a folder, as --out {place}\n")

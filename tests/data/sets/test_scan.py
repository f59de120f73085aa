"""Which files of a folder are its images: one rule for data sets and for every verb."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from vitsmith.cli.arguments.images import expand
from vitsmith.data.images.files import list_images
from vitsmith.data.sets.datasets import open_labelled
from vitsmith.data.sets.folder import read_class_folders
from vitsmith.errors import DatasetError, InputError
from vitsmith.runs.folder import COMMAND

IMAGES = (
    "B.JPG",
    "a.png",
    "deep/er/c.webp",
    "folder.jpg/d.png",
    "dangling.jpg",
    "pipe.png",
    "linked.png",
    "z\udce9.png",
)
OTHERS = (
    ".hidden.png", "._a.png", ".thumbnails/a.png", "@eaDir/a.png", "__MACOSX/._a.png", ".git/a.png",
    "$RECYCLE.BIN/a.png", "#recycle/a.png", "lost+found/a.png", "Thumbs.db", "notes.txt",
    "a.png.txt", "png", "linked-folder/x.png",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pets = tmp_path / "pets"
    for name in (*IMAGES, *OTHERS):
        (pets / name).parent.mkdir(parents=True, exist_ok=True)
        if name.startswith(("dangling", "pipe", "linked")):
            continue
        Image.new("RGB", (2, 2)).save(pets / name, "PNG")
    os.mkfifo(pets / "pipe.png")
    (pets / "dangling.jpg").symlink_to("nowhere")
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "elsewhere" / "x.png")
    (pets / "linked.png").symlink_to(tmp_path / "elsewhere" / "x.png")
    (pets / "linked-folder").rmdir()
    (pets / "linked-folder").symlink_to(tmp_path / "elsewhere")
    (pets / "deep" / "back").symlink_to(pets)  # a loop
    return pets


def names(files: object, folder: Path) -> list[str]:
    return [str(Path(file).relative_to(folder)) for file in files]


def test_every_verb_and_every_data_set_sees_the_same_images(folder) -> None:
    expected = sorted(IMAGES, key=lambda name: Path(name).parts)
    assert names(list_images(folder), folder) == expected
    assert names(expand([str(folder)]), folder) == expected
    (folder.parent / "classes").mkdir()
    folder.rename(folder.parent / "classes" / "pets")
    samples = read_class_folders(folder.parent / "classes")
    assert samples.names == [f"pets/{name}" for name in expected]


def test_a_linked_folder_is_searched_when_it_is_named(folder) -> None:
    assert names(expand([str(folder / "linked-folder")]), folder) == ["linked-folder/x.png"]


def test_patterns_take_what_they_name_and_search_folders(folder, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    assert sorted(map(str, expand(["*.[pt]*"]))) == [
        "a.png",
        "a.png.txt",
        "linked.png",
        "notes.txt",
        "pipe.png",
        "z\udce9.png",
    ]
    assert list(map(str, expand(["deep*"]))) == ["deep/er/c.webp"]
    assert list(map(str, expand(["**/*.webp"]))) == ["deep/er/c.webp"]  # glob would go round the loop 40 times
    assert list(map(str, expand([f"{folder}/**/*.webp"]))) == [f"{folder}/deep/er/c.webp"]
    everything = [*IMAGES, "Thumbs.db", "a.png.txt", "notes.txt", "png"]
    assert set(map(str, expand(["**"]))) == set(everything)
    assert list(map(str, expand(["**/.hidden.png"]))) == [".hidden.png"]
    assert all(Path(file).is_file() for file in expand(["deep/**"]))
    with pytest.raises(InputError, match="nothing matches"):
        list(expand(["*.tiff"]))
    (folder / "x[1].png").write_bytes(b"")
    assert list(expand(["x[1].png"])) == [Path("x[1].png")]


def test_pictures_of_other_formats_are_not_missed_in_silence(tmp_path, capsys) -> None:
    for name in ("a.HEIC", "b.heic", "c.nef"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=r"no images in this folder, but 2 \.heic, 1 \.nef, which are not supported"):
        list(expand([str(tmp_path)]))
    (tmp_path / "d.png").write_bytes(b"x")
    assert list(expand([str(tmp_path)])) == [tmp_path / "d.png"]
    assert "skipped in" in capsys.readouterr().err


def test_a_folder_that_may_not_be_read_is_one_line(tmp_path, monkeypatch) -> None:
    (tmp_path / "a.png").write_bytes(b"x")

    def deny(path: object) -> None:
        raise PermissionError(13, os.strerror(13), str(path))

    monkeypatch.setattr(os, "scandir", deny)  # the tests may run as root, whom no permission stops
    with pytest.raises(DatasetError, match=r"cannot read the folder .*Permission denied; check its permissions"):
        list(expand([str(tmp_path)]))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (b"a.png\nb c.png\r\n\n", ["a.png", "b c.png"]),
        (b"\xef\xbb\xbfa.png\n", ["a.png"]),
        ("a\u2028b.png\nc\x0cd.png\n".encode(), ["a\u2028b.png", "c\x0cd.png"]),
        (b"caf\xe9.png\n", ["caf\udce9.png"]),
    ],
)
def test_paths_on_standard_input_are_lines_and_nothing_else(given, expected, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert list(map(str, expand(["-"]))) == expected


def test_names_that_are_too_long_are_passed_on_to_be_reported() -> None:
    long = "x" * 5000 + ".jpg"
    assert list(expand([long])) == [Path(long)]
    with pytest.raises(InputError, match="nothing matches"):
        list(expand(["*" + long]))


def test_pictures_that_are_not_read_are_told_of_in_data_sets(tmp_path) -> None:
    for name in (
        "cat/a.jpg",
        "cat/b.HEIC",
        "cat/c",
        "cat/notes.txt",
        "dog/d.png",
        "dog/e.heic",
        "more/f.png",
        "more/g.png",
    ):
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pets" / name).touch()
    (tmp_path / "pets" / "more").rename(tmp_path / "more")
    (tmp_path / "pets" / "dog" / "linked").symlink_to(tmp_path / "more")
    told: list[str] = []
    samples, _ = open_labelled(str(tmp_path / "pets"), tell=told.append)
    assert len(samples) == 2
    assert told == [
        f"skipped in {tmp_path / 'pets'}, as these files are not supported: 2 .heic, 1 without a suffix",
        f"links to folders inside the class folders of {tmp_path / 'pets'} are not followed: there are 1",
    ]
    (tmp_path / "pets" / "cat" / "a.jpg").unlink()
    with pytest.raises(
        DatasetError, match=r"no images for class 'cat', but 2 \.heic, 1 without a suffix, which are not"
    ):
        open_labelled(str(tmp_path / "pets"))


def test_runs_of_ours_inside_a_data_set_are_no_class(tmp_path) -> None:
    for name in ("cat/a.png", "dog/b.png", "runs/quantize/pets/schemes.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert read_class_folders(tmp_path).classes == ("cat", "dog", "runs")  # as in baseball
    (tmp_path / "runs" / "quantize" / "pets" / COMMAND).touch()
    assert open_labelled(str(tmp_path))[0].classes == ("cat", "dog")


def test_links_to_folders_are_told_of_where_a_folder_is_searched(tmp_path, capsys) -> None:
    (tmp_path / "pets").mkdir()
    (tmp_path / "pets" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(
        InputError, match=r"no images .* but links to folders \(1\), which are not followed: give their targets"
    ):
        list(expand([str(tmp_path / "pets")]))
    Image.new("RGB", (2, 2)).save(tmp_path / "pets" / "a.png")
    assert len(list(expand([str(tmp_path / "pets")]))) == 1
    assert f"{tmp_path / 'pets'} has links to folders (1), which are not followed" in " ".join(
        capsys.readouterr().err.split()
    )

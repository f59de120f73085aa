"""Models of a few thousand weights and a handful of images, for the commands of transcripts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

import vitsmith as vs
from tests.cost.machines import engine, machine, timed
from tests.tiny import VIT, pictures, tiny_lit, tiny_model
from tests.training.lit.small_runs import write_pairs
from tests.training.small_runs import write_folder
from vitsmith.cost.profile import write_profile
from vitsmith.models.configure import change
from vitsmith.weights.bundle.folder import write_bundle
from vitsmith.weights.bundle.manifest import checksum

COLOURS = ("blue", "green", "red")
TEXTS = ("a photo of a cat", "a red circle", "the small dog")


def furnish(here: Path) -> None:
    """Puts models, images, texts and a data set into the folder."""
    config = change(VIT, image_size=(16, 16), classes=3)
    bundle = vs.Bundle.of(tiny_model(config), labels=vs.Labels(names=COLOURS)).with_golden(pictures(1))
    vs.save(bundle, here / "model")
    vs.save(bundle, here / "model.npz", format="npz")
    vs.save(tiny_lit(), here / "lit")
    write_folder(here / "colours")
    write_pairs(here / "pairs")
    (here / "photos").mkdir()
    for number, picture in enumerate(pictures(3)):
        Image.fromarray(picture).save(here / "photos" / f"{number}.png")
    (here / "texts.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    write_folder(here / "many", 240)
    (here / "words.txt").write_text("blue\tblue\ngreen\tcircle\nred\tred\n", encoding="utf-8")
    (here / "empty").mkdir()
    write_profile(machine(engine(timed=tuple(timed(0.01)))), here / "pi.json")


def damage(source: Path, to: Path, name: str) -> None:
    """A copy of a bundle in which one byte of the file `name` is another."""
    _copy(source, to)
    content = bytearray((to / name).read_bytes())
    content[len(content) // 2] ^= 1
    (to / name).write_bytes(content)


def declare(source: Path, to: Path, **fields: object) -> None:
    """A copy of a bundle whose `bundle.json` says something else, with the checksum of what it says."""
    _copy(source, to)
    described = json.loads((to / "bundle.json").read_text(encoding="utf-8")) | fields
    described["checksum"] = checksum(described)
    (to / "bundle.json").write_text(json.dumps(described, indent=2), encoding="utf-8")


def pretend_program(bundle: vs.Bundle, program: Any, path: Path) -> None:
    """A bundle of an exported program whose file, at `path`, holds none."""
    write_bundle(replace(bundle, program=program), path.parent, write_program=lambda place: _write(place / path.name))


def _write(path: Path) -> None:
    path.write_text("no program")


def _copy(source: Path, to: Path) -> None:
    to.mkdir()
    for path in source.iterdir():
        (to / path.name).write_bytes(path.read_bytes())

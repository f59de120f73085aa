"""A licence whose words must be passed on: LICENSE.md goes with every bundle that is made from such weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import vitsmith as vs
from tests.command_line import call
from tests.exporting import export_onnx
from tests.tiny import pictures, tiny_lit, tiny_model, towers
from tests.weights.dino_files import authors_file
from tests.weights.hf_files import written_model
from vitsmith.compress.merge_tokens.run import merge_by
from vitsmith.compress.search.resize import resize_bundle
from vitsmith.errors import BundleError
from vitsmith.models.configure import change
from vitsmith.records import Provenance, Publication

WORDS = "DINOv3 License\n\nYou shall pass on this agreement — with every copy.\n"
KNOWN = {"license": "DINOv3 License", "license_text": WORDS, "origin": "hf:me/dino"}


def bound(**changes: Any) -> vs.Bundle:
    """A small model under DINOv3's licence, with its words."""
    config = change(towers()["registers"], **changes)
    return vs.Bundle.of(tiny_model(config), provenance=Provenance(source="a test", **KNOWN)).with_golden(pictures(2))


def test_it_goes_with_whatever_is_made_of_a_bundle(tmp_path: Path) -> None:
    bundle = vs.save(bound(), tmp_path / "model")
    assert bundle is not None and bundle.provenance.license_text == WORDS
    made = {
        "merged": merge_by(bundle, 1.1),
        "resized": resize_bundle(bundle, (56, 84)),
        "headless": vs.load(tmp_path / "model", headless=True),
    }
    for name, one in made.items():
        vs.save(one, tmp_path / name)
    export_onnx(bundle, tmp_path / "onnx")
    exported = vs.load(tmp_path / "onnx")
    vs.save(exported.with_calibration() if exported.classes else exported, tmp_path / "copy")
    for name in (*made, "model", "onnx", "copy"):
        folder = tmp_path / name
        assert (folder / "LICENSE.md").read_text(encoding="utf-8") == WORDS
        described = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        assert "LICENSE.md" in described["files"] and "license_text" not in described["provenance"]
        assert vs.load(folder).provenance.license_text == WORDS
        card = (folder / "README.md").read_text(encoding="utf-8")
        assert "- Licence: DINOv3 License, to be passed on with the model (LICENSE.md)\n" in card
    assert vs.load(tmp_path / "onnx").identity == bundle.identity


def test_it_may_not_be_changed_or_left_out(tmp_path: Path) -> None:
    vs.save(bound(), tmp_path / "model")
    (tmp_path / "model" / "LICENSE.md").write_text("Do what you like.")
    with pytest.raises(BundleError, match=r"LICENSE.md is not the file this bundle was written with"):
        vs.load(tmp_path / "model")
    (tmp_path / "model" / "LICENSE.md").unlink()
    with pytest.raises(BundleError, match=r"LICENSE.md is missing; copy the whole folder again"):
        vs.load(tmp_path / "model")


def test_it_can_be_added_to_an_exported_bundle(tmp_path: Path) -> None:
    export_onnx(bound().with_provenance(license_text=""), tmp_path / "onnx")
    assert not (tmp_path / "onnx" / "LICENSE.md").exists()
    card = (tmp_path / "onnx" / "README.md").read_text(encoding="utf-8")
    assert "to be passed on with the model (its text is missing here, get it from " in card
    vs.save(vs.load(tmp_path / "onnx").with_provenance(license_text=WORDS), tmp_path / "onnx")
    assert vs.load(tmp_path / "onnx").provenance.license_text == WORDS


def test_other_bundles_have_no_such_file(tmp_path: Path) -> None:
    vs.save(tiny_lit().with_provenance(license="mit"), tmp_path / "model")
    assert not (tmp_path / "model" / "LICENSE.md").exists()
    assert "license_text" not in (tmp_path / "model" / "bundle.json").read_text(encoding="utf-8")


def test_those_of_both_towers_are_in_one_file(tmp_path: Path) -> None:
    text = Publication(license="dinov3-license", license_text="DINOv3, other words")
    saved = vs.save(tiny_lit().with_provenance(**KNOWN, text=text), tmp_path / "lit")
    assert saved is not None and saved.provenance.license_text == f"{WORDS}\n\nDINOv3, other words"
    assert saved.provenance.text == Publication(license="dinov3-license")


@pytest.mark.parametrize("source", ["authors", "hf"])
def test_dinov3_brings_it_from_beside_its_weights(source: str, tmp_path: Path, capsys: Any) -> None:
    path = authors_file(tmp_path, "dinov3") if source == "authors" else written_model(tmp_path, "dinov3")
    (tmp_path / "LICENSE").write_text("MIT License")  # of something else
    bundle = vs.load(path, headless=True)
    assert (bundle.provenance.license, bundle.provenance.license_text) == ("DINOv3 License", "")
    missing = "the DINOv3 License must be passed on with these weights and with what is made from them, and its text is"
    assert bundle.provenance.notes[-1].startswith(missing)
    assert "LICENSE.md, from https://github.com/facebookresearch/dinov3" in bundle.provenance.notes[-1]
    (tmp_path / "LICENSE.md").write_text(WORDS, encoding="utf-8")
    bundle = vs.load(path, headless=True)
    assert bundle.provenance.license_text == WORDS and not any("passed on" in one for one in bundle.provenance.notes)
    code, out, _ = call(capsys, "inspect", path, "--json")
    assert code == 0 and json.loads(out)["licence"] == "DINOv3 License, to be passed on with the model (LICENSE.md)"


def test_dinov2_has_no_such_licence(tmp_path: Path) -> None:
    bundle = vs.load(authors_file(tmp_path, "dinov2"), headless=True)
    assert (bundle.provenance.license, bundle.provenance.license_text) == ("", "")

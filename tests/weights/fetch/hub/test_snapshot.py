"""Models of the hub: fetched once, only what is needed, resumed, of a revision; from the cache where no hub is."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vitsmith as vs
from tests import REFERENCE
from tests.reference.open_clip.record import MODELS
from tests.weights.fetch.hub.hub_server import TOKEN, HubServer
from tests.weights.fetch.hub.models import CARD, hf_model, sharded, timm_model, torch_file
from tests.weights.foreign_reference import hf_vit, hf_vit_logits, images, timm_vit, timm_vit_logits
from tests.weights.open_clip_files import folder_of, state_of
from vitsmith.cli.arguments.completion import models
from vitsmith.errors import DownloadError
from vitsmith.runs.place import model_name
from vitsmith.verbs.recipe import check_has_weights, make_recipe
from vitsmith.weights.fetch import download


def cached(tmp_path: Path) -> set[str]:
    """The names of the files in the cache's snapshots."""
    return {path.name for path in (tmp_path / "hf").glob("hub/models--*/snapshots/*/*")}


def test_a_model_of_timm_is_fetched_and_says_where_it_comes_from(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.add("me/pets", timm_model())
    bundle = vs.load("hf:me/pets")
    expected = timm_vit_logits(timm_vit(), images(32, 32))
    assert torch.allclose(bundle.model(images(32, 32)), expected, atol=1e-5)
    told = bundle.provenance
    assert (told.origin, told.revision, told.license, told.kind) == ("hf:me/pets", commit, "mit", "timm")
    assert told.source == f"hf:me/pets@{commit}"
    assert cached(tmp_path) == {"config.json", "model.safetensors", "README.md"}


def test_a_model_of_transformers_is_fetched_with_its_preprocessing_and_names(hub: HubServer) -> None:
    hub.add("me/pets", hf_model())
    bundle = vs.load("hf-hub:me/pets")
    assert torch.allclose(bundle.model(images(32, 32)), hf_vit_logits(hf_vit(), images(32, 32)), atol=1e-5)
    assert bundle.labels is not None and bundle.labels.names[1] == "class 1"
    assert bundle.provenance.kind == "hf"


def test_a_model_of_open_clip_is_fetched_with_its_tokenizer(hub: HubServer, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, state_of("clip"), MODELS["clip"])
    files = {path.name: path.read_bytes() for path in folder.glob("open_clip_*")}
    merges = (REFERENCE / "text" / "clip.bpe").read_bytes()
    rest = {"merges.txt": merges, "README.md": CARD, "open_clip_pytorch_model.bin": b"not asked for"}
    hub.add("me/clip", {**files, **rest, "config.json": b'{"architecture": "resnet50"}'})
    bundle = vs.load("hf:me/clip")
    assert (bundle.provenance.kind, bundle.provenance.license, bundle.vocabulary) == ("open_clip", "mit", merges)
    assert cached(tmp_path) == {*files, "merges.txt", "README.md", "config.json"}


def test_a_file_of_several_is_chosen_by_its_name(hub: HubServer, tmp_path: Path) -> None:
    """timm's folders of CLIP towers have both towers too, as open_clip writes them."""
    folder = folder_of(tmp_path, state_of("clip"), MODELS["clip"])
    files = {path.name: path.read_bytes() for path in folder.glob("open_clip_*")}
    commit = hub.add("timm/clip.pets", {**timm_model(), **files})
    tower = vs.load("hf:timm/clip.pets")
    assert tower.provenance.kind == "timm"
    assert any(note.endswith("read by its file: .../open_clip_model.safetensors") for note in tower.provenance.notes)
    bundle = vs.load("hf:timm/clip.pets/open_clip_model.safetensors@main")
    told = bundle.provenance
    assert (told.kind, told.origin, told.revision, told.license) == ("open_clip", "hf:timm/clip.pets", commit, "mit")
    assert told.source == f"hf:timm/clip.pets/open_clip_model.safetensors@{commit}"
    assert vs.load(told.source).weights_hash == bundle.weights_hash
    assert model_name(told.source) == "clip"


def test_the_second_time_only_the_commit_is_asked_for(hub: HubServer) -> None:
    hub.add("me/pets", timm_model())
    first = vs.load("hf:me/pets")
    hub.requests.clear()
    second = vs.load("hf:me/pets")
    assert [(method, path) for method, path, _ in hub.requests] == [("GET", "/api/models/me/pets")]
    assert first.provenance == second.provenance
    hub.add("me/pets", timm_model(card=CARD + b"More.\n"))
    hub.requests.clear()
    assert vs.load("hf:me/pets").provenance.revision != first.provenance.revision
    assert hub.fetched(".safetensors") == []  # the new commit has the same weights


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub: HubServer) -> None:
    old = hub.add("me/pets", timm_model())
    hub.add("me/pets", hf_model())
    hub.add("me/pets", timm_model(), branch="refs/pr/1")
    assert vs.load("hf:me/pets").provenance.kind == "hf"
    assert vs.load(f"hf:me/pets@{old}").provenance.revision == old
    assert vs.load("hf:me/pets@refs/pr/1").provenance.kind == "timm"


def test_every_verb_knows_the_prefix(hub: HubServer, tmp_path: Path) -> None:
    hub.add("me/pets", timm_model())
    model, report = vs.init_for_finetune("hf:me/pets", classes=3)
    assert model.config.classes == 3 and report.loaded
    answers = vs.Predictor("hf:me/pets", "torch")([np.zeros((40, 40, 3), np.uint8)])
    assert answers[0].scores.shape == (5,)
    assert vs.load("hf:me/pets", headless=True, name=None).classes == 0
    saved = vs.save(vs.load("hf:me/pets"), tmp_path / "saved")
    assert saved is not None
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert f"Published as: hf:me/pets@{saved.provenance.revision}" in card and "Licence: mit" in card


def test_runs_and_recipes_know_the_prefix() -> None:
    assert model_name("hf:timm/vit_tiny_patch16_224.augreg_in21k@refs/pr/1") == "vit_tiny_patch16_224"
    assert model_name("hf-hub:google/vit-base-patch16-224") == "vit-base-patch16-224"
    check_has_weights("hf:google/vit-base-patch16-224")
    assert (
        make_recipe("finetune", {"model": {"init": "hf:me/pets@v1"}, "data": {"path": "x"}}).model.init
        == "hf:me/pets@v1"
    )
    assert "hf:openai/clip-vit-base-patch32" in models("hf:openai/")


def test_parts_of_weights_are_fetched_with_their_index(hub: HubServer, tmp_path: Path) -> None:
    hub.add("me/pets", {**sharded(hf_model()), "pytorch_model.bin": b"not asked for"})
    bundle = vs.load("hf:me/pets")
    assert torch.allclose(bundle.model(images(32, 32)), hf_vit_logits(hf_vit(), images(32, 32)), atol=1e-5)
    assert len([name for name in cached(tmp_path) if name.startswith("model-0000")]) == 2
    assert "pytorch_model.bin" not in cached(tmp_path)


def test_pickles_are_fetched_only_where_nothing_else_is(hub: HubServer, tmp_path: Path) -> None:
    both = {**timm_model(), "pytorch_model.bin": torch_file(timm_vit())}
    hub.add("me/both", both)
    vs.load("hf:me/both")
    assert "pytorch_model.bin" not in cached(tmp_path)
    hub.add("me/old", {name: content for name, content in both.items() if name != "model.safetensors"})
    assert vs.load("hf:me/old").provenance.kind == "timm"
    assert "pytorch_model.bin" in cached(tmp_path)


def test_the_only_file_of_weights_is_the_model_whatever_its_name(hub: HubServer, tmp_path: Path) -> None:
    files = {"vit_pretrain.pth": torch_file(timm_vit()), "optimizer.pt": b"large", "LICENSE.md": b"Terms."}
    hub.add("me/authors", files)
    assert vs.load("hf:me/authors").provenance.kind == "timm"
    assert cached(tmp_path) == {"vit_pretrain.pth", "LICENSE.md"}


@pytest.mark.parametrize(
    ("name", "card", "told"),
    [
        ("me/pets", b"---\nlicense: other\nlicense_name: dinov3-license\n---\n", "dinov3-license"),
        ("me/pets", b"---\nlicense:\n- mit\n- cc-by-4.0\n---\n", "mit, cc-by-4.0"),
        ("me/pets", b"---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ("timm/vit_b.augreg", b"---\nlicense: apache-2.0\n---\n", "apache-2.0"),
        ("timm/vit_b.openai", b"---\nlicense: apache-2.0\n---\n", ""),
        ("me/pets", b"---\nlicense: [\n---\n", ""),
        ("me/pets", b"No header.", ""),
    ],
)
def test_the_licence_is_that_of_the_card(hub: HubServer, name: str, card: bytes, told: str) -> None:
    hub.add(name, timm_model(card=card))
    assert vs.load(f"hf:{name}").provenance.license == told


def test_what_broke_off_is_continued(hub: HubServer) -> None:
    hub.add("me/pets", timm_model())
    size = len(timm_model()["model.safetensors"])
    hub.breaks_after = [size // 2]
    vs.load("hf:me/pets")
    assert [headers["Range"] for _, path, headers in hub.requests if path.startswith("/store/")][-2:] == [
        None,
        f"bytes={size // 2}-",
    ]


def test_ctrl_c_keeps_what_came(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("me/pets", timm_model())
    read, chunks = download.read_some, iter([5000])

    def interrupted(response: object) -> bytes:
        for size in chunks:
            return response.read(size)  # type: ignore[attr-defined,no-any-return]
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "read_some", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vs.load("hf:me/pets")
    assert "model.safetensors" not in cached(tmp_path)
    monkeypatch.setattr(download, "read_some", read)
    assert vs.load("hf:me/pets").classes == 5
    assert [headers["Range"] for _, path, headers in hub.requests if path.startswith("/store/")][-1] == "bytes=5000-"


def test_bytes_that_do_not_have_their_hash_are_never_a_model(hub: HubServer, tmp_path: Path) -> None:
    files = timm_model()
    hub.add("me/pets", files)
    weights = files["model.safetensors"]
    hub.repositories["me/pets"].served[hashlib.sha256(weights).hexdigest()] = weights[:-1] + b"?"
    with pytest.raises(DownloadError, match=r"could not download model.safetensors of hf:me/pets: its sha256 is"):
        vs.load("hf:me/pets")
    assert "model.safetensors" not in cached(tmp_path)


def test_the_bar_has_the_name_of_the_file(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add("me/pets", timm_model())
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    vs.load("hf:me/pets")
    err = capsys.readouterr().err
    assert "model.safetensors" in err and "config.json" not in err
    assert hashlib.sha256(timm_model()["model.safetensors"]).hexdigest()[:8] not in err


def test_a_token_is_shown_to_the_hub_and_to_nobody_else(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.add("me/secret", timm_model(), private=True, gated=True)
    assert vs.load("hf:me/secret").classes == 5
    for _, path, headers in hub.requests:
        assert headers["Authorization"] == (None if path.startswith("/store/") else f"Bearer {TOKEN}")
    assert any(path.startswith("/store/") for _, path, _ in hub.requests)


def test_without_the_hub_the_cache_is_read(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commit = hub.add("me/pets", sharded(hf_model()))
    hub.add("me/pets", timm_model(), branch="small")
    vs.load("hf:me/pets"), vs.load("hf:me/pets@small")
    hub.status = 503
    bundle = vs.load("hf:me/pets")
    assert bundle.provenance.revision == commit and bundle.provenance.license == "mit"
    assert any("could not be reached" in note for note in bundle.provenance.notes)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.requests.clear()
    offline = vs.load("hf:me/pets@small")
    assert offline.provenance.kind == "timm" and hub.requests == []
    assert not any("reached" in note for note in offline.provenance.notes)
    whole = vs.load(f"hf:me/pets@{commit}")
    assert whole.provenance.kind == "hf" and not any("another program" in note for note in whole.provenance.notes)
    for name in ("README.md", "preprocessor_config.json"):  # as transformers' models fetch their weights
        next(tmp_path.glob(f"hf/hub/*/snapshots/{commit}/{name}")).unlink()
    partly = vs.load(f"hf:me/pets@{commit}")
    assert partly.provenance.missing and any("if another program filled it" in note for note in partly.provenance.notes)


def test_files_that_came_before_an_interruption_are_no_model_offline(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("me/pets", timm_model())
    hub.breaks_after = [10] * 20
    with pytest.raises(DownloadError, match="closed after"):
        vs.load("hf:me/pets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match=r"is not in the cache .*, at least not all of it, and HF_HUB_OFFLINE"):
        vs.load("hf:me/pets")


def test_the_variables_of_the_hub_count(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.add("me/pets", hf_model(), private=True)
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-m", "vitsmith", "inspect", "hf:me/pets"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert f"hf:me/pets@{commit}" in ran.stdout and "mit" in ran.stdout and ran.stderr.count("\n") <= 2
    assert list((tmp_path / "home" / "hub").glob(f"models--me--pets/snapshots/{commit}/model.safetensors"))
    offline = {**environment, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    assert subprocess.run(command, env=offline, capture_output=True, text=True, check=True).stdout == ran.stdout

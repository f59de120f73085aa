"""Google's files as timm's conversions on the hub: the same to the bit, and taken where the bucket refuses."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

import vitsmith as vs
from tests import REFERENCE
from tests.reference import fill
from tests.tiny import released_npz, small_cases, tiny_model
from tests.weights.fetch.hub.hub_server import HubServer
from tests.weights.fetch.unreliable_server import Server, status
from tests.weights.fetch.unreliable_server import running as serving
from tests.weights.foreign_files import loaded, written
from vitsmith.errors import DownloadError
from vitsmith.models.config import LiTConfig
from vitsmith.models.configure import configure
from vitsmith.models.presets import find_preset
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.fetch.augreg import augreg_name
from vitsmith.weights.fetch.hub.google_copies import copy_of_url, google_copies, other_runs
from vitsmith.weights.fetch.published import find_checkpoint
from vitsmith.weights.fill import arrays_of
from vitsmith.weights.jax.writer import save_npz
from vitsmith.weights.published_bundle import as_original
from vitsmith.weights.timm.names import timm_slots

CONVERTED: dict[str, Any] = json.loads((REFERENCE / "timm" / "conversions.json").read_text())
TAG, COPY = "ViT-Ti_16.augreg-imagenet2012-384", "timm/vit_tiny_patch16_384.augreg_in21k_ft_in1k"


def timm_arrays(bundle: Bundle) -> dict[str, Any]:
    assert not isinstance(bundle.config, LiTConfig)
    named = arrays_of(bundle.model, timm_slots(bundle.config))
    return {name: array.clone().contiguous() for name, array in named}


@pytest.mark.parametrize("case", CONVERTED)
def test_an_npz_has_the_arrays_that_timm_makes_of_it(case: str, tmp_path: Path) -> None:
    size = small_cases()[case]["image_size"]
    arrays = timm_arrays(
        loaded(released_npz(tmp_path / "a.npz", small_cases()[case]["layout"]), image_size=(size, size))
    )
    ours = {name: [[*a.shape], hashlib.sha256(a.numpy().tobytes()).hexdigest()] for name, a in arrays.items()}
    assert ours == CONVERTED[case]["arrays"]


@pytest.mark.parametrize("case", CONVERTED)
def test_what_timm_makes_of_an_npz_is_read_back_to_the_bit_and_answers_as_timm(case: str, tmp_path: Path) -> None:
    size = small_cases()[case]["image_size"]
    original = loaded(released_npz(tmp_path / "a.npz", small_cases()[case]["layout"]), image_size=(size, size))
    told = {"architecture": "vit_test", "num_classes": 10, "model_args": {"num_heads": 3}}
    told["pretrained_cfg"] = {"input_size": [3, size, size]}
    read = loaded(written(tmp_path, timm_arrays(original), told))
    assert read.config != original.config and as_original(read.config) == original.config
    assert read.weights_hash == original.weights_hash
    images = torch.from_numpy(fill.image(case, 2, size)).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = read.model(images)
    expected = torch.tensor(CONVERTED[case]["logits"])  # GELU, kernels and GroupNorm of timm
    torch.testing.assert_close(logits, expected, rtol=0, atol=3e-6 * float(expected.abs().max()))


def test_every_copy_is_of_the_file_that_its_name_says() -> None:
    assert (
        len(google_copies()) == len({row.url for row in google_copies()}) == len({row.name for row in google_copies()})
    )
    for row in google_copies():
        preset, side = find_preset(row.name)
        stem = row.url.rpartition("/")[2].removesuffix(".npz")
        if "/sam/" in row.url:
            assert (preset.name, row.name.partition(".")[2]) == (stem, "sam_in1k")
            continue
        assert stem.split("-")[0] == augreg_name(preset.name)
        pretraining, _, fine_tuning = stem.partition("--")
        assert fine_tuning.endswith(f"-res_{side}") or (not fine_tuning and side == 224)
        trained = f"augreg_in{'21k' if '-i21k-' in pretraining else '1k'}"
        told = row.name.partition(".")[2]
        assert told == (f"{trained}_ft_in1k" if fine_tuning and "21k" in trained else trained)


def test_a_run_of_augreg_is_no_copy_of_another() -> None:
    wanted = find_checkpoint("ViT-B_16.augreg-imagenet2012-384")
    assert copy_of_url(wanted.url) is None
    assert other_runs(wanted.url) == [
        "hf:timm/vit_base_patch16_384.augreg_in21k_ft_in1k",
        "hf:timm/vit_base_patch16_384.augreg_in1k",
    ]
    assert other_runs(find_checkpoint("ViT-B_16.sam").url) == []
    same = find_checkpoint(TAG)
    assert (found := copy_of_url(same.url)) is not None and found.name == COPY


@dataclass(frozen=True)
class Places:
    bucket: Server
    hub: HubServer

    def refuse(self, cache: Path, patch: pytest.MonkeyPatch) -> None:
        """From now on the bucket refuses, and nothing of it is in the cache."""
        self.bucket.answers.extend([status(403)] * 20)
        patch.setenv("VITSMITH_CACHE", str(cache))


@pytest.fixture
def places(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    with serving() as bucket:
        monkeypatch.setenv("VITSMITH_MIRROR", bucket.address)
        monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "bucket"))
        yield Places(bucket, hub)


def test_where_the_bucket_refuses_the_hub_gives_the_same_model(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model(configure("ViT-Ti_16", image_size=384))
    save_npz(model, tmp_path / "original.npz")
    places.bucket.content = (tmp_path / "original.npz").read_bytes()
    original = vs.load(TAG)
    config = {"architecture": "vit_tiny_patch16_384", "num_classes": 1000}
    config["pretrained_cfg"] = {"input_size": [3, 384, 384], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0}
    files = {"config.json": json.dumps(config).encode(), "model.safetensors": save(timm_arrays(original))}
    commit = places.hub.add(COPY, files)
    smaller = vs.load(TAG, image_size=224)
    places.refuse(tmp_path / "empty", monkeypatch)
    copy = vs.load(TAG)
    for part in ("config", "preprocessing", "head", "labels", "text", "weights_hash", "identity"):
        assert getattr(copy, part) == getattr(original, part), part
    assert original.labels is not None
    assert (copy.provenance.source, copy.provenance.kind) == (f"hf:{COPY}@{commit}", "timm")
    assert copy.provenance.origin == original.provenance.origin == find_checkpoint(TAG).url
    (note,) = set(copy.provenance.notes) - set(original.provenance.notes)
    assert f"could not be downloaded: the arrays are from its conversion hf:{COPY}@{commit}" in note
    assert vs.load(f"augreg:{find_checkpoint(TAG).stem}", headless=True).classes == 0
    moved = vs.load(TAG, image_size=224)  # by the original's rule, not timm's
    assert (moved.weights_hash, moved.config) == (smaller.weights_hash, smaller.config)
    for bundle in (smaller, moved):
        assert "24x24 patches were resized to 14x14, bilinear, corners" in str(bundle.provenance.notes)


def test_one_message_names_both_places_if_neither_has_it(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.refuse(tmp_path / "empty", monkeypatch)
    with pytest.raises(DownloadError) as caught:
        vs.load(TAG)
    both = rf"HTTP 403.*put it at .*; nor could its copy on the hub, hf:{re.escape(COPY)}, be had: .*no such model"
    assert re.search(both, str(caught.value)) and "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DownloadError, match=r"be had: this needs huggingface_hub.*pip install 'vitsmith\[hub\]'"):
        vs.load(TAG)


@pytest.mark.parametrize(
    ("tag", "advice"),
    [
        (
            "ViT-B_16.augreg-imagenet2012-384",
            r"other runs of the same model: hf:timm/vit_base_patch16_384\.augreg_in21k",
        ),
        ("ViT-B_16.gsam", r"or pass that file's path$"),
    ],
)
def test_a_file_without_a_copy_is_not_substituted(
    tag: str, advice: str, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.refuse(tmp_path / "empty", monkeypatch)
    with pytest.raises(DownloadError, match=advice):
        vs.load(tag)
    assert places.hub.requests == []

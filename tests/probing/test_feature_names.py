"""The name of features in the cache: other features never share one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tiny import CONFIGS, tiny_model
from vitsmith.engines.tuning_cache import code_state
from vitsmith.probing import backbone as backbones
from vitsmith.probing.backbone import Backbone
from vitsmith.weights.bundle.bundle import Bundle


def weights_of(seed: int = 0) -> Bundle:
    return Bundle.of(tiny_model(CONFIGS["vit-token"], seed=seed))


def test_other_features_have_other_names() -> None:
    weights = weights_of()
    narrow = weights.preprocessing.model_copy(update={"mean": (0.4, 0.4, 0.4)})
    scaled = weights.preprocessing.model_copy(update={"scaled_decoding": True})
    others = [
        Backbone.of(weights),
        Backbone.of(weights, features="class_and_mean"),
        Backbone.of(weights, precision="bf16"),
        Backbone.of(weights_of(seed=1)),
        Backbone.of(Bundle.of(weights.model, preprocessing=narrow)),
        Backbone.of(Bundle.of(weights.model, preprocessing=scaled)),  # the identity does not tell it
    ]
    names = [one.cache_name(one.opener()) for one in others]
    assert len(set(names)) == len(names)
    same = Backbone.of(weights_of(), engine="torch")
    assert same.cache_name(same.opener()) == names[0]


@pytest.mark.parametrize("folder", ["data", "engines", "layers", "models", "probing", "weights"])
def test_features_that_edited_code_or_another_device_computes_have_another_name(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, edited = Backbone.of(weights_of()), tmp_path / folder / "file.py"
    edited.parent.mkdir()
    edited.write_text("1")
    monkeypatch.setattr(backbones, "code_state", lambda **asked: code_state.__wrapped__(tmp_path, **asked))
    before = backbone.cache_name(backbone.opener())
    assert backbone.cache_name(backbone.opener()) == before
    edited.write_text("1 + 1")
    assert backbone.cache_name(backbone.opener()) != before
    edited.unlink()
    here = backbone.cache_name(backbone.opener())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert backbone.cache_name(backbone.opener()) != here

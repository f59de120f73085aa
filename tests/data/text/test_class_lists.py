"""The lists of ImageNet's classes: their order, against what others say of it, and their use as names of a model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.tiny import CONFIGS, tiny_model
from vitsmith import Bundle
from vitsmith.data.text.class_lists import CLASS_LISTS, class_list, list_of_size
from vitsmith.data.text.label_file import read_class_names
from vitsmith.errors import InputError
from vitsmith.models.configure import change
from vitsmith.names import wrong_name
from vitsmith.specs import Labels
from vitsmith.weights.labels import missing_labels, published_labels, with_labels

TFDS = "70002b0ff5de60a3a17a82dbfcff291931f96225ddf941ad2e182fc39e183d15"
"""SHA-256 of datasets/imagenet2012/labels.txt in tensorflow_datasets 4.9.10: the ids that Google trained with."""
LEMMAS = 21_675
"""Bytes of ilsvrc2012_wordnet_lemmas.txt, as the output of vit_jax.ipynb (commit c6de1e5) says."""


def test_the_thousand_are_in_the_order_of_tfds() -> None:
    ids = class_list("imagenet-1k-ids")
    assert hashlib.sha256("".join(f"{one}\n" for one in ids).encode()).hexdigest() == TFDS
    assert len("".join(f"{name}\n" for name in class_list("imagenet-1k")).encode()) == LEMMAS


def test_the_others_are_in_the_order_of_googles_file() -> None:
    ids, names = class_list("imagenet-21k-ids"), class_list("imagenet-21k")
    assert len(ids) == len(names) == 21_843 and list(ids) == sorted(set(ids))
    assert {"n03931044", "n09859684"} < set(ids)
    assert names[2037] == "sea swallow, Sterna hirundo"
    thousand = set(class_list("imagenet-1k-ids"))
    assert thousand - set(ids) == {"n04399382"}  # the teddy bear is not in ImageNet-21k
    known = dict(zip(ids, names, strict=True))
    both = zip(class_list("imagenet-1k-ids"), class_list("imagenet-1k"), strict=True)
    assert {one: name for one, name in both if one in known} == {one: known[one] for one in thousand & set(ids)}


def test_names_that_several_classes_share_are_told_apart() -> None:
    shown = Labels(names=class_list("imagenet-1k")).shown
    assert (shown[207], shown[134], shown[517]) == ("golden retriever", "crane (134)", "crane (517)")
    assert not any(map(wrong_name, class_list("imagenet-21k")))


@pytest.mark.parametrize("given", [Path("imagenet-1k"), ["imagenet-1k"]], ids=["--labels-file", "--labels"])
def test_a_list_names_the_classes_of_a_model(given: Path | list[str]) -> None:
    model = tiny_model(change(CONFIGS["vit-token"], classes=1000))
    bundle = Bundle.of(model)
    assert missing_labels(bundle).endswith("if they are those of ImageNet, add  --labels-file imagenet-1k")
    named = with_labels(bundle, given)
    assert named.labels is not None and named.labels.names == class_list("imagenet-1k")
    assert missing_labels(named) == ""
    with pytest.raises(InputError, match="imagenet-21k names 21843 classes, the model has 1000"):
        with_labels(bundle, Path("imagenet-21k"))


def test_a_file_of_that_name_is_read_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_class_names("imagenet-1k-ids")[0] == "n01440764"
    Path("imagenet-1k-ids").write_text("cat\ndog\n")
    assert read_class_names("imagenet-1k-ids") == ("cat", "dog")


def test_only_heads_of_that_many_classes_get_the_names_of_what_they_were_trained_on() -> None:
    for dataset, classes, name in (("imagenet2012", 1000, "imagenet-1k"), ("imagenet21k", 21_843, "imagenet-21k")):
        labels = published_labels(dataset, classes)
        assert labels is not None and labels.names == class_list(name) and list_of_size(classes) == name
    assert [published_labels(*one) for one in (("imagenet2012", 999), ("imagenet21k", 0), ("cifar100", 100))] == [
        None
    ] * 3
    assert published_labels("imagenet2012", 21_843) is None
    assert set(CLASS_LISTS) == {"imagenet-1k", "imagenet-21k", "imagenet-1k-ids", "imagenet-21k-ids"}

"""The whole baseline on digits, beside scikit-learn's probes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from tests.tiny import VIT, tiny_model
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.sets.digits import open_digits
from vitsmith.data.sets.samples import Samples, Splits
from vitsmith.errors import ConfigError, DatasetError, InputError
from vitsmith.evaluation.accuracy import wilson_interval
from vitsmith.models.configure import change
from vitsmith.models.vit import VisionTransformer
from vitsmith.specs import ImageSpec
from vitsmith.training.images import baseline as subject
from vitsmith.training.images.baseline import measure_baseline, stratified_order

CONFIG = change(VIT, image_size=(32, 32), classes=10)


def test_every_beginning_of_the_order_has_the_classes_in_proportion() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 3])
    for each_first in (True, False):
        order = stratified_order(labels, each_first=each_first)
        assert sorted(order.tolist()) == list(range(903))
        counts = np.bincount(labels[order[:301]], minlength=3)
        np.testing.assert_allclose(counts, [200, 100, 1], atol=1.5)
        assert order.tolist() == stratified_order(labels, each_first=each_first).tolist()
    assert set(labels[stratified_order(labels, each_first=True)[:3]]) == {0, 1, 2}


def features_of(model: VisionTransformer, samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.stack([preprocess(image, ImageSpec.original(32)) for image in samples.sources])
    with torch.no_grad():
        return model.eval().features(torch.from_numpy(pixels)).pooled.numpy(), samples.labels


def test_digits_end_to_end_leave_model_and_random_state_alone() -> None:
    model = tiny_model(CONFIG).train()
    model.blocks[1].eval()
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    splits, seen = open_digits(), []
    found = measure_baseline(model, splits, ImageSpec.original(32), seconds=500, on_image=lambda: seen.append(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert (found.train_images, found.val_images, len(seen)) == (1438, 359, 1797)
    (train, labels), (val, truth) = (features_of(model, part) for part in (splits.train, splits.val))
    near = KNeighborsClassifier(
        20, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    ).fit(train, labels)
    assert found.knn == pytest.approx(near.score(val, truth), abs=0.003)  # one image of 359: rounding
    scaler = StandardScaler().fit(train)
    linear = LogisticRegression(C=1 / (1e-4 * len(train)), max_iter=5000).fit(scaler.transform(train), labels)
    assert found.linear == pytest.approx(linear.score(scaler.transform(val), truth), abs=0.03)
    assert found.linear_interval == wilson_interval(round(359 * found.linear), 359)
    assert found.knn_interval == wilson_interval(round(359 * found.knn), 359)
    assert f"linear probe {found.linear:.1%}" in str(found) and "359 held-out" in str(found)


def test_without_time_one_batch_of_each_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_BATCH", 50)
    found = measure_baseline(tiny_model(CONFIG), open_digits(), ImageSpec.original(32), seconds=1e-9)
    assert (found.train_images, found.val_images) == (50, 50)
    assert found.linear > 0.2


def test_what_cannot_be_measured_is_refused(tmp_path) -> None:
    spec = ImageSpec.original(32)
    with pytest.raises(ConfigError, match="unpooled"):
        measure_baseline(tiny_model(change(CONFIG, pooling="token_unpooled")), open_digits(), spec)
    broken = tiny_model(CONFIG)
    broken.norm.weight.data.fill_(torch.nan)
    with pytest.raises(InputError, match=r"not finite numbers.*run\.baseline"):
        measure_baseline(broken, open_digits(), spec, seconds=1e-9)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    image = np.zeros((32, 32, 3), np.uint8)
    names = [str(index) for index in range(4)]
    samples = Samples(("a", "b"), [image, image, bad, image], names, np.array([0, 1, 0, 1]))
    with pytest.raises(DatasetError, match=r"bad\.png"):
        measure_baseline(tiny_model(CONFIG), Splits(samples, samples), spec)
    splits = Splits(samples, samples)
    found = measure_baseline(tiny_model(CONFIG), splits, spec, skip_unreadable=0.5)
    assert found is not None and found.train_images == 3
    few = Splits(Samples(("a", "b"), [image, image], names[:2], np.array([0, 1])), splits.val)
    assert measure_baseline(tiny_model(CONFIG), few, spec, skip_unreadable=0.5) is None

"""The picture of what was merged: groups of patches, painted in their mean."""

from __future__ import annotations

import numpy as np
import pytest

from tests.compress.merge_tokens.models import LARGER, bundle_of
from tests.tiny import pictures, tiny_inputs, tiny_model
from vitsmith.compress.merge_tokens.patch_groups import groups
from vitsmith.compress.merge_tokens.run import merge_by
from vitsmith.models.configure import change
from vitsmith.report.figure import LIGHT, png
from vitsmith.report.merging import draw_merging, labels_of_pixels, painted


def test_groups_are_the_patches_of_each_token():
    config = change(LARGER, merge=(6, 5, 0))
    found = groups(tiny_model(config), tiny_inputs(config, 2)[0])
    assert found.shape == (2, 5, 6)
    for one in found:
        assert len(one.unique()) == 30 - 11
    plain = groups(tiny_model(LARGER), tiny_inputs(LARGER, 1)[0])
    assert plain.flatten().tolist() == list(range(30))


def test_groups_have_the_sizes_that_the_model_counts():
    config = change(LARGER, merge=(9, 7, 4), pooling="gap")
    model, images = tiny_model(config), tiny_inputs(config, 2)[0]
    sizes = []
    model.blocks[-1].register_forward_hook(lambda _m, _i, output: sizes.append(output[1]))
    found = groups(model, images)
    for one, counted in zip(found, sizes[0], strict=True):
        assert np.bincount(one.flatten(), minlength=10).tolist() == counted.tolist()


def test_a_group_is_painted_in_its_mean():
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    found = np.array([[0, 1, 1], [0, 2, 1]])
    each = labels_of_pixels(found, (4, 6))
    assert each.tolist() == [[0, 0, 1, 1, 1, 1]] * 2 + [[0, 0, 2, 2, 1, 1]] * 2
    result = painted(image, found)
    for number in range(3):
        mean = image[each == number].mean(axis=0)
        np.testing.assert_allclose(
            result[each == number], np.broadcast_to(mean, result[each == number].shape), atol=0.5
        )


def test_the_picture_is_drawn():
    pytest.importorskip("matplotlib")
    bundle = merge_by(bundle_of(), 1.3)
    figure = draw_merging(bundle, pictures(2), LIGHT)
    titles = [axes.get_title() for axes in figure.axes]
    left = bundle.config.tokens - sum(bundle.config.merge) - 1
    assert titles == ["image", f"30 patches in {left} tokens", "", ""]
    assert png(figure).startswith(b"\x89PNG")

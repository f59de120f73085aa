"""Least squares, the physical form and what it leaves over, against SciPy, scikit-learn and made machines."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from tests.cost.machines import MACHINE, seconds_of, timed
from vitsmith.cost.form import Form
from vitsmith.cost.least_squares import nonnegative_least_squares
from vitsmith.cost.predictor import TimePredictor
from vitsmith.cost.probes import ShortModel, plain, probes
from vitsmith.cost.residuals import AMPLITUDES, Residuals
from vitsmith.cost.work import work_of
from vitsmith.models.configure import change, configure


@pytest.mark.parametrize("seed", range(8))
def test_factors_are_those_of_scipy(seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(30, 12)) * 10.0 ** generator.uniform(-6, 6, size=12)
    if seed % 2:
        rows[:, 3] = 0.0
        rows[:, 5] = 2 * rows[:, 4]
    targets = generator.normal(size=30)
    found, (expected, distance) = nonnegative_least_squares(rows, targets), nnls(rows, targets)
    assert (found >= 0).all()
    assert np.linalg.norm(rows @ found - targets) == pytest.approx(distance, rel=1e-9)
    if not seed % 2:
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12 * abs(expected).max())


def test_smoothing_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    points, values, noise = generator.normal(size=(15, 3)), 0.1 * generator.normal(size=15), np.full(15, 0.02)
    noise[3] = 0.1
    found = Residuals.fit(points, values, noise)
    expected = {
        amplitude: GaussianProcessRegressor(
            ConstantKernel(amplitude**2, "fixed") * Matern(1.0, "fixed", nu=1.5), alpha=noise**2, optimizer=None
        ).fit(points, values)
        for amplitude in AMPLITUDES
    }
    likely = max(expected, key=lambda one: expected[one].log_marginal_likelihood_value_)
    assert found.amplitude == likely
    for point in (*points[:2], *generator.normal(size=(4, 3)), np.full(3, 50.0)):
        mean, deviation = expected[likely].predict(point[None], return_std=True)
        assert found.at(point) == pytest.approx((mean[0], deviation[0]), rel=1e-6, abs=1e-9)


def test_the_form_finds_the_factors_of_a_machine() -> None:
    counts = np.array([work_of(one.config, one.batch).counts for one in probes()])
    form = Form.fit(counts, counts @ MACHINE)
    for name in ("ViT-B_16", "ViT-L_16", "Mixer-B_16", "R50+ViT-B_16", "DINOv3-S_16"):
        counted = work_of(configure(name)).counts
        assert form.seconds(counted) == pytest.approx(float(counted @ MACHINE), rel=1e-3)
        assert sum(form.shares(counted).values()) == pytest.approx(1.0)


HELD_OUT = [
    (configure("ViT-Ti_16"), 1),
    (configure("ViT-S_16"), 1),
    (configure("ViT-B_16"), 1),
    (configure("ViT-B_32"), 1),
    (configure("ViT-S_16", image_size=(160, 320)), 1),
    (configure("ViT-B_16", image_size=320), 1),
    (change(configure("ViT-S_16"), width=512, heads=8, mlp_width=2048), 1),
    (change(configure("ViT-Ti_16"), depth=24), 1),
    (change(configure("ViT-S_16"), merge=(8,) * 12), 1),
    (configure("Mixer-S_16"), 1),
    (configure("R26+ViT-S_32"), 1),
    (configure("ViT-S_16"), 8),
    (configure("ViT-S_32"), 32),
]


def test_times_of_models_that_were_not_timed() -> None:
    """On a machine whose efficiency the form does not have, the error is small and the deviation covers it."""
    predictor = TimePredictor(timed(0.01), 1.0)
    found = [predictor.predict(config, batch) for config, batch in HELD_OUT]
    errors = np.array([math.log(one.seconds / seconds_of(*asked)) for one, asked in zip(found, HELD_OUT, strict=True)])
    assert np.median(abs(errors)) < 0.03 and abs(errors).max() < 0.12
    deviations = np.hypot([one.deviation for one in found], 0.02)
    assert np.mean(abs(errors) < 1.645 * deviations) >= 0.75


def test_far_from_all_that_was_timed_the_deviation_grows() -> None:
    predictor = TimePredictor(timed(0.01), 1.0)
    near, far = predictor.predict(configure("ViT-S_16"), 1), predictor.predict(configure("ViT-G_14"), 1)
    assert far.deviation > 1.5 * near.deviation
    assert far.seconds == pytest.approx(seconds_of(configure("ViT-G_14"), 1), rel=0.3)


def test_few_times_are_enough_for_a_rough_answer() -> None:
    """A slow machine has time for the first models only."""
    few = [ShortModel(plain(192, 14, depth)) for depth in (4, 12)]
    predictor = TimePredictor(timed(0.0, chosen=few), 1.0)
    assert predictor.predict(configure("ViT-Ti_16"), 1).seconds == pytest.approx(
        seconds_of(configure("ViT-Ti_16"), 1), rel=0.05
    )


def test_a_slow_moment_is_taken_out_by_the_reference() -> None:
    steady = timed(0.0)
    slow = [
        one.model_copy(update={"seconds": tuple(1.5 * s for s in one.seconds), "reference": (1.5,) * 3})
        if number % 3 == 0
        else one
        for number, one in enumerate(steady)
    ]
    for config, batch in HELD_OUT[:4]:
        expected = TimePredictor(steady, 1.0).predict(config, batch)
        assert TimePredictor(slow, 1.0).predict(config, batch).seconds == pytest.approx(expected.seconds, rel=1e-6)

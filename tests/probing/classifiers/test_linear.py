"""Ridge and logistic probes, and the axes that they share, against scikit-learn and plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, RidgeClassifier, RidgeClassifierCV
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.preprocessing import StandardScaler

from tests.probing.classifiers.clouds import clouds, labelled
from vitsmith.errors import InputError
from vitsmith.probing.classifiers import softmax, strengths
from vitsmith.probing.classifiers.folds import make_folds
from vitsmith.probing.classifiers.labelled import LabelledFeatures
from vitsmith.probing.classifiers.linear import principal_axes
from vitsmith.probing.classifiers.logistic import fit_logistic
from vitsmith.probing.classifiers.ridge import fit_ridge
from vitsmith.probing.classifiers.softmax import Regressions


def standardised(train: LabelledFeatures) -> np.ndarray:
    return StandardScaler().fit_transform(train.features.double().numpy())


@pytest.mark.parametrize(("count", "width"), [(200, 12), (15, 40)])
def test_axes_turn_standardised_features(count: int, width: int) -> None:
    train = clouds(count, width=width)
    axes = principal_axes(train)
    expected = standardised(train)
    assert axes.rotation.shape == (width, min(width, count - 1))
    np.testing.assert_allclose(axes.rotation.T @ axes.rotation, np.eye(axes.rotation.shape[1]), atol=1e-9)
    np.testing.assert_allclose(axes.coordinates.double() @ axes.rotation.T, expected, atol=1e-4)
    np.testing.assert_allclose(
        np.cov(axes.coordinates.double().numpy().T, bias=True), np.diag(axes.variances), atol=1e-5 * width
    )
    random = np.random.default_rng(0)
    weight, bias = random.normal(size=(axes.rotation.shape[1], 4)), random.normal(size=4)
    head = axes.head(torch.tensor(weight), torch.tensor(bias), torch.arange(4), 4)
    np.testing.assert_allclose(head.logits(train.features), expected @ axes.rotation.numpy() @ weight + bias, atol=2e-3)


@pytest.mark.parametrize(("count", "width", "classes"), [(150, 12, 4), (25, 40, 3), (60, 5, 2)])
def test_ridge_is_scikit_learns(count: int, width: int, classes: int) -> None:
    train, queries = clouds(count, width=width, classes=classes, spread=2.0), clouds(500, seed=1, width=width)
    grid = [1e-3, 1e-2, 1e-1, 1.0, 10.0]
    state, before = torch.get_rng_state(), train.features.clone()
    own = fit_ridge(train, strengths=grid)
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(train.features, before)
    scaler = StandardScaler().fit(train.features.double().numpy())
    alphas = [strength * count for strength in grid]
    theirs = RidgeClassifierCV(alphas, store_cv_results=True).fit(standardised(train), train.labels)
    errors = theirs.cv_results_.reshape(-1, len(grid)).mean(axis=0)
    assert [one.loss for one in own.choice.tried] == pytest.approx(errors, rel=1e-4)
    assert own.choice.value * count == pytest.approx(theirs.alpha_)
    margins = theirs.decision_function(scaler.transform(queries.features.double().numpy()))
    logits = own.head.logits(queries.features).numpy()
    if classes == 2:
        np.testing.assert_allclose(logits, np.stack([-margins, margins], axis=1), atol=1e-3)
    else:
        np.testing.assert_allclose(logits, margins, atol=1e-3)


def test_ridge_leaves_out_groups_as_a_whole() -> None:
    points = clouds(70, spread=2.0)
    groups = np.random.default_rng(2).integers(0, 30, 70)  # of one image to several
    train = LabelledFeatures(points.features, points.labels, 4, torch.from_numpy(groups))
    own = fit_ridge(train, strengths=[1e-2, 1e-1, 1.0])
    features, labels = standardised(points), points.labels.numpy()
    targets = np.where(labels[:, None] == np.arange(4), 1.0, -1.0)
    for tried in own.choice.tried:
        margins = np.empty((70, 4))
        for seen, left in LeaveOneGroupOut().split(features, labels, groups):
            margins[left] = (
                RidgeClassifier(tried.value * 70).fit(features[seen], labels[seen]).decision_function(features[left])
            )
        assert tried.loss == pytest.approx(((margins - targets) ** 2).mean(), rel=1e-4)
        assert tried.accuracy == pytest.approx((margins.argmax(axis=1) == labels).mean(), abs=1e-9)


@pytest.mark.parametrize(("count", "width"), [(12, 1024), (30, 256), (60, 24)])
def test_leaving_one_out_is_exact_for_few_images_and_weak_penalties(count: int, width: int) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(count) % 3
    features = random.normal(size=(3, width))[labels] + random.normal(size=(count, width))
    features[0] += 100 * random.normal(size=width)  # nothing like the others: only its own target fits it
    train = labelled(features, labels, 3)
    scaled, targets = standardised(train), np.where(labels[:, None] == np.arange(3), 1.0, -1.0)
    for tried in fit_ridge(train).choice.tried:
        margins = np.empty((count, 3))
        for left in range(count):
            seen = np.arange(count) != left
            middle, offset = scaled[seen].mean(axis=0), targets[seen].mean(axis=0)
            inner = (scaled[seen] - middle) @ (scaled[seen] - middle).T + tried.value * count * np.eye(count - 1)
            weights = (scaled[seen] - middle).T @ np.linalg.solve(inner, targets[seen] - offset)
            margins[left] = (scaled[left] - middle) @ weights + offset
        assert tried.loss == pytest.approx(((margins - targets) ** 2).mean(), rel=1e-4)
        assert tried.accuracy == pytest.approx((margins.argmax(axis=1) == labels).mean(), abs=1e-9)


def test_a_nearly_constant_feature_does_not_cancel_in_the_head() -> None:
    random = np.random.default_rng(0)
    points = clouds(200, width=12)
    odd = 100 + 3e-3 * random.normal(size=(200, 4))
    train = labelled(np.concatenate([points.features.numpy(), odd], axis=1), points.labels, 4)
    for head in (fit_ridge(train).head, fit_logistic(train).head):
        exact = train.features.double() @ head.weight.double().T + head.bias.double()
        noisy = train.features.double() * (1 + 1e-6 * torch.from_numpy(random.normal(size=(200, 16))))
        largest = exact.abs().max()
        assert (head.logits(train.features) - exact).abs().max() < 1e-5 * largest
        assert (noisy @ head.weight.double().T + head.bias.double() - exact).abs().max() < 1e-4 * largest


def objective(
    head_weight: np.ndarray, bias: np.ndarray, features: np.ndarray, labels: np.ndarray, strength: float
) -> float:
    """Mean cross-entropy + strength / 2 * |weights|^2 in float64, of weights (K, D) on standardised features."""
    logits = features @ head_weight.T + bias
    logits -= logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    return float(losses.mean() + strength / 2 * (head_weight**2).sum())


@pytest.mark.parametrize("strength", [1.0, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize(("count", "width", "classes"), [(300, 12, 4), (40, 60, 3), (200, 8, 2)])
def test_the_optimum_is_scikit_learns(strength: float, count: int, width: int, classes: int) -> None:
    train, queries = clouds(count, width=width, classes=classes), clouds(2000, seed=1, width=width, classes=classes)
    own = fit_logistic(train, strength=strength)
    assert own.choice.remarks == () and own.choice.value == strength
    scaler = StandardScaler().fit(train.features.double().numpy())
    features, labels = standardised(train), train.labels.numpy()
    # Two classes of softmax with weights w and -w are one of the sigmoid with 2 w: the penalty is halved.
    scale = 2 if classes == 2 else 1
    theirs = LogisticRegression(C=scale / (strength * count), tol=1e-12, max_iter=100_000).fit(features, labels)
    coefficients = theirs.coef_ if classes > 2 else np.concatenate([-theirs.coef_, theirs.coef_]) / 2
    intercepts = theirs.intercept_ if classes > 2 else np.concatenate([-theirs.intercept_, theirs.intercept_]) / 2
    weight = own.head.weight.double().numpy() * scaler.scale_
    bias = own.head.bias.double().numpy() + own.head.weight.double().numpy() @ scaler.mean_
    least = objective(coefficients, intercepts, features, labels, strength)
    assert objective(weight, bias, features, labels, strength) == pytest.approx(least, rel=1e-4)
    answers = theirs.predict(scaler.transform(queries.features.double().numpy()))
    assert (own.classify(queries.features).numpy() == answers).mean() >= 0.999


def test_the_strength_is_chosen_by_the_log_loss_of_images_left_out() -> None:
    train = clouds(160, spread=2.0)
    state, before = torch.get_rng_state(), train.features.clone()
    own = fit_logistic(train, folds=4, seed=3)
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(train.features, before)
    assert torch.equal(own.head.weight, fit_logistic(train, folds=4, seed=3).head.weight)
    features, labels, folds = standardised(train), train.labels.numpy(), make_folds(train, 4, seed=3).numpy()
    for tried in own.choice.tried:
        chances = np.empty((160, 4))
        for fold in range(4):
            seen = folds != fold
            model = LogisticRegression(C=1 / (tried.value * 160), tol=1e-10, max_iter=10_000).fit(
                features[seen], labels[seen]
            )
            chances[~seen] = model.predict_proba(features[~seen])
        assert tried.loss == pytest.approx(-np.log(chances[np.arange(160), labels]).mean(), rel=2e-3)
        assert tried.accuracy == pytest.approx((chances.argmax(axis=1) == labels).mean(), abs=0.013)
    losses = {one.value: one.loss for one in own.choice.tried}
    assert losses[own.choice.value] <= min(losses.values()) + 1e-4
    assert min(losses) < own.choice.value < max(losses) and own.choice.remarks == ()


def test_a_strength_that_is_certainly_worse_is_not_tried_on_all_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strengths, "_COLUMNS", 1)  # one fold after another
    train = clouds(400, width=80, spread=6.0)
    found = fit_logistic(train).choice
    short = [one for one in found.tried if one.images < 400]
    best = next(one for one in found.tried if one.value == found.value)
    assert short and best.images == 400 and all(one.images % 80 == 0 for one in short)
    monkeypatch.setattr(strengths, "_CERTAIN", float("inf"))
    whole = fit_logistic(train).choice
    assert whole.value == found.value and all(one.images == 400 for one in whole.tried)
    monkeypatch.setattr(strengths, "_COLUMNS", 1000)  # all folds at once
    together = fit_logistic(train).choice
    assert [one.loss for one in together.tried] == pytest.approx([one.loss for one in whole.tried], rel=1e-2)


def test_a_best_strength_at_an_end_is_looked_for_beyond_it_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    noise = labelled(random.normal(size=(90, 30)), np.arange(90) % 3, 3)  # nothing to learn: the stronger, the better
    found = fit_logistic(noise).choice
    assert found.value > 1 and max(one.value for one in found.tried) > 10
    assert found.remarks == ()  # the strongest two are equally good: all weights are 0
    monkeypatch.setattr(strengths, "WEAKEST", 1e-2)
    found = fit_logistic(clouds(200, spread=0.1)).choice
    assert found.value == pytest.approx(1e-2) and "0.01, is the weakest that was tried" in found.remarks[0]
    ridge = fit_ridge(noise, strengths=[1e-3, 1e-2])
    assert "0.01, is the strongest that was tried" in ridge.choice.remarks[0]


def test_a_deadline_and_fits_that_do_not_converge_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    train, notes = clouds(200, spread=2.0), list[str]()
    found = fit_logistic(train, deadline=0.0, on_step=lambda _=1, note="": notes.append(note)).choice
    assert len(found.tried) == 1 and len(notes) < 20
    assert list(dict.fromkeys(notes)) == ["regularisation 1, folds 1 to 5 of 5", "regularisation 1, all images"]
    assert "time ended the search after 1 regularisations" in found.remarks
    monkeypatch.setattr(
        "vitsmith.probing.classifiers.softmax.minimise.__kwdefaults__", {"most": 2, "deadline": float("inf")}
    )
    found = fit_logistic(train).choice
    assert not any(one.converged for one in found.tried)
    assert any("stopped before their optimum" in remark for remark in found.remarks)
    assert any("last fit stopped before its optimum, after 2 iterations" in remark for remark in found.remarks)


def test_no_more_logits_than_a_block_are_in_memory_and_the_fit_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    train, sizes, right = clouds(150), list[int](), Regressions._objective

    def counted(self: Regressions, logits: torch.Tensor, rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
        sizes.append(logits.numel())
        return right(self, logits, rows)

    monkeypatch.setattr(Regressions, "_objective", counted)
    found = {}
    for columns, at_once in ((1000, 10_000), (1000, 7 * 20), (1, 7 * 20)):  # of 4 classes and 5 folds, at once or not
        sizes.clear()
        monkeypatch.setattr(strengths, "_COLUMNS", columns)
        monkeypatch.setattr(softmax, "_AT_ONCE", at_once)
        found[columns, at_once] = fit_logistic(train)
        assert max(sizes) == min(at_once, 150 * 20)
    whole, *others = found.values()
    for one in others:
        assert [tried.value for tried in one.choice.tried] == [tried.value for tried in whole.choice.tried]
        np.testing.assert_allclose(one.head.weight, whole.head.weight, atol=2e-3)


def test_where_the_curve_is_flat_the_strongest_regularisation_is_taken() -> None:
    train = clouds(400, width=3, classes=2)
    grid = [1e-2, 4e-2, 6e-2, 1.0]
    theirs = RidgeClassifierCV([strength * 400 for strength in grid], store_cv_results=True)
    errors = theirs.fit(standardised(train), train.labels).cv_results_.reshape(-1, len(grid)).mean(axis=0)
    assert errors.argmin() == 1 and errors[2] < errors[1] * (1 + 1e-4) < errors[0]
    found = fit_ridge(train, strengths=grid).choice
    assert (found.value, found.remarks) == (6e-2, ())
    flat = fit_ridge(labelled(np.full((7, 3), 0.1), [0, 1, 1, 1, 1, 2, 2], 3), strengths=grid).choice
    assert (flat.value, flat.remarks) == (1.0, ())  # nothing to gain beyond it


@pytest.mark.parametrize("fit", [fit_ridge, fit_logistic])
class TestEveryLinearProbe:
    def test_features_that_never_change_and_single_images_of_a_class(self, fit) -> None:
        train = labelled([[5.0, 0.0], [5.0, 1.0], [5.0, 3.0]], [0, 1, 2], 3)
        found = fit(train)
        assert "every class has a single training image" in found.choice.remarks[0] and not found.choice.tried
        assert found.head.weight[:, 0].abs().max() == 0
        assert found.classify(torch.tensor([[7.0, 0.0], [5.0, 3.0]])).tolist() == [0, 2]

    def test_nothing_but_constants_gives_the_most_frequent_class(self, fit) -> None:
        found = fit(labelled(np.full((7, 3), 0.1), [0, 1, 1, 1, 1, 2, 2], 3))
        assert found.classify(torch.full((2, 3), 0.1)).tolist() == [1, 1]

    def test_identical_features_with_different_labels(self, fit) -> None:
        train = labelled(np.repeat([[0.0, 1.0], [1.0, 0.0]], 6, axis=0), [0, 1] * 3 + [2] * 6, 3)
        found = fit(train)
        assert found.classify(torch.tensor([[1.0, 0.0]])).tolist() == [2]
        assert found.classify(torch.tensor([[0.0, 1.0]])).tolist()[0] in (0, 1)

    def test_classes_without_training_images_are_not_answered(self, fit) -> None:
        points = clouds(60)
        found = fit(LabelledFeatures(points.features, points.labels * 2 + 1, 9))
        plain = fit(points)
        queries = clouds(200, seed=1).features
        assert torch.equal(found.classify(queries), plain.classify(queries) * 2 + 1)
        assert torch.isfinite(found.head.bias).all() and found.head.weight.shape == (9, 12)

    def test_three_images_and_a_far_mean(self, fit) -> None:
        train = labelled([[1000.0, 1], [1001.0, 1], [1000.0, 3]], [0, 0, 1], 2)
        assert fit(train).classify(train.features).tolist() == [0, 0, 1]

    def test_what_cannot_be_fitted_is_refused(self, fit) -> None:
        with pytest.raises(InputError, match="one class"):
            fit(labelled(np.ones((4, 2)), [1, 1, 1, 1], 3))
        with pytest.raises(InputError, match="at least 3"):
            fit(labelled(np.ones((2, 2)), [0, 1], 3))
        with pytest.raises(InputError, match=r"fitted to 12 numbers an image"):
            fit(clouds(20)).classify(torch.ones(3, 5))


def test_strengths_that_are_not_above_zero_are_refused() -> None:
    with pytest.raises(InputError, match="`strengths` are"):
        fit_ridge(clouds(20), strengths=[0.0, 1.0])
    with pytest.raises(InputError, match=r"`strength` is -1\.0"):
        fit_logistic(clouds(20), strength=-1.0)
